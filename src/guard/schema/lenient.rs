//! Reads arguments that do not fit a tool's schema as a lenient server would read them.
//!
//! Many servers convert what they get (Pydantic, `z.coerce`), pass over members that they do not
//! know (zod), or check nothing. The value that such a server would make of the arguments is made
//! here as well, and the strict schema decides of it: an enum, a bound and a required member hold
//! for the converted value. Nothing is widened within `not`, `oneOf` and `if`: what these speak of
//! stays as it was sent. `docs/guard.md` has what was measured of the frameworks.

use serde::de::IgnoredAny;
use serde_json::{Map, Number, Value};

use crate::{
    guard::value,
    mcp::{document::Document, raw::Raw},
};

use super::fault::{DEPTH_MAX, SchemaDraft, plain};

/// Parts of schemas and values that are looked at for one call.
const STEPS_MAX: u64 = 200_000;

/// Bytes of a number that is read from a text: programs write no double that is longer.
const NUMBER_BYTES_MAX: usize = 400;

/// The word that the official Python SDK (`FastMCP`, `MCPServer`) writes behind a tool's name as
/// the title of its schema. Its servers parse a text where an argument is to be an array or an
/// object; no other framework that was measured does.
const PARSED_TITLE: &str = "Arguments";

/// Keywords within which nothing is widened, as far as they speak of a member.
const UNWIDENED: [&str; 8] =
    ["not", "if", "then", "else", "oneOf", "dependentSchemas", "dependentRequired", "dependencies"];

/// Keywords by which a schema speaks of members that it does not name.
const UNNAMED: [&str; 6] = [
    "additionalProperties",
    "patternProperties",
    "propertyNames",
    "unevaluatedProperties",
    "$ref",
    "$dynamicRef",
];

/// Keywords that may evaluate members on behalf of `unevaluatedProperties`.
const EVALUATING: [&str; 8] = [
    "$ref",
    "$dynamicRef",
    "allOf",
    "anyOf",
    "oneOf",
    "if",
    "dependentSchemas",
    "patternProperties",
];

/// The arguments as a lenient server would read them; none where that is no other value. What the
/// gate itself reads of an argument was sent, so one that `is_read` names stays as it is.
pub fn lenient(schema: &Value, arguments: Value, is_read: &dyn Fn(&str) -> bool) -> Option<Value> {
    let title = schema.get("title").and_then(Value::as_str);
    let mut reader = LenientReader {
        draft: SchemaDraft::of(schema),
        is_read,
        parses_texts: title.is_some_and(|title| title.ends_with(PARSED_TITLE)),
        steps: STEPS_MAX,
        depth: 0,
        is_other: false,
    };
    if !arguments.is_object() {
        return None;
    }
    let read = reader.read(schema, arguments, Scope { outer: None, level: 0 });
    reader.is_other.then_some(read)
}

struct LenientReader<'a> {
    draft: SchemaDraft<'a>,
    is_read: &'a dyn Fn(&str) -> bool,
    parses_texts: bool,
    steps: u64,
    depth: usize,
    /// What was read by now is another value than what was sent.
    is_other: bool,
}

/// The place in the arguments where a value stands, and the other schemas that hold for it.
#[derive(Clone, Copy)]
struct Scope<'s> {
    outer: Option<&'s Held<'s>>,
    /// The arguments themselves are on level 0, each of them on level 1.
    level: usize,
}

/// A schema that holds for a value, and those that hold for the same value besides.
#[derive(Clone, Copy)]
struct Held<'s> {
    schema: &'s Map<String, Value>,
    outer: Option<&'s Held<'s>>,
}

impl<'a> LenientReader<'a> {
    fn read(&mut self, schema: &'a Value, value: Value, scope: Scope<'_>) -> Value {
        self.steps = self.steps.saturating_sub(1);
        let Value::Object(members) = schema else { return value };
        if self.steps == 0 || DEPTH_MAX < self.depth {
            return value;
        }
        self.depth += 1;
        let read = self.read_by(schema, members, value, scope);
        self.depth -= 1;
        read
    }

