//! Reads a file: makes a [`Config`] of it, or a list of everything that is wrong with it.

use std::{fs, path::Path};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    file::{Config, File},
    toml::{
        problem::{Problem, Problems},
        reader::{Node, Reader, SectionNames},
        value::FromToml,
    },
};

/// TOML that is laid over and under the file, in the same words: what the command line says, and
/// what it takes for granted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Layers {
    /// Wins over the file.
    pub over: String,
    /// The file wins over it.
    pub under: String,
}

impl Layers {
    /// Returns options for a gate that a client starts just for itself: that client is used to wait
    /// for servers to start, and asks only once what they have.
    pub fn patient() -> Self {
        let under = "# the command line\n[server]\nlimits.settle = \"10s\"\n".to_owned();
        Self { under, ..Self::default() }
    }
}

/// The name by which problems call a configuration that no file has.
const NO_FILE: &str = "the command line";

/// Reads the file at `path`. `environment` gives the variables it refers to.
///
/// # Errors
/// Everything that is wrong with the file, and with those that it names.
pub fn load(path: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Result<Config, Problems> {
    load_layered(path, &Layers::default(), environment)
}

/// Reads the file at `path` with layers over and under it. An empty path is no file: the layers are
/// all there is.
///
/// # Errors
/// Everything that is wrong with the file and its layers, and with the files that it names.
pub fn load_layered(
    path: &Path,
    layers: &Layers,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Problems> {
    if path.as_os_str().is_empty() {
        return parse_layered(NO_FILE, "", layers, environment);
    }
    let name = path.to_string_lossy();
    let text = fs::read_to_string(path).map_err(|error| {
        let help = "write it, or make it of a client's file: `tollgate import FILE.json`";
        Problems::new(&name, "", vec![Problem::of_file(format!("cannot be read: {error}"), help)])
    })?;
    parse_layered(&name, &text, layers, environment)
}

/// The configuration of a text, as if it were the file of this name.
///
/// # Errors
/// Everything that is wrong with the text, and with the files that it names.
pub fn parse(
    name: &str,
    text: &str,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Problems> {
    parse_layered(name, text, &Layers::default(), environment)
}

/// The configuration that `text` says, or all that is wrong with it. `name` is the file's: problems
/// show it, and relative paths begin in its folder. Reads nothing but the secret files it names.
///
/// Problems of a layer are shown as of lines below the file's own.
///
/// # Errors
/// Everything that is wrong with the text and its layers, and with the files that it names.
pub fn parse_layered(
    name: &str,
    text: &str,
    layers: &Layers,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Problems> {
    let folder = Path::new(name).parent().unwrap_or(Path::new(""));
    let mut reader = Reader::new(folder, environment);
    let (whole, [text, over, under]) = layered(text, layers);
    let (mut table, mut errors) = DeTable::parse_recoverable(&text);
    let (over, more) = DeTable::parse_recoverable(&over);
    errors.extend(more);
    merge(table.get_mut(), over.into_inner());
    let (mut all, more) = DeTable::parse_recoverable(&under);
    errors.extend(more);
    merge(all.get_mut(), table.into_inner());
    let table = all;
    let text = whole.as_str();
    let root = Spanned::new(table.span(), DeValue::Table(table.into_inner()));
    reader.set_names(section_names(&root));
    if !errors.is_empty() {
        reader.set_partial();
    }
    let file = File::read(&root, &mut reader).expect("the root of a file is a table");
    if !errors.is_empty() {
        return Err(Problems::new(name, text, with_syntax(text, &errors, reader.finish())));
    }
    let config = file.finish(&mut reader);
    let other_files = reader.take_other_files();
    let problems = Problems::new(name, text, reader.finish());
    Problems::all(std::iter::once(problems).chain(other_files)).map_or(Ok(config), Err)
}

/// The names that the sections of a file have.
fn section_names(root: &Node<'_>) -> SectionNames {
    let names = |section: &str| {
        let table = root.get_ref().as_table().and_then(|root| root.get(section));
        let table = table.and_then(|table| table.get_ref().as_table()).into_iter().flatten();
        table.map(|(name, _)| name.get_ref().clone().into_owned()).collect()
    };
    SectionNames {
        upstreams: names("upstreams"),
        auth: names("auth"),
        detectors: names("detectors"),
    }
}

/// All texts in one, in which problems are shown, and each alone at its own place in that.
fn layered(text: &str, layers: &Layers) -> (String, [String; 3]) {
    if *layers == Layers::default() {
        return (text.to_owned(), [text.to_owned(), String::new(), String::new()]);
    }
    let mut whole = String::new();
    let each = [text, &layers.over, &layers.under].map(|layer| {
        // Blanks say nothing in TOML.
        let alone = format!("{}{layer}", " ".repeat(whole.len()));
        whole.push_str(layer);
        whole.push('\n');
        alone
    });
    (whole, each)
}

/// Lays a table over another: its keys win, tables are merged.
fn merge<'i>(under: &mut DeTable<'i>, over: DeTable<'i>) {
    for (key, value) in over {
        let below = under.get_mut(key.get_ref().as_ref()).map(Spanned::get_mut);
        match (below, value.get_ref().is_table()) {
            (Some(DeValue::Table(below)), true) => {
                if let DeValue::Table(above) = value.into_inner() {
                    merge(below, above);
                }
            }
            _ => {
                under.insert(key, value);
            }
        }
    }
}

/// The variable of this process's environment, if it is set and is text.
pub fn environment(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "this is the one reader of the environment")]
    std::env::var(name).ok()
}

/// Syntax errors and other problems, without what merely follows from a syntax error.
fn with_syntax(text: &str, errors: &[toml::de::Error], mut others: Vec<Problem>) -> Vec<Problem> {
    let mut syntax: Vec<Problem> = errors.iter().map(Problem::of_syntax).collect();
    syntax.sort_by_key(Problem::start);
    // A string or table that was never closed takes in the rest of the file.
    let unclosed = syntax.last().is_some_and(|last| text.trim_end().len() <= last.start());
    if unclosed {
        syntax.truncate(1);
    }
    // Only the first error of a line is kept: the parser tries to go on within the line.
    syntax.dedup_by_key(|problem| text.get(..problem.start()).map(|t| t.matches('\n').count()));
    // Keys between an error and the next header may be read as those of another section.
    let lost = |start: usize| {
        let error = syntax.iter().map(Problem::start).rfind(|error| *error <= start);
        let between = error.and_then(|error| text.get(error..start));
        between.is_some_and(|between| unclosed || !between.contains("\n["))
    };
    others.retain(|other| !lost(other.start()));
    syntax.append(&mut others);
    syntax
}
