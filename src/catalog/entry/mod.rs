//! Entries of lists as the strictest clients read them: mended where that is certain, else left
//! out.
//!
//! The official SDKs read a list as a whole: one entry that their models refuse costs a client all
//! entries of all servers behind a route. The tables below are what the models of the TypeScript
//! and the Python SDK demand together; `tests/data/entries.json` has a case for each line. Bytes of
//! an entry that every model takes stay as they are.

mod text;

use std::collections::HashSet;

use crate::{
    call::ListKind,
    mcp::{
        raw::{Raw, check_depth},
        splice,
    },
};

use self::text::{is_moment, whole_characters};

/// Bytes of the name of a tool or a prompt. The specification advises 128 characters; servers that
/// go beyond are served, since clients take any name.
const NAME_BYTES_MAX: usize = 1_024;

/// The largest whole number that every client holds exactly.
const WHOLE_MAX: f64 = 9_007_199_254_740_991.0;

const ANY_OBJECT: &[u8] = br#"{"type":"object"}"#;

/// How large an entry may be.
#[derive(Debug, Clone, Copy)]
pub struct EntryBounds {
    pub bytes_max: usize,
    pub depth_max: usize,
}

/// An entry that every client can read.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted {
    /// Its name, URI or template.
    pub key: String,
    pub raw: Raw,
    /// The members that were mended.
    pub mended: Vec<&'static str>,
}

/// Why an entry is left out of its list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    #[error("it is no object")]
    NoObject,
    #[error("it has more than {0} bytes (`entry_bytes_max`)")]
    Large(usize),
    #[error("it is nested deeper than {0} levels (`depth_max`)")]
    Deep(usize),
    #[error("it has the member {0:?} twice")]
    Twice(String),
    #[error("it has no `{0}`")]
    NoKey(&'static str),
    #[error("its name has more than {NAME_BYTES_MAX} bytes")]
    LongName,
    #[error("its `uri` is no absolute URI")]
    NoUri,
    #[error("its `{0}` cannot be read by clients")]
    Member(&'static str),
    #[error("it is listed twice")]
    Repeated,
    #[error("{0}")]
    Mirror(String),
}

/// Shape that a value must have.
enum Shape {
    Text,
    Flag,
    /// A whole number.
    Whole,
    /// A number from 0 to 1.
    Share,
    /// Date and time of RFC 3339.
    Moment,
    OneOf(&'static [&'static str]),
    ListOf(&'static Self),
    AnyObject,
    Object(&'static [Member]),
    /// The schema of a tool's arguments: that of an object.
    Input,
    /// The schema of a tool's results.
    Output,
}

/// A member of an object that clients read.
struct Member {
    name: &'static str,
    shape: Shape,
    without: Without,
}

/// What to do about an object whose member is missing or wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Without {
    /// The object does without it.
    Fine,
    /// Its identifying member takes the place.
    Key,
    /// The object is of no use.
    Useless,
}

/// Outcome of fitting a value.
enum Fit {
    Right,
    Instead(Raw),
    Wrong,
}

const fn may(name: &'static str, shape: Shape) -> Member {
    Member { name, shape, without: Without::Fine }
}

const fn must(name: &'static str, shape: Shape) -> Member {
    Member { name, shape, without: Without::Useless }
}

const NAME: Member = Member { name: "name", shape: Shape::Text, without: Without::Key };
const TITLE: Member = may("title", Shape::Text);
const DESCRIPTION: Member = may("description", Shape::Text);
const META: Member = may("_meta", Shape::AnyObject);
const ICONS: Member = may("icons", Shape::ListOf(&Shape::Object(&ICON)));
const MIME_TYPE: Member = may("mimeType", Shape::Text);
const ANNOTATED: Member = may("annotations", Shape::Object(&ANNOTATIONS));

const TOOL: [Member; 8] = [
    TITLE,
    DESCRIPTION,
    must("inputSchema", Shape::Input),
    may("outputSchema", Shape::Output),
    may("annotations", Shape::Object(&HINTS)),
    ICONS,
    may("execution", Shape::Object(&EXECUTION)),
    META,
];
const PROMPT: [Member; 5] =
    [TITLE, DESCRIPTION, may("arguments", Shape::ListOf(&Shape::Object(&ARGUMENT))), ICONS, META];
const RESOURCE: [Member; 8] =
    [NAME, TITLE, DESCRIPTION, MIME_TYPE, may("size", Shape::Whole), ANNOTATED, ICONS, META];
const TEMPLATE: [Member; 7] = [NAME, TITLE, DESCRIPTION, MIME_TYPE, ANNOTATED, ICONS, META];

const HINTS: [Member; 5] = [
    TITLE,
    may("readOnlyHint", Shape::Flag),
    may("destructiveHint", Shape::Flag),
    may("idempotentHint", Shape::Flag),
    may("openWorldHint", Shape::Flag),
];
const ANNOTATIONS: [Member; 3] = [
    may("audience", Shape::ListOf(&Shape::OneOf(&["user", "assistant"]))),
    may("priority", Shape::Share),
    may("lastModified", Shape::Moment),
];
const EXECUTION: [Member; 1] =
    [may("taskSupport", Shape::OneOf(&["required", "optional", "forbidden"]))];
const ICON: [Member; 4] = [
    must("src", Shape::Text),
    MIME_TYPE,
    may("sizes", Shape::ListOf(&Shape::Text)),
    may("theme", Shape::OneOf(&["light", "dark"])),
];
const ARGUMENT: [Member; 4] =
    [must("name", Shape::Text), TITLE, DESCRIPTION, may("required", Shape::Flag)];

/// An entry as every client can read it.
///
/// # Errors
/// Where it cannot be mended without guessing.
pub fn fit(kind: ListKind, entry: &Raw, bounds: EntryBounds) -> Result<Fitted, Flaw> {
    if bounds.bytes_max < entry.bytes().len() {
        return Err(Flaw::Large(bounds.bytes_max));
    }
    if !entry.is_object() {
        return Err(Flaw::NoObject);
    }
    if check_depth(entry.bytes(), bounds.depth_max).is_err() {
        return Err(Flaw::Deep(bounds.depth_max));
    }
    let mut mended = Vec::new();
    let whole = whole_characters(entry);
    if whole.is_some() {
        mended.push("characters");
    }
    let entry = whole.unwrap_or_else(|| entry.clone());
    let members = splice::entries(&entry);
    if let Some(name) = twice(&members) {
        return Err(Flaw::Twice(name.chars().take(64).collect()));
    }
    let key = key_of(kind, &members)?;
    let mut edits = Vec::new();
    for member in table(kind) {
        let given = find(&members, member.name);
        let fit = match given {
            Some(value) => fitted(&member.shape, value),
            None if member.without == Without::Fine => Fit::Right,
            None => fitted(&member.shape, &Raw::trusted("null")),
        };
        let edit = match (fit, member.without) {
            (Fit::Right, _) => continue,
            (Fit::Instead(value), _) => Some(value),
            (Fit::Wrong, Without::Fine) => None,
            (Fit::Wrong, Without::Key) => Some(Raw::encode(&key)),
            (Fit::Wrong, Without::Useless) => return Err(Flaw::Member(member.name)),
        };
        mended.push(member.name);
        edits.push((member.name, edit));
    }
    Ok(Fitted { key, raw: edited(&entry, &edits), mended })
}

fn table(kind: ListKind) -> &'static [Member] {
    match kind {
        ListKind::Tools => &TOOL,
        ListKind::Prompts => &PROMPT,
        ListKind::Resources => &RESOURCE,
        ListKind::Templates => &TEMPLATE,
    }
}

