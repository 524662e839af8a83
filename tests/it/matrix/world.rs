//! What a fake server of a version has: all that the version knows, in every list and result.

use serde_json::{Value, json};

use super::spec::{MODERN, V2024_11_05, V2025_03_26, V2025_06_18, V2025_11_25, Version};

/// The server's lists come in pages of so many entries.
pub const PAGE: usize = 4;

/// Tools, and the versions that have what they show: the first one, and the last.
const TOOLS: &[(&str, Version, Version)] = &[
    ("echo", V2024_11_05, MODERN),
    ("blocks", V2024_11_05, MODERN),
    ("fails", V2024_11_05, MODERN),
    ("work", V2024_11_05, MODERN),
    ("logs", V2024_11_05, MODERN),
    ("slow", V2024_11_05, MODERN),
    ("grow", V2024_11_05, MODERN),
    ("touch", V2024_11_05, MODERN),
    ("faithful", V2024_11_05, MODERN),
    ("sampling", V2024_11_05, MODERN),
    ("roots", V2024_11_05, MODERN),
    ("in_a_row", V2024_11_05, MODERN),
    ("at_once", V2024_11_05, MODERN),
    ("structured", V2025_06_18, MODERN),
    ("form", V2025_06_18, MODERN),
    ("url", V2025_11_25, MODERN),
    ("page", V2025_11_25, V2025_11_25),
    ("pings", V2024_11_05, V2025_11_25),
    ("headers", MODERN, MODERN),
];

/// A result that only a byte-exact relay leaves as it is: a number that no float holds, the way
/// numbers are spelled, escapes, the order of members, and a member that no version defines.
pub const FAITHFUL: &str = concat!(
    r#""content":[{"type":"text","text":"\u00e9\/\ud83d\ude00 <&>"}],"#,
    r#""x-vendor":{"z":12345678901234567890123,"a":[1.0,1e2,-0.0,"\u0000"]}"#
);

/// Whether a thing that came with `since` exists in `version`.
fn has(version: Version, since: Version) -> bool {
    since <= version
}

pub fn capabilities(version: Version) -> Value {
    let mut found = json!({
        "tools": { "listChanged": true },
        "prompts": { "listChanged": true },
        "resources": { "listChanged": true, "subscribe": true },
        "logging": {},
    });
    if has(version, V2025_03_26) {
        found["completions"] = json!({});
    }
    found
}

pub fn newest() -> Version {
    MODERN
}

/// What a client of a version can be asked.
pub fn client_capabilities(version: Version) -> Value {
    let mut found = json!({ "roots": {}, "sampling": {} });
    if version != MODERN {
        found["roots"] = json!({ "listChanged": true });
    }
    if has(version, V2025_11_25) {
        found["elicitation"] = json!({ "form": {}, "url": {} });
    } else if has(version, V2025_06_18) {
        found["elicitation"] = json!({});
    }
    found
}

/// A server or client about itself.
pub fn implementation(version: Version, name: &str) -> Value {
    let mut about = json!({ "name": name, "version": "1" });
    if has(version, V2025_06_18) {
        about["title"] = "A title".into();
    }
    if has(version, V2025_11_25) {
        about["websiteUrl"] = "https://example.org".into();
    }
    about
}

/// Puts on an entry what its version has to say about any.
fn described(version: Version, mut entry: Value) -> Value {
    entry["description"] = "What it is".into();
    if has(version, V2025_06_18) {
        entry["title"] = "A title".into();
        entry["_meta"] = json!({ "example.org/own": 1 });
    }
    if has(version, V2025_11_25) {
        entry["icons"] = json!([{ "src": "https://example.org/icon.png" }]);
    }
    entry
}

pub fn tool_names(version: Version) -> Vec<&'static str> {
    let known = |(_, from, to): &&(&str, Version, Version)| *from <= version && version <= *to;
    TOOLS.iter().filter(known).map(|(name, ..)| *name).collect()
}

