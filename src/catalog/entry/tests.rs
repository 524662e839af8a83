//! Every case of `tests/data/entries.json`, and entries mutated at random: what is shown can be
//! read by the strictest client.

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{call::ListKind, mcp::raw::Raw};

use super::*;

const BOUNDS: EntryBounds = EntryBounds { bytes_max: 256 << 10, depth_max: 64 };

#[derive(Deserialize)]
struct Case {
    list: String,
    case: String,
    fate: String,
    entry: String,
    shown: Option<String>,
}

fn fitted(kind: ListKind, entry: &str) -> Result<Fitted, Flaw> {
    fit(kind, &Raw::trusted(entry.to_owned()), BOUNDS)
}

#[test]
fn every_known_case_has_its_fate() {
    let text = include_str!("../../../tests/data/entries.json");
    let cases: Vec<Case> = serde_json::from_str(text).unwrap();
    assert!(150 < cases.len());
    for Case { list, case, fate, entry, shown } in cases {
        let kind = match list.as_str() {
            "tools" => ListKind::Tools,
            "prompts" => ListKind::Prompts,
            "resources" => ListKind::Resources,
            "templates" => ListKind::Templates,
            other => unreachable!("{other}"),
        };
        let raw = Raw::trusted(entry.clone());
        match (fate.as_str(), fit(kind, &raw, BOUNDS)) {
            ("kept", Ok(fitted)) => {
                assert_eq!(fitted.raw.bytes().as_ptr(), raw.bytes().as_ptr(), "{list}: {case}");
                assert!(fitted.mended.is_empty(), "{list}: {case}");
            }
            ("mended", Ok(fitted)) => {
                assert_eq!(Some(fitted.raw.as_str()), shown.as_deref(), "{list}: {case}");
                assert!(!fitted.mended.is_empty(), "{list}: {case}");
                // Once is enough.
                let again = fit(kind, &fitted.raw, BOUNDS).unwrap();
                assert_eq!(again.raw.bytes().as_ptr(), fitted.raw.bytes().as_ptr());
            }
            ("left out", Err(_)) => (),
            (_, found) => panic!("{list}: {case}: {fate}, but {found:?}"),
        }
    }
}

