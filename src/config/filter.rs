//! Filters: which entries of a list are shown, and under which names.

use std::collections::{BTreeMap, HashMap};

use schemars::{Schema, SchemaGenerator};
use toml::Spanned;

use super::toml::{
    problem::Problem,
    reader::{Node, Reader},
    section::{Fields, Finish},
    table::section,
    value::{FromToml, Table, words},
};

/// Characters of a tool's name that every client takes.
const TOOL_CHARS_MAX: usize = 64;

words! {
    /// How an upstream's names are shown on a route.
    #[derive(Default)]
    Names {
        /// An upstream's own name, with the upstream's name before it where an earlier upstream has
        /// the same.
        #[default]
        Auto = "auto",
        /// Always `upstream__name`.
        Always = "always",
        /// Never prefixed: a later upstream's entry of the same name is left out and reported.
        Never = "never",
    }
}

words! {
    /// The fate of a URI that is on no list and under no template.
    #[derive(Default)]
    UnlistedUris {
        /// Lets it be read by callers to whom its upstream gave it, where resources are known by
        /// pattern.
        #[default]
        Refuse = "refuse",
        /// Lets it be read by everybody whom policies and filters let.
        Allow = "allow",
    }
}

section! {
    /// The part of a list that is shown, and under which name. `*` in a pattern is any run of
    /// characters.
    #[derive(Debug, Clone, PartialEq, Default)]
    Filter {
        /// Patterns of what is shown; without any, all.
        allow: Vec<String>,
        /// Patterns of what is not shown and cannot be used; wins over `allow`.
        deny: Vec<String>,
        /// Patterns of what is not listed, but can be used.
        hide: Vec<String>,
    } file {
        /// New names: from the name it has to the name clients see.
        rename: Table<Spanned<String>>,
    } besides FilterRest {
        /// New names: from the name it has to the name clients see.
        rename: BTreeMap<String, String>,
    }
}

impl Finish for Filter {
    fn finish(mut keys: Fields<Self>, reader: &mut Reader<'_>) -> Self {
        let mut rename = BTreeMap::new();
        let mut taken = HashMap::new();
        for (from, to) in std::mem::take(&mut keys.rename.value) {
            let span = to.span();
            let from = from.into_inner();
            let to = to.into_inner();
            if to.is_empty() {
                let help = "write a name, or use `deny` or `hide` to leave it out";
                reader.problem(Problem::new(span, "a name is empty", help));
            } else if let Some(other) = taken.insert(to.clone(), from.clone()) {
                let title = format!("`{to}` is already the new name of `{other}`");
                reader.problem(Problem::new(span, title, "choose two different names"));
            }
            rename.insert(from, to);
        }
        Self::new(keys, FilterRest { rename }, reader)
    }
}

/// A filter of tools, whose new names must be ones that every client takes.
#[derive(Debug)]
pub struct ToolFilter;

impl ToolFilter {
    /// The filter; right if the reader has no problem.
    pub fn finish(keys: Fields<Filter>, reader: &mut Reader<'_>) -> Filter {
        let fits = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        for (_, to) in &keys.rename.value {
            let name = to.get_ref();
            if TOOL_CHARS_MAX < name.chars().count() || !name.chars().all(fits) {
                let title = format!("`{name}` is not a name for a tool");
                let help =
                    format!("use at most {TOOL_CHARS_MAX} of A-Z, a-z, 0-9, `_`, `-` and `.`");
                reader.problem(Problem::new(to.span(), title, help));
            }
        }
        Filter::finish(keys, reader)
    }
}

impl FromToml for ToolFilter {
    type Value = Filter;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Filter> {
        Fields::<Filter>::read(node, reader).map(|keys| Self::finish(keys, reader))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        Filter::schema(generator)
    }
}
