//! Sections: tables whose keys, documentation, defaults and checked type are written once.
//!
//! `section!` takes one table of keys and makes of it the public, checked type, its `Default`,
//! the reading of the file, and the JSON Schema. A key that is misspelt, missing or of another kind
//! of section is a problem with its place.

use std::{collections::HashSet, fmt, ops::Range, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value};
use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};

use super::{
    problem::{Problem, Problems, nearest},
    reader::{Node, Reader},
    value::{FromToml, duration, json, table, word},
};

pub const KIB: usize = 1 << 10;
pub const MIB: usize = 1 << 20;
pub const GIB: usize = 1 << 30;
/// Milliseconds, as the bounds of durations have them.
pub const SECOND: u64 = 1_000;
pub const MINUTE: u64 = 60 * SECOND;
pub const HOUR: u64 = 60 * MINUTE;
pub const DAY: u64 = 24 * HOUR;

/// A key of a section: its value, which is the default if the file has none or a wrong one.
pub struct Field<K: FromToml> {
    pub value: K::Value,
    /// The place of the value, if the file has the key.
    pub span: Option<Range<usize>>,
}

impl<K: FromToml> fmt::Debug for Field<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Field").field("span", &self.span).finish_non_exhaustive()
    }
}

impl<K: FromToml> Field<K> {
    /// A key that the file does not have.
    pub fn absent(default: K::Value) -> Self {
        Self { value: default, span: None }
    }
}

/// A field of whatever kind.
pub trait AnyField {
    /// Reads the value; keeps the default where it is wrong.
    fn fill(&mut self, node: &Node<'_>, reader: &mut Reader<'_>);

    fn span(&self) -> Option<&Range<usize>>;
}

impl<K: FromToml> AnyField for Field<K> {
    fn fill(&mut self, node: &Node<'_>, reader: &mut Reader<'_>) {
        self.span = Some(node.span());
        if let Some(value) = K::read(node, reader) {
            self.value = value;
        }
    }

    fn span(&self) -> Option<&Range<usize>> {
        self.span.as_ref()
    }
}

/// The description of one key of a section.
#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    /// Lines of documentation, as an editor shows them.
    pub doc: &'static [&'static str],
    /// The default in TOML.
    pub default: Option<&'static str>,
    /// The remedy where a file lacks the key; none where it may.
    pub required: Option<&'static str>,
    /// The keys that say which kind of section this key belongs to; none: to all.
    pub kinds: &'static [&'static str],
    pub schema: fn(&mut SchemaGenerator) -> Schema,
}

/// The keys of a section as a file has them.
pub trait Keys: Default {
    /// The noun for such a section in problems; empty where its keys speak for themselves.
    const NOUN: &'static str = "";

    fn table() -> Vec<Key>;

    /// All fields, in the order of the table.
    fn fields(&mut self) -> Vec<(&'static str, &mut dyn AnyField)>;

    /// Notes where the section is: what is missing in it is shown there.
    fn stands_at(&mut self, at: Range<usize>);
}

/// A checked type that a section is read as.
pub trait Section: Sized {
    type Keys: Keys;
}

/// The keys of `T` as a file has them, each with its place.
pub type Fields<T> = <T as Section>::Keys;

/// A section that needs nothing but itself and the reader to be checked.
pub trait Finish: Section {
    /// The checked value; right if the reader has no problem.
    fn finish(keys: Self::Keys, reader: &mut Reader<'_>) -> Self;
}

impl<T: Finish + JsonSchema> FromToml for T {
    type Value = Self;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let keys = read::<T::Keys>(node, None, reader)?;
        Some(reader.judge(|reader| Self::finish(keys, reader)))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Self>()
    }
}

/// The key that tells the kinds of a section apart.
#[derive(Debug)]
pub struct Tag<'a> {
    /// The key that says the kind.
    pub key: &'static str,
    /// The kind that this section is of.
    pub word: &'a str,
    pub noun: &'static str,
    /// The keys of the section's other kinds.
    pub others: Vec<Key>,
}

/// Reads the keys of a section; none where the node is no table, which the reader knows then.
pub fn read<K: Keys>(node: &Node<'_>, tag: Option<&Tag<'_>>, reader: &mut Reader<'_>) -> Option<K> {
    let at = reader.take_heading().unwrap_or_else(|| node.span());
    let mut keys = K::default();
    let mut meant = Vec::new();
    for (key, value) in table(node, reader)? {
        let name = key.get_ref().as_ref();
        if tag.is_some_and(|tag| tag.key == name) {
            continue;
        }
        let field = keys.fields().into_iter().find(|(known, _)| *known == name);
        if let Some((_, field)) = field {
            field.fill(value, reader);
        } else if let Some(tag) = tag.filter(|tag| tag.others.iter().any(|key| key.name == name)) {
            let noun = tag.noun;
            let word = tag.word;
            let article = if noun.starts_with('a') { "an" } else { "a" };
            let title = format!("`{name}` means nothing for {article} {noun} of kind \"{word}\"");
            reader.problem(Problem::new(value.span(), title, format!("remove `{name}`")));
        } else {
            let known = K::table().into_iter().map(|key| key.name);
            let known = tag.iter().map(|tag| tag.key).chain(known).collect();
            meant.extend(unknown(key, known, reader));
        }
    }
    reader.judge(|reader| require(&mut keys, &at, &meant, reader));
    keys.stands_at(at);
    Some(keys)
}

