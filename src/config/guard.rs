//! What is clean: how the file says what arguments, results and descriptions are held to, and what
//! detectors there are.

use std::{collections::BTreeMap, ops::Range, sync::LazyLock};

use schemars::{Schema, SchemaGenerator};
use serde::Deserialize;
use toml::Spanned;

use crate::mcp::{raw::Raw, splice};

use super::{
    problem::{Problem, nearest},
    reader::Reader,
    schema,
    value::{Key, Kind, Node, Word},
};

/// The detectors that Tollgate has, as data.
const BUILT_IN: &str = include_str!("detectors.toml");

/// Bytes that a compiled pattern of an operator's own may take: a pattern is a mistake long before.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// `guard = { … }` of a route, an upstream or a tool. What is none is left to the next wider
/// section.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Guard {
    /// Whether arguments are held to the tool's `inputSchema`. Default in the end: they are.
    pub arguments: Option<Against>,
    /// Whether results are held to its `outputSchema`. Default in the end: they are not.
    pub results: Option<Against>,
    /// Of a tool whose schema is no use. Default in the end: its calls pass unchecked.
    pub unusable: Option<Unusable>,
    /// Bytes of a call's arguments.
    pub arguments_max: Option<usize>,
    /// Bytes of a result.
    pub result_max: Option<usize>,
    /// Of a result with more. Default in the end: it is refused.
    pub too_large: Option<TooLarge>,
    pub detect: Vec<Detect>,
}

/// What something is held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Against {
    Schema,
    Off,
}

/// What becomes of calls that cannot be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    Pass,
    Refuse,
}

/// What becomes of a result that is too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TooLarge {
    Refuse,
    /// It is kept, and the caller is given a link to it.
    Link,
}

/// `detect = [{ … }]`: what is looked for, where, and what is done then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detect {
    /// Families such as "secrets", and single detectors such as "personal:iban"; all exist.
    pub find: Vec<String>,
    /// At least one.
    pub places: Vec<Place>,
    pub then: Then,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Arguments,
    Results,
    Descriptions,
}

/// What is done with what was found; the later ones win over the earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Then {
    Flag,
    Redact,
    Block,
}

/// `arguments = { … }` of a tool: what the gate puts into its calls.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filling {
    /// Where a call has none.
    pub default: Vec<(String, Raw)>,
    /// Whatever a call has.
    pub force: Vec<(String, Raw)>,
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

/// What a match must be besides.
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
    /// As random as a secret is, and no word.
    Random,
}

impl Detector {
    pub fn family(&self) -> &str {
        self.name.split(':').next().unwrap_or_default()
    }
}

impl Word for Against {
    const WORDS: &'static [(&'static str, Self)] = &[("schema", Self::Schema), ("off", Self::Off)];
}

impl Word for Unusable {
    const WORDS: &'static [(&'static str, Self)] =
        &[("pass", Self::Pass), ("refuse", Self::Refuse)];
}

impl Word for TooLarge {
    const WORDS: &'static [(&'static str, Self)] =
        &[("refuse", Self::Refuse), ("link", Self::Link)];
}

impl Word for Place {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("arguments", Self::Arguments),
        ("results", Self::Results),
        ("descriptions", Self::Descriptions),
    ];
}

impl Word for Then {
    const WORDS: &'static [(&'static str, Self)] =
        &[("block", Self::Block), ("redact", Self::Redact), ("flag", Self::Flag)];
}

/// A regular expression that can be compiled.
#[derive(Debug, Clone, PartialEq)]
pub struct Pattern(pub String);