pub fn tool(version: Version, name: &str) -> Value {
    let mut schema = json!({ "type": "object", "properties": { "text": { "type": "string" } } });
    if name == "headers" {
        schema["properties"]["text"]["x-mcp-header"] = "Text".into();
    }
    let mut tool = described(version, json!({ "name": name, "inputSchema": schema }));
    if has(version, V2025_03_26) {
        tool["annotations"] = json!({ "readOnlyHint": true });
    }
    if name == "structured" && has(version, V2025_06_18) {
        let properties = json!({ "n": { "type": "integer" } });
        tool["outputSchema"] = json!({ "type": "object", "properties": properties });
    }
    if version == V2025_11_25 {
        tool["execution"] = json!({ "taskSupport": "forbidden" });
    }
    tool
}

pub fn prompts(version: Version) -> Vec<Value> {
    let prompt = |name: &str| {
        let arguments = json!([{ "name": "topic", "description": "About what" }]);
        described(version, json!({ "name": name, "arguments": arguments }))
    };
    ["greet", "asks"].map(prompt).to_vec()
}

pub fn resources(version: Version) -> Vec<Value> {
    let resource = |uri: &str| {
        let resource = json!({ "uri": uri, "name": "r", "mimeType": "text/plain",
            "annotations": { "audience": ["user"], "priority": 0.5 } });
        described(version, resource)
    };
    ["note:///text", "note:///blob", "note:///asks"].map(resource).to_vec()
}

pub fn templates(version: Version) -> Vec<Value> {
    vec![described(version, json!({ "uriTemplate": "item:///{id}", "name": "items" }))]
}

/// One content block of every kind that the version has.
pub fn blocks(version: Version) -> Vec<Value> {
    let annotations = json!({ "audience": ["user"] });
    let contents = json!({ "uri": "note:///text", "text": "noted" });
    let mut blocks = vec![
        json!({ "type": "text", "text": "one", "annotations": annotations }),
        json!({ "type": "image", "data": "aGk=", "mimeType": "image/png" }),
        json!({ "type": "resource", "resource": contents }),
    ];
    if has(version, V2025_03_26) {
        blocks.push(json!({ "type": "audio", "data": "aGk=", "mimeType": "audio/wav" }));
    }
    if has(version, V2025_06_18) {
        let mut link = json!({ "type": "resource_link", "uri": "note:///text", "name": "r" });
        link["title"] = "A title".into();
        blocks.push(link);
    }
    blocks
}

/// What a server of this version asks under this name, in rounds.
pub fn questions(version: Version, name: &str) -> Vec<Vec<(&'static str, Value)>> {
    let text = json!({ "type": "text", "text": "Say something" });
    let messages = json!([{ "role": "user", "content": text }]);
    let sampling = ("sampling/createMessage", json!({ "messages": messages, "maxTokens": 9 }));
    let roots = ("roots/list", json!({}));
    let fields = json!({ "name": { "type": "string", "title": "Name" } });
    let schema = json!({ "type": "object", "properties": fields, "required": ["name"] });
    let mut form = json!({ "message": "Who?", "requestedSchema": schema });
    let mut url = json!({ "mode": "url", "message": "Go", "url": "https://example.org/go" });
    if has(version, V2025_11_25) {
        form["mode"] = "form".into();
    }
    if version == V2025_11_25 {
        url["elicitationId"] = "e1".into();
    }
    match name {
        "sampling" => vec![vec![sampling]],
        "roots" | "asks" | "note:///asks" => vec![vec![roots]],
        "form" => vec![vec![("elicitation/create", form)]],
        "url" | "page" => vec![vec![("elicitation/create", url)]],
        "in_a_row" => vec![vec![sampling], vec![roots]],
        "at_once" => vec![vec![sampling, roots]],
        _ => vec![],
    }
}

/// The error of a client that will not answer.
pub fn refusal() -> Value {
    json!({ "code": -1, "message": "the user said no" })
}

/// What a client of this version answers.
pub fn answer(method: &str, params: &Value) -> Value {
    match method {
        "sampling/createMessage" => json!({
            "role": "assistant", "model": "m", "content": { "type": "text", "text": "sampled" },
        }),
        "elicitation/create" if params["mode"] == "url" => json!({ "action": "accept" }),
        "elicitation/create" => json!({ "action": "accept", "content": { "name": "Ada" } }),
        _ => json!({ "roots": [{ "uri": "file:///home/ada", "name": "home" }] }),
    }
}
