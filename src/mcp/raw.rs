//! A JSON value as the text it was received in.

use std::{borrow::Cow, fmt, ops::Range};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A JSON value: valid, UTF-8, and never re-encoded, so that numbers, key order, escapes and
/// unknown members stay what they were. A clone shares the bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Raw(Bytes);

/// Why a text is not the JSON that was expected.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    #[error("not valid JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("nested deeper than {0} levels")]
    TooDeep(usize),
    #[error("{0}")]
    Shape(&'static str),
}

impl Raw {
    /// Takes a whole text that must be one JSON value.
    ///
    /// # Errors
    /// Fails where the text is not one valid JSON value.
    #[cfg(any(test, feature = "internals"))]
    pub fn parse(text: &Bytes) -> Result<Self, Malformed> {
        let value: &RawValue = serde_json::from_slice(text)?;
        Ok(Self::part(text, value))
    }

    /// The slice of `whole` that `part` was parsed from; no copy.
    pub fn part(whole: &Bytes, part: &RawValue) -> Self {
        Self(whole.slice_ref(part.get().as_bytes()))
    }

    /// The slice of `whole` that a value was found in; no copy.
    pub(super) fn found(whole: &Bytes, value: &[u8]) -> Self {
        Self(whole.slice_ref(value))
    }

    /// The value that stands there in this one, sharing its bytes.
    pub(super) fn slice(&self, range: Range<usize>) -> Self {
        Self(self.0.slice(range))
    }

    /// A text of the gateway's own making.
    ///
    /// The caller vouches that it is one valid JSON value.
    pub fn trusted(text: impl Into<Bytes>) -> Self {
        Self(text.into())
    }

    /// Encodes a value of the gateway's own.
    pub fn encode(value: &impl Serialize) -> Self {
        Self(serde_json::to_vec(value).expect("our own types have string keys only").into())
    }

    pub fn object() -> Self {
        Self(Bytes::from_static(b"{}"))
    }

    /// Reads it as `T`, which may borrow from it.
    ///
    /// # Errors
    /// Fails where it has another shape.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Malformed> {
        Ok(serde_json::from_slice(&self.0)?)
    }

    /// Reads it as `T`, or nothing where it has another shape.
    pub fn try_read<'a, T: Deserialize<'a>>(&'a self) -> Option<T> {
        serde_json::from_slice(&self.0).ok()
    }

    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("checked when made")
    }

    /// Whether both are the same bytes at the same place; two texts that are alike may not be.
    pub fn is(&self, other: &Self) -> bool {
        self.0.as_ptr() == other.0.as_ptr() && self.0.len() == other.0.len()
    }

    pub fn is_object(&self) -> bool {
        self.0.first() == Some(&b'{')
    }
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl Serialize for Raw {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value: &RawValue =
            serde_json::from_str(self.as_str()).map_err(serde::ser::Error::custom)?;
        value.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self(Bytes::copy_from_slice(value.get().as_bytes())))
    }
}

/// Refuses a text nested deeper than `depth_max`, before any parser sees it.
///
/// # Errors
/// Fails where the text is nested more deeply.
pub fn check_depth(text: &[u8], depth_max: usize) -> Result<(), Malformed> {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => at = string_end(text, at),
            b'{' | b'[' => {
                depth += 1;
                if depth_max < depth {
                    return Err(Malformed::TooDeep(depth_max));
                }
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                at += 1;
            }
            _ => at += 1,
        }
    }
    Ok(())
}

/// The text of a JSON string; borrowed where it has no escapes.
pub fn string_of(value: &RawValue) -> Option<Cow<'_, str>> {
    text_of(value.get())
}

/// Reads a JSON string as it is written; borrowed where it has no escapes. None for what is no
/// string, and for one with half a surrogate.
pub fn text_of(written: &str) -> Option<Cow<'_, str>> {
    let inner = written.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str(written).ok().map(Cow::Owned)
}

/// Just past the string whose opening quote is at `at`; the text's end where it does not close.
pub fn string_end(text: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while let Some(step) = text.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += step;
        if text.get(at) == Some(&b'"') {
            return at + 1;
        }
        at += 2;
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_counted_outside_strings() {
        assert!(check_depth(br#"{"a":["[[[[",{"b":"\"[["}]}"#, 3).is_ok());
        assert!(matches!(check_depth(b"[[[[", 3), Err(Malformed::TooDeep(3))));
        assert!(check_depth("[".repeat(1_000_000).as_bytes(), 64).is_err());
    }

    #[test]
    fn a_part_shares_the_bytes_it_came_in() {
        let body = Bytes::from_static(br#"{"n":1234567890123456789012345678901234567890}"#);
        let raw = Raw::parse(&body).unwrap();
        let map: std::collections::HashMap<&str, &RawValue> = raw.read().unwrap();
        let part = Raw::part(&body, map["n"]);
        assert_eq!(part.as_str(), "1234567890123456789012345678901234567890");
        assert_eq!(part.bytes().as_ptr(), body[5..].as_ptr());
    }
}
