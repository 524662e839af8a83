//! The cost of a schema, reckoned before it is compiled.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

/// Characters of a fault that are shown.
pub(super) const FAULT_CHARS_MAX: usize = 240;
/// Nesting of a schema's text.
pub(super) const DEPTH_MAX: usize = 64;

/// How deep parts lead to other parts, references followed: a compiler goes down as deep.
const HEIGHT_MAX: usize = 200;

/// Cost of a part that is not measured: one of the specification's own schemas.
const ELSEWHERE: u64 = 1_000;

/// Bounds of a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SchemaBounds {
    pub bytes_max: usize,
    pub parts_max: usize,
}

/// Why nothing can be held to a schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error("it has {0} bytes, more than `schema_bytes_max`")]
    TooLarge(usize),
    #[error("it is nested, or refers from one part to the next, too deep")]
    TooDeep,
    #[error("it has more parts than `schema_parts_max`, references followed")]
    TooManyParts,
    #[error("it is no JSON that can be read here")]
    Unreadable,
    /// A JSON Pointer to the pattern, and why no time is spent on it.
    #[error("at `{at}`: this pattern cannot be matched in linear time: {why}")]
    Pattern { at: String, why: &'static str },
    /// A JSON Pointer, and what is wrong there.
    #[error("at `{at}`: {why}")]
    Wrong { at: String, why: String },
}

/// Cost of one part, with all that it leads to.
#[derive(Debug, Clone, Copy, Default)]
struct Extent {
    parts: u64,
    height: usize,
    /// Parts, and each word of a list such as `enum` or `required`.
    weight: u64,
}

struct Measure<'a> {
    root: &'a Value,
    /// Parts that can be referred to by a name.
    names: Vec<(&'a str, &'a Value)>,
    /// The extents by the part's place in memory.
    known: HashMap<*const Value, Extent>,
    open: HashSet<*const Value>,
    recursive: bool,
}

impl<'a> Measure<'a> {
    fn of(&mut self, part: &'a Value, depth: usize) -> Result<Extent, Unusable> {
        if HEIGHT_MAX < depth {
            return Err(Unusable::TooDeep);
        }
        let place = std::ptr::from_ref(part);
        if let Some(known) = self.known.get(&place) {
            return Ok(*known);
        }
        if !self.open.insert(place) {
            self.recursive = true;
            return Ok(Extent::default());
        }
        let mut all: Vec<&Value> = match part {
            Value::Object(members) => members.values().collect(),
            Value::Array(items) => items.iter().collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
        };
        let words = all.len() as u64;
        all.retain(|inner| inner.is_object() || inner.is_array());
        let mut parts = 1_u64;
        let mut height = 0;
        let mut weight = 1 + words;
        for key in ["$ref", "$dynamicRef", "$recursiveRef"] {
            let Some(reference) = part.get(key).and_then(Value::as_str) else { continue };
            let found = self.find(reference);
            if found.is_empty() {
                self.recursive = true;
                parts += ELSEWHERE;
                weight += ELSEWHERE;
            }
            all.extend(found);
        }
        for inner in all {
            let more = self.of(inner, depth + 1)?;
            parts = parts.saturating_add(more.parts);
            weight = weight.saturating_add(more.weight);
            height = height.max(more.height);
        }
        self.open.remove(&place);
        let extent = Extent { parts, height: height + 1, weight };
        self.known.insert(place, extent);
        Ok(extent)
    }

    /// All that a reference may mean: rather too much than too little.
    fn find(&self, reference: &str) -> Vec<&'a Value> {
        let (base, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let fragment = percent_decoded(fragment);
        let within = |resource: &'a Value| {
            let named = self.names.iter().find(|(name, _)| *name == fragment);
            if fragment.is_empty() || fragment.starts_with('/') {
                resource.pointer(&fragment)
            } else {
                named.map(|(_, value)| *value)
            }
        };
        if base.is_empty() {
            // Relative to whatever part has a name of its own, or to the whole.
            let resources = self.names.iter().map(|(_, value)| *value).chain([self.root]);
            let mut found: Vec<_> = resources.filter_map(within).collect();
            found.sort_by_key(|value| std::ptr::from_ref(*value));
            found.dedup_by_key(|value| std::ptr::from_ref(*value));
            return found;
        }
        let last = |name: &str| {
            name.trim_end_matches('#').rsplit(['/', ':']).next().unwrap_or_default().to_owned()
        };
        let same = self.names.iter().filter(|(name, _)| last(name) == last(base));
        same.map(|(_, value)| within(value).unwrap_or(value)).collect()
    }
}

fn collect<'a>(part: &'a Value, names: &mut Vec<(&'a str, &'a Value)>) {
    match part {
        Value::Object(members) => {
            for key in ["$id", "id", "$anchor", "$dynamicAnchor"] {
                let name = members.get(key).and_then(Value::as_str);
                names.extend(name.map(|name| (name.trim_start_matches('#'), part)));
            }
            members.values().for_each(|inner| collect(inner, names));
        }
        Value::Array(items) => items.iter().for_each(|inner| collect(inner, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (),
    }
}

fn percent_decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| *first == b'%');
        rest = if byte.is_some() { tail.get(2..).unwrap_or_default() } else { tail };
        out.push(byte.unwrap_or(*first));
    }
    String::from_utf8_lossy(&out).into_owned()
}

pub(super) fn bounded(text: &str) -> String {
    match text.char_indices().nth(FAULT_CHARS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Whether it leads back to itself, and what one node of a value costs at most.
///
/// # Errors
/// Where it is too large, with each reference counted as what it leads to: few bytes can stand for
/// more than anybody can check.
pub(super) fn measure(schema: &Value, bounds: SchemaBounds) -> Result<(bool, u64), Unusable> {
    let mut names = Vec::new();
    collect(schema, &mut names);
    let mut measure = Measure {
        root: schema,
        names,
        known: HashMap::new(),
        open: HashSet::new(),
        recursive: false,
    };
    let Extent { parts, height, weight } = measure.of(schema, 0)?;
    if bounds.parts_max as u64 <= parts {
        return Err(Unusable::TooManyParts);
    }
    if HEIGHT_MAX < height {
        return Err(Unusable::TooDeep);
    }
    Ok((measure.recursive, weight))
}