fn key_of(kind: ListKind, members: &[(String, Raw)]) -> Result<String, Flaw> {
    let key = find(members, kind.key()).and_then(|key| key.try_read::<String>());
    let key = key.filter(|key| !key.is_empty()).ok_or(Flaw::NoKey(kind.key()))?;
    match kind {
        ListKind::Tools | ListKind::Prompts if NAME_BYTES_MAX < key.len() => Err(Flaw::LongName),
        // The parser that the Python SDK has.
        ListKind::Resources if url::Url::parse(&key).is_err() => Err(Flaw::NoUri),
        ListKind::Tools | ListKind::Prompts | ListKind::Resources | ListKind::Templates => Ok(key),
    }
}

fn find<'a>(members: &'a [(String, Raw)], name: &str) -> Option<&'a Raw> {
    members.iter().find(|(known, _)| known == name).map(|(_, value)| value)
}

/// A name that two members have: parsers disagree about which of them counts.
fn twice(members: &[(String, Raw)]) -> Option<&String> {
    let mut seen = HashSet::with_capacity(members.len());
    members.iter().map(|(name, _)| name).find(|name| !seen.insert(*name))
}

fn edited(object: &Raw, edits: &[(&str, Option<Raw>)]) -> Raw {
    if edits.is_empty() {
        return object.clone();
    }
    let edits: Vec<_> = edits
        .iter()
        .map(|(name, value)| (*name, value.as_ref().map(|value| &value.bytes()[..])))
        .collect();
    splice::edit(object, &edits)
}

fn fitted(shape: &Shape, value: &Raw) -> Fit {
    let right = match shape {
        Shape::Text => is_text(value),
        Shape::Flag => matches!(value.as_str(), "true" | "false"),
        Shape::Whole => value
            .try_read::<f64>()
            .is_some_and(|number| number.fract() == 0.0 && number.abs() <= WHOLE_MAX),
        Shape::Share => value.try_read::<f64>().is_some_and(|number| (0.0..=1.0).contains(&number)),
        Shape::Moment => value.try_read::<String>().is_some_and(|text| is_moment(&text)),
        Shape::OneOf(words) => {
            value.try_read::<String>().is_some_and(|text| words.contains(&text.as_str()))
        }
        Shape::AnyObject => value.is_object(),
        Shape::ListOf(shape) => return list(shape, value),
        Shape::Object(table) => return object(table, value),
        Shape::Input => return input(value),
        Shape::Output => return output(value),
    };
    if right { Fit::Right } else { Fit::Wrong }
}