#[test]
fn what_is_too_deep_or_too_large_is_left_out() {
    let deep = format!(r#"{{"name":"t","x":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(fitted(ListKind::Tools, &deep), Err(Flaw::Deep(64)));
    let large = format!(r#"{{"name":"t","description":"{}"}}"#, "x".repeat(256 << 10));
    assert_eq!(fitted(ListKind::Tools, &large), Err(Flaw::Large(256 << 10)));
    let said = Flaw::Large(256 << 10).to_string();
    assert!(said.contains("`entry_bytes_max`"), "{said}");
    let name = format!(r#"{{"name":"{}"}}"#, "n".repeat(NAME_BYTES_MAX + 1));
    assert_eq!(fitted(ListKind::Prompts, &name), Err(Flaw::LongName));
}

/// Reads an entry as the models of the official SDKs demand, written a second time and in another
/// way.
fn is_readable(kind: ListKind, entry: &Value) -> bool {
    let Some(entry) = entry.as_object() else { return false };
    let text =
        |object: &Map<String, Value>, key: &str| object.get(key).is_none_or(Value::is_string);
    let texts =
        |value: &Value| value.as_array().is_some_and(|all| all.iter().all(Value::is_string));
    let icon = |icon: &Value| {
        icon.as_object().is_some_and(|icon| {
            icon.get("src").is_some_and(Value::is_string)
                && text(icon, "mimeType")
                && icon.get("sizes").is_none_or(texts)
                && icon.get("theme").is_none_or(|theme| theme == "light" || theme == "dark")
        })
    };
    let schema = |schema: &Value, must_be_object: bool| {
        let is_schema = |one: &Value| one.is_object() || one.is_boolean();
        let all = |all: &Value| all.as_object().is_some_and(|all| all.values().all(is_schema));
        schema.as_object().is_some_and(|schema| {
            (!must_be_object || schema.get("type").is_some_and(|kind| kind == "object"))
                && schema.get("properties").is_none_or(all)
                && schema.get("required").is_none_or(texts)
                && text(schema, "$schema")
        })
    };
    let flags = |of: &Value, keys: &[&str]| {
        of.as_object().is_some_and(|of| {
            text(of, "title") && keys.iter().all(|key| of.get(*key).is_none_or(Value::is_boolean))
        })
    };
    let hints = ["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"];
    let argument = |one: &Value| {
        one.get("name").is_some_and(Value::is_string)
            && text(one.as_object().unwrap(), "description")
            && flags(one, &["required"])
    };
    let support = |it: &Value| it == "required" || it == "optional" || it == "forbidden";
    let own = match kind {
        ListKind::Tools => {
            entry.get("name").is_some_and(Value::is_string)
                && entry.get("inputSchema").is_some_and(|it| schema(it, true))
                && entry.get("outputSchema").is_none_or(|it| schema(it, false))
                && entry.get("annotations").is_none_or(|it| flags(it, &hints))
                && entry
                    .get("execution")
                    .is_none_or(|it| it.is_object() && it.get("taskSupport").is_none_or(support))
        }
        ListKind::Prompts => {
            entry.get("name").is_some_and(Value::is_string)
                && entry
                    .get("arguments")
                    .is_none_or(|it| it.as_array().is_some_and(|all| all.iter().all(argument)))
        }
        ListKind::Resources | ListKind::Templates => {
            let uri = if kind == ListKind::Resources { "uri" } else { "uriTemplate" };
            entry.get("name").is_some_and(Value::is_string)
                && entry.get(uri).is_some_and(Value::is_string)
                && text(entry, "mimeType")
                && entry.get("annotations").is_none_or(Value::is_object)
                && (kind == ListKind::Templates
                    || entry
                        .get("size")
                        .is_none_or(|size| size.as_f64().is_some_and(|size| size.fract() == 0.0)))
        }
    };
    own && text(entry, "title")
        && text(entry, "description")
        && entry.get("_meta").is_none_or(Value::is_object)
        && entry
            .get("icons")
            .is_none_or(|all| all.as_array().is_some_and(|all| all.iter().all(icon)))
}

/// A good entry of each list, with every member that clients know.
fn good(kind: ListKind) -> Value {
    let icons =
        json!([{ "src": "data:,", "mimeType": "image/png", "sizes": ["any"], "theme": "dark" }]);
    let schema =
        json!({ "type": "object", "properties": { "a": {}, "b": true }, "required": ["a"] });
    let annotations =
        json!({ "audience": ["user"], "priority": 1, "lastModified": "2025-01-12T15:00:58Z" });
    match kind {
        ListKind::Tools => json!({
            "name": "t", "title": "T", "description": "d", "inputSchema": schema,
            "outputSchema": schema, "icons": icons, "execution": { "taskSupport": "optional" },
            "annotations": { "title": "T", "readOnlyHint": true, "idempotentHint": false },
            "_meta": {}, "unknown": null,
        }),
        ListKind::Prompts => json!({
            "name": "p", "title": "P", "description": "d", "icons": icons, "_meta": {},
            "arguments": [{ "name": "a", "title": "A", "description": "d", "required": true }],
        }),
        ListKind::Resources => json!({
            "uri": "mem://one", "name": "r", "title": "R", "description": "d", "size": 1,
            "mimeType": "text/plain", "annotations": annotations, "icons": icons, "_meta": {},
        }),
        ListKind::Templates => json!({
            "uriTemplate": "mem://{x}", "name": "r", "title": "R", "description": "d",
            "mimeType": "text/plain", "annotations": annotations, "icons": icons, "_meta": {},
        }),
    }
}

/// All places in a value, as JSON pointers.
fn places(value: &Value, at: &str, all: &mut Vec<String>) {
    let each: Vec<(String, &Value)> = match value {
        Value::Object(members) => members.iter().map(|(key, value)| (key.clone(), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(n, v)| (n.to_string(), v)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    for (key, value) in each {
        let at = format!("{at}/{key}");
        all.push(at.clone());
        places(value, &at, all);
    }
}

fn anything() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        (-2.0..2.0).prop_map(|number: f64| Value::from(number)),
        "[a-z:/]{0,6}".prop_map(Value::from),
        Just(json!("object")),
        Just(json!([])),
        Just(json!({})),
        Just(json!([null, 7, "a", {}, []])),
        Just(json!({ "type": "object", "name": null, "title": 1, "properties": [] })),
    ]
}

/// A place, and what is put there; none: it is taken away.
fn change() -> impl Strategy<Value = (prop::sample::Index, Option<Value>)> {
    (any::<prop::sample::Index>(), prop::option::of(anything()))
}

proptest! {
    /// However an entry is changed, what is shown of it can be read; and what could be read is
    /// shown byte for byte.
    #[test]
    fn no_entry_spoils_a_list(
        kind in prop::sample::select(&ListKind::ALL[..]),
        changes in prop::collection::vec(change(), 0..4),
    ) {
        let mut entry = good(kind);
        for (place, change) in changes {
            let mut all = Vec::new();
            places(&entry, "", &mut all);
            if all.is_empty() { continue }
            let at = place.get(&all).clone();
            let (parent, key) = at.rsplit_once('/').unwrap();
            match (entry.pointer_mut(parent), change) {
                (Some(Value::Object(object)), None) => drop(object.remove(key)),
                (Some(_), Some(value)) => *entry.pointer_mut(&at).unwrap() = value,
                _ => (),
            }
        }
        let text = entry.to_string();
        let raw = Raw::trusted(text.clone());
        if let Ok(fitted) = fit(kind, &raw, BOUNDS) {
            let shown: Value = fitted.raw.read().unwrap();
            prop_assert!(is_readable(kind, &shown), "{text} is shown as {shown}");
            if is_readable(kind, &entry) && fitted.mended.is_empty() {
                prop_assert_eq!(fitted.raw.as_str(), text);
            }
            let key = shown.get(kind.key()).and_then(Value::as_str);
            prop_assert_eq!(key, Some(fitted.key.as_str()));
            prop_assert!(fit(kind, &fitted.raw, BOUNDS).unwrap().mended.is_empty(), "mended twice");
        } else {
            prop_assert!(!is_readable(kind, &entry) || fitted_needs_more(kind, &entry), "{text}");
        }
    }
}

/// Entries that are left out though the models take them: an empty key, or one that is no URI.
fn fitted_needs_more(kind: ListKind, entry: &Value) -> bool {
    let key = entry.get(kind.key()).and_then(Value::as_str).unwrap_or_default();
    key.is_empty() || kind == ListKind::Resources && !uri::is_url(key)
}
