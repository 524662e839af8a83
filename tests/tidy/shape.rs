//! The shape of the tree in figures: `cargo test --test tidy shape -- --nocapture` prints them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
    path::Path,
};

use super::source::{self, Function, Source, circles, uses};

/// What is measured of a tree's sources.
pub struct Shape {
    pub files: Vec<(String, usize)>,
    pub functions: Vec<(String, Function)>,
    /// Of functions whose signature is not a trait's.
    pub tuple_parameters: Vec<String>,
    pub paired_lets: Vec<String>,
    /// `super::super`, and `super` within a group.
    pub twice_up: Vec<String>,
    /// Files of one module that lead to each other.
    pub circles: Vec<Vec<String>>,
    /// Those among them without their `mod.rs`.
    pub circles_of_siblings: Vec<Vec<String>>,
    pub long_maps: Vec<(String, usize)>,
    /// Public functions that can fail and do not say when.
    pub silent_errors: Vec<String>,
    /// A name, and where it is defined, for those that are public more than once.
    pub repeated_types: BTreeMap<String, Vec<String>>,
}

/// Lines that a `mod.rs` may have: it is a map.
pub const MAP_LINES_MAX: usize = 150;

impl Shape {
    pub fn of(sources: &[Source]) -> Self {
        let modules: BTreeSet<_> = sources.iter().filter_map(|one| one.module.first()).collect();
        let all_uses = || modules.iter().map(|module| uses(sources, module));
        let place = |source: &Source, line: usize| format!("{}:{line}", source.name);
        let functions = || {
            sources
                .iter()
                .flat_map(|source| source.functions().into_iter().map(move |one| (source, one)))
        };
        let tuples = functions().filter(|(_, one)| !one.of_trait && one.tuples().next().is_some());
        let lets = sources
            .iter()
            .flat_map(|source| source.paired_lets().into_iter().map(move |line| (source, line)));
        let twice = |one: &source::Named| one.parts.iter().skip(1).any(|part| part == "super");
        let twice_up = sources.iter().flat_map(|source| {
            let paths = source.paths().into_iter().filter(twice);
            let lines: BTreeSet<_> = paths.map(|one| one.line).collect();
            lines.into_iter().map(move |line| place(source, line))
        });
        let silent = sources
            .iter()
            .flat_map(|source| source.silent_errors.iter().map(move |line| place(source, *line)));
        let is_map =
            |source: &&Source| source.name.ends_with("/mod.rs") && MAP_LINES_MAX < source.lines;
        Self {
            files: sources.iter().map(|one| (one.name.clone(), one.lines)).collect(),
            tuple_parameters: tuples
                .map(|(source, one)| format!("{} {}", place(source, one.line), one.name))
                .collect(),
            functions: functions().map(|(source, one)| (place(source, one.line), one)).collect(),
            twice_up: twice_up.collect(),
            paired_lets: lets.map(|(source, line)| place(source, line)).collect(),
            circles: all_uses().flat_map(|uses| circles(&uses)).collect(),
            circles_of_siblings: all_uses().flat_map(|uses| circles(&without_maps(uses))).collect(),
            long_maps: sources
                .iter()
                .filter(is_map)
                .map(|one| (one.name.clone(), one.lines))
                .collect(),
            silent_errors: silent.collect(),
            repeated_types: repeated_types(sources),
        }
    }