/// A list without the values that are wrong.
fn list(shape: &Shape, value: &Raw) -> Fit {
    if !is_array(value) {
        return Fit::Wrong;
    }
    let values = splice::values(value);
    let (mut kept, mut changed) = (Vec::with_capacity(values.len()), false);
    for value in values {
        match fitted(shape, &value) {
            Fit::Right => kept.push(value),
            Fit::Instead(other) => {
                changed = true;
                kept.push(other);
            }
            Fit::Wrong => changed = true,
        }
    }
    if changed { Fit::Instead(splice::array(&kept)) } else { Fit::Right }
}

/// An object without the members that are wrong; of no use without one that it must have.
fn object(table: &[Member], value: &Raw) -> Fit {
    if !value.is_object() {
        return Fit::Wrong;
    }
    let members = splice::entries(value);
    if twice(&members).is_some() {
        return Fit::Wrong;
    }
    let mut edits = Vec::new();
    for member in table {
        let fit = match find(&members, member.name) {
            Some(value) => fitted(&member.shape, value),
            None if member.without == Without::Fine => Fit::Right,
            None => Fit::Wrong,
        };
        match fit {
            Fit::Right => (),
            Fit::Instead(other) => edits.push((member.name, Some(other))),
            Fit::Wrong if member.without == Without::Fine => edits.push((member.name, None)),
            Fit::Wrong => return Fit::Wrong,
        }
    }
    if edits.is_empty() { Fit::Right } else { Fit::Instead(edited(value, &edits)) }
}

/// Arguments are always an object: a schema that says nothing of it, or says so in other words,
/// says that.
fn input(value: &Raw) -> Fit {
    let says_nothing = matches!(value.as_str(), "null" | "true") || is_empty_array(value);
    if says_nothing {
        return Fit::Instead(Raw::trusted(ANY_OBJECT));
    }
    let Some((mut edits, members)) = schema(value) else { return Fit::Wrong };
    let says_object = |kind: &Raw| {
        let is_object = |word: &str| word.eq_ignore_ascii_case("object");
        kind.try_read::<String>().is_some_and(|word| is_object(&word))
            || kind
                .try_read::<Vec<String>>()
                .is_some_and(|words| words.iter().any(|word| is_object(word)))
    };
    match find(&members, "type") {
        Some(kind) if kind.as_str() == "\"object\"" => (),
        Some(kind) if kind.as_str() != "null" && !says_object(kind) => return Fit::Wrong,
        Some(_) | None => edits.push(("type", Some(Raw::trusted("\"object\"")))),
    }
    if edits.is_empty() { Fit::Right } else { Fit::Instead(edited(value, &edits)) }
}

/// Clients do without it: only what is certain is mended.
fn output(value: &Raw) -> Fit {
    match schema(value) {
        None => Fit::Wrong,
        Some((edits, _)) if edits.is_empty() => Fit::Right,
        Some((edits, _)) => Fit::Instead(edited(value, &edits)),
    }
}

type Members = Vec<(String, Raw)>;
type Edits = Vec<(&'static str, Option<Raw>)>;

/// Edits that a schema needs, and its members; none where it is no schema.
fn schema(value: &Raw) -> Option<(Edits, Members)> {
    if !value.is_object() {
        return None;
    }
    let members = splice::entries(value);
    if twice(&members).is_some() {
        return None;
    }
    let mut edits = Vec::new();
    match find(&members, "properties") {
        None => (),
        Some(properties) if properties.is_object() => {
            let fitting = splice::map_values(properties, |property| {
                let is_schema =
                    property.is_object() || matches!(property.as_str(), "true" | "false");
                // Whatever it was to say, the server alone knows.
                if is_schema { property.clone() } else { Raw::object() }
            });
            if fitting != *properties {
                edits.push(("properties", Some(fitting)));
            }
        }
        // What PHP makes of an empty object.
        Some(properties) if is_empty_array(properties) => {
            edits.push(("properties", Some(Raw::object())));
        }
        Some(properties) if properties.as_str() == "null" => edits.push(("properties", None)),
        Some(_) => return None,
    }
    let texts = |value: &Raw| is_array(value) && splice::values(value).iter().all(is_text);
    if find(&members, "required").is_some_and(|required| !texts(required)) {
        edits.push(("required", None));
    }
    if find(&members, "$schema").is_some_and(|dialect| !is_text(dialect)) {
        edits.push(("$schema", None));
    }
    Some((edits, members))
}

fn is_text(value: &Raw) -> bool {
    value.bytes().first() == Some(&b'"')
}

fn is_array(value: &Raw) -> bool {
    value.bytes().first() == Some(&b'[')
}

fn is_empty_array(value: &Raw) -> bool {
    is_array(value) && splice::values(value).is_empty()
}

#[cfg(test)]
mod tests;
