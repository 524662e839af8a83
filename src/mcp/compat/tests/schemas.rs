//! The published schemas, closed: a member that a version does not define is wrong, unless its name
//! begins with `x-`.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex},
};

use jsonschema::Validator;
use serde_json::{Map, Value, json};

use crate::mcp::version::Version;

/// Members whose values are open by their nature.
const OPEN: [&str; 3] = ["_meta", "inputSchema", "outputSchema"];

static SCHEMAS: LazyLock<HashMap<Version, Value>> = LazyLock::new(|| {
    let texts = [
        include_str!("../../../../tests/schemas/2024-11-05.json"),
        include_str!("../../../../tests/schemas/2025-03-26.json"),
        include_str!("../../../../tests/schemas/2025-06-18.json"),
        include_str!("../../../../tests/schemas/2025-11-25.json"),
        include_str!("../../../../tests/schemas/2026-07-28.json"),
    ];
    let read = |text| serde_json::from_str(text).expect("a schema");
    Version::ALL.into_iter().zip(texts.map(read)).collect()
});

static VALIDATORS: LazyLock<Mutex<HashMap<(Version, String), Validator>>> =
    LazyLock::new(Mutex::default);

/// Holds a value to a definition, by the name it has in 2025-11-25; an error says what is wrong.
pub(super) fn check(version: Version, name: &str, value: &Value) -> Result<(), String> {
    let mut all = VALIDATORS.lock().expect("no test panics in here");
    let validator = all.entry((version, name.to_owned())).or_insert_with(|| {
        let (pointer, _) = find(version, name).expect("a definition");
        let mut schema = SCHEMAS[&version].clone();
        for key in ["definitions", "$defs"] {
            let Some(all) = schema.get_mut(key).and_then(Value::as_object_mut) else { continue };
            let closed = all.iter_mut().filter(|(name, _)| !name.ends_with("MetaObject"));
            closed.for_each(|(_, schema)| close(schema));
        }
        schema["allOf"] = json!([{ "$ref": format!("#{pointer}") }]);
        jsonschema::validator_for(&schema).expect("a schema")
    });
    let wrong: Vec<_> = validator.iter_errors(value).map(|error| error.to_string()).collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

/// The names of the members that a version defines; none where it has no such thing.
pub(super) fn members(version: Version, name: &str) -> Option<Vec<String>> {
    let (_, found) = find(version, name)?;
    let keys = |found: &Value| {
        found["properties"].as_object().map(|all| all.keys().cloned().collect::<Vec<_>>())
    };
    // Of several forms, what any has.
    let forms = found["anyOf"].as_array().into_iter().flatten().filter_map(|form| {
        let pointer = form["$ref"].as_str()?.trim_start_matches('#');
        keys(SCHEMAS[&version].pointer(pointer)?)
    });
    Some(keys(found).into_iter().chain(forms).flatten().collect())
}

/// A definition by its path, `ClientCapabilities/properties/sampling`. Before 2025-11-25 params had
/// no name of their own, and before 2025-03-26 annotations had none.
fn find(version: Version, name: &str) -> Option<(String, &'static Value)> {
    let paths = [
        name.to_owned(),
        name.replace("Params", "/properties/params"),
        name.replace("Annotations", "Annotated/properties/annotations"),
        name.replace("ElicitRequestFormParams", "ElicitRequest/properties/params"),
    ];
    let schema = &SCHEMAS[&version];
    let pointers = paths
        .iter()
        .flat_map(|path| ["definitions", "$defs"].map(|home| format!("/{home}/{path}")));
    pointers.into_iter().find_map(|pointer| {
        let found = schema.pointer(&pointer)?;
        Some((pointer, found))
    })
}

fn close(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    for key in ["anyOf", "allOf", "oneOf"] {
        schema.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().for_each(close);
    }
    for key in ["items", "additionalProperties"] {
        schema.get_mut(key).into_iter().for_each(close);
    }
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else {
        return;
    };
    let inner = properties.iter_mut().filter(|(name, _)| !OPEN.contains(&name.as_str()));
    for (name, schema) in inner {
        close(schema);
        if name == "params" {
            // Any request has it, whether a schema says so or not.
            schema["patternProperties"]["^_meta$"] = json!({});
        }
    }
    close_members(schema);
}

fn close_members(schema: &mut Map<String, Value>) {
    if !schema.contains_key("additionalProperties") {
        schema.insert("additionalProperties".to_owned(), false.into());
        schema.insert("patternProperties".to_owned(), json!({ "^x-": {} }));
    }
}

#[test]
fn the_closed_schemas_know_their_own() {
    let tool = json!({ "name": "a", "inputSchema": { "type": "object", "z": 1 }, "x-a": 1 });
    let mut titled = tool.clone();
    titled["title"] = "A".into();
    for version in Version::ALL {
        assert_eq!(check(version, "Tool", &tool), Ok(()), "{version}");
        let knows = Version::V2025_06_18 <= version;
        assert_eq!(check(version, "Tool", &titled).is_ok(), knows, "{version}");
    }
}
