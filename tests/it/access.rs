//! Calls in the log: a line for each, found by the id that its client was given.

use serde_json::{Value, json};

use crate::{
    audit::recorded,
    eventually, fake,
    gate::gateway,
    log::{is_kept, lines},
};

const ILL: &str = r#"{"content":[],"isError":true}"#;
const ODD: &str = r#"{"code":-32050,"message":"no such job"}"#;

/// The one line of a call with these words.
async fn line(words: &[&str]) -> String {
    let words = [words, &["tollgate::access"]].concat();
    eventually("its line", || lines(&words).pop()).await
}

fn is_id(text: &str) -> bool {
    text.len() == 16 && text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
}

#[tokio::test]
async fn a_call_is_found_by_its_id_in_reply_log_and_record() {
    is_kept();
    let strict = json!({ "name": "strict", "inputSchema": {
        "type": "object", "required": ["place"] } });
    let acc = fake::dual().tool("well").tool("ill").answer(ILL).tool("odd").error(ODD);
    let plan = gateway().upstream("access-a", &acc.tool_with(strict).prompt("p"));
    let gate = plan.extra("[audit]\n[log]\naccess = true\n").start().await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let mut ids = Vec::new();
    for client in [gate.modern(), gate.legacy("2025-11-25").await] {
        for (method, name, outcome, names_upstream) in [
            ("tools/call", "well", "ok", true),
            ("tools/call", "ill", "tool_error", true),
            ("tools/call", "odd", "error", true),
            ("tools/call", "strict", "invalid_arguments", true),
            ("tools/call", "none", "not_found", false),
            ("tools/call", "new\nlevel=ERROR \u{1b}[2J\u{202e}", "not_found", false),
            ("prompts/get", "p", "ok", true),
        ] {
            // The header `Mcp-Name` of a modern client takes no such name as it is.
            if client.is_modern() && name.contains('\n') {
                continue;
            }
            let traceparent = format!("00-{trace}-00f067aa0ba902b7-01");
            let params = json!({ "name": name, "_meta": { "traceparent": traceparent } });
            let reply = client.start(method, params).await;
            let id = reply.header("x-request-id").to_owned();
            assert!(is_id(&id), "{id}");
            let text = reply.text().await;
            if outcome == "invalid_arguments" {
                assert!(text.contains(&format!("(request {id})")), "a model reads it: {text}");
                assert!(text.contains(&format!("\"request_id\":\"{id}\"")), "{text}");
            }
            let line = line(&[&id]).await;
            for word in [
                "caller=\"127.0.0.1\"",
                "route=\"/mcp\"",
                &format!("method=\"{method}\""),
                &format!("outcome=\"{outcome}\""),
                &format!("trace=\"{trace}\""),
                "ms=",
                "bytes_in=",
            ] {
                assert!(line.contains(word), "{word}: {line}");
            }
            assert_eq!(line.contains("upstream=\"access-a\""), names_upstream, "{line}");
            assert!(!line.contains(['\u{1b}', '\u{202e}']), "{line}");
            assert_eq!(lines(&[&id, "tollgate::access"]).len(), 1, "one line a call");
            ids.push(id);
        }
    }
    let records = recorded(&gate, ids.len()).await;
    let found: Vec<_> = records.iter().map(|record| record["id"].as_str().unwrap()).collect();
    assert_eq!(found, ids);
    assert!(records.iter().all(|record| record["caller"] == "127.0.0.1"), "{records:?}");
    assert!(lines(&["level=ERROR"]).iter().all(|line| line.contains("\\u000alevel")));
}

#[tokio::test]
async fn calls_that_went_well_are_sampled_and_callers_named_as_told() {
    is_kept();
    for (keys, upstream, well, caller) in [
        ("access = true\nsample = 0", "access-b", 0, Some("127.0.0.1")),
        ("access = true\nsample = 1\ncallers = \"none\"", "access-c", 5, None),
        ("access = true\ncallers = \"hash\"", "access-d", 5, Some("")),
        ("access = false", "access-e", 0, None),
    ] {
        let git = fake::http().tool("log").tool("ill").answer(ILL);
        let plan = gateway().upstream(upstream, &git).extra(&format!("[log]\n{keys}\n"));
        let gate = plan.start().await;
        let client = gate.modern();
        for _ in 0..5 {
            client.call("log").await;
        }
        client.call("ill").await;
        let of = |outcome: &str| {
            let outcome = format!("outcome=\"{outcome}\"");
            lines(&["tollgate::access", &format!("upstream=\"{upstream}\""), &outcome])
        };
        assert_eq!(of("ok").len(), well, "{keys}");
        let failed = of("tool_error");
        assert_eq!(failed.len(), usize::from(!keys.contains("false")), "{keys}");
        for line in failed {
            let shown = line.split("caller=\"").nth(1).map(|rest| rest.split('"').next().unwrap());
            match caller {
                Some("") => assert!(is_id(shown.unwrap()), "{line}"),
                caller => assert_eq!(shown, caller, "{line}"),
            }
        }
    }
}

