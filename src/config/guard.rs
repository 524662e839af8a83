//! `guard`, `[detectors.NAME]`: what arguments, results and descriptions are held to, and what is
//! looked for in them.

use std::{collections::BTreeMap, sync::LazyLock};

use schemars::{Schema, SchemaGenerator};
use serde::Deserialize;
use toml::Spanned;

use crate::mcp::{raw::Raw, splice};

use super::toml::{
    problem::{Problem, nearest},
    reader::{Node, Reader},
    section::{Fields, GIB},
    table::section,
    value::{FromToml, JsonTable, Size, words},
};

/// The detectors that Tollgate has, as data.
const BUILT_IN: &str = include_str!("detectors.toml");

/// Help where a detector has no pattern.
const PATTERN: &str = "say what it finds, as a regular expression: pattern = 'TICKET-\\d{6}'";

/// Bytes that a compiled pattern of an operator's own may take: a pattern is a mistake long before.
const PATTERN_BYTES_MAX: usize = 1 << 20;

section! {
    /// Checks of calls, and detectors that look into them. Of a route, an upstream and a tool the
    /// narrowest section that has a key decides it; what they `detect` adds up.
    #[derive(Debug, Clone, PartialEq, Eq)]
    Guard {
        /// How arguments are held to the tool's `inputSchema`: what lenient servers convert or
        /// pass over is let through as it was sent ("lenient") if nothing is said; to the letter
        /// ("schema"); all passes, and what does not fit is counted ("count"); or not ("off").
        arguments: Option<ArgumentCheck>,
        /// Whether results are held to its `outputSchema`: "schema", or "off" if nothing is said.
        results: Option<Against>,
        /// The fate of calls of a tool whose schema is too large or cannot be compiled: they pass
        /// unchecked ("pass") if nothing is said, or are refused ("refuse").
        unusable: Option<Unusable>,
        /// Bytes of the arguments of one call.
        arguments_max: Option<Size<1, GIB>>,
        /// Bytes of one result.
        result_max: Option<Size<1, GIB>>,
        /// The fate of a tool's result with more: it is refused ("refuse") if nothing is said, or
        /// kept for its caller, who is given a link to it ("link").
        too_large: Option<TooLarge>,
        /// The detectors.
        detect: Vec<Detect>,
    }
}

words! {
    /// How arguments are held to a schema.
    #[derive(Default)]
    ArgumentCheck {
        /// A text that is a number passes where a number is wanted, and the like: `docs/guard.md`.
        // Of 62 slightly wrong calls that were made to real servers, these took a third.
        #[default]
        Lenient = "lenient",
        Schema = "schema",
        /// All passes, and what does not fit is counted.
        Count = "count",
        Off = "off",
    }
}

words! {
    /// The standard that something is held to.
    Against {
        Schema = "schema",
        Off = "off",
    }
}

words! {
    /// The fate of calls that cannot be checked.
    Unusable {
        Pass = "pass",
        Refuse = "refuse",
    }
}

words! {
    /// The fate of a result that is too large.
    TooLarge {
        Refuse = "refuse",
        /// Keeps it, and gives the caller a link to it.
        Link = "link",
    }
}

section! {
    /// A detector: what it finds, where, and what is done then.
    #[derive(Debug, Clone, PartialEq, Eq)]
    Detect {
        /// Families ("secrets", "personal", "injection", "exfiltration", "custom"), and single
        /// detectors of them, such as "personal:iban".
        find: DetectorNames = required "name what is looked for: find = [\"secrets\"]",
        /// The places to look in: "arguments", in "results", in the "descriptions" of tools and so
        /// on.
        places as "in": Places = required "say where: in = [\"arguments\", \"results\"]",
        /// The action on a find: the call fails and the thing is not listed ("block"), it is
        /// written over ("redact"), or it is counted and logged only ("flag").
        then: Then = required "say what is done: then = \"block\"",
    }
}

words! {
    /// A place that detectors look in.
    Place {
        Arguments = "arguments",
        Results = "results",
        Descriptions = "descriptions",
    }
}

words! {
    /// The action on a find; later ones win over the earlier.
    #[derive(Default)]
    Then {
        #[default]
        Flag = "flag",
        Redact = "redact",
        Block = "block",
    }
}

section! {
    /// Arguments that the gate puts into a tool's calls.
    #[derive(Debug, Clone, PartialEq, Eq)]
    Filling checked by check_filling {
        /// Arguments for calls that have none of this name.
        default: ArgumentTable,
        /// Arguments for all calls, whatever they have; clients do not see them in the tool's
        /// schema.
        force: ArgumentTable,
    }
}

section! {
    /// A detector of your own; `find` has it as "custom:NAME".
    keys DetectorFields {
        /// A regular expression, without look-around. What its first group matches is what is
        /// found, else the whole.
        pattern: Pattern = required PATTERN,
        /// Words of which a text has at least one, in any case of letters, if there is anything to
        /// find: most texts need not be looked at more closely then.
        keywords: Vec<String>,
    }
}

/// A kind of thing that can be found in a text.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detector {
    /// `FAMILY:NAME`.
    pub name: String,
    /// Words of which a text has at least one, in any case of letters, if there is anything to
    /// find; none: every text is looked at.
    #[serde(default)]
    pub keywords: Vec<String>,
    /// A regular expression; what its first group matches is what is found, else the whole.
    pub pattern: String,
    /// What of the matches is real.
    #[serde(default)]
    pub check: Check,
    /// There is nothing to find in ASCII.
    #[serde(default)]
    pub unicode: bool,
}