/// Reads another file that this one names. None where it has problems, which the reader knows then.
pub fn read_other_file<K: Keys + FromToml<Value = K>, T>(
    name: &str,
    text: &str,
    outer: &mut Reader<'_>,
    finish: impl FnOnce(K, &mut Reader<'_>) -> T,
) -> Option<T> {
    let nothing = |_: &str| None;
    let mut reader = Reader::new(outer.folder(), &nothing);
    let (table, errors) = DeTable::parse_recoverable(text);
    let root = Spanned::new(table.span(), DeValue::Table(table.into_inner()));
    let read = K::read(&root, &mut reader).expect("the root of a file is a table");
    let mut problems: Vec<_> = errors.iter().map(Problem::of_syntax).collect();
    if problems.is_empty() {
        let value = finish(read, &mut reader);
        reader.take_files().iter().for_each(|path| outer.note_file(path));
        problems = reader.finish();
        if problems.is_empty() {
            return Some(value);
        }
    }
    outer.problems_of_other_file(Problems::new(name, text, problems));
    None
}

/// Reports the required keys that are missing, but for those that were `meant`.
fn require<K: Keys>(keys: &mut K, at: &Range<usize>, meant: &[&str], reader: &mut Reader<'_>) {
    for (key, (name, field)) in K::table().iter().zip(keys.fields()) {
        let Some(help) = key.required.filter(|_| field.span().is_none()) else { continue };
        let title = match K::NOUN {
            "" => format!("`{name}` is missing"),
            noun => format!("this {noun} has no `{name}`"),
        };
        if !meant.contains(&name) {
            reader.problem(Problem::new(at.clone(), title, help));
        }
    }
}

/// Reports a key that no section of this kind has, and gives the one that was meant, if that is
/// clear.
pub fn unknown<'k>(
    key: &Spanned<DeString<'_>>,
    mut known: Vec<&'k str>,
    reader: &mut Reader<'_>,
) -> Option<&'k str> {
    // Kinds of one section share keys.
    let mut seen = HashSet::new();
    known.retain(|name| seen.insert(*name));
    let title = format!("unknown key `{}`", key.get_ref());
    let help = nearest(key.get_ref(), known.iter().copied());
    let meant = known.into_iter().find(|known| help == format!("did you mean `{known}`?"));
    reader.problem(Problem::new(key.span(), title, help));
    meant
}

/// The kind that a section says it is of, out of `words`.
pub fn kind<'w>(
    node: &Node<'_>,
    noun: &str,
    words: &[&'w str],
    at: &Range<usize>,
    reader: &mut Reader<'_>,
) -> Option<&'w str> {
    if let Some(kind) = table(node, reader)?.get("kind") {
        let words: Vec<_> = words.iter().map(|word| (*word, *word)).collect();
        return word(kind, &words, reader);
    }
    let words: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
    let help = match words.split_last() {
        Some((last, others)) => format!("say what it is: kind = {} or {last}", others.join(", ")),
        None => String::new(),
    };
    let problem = Problem::new(at.clone(), format!("this {noun} has no `kind`"), help);
    reader.judge(|reader| reader.problem(problem));
    None
}

/// Reads one key as a section of this kind does, for its problems alone; false where it has none
/// of this name.
pub fn try_key<K: Keys>(key: &str, value: &Node<'_>, reader: &mut Reader<'_>) -> bool {
    let mut keys = K::default();
    let field = keys.fields().into_iter().find(|(known, _)| *known == key);
    field.map(|(_, field)| field.fill(value, reader)).is_some()
}

/// Refuses the keys that mean nothing for this kind of section.
pub fn check_kind<K: Keys>(keys: &mut K, noun: &str, kind: &str, reader: &mut Reader<'_>) {
    for (key, (name, field)) in K::table().iter().zip(keys.fields()) {
        // A key that says a kind itself is the caller's to judge.
        let is_unfit = !key.kinds.is_empty() && !key.kinds.contains(&kind) && key.kinds != [name];
        if let Some(span) = field.span().filter(|_| is_unfit) {
            let title = format!("`{name}` means nothing for {noun} with `{kind}`");
            reader.problem(Problem::new(span.clone(), title, format!("remove `{name}`")));
        }
    }
}

