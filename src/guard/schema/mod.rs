//! One JSON Schema, compiled within bounds: 2020-12 where it does not say otherwise, draft-07 and
//! the others where `$schema` does. Nothing is fetched for it, from nowhere.

mod fault;

use std::collections::{HashMap, HashSet};

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use crate::mcp::raw::{Raw, check_depth};

use self::fault::SchemaFault;

/// Nesting of a schema's text.
const DEPTH_MAX: usize = 64;
/// How deep parts lead to other parts, references followed: a compiler goes down as deep.
const HEIGHT_MAX: usize = 200;
/// Bytes of one compiled `pattern`, and of what it keeps while it runs.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// Cost of a part that is not measured: one of the specification's own schemas.
const ELSEWHERE: u64 = 1_000;
/// Faults that are named of a small value, and characters of each: a model mends one after the
/// other anyway.
const FAULTS_MAX: usize = 3;
const FAULT_CHARS_MAX: usize = 240;
/// The validator gathers each fault, and all of each alternative, before it names the first: some
/// hundreds of bytes for each step. It is asked only where it needs no more steps than this.
const NAMED_WORK_MAX: u64 = 10_000;
/// Steps in which the first fault of a larger value is looked for.
const SEARCH_STEPS_MAX: u64 = 2_000_000;

/// Bounds of a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SchemaBounds {
    pub bytes_max: usize,
    pub parts_max: usize,
}

/// A schema that values can be held to.
#[derive(Debug)]
pub struct Checker {
    validator: Validator,
    schema: Value,
    /// Steps that one node of a value costs at most.
    weight: u64,
    /// The schema leads back to itself: the validator could take forever to name what is wrong, not
    /// to know that something is (it remembers what it has seen).
    recursive: bool,
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
    #[error("{0}")]
    Wrong(String),
}

impl Checker {
    /// Compiles a schema.
    ///
    /// # Errors
    /// Where it is beyond the bounds, refers to what is not in it, or has a pattern that cannot be
    /// matched in linear time (look-around, back-references).
    pub fn new(text: &Raw, bounds: SchemaBounds) -> Result<Self, Unusable> {
        if bounds.bytes_max < text.bytes().len() {
            return Err(Unusable::TooLarge(text.bytes().len()));
        }
        check_depth(text.bytes(), DEPTH_MAX).map_err(|_deep| Unusable::TooDeep)?;
        let schema: Value = text.try_read().ok_or(Unusable::Unreadable)?;
        let (recursive, weight) = measure(&schema, bounds)?;
        let patterns =
            PatternOptions::regex().size_limit(PATTERN_BYTES_MAX).dfa_size_limit(PATTERN_BYTES_MAX);
        let validator = jsonschema::options()
            .offline()
            .with_pattern_options(patterns)
            // An annotation by both specifications, unless one asks for more.
            .should_validate_formats(false)
            .build(&schema)
            .map_err(|error| Unusable::Wrong(bounded(&error.masked().to_string())))?;
        Ok(Self { validator, schema, weight, recursive })
    }

    /// The most that it can cost to hold a value of this size ([`super::value::size`]) to it, in
    /// steps: each part of the schema at each node of the value. A step takes some nanoseconds, and
    /// once begun it cannot be interrupted.
    pub fn work(&self, size: u64) -> u64 {
        size.saturating_mul(self.weight)
    }

    /// Holds a value of this size to it, in time linear in [`Checker::work`] and memory linear in
    /// the value.
    ///
    /// # Errors
    /// What is wrong, for whoever made the value: where, and what is expected, but none of the
    /// values themselves.
    pub fn check(&self, value: &Value, size: u64) -> Result<(), String> {
        if self.fits(value) {
            return Ok(());
        }
        if self.recursive || NAMED_WORK_MAX < self.work(size) {
            return Err(self.first_fault(value));
        }
        let faults = self.validator.iter_errors(value).take(FAULTS_MAX).map(|error| {
            let path = error.instance_path().to_string();
            let place = if path.is_empty() { "the whole".to_owned() } else { format!("`{path}`") };
            bounded(&format!("{place}: {}", error.masked_with("it")))
        });
        Err(faults.collect::<Vec<_>>().join("; "))
    }

    /// Whether a value fits.
    pub fn fits(&self, value: &Value) -> bool {
        self.validator.is_valid(value)
    }

    fn first_fault(&self, value: &Value) -> String {
        match fault::first(&self.schema, value, SEARCH_STEPS_MAX).0 {
            SchemaFault::Fault(fault) => bounded(&fault),
            SchemaFault::Suspects(places) if places.is_empty() => {
                "something does not fit the schema".to_owned()
            }
            SchemaFault::Suspects(places) => {
                bounded(&format!("something does not fit the schema: {}", places.join(", or ")))
            }
        }
    }
}

fn bounded(text: &str) -> String {
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
fn measure(schema: &Value, bounds: SchemaBounds) -> Result<(bool, u64), Unusable> {
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
    /// By the part's place in memory.
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
        let (mut parts, mut height, mut weight) = (1_u64, 0, 1 + words);
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
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| *first == b'%');
        rest = if byte.is_some() { tail.get(2..).unwrap_or_default() } else { tail };
        out.push(byte.unwrap_or(*first));
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests;
