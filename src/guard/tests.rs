//! What the sections of a configuration hold calls to, together.

use super::*;
use crate::config;

fn guards(extra: &str) -> (Guards, Arc<Counters>) {
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:1\"\n[routes.\"/mcp\"]\nupstreams = [\"*\"]\n{extra}"
    );
    let config = config::parse("routes.toml", &text, &|_| None).unwrap();
    let counters: Arc<Counters> = Arc::default();
    (Guards::new(Arc::clone(&counters)).next(&config), counters)
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
        .map(|(upstream, tool)| guards.of("/mcp", upstream, tool));
    assert_eq!(
        [&tool, &other, &elsewhere].map(|guard| (guard.checks_arguments, guard.links)),
        [(true, false), (false, true), (true, true)]
    );
    assert_eq!((tool.arguments_max, tool.result_max), (Some(1_024), Some(2_048)));
    assert_eq!(elsewhere.result_max, Some(1_024));
    let said = Raw::trusted(r#"["AKIAIOSFODNN7EXAMPLE","a@b.example"]"#);
    let clean = tool.heard(&said).unwrap();
    assert_eq!(clean.as_str(), r#"["AKIAIOSFODNN7EXAMPLE","[redacted: personal:email]"]"#);
    assert_eq!(other.heard(&said).unwrap(), said);
    let counts = counters.read();
    assert_eq!((counts["secrets_flagged"], counts["personal_redacted"]), (2, 1));
}

#[test]
fn nothing_is_looked_for_unless_it_is_said() {
    let (guards, _) = guards("[upstreams.a]\nurl = \"http://a/\"\n");
    let guard = guards.of("/mcp", "a", Some("t"));
    assert!(guard.checks_arguments && !guard.checks_results && !guard.links);
    assert!(guard.looks.iter().all(Option::is_none));
    let params = Raw::trusted(r#"{"name":"t","arguments":{"key":"AKIAIOSFODNN7EXAMPLE"}}"#);
    let tool = Tool::new(Raw::trusted(r#"{"name":"t","inputSchema":{"type":"object"}}"#));
    let schemas = Schemas::new(&config::Limits::default(), Arc::default());
    let admitted = guard.admit(&params, Some(&tool), &schemas).unwrap();
    assert_eq!(admitted.bytes().as_ptr(), params.bytes().as_ptr(), "the very bytes");
    assert!(!guards.shows_otherwise("/mcp", "a"));
}
