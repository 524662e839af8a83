//! The JSON Schema, and the file that is shipped.

use serde_json::{Value, json};

use crate::config::{parse, schema};

#[track_caller]
fn is_valid(toml: &str) -> bool {
    let file: Value = toml::from_str(toml).expect("TOML");
    jsonschema::validator_for(&schema()).expect("a schema").is_valid(&file)
}

#[test]
fn the_shipped_file_is_right_and_held_to_the_schema() {
    let text = include_str!("../../../routes.toml");
    let config = parse("routes.toml", text, &|_| None).expect("a right file");
    assert_eq!(config.routes[0].upstreams, ["gate", "everything", "files", "memory"]);
    assert!(config.upstreams.iter().all(|upstream| upstream.problem.is_none()));
    assert!(is_valid(text));
}

#[test]
fn the_schema_is_a_schema() {
    let schema = schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    jsonschema::meta::validate(&schema).expect("valid by its own metaschema");
}

#[test]
fn editors_find_descriptions_defaults_and_words() {
    let schema = schema();
    let server = &schema["$defs"]["Server"]["properties"];
    assert_eq!(server["listen"]["default"], "127.0.0.1:8080");
    assert_eq!(server["listen"]["description"], "Address and port to listen on.");
    let upstream = &schema["$defs"]["Upstream"];
    for kind in upstream["oneOf"].as_array().expect("kinds") {
        assert_eq!(kind["properties"]["start"]["enum"], json!(["eager", "lazy"]));
    }
    let [process, http, builtin, _] = [0, 1, 2, 3].map(|at| &upstream["oneOf"][at]);
    assert_eq!(http["properties"]["h2c"]["default"], false);
    assert_eq!(http["properties"]["transport"]["enum"], json!(["auto", "http", "sse"]));
    let required = [process, http, builtin].map(|kind| &kind["required"]);
    assert_eq!(required, [&json!(["command"]), &json!(["url"]), &json!(["builtin"])]);
    assert_eq!(process["properties"].get("h2c"), None);
    assert_eq!(builtin["properties"].get("era"), None);
    let kinds = &schema["$defs"]["AuthKind"]["oneOf"];
    assert_eq!(kinds[0]["properties"]["kind"]["const"], "jwt");
    assert_eq!(kinds[0]["required"], json!(["kind", "issuer"]));
    assert_eq!(kinds[0]["properties"].get("client_id"), None);
}

/// Each duration of the schema: the key, and what is said of it.
fn durations(schema: &Value) -> Vec<(String, Value)> {
    let sections = schema["$defs"].as_object().expect("sections").values().chain([schema]);
    let keys = sections
        .flat_map(objects)
        .flat_map(|section| section["properties"].as_object().expect("keys").iter());
    let is_duration =
        |about: &Value| about["pattern"].as_str().is_some_and(|pattern| pattern.contains("hours?"));
    keys.filter(|(_, about)| is_duration(about))
        .map(|(key, about)| (key.clone(), about.clone()))
        .collect()
}