    fn read_by(
        &mut self,
        schema: &'a Value,
        members: &'a Map<String, Value>,
        value: Value,
        scope: Scope<'_>,
    ) -> Value {
        let held = Held { schema: members, outer: scope.outer };
        let within = Scope { outer: Some(&held), ..scope };
        let value = match self.draft.referred(members) {
            Some(target) => self.read(target, value, within),
            None => value,
        };
        if members.contains_key("$ref") && self.draft.refs_alone {
            return value;
        }
        let parts = members.get("allOf").and_then(Value::as_array).into_iter().flatten();
        let value = parts.fold(value, |value, part| self.read(part, value, within));
        let value = self.read_any_of(members, value, within);
        match value {
            Value::Object(object) => self.read_object(members, object, &held, scope.level),
            Value::Array(items) => {
                let scope = Scope { outer: None, level: scope.level + 1 };
                let each = items.into_iter().enumerate().map(|(at, item)| {
                    match self.draft.item(schema, at) {
                        Some(part) => self.read(part, item, scope),
                        None => item,
                    }
                });
                Value::Array(each.collect())
            }
            scalar @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
                match held.widens_value() {
                    true => self.read_scalar(schema, scalar, scope),
                    false => scalar,
                }
            }
        }
    }

    /// Reads a value by the first alternative that it may fit then; one that may fit stays.
    fn read_any_of(
        &mut self,
        members: &'a Map<String, Value>,
        value: Value,
        scope: Scope<'_>,
    ) -> Value {
        let Some(Value::Array(branches)) = members.get("anyOf") else { return value };
        if branches.iter().any(|branch| self.may_fit(branch, &value)) {
            return value;
        }
        // Each alternative copies the value, which counts as what it is.
        let size = value::size(&value);
        for branch in branches {
            if self.steps <= size {
                self.steps = 0;
                break;
            }
            self.steps -= size;
            let was_other = std::mem::replace(&mut self.is_other, false);
            let read = self.read(branch, value.clone(), scope);
            if self.is_other && self.may_fit(branch, &read) {
                return read;
            }
            self.is_other = was_other;
        }
        value
    }

    fn read_object(
        &mut self,
        schema: &'a Map<String, Value>,
        mut object: Map<String, Value>,
        held: &Held<'_>,
        level: usize,
    ) -> Value {
        let properties = schema.get("properties").and_then(Value::as_object);
        let unevaluated = schema.get("unevaluatedProperties");
        let alone = !EVALUATING.iter().any(|keyword| schema.contains_key(*keyword));
        let others = schema.get("additionalProperties").or(unevaluated.filter(|_| alone));
        let others = others.filter(|_| !schema.contains_key("patternProperties"));
        let required = schema.get("required").and_then(Value::as_array);
        let names: Vec<String> = object.keys().cloned().collect();
        for name in names {
            if level == 0 && (self.is_read)(&name) {
                continue;
            }
            let known = properties.and_then(|known| known.get(&name));
            let (Some(part), Some(member)) = (known.or(others), object.get_mut(&name)) else {
                continue;
            };
            let is_unknown = known.is_none() && *part == Value::Bool(false);
            let is_it = |one: &Value| one.as_str() == Some(&name);
            let is_required = || required.is_some_and(|all| all.iter().any(is_it));
            let is_passed_over = match is_unknown {
                true => held.widens_name(&name),
                false => member.is_null() && !is_required() && !self.may_fit(part, &Value::Null),
            };
            if is_passed_over {
                object.remove(&name);
                self.is_other = true;
            } else if !is_unknown && held.widens_member(&name) {
                let said = member.take();
                *member = self.read(part, said, Scope { outer: None, level: level + 1 });
            }
        }
        Value::Object(object)
    }

    /// Converts a text, a number or a boolean to what is wanted, if it is nothing of that yet.
    fn read_scalar(&mut self, schema: &'a Value, value: Value, scope: Scope<'_>) -> Value {
        let wants = |name: &str| match schema.get("type") {
            Some(Value::String(only)) => only == name,
            Some(Value::Array(some)) => some.iter().any(|one| one.as_str() == Some(name)),
            _ => false,
        };
        let is_number = wants("number") || wants("integer");
        let read = match &value {
            Value::String(text) if !wants("string") => {
                let parsed = self.parses_texts && scope.level == 1;
                scalar_of(text, wants).or_else(|| parsed.then(|| parsed_of(text, wants))?)
            }
            Value::Number(number) if wants("string") && !is_number => {
                Some(Value::String(number.to_string()))
            }
            Value::Bool(flag) if wants("string") && !wants("boolean") => {
                Some(Value::String(flag.to_string()))
            }
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)
            | Value::Object(_) => None,
        };
        let Some(read) = read else { return value };
        self.is_other = true;
        match read {
            // Its members and items are converted as well.
            Value::Array(_) | Value::Object(_) => self.read(schema, read, scope),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => read,
        }
    }

    /// Whether nothing that is told at once speaks against a value.
    fn may_fit(&mut self, schema: &'a Value, value: &Value) -> bool {
        self.steps = self.steps.saturating_sub(1);
        let Value::Object(members) = schema else { return *schema != Value::Bool(false) };
        if self.steps == 0 || DEPTH_MAX < self.depth {
            return true;
        }
        self.depth += 1;
        let fits = self.parts_may_fit(schema, members, value);
        self.depth -= 1;
        fits
    }

    fn parts_may_fit(
        &mut self,
        schema: &'a Value,
        members: &'a Map<String, Value>,
        value: &Value,
    ) -> bool {
        let listed = |all: &Value| all.as_array().is_none_or(|all| all.contains(value));
        if plain(schema, value).is_some()
            || members.get("const").is_some_and(|only| only != value)
            || !members.get("enum").is_none_or(listed)
        {
            return false;
        }
        let target = self.draft.referred(members);
        let all = members.get("allOf").and_then(Value::as_array).into_iter().flatten();
        if !target.into_iter().chain(all).all(|part| self.may_fit(part, value)) {
            return false;
        }
        if let Some(Value::Array(any)) = members.get("anyOf")
            && !any.iter().any(|part| self.may_fit(part, value))
        {
            return false;
        }
        match value {
            Value::Object(object) => {
                let properties = members.get("properties").and_then(Value::as_object);
                let closed = members.get("additionalProperties") == Some(&Value::Bool(false))
                    && !members.contains_key("patternProperties");
                object.iter().all(|(name, member)| {
                    let known = properties.and_then(|known| known.get(name));
                    known.map_or(!closed, |part| self.may_fit(part, member))
                })
            }
            Value::Array(items) => items.iter().enumerate().all(|(at, item)| {
                self.draft.item(schema, at).is_none_or(|part| self.may_fit(part, item))
            }),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
        }
    }
}

