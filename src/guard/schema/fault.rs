//! Names the first fault of a value that does not fit its schema, in steps that are counted.
//!
//! The validator says quickly whether a value fits; what it says of why grows with the value and
//! with each alternative. Only what holds for certain is followed here (members, items, `allOf`,
//! references): a fault found there is one. Where there is none, the keywords that remain are
//! named as what may be wrong.

use serde_json::{Map, Value};

/// Nesting of value and schema together that is followed.
pub(super) const DEPTH_MAX: usize = 300;
/// Alternatives within alternatives whose types are named.
const TYPES_DEPTH_MAX: usize = 4;
/// Keywords that are not looked into that are named at most.
const SUSPECTS_MAX: usize = 3;

/// Keywords that may be what is wrong, and are not looked into.
const OPAQUE: [&str; 18] = [
    "anyOf",
    "oneOf",
    "not",
    "if",
    "enum",
    "const",
    "pattern",
    "multipleOf",
    "contains",
    "uniqueItems",
    "propertyNames",
    "patternProperties",
    "dependentSchemas",
    "dependentRequired",
    "dependencies",
    "unevaluatedProperties",
    "unevaluatedItems",
    "$dynamicRef",
];

/// Outcome of a search for the first fault.
#[derive(Debug, PartialEq, Eq)]
pub enum SchemaFault {
    /// The fault: the place, and what is expected there.
    Fault(String),
    /// The parts that may be wrong: places and keywords.
    Suspects(Vec<String>),
}

/// Looks for the first fault of a value, for so many steps; with what is left of them.
pub fn first(schema: &Value, value: &Value, steps_max: u64) -> (SchemaFault, u64) {
    let mut search = Search {
        draft: SchemaDraft::of(schema),
        steps: steps_max,
        path: Vec::new(),
        suspects: Vec::new(),
    };
    let fault = search.fault(schema, value, 0);
    let steps_left = search.steps;
    let found = fault.map_or_else(|| SchemaFault::Suspects(search.suspects), SchemaFault::Fault);
    (found, steps_left)
}

/// A schema, and how the draft that it is written by is read.
#[derive(Debug)]
pub(super) struct SchemaDraft<'a> {
    root: &'a Value,
    /// A reference stands alone, and what is beside it counts for nothing.
    pub(super) refs_alone: bool,
    has_prefix_items: bool,
    follows_refs: bool,
}

impl<'a> SchemaDraft<'a> {
    /// Tells the draft by `$schema`; 2020-12 where there is none.
    pub(super) fn of(root: &'a Value) -> Self {
        let draft = root.get("$schema").and_then(Value::as_str).unwrap_or("2020-12");
        Self {
            root,
            refs_alone: ["draft-07", "draft-06", "draft-04"].iter().any(|old| draft.contains(old)),
            has_prefix_items: draft.contains("2020-12"),
            follows_refs: !has_nested_id(root, true),
        }
    }

    /// The part of the same schema that a part refers to; none where that is not known.
    pub(super) fn referred(&self, members: &Map<String, Value>) -> Option<&'a Value> {
        let reference = members.get("$ref").and_then(Value::as_str)?;
        self.root.pointer(reference.strip_prefix('#').filter(|_| self.follows_refs)?)
    }

    /// The part that holds for the item of an array at this place.
    pub(super) fn item(&self, schema: &'a Value, at: usize) -> Option<&'a Value> {
        let prefix = schema.get("prefixItems").filter(|_| self.has_prefix_items);
        let first = prefix.or(schema.get("items")).and_then(Value::as_array);
        let rest = match schema.get("items") {
            // Older drafts: a list in `items`, and `additionalItems` after it.
            Some(Value::Array(_)) => schema.get("additionalItems"),
            items => items,
        };
        first.and_then(|first| first.get(at)).or(rest)
    }
}

