//! The published JSON Schema of each version, held strictly: every message by the definition of its
//! own method, and nothing in it that only a later version defines.
//!
//! Lax on purpose: inside of `_meta` and of what is the user's own (`FREE`) anything goes, and a
//! member that no version defines is an extension, which all versions allow.

use std::{
    collections::HashMap,
    sync::{LazyLock, OnceLock},
};

use jsonschema::ValidatorMap;
use serde_json::{Map, Value, json};

pub type Version = &'static str;

pub const V2024_11_05: Version = "2024-11-05";
pub const V2025_03_26: Version = "2025-03-26";
pub const V2025_06_18: Version = "2025-06-18";
pub const V2025_11_25: Version = "2025-11-25";
pub const MODERN: Version = "2026-07-28";

/// Oldest first; they compare as texts.
pub const VERSIONS: [Version; 5] = [V2024_11_05, V2025_03_26, V2025_06_18, V2025_11_25, MODERN];

/// What a server may ask a client: requests of their own in the legacy era, entries of
/// `inputRequests` in the modern one.
pub const QUESTIONS: [&str; 3] = ["sampling/createMessage", "elicitation/create", "roots/list"];

/// Members whose insides belong to the user, or to whoever extends the protocol. Beside them
/// `_meta`: it came to most objects with 2025-06-18, and harms nobody.
const FREE: [&str; 8] = [
    "arguments",
    "structuredContent",
    "inputSchema",
    "outputSchema",
    "requestedSchema",
    "experimental",
    "metadata",
    "data",
];

/// Who says a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    Client,
    Server,
}

/// What is wrong with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub what: String,
    pub message: String,
}

impl From<String> for Fault {
    fn from(what: String) -> Self {
        Self { what, message: String::new() }
    }
}

/// One version.
pub struct Spec {
    pub version: Version,
    definitions: Map<String, Value>,
    /// `#/definitions/` or `#/$defs/`.
    prefix: &'static str,
    validators: ValidatorMap,
    /// Names of definitions by who says it and its method.
    methods: HashMap<(Side, String), String>,
}

/// A place in a version's schema.
#[derive(Clone, Copy)]
struct Node {
    spec: &'static Spec,
    schema: &'static Value,
}

pub fn spec(version: Version) -> &'static Spec {
    static SPECS: [OnceLock<Spec>; 5] = [const { OnceLock::new() }; 5];
    let at = VERSIONS.iter().position(|known| *known == version).unwrap();
    SPECS[at].get_or_init(|| Spec::read(version))
}

/// The capability, as a pointer, that the other side must have declared for this to be said.
pub fn needs(version: Version, from: Side, message: &Value) -> Option<&'static str> {
    let mode = message["params"]["mode"].as_str();
    Some(match (from, message["method"].as_str()?) {
        (Side::Client, "tools/list" | "tools/call") => "/tools",
        (Side::Client, "prompts/list" | "prompts/get") => "/prompts",
        (Side::Client, "resources/list" | "resources/read" | "resources/templates/list") => {
            "/resources"
        }
        (Side::Client, "resources/subscribe" | "resources/unsubscribe") => "/resources/subscribe",
        // Of 2024-11-05 the method has no capability of its own.
        (Side::Client, "completion/complete") if V2024_11_05 < version => "/completions",
        (Side::Client, "logging/setLevel") => "/logging",
        (Side::Server, "sampling/createMessage") => "/sampling",
        (Side::Server, "elicitation/create") if mode == Some("url") => "/elicitation/url",
        (Side::Server, "elicitation/create") => "/elicitation",
        (Side::Server, "roots/list") => "/roots",
        _ => return None,
    })
}

/// The capability that the speaker itself must have declared for this notification.
pub fn promised(message: &Value) -> Option<&'static str> {
    Some(match message["method"].as_str()? {
        "notifications/tools/list_changed" => "/tools/listChanged",
        "notifications/prompts/list_changed" => "/prompts/listChanged",
        "notifications/resources/list_changed" => "/resources/listChanged",
        "notifications/resources/updated" => "/resources/subscribe",
        "notifications/message" => "/logging",
        "notifications/roots/list_changed" => "/roots/listChanged",
        _ => return None,
    })
}

