//! The texts in a JSON document: each as it is meant, whatever escapes it is written with, and
//! where it stands, so that a part of it can be written over and nothing else.

use std::{borrow::Cow, ops::Range};

use crate::mcp::{
    document::{Document, JsonNode},
    raw::Raw,
};

/// Digits of the shortest number that is looked at: those of a social security number.
const NUMBER_DIGITS_MIN: usize = 9;
/// Digits of the longest number that is looked at where it is written with a point or an exponent.
const NUMBER_DIGITS_MAX: usize = 64;

/// A text of a document.
#[derive(Debug)]
pub struct Text<'a> {
    /// The text without its escapes.
    pub meant: Cow<'a, str>,
    /// The position where it begins in the document, behind its quote.
    at: usize,
    /// The place where it stands as a whole, if it is a number.
    number: Option<Range<usize>>,
    /// The positions behind each escape: where that is in what is meant, and in what is written.
    escapes: Vec<(usize, usize)>,
}

/// A part of a document, and what is to stand there.
#[derive(Debug)]
pub struct Patch {
    pub place: Range<usize>,
    pub text: String,
}

impl Text<'_> {
    /// Returns where a part of what is meant stands in the document.
    pub fn place(&self, part: &Range<usize>) -> Range<usize> {
        if let Some(whole) = &self.number {
            return whole.clone();
        }
        self.written(part.start)..self.written(part.end)
    }

    /// Whether it is a number, which is written without quotes.
    pub fn is_number(&self) -> bool {
        self.number.is_some()
    }

    fn written(&self, meant: usize) -> usize {
        let before = self.escapes.partition_point(|(at, _)| *at <= meant);
        let (from, to) =
            before.checked_sub(1).and_then(|at| self.escapes.get(at).copied()).unwrap_or((0, 0));
        self.at + to + (meant - from)
    }
}

/// All texts of a document that are not empty, names of members too, and numbers that are long
/// enough to be of somebody; but for those in `except`.
pub fn texts<'a>(
    document: &'a Document,
    except: &'a [Range<usize>],
) -> impl Iterator<Item = Text<'a>> {
    document.texts_and_numbers(except).filter_map(|node| {
        let written = node.text();
        if node.first() != Some(b'"') {
            return number(written, node.range());
        }
        let inner = written.get(1..written.len().checked_sub(1)?)?;
        (!inner.is_empty()).then(|| read(inner, node.range().start + 1))
    })
}

/// A number as a text, where it is a whole one, in whatever way it is written.
fn number(written: &str, place: Range<usize>) -> Option<Text<'_>> {
    let meant = whole_digits(written.trim_start_matches('-'))?;
    let at = place.start;
    let is_long = NUMBER_DIGITS_MIN <= meant.len();
    is_long.then_some(Text { meant, at, number: Some(place), escapes: Vec::new() })
}

/// The digits of a whole number: `1.23e2` is `123`. None of one that has a fraction, or more digits
/// than what is looked for.
fn whole_digits(written: &str) -> Option<Cow<'_, str>> {
    if written.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(written.into());
    }
    let (mantissa, exponent) = written.split_once(['e', 'E']).unwrap_or((written, "0"));
    let exponent: isize = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let point = isize::try_from(whole.len()).ok()?.checked_add(exponent)?;
    let point = usize::try_from(point).ok().filter(|point| *point <= NUMBER_DIGITS_MAX)?;
    let all = [whole, fraction].concat();
    if all.bytes().skip(point).any(|byte| byte != b'0') {
        return None;
    }
    let digits: String = all.chars().chain(std::iter::repeat('0')).take(point).collect();
    Some(digits.trim_start_matches('0').to_owned().into())
}

/// A text that is JSON itself, with its escapes read: places are in that text.
pub fn unescaped(text: &str) -> Text<'_> {
    read(text, 0)
}

/// The document with these parts written over. They must not overlap, and stand in order.
pub fn patched(document: &Raw, patches: &[Patch]) -> Raw {
    if patches.is_empty() {
        return document.clone();
    }
    let text = document.as_str();
    let mut out = String::with_capacity(text.len());
    let mut copied = 0;
    for Patch { place, text: new } in patches {
        out.push_str(text.get(copied..place.start).unwrap_or_default());
        out.push_str(new);
        copied = place.end;
    }
    out.push_str(text.get(copied..).unwrap_or_default());
    Raw::trusted(out)
}

/// Returns where the members of these names stand at the top of a document.
pub fn members(document: &Document, names: &[&str]) -> Vec<Range<usize>> {
    let members = document.root().members();
    let is_one = |key: JsonNode<'_>| key.string().is_some_and(|key| names.contains(&&*key));
    members.filter(|(key, _)| is_one(*key)).map(|(_, value)| value.range()).collect()
}

