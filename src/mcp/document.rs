//! A JSON text that is read once for all who look into it: policies, schemas and detectors.
//!
//! The first who looks has the text walked from end to end, and where each value stands is written
//! down. Nobody walks it again: members, texts and values are taken from there.

use std::{borrow::Cow, ops::Range, sync::OnceLock};

use serde_json::{Map, Number, Value, map::Entry};

use super::{
    index::Param,
    params::Params,
    raw::{Raw, string_end, text_of},
    splice,
};

/// Nesting of what [`JsonNode::value`] reads: whoever goes through a value goes down as deep on the
/// stack.
pub const VALUE_DEPTH_MAX: usize = 100;

/// What the table of an object with members takes, of few ones.
const TABLE_BYTES: usize = 64;

/// What each value and each name takes: a place as large as a value, and a mark with the room that
/// the marks grow into. A member has two of them, which also hold its hash and its share of the
/// table.
const PLACE_BYTES: usize = size_of::<Value>() + 2 * size_of::<Mark>();

/// A JSON text, and where its values stand once somebody asked.
#[derive(Debug)]
pub struct Document {
    text: Raw,
    outline: OnceLock<Outline>,
}

/// The `arguments` of a request.
#[derive(Debug)]
pub struct CallArguments(Option<Document>);

/// A value of a document, or the name of a member.
#[derive(Debug, Clone, Copy)]
pub struct JsonNode<'a> {
    document: &'a Document,
    at: usize,
}

/// Why a value is not read: a server may read it in another way than the gateway does. The words
/// are for whoever wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("nested deeper than {VALUE_DEPTH_MAX} levels")]
    TooDeep,
    /// Servers differ in which of them they read.
    #[error("the member `{0}` stands in one object twice")]
    Twice(String),
}

/// The values of a text in the order in which they begin; a member's name stands before its value.
#[derive(Debug, Default)]
struct Outline(Vec<Mark>);

/// The offsets where a value begins and ends, and which mark is the first behind it and all that is
/// in it. Four bytes each: no message that the configuration lets in has 4 GiB.
#[derive(Debug, Clone, Copy)]
struct Mark {
    start: u32,
    end: u32,
    behind: u32,
}

impl Document {
    /// Takes a text; nothing is read yet.
    pub fn new(text: Raw) -> Self {
        Self { text, outline: OnceLock::new() }
    }

    /// The text, as it was written.
    pub fn text(&self) -> &Raw {
        &self.text
    }

    /// The whole.
    pub fn root(&self) -> JsonNode<'_> {
        JsonNode { document: self, at: 0 }
    }

    /// All texts and numbers in the order of the document, names of members too; but for those in
    /// `except`.
    pub fn texts_and_numbers<'a>(
        &'a self,
        except: &'a [Range<usize>],
    ) -> impl Iterator<Item = JsonNode<'a>> {
        let all = (0..self.marks().len()).map(|at| JsonNode { document: self, at });
        let is_left_out =
            |node: &JsonNode<'_>| except.iter().any(|range| range.contains(&node.range().start));
        let is_one = |node: &JsonNode<'_>| matches!(node.first(), Some(b'"' | b'-' | b'0'..=b'9'));
        all.filter(move |node| is_one(node) && !is_left_out(node))
    }

    fn marks(&self) -> &[Mark] {
        &self.outline.get_or_init(|| Outline::read(self.text.as_str())).0
    }
}

impl CallArguments {
    /// The arguments of a request with these params.
    pub fn of(params: &Params) -> Self {
        Self(params.member(Param::Arguments).map(Document::new))
    }

    /// A request without arguments.
    pub fn none() -> Self {
        Self(None)
    }

    /// The arguments as the client wrote them; none where the request has no such member.
    pub fn document(&self) -> Option<&Document> {
        self.0.as_ref()
    }
}

impl<'a> JsonNode<'a> {
    /// The value as it is written.
    pub fn text(self) -> &'a str {
        // Its own bytes alone: the whole for each node would cost the square of the size.
        let bytes = self.document.text.bytes().get(self.range()).unwrap_or_default();
        #[cfg(test)]
        tests::READ_BYTES.set(tests::READ_BYTES.get() + bytes.len());
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    /// Returns where it stands in the document, in bytes.
    pub fn range(self) -> Range<usize> {
        self.mark().map_or(0..0, |mark| mark.start as usize..mark.end as usize)
    }

