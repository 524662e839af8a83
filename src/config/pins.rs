//! The names that a file gives to entries for good: what `tollgate names export` writes.

use std::{collections::BTreeMap, fs};

use schemars::{Schema, SchemaGenerator};
use toml::Spanned;

use crate::call::{ListKind, UpstreamName};

use super::toml::{
    problem::Problem,
    reader::{Node, Reader},
    section::read_other_file,
    table::section,
    value::{FromToml, LocalPath, Table},
};

/// Names that clients know, each with the entry that it leads to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pins {
    pub tools: BTreeMap<String, Pin>,
    pub prompts: BTreeMap<String, Pin>,
    pub resources: BTreeMap<String, Pin>,
    pub templates: BTreeMap<String, Pin>,
}

impl Pins {
    pub fn of(&self, kind: ListKind) -> &BTreeMap<String, Pin> {
        match kind {
            ListKind::Tools => &self.tools,
            ListKind::Prompts => &self.prompts,
            ListKind::Resources => &self.resources,
            ListKind::Templates => &self.templates,
        }
    }
}

/// An entry of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    pub upstream: UpstreamName,
    /// The upstream's own name for it.
    pub own: String,
}

section! {
    /// Names that clients know, and what they lead to: a `names_file`.
    keys NamesFile {
        /// The pins of tools.
        tools: Table<PinFields>,
        /// The pins of prompts.
        prompts: Table<PinFields>,
        /// The pins of resources, by their URIs.
        resources: Table<PinFields>,
        /// The pins of templates.
        templates: Table<PinFields>,
    }
}

section! {
    /// The target that a name leads to.
    keys PinFields {
        /// The upstream.
        upstream: Option<String>,
        /// The upstream's own name for it.
        name: Option<String>,
    }
}

/// The path of a file of names, which is read with the configuration.
#[derive(Debug)]
pub struct PinsFile;

impl FromToml for PinsFile {
    type Value = Pins;

    fn read(node: &Node<'_>, outer: &mut Reader<'_>) -> Option<Pins> {
        let path = LocalPath::read(node, outer)?;
        outer.note_file(&path);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                let title = format!("{} cannot be read: {error}", path.display());
                let help =
                    "`tollgate names export` writes it; a relative path begins beside this file";
                outer.problem(Problem::new(node.span(), title, help));
                return None;
            }
        };
        let read = |file: NamesFile, reader: &mut Reader<'_>| Pins {
            tools: pins(file.tools.value, reader),
            prompts: pins(file.prompts.value, reader),
            resources: pins(file.resources.value, reader),
            templates: pins(file.templates.value, reader),
        };
        read_other_file(&path.to_string_lossy(), &text, outer, read)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        LocalPath::schema(generator)
    }
}

fn pins(
    table: Vec<(Spanned<String>, PinFields)>,
    reader: &mut Reader<'_>,
) -> BTreeMap<String, Pin> {
    let mut pins = BTreeMap::new();
    for (name, PinFields { at, upstream, name: own }) in table {
        let (Some(upstream), Some(own)) = (upstream.value, own.value) else {
            let help = "write { upstream = \"…\", name = \"…\" }";
            reader.problem(Problem::new(at, "this name leads to nothing", help));
            continue;
        };
        pins.insert(name.into_inner(), Pin { upstream: upstream.into(), own });
    }
    pins
}