/// A condition that a match must meet besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    #[default]
    None,
    /// ISO/IEC 7812.
    Luhn,
    /// ISO 13616: modulo 97.
    Iban,
    /// The check digit of EAN-13, which Swiss AHV numbers have.
    Ean13,
    /// Numbers that the Social Security Administration gives to nobody.
    Ssn,
    /// France: the complement to 97.
    Nir,
    /// Spain: a letter, by modulo 23.
    Dni,
    /// Brazil: two digits, by modulo 11.
    Cpf,
    /// The match is as random as a secret is, and no word.
    Random,
    /// No flag of a region (UTS #51, ED-14a).
    NoFlag,
    /// The match is as random as what is encoded: in the query of a URL, or as a segment of its
    /// path that is no row of words.
    Blob,
}

impl Detector {
    pub fn family(&self) -> &str {
        self.name.split(':').next().unwrap_or_default()
    }
}

/// A regular expression that can be compiled.
#[derive(Debug)]
pub struct Pattern;

impl FromToml for Pattern {
    type Value = String;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<String> {
        let text = reader.text(node, "a regular expression")?;
        match regex::RegexBuilder::new(&text).size_limit(PATTERN_BYTES_MAX).build() {
            Ok(pattern) if pattern.is_match("") => {
                let title = "this pattern matches a text that is empty";
                let help = "say what there must be at least";
                reader.problem(Problem::new(node.span(), title, help));
                None
            }
            Ok(_) => Some(text),
            Err(error) => {
                let help = error.to_string().lines().last().unwrap_or_default().to_owned();
                reader.refuse(node, "a regular expression", help);
                None
            }
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        String::schema(generator)
    }
}

/// The detectors of Tollgate's own.
pub fn built_in() -> &'static [Detector] {
    #[derive(Deserialize)]
    struct File {
        detector: Vec<Detector>,
    }
    static ALL: LazyLock<Vec<Detector>> = LazyLock::new(|| {
        let file: File = toml::from_str(BUILT_IN).expect("the tests read it");
        let mut all = file.detector;
        // One of Unicode's costs twenty times as much in any text that is not all ASCII.
        for detector in &mut all {
            detector.pattern = detector.pattern.replace(r"\b", r"(?-u:\b)");
        }
        all
    });
    &ALL
}

/// The detectors of the file: `[detectors.NAME]`.
pub fn detectors(
    sections: Vec<(Spanned<String>, DetectorFields)>,
    reader: &mut Reader<'_>,
) -> Vec<Detector> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
    let checked = sections.into_iter().map(|(name, keys)| {
        let at = name.span();
        let name = name.into_inner();
        if name.is_empty() || !name.chars().all(fits) {
            let title = format!("`{name}` is not a name for a detector");
            reader.problem(Problem::new(at, title, "use a-z, 0-9, `_` and `-`"));
        }
        Detector {
            name: custom(&name),
            keywords: keys.keywords.value,
            pattern: keys.pattern.value,
            check: Check::None,
            unicode: false,
        }
    });
    checked.collect()
}

/// Returns the name by which `find` calls a detector of the file.
fn custom(name: &str) -> String {
    format!("custom:{name}")
}

/// Names of detectors and their families.
#[derive(Debug)]
pub struct DetectorNames;

impl FromToml for DetectorNames {
    type Value = Vec<String>;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Vec<String>> {
        let names = Vec::<Spanned<String>>::read(node, reader)?;
        let section_names = reader.names();
        let own: Vec<_> = section_names.detectors.iter().map(|name| custom(name)).collect();
        let built_in = built_in().iter().flat_map(|one| [one.name.as_str(), one.family()]);
        let mut known: Vec<&str> = built_in.collect();
        if !own.is_empty() {
            known.extend(own.iter().map(String::as_str).chain(["custom"]));
        }
        for name in names.iter().filter(|name| !known.contains(&name.get_ref().as_str())) {
            let title = format!("there is no detector `{}`", name.get_ref());
            let help = nearest(name.get_ref(), known.iter().copied());
            reader.problem(Problem::new(name.span(), title, help));
        }
        if names.is_empty() && !reader.has_problem(&node.span()) {
            let help = "name what is looked for: find = [\"secrets\"]";
            reader.problem(Problem::new(node.span(), "`find` is empty", help));
        }
        Some(names.into_iter().map(Spanned::into_inner).collect())
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        Vec::<String>::schema(generator)
    }
}

/// Places, each once.
#[derive(Debug)]
pub struct Places;

impl FromToml for Places {
    type Value = Vec<Place>;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Vec<Place>> {
        let mut places = Vec::<Place>::read(node, reader)?;
        if places.is_empty() && !reader.has_problem(&node.span()) {
            let help = "say where: in = [\"arguments\", \"results\"]";
            reader.problem(Problem::new(node.span(), "`in` is empty", help));
        }
        places.sort_unstable();
        places.dedup();
        Some(places)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        Vec::<Place>::schema(generator)
    }
}

/// Arguments by their names.
#[derive(Debug)]
pub struct ArgumentTable;

impl FromToml for ArgumentTable {
    type Value = Vec<(String, Raw)>;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value> {
        JsonTable::read(node, reader).map(|table| splice::entries(&table))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        JsonTable::schema(generator)
    }
}

fn check_filling(keys: &mut Fields<Filling>, reader: &mut Reader<'_>) {
    let forced: BTreeMap<_, _> = keys.force.value.iter().map(|(name, raw)| (name, raw)).collect();
    let both = keys.default.value.iter().find(|(name, _)| forced.contains_key(name));
    if let (Some((name, _)), Some(at)) = (both, &keys.default.span) {
        let title = format!("`{name}` has a default, and is forced");
        let help = "remove it here: no call has another value";
        reader.problem(Problem::new(at.clone(), title, help));
    }
}