    /// The first byte, which tells of what kind it is.
    pub fn first(self) -> Option<u8> {
        self.document.text.bytes().get(self.mark()?.start as usize).copied()
    }

    /// The text of a JSON string; none for another kind, and for half a surrogate.
    pub fn string(self) -> Option<Cow<'a, str>> {
        text_of(self.text())
    }

    /// The members of an object, those of one name too; none of anything else.
    pub fn members(self) -> impl Iterator<Item = (JsonNode<'a>, JsonNode<'a>)> {
        let mut inner = self.inner(b'{');
        std::iter::from_fn(move || Some((inner.next()?, inner.next()?)))
    }

    /// The first member of this name.
    pub fn member(self, name: &str) -> Option<JsonNode<'a>> {
        let is_it = |key: JsonNode<'_>| key.string().is_some_and(|key| key == name);
        self.members().find(|(key, _)| is_it(*key)).map(|(_, value)| value)
    }

    /// The items of an array; none of anything else.
    pub fn items(self) -> impl Iterator<Item = JsonNode<'a>> {
        self.inner(b'[')
    }

    /// The value itself. A number beyond what a double holds becomes the largest, and a text with
    /// half a surrogate, which nobody reads alike, becomes `null`.
    ///
    /// # Errors
    /// Where it is nested too deep, or an object has a member twice.
    pub fn value(self) -> Result<Value, Unreadable> {
        self.value_within(VALUE_DEPTH_MAX)
    }

    /// The memory that [`JsonNode::value`] takes, reckoned rather too high than too low.
    pub fn value_bytes(self) -> usize {
        let behind = self.mark().map_or(0, |mark| mark.behind as usize);
        let marks = self.document.marks().get(self.at..behind).unwrap_or_default();
        let objects = marks.iter().filter(|mark| {
            let first = self.document.text.bytes().get(mark.start as usize);
            first == Some(&b'{') && 2 < mark.end - mark.start
        });
        objects.count() * TABLE_BYTES + marks.len() * PLACE_BYTES + self.range().len()
    }

    fn value_within(self, depth_max: usize) -> Result<Value, Unreadable> {
        let depth_left = || depth_max.checked_sub(1).ok_or(Unreadable::TooDeep);
        Ok(match self.first() {
            Some(b'{') => Value::Object(self.object_within(depth_left()?)?),
            Some(b'[') => {
                let depth_left = depth_left()?;
                // Counted first: what grows takes up to three times as much on its way.
                let mut items = Vec::with_capacity(self.items().count());
                for item in self.items() {
                    items.push(item.value_within(depth_left)?);
                }
                Value::Array(items)
            }
            Some(b'"') => self.string().map_or(Value::Null, |text| Value::String(text.into())),
            Some(b't') => Value::Bool(true),
            Some(b'f') => Value::Bool(false),
            Some(b'-' | b'0'..=b'9') => number(self.text()),
            _ => Value::Null,
        })
    }

    fn object_within(self, depth_max: usize) -> Result<Map<String, Value>, Unreadable> {
        let mut all = Map::with_capacity(self.members().count());
        for (key, value) in self.members() {
            let value = value.value_within(depth_max)?;
            let key = key.string().map_or_else(|| key.text().to_owned(), Cow::into_owned);
            match all.entry(key) {
                Entry::Vacant(place) => drop(place.insert(value)),
                Entry::Occupied(known) => return Err(Unreadable::Twice(known.key().clone())),
            }
        }
        Ok(all)
    }

    /// Iterates over the values directly in it, if it begins like this.
    fn inner(self, first: u8) -> impl Iterator<Item = JsonNode<'a>> {
        let is_it = self.first() == Some(first);
        let end = self.mark().filter(|_| is_it).map_or(0, |mark| mark.behind as usize);
        let mut next = self.at + 1;
        std::iter::from_fn(move || {
            let node = JsonNode { document: self.document, at: next };
            next = node.mark().filter(|_| next < end)?.behind as usize;
            Some(node)
        })
    }

    fn mark(self) -> Option<Mark> {
        self.document.marks().get(self.at).copied()
    }
}

