//! Holds values to their shapes, and mends what can be mended.

use std::collections::HashSet;

use crate::mcp::{raw::Raw, splice};

use super::{
    shape::{Member, Shape, WHOLE_MAX, Without},
    text::is_moment,
};

const ANY_OBJECT: &[u8] = br#"{"type":"object"}"#;

/// Outcome of fitting a value.
pub(super) enum Fit {
    Right,
    Instead(Raw),
    Wrong,
}

pub(super) fn fitted(shape: &Shape, value: &Raw) -> Fit {
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
    let mut kept = Vec::with_capacity(values.len());
    let mut changed = false;
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
        // PHP makes this of an empty object.
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

pub(super) fn find<'a>(members: &'a [(String, Raw)], name: &str) -> Option<&'a Raw> {
    members.iter().find(|(known, _)| known == name).map(|(_, value)| value)
}

/// A name that two members have: parsers disagree about which of them counts.
pub(super) fn twice(members: &[(String, Raw)]) -> Option<&String> {
    let mut seen = HashSet::with_capacity(members.len());
    members.iter().map(|(name, _)| name).find(|name| !seen.insert(*name))
}

pub(super) fn edited(object: &Raw, edits: &[(&str, Option<Raw>)]) -> Raw {
    if edits.is_empty() {
        return object.clone();
    }
    let edits: Vec<_> = edits
        .iter()
        .map(|(name, value)| (*name, value.as_ref().map(|value| &value.bytes()[..])))
        .collect();
    splice::edit(object, &edits)
}
