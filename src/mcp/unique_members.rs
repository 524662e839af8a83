//! Members of an object by names known beforehand, each there once: also to a reader that does not
//! tell cases apart.
//!
//! Some servers (Go's `encoding/json`) take `Name` for `name`, and the last of the two. What one
//! reader judges and another acts on must be the same, so a member that is a known one but for its
//! case is refused.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Reads an object; the values come in the order of the names, and `null` is one.
pub struct UniqueMembers<const N: usize>(pub &'static [&'static str; N]);

/// The name, of those looked for, that a key is.
#[derive(Clone, Copy)]
struct Key(&'static [&'static str]);

/// Whether a reader that folds cases takes both for one name, by Unicode's simple folding: U+017F
/// is an `s` then, and U+212A a `k`.
pub fn is_same_name(one: &str, other: &str) -> bool {
    if one.is_ascii() && other.is_ascii() {
        return one.eq_ignore_ascii_case(other);
    }
    let folded = |text: &str| {
        text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect::<String>()
    };
    folded(one) == folded(other)
}

/// Reads a text that holds nothing but an object.
///
/// # Errors
/// Where it is none, or a member of a known name is there twice or in another case.
pub fn read_unique<const N: usize>(
    text: &[u8],
    names: UniqueMembers<N>,
) -> serde_json::Result<[Option<&RawValue>; N]> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let values = names.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(values)
}

impl<'de, const N: usize> DeserializeSeed<'de> for UniqueMembers<N> {
    type Value = [Option<&'de RawValue>; N];

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for UniqueMembers<N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = [None; N];
        while let Some(at) = map.next_key_seed(Key(self.0))? {
            let value: &RawValue = map.next_value()?;
            match at.and_then(|at| values.get_mut(at)) {
                Some(Some(_)) => return Err(A::Error::custom("a member appears twice")),
                Some(place) => *place = Some(value),
                None => (),
            }
        }
        Ok(values)
    }
}

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        if let Some(at) = self.0.iter().position(|name| *name == key) {
            return Ok(Some(at));
        }
        match self.0.iter().find(|name| is_same_name(name, key)) {
            Some(name) => Err(E::custom(format!("the member `{name}` is written in another case"))),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<[Option<&RawValue>; 2], serde_json::Error> {
        read_unique(text.as_bytes(), UniqueMembers(&["name", "task"]))
    }

    #[test]
    fn a_name_is_one_in_any_case() {
        for (one, other, want) in [
            ("limit", "LIMIT", true),
            ("task", "ta\u{17f}k", true),
            ("task", "tas\u{212a}", true),
            ("größe", "GRÖSSE", true),
            ("limit", "limits", false),
            ("a_b", "a-b", false),
        ] {
            assert_eq!(is_same_name(one, other), want, "{one} {other}");
        }
    }

    #[test]
    fn a_known_member_is_there_once_and_as_it_is_written() {
        let [name, task] = read(r#"{"other":1,"n\u0061me":{"Name":2},"NAMES":3}"#).unwrap();
        assert_eq!((name.map(RawValue::get), task.is_none()), (Some(r#"{"Name":2}"#), true));
        for wrong in [
            r#"{"name":1,"name":2}"#,
            r#"{"name":1,"Name":2}"#,
            r#"{"NAME":1}"#,
            r#"{"ta\u017fk":1}"#,
            r#"{"tas\u212A":1}"#,
            "[1,2]",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
