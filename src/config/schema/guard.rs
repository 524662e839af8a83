//! Sections that say what is clean.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use toml::Spanned;

use super::{
    super::{
        guard::{Against, Pattern, Place, Then, TooLarge, Unusable},
        reader::Reader,
        value::{Json, Key, Kind, Node, Size, table},
    },
    GIB, unknown,
};

section! {
    /// What calls are held to, and what is looked for in them. Of a route, an upstream and a tool
    /// the narrowest section that has a key decides it; what they `detect` adds up.
    Guard {
        /// Whether arguments are held to the tool's `inputSchema`: "schema" if nothing is said, or
        /// "off".
        arguments: Option<Against>,
        /// Whether results are held to its `outputSchema`: "schema", or "off" if nothing is said.
        results: Option<Against>,
        /// What becomes of calls of a tool whose schema is too large or cannot be compiled: they
        /// pass unchecked ("pass") if nothing is said, or are refused ("refuse").
        unusable: Option<Unusable>,
        /// Bytes of the arguments of one call.
        arguments_max: Option<Size<1, GIB>>,
        /// Bytes of one result.
        result_max: Option<Size<1, GIB>>,
        /// What becomes of a tool's result with more: it is refused ("refuse") if nothing is said,
        /// or kept for its caller, who is given a link to it ("link").
        too_large: Option<TooLarge>,
        /// What is looked for.
        detect: Vec<Spanned<Detect>>,
    }
}

section! {
    /// A detector of your own; `find` has it as "custom:NAME".
    Detector {
        /// A regular expression, without look-around. What its first group matches is what is
        /// found, else the whole.
        pattern: Option<Pattern>,
        /// Words of which a text has at least one, in any case of letters, if there is anything to
        /// find: most texts need not be looked at more closely then.
        keywords: Vec<String>,
    }
}

section! {
    /// What the gate puts into a tool's calls.
    Filling {
        /// Arguments for calls that have none of this name.
        default: Json,
        /// Arguments for all calls, whatever they have; clients do not see them in the tool's
        /// schema.
        force: Json,
    }
}

/// What is looked for, where, and what is done then. By hand: `in` is a word of Rust.
#[derive(Debug, JsonSchema)]
#[schemars(default, deny_unknown_fields)]
pub struct Detect {
    /// Families ("secrets", "personal", "injection", "exfiltration", "custom"), and single
    /// detectors of them, such as "personal:iban".
    pub find: Key<Vec<Spanned<String>>>,
    /// Where: in "arguments", in "results", in the "descriptions" of tools and so on.
    pub r#in: Key<Vec<Place>>,
    /// What is done with what is found: the call fails and the thing is not listed ("block"), it
    /// is written over ("redact"), or it is counted and logged only ("flag").
    pub then: Key<Option<Then>>,
}

impl Detect {
    const KEYS: &[&str] = &["find", "in", "then"];
}

impl Default for Detect {
    fn default() -> Self {
        Self {
            find: Key::absent(Vec::new()),
            r#in: Key::absent(Vec::new()),
            then: Key::absent(None),
        }
    }
}

impl Kind for Detect {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let mut section = Self::default();
        for (key, value) in table(node, reader)? {
            match &**key.get_ref() {
                "find" => section.find.fill(value, reader),
                "in" => section.r#in.fill(value, reader),
                "then" => section.then.fill(value, reader),
                _ => unknown(key, Self::KEYS, reader),
            }
        }
        Some(section)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Self>()
    }
}