/// Reads the text between two quotes. Half a surrogate is no character, and becomes U+FFFD.
fn read(inner: &str, at: usize) -> Text<'_> {
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Text { meant: inner.into(), at, number: None, escapes: Vec::new() };
    }
    let mut meant = String::with_capacity(inner.len());
    let mut escapes = Vec::new();
    let mut rest = inner;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        let (before, behind) = rest.split_at(at);
        let behind = behind.get(1..).unwrap_or_default();
        meant.push_str(before);
        let (c, taken) = escape(behind);
        meant.push(c);
        rest = behind.get(taken..).unwrap_or_default();
        escapes.push((meant.len(), inner.len() - rest.len()));
    }
    meant.push_str(rest);
    Text { meant: meant.into(), at, number: None, escapes }
}

/// Reads the character behind a backslash, and how many bytes stand for it.
fn escape(text: &str) -> (char, usize) {
    let unit = |text: &str| u32::from_str_radix(text.get(..4)?, 16).ok();
    match text.as_bytes().first() {
        Some(b'u') => {
            let Some(high) = text.get(1..).and_then(unit) else { return ('\u{FFFD}', 1) };
            if let Some(c) = char::from_u32(high) {
                return (c, 5);
            }
            let low = text.get(5..).and_then(|rest| rest.strip_prefix("\\u")).and_then(unit);
            let low = low.filter(|low| (0xDC00..0xE000).contains(low) && high < 0xDC00);
            let both = low
                .and_then(|low| char::from_u32(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)));
            both.map_or(('\u{FFFD}', 5), |c| (c, 11))
        }
        Some(b'n') => ('\n', 1),
        Some(b't') => ('\t', 1),
        Some(b'r') => ('\r', 1),
        Some(b'b') => ('\u{8}', 1),
        Some(b'f') => ('\u{c}', 1),
        Some(other) => (char::from(*other), 1),
        None => ('\u{FFFD}', 0),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_is_read_as_it_is_meant() {
        let document = Document::new(Raw::trusted(
            r#"{"a\u0041":["\\\"\/\n\u00e9","é\ud83d\ude00x","\ud83d!"],"skip":{"b":"c"},"n":1}"#,
        ));
        let skipped = members(&document, &["skip"]);
        let found: Vec<_> = texts(&document, &skipped).map(|text| text.meant).collect();
        let want = ["aA", "\\\"/\né", "é😀x", "\u{FFFD}!", "skip", "n"];
        assert_eq!(found, want);
    }

    #[test]
    fn a_whole_number_has_its_digits_however_it_is_written() {
        for written in [
            "4111111111111111",
            "-4111111111111111",
            "4111111111111111.0",
            "4111111111111111.000e0",
            "4.111111111111111e15",
            "4.111111111111111E+15",
            "41111111111111110e-1",
            "4111111111111111000e-003",
            "0.4111111111111111e16",
            "411111111111.1111e4",
        ] {
            let document = Document::new(Raw::trusted(format!("[{written}]")));
            let found: Vec<_> = texts(&document, &[]).collect();
            assert_eq!(found.len(), 1, "{written}");
            assert_eq!((&*found[0].meant, found[0].is_number()), ("4111111111111111", true));
            assert_eq!(found[0].place(&(0..1)), 1..1 + written.len(), "{written}");
        }
        for other in ["12345678", "1234567890.5", "1e-9", "123456789e-1", "1e400", "1e99999999999"]
        {
            let document = Document::new(Raw::trusted(format!("[{other}]")));
            assert_eq!(texts(&document, &[]).count(), 0, "{other}");
        }
    }

    /// Each character is written as it is, or escaped.
    fn written(text: &str, escaped: &[bool]) -> String {
        let mut out = String::from("\"");
        for (at, c) in text.chars().enumerate() {
            if escaped.get(at % escaped.len()) == Some(&true) || (c as u32) < 0x20 {
                let units = c.encode_utf16(&mut [0; 2]).to_vec();
                out.extend(units.iter().map(|unit| format!("\\u{unit:04x}")));
            } else if c == '"' || c == '\\' {
                out.extend(['\\', c]);
            } else {
                out.push(c);
            }
        }
        out + "\""
    }

    proptest! {
        #[test]
        fn a_part_is_written_over_and_nothing_else(
            before in "\\PC{0,6}", part in "\\PC{1,6}", after in "\\PC{0,6}",
            escaped in prop::collection::vec(any::<bool>(), 1..5),
        ) {
            let whole = format!("{before}{part}{after}");
            let raw = Raw::trusted(format!("[ 1e400, {} ]", written(&whole, &escaped)));
            let document = Document::new(raw.clone());
            let found = texts(&document, &[]).next().unwrap();
            prop_assert_eq!(&found.meant, &whole);
            let place = found.place(&(before.len()..before.len() + part.len()));
            let new = patched(&raw, &[Patch { place: place.clone(), text: "[x]".into() }]);
            let tail = raw.as_str().get(place.end..).unwrap();
            prop_assert!(new.as_str().ends_with(tail));
            let want = format!("{before}[x]{after}");
            let again = Document::new(new);
            prop_assert_eq!(&texts(&again, &[]).next().unwrap().meant, &want);
        }
    }
}
