//! What the tests of the import share.

use std::path::Path;

use crate::config::{Config, parse};

use super::{
    command::{Imported, SourceFile, import},
    write::OutputFile,
};

/// One file, imported to a new `routes.toml`.
pub fn one(name: &str, text: &str) -> Result<Imported, String> {
    import(&[source(name, text)], &OutputFile::default())
}

pub fn source(name: &str, text: &str) -> SourceFile {
    SourceFile { name: name.to_owned(), text: text.to_owned() }
}

/// The imported file as the gate reads it, with each variable set to `v`, or to an address.
#[track_caller]
pub fn read(imported: &Imported) -> Config {
    let variable = |name: &str| if name.contains("URL") { "https://v.example.com" } else { "v" };
    let read = parse("routes.toml", &imported.toml, &|name| Some(variable(name).to_owned()));
    read.unwrap_or_else(|problems| panic!("{problems}\n{}", imported.toml))
}

pub fn names(config: &Config) -> Vec<&str> {
    config.upstreams.iter().map(|upstream| upstream.name.as_str()).collect()
}

/// The text of a file below `tests/data`.
#[track_caller]
pub fn data(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