#[test]
fn each_duration_has_a_pattern_and_says_its_range() {
    let schema = schema();
    let durations = durations(&schema);
    assert!(60 < durations.len(), "{}", durations.len());
    let range = regex::Regex::new(r"\. From \S.* to \S.*\.$").unwrap();
    for (key, about) in &durations {
        let said = about["description"].as_str().unwrap();
        assert!(range.is_match(said), "{key}: {said}");
    }
    let of = |name: &str| {
        let found = durations.iter().find(|(key, _)| key == name).unwrap();
        found.1["description"].as_str().unwrap().to_owned()
    };
    assert!(of("refresh").ends_with("From 10s to 24h."), "{}", of("refresh"));
    assert!(of("session_age").ends_with("From 1m to 8760h."), "{}", of("session_age"));
    // All that has a unit of time as its default is one.
    let whole = schema.to_string();
    let defaults = regex::Regex::new(r#""default":"[0-9]+(?:ms|s|m|h)""#).unwrap();
    assert!(defaults.find_iter(&whole).count() <= durations.len());
}

/// Numbers with units, and other texts that may be a duration.
fn spelt_durations() -> Vec<String> {
    const UNITS: &str = "h hr hrs hour hours m min mins minute minutes s sec secs second seconds \
                         ms msec millis milliseconds us µs ns d days w weeks months years x";
    const OTHERS: &str = "PT30S|pt1h|PT1H30M|P1D|01:02:03|1:02|30||1h30m|1h 30m|\
                          1 hour, 30 minutes|1m ago| 5s |5 s|s5|1h,30m|PT";
    let numbers = ["1", "30", "1.5", "0", "1,5", "-1", "+2", ".5", "1e3"];
    let with_units = UNITS.split(' ').chain([""]).flat_map(|unit| {
        numbers
            .iter()
            .flat_map(move |number| [format!("{number}{unit}"), format!("{number} {unit}")])
    });
    with_units.chain(OTHERS.split('|').map(str::to_owned)).collect()
}

/// What the gate reads as a duration, editors take; what they refuse, it refuses.
#[test]
fn the_pattern_of_durations_takes_what_the_gate_reads() {
    let pattern = durations(&schema())[0].1["pattern"].clone();
    let checks = jsonschema::validator_for(&json!({ "pattern": pattern })).unwrap();
    let reads = |text: &str| {
        let toml = format!("[server.limits]\nrequest_timeout = {text:?}\n");
        let parsed = parse("routes.toml", &toml, &|_| None);
        parsed.err().is_none_or(|problems| !format!("{problems:?}").contains("a duration"))
    };
    let (mut taken, mut refused) = (0, 0);
    for text in &spelt_durations() {
        match (checks.is_valid(&json!(text)), reads(text)) {
            (true, _) => taken += 1,
            (false, false) => refused += 1,
            (false, true) => panic!("the gate reads {text:?}, and editors refuse it"),
        }
    }
    assert!(150 < taken && 100 < refused, "{taken} {refused}");
    assert!(checks.is_valid(&json!("${PATIENCE}")));
}

/// The objects that a section may be: itself, or its kinds.
fn objects(section: &Value) -> Vec<&Value> {
    section["oneOf"].as_array().map_or_else(|| vec![section], |kinds| kinds.iter().collect())
}

#[test]
fn every_key_has_a_description_and_every_section_is_closed() {
    let schema = schema();
    let sections = schema["$defs"].as_object().expect("sections").values().chain([&schema]);
    for section in sections.flat_map(objects) {
        assert_eq!(section["additionalProperties"], false, "{section}");
        for (key, about) in section["properties"].as_object().expect("keys") {
            assert!(about["description"].is_string(), "{key}: {about}");
        }
    }
}

#[test]
fn a_wrong_file_is_wrong_by_the_schema_too() {
    for wrong in [
        "x = 1",
        "[server]\nlisten = 8080",
        "[server]\nsession_key = \"plain\"",
        "[server.limits]\ndepth_max = 0",
        "[server.limits]\nlimit_keys_max = 63",
        "[server.limits]\nidle = 30",
        "[server.limits]\nrequest_timeout = \"30\"",
        "[server.limits]\nrequest_timeout = \"30 days\"",
        "[server.limits]\nstream_age = \"soon\"",
        "[upstreams.a]\nurl = \"http://a/\"\nrefresh = \"often\"",
        "[server.limits]\nbody_bytes_max = 0",
        "[routes.\"/mcp\"]\nnames = \"sometimes\"",
        "[upstreams.a]\nurl = \"ftp://a\"",
        "[upstreams.a]\nenv = { A = 1 }",
        "[upstreams.a]\nlimits = [{ rate = \"60\" }]",
        "[upstreams.a]\nlimits = [{ budget = \"60/min\" }]",
        "[upstreams.a]\nlimits = [{ per = [\"user\"] }]",
        "[upstreams.a]\ntools.submit = [\"a\"]",
        "[upstreams.a]\ntools.submit = { cot = 1 }",
        "[upstreams.a]\ntools.submit = { cost = \"1\" }",
        "[routes.a]\ntools.submit = {}",
    ] {
        assert!(!is_valid(wrong), "{wrong}");
    }
    assert!(is_valid("[upstreams.a]\nurl = \"${URL}\""));
    assert!(is_valid("[upstreams.a.tools]\ndeny = [\"x\"]\nsubmit.cost = { argument = \"/x\" }"));
}