impl Spec {
    fn read(version: Version) -> Self {
        let path = format!("{}/tests/schemas/{version}.json", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let schema: Value = serde_json::from_str(&text).unwrap();
        let key = if schema["$defs"].is_object() { "$defs" } else { "definitions" };
        let mut spec = Self {
            version,
            definitions: schema[key].as_object().unwrap().clone(),
            prefix: if key == "$defs" { "#/$defs/" } else { "#/definitions/" },
            validators: jsonschema::validator_map_for(&schema).unwrap(),
            methods: HashMap::new(),
        };
        spec.methods = spec.table();
        spec
    }

    /// What each side may say, as the definitions have it. Not all of it is in the unions:
    /// 2025-03-26 forgot `resources/templates/list`, 2026-07-28 has no union of questions.
    fn table(&self) -> HashMap<(Side, String), String> {
        let mut found = HashMap::new();
        for (name, definition) in &self.definitions {
            let Some(method) = definition["properties"]["method"]["const"].as_str() else {
                continue;
            };
            let sides: &[Side] = match method {
                "ping" | "notifications/cancelled" | "notifications/progress" => {
                    &[Side::Client, Side::Server]
                }
                _ if QUESTIONS.contains(&method) => &[Side::Server],
                "notifications/initialized" | "notifications/roots/list_changed" => &[Side::Client],
                _ if method.starts_with("notifications/") => &[Side::Server],
                _ => &[Side::Client],
            };
            for side in sides {
                // `ClientNotification` is the definition of its only member in 2026-07-28.
                found.entry((*side, method.to_owned())).or_insert(name.clone());
            }
        }
        if self.version == MODERN {
            found.remove(&(Side::Client, "notifications/progress".to_owned()));
        }
        found
    }

    /// The faults of a message said by `from`; `asked` is the method that a response answers.
    pub fn faults(&'static self, from: Side, message: &Value, asked: Option<&str>) -> Vec<String> {
        let (kind, method) = match (message["method"].as_str(), message.get("id").is_some()) {
            (Some(method), true) => ("JSONRPCRequest", method),
            (Some(method), false) => ("JSONRPCNotification", method),
            (None, _) => {
                let kind = if message["error"].is_object() { "error" } else { "result" };
                (self.response(kind), asked.unwrap_or("a response"))
            }
        };
        let mut faults = self.against(kind, message);
        let modern_question =
            self.version == MODERN && from == Side::Server && message.get("id").is_some();
        match message.get("method") {
            Some(_) if modern_question => faults.push("no request of a server's own".to_owned()),
            Some(_) => faults.extend(self.said(from, message)),
            None if message["result"].is_null() => (),
            None => faults.extend(self.result(method, &message["result"])),
        }
        faults.iter().map(|fault| format!("{method}: {fault}")).collect()
    }

    fn response(&self, kind: &str) -> &'static str {
        match (kind, self.version < V2025_11_25) {
            ("error", true) => "JSONRPCError",
            ("error", false) => "JSONRPCErrorResponse",
            (_, true) => "JSONRPCResponse",
            (_, false) => "JSONRPCResultResponse",
        }
    }

    /// The faults of a request or notification, without its envelope.
    fn said(&'static self, from: Side, message: &Value) -> Vec<String> {
        let method = message["method"].as_str().unwrap_or_default();
        let Some(definition) = self.methods.get(&(from, method.to_owned())) else {
            return vec![format!("no method that a {from:?} has")];
        };
        let mut faults = self.strictly(definition, message);
        let responses = message["params"]["inputResponses"].as_object();
        for (key, answer) in responses.into_iter().flatten() {
            let fits = |method: &&str| self.result(method, answer).is_empty();
            if !QUESTIONS.iter().any(fits) {
                faults.push(format!("/inputResponses/{key}: answers no question"));
            }
        }
        faults
    }

