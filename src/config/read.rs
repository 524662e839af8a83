//! From a file to a [`Config`], or to everything that is wrong with it.

use std::{fs, path::Path};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Config, Problems, check, problem::Problem, reader::Reader, schema::File, value::Kind};

/// Reads the file at `path`. `environment` gives the variables it refers to.
pub fn load(path: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Result<Config, Problems> {
    let name = path.to_string_lossy();
    let text = fs::read_to_string(path).map_err(|error| {
        let help = "write it, or make it of a client's file: `tollgate import FILE.json`";
        Problems::new(&name, "", vec![Problem::of_file(format!("cannot be read: {error}"), help)])
    })?;
    parse(&name, &text, environment)
}

/// The configuration that `text` says, or all that is wrong with it. `name` is the file's: problems
/// show it, and relative paths begin in its folder. Reads nothing but the secret files it names.
pub fn parse(
    name: &str,
    text: &str,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, Problems> {
    let folder = Path::new(name).parent().unwrap_or(Path::new(""));
    let mut reader = Reader::new(folder, environment);
    let (table, errors) = DeTable::parse_recoverable(text);
    let root = Spanned::new(table.span(), DeValue::Table(table.into_inner()));
    let file = File::read(&root, &mut reader).expect("the root of a file is a table");
    if !errors.is_empty() {
        // Sections may be missing only because of them, so what is together is not judged.
        return Err(Problems::new(name, text, with_syntax(text, &errors, reader.finish())));
    }
    let config = check::config(file, folder, &mut reader);
    let problems = reader.finish();
    if problems.is_empty() { Ok(config) } else { Err(Problems::new(name, text, problems)) }
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
    // What was never closed takes in the rest of the file.
    let unclosed = syntax.last().is_some_and(|last| text.trim_end().len() <= last.start());
    if unclosed {
        syntax.truncate(1);
    }
    // Of one line the first only: the parser tries to go on within the line.
    syntax.dedup_by_key(|problem| text.get(..problem.start()).map(|t| t.matches('\n').count()));
    // From an error to the next header, keys may be read as those of another section.
    let lost = |start: usize| {
        let error = syntax.iter().map(Problem::start).rfind(|error| *error <= start);
        let between = error.and_then(|error| text.get(error..start));
        between.is_some_and(|between| unclosed || !between.contains("\n["))
    };
    others.retain(|other| !lost(other.start()));
    syntax.append(&mut others);
    syntax
}