/// Whether a part other than the whole is a resource of its own: references mean something else
/// within.
fn has_nested_id(part: &Value, is_root: bool) -> bool {
    match part {
        Value::Object(members) => {
            let named =
                ["$id", "id"].iter().any(|key| members.get(*key).is_some_and(Value::is_string));
            !is_root && named || members.values().any(|inner| has_nested_id(inner, false))
        }
        Value::Array(items) => items.iter().any(|inner| has_nested_id(inner, false)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

struct Search<'a> {
    draft: SchemaDraft<'a>,
    steps: u64,
    path: Vec<Step<'a>>,
    suspects: Vec<String>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Name(&'a str),
    At(usize),
}

impl<'a> Search<'a> {
    fn fault(&mut self, schema: &'a Value, value: &'a Value, depth: usize) -> Option<String> {
        self.steps = self.steps.checked_sub(1)?;
        if DEPTH_MAX < depth {
            return None;
        }
        let members = match schema {
            Value::Bool(false) => return Some(self.said("nothing is allowed here")),
            Value::Object(members) => members,
            Value::Null
            | Value::Bool(true)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => return None,
        };
        if members.get("$ref").is_some_and(Value::is_string) {
            let target = self.draft.referred(members);
            let fault = target.and_then(|target| self.fault(target, value, depth + 1));
            if target.is_none() {
                self.suspect("$ref", &[]);
            }
            if fault.is_some() || self.draft.refs_alone {
                return fault;
            }
        }
        if let Some(fault) = plain(schema, value) {
            return Some(self.said(&fault));
        }
        for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            if let Some(fault) = self.fault(part, value, depth + 1) {
                return Some(fault);
            }
        }
        let within = match value {
            Value::Object(_) => self.in_object(schema, value, depth),
            Value::Array(items) => self.in_array(schema, items, depth),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        };
        if within.is_some() {
            return within;
        }
        for keyword in OPAQUE.iter().filter(|keyword| members.contains_key(**keyword)) {
            let mut types = Vec::new();
            if matches!(*keyword, "anyOf" | "oneOf") {
                add_types(&self.draft, schema, &mut types, 0);
            }
            self.suspect(keyword, &types);
        }
        None
    }

    fn in_object(&mut self, schema: &'a Value, value: &'a Value, depth: usize) -> Option<String> {
        let properties = schema.get("properties").and_then(Value::as_object);
        let others = schema.get("additionalProperties");
        let by_pattern = schema.get("patternProperties").is_some();
        for (name, member) in value.as_object()? {
            let known = properties.and_then(|known| known.get(name));
            let part = match (known, others) {
                (Some(known), _) => Some(known),
                (None, Some(others)) if !by_pattern => Some(others),
                _ => None,
            };
            if known.is_none() && !by_pattern && others == Some(&Value::Bool(false)) {
                return Some(self.said(&format!("the property {name:?} is not allowed")));
            }
            let Some(part) = part else {
                self.steps = self.steps.checked_sub(1)?;
                continue;
            };
            self.path.push(Step::Name(name));
            let fault = self.fault(part, member, depth + 1);
            self.path.pop();
            if fault.is_some() {
                return fault;
            }
        }
        None
    }

    fn in_array(&mut self, schema: &'a Value, items: &'a [Value], depth: usize) -> Option<String> {
        for (at, item) in items.iter().enumerate() {
            let part = self.draft.item(schema, at)?;
            self.path.push(Step::At(at));
            let fault = self.fault(part, item, depth + 1);
            self.path.pop();
            if fault.is_some() {
                return fault;
            }
            if self.steps == 0 {
                return None;
            }
        }
        None
    }

    /// Items of arrays by their numbers, or as this says of all.
    fn place(&self, any: &str) -> String {
        if self.path.is_empty() {
            return "the whole".to_owned();
        }
        let steps = self.path.iter().map(|step| match step {
            Step::Name(name) => format!("/{}", name.replace('~', "~0").replace('/', "~1")),
            Step::At(at) if any.is_empty() => format!("/{at}"),
            Step::At(_) => format!("/{any}"),
        });
        format!("`{}`", steps.collect::<String>())
    }

    fn said(&self, what: &str) -> String {
        format!("{}: {what}", self.place(""))
    }

    /// The item of an array remains open: all of them are meant.
    fn suspect(&mut self, keyword: &str, types: &[String]) {
        if self.suspects.len() == SUSPECTS_MAX {
            return;
        }
        let place = match types.is_empty() {
            true => format!("{} (`{keyword}`)", self.place("*")),
            false => format!("{} (`{keyword}`, of types {types:?})", self.place("*")),
        };
        if !self.suspects.contains(&place) {
            self.suspects.push(place);
        }
    }
}

/// The types that a schema names for what stands at this JSON Pointer in a value, alternatives
/// included; none where it does not lead there by members, items and references alone.
pub(super) fn wanted_types(schema: &Value, pointer: &str) -> Vec<String> {
    let draft = SchemaDraft::of(schema);
    let mut part = Some(schema);
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        part = part.and_then(|part| {
            let part = part.as_object().and_then(|all| draft.referred(all)).unwrap_or(part);
            let named = part.get("properties").and_then(|known| known.get(&step));
            let item = step.parse().ok().and_then(|at| draft.item(part, at));
            named.or(item).or_else(|| part.get("additionalProperties"))
        });
    }
    let mut types = Vec::new();
    part.into_iter().for_each(|part| add_types(&draft, part, &mut types, 0));
    types
}

fn add_types(draft: &SchemaDraft<'_>, part: &Value, types: &mut Vec<String>, depth: usize) {
    let Some(members) = part.as_object().filter(|_| depth < TYPES_DEPTH_MAX) else { return };
    let named = match members.get("type") {
        Some(Value::String(only)) => vec![only.as_str()],
        Some(Value::Array(some)) => some.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    for name in named {
        if !types.iter().any(|known| known == name) {
            types.push(name.to_owned());
        }
    }
    let alternatives = ["anyOf", "oneOf"].iter().filter_map(|key| members.get(*key)?.as_array());
    for inner in draft.referred(members).into_iter().chain(alternatives.flatten()) {
        add_types(draft, inner, types, depth + 1);
    }
}

/// Names the fault of a value itself, by the keywords that can be told from it at once.
pub(super) fn plain(schema: &Value, value: &Value) -> Option<String> {
    let of_type = |name: &str| match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        // 1.0 is one, too.
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        _ => true,
    };
    match schema.get("type") {
        Some(Value::String(name)) if !of_type(name) => {
            return Some(format!("it is not of type {name:?}"));
        }
        Some(Value::Array(names)) if !names.iter().filter_map(Value::as_str).any(of_type) => {
            let names: Vec<_> = names.iter().filter_map(Value::as_str).collect();
            return Some(format!("it is of none of the types {names:?}"));
        }
        _ => (),
    }
    let number = |key: &str| schema.get(key).and_then(Value::as_f64);
    let counted = |count: Option<usize>, [least, most]: [&str; 2], of: &str| {
        let count = count? as f64;
        let few = number(least).filter(|least| count < *least);
        let many = number(most).filter(|most| *most < count);
        few.map(|least| format!("it has less than {least} {of}"))
            .or(many.map(|most| format!("it has more than {most} {of}")))
    };
    let object = value.as_object();
    if let (Some(object), Some(Value::Array(names))) = (object, schema.get("required"))
        && let Some(name) =
            names.iter().filter_map(Value::as_str).find(|name| !object.contains_key(*name))
    {
        return Some(format!("{name:?} is a required property"));
    }
    let items = value.as_array().map(Vec::len);
    let characters = || value.as_str().map(|text| text.chars().count());
    let measured = schema.get("minLength").or(schema.get("maxLength")).is_some();
    counted(object.map(Map::len), ["minProperties", "maxProperties"], "properties")
        .or_else(|| counted(items, ["minItems", "maxItems"], "items"))
        .or_else(|| {
            counted(characters().filter(|_| measured), ["minLength", "maxLength"], "characters")
        })
        .or_else(|| {
            let said = value.as_f64()?;
            let small = number("minimum").filter(|least| said < *least);
            let large = number("maximum").filter(|most| *most < said);
            small
                .map(|least| format!("it is less than {least}"))
                .or(large.map(|most| format!("it is more than {most}")))
        })
}
