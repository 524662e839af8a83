//! The matrix as text for people.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use super::{Cell, End, Outcome};

/// What is longer is cut.
const CHARS_MAX: usize = 400;

fn name(end: End) -> String {
    format!("{} {}", end.version, format!("{:?}", end.transport).to_lowercase())
}

/// Rows are clients, columns servers; a cell is features that work, with the specified error, and
/// failed.
pub fn text(ends: &[End], cells: &[Cell]) -> String {
    let mut text = String::from("# Every client with every server\n\n");
    text += "Rows are clients, columns servers: features that work + those that end as specified";
    text += " where a version has no words for them (`!` failed).\n\n| |";
    for end in ends {
        write!(text, " {} |", name(*end)).unwrap();
    }
    text += "\n|---|";
    text += &"---|".repeat(ends.len());
    for client in ends {
        write!(text, "\n| {} |", name(*client)).unwrap();
        for server in ends {
            let of = |cell: &&Cell| cell.client == *client && cell.server == *server;
            let [green, specified, failed] = count(cells.iter().filter(of));
            let failed = if failed == 0 { String::new() } else { format!(" !{failed}") };
            write!(text, " {green}+{specified}{failed} |").unwrap();
        }
    }
    text += "\n\n## Ends as specified\n\n";
    text += &kinds(cells, |cell| match &cell.outcome {
        Outcome::Specified(seen, why) => vec![(format!("{seen:?}: {why}"), "")],
        Outcome::Green | Outcome::Failed(_) => vec![],
    });
    text += "\n## Failed\n\n";
    text += &kinds(cells, |cell| match &cell.outcome {
        Outcome::Failed(faults) => {
            faults.iter().map(|fault| (cut(&fault.what), &*fault.message)).collect()
        }
        Outcome::Green | Outcome::Specified(..) => vec![],
    });
    let [green, specified, failed] = count(cells.iter());
    let all = cells.len();
    let summary = format!(
        "{all} cells: {green} green, {specified} with the specified error, {failed} failed"
    );
    write!(text, "\n{summary}\n").unwrap();
    text
}

fn count<'a>(cells: impl Iterator<Item = &'a Cell>) -> [usize; 3] {
    let mut counts = [0; 3];
    for cell in cells {
        match cell.outcome {
            Outcome::Green => counts[0] += 1,
            Outcome::Specified(..) => counts[1] += 1,
            Outcome::Failed(_) => counts[2] += 1,
        }
    }
    counts
}

/// Each distinct line, with the features and the pairs that have it and the first message.
fn kinds(cells: &[Cell], lines: impl Fn(&Cell) -> Vec<(String, &str)>) -> String {
    let mut kinds: BTreeMap<String, (Vec<&Cell>, &str)> = BTreeMap::new();
    for cell in cells {
        for (line, message) in lines(cell) {
            let kind = &mut kinds.entry(line).or_insert((vec![], message)).0;
            if kind.last().is_none_or(|last| !std::ptr::eq(*last, cell)) {
                kind.push(cell);
            }
        }
    }
    let lines = kinds.iter().map(|(line, (cells, message))| {
        let features: BTreeSet<String> =
            cells.iter().map(|cell| format!("{:?}", cell.feature)).collect();
        let features = features.into_iter().collect::<Vec<_>>().join(", ");
        let ends = |end: fn(&Cell) -> End| {
            let ends: BTreeSet<String> = cells.iter().map(|cell| name(end(cell))).collect();
            ends.into_iter().collect::<Vec<_>>().join(", ")
        };
        let (clients, servers) = (ends(|cell| cell.client), ends(|cell| cell.server));
        let count = cells.len();
        let message = match message.is_empty() {
            true => String::new(),
            false => format!("  - {}\n", cut(message)),
        };
        let ends = format!("  - clients: {clients}\n  - servers: {servers}\n");
        format!("- {line}\n  - {count} cells: {features}\n{ends}{message}")
    });
    lines.collect()
}

fn cut(text: &str) -> String {
    text.chars().take(CHARS_MAX).map(|c| if c == '\n' { ' ' } else { c }).collect()
}

#[allow(clippy::print_stdout, reason = "the table is for people to read")]
pub fn print(text: &str) {
    println!("{text}");
}