/// The JSON Schema of a section: one object, or one of several where keys belong to kinds.
pub fn schema(generator: &mut SchemaGenerator, doc: &[&str], keys: &[Key]) -> Schema {
    let mut kinds: Vec<&str> = Vec::new();
    for kind in keys.iter().flat_map(|key| key.kinds) {
        if !kinds.contains(kind) {
            kinds.push(kind);
        }
    }
    if kinds.is_empty() {
        return object(generator, doc, &keys.iter().collect::<Vec<_>>());
    }
    let mut each = Vec::new();
    for kind in &kinds {
        let fits = |key: &&Key| key.kinds.is_empty() || key.kinds.contains(kind);
        let mut schema = object(generator, doc, &keys.iter().filter(fits).collect::<Vec<_>>());
        require_keys(&mut schema, &[kind]);
        each.push(schema);
    }
    // Another layer may say which kind it is.
    let open = keys.iter().filter(|key| !kinds.contains(&key.name));
    each.push(object(generator, doc, &open.collect::<Vec<_>>()));
    json_schema!({ "description": prose(doc), "oneOf": each })
}

/// The JSON Schema of a section with these keys.
pub fn object(generator: &mut SchemaGenerator, doc: &[&str], keys: &[&Key]) -> Schema {
    let mut properties = Map::new();
    for key in keys {
        let mut schema = (key.schema)(generator);
        // A type may say more than its key does: the range of a duration.
        let about = match (prose(key.doc), schema.get("description")) {
            (Value::String(about), Some(Value::String(more))) => format!("{about} {more}").into(),
            (about, _) => about,
        };
        schema.insert("description".to_owned(), about);
        if let Some(default) = key.default {
            schema.insert("default".to_owned(), json(parsed(default).get_ref()));
        }
        properties.insert(key.name.to_owned(), schema.to_value());
    }
    let mut schema = json_schema!({
        "type": "object",
        "description": prose(doc),
        "properties": properties,
        "additionalProperties": false,
    });
    let required = keys.iter().filter(|key| key.required.is_some()).map(|key| key.name);
    require_keys(&mut schema, &required.collect::<Vec<_>>());
    schema
}

/// Adds to the keys that a schema requires.
fn require_keys(schema: &mut Schema, names: &[&str]) {
    if names.is_empty() {
        return;
    }
    let known = schema.get("required").and_then(Value::as_array);
    let known = known.into_iter().flatten().cloned();
    let required: Vec<_> = names.iter().map(|name| Value::from(*name)).chain(known).collect();
    schema.insert("required".to_owned(), required.into());
}

/// Returns the schema of one kind of a section, in which `tag` is always `word`.
pub fn tagged(mut schema: Schema, tag: &str, word: &str) -> Value {
    let description = schema.get("description").cloned().unwrap_or_default();
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        let mut tagged = Map::new();
        tagged.insert(
            tag.to_owned(),
            serde_json::json!({ "const": word, "description": description }),
        );
        tagged.append(properties);
        *properties = tagged;
    }
    require_keys(&mut schema, &[tag]);
    schema.to_value()
}

/// Lines of documentation as one text.
pub fn prose(doc: &[&str]) -> Value {
    let lines = doc.iter().map(|line| line.strip_prefix(' ').unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n").into()
}

/// Refuses a first duration that is longer than the second, where the file has one of them.
pub fn check_order<A, B>(
    names: [&str; 2],
    first: &Field<A>,
    second: &Field<B>,
    reader: &mut Reader<'_>,
) where
    A: FromToml<Value = Duration>,
    B: FromToml<Value = Duration>,
{
    let [shorter, longer] = names;
    if let Some(at) = first.span.as_ref().or(second.span.as_ref())
        && second.value < first.value
    {
        let [least, most] = [first.value, second.value].map(duration);
        let title = format!("`{shorter}` is {least}, but `{longer}` is {most}");
        let help = format!("make `{shorter}` shorter than `{longer}`, or `{longer}` longer");
        reader.problem(Problem::new(at.clone(), title, help));
    }
}

/// The section of which a file has no key.
pub fn finished<T: Finish>() -> T {
    T::finish(T::Keys::default(), &mut Reader::new("".as_ref(), &|_| None))
}

/// A default, read as the file is.
pub fn default<K: FromToml>(toml: &str) -> K::Value {
    let nothing = |_: &str| None;
    let mut reader = Reader::new("".as_ref(), &nothing);
    K::read(&parsed(toml), &mut reader).expect("a default is right: the tests make every section")
}

fn parsed(toml: &str) -> Node<'_> {
    DeValue::parse(toml).expect("the tokens used as defaults are TOML")
}