    /// The faults of what answers a request of this method.
    pub fn result(&'static self, method: &str, result: &Value) -> Vec<String> {
        if self.version == MODERN && result["resultType"] == "input_required" {
            return self.input_required(method, result);
        }
        let sides = [Side::Client, Side::Server];
        let request = sides.iter().find_map(|side| self.methods.get(&(*side, method.to_owned())));
        let Some(request) = request else {
            return vec!["answers a method that the version lacks".to_owned()];
        };
        let definition = request.replace("Request", "Result");
        let known = self.definitions.contains_key(&definition);
        let mut faults = self.strictly(if known { &definition } else { "EmptyResult" }, result);
        if self.version == MODERN
            && !QUESTIONS.contains(&method)
            && result["resultType"] != "complete"
        {
            faults.push(format!("resultType is {}", result["resultType"]));
        }
        faults
    }

    fn input_required(&'static self, method: &str, result: &Value) -> Vec<String> {
        let mut faults = self.strictly("InputRequiredResult", result);
        if !["tools/call", "prompts/get", "resources/read"].contains(&method) {
            faults.push("no method that may ask back".to_owned());
        }
        let inputs = result["inputRequests"].as_object();
        for (key, question) in inputs.into_iter().flatten() {
            let said = self.said(Side::Server, question);
            faults.extend(said.iter().map(|fault| format!("/inputRequests/{key}{fault}")));
        }
        if inputs.is_none() && result["requestState"].is_null() {
            faults.push("neither inputRequests nor requestState".to_owned());
        }
        faults
    }

    /// By the schema, and nothing in it that came later. (What a version has dropped is to it an
    /// extension like any other.)
    fn strictly(&'static self, definition: &str, value: &Value) -> Vec<String> {
        let mut faults = self.against(definition, value);
        let others = VERSIONS.iter().filter(|other| self.version < **other);
        let others: Vec<Node> =
            others.filter_map(|other| Node::named(spec(other), definition)).collect();
        let own = Node::named(self, definition).unwrap();
        own.foreign(&others, value, "", &mut faults);
        faults
    }

    fn against(&self, definition: &str, value: &Value) -> Vec<String> {
        let validator = self.validators.get(&format!("{}{definition}", self.prefix));
        let validator = validator.unwrap_or_else(|| panic!("{} {definition}", self.version));
        let short = |text: String| text.chars().take(200).collect::<String>();
        let errors = validator.iter_errors(value);
        errors
            .map(|error| {
                format!(
                    "{}: {}",
                    numberless(error.instance_path().as_str()),
                    short(error.to_string())
                )
            })
            .collect()
    }
}

impl Node {
    fn named(spec: &'static Spec, definition: &str) -> Option<Self> {
        spec.definitions.get(definition).map(|schema| Self { spec, schema })
    }

    /// Follows references, and of alternatives takes the one that this value is meant to be.
    fn at(self, value: &Value) -> Self {
        let to = |schema| Self { schema, ..self };
        if let Some(reference) = self.schema["$ref"].as_str() {
            let name = reference.trim_start_matches(self.spec.prefix);
            return to(&self.spec.definitions[name]).at(value);
        }
        let Some(alternatives) = self.schema["anyOf"].as_array() else { return self };
        let mut alternatives = alternatives.iter().map(|schema| to(schema).at(value));
        alternatives.find(|node| node.is_meant(value)).unwrap_or_else(nothing(self.spec))
    }

    fn is_meant(self, value: &Value) -> bool {
        let has = |name: &Value| value.get(name.as_str().unwrap_or_default()).is_some();
        let required = self.schema["required"].as_array();
        let constants = self.schema["properties"].as_object().into_iter().flatten();
        let mut constants =
            constants.filter_map(|(name, schema)| Some((value.get(name)?, schema.get("const")?)));
        (self.schema["type"] != "array" || value.is_array())
            && required.is_none_or(|names| names.iter().all(has))
            && constants.all(|(value, constant)| value == constant)
    }

    fn property(self, name: &str) -> Option<Self> {
        self.schema["properties"].get(name).map(|schema| Self { schema, ..self })
    }

    fn within(self, key: &str) -> Option<Self> {
        self.schema.get(key).map(|schema| Self { schema, ..self })
    }

