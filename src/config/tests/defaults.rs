//! Every default of the schema, held against what a file means that leaves its key out.

use std::collections::BTreeSet;

use serde_json::Value;

use super::read;
use crate::config::{
    Breaker, Cache, Ejection, Filter, Guard, Limits, Pipe, Restart, Timeout, ToolTimeout, schema,
};

/// A file that has every section, and of each no more than it needs. (A breaker with a rate of its
/// own needs `slow`: so what its other rates say of it is no news.)
const WHOLE: &str = r#"
[server]
tls = { certificate = "c", key = "k", client_ca = "ca" }
limits = {}

[routes."/mcp"]
upstreams = ["*"]
auth = ["jwt", "asked"]
step_up = { amr = ["mfa"] }
tools = {}
in_flight = { max = 1 }
limits = [{ rate = "1/s" }]
guard = { detect = [{ find = ["secrets"], in = ["results"], then = "flag" }] }

[auth.jwt]
kind = "jwt"
issuer = "https://a.example"

[auth.asked]
kind = "introspection"
url = "https://a.example"
client_id = "gate"
client_secret = "env:HOME_TOKEN"

[auth.keys]
kind = "keys"
keys.a.caller = "a"
keys.a.hash = "sha256:00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff00ff"

[auth.machines]
kind = "certificate"

[detectors.ticket]
pattern = "T-[0-9]+"

[cache]

[limit]
store = "redis://a"

[log]

[telemetry]

[audit]

[upstreams.process]
command = "a"
timeout = {}
restart = {}
breaker = { slow = "1s" }
retry = {}

[upstreams.process.tools.t]
cache = { ttl = "1s" }
breaker = { slow = "1s" }
timeout = {}
arguments = {}

[upstreams.http]
url = ["http://a/mcp", "http://b/mcp"]
health = {}
ejection = {}
hedge = { after = "1s" }
canary = { upstream = "process", weight = 1, back = {} }
shadow = { upstream = "process" }
credential.kind = "client_credentials"
credential.client_id = "a"
credential.client_secret = "env:HOME_TOKEN"
credential.token_url = "https://a.example"

[upstreams.exchange]
url = "http://c/mcp"
credential.kind = "token_exchange"
credential.client_id = "a"
credential.client_secret = "env:HOME_TOKEN"
credential.token_url = "https://a.example"

[upstreams.aws]
url = "http://d/mcp"
credential.kind = "aws_sigv4"
credential.region = "a"
credential.service = "b"
credential.access_key_id = "env:HOME_TOKEN"
credential.secret_access_key = "env:HOME_TOKEN"

[upstreams.gate]
builtin = "gate"
"#;

/// A key that a file may have, by its path, with the section's name in the schema and its default.
struct KeyDefault {
    section: String,
    path: Vec<String>,
    key: String,
    value: Value,
}

#[test]
fn a_default_that_is_written_changes_nothing() {
    let (schema, whole) = (schema(), toml::from_str::<Value>(WHOLE).expect("TOML"));
    let mut defaults = Vec::new();
    collect(&schema, &schema, &whole, &mut Vec::new(), "File", &mut defaults);
    let text = |file: &Value| toml::to_string(file).expect("TOML");
    let without = read(&text(&whole));
    for default in &defaults {
        let mut file = whole.clone();
        let path = default.path.iter().map(|key| format!("/{}", key.replace('/', "~1")));
        let section = file.pointer_mut(&path.collect::<String>()).expect("a section");
        section[&default.key] = default.value.clone();
        let place = (&default.path, &default.key, &default.value);
        assert_eq!(read(&text(&file)), without, "{place:?}");
    }
    let seen = defaults.iter().map(|default| (default.section.clone(), default.key.clone()));
    assert_eq!(seen.collect::<BTreeSet<_>>(), all(&schema), "every default is held");
}

#[test]
fn what_a_file_leaves_out_is_the_default_of_its_type() {
    let config =
        read("routes.\"/\".upstreams = [\"*\"]\n[upstreams.a]\ncommand = \"a\"\ntools.t = {}");
    let (route, upstream) = (&config.routes[0], &config.upstreams[0]);
    let tool = &upstream.tool_settings["t"];
    assert_eq!(config.server.limits, Limits::default());
    assert_eq!(config.cache, Cache::default());
    assert_eq!((upstream.timeout, upstream.restart), (Timeout::default(), Restart::default()));
    assert_eq!((upstream.pipe, &upstream.breaker), (Pipe::default(), &Some(Breaker::default())));
    assert_eq!(upstream.replicas.ejection, Ejection::default());
    assert_eq!((&tool.guard, tool.timeout), (&Guard::default(), ToolTimeout::default()));
    assert_eq!((&route.tools, &route.guard), (&Filter::default(), &Guard::default()));
}

/// The defaults of the keys that the sections of `file` do not have.
fn collect(
    schema: &Value,
    node: &Value,
    file: &Value,
    path: &mut Vec<String>,
    section: &str,
    found: &mut Vec<KeyDefault>,
) {
    if let Some(reference) = node["$ref"].as_str() {
        let name = reference.rsplit('/').next().expect("a name");
        return collect(schema, &schema["$defs"][name], file, path, name, found);
    }
    if let Some(kinds) = node["oneOf"].as_array().or(node["anyOf"].as_array()) {
        if let Some(kind) = kinds.iter().find(|kind| is_of(kind, file)) {
            collect(schema, kind, file, path, section, found);
        }
        return;
    }
    for (key, about) in node["properties"].as_object().into_iter().flatten() {
        match file.get(key) {
            None => found.extend(about.get("default").map(|value| KeyDefault {
                section: section.to_owned(),
                path: path.clone(),
                key: key.clone(),
                value: value.clone(),
            })),
            Some(value) => {
                path.push(key.clone());
                collect(schema, about, value, path, section, found);
                path.pop();
            }
        }
    }
    let items = file.as_array().into_iter().flatten().enumerate();
    let items = items.map(|(at, item)| (at.to_string(), &node["items"], item));
    let others = file.as_object().into_iter().flatten();
    let others = others.filter(|(key, _)| node["properties"].get(key).is_none());
    let others = others.map(|(key, value)| (key.clone(), &node["additionalProperties"], value));
    for (key, about, value) in items.chain(others) {
        path.push(key);
        collect(schema, about, value, path, section, found);
        path.pop();
    }
}

/// Whether a section is of this kind.
fn is_of(kind: &Value, file: &Value) -> bool {
    let has = |key: &Value| file.get(key.as_str().expect("a key")).is_some();
    let constant = kind["properties"]["kind"].get("const");
    kind["required"].as_array().is_some_and(|keys| keys.iter().all(has))
        && constant.is_none_or(|kind| file["kind"] == *kind)
}

/// All keys of the schema that have a default, with their sections.
fn all(schema: &Value) -> BTreeSet<(String, String)> {
    let sections = schema["$defs"].as_object().expect("sections").iter();
    let objects = sections.flat_map(|(name, section)| {
        let one = [section.clone()];
        let kinds = section["oneOf"].as_array().cloned().unwrap_or_else(|| one.to_vec());
        kinds.into_iter().map(move |kind| (name.clone(), kind))
    });
    let keys = objects.flat_map(|(name, object)| {
        let keys = object["properties"].as_object().cloned().unwrap_or_default();
        let keys = keys.into_iter().filter(|(_, about)| about.get("default").is_some());
        keys.map(move |(key, _)| (name.clone(), key))
    });
    keys.collect()
}