impl<'s> Held<'s> {
    fn all(&self) -> impl Iterator<Item = &'s Map<String, Value>> {
        let mut next = Some(*self);
        std::iter::from_fn(move || {
            let held = next?;
            next = held.outer.copied();
            Some(held.schema)
        })
    }

    fn unwidened(&self) -> impl Iterator<Item = &'s Value> {
        self.all().flat_map(|schema| UNWIDENED.iter().filter_map(|keyword| schema.get(*keyword)))
    }

    /// Whether the value itself may be converted.
    fn widens_value(&self) -> bool {
        self.unwidened().next().is_none()
    }

    /// Whether a member may be converted.
    fn widens_member(&self, name: &str) -> bool {
        !self.unwidened().any(|part| speaks_of(part, name, false))
    }

    /// Whether a member that is one too many may be passed over.
    fn widens_name(&self, name: &str) -> bool {
        let counts = ["propertyNames", "maxProperties"];
        !self.unwidened().any(|part| speaks_of(part, name, true))
            && !self.all().any(|schema| counts.iter().any(|keyword| schema.contains_key(*keyword)))
    }
}

/// Whether a part of a schema may say something of a member of this name; `or_whether` it is there.
fn speaks_of(part: &Value, name: &str, or_whether: bool) -> bool {
    match part {
        Value::Object(members) => members.iter().any(|(key, inner)| {
            key == name || UNNAMED.contains(&key.as_str()) || speaks_of(inner, name, or_whether)
        }),
        Value::Array(items) => items.iter().any(|inner| speaks_of(inner, name, or_whether)),
        Value::String(text) => or_whether && text == name,
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The boolean or number that a text is, where one is wanted.
fn scalar_of(text: &str, wants: impl Fn(&str) -> bool) -> Option<Value> {
    let text = text.trim_matches([' ', '\t', '\r', '\n']);
    if wants("boolean") && matches!(text, "true" | "false") {
        return Some(Value::Bool(text == "true"));
    }
    if NUMBER_BYTES_MAX < text.len() || !(wants("number") || wants("integer")) {
        return None;
    }
    serde_json::from_str::<Number>(text).ok().map(Value::Number)
}

/// The array or object that a text is, where one is wanted. What reads two ways is none.
fn parsed_of(text: &str, wants: impl Fn(&str) -> bool) -> Option<Value> {
    let wanted = match text.trim_start().chars().next()? {
        '[' => "array",
        '{' => "object",
        _ => return None,
    };
    if !wants(wanted) {
        return None;
    }
    serde_json::from_str::<IgnoredAny>(text).ok()?;
    Document::new(Raw::trusted(text.trim().to_owned())).root().value().ok()
}