    /// Members that only `others` define, the same definition in later versions.
    fn foreign(self, others: &[Self], value: &Value, path: &str, faults: &mut Vec<String>) {
        let own = self.at(value);
        if own.schema.is_null() {
            return; // no alternative: the schema says so
        }
        let others: Vec<Self> = others.iter().map(|other| other.at(value)).collect();
        let all = |next: &dyn Fn(Self) -> Option<Self>| -> Vec<Self> {
            others.iter().filter_map(|other| next(*other)).collect()
        };
        for item in value.as_array().into_iter().flatten() {
            let items = |node: Self| node.within("items");
            if let Some(own) = items(own) {
                own.foreign(&all(&items), item, &format!("{path}/N"), faults);
            }
        }
        for (name, member) in value.as_object().into_iter().flatten() {
            let path = format!("{path}/{name}");
            // Not all versions define the envelope with each method.
            if name == "_meta" || ["/jsonrpc", "/id"].contains(&&*path) {
                continue;
            }
            let named = |node: Self| node.property(name);
            let theirs = all(&named);
            match (named(own), theirs.first()) {
                (Some(_), _) if FREE.contains(&name.as_str()) => (),
                (Some(own), _) => own.foreign(&theirs, member, &path, faults),
                (None, Some(their)) => {
                    faults.push(format!("{path}: a member that came with {}", their.spec.version));
                }
                (None, None) => {
                    let rest = |node: Self| node.within("additionalProperties");
                    if let Some(own) = rest(own) {
                        own.foreign(&all(&rest), member, &path, faults);
                    }
                }
            }
        }
    }
}

fn nothing(spec: &'static Spec) -> impl Fn() -> Node {
    static NOTHING: LazyLock<Value> = LazyLock::new(|| Value::Null);
    move || Node { spec, schema: &NOTHING }
}

/// A path that is the same for every entry of a list.
fn numberless(path: &str) -> String {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let parts = path.split('/').map(|part| if is_number(part) { "N" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

#[test]
fn what_is_wrong_is_found() {
    let call = |result: Value| json!({ "jsonrpc": "2.0", "id": 1, "result": result });
    fn ask(method: &str, params: Value) -> Value {
        json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params })
    }

    let link = json!({ "type": "resource_link", "uri": "a:b", "name": "b" });
    let form = json!({ "message": "Who?", "mode": "form",
        "requestedSchema": { "type": "object", "properties": {} } });
    let asks = json!({ "resultType": "input_required",
        "inputRequests": { "k": { "method": "ping", "params": {} } } });
    let tool = json!({ "tools": [{ "name": "a", "title": "A", "inputSchema": { "type": "object",
        "properties": { "title": {} } } }] });
    let (tools, called) = (Some("tools/list"), Some("tools/call"));
    let wrong = [
        (V2025_03_26, call(tool.clone()), tools, "/tools/N/title: a member that came with 2025-06"),
        (V2025_03_26, call(json!({ "content": [link] })), called, "/content/N: "),
        (V2025_06_18, call(json!({})), called, "\"content\" is a required property"),
        (V2025_06_18, ask("elicitation/create", form.clone()), None, "/params/mode"),
        (V2025_03_26, ask("elicitation/create", form.clone()), None, "no method"),
        (V2025_11_25, ask("tools/list", json!({})), None, "no method"),
        (MODERN, ask("roots/list", json!({})), None, "no request of a server's own"),
        (MODERN, call(json!({ "content": [] })), called, "\"resultType\" is a required property"),
        (MODERN, call(asks), called, "/inputRequests/k"),
        (V2025_11_25, json!({ "id": 1, "result": {} }), Some("ping"), "\"jsonrpc\" is a required"),
    ];
    for (version, message, asked, what) in wrong {
        let faults = spec(version).faults(Side::Server, &message, asked);
        assert!(faults.iter().any(|fault| fault.contains(what)), "{message}: {faults:?}");
    }
    let right = [
        (V2025_06_18, call(tool), tools),
        (V2025_11_25, ask("elicitation/create", form), None),
        (V2024_11_05, call(json!({ "content": [], "x-vendor": 1, "_meta": {} })), called),
    ];
    for (version, message, asked) in right {
        assert_eq!(spec(version).faults(Side::Server, &message, asked), [""; 0], "{message}");
    }
}
