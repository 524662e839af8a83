//! The kinds of values in `routes.toml`: how each is read, and its JSON Schema.

use std::{marker::PhantomData, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use bytesize::ByteSize;
use jiff::SignedDuration;
use schemars::{Schema, SchemaGenerator, json_schema};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{
    call::Action,
    config::secret::Secret,
    mcp::{raw::Raw, version::Era},
};

use super::{
    problem::{Problem, nearest},
    reader::{Node, Reader},
};

/// A kind of value.
pub trait FromToml {
    /// The type that the rest of the gateway sees of it.
    type Value;

    /// The value, or `None` once the reader knows why there is none.
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value>;

    fn schema(generator: &mut SchemaGenerator) -> Schema;
}

/// A whole number from `MIN` to `MAX`.
#[derive(Debug)]
pub struct Count<const MIN: usize, const MAX: usize, T = usize>(PhantomData<T>);

/// Bytes, from `MIN` to `MAX`.
#[derive(Debug)]
pub struct Size<const MIN: usize, const MAX: usize, T = usize>(PhantomData<T>);

/// A time from `MIN` to `MAX` milliseconds.
#[derive(Debug)]
pub struct BoundedDuration<const MIN: u64, const MAX: u64>;

/// The era of the protocol that is spoken; none: whichever it turns out to be.
#[derive(Debug)]
pub struct EraOrAuto;

/// A table as the JSON object that it is.
#[derive(Debug)]
pub struct JsonTable;

/// A moment, in seconds since 1970.
#[derive(Debug)]
pub struct Moment;

/// An address of a server, `http:` or `https:`.
#[derive(Debug)]
pub struct Url;

/// A path; a relative one begins in the folder of the file.
#[derive(Debug)]
pub struct LocalPath;

/// A secret that may stand in the file only by reference.
#[derive(Debug)]
pub struct Reference;

/// Keys that the operator chooses, in the order of the file.
#[derive(Debug)]
pub struct Table<T>(PhantomData<T>);

/// A section whose missing variables and secret files are its own affair.
#[derive(Debug)]
pub struct WithUnavailable<T> {
    pub value: T,
    pub unavailable: Vec<Problem>,
}

pub(in crate::config) use super::words::words;

/// The value of a text that is one of `words`.
pub fn word<T: Copy>(node: &Node<'_>, words: &[(&str, T)], reader: &mut Reader<'_>) -> Option<T> {
    let text = reader.text(node, "a word")?;
    let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
    if found.is_none() {
        let help = nearest(&text, words.iter().map(|(word, _)| *word));
        reader.refuse(node, "a word known here", help);
    }
    found
}

const ACTIONS: [(&str, Action); 5] = [
    ("list", Action::List),
    ("call", Action::Call),
    ("get", Action::Get),
    ("read", Action::Read),
    ("complete", Action::Complete),
];

impl FromToml for Action {
    type Value = Self;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        word(node, &ACTIONS, reader)
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": ACTIONS.map(|(word, _)| word) })
    }
}

const ERAS: [(&str, Option<Era>); 3] =
    [("auto", None), ("legacy", Some(Era::Legacy)), ("modern", Some(Era::Modern))];

impl FromToml for EraOrAuto {
    type Value = Option<Era>;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Option<Era>> {
        word(node, &ERAS, reader)
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": ERAS.map(|(word, _)| word) })
    }
}

impl FromToml for String {
    type Value = Self;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        reader.text(node, "a text")
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

impl FromToml for PathBuf {
    type Value = Self;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        reader.text(node, "a path").map(Self::from)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        String::schema(generator)
    }
}

impl FromToml for LocalPath {
    type Value = PathBuf;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<PathBuf> {
        PathBuf::read(node, reader).map(|path| reader.folder().join(path))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        String::schema(generator)
    }
}

impl FromToml for bool {
    type Value = Self;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let found = node.get_ref().as_bool();
        if found.is_none() {
            reader.unexpected(node, "`true` or `false`", "write it without quotes");
        }
        found
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "boolean" })
    }
}

impl FromToml for JsonTable {
    type Value = Raw;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Raw> {
        table(node, reader)?;
        Some(Raw::encode(&json(node.get_ref())))
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object" })
    }
}