/// Each on a route of its own: one source is told once in a while.
#[tokio::test]
async fn warnings_name_callers_as_lines_of_calls_do() {
    is_kept();
    for form in ["plain", "hash", "none"] {
        let upstream = format!("warned-{form}");
        let schema = json!({ "type": "object", "required": ["a"] });
        let server = fake::http().tool_with(json!({ "name": "t", "inputSchema": schema }));
        let gate = gateway()
            .upstream(&upstream, &server)
            .route(&format!("/{upstream}"), &format!("upstreams = [\"{upstream}\"]"))
            .extra(&format!("[log]\ncallers = \"{form}\"\n"))
            .start()
            .await;
        gate.at(&format!("/{upstream}")).modern().call("t").await;
        let told = lines(&["refused: ", &format!("upstream=\"{upstream}\"")]);
        assert_eq!(told.len(), 1, "{form}");
        let named = told[0].split("caller=\"").nth(1).map(|rest| rest.split('"').next().unwrap());
        match form {
            "plain" => assert_eq!(named, Some("127.0.0.1")),
            "hash" => assert!(is_id(named.unwrap()), "{}", told[0]),
            _ => assert_eq!(named, None, "{}", told[0]),
        }
    }
}

#[tokio::test]
async fn every_reply_names_its_request_and_no_two_have_one_id() {
    let gate = gateway().upstream("git", &fake::http().tool("log")).start().await;
    let client = gate.legacy("2025-03-26").await;
    let mut ids = Vec::new();
    for body in ["", "{", "[]", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}"] {
        ids.push(client.post(body).await.header("x-request-id").to_owned());
    }
    for (name, value) in [("host", "evil.example"), ("origin", "https://evil.example")] {
        let headers = [(name, value), ("x-request-id", "0000000000000000")];
        let reply = client.endpoint.post(&headers, "{}").await;
        assert_eq!(reply.status, 403);
        ids.push(reply.header("x-request-id").to_owned());
    }
    ids.push(client.get(&[]).await.header("x-request-id").to_owned());
    ids.push(gate.at("/nowhere").post(&[], "{}").await.header("x-request-id").to_owned());
    assert!(ids.iter().all(|id| is_id(id)), "{ids:?}");
    assert!(!ids.contains(&"0".repeat(16)), "clients choose none");
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count);
}

#[tokio::test]
async fn refusals_are_told_once_with_who_and_what_and_why() {
    is_kept();
    let strict = json!({ "name": "strict", "inputSchema": {
        "type": "object", "required": ["place"] } });
    let git = fake::http().tool("log").tool_with(strict);
    let plan = gateway().upstream("access-f", &git);
    let plan = plan.route("/refusing", "upstreams = [\"*\"]\nlimits = [{ rate = \"1/h\" }]");
    let gate = plan.start().await;
    let client = gate.at("/refusing").modern();
    let mut limited = Value::Null;
    for tool in ["log", "strict", "strict", "strict", "log", "log", "log", "log", "log"] {
        limited = client.call(tool).await;
    }
    let id = limited["structuredContent"]["request_id"].as_str().unwrap();
    assert!(is_id(id));
    for (reason, words) in [
        ("invalid_arguments", ["upstream=\"access-f\"", "name=\"strict\"", "place"]),
        ("rate_limited", ["upstream=\"access-f\"", "name=\"log\"", "refused:"]),
    ] {
        let reason = format!("reason=\"{reason}\"");
        let told = lines(&["route=\"/refusing\"", &reason]);
        assert_eq!(told.len(), 1, "{told:?}");
        for word in words.into_iter().chain(["WARN", "caller=\"127.0.0.1\"", "request="]) {
            assert!(told[0].contains(word), "{word}: {told:?}");
        }
    }
    for name in ["host", "origin"] {
        let mut endpoint = gate.at("/refusing");
        endpoint.from = [127, 0, 0, if name == "host" { 91 } else { 92 }].into();
        for _ in 0..5 {
            let headers = [(name, "https://pwned.example")];
            assert_eq!(endpoint.post(&headers, "{}").await.status, 403);
        }
        let told = lines(&[&format!("address={}", endpoint.from)]);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("pwned.example") && told[0].contains("WARN"), "{told:?}");
    }
}
