//! Server capabilities, merged: what the upstreams really have, and what the gate adds for all.

use serde_json::{Map, Value, json};

use crate::mcp::meta::TASKS;

/// Extensions that the gate carries: their methods, or nothing but data. Others are not announced:
/// what they need could not be relayed.
const CARRIED: [&str; 2] = [TASKS, "io.modelcontextprotocol/ui"];

/// Adds what one server has. Sections that only some servers know are taken from the first.
pub fn merge(all: &mut Map<String, Value>, has: &Map<String, Value>) {
    for key in ["tools", "prompts", "resources"] {
        if has.contains_key(key) {
            // The gate itself announces changes, whatever the server behind it does.
            section(all, key).insert("listChanged".to_owned(), true.into());
        }
    }
    if has.get("resources").and_then(|resources| resources.get("subscribe")) == Some(&true.into()) {
        section(all, "resources").insert("subscribe".to_owned(), true.into());
    }
    for key in ["completions", "logging"] {
        if has.contains_key(key) {
            section(all, key);
        }
    }
    if let Some(Value::Object(extensions)) = has.get("extensions") {
        let known = section(all, "extensions");
        for (id, settings) in extensions.iter().filter(|(id, _)| CARRIED.contains(&id.as_str())) {
            known.entry(id).or_insert_with(|| settings.clone());
        }
    }
}

/// Adds what the gate itself offers of a legacy server's tools: calls that go on as tasks.
pub fn offer_tasks(all: &mut Map<String, Value>) {
    section(all, "extensions").entry(TASKS).or_insert_with(|| json!({}));
}

/// A member that is an object, made where it is missing.
fn section<'a>(all: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let section = all.entry(key).or_insert_with(|| json!({}));
    if !section.is_object() {
        *section = json!({});
    }
    section.as_object_mut().expect("made an object just now")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_there_that_no_server_has() {
        let mut all = Map::new();
        let mut add = |has: Value| merge(&mut all, has.as_object().unwrap());
        add(json!({ "tools": {}, "extensions": { TASKS: { "x": 1 } } }));
        add(json!({ "resources": { "subscribe": true }, "extensions": { TASKS: {}, "c/d": {} } }));
        add(json!({ "completions": {}, "resources": {}, "tasks": {} }));
        let want = json!({
            "tools": { "listChanged": true },
            "resources": { "listChanged": true, "subscribe": true },
            "completions": {},
            "extensions": { TASKS: { "x": 1 } },
        });
        assert_eq!(Value::Object(all), want);
    }
}