    /// What no module may have, with the places: paths that go up twice, circles of files, a long
    /// `mod.rs`, tuples as parameters, public functions that fail and do not say when.
    pub fn faults(&self) -> [(&'static str, Vec<String>); 5] {
        let maps = self.long_maps.iter().map(|(name, lines)| format!("{name}: {lines} lines"));
        let circles = self.circles_of_siblings.iter().map(|files| files.join(" "));
        [
            ("paths that go up twice", self.twice_up.clone()),
            ("files that lead to each other, their `mod.rs` left out", circles.collect()),
            ("`mod.rs` with more than 150 lines", maps.collect()),
            ("functions with a tuple as a parameter", self.tuple_parameters.clone()),
            ("public functions that fail without `# Errors`", self.silent_errors.clone()),
        ]
    }

    /// The table, and the lists behind its figures.
    pub fn told(&self) -> String {
        let head = [("", "without tests".to_owned()), ("---", "---".to_owned())];
        let mut out = String::new();
        for (what, figure) in head.into_iter().chain(self.sizes()).chain(self.counts()) {
            writeln!(out, "| {what} | {figure} |").unwrap();
        }
        for (what, items) in self.lists().into_iter().filter(|(_, items)| !items.is_empty()) {
            writeln!(out, "\n{what}:\n  {}", items.join("\n  ")).unwrap();
        }
        out
    }

    fn sizes(&self) -> Vec<(&'static str, String)> {
        let files = Spread::of(self.files.iter().map(|file| file.1));
        let functions = Spread::of(self.functions.iter().map(|one| one.1.lines));
        let parameters = Spread::of(self.functions.iter().map(|one| one.1.parameters.len()));
        let largest = &self.files.iter().max_by_key(|file| file.1).unwrap().0;
        let (place, longest) = self.functions.iter().max_by_key(|one| one.1.lines).unwrap();
        let over =
            |is: fn(&Function) -> bool| self.functions.iter().filter(|one| is(&one.1)).count();
        vec![
            ("files, lines", format!("{}, {}", files.count, files.sum)),
            ("lines of a file: median, p90, most", format!("{files} ({largest})")),
            ("functions", functions.count.to_string()),
            (
                "their lines: median, p90, most",
                format!("{functions} (`{}`, {place})", longest.name),
            ),
            ("functions over 70 lines", over(|one| 70 < one.lines).to_string()),
            ("functions over 5 parameters", over(|one| 5 < one.parameters.len()).to_string()),
            ("parameters: median, p90, most", parameters.to_string()),
        ]
    }

    fn counts(&self) -> Vec<(&'static str, String)> {
        let thousand = self.files.iter().map(|file| file.1).sum::<usize>() as f64 / 1_000.0;
        let lets = self.paired_lets.len();
        let circles = |circles: &[Vec<String>]| {
            format!("{} ({} files)", circles.len(), circles.iter().flatten().count())
        };
        vec![
            ("functions with a tuple as a parameter", self.tuple_parameters.len().to_string()),
            ("`let (a, b) = (x, y);`", lets.to_string()),
            ("the same in 1,000 lines", format!("{:.2}", lets as f64 / thousand)),
            ("circles of files within a module", circles(&self.circles)),
            ("the same without `mod.rs`", circles(&self.circles_of_siblings)),
            ("paths that go up twice", self.twice_up.len().to_string()),
            ("`mod.rs` over 150 lines", self.long_maps.len().to_string()),
            ("public functions without `# Errors`", self.silent_errors.len().to_string()),
            ("public types of one name", self.repeated_types.len().to_string()),
        ]
    }

    fn lists(&self) -> Vec<(&'static str, Vec<String>)> {
        let circles = |circles: &[Vec<String>]| circles.iter().map(|one| one.join(" ")).collect();
        let maps = self.long_maps.iter().map(|(name, lines)| format!("{name} {lines}"));
        let types = self.repeated_types.iter();
        vec![
            ("Circles", circles(&self.circles)),
            ("Circles without `mod.rs`", circles(&self.circles_of_siblings)),
            ("Long `mod.rs`", maps.collect()),
            ("Tuples as parameters", self.tuple_parameters.clone()),
            ("Paths that go up twice", self.twice_up.clone()),
            ("Public functions without `# Errors`", self.silent_errors.clone()),
            (
                "Public types of one name",
                types.map(|(name, files)| format!("{name}: {}", files.join(" "))).collect(),
            ),
        ]
    }
}

/// How a figure is spread.
struct Spread {
    count: usize,
    sum: usize,
    median: usize,
    p90: usize,
    most: usize,
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, {}", self.median, self.p90, self.most)
    }
}

impl Spread {
    fn of(figures: impl Iterator<Item = usize>) -> Self {
        let mut all: Vec<_> = figures.collect();
        all.sort_unstable();
        let at = |share: usize| all[(all.len() * share / 100).min(all.len() - 1)];
        Self { count: all.len(), sum: all.iter().sum(), median: at(50), p90: at(90), most: at(100) }
    }
}

fn without_maps(mut uses: BTreeMap<String, Vec<String>>) -> BTreeMap<String, Vec<String>> {
    let is_map = |name: &String| name.ends_with("/mod.rs");
    uses.retain(|file, used| {
        used.retain(|other| !is_map(other));
        !is_map(file)
    });
    uses
}

fn repeated_types(sources: &[Source]) -> BTreeMap<String, Vec<String>> {
    let mut defined: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in sources {
        for (name, _) in source.types().into_iter().filter(|(_, public)| *public) {
            defined.entry(name).or_default().push(source.name.clone());
        }
    }
    defined.retain(|_, files| 1 < files.len());
    defined
}

/// `SHAPE=FOLDER` measures another tree's `src`.
#[test]
fn shape() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let root = std::env::var_os("SHAPE").map_or(own, Into::into);
    println!("{}", Shape::of(&source::read(&root)).told());
}