impl Outline {
    fn read(text: &str) -> Self {
        #[cfg(test)]
        tests::READINGS.set(tests::READINGS.get() + 1);
        let bytes = text.as_bytes();
        let mut marks = Vec::new();
        let mut open = Vec::new();
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            let start = at;
            at = match byte {
                b'"' => string_end(bytes, at),
                b' ' | b'\t' | b'\r' | b'\n' | b',' | b':' | b'{' | b'[' | b'}' | b']' => at + 1,
                _ => splice::value_end(bytes, at).max(at + 1),
            };
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' | b',' | b':' => continue,
                b'}' | b']' => {
                    close(&mut marks, open.pop(), at);
                    continue;
                }
                b'{' | b'[' => open.push(marks.len()),
                _ => (),
            }
            let behind = short(marks.len() + 1);
            marks.push(Mark { start: short(start), end: short(at), behind });
        }
        Self(marks)
    }
}

/// Notes where an array or an object ends: behind all that is marked by now.
fn close(marks: &mut [Mark], opened: Option<usize>, end: usize) {
    let behind = short(marks.len());
    if let Some(mark) = opened.and_then(|opened| marks.get_mut(opened)) {
        mark.end = short(end);
        mark.behind = behind;
    }
}

fn short(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn number(text: &str) -> Value {
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    let largest = || Number::from_f64(sign * f64::MAX).map_or(Value::Null, Value::Number);
    serde_json::from_str(text).unwrap_or_else(|_| largest())
}

#[cfg(test)]
pub mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    thread_local! {
        /// How many texts this thread has walked.
        pub static READINGS: Cell<usize> = const { Cell::new(0) };
        /// How many bytes of nodes it has looked at.
        pub static READ_BYTES: Cell<usize> = const { Cell::new(0) };
    }

    fn document(text: &str) -> Document {
        Document::new(Raw::trusted(text.to_owned()))
    }

    #[test]
    fn what_servers_read_differently_is_not_read() {
        let read = |text: &str| document(text).root().value();
        assert_eq!(read(r#"{"a":[1,-2,0.5,"\u0041",null,true]}"#).unwrap()["a"][3], "A");
        assert_eq!(read("[1e999,-1e999]").unwrap()[1], -f64::MAX);
        assert_eq!(read(r#"[ "\ud800" , false ]"#).unwrap(), serde_json::json!([null, false]));
        let twice = Unreadable::Twice("a".to_owned());
        assert_eq!(read(r#"[{"a":1,"b":{"\u0061":1,"a":2}}]"#), Err(twice.clone()));
        assert_eq!(read(r#"{"a":1,"a":1e999}"#), Err(twice));
        let deep = |depth| "[".repeat(depth) + &"]".repeat(depth);
        assert!(read(&deep(VALUE_DEPTH_MAX)).is_ok());
        assert_eq!(read(&deep(VALUE_DEPTH_MAX + 1)), Err(Unreadable::TooDeep));
        let inner = format!(r#"{{"a":{}}}"#, deep(VALUE_DEPTH_MAX));
        assert!(document(&inner).root().member("a").unwrap().value().is_ok());
    }

    #[test]
    fn a_document_is_walked_when_somebody_looks_and_never_again() {
        let before = READINGS.get();
        let params = Raw::trusted(r#"{"name":"t","arguments":{"a":{"b":["c",1]},"d":"e"}}"#);
        let arguments = CallArguments::of(&params.into());
        let document = arguments.document().unwrap();
        assert_eq!((document.text().as_str().len(), READINGS.get() - before), (27, 0));
        let a = document.root().member("a").unwrap();
        assert_eq!(a.member("b").unwrap().items().nth(1).unwrap().text(), "1");
        assert_eq!(a.text(), r#"{"b":["c",1]}"#);
        assert!(a.items().next().is_none() && a.member("c").is_none());
        let left_out = [a.range()];
        let texts: Vec<_> = document.texts_and_numbers(&left_out).map(JsonNode::text).collect();
        assert_eq!(texts, ["\"a\"", "\"d\"", "\"e\""]);
        assert_eq!(document.root().value().unwrap()["d"], "e");
        assert_eq!(READINGS.get() - before, 1);
        assert!(CallArguments::of(&Params::none()).document().is_none());
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,6}|[\"\\\\\n]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            let members = prop::collection::vec(("\\PC{0,3}|[\"\\\\]", inner.clone()), 0..5);
            prop_oneof![
                prop::collection::vec(inner, 0..5).prop_map(Value::from),
                members.prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// The bytes that a value has besides its own place. The members of an object stand in a row
    /// with their hashes, and a table has their numbers: a power of two of them, a seventh more
    /// than there are members, with a byte for each and sixteen at the end.
    fn taken_by(value: &Value) -> usize {
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
            Value::String(text) => text.capacity(),
            Value::Array(items) => {
                let places = items.capacity() * size_of::<Value>();
                places + items.iter().map(taken_by).sum::<usize>()
            }
            Value::Object(members) if members.is_empty() => 0,
            Value::Object(members) => {
                let row = members.len() * (8 + size_of::<String>() + size_of::<Value>());
                let buckets = (members.len() * 8 / 7 + 1).next_power_of_two().max(4);
                let inner = members.iter().map(|(name, value)| name.capacity() + taken_by(value));
                row + buckets * 9 + 16 + inner.sum::<usize>()
            }
        }
    }

    /// Members keep their order, and what they take is reckoned for the map that does that.
    #[test]
    fn values_are_of_the_size_that_memory_is_reckoned_for() {
        assert_eq!(size_of::<Value>(), 72);
    }

    proptest! {
        /// As a whole, and each part where it stands.
        #[test]
        fn reads_what_serde_json_reads(want in value(), pretty: bool) {
            let write = if pretty { serde_json::to_string_pretty } else { serde_json::to_string };
            let text = write(&want).unwrap();
            let want: Value = serde_json::from_str(&text).unwrap();
            let read = document(&text);
            let before = READ_BYTES.get();
            prop_assert_eq!(&read.root().value().unwrap(), &want);
            // A leaf once, and not the whole for each.
            prop_assert!(READ_BYTES.get() - before <= text.len());
            prop_assert_eq!(read.root().text(), &text);
            for (key, value) in read.root().members() {
                prop_assert_eq!(&value.value().unwrap(), &want[&*key.string().unwrap()]);
            }
            for (at, item) in read.root().items().enumerate() {
                prop_assert_eq!(&item.value().unwrap(), &want[at]);
            }
        }

        /// Of mixed values, and of ones that are all objects, names, texts or items.
        #[test]
        fn reckons_no_less_memory_than_a_value_takes(mixed in value(), many in 0..300_usize) {
            let wide = |value: Value| Value::from(vec![value; many]);
            let object = (0..many).map(|at| (at.to_string(), Value::from(at))).collect();
            let all = [
                mixed,
                wide(serde_json::json!({ "b": 1 })),
                wide(serde_json::json!({})),
                wide(serde_json::json!([])),
                wide(serde_json::json!("")),
                wide(serde_json::json!([{ "b": "c" }])),
                wide(Value::Null),
                Value::Object(object),
                Value::from("\n".repeat(many)),
            ];
            for value in all {
                let text = value.to_string();
                let read = document(&text);
                let taken = taken_by(&read.root().value().unwrap());
                let reckoned = read.root().value_bytes();
                prop_assert!(taken <= reckoned, "{} takes {}, not {}", text, taken, reckoned);
                prop_assert!(reckoned <= 200 * (1 + text.len()), "{} is not {}", text, reckoned);
            }
        }

        /// Whatever it is given, it ends.
        #[test]
        fn ends_on_any_text(text in "[\\[\\]{}\",:\\\\ a1]{0,24}") {
            let read = document(&text);
            read.root().value().ok();
            read.texts_and_numbers(&[]).for_each(|node| drop(node.string()));
        }
    }
}