impl Kind for Pattern {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.text(node, "a regular expression")?;
        match regex::RegexBuilder::new(&text).size_limit(PATTERN_BYTES_MAX).build() {
            Ok(pattern) if pattern.is_match("") => {
                let title = "this pattern matches a text that is empty";
                let help = "say what there must be at least";
                reader.problem(Problem::new(node.span(), title, help));
                None
            }
            Ok(_) => Some(Self(text)),
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

/// Those of the file: `[detectors.NAME]`.
pub fn detectors(
    sections: Vec<(Spanned<String>, Spanned<schema::Detector>)>,
    reader: &mut Reader<'_>,
) -> Vec<Detector> {
    let each = sections.into_iter().filter_map(|(name, section)| {
        let (at, span) = (name.span(), section.span());
        let (name, section) = (name.into_inner(), section.into_inner());
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
        if name.is_empty() || !name.chars().all(fits) {
            let title = format!("`{name}` is not a name for a detector");
            reader.problem(Problem::new(at, title, "use a-z, 0-9, `_` and `-`"));
        }
        if section.pattern.span.is_none() {
            let help = "say what it finds, as a regular expression: pattern = 'TICKET-\\d{6}'";
            reader.problem(Problem::new(span, "`pattern` is missing", help));
        }
        Some(Detector {
            name: format!("custom:{name}"),
            keywords: section.keywords.value,
            pattern: section.pattern.value?.0,
            check: Check::None,
            unicode: false,
        })
    });
    each.collect()
}

/// What a section holds calls to; `detectors` are those of the file.
pub fn guard(
    section: Option<Spanned<schema::Guard>>,
    detectors: &[Detector],
    reader: &mut Reader<'_>,
) -> Guard {
    let Some(section) = section else { return Guard::default() };
    let section = section.into_inner();
    let detect = section.detect.value.into_iter();
    Guard {
        arguments: section.arguments.value,
        results: section.results.value,
        unusable: section.unusable.value,
        arguments_max: section.arguments_max.value.map(|size| size.0),
        result_max: section.result_max.value.map(|size| size.0),
        too_large: section.too_large.value,
        detect: detect.filter_map(|one| self::detect(one, detectors, reader)).collect(),
    }
}

fn detect(
    section: Spanned<schema::Detect>,
    detectors: &[Detector],
    reader: &mut Reader<'_>,
) -> Option<Detect> {
    let span = section.span();
    let schema::Detect { find, r#in: places, then } = section.into_inner();
    let known: Vec<&str> = built_in().iter().chain(detectors).flat_map(words).collect();
    for word in &find.value {
        if !known.contains(&word.get_ref().as_str()) {
            let title = format!("there is no detector `{}`", word.get_ref());
            let help = nearest(word.get_ref(), known.iter().copied());
            reader.problem(Problem::new(word.span(), title, help));
        }
    }
    let missing = [
        (is_missing(&find, reader), "find", "name what is looked for: find = [\"secrets\"]"),
        (is_missing(&places, reader), "in", "say where: in = [\"arguments\", \"results\"]"),
        (then.span.is_none(), "then", "say what is done: then = \"block\""),
    ];
    for (_, key, help) in missing.iter().filter(|(missing, ..)| *missing) {
        reader.problem(Problem::new(span.clone(), format!("`{key}` is missing"), *help));
    }
    let mut places = places.value;
    places.sort_unstable();
    places.dedup();
    let find = find.value.into_iter().map(Spanned::into_inner).collect();
    Some(Detect { find, places, then: then.value? })
}

/// Whether a list is not there, or empty; one with a wrong word in it was told already.
fn is_missing<T>(list: &Key<Vec<T>>, reader: &Reader<'_>) -> bool {
    let wrong = list.span.as_ref().is_some_and(|span| reader.faults(span));
    list.value.is_empty() && !wrong
}

/// The words that mean a detector.
fn words(detector: &Detector) -> [&str; 2] {
    [&detector.name, detector.family()]
}

/// What the gate puts into a tool's calls.
pub fn filling(section: Option<Spanned<schema::Filling>>, reader: &mut Reader<'_>) -> Filling {
    let Some(section) = section else { return Filling::default() };
    let section = section.into_inner();
    let at = section.default.span.clone();
    let filling = Filling {
        default: splice::entries(&section.default.value.0),
        force: splice::entries(&section.force.value.0),
    };
    twice(&filling, at, reader);
    filling
}

fn twice(filling: &Filling, at: Option<Range<usize>>, reader: &mut Reader<'_>) {
    let forced: BTreeMap<_, _> = filling.force.iter().map(|(name, raw)| (name, raw)).collect();
    let both = filling.default.iter().find(|(name, _)| forced.contains_key(name));
    if let (Some((name, _)), Some(at)) = (both, at) {
        let title = format!("`{name}` has a default, and is forced");
        reader.problem(Problem::new(at, title, "remove it here: no call has another value"));
    }
}
