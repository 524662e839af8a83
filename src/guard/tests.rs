//! Tests which sections of a configuration hold for a call, and how they add up.

use std::sync::Arc;

use crate::{
    call::{Action, Caller, Client, ObjectKind},
    config::{self, ArgumentCheck, RuleFile, Rules},
    mcp::{
        document::{CallArguments, tests::READINGS},
        raw::Raw,
        version::Version,
    },
    policy::{self, AccessRequest, Judge, Object, PolicyBounds, Rulebook},
    telemetry::Counters,
};

use super::*;

fn guards(extra: &str) -> (Guards, Arc<Counters>) {
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:1\"\n[routes.\"/mcp\"]\nupstreams = [\"*\"]\n{extra}"
    );
    let config = config::parse("routes.toml", &text, &|_| None).unwrap();
    let counters: Arc<Counters> = Arc::default();
    (Guards::new(Arc::clone(&counters)).next(&config, &Rulebook::default()), counters)
}

#[test]
fn the_narrowest_section_decides_and_what_is_looked_for_adds_up() {
    let (guards, counters) = guards(
        r#"
guard.arguments_max = "1KiB"
guard.result_max = "1KiB"
guard.too_large = "link"
guard.detect = [{ find = ["secrets"], in = ["results"], then = "flag" }]
[upstreams.a]
url = "http://a/"
guard = { arguments = "off", result_max = "2KiB" }
[upstreams.a.tools.t.guard]
arguments = "schema"
too_large = "refuse"
detect = [{ find = ["personal:email"], in = ["results", "arguments"], then = "redact" }]
"#,
    );
    let [tool, other, elsewhere] = [("a", Some("t")), ("a", Some("u")), ("b", None)]
        .map(|(upstream, tool)| guards.of(&"/mcp".into(), &upstream.into(), tool));
    assert_eq!(
        [&tool, &other, &elsewhere].map(|guard| (guard.arguments, guard.links)),
        [
            (ArgumentCheck::Schema, false),
            (ArgumentCheck::Off, true),
            (ArgumentCheck::Lenient, true)
        ]
    );
    assert_eq!((tool.arguments_max, tool.result_max), (Some(1_024), Some(2_048)));
    assert_eq!(elsewhere.result_max, Some(1_024));
    let said = Raw::trusted(r#"["AKIAIOSFODNN7EXAMPLE","a@b.example"]"#);
    let clean = tool.scan(&said).unwrap();
    assert_eq!(clean.as_str(), r#"["AKIAIOSFODNN7EXAMPLE","[redacted: personal:email]"]"#);
    assert_eq!(other.scan(&said).unwrap(), said);
    let counts = counters.read();
    assert_eq!((counts["secrets_flagged"], counts["personal_redacted"]), (2, 1));
}

#[test]
fn nothing_is_looked_for_unless_it_is_said() {
    let (guards, _) = guards("[upstreams.a]\nurl = \"http://a/\"\n");
    let guard = guards.of(&"/mcp".into(), &"a".into(), Some("t"));
    assert!(guard.arguments == ArgumentCheck::Lenient && !guard.checks_results && !guard.links);
    assert!(guard.looks.iter().all(Option::is_none));
    let params = Raw::trusted(r#"{"name":"t","arguments":{"key":"AKIAIOSFODNN7EXAMPLE"}}"#);
    let tool = ToolSchemas::new(
        &"a".into(),
        Raw::trusted(r#"{"name":"t","inputSchema":{"type":"object"}}"#),
    );
    let schemas = Schemas::new(&config::Limits::default(), Arc::default());
    let arguments = CallArguments::of(&params.clone().into());
    let admitted = guard.admit(&params, &arguments, Some(&tool), &schemas).unwrap();
    assert_eq!(admitted.bytes().as_ptr(), params.bytes().as_ptr(), "the very bytes");
    assert!(!guards.shows_otherwise(&"/mcp".into(), &"a".into()));
}

/// Several who look into arguments: each alone, and all together.
#[test]
fn arguments_are_read_once_for_all_who_look_into_them() {
    const LIMIT: &str = "permit(principal, action, resource);
        forbid(principal, action == Action::\"call\", resource)
        when { context.numbers.hasTag(\"limit\") && context.numbers.getTag(\"limit\") > 9 };";
    const DETECT: &str =
        r#"guard.detect = [{ find = ["secrets"], in = ["arguments"], then = "redact" }]"#;
    let tool = ToolSchemas::new(
        &"a".into(),
        Raw::trusted(r#"{"name":"t","inputSchema":{"properties":{"key":{"type":"string"}}}}"#),
    );
    let schemas = Schemas::new(&config::Limits::default(), Arc::default());
    let object = Object::new(ObjectKind::Tool, &"a".into(), "t", None, Vec::new());
    let (caller, client) = (Caller::Parent, Client::gateway(Version::MODERN));
    let secret = r#"{"name":"t","arguments":{"limit":3,"key":"AKIAIOSFODNN7EXAMPLE"}}"#;
    let plain = r#"{"name":"t","arguments":{"limit":3,"key":"plain"}}"#;
    for (policy, off, detects, params, want) in [
        (false, true, false, secret, 0),
        (true, true, false, secret, 1),
        (false, false, false, secret, 1),
        (false, true, true, secret, 1),
        // Nothing in them looks like what detectors look for.
        (false, true, true, plain, 0),
        (true, false, false, secret, 1),
        (true, true, true, secret, 1),
        (false, false, true, secret, 1),
        (true, false, true, plain, 1),
        (true, false, true, secret, 1),
        (true, false, true, r#"{"name":"t"}"#, 0),
    ] {
        let arguments = if off { "guard.arguments = \"off\"\n" } else { "" };
        let detect = if detects { DETECT } else { "" };
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:1\"\n[routes.\"/mcp\"]\nupstreams = [\"*\"]\n\
             {arguments}{detect}\n[upstreams.a]\nurl = \"http://a/\"\n"
        );
        let mut config = config::parse("routes.toml", &text, &|_| None).unwrap();
        let file = RuleFile { name: "a.cedar".to_owned(), text: LIMIT.into() };
        let policies = if policy { vec![file] } else { Vec::new() };
        config.routes[0].rules = policy.then_some(Rules { policies, cases: Vec::new() });
        let rules = policy::compile(&config).unwrap();
        let policies = rules.of(&"/mcp".into()).map(Arc::clone);
        let bounds = PolicyBounds::of(&config.server.limits);
        let judge = Judge::new(&"/mcp".into(), policies, bounds, &Arc::default());
        let guard = Guards::new(Arc::default()).next(&config, &rules).of(
            &"/mcp".into(),
            &"a".into(),
            Some("t"),
        );
        let before = READINGS.get();
        let params = Raw::trusted(params);
        let arguments = &CallArguments::of(&params.clone().into());
        let (caller, client, object, action) = (&caller, &client, &object, Action::Call);
        let asked = AccessRequest { caller, client, action, object, arguments, now: 0 };
        judge.allows(&asked).unwrap();
        judge.allows(&asked).unwrap();
        let clean = guard.admit(&params, arguments, Some(&tool), &schemas).unwrap();
        let is_hidden = clean.as_str().contains("[redacted: secrets:aws]");
        assert_eq!(is_hidden, detects && params.as_str().contains("AKIA"), "{clean:?}");
        assert_eq!(READINGS.get() - before, want, "{policy} {off} {detects} {params:?}");
    }
}

#[test]
fn a_result_is_read_once_for_its_schema_and_for_detectors() {
    let (guards, _) = guards(
        r#"
guard.results = "schema"
guard.detect = [{ find = ["secrets"], in = ["results"], then = "redact" }]
[upstreams.a]
url = "http://a/"
"#,
    );
    let guard = guards.of(&"/mcp".into(), &"a".into(), Some("t"));
    let schemas = Schemas::new(&config::Limits::default(), Arc::default());
    let with = |schema: &str| {
        ToolSchemas::new(&"a".into(), Raw::trusted(format!(r#"{{"name":"t"{schema}}}"#)))
    };
    let (plain, promises) = (with(""), with(r#","outputSchema":{"type":"object"}"#));
    for (tool, result, want) in [
        (&plain, r#"{"content":[],"structuredContent":{"a":"b"}}"#, 0),
        (&promises, r#"{"content":[],"structuredContent":{"a":"b"}}"#, 1),
        (&plain, r#"{"content":[],"structuredContent":{"a":"password: none"}}"#, 1),
        (&promises, r#"{"content":[],"structuredContent":{"a":"password: none"}}"#, 1),
        (&promises, r#"{"content":[],"isError":true}"#, 0),
        // Written over, it is another text.
        (&promises, r#"{"content":[],"structuredContent":{"a":"AKIAIOSFODNN7EXAMPLE"}}"#, 2),
    ] {
        let before = READINGS.get();
        guard.judge_result(&Raw::trusted(result), Some(tool), &schemas).unwrap();
        assert_eq!(READINGS.get() - before, want, "{result}");
    }
}