impl FromToml for Moment {
    type Value = u64;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<u64> {
        let help = "write a date and a time with its zone: \"2027-01-31T00:00:00Z\"";
        let moment: jiff::Timestamp = reader.parsed(node, "a moment", help)?;
        Some(moment.as_second().try_into().unwrap_or_default())
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

impl FromToml for SocketAddr {
    type Value = Self;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let help = "write an IP address and a port, such as \"127.0.0.1:8080\" or \"[::]:8080\"";
        reader.parsed(node, "an address and port", help)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        String::schema(generator)
    }
}

impl FromToml for Url {
    type Value = String;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<String> {
        let text = reader.text(node, "a URL")?;
        if is_url(&text) {
            return Some(text);
        }
        let help = "write a whole URL with http: or https:, such as \"https://example.com/mcp\"";
        reader.refuse(node, "an http or https URL", help);
        None
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": r"^(https?://|.*\$\{)" })
    }
}

impl FromToml for Secret {
    type Value = Self;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        reader.secret(node)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        String::schema(generator)
    }
}

impl FromToml for Reference {
    type Value = Secret;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Secret> {
        let kept = ["env:", "file:", "vault:"];
        let plain = |text: &str| !kept.iter().any(|scheme| text.starts_with(scheme));
        if node.get_ref().as_str().is_some_and(plain) {
            let title = "this secret must not stand in the file itself";
            let help = "name where it is kept: \"env:NAME\", \"file:PATH\" or \"vault:PATH#FIELD\"";
            reader.problem(Problem::new(node.span(), title, help));
            return None;
        }
        reader.secret(node)
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^(env|file|vault):." })
    }
}

impl<const MIN: usize, const MAX: usize, T: TryFrom<usize>> FromToml for Count<MIN, MAX, T> {
    type Value = T;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<T> {
        let help = format!("write a whole number from {MIN} to {MAX}, without quotes");
        if node.get_ref().as_integer().is_none() {
            reader.unexpected(node, "a whole number", &help);
            return None;
        }
        let found = integer(node).filter(|count| (MIN..=MAX).contains(count));
        if found.is_none() {
            let title = format!("this number is not between {MIN} and {MAX}");
            reader.problem(Problem::new(node.span(), title, help));
        }
        found.and_then(|count| count.try_into().ok())
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}

impl<const MIN: usize, const MAX: usize, T: TryFrom<usize>> FromToml for Size<MIN, MAX, T> {
    type Value = T;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<T> {
        let help = "write a number of bytes, or a text such as \"64KiB\" or \"4MiB\"";
        let bytes = if node.get_ref().is_integer() {
            integer(node)
        } else {
            let size: ByteSize = reader.parsed(node, "a size", help)?;
            usize::try_from(size.as_u64()).ok()
        };
        let found = bytes.filter(|bytes| (MIN..=MAX).contains(bytes));
        if found.is_none() {
            let title = format!("this size is not between {} and {}", size(MIN), size(MAX));
            reader.problem(Problem::new(node.span(), title, help));
        }
        found.and_then(|bytes| bytes.try_into().ok())
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"], "minimum": MIN, "maximum": MAX })
    }
}

/// A number of bytes as the file says it: in the largest unit that has no fraction.
pub fn size(bytes: usize) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(unit, _)| bytes != 0 && bytes.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

impl<const MIN: u64, const MAX: u64> FromToml for BoundedDuration<MIN, MAX> {
    type Value = Duration;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Duration> {
        let help = "write a text with a unit, such as \"500ms\", \"30s\", \"5m\" or \"24h\"";
        let span: SignedDuration = reader.parsed(node, "a duration", help)?;
        let min = Duration::from_millis(MIN);
        let max = Duration::from_millis(MAX);
        let found = Duration::try_from(span).ok().filter(|time| (min..=max).contains(time));
        if found.is_none() {
            let min = duration(min);
            let max = duration(max);
            let title = format!("this duration is not between {min} and {max}");
            reader.problem(Problem::new(node.span(), title, help));
        }
        found
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        let [min, max] = [MIN, MAX].map(|time| duration(Duration::from_millis(time)));
        json_schema!({
            "type": "string",
            "pattern": DURATION_PATTERN,
            "description": format!("From {min} to {max}."),
        })
    }
}

/// A text that is a duration, as editors are told: numbers with units, hours to nanoseconds, or as
/// ISO 8601 has it; or a variable, of which they know nothing.
const DURATION_PATTERN: &str = concat!(
    r"\$\{|^\s*[+-]?\s*(?:(?:[0-9]+(?:[.,][0-9]+)?\s*",
    r"(?:h|hrs?|hours?|m|mins?|minutes?|s|secs?|seconds?|ms|msecs?|millis?|milliseconds?|",
    r"us|[µμ]s|[µμ]secs?|usecs?|micros?|microseconds?|ns|nsecs?|nanos?|nanoseconds?)",
    r"(?:\s*,)?\s*)+(?:ago)?|[0-9]+:[0-9]{2}:[0-9]{2}(?:[.,][0-9]+)?|",
    r"[pP][tT](?:[0-9]+(?:[.,][0-9]+)?[hHmMsS])+)\s*$",
);

/// A duration as the file says it.
pub fn duration(time: Duration) -> String {
    // Only durations beyond 292 thousand million years are refused; the bounds keep them out.
    let span = SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
    format!("{span:#}")
}

impl<T: FromToml> FromToml for Option<T> {
    type Value = Option<T::Value>;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value> {
        T::read(node, reader).map(Some)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        T::schema(generator)
    }
}

impl<T: FromToml> FromToml for Spanned<T> {
    type Value = Spanned<T::Value>;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value> {
        T::read(node, reader).map(|value| Spanned::new(node.span(), value))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        T::schema(generator)
    }
}

impl<T: FromToml> FromToml for Vec<T> {
    type Value = Vec<T::Value>;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value> {
        let Some(list) = node.get_ref().as_array() else {
            reader.unexpected(node, "an array", "put it in brackets: [\"…\"]");
            return None;
        };
        Some(list.iter().filter_map(|item| T::read(item, reader)).collect())
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let items = T::schema(generator);
        json_schema!({ "type": "array", "items": items })
    }
}

impl<T: FromToml> FromToml for Table<T> {
    type Value = Vec<(Spanned<String>, T::Value)>;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value> {
        let mut read = Vec::new();
        for (key, value) in table(node, reader)?.iter() {
            reader.set_heading(key.span());
            let value = T::read(value, reader);
            // A value that is no section leaves it.
            reader.take_heading();
            let key = Spanned::new(key.span(), key.get_ref().clone().into_owned());
            read.extend(value.map(|value| (key, value)));
        }
        Some(read)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let values = T::schema(generator);
        json_schema!({ "type": "object", "additionalProperties": values })
    }
}

impl<T: FromToml> FromToml for WithUnavailable<T> {
    type Value = WithUnavailable<T::Value>;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value> {
        let (value, unavailable) = reader.with_unavailable(|reader| T::read(node, reader));
        value.map(|value| WithUnavailable { value, unavailable })
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        T::schema(generator)
    }
}

/// The node as a table, or `None` once the reader knows that it is none.
pub fn table<'n, 'i>(node: &'n Node<'i>, reader: &mut Reader<'_>) -> Option<&'n DeTable<'i>> {
    let found = node.get_ref().as_table();
    if found.is_none() {
        reader.unexpected(node, "a table", "write it as a section, or in braces: { key = … }");
    }
    found
}

/// Whether the text is a whole URL with a scheme the gate speaks.
pub fn is_url(text: &str) -> bool {
    let uri = http::Uri::from_str(text).ok();
    matches!(uri.as_ref().and_then(http::Uri::scheme_str), Some("http" | "https"))
}

/// The value in JSON. A number that JSON has no word for is null, a date a text.
pub fn json(value: &DeValue<'_>) -> serde_json::Value {
    match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Integer(number) => {
            let number = i128::from_str_radix(number.as_str(), number.radix()).ok();
            let signed = number.and_then(|number| i64::try_from(number).ok());
            let unsigned = || number.and_then(|number| u64::try_from(number).ok());
            signed.map_or_else(|| unsigned().into(), Into::into)
        }
        DeValue::Float(number) => number.as_str().parse::<f64>().ok().into(),
        DeValue::Boolean(flag) => (*flag).into(),
        DeValue::Datetime(date) => date.to_string().into(),
        DeValue::Array(items) => items.iter().map(|item| json(item.get_ref())).collect(),
        DeValue::Table(entries) => {
            let entries = entries.iter();
            entries.map(|(key, value)| (key.get_ref().to_string(), json(value.get_ref()))).collect()
        }
    }
}

fn integer(node: &Node<'_>) -> Option<usize> {
    let found = node.get_ref().as_integer()?;
    usize::from_str_radix(found.as_str(), found.radix()).ok()
}
