//! A compiled schema, and what is wrong with a value by it.

use jsonschema::{PatternOptions, ValidationError, Validator, error::ValidationErrorKind};
use serde_json::Value;

use crate::{
    guard::value,
    mcp::raw::{Raw, check_depth},
};

use super::{
    fault::{self, SchemaFault},
    lenient,
    measure::{DEPTH_MAX, SchemaBounds, Unusable, bounded, measure},
    pattern,
};

/// Bytes of one compiled `pattern`, and of what it keeps while it runs.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Faults that are named of a small value, and characters of each: a model mends one after the
/// other anyway.
const FAULTS_MAX: usize = 3;

/// The validator gathers each fault, and all of each alternative, before it names the first: some
/// hundreds of bytes for each step. It is asked only where it needs no more steps than this.
const NAMED_WORK_MAX: u64 = 10_000;

/// Steps in which the first fault of a larger value is looked for.
pub(super) const SEARCH_STEPS_MAX: u64 = 2_000_000;

/// A schema that values can be held to.
#[derive(Debug)]
pub struct Checker {
    pub(super) validator: Validator,
    pub(super) schema: Value,
    /// Steps that one node of a value costs at most.
    pub(super) weight: u64,
    /// The schema leads back to itself: the validator could take forever to name what is wrong, not
    /// to know that something is (it remembers what it has seen).
    pub(super) recursive: bool,
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
        let mut translated = schema.clone();
        pattern::translate_all(&mut translated)
            .map_err(|found| Unusable::Pattern { at: bounded(&found.at), why: found.why })?;
        let validator = jsonschema::options()
            .offline()
            .with_pattern_options(patterns)
            // An annotation by both specifications, unless one asks for more.
            .should_validate_formats(false)
            .build(&translated)
            .map_err(|error| unusable(&schema, &error))?;
        Ok(Self { validator, schema, weight, recursive })
    }

    /// The most that it can cost to hold a value of this size (`guard::value::size`) to it, in
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
        let faults =
            self.validator.iter_errors(value).take(FAULTS_MAX).map(|error| self.said(&error));
        Err(faults.collect::<Vec<_>>().join("; "))
    }

    /// Whether the arguments fit as a lenient server would read them, if that is another value and
    /// costs no more than `work_max` steps to hold to it. An argument that `is_read` names is held
    /// to the schema as it was sent. Takes the arguments: a copy of large ones would take as much
    /// memory again.
    pub fn fits_leniently(
        &self,
        arguments: Value,
        work_max: u64,
        is_read: &dyn Fn(&str) -> bool,
    ) -> bool {
        let read = lenient::lenient(&self.schema, arguments, is_read);
        read.is_some_and(|read| self.work(value::size(&read)) <= work_max && self.fits(&read))
    }

    /// Whether a value fits.
    pub fn fits(&self, value: &Value) -> bool {
        self.validator.is_valid(value)
    }

    /// Says what is wrong with a value, in the words of the validator; of alternatives it knows
    /// only that none fits.
    fn said(&self, error: &ValidationError<'_>) -> String {
        let path = error.instance_path().to_string();
        let place = if path.is_empty() { "the whole".to_owned() } else { format!("`{path}`") };
        let is_of_alternatives = matches!(
            error.kind(),
            ValidationErrorKind::AnyOf { .. } | ValidationErrorKind::OneOfNotValid { .. }
        );
        let wanted = match is_of_alternatives {
            true => fault::wanted_types(&self.schema, error.instance_path().as_str()),
            false => Vec::new(),
        };
        match wanted.is_empty() {
            true => bounded(&format!("{place}: {}", error.masked_with("it"))),
            false => bounded(&format!(
                "{place}: it is of none of the types {wanted:?}, or does not fit one"
            )),
        }
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

/// Says where a schema is wrong, and why: a reference that leads out of it, or a keyword.
fn unusable(schema: &Value, error: &ValidationError<'_>) -> Unusable {
    let mut at = String::new();
    if let ValidationErrorKind::Referencing(_) = error.kind()
        && let Some(reference) = outward(schema, &mut at)
    {
        let why = format!("it refers to {reference:?}, which is not in it: nothing is fetched");
        return Unusable::Wrong { at: bounded(&at), why: bounded(&why) };
    }
    let place = error.instance_path();
    let place = if place.as_str().is_empty() { error.schema_path() } else { place };
    let why = bounded(&error.masked_with("it").to_string());
    Unusable::Wrong { at: bounded(place.as_str()), why }
}

/// The first reference that leads to nothing within the schema, and where it stands.
fn outward<'a>(part: &'a Value, at: &mut String) -> Option<&'a str> {
    let is_outward = |text: &&str| !text.starts_with('#');
    let found = part.get("$ref").and_then(Value::as_str).filter(is_outward);
    if found.is_some() {
        at.push_str("/$ref");
        return found;
    }
    let mut look = |step: &str, inner: &'a Value| {
        let before = at.len();
        at.push_str(&format!("/{step}"));
        let found = outward(inner, at);
        if found.is_none() {
            at.truncate(before);
        }
        found
    };
    match part {
        Value::Object(members) => members.iter().find_map(|(name, inner)| look(name, inner)),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(number, item)| look(&number.to_string(), item))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}
