//! What Prometheus reads: held to the format, and to what happened.

use std::collections::BTreeSet;

use serde_json::json;

use crate::{
    admin, eventually,
    exposition::Exposition,
    fake,
    gate::{Gate, gateway},
};

const ADMIN: &str = "admin = \"127.0.0.1:0\"";

async fn read(gate: &Gate) -> Exposition {
    Exposition::read(&admin::get(gate, "/metrics").await.1)
}

/// Names that servers may list, which would break a line, a label or a terminal.
const HOSTILE: [&str; 12] = [
    "quote\"d",
    "back\\slash",
    "line\nend",
    "\u{1b}[2Jclear",
    "bell\u{7}",
    "return\rforged",
    "turned\u{202e}around",
    "tab\there",
    "brace}s{a=\"b\"} 1",
    "del\u{7f}",
    "csi\u{9b}31m",
    "# EOF",
];

#[tokio::test]
async fn all_of_it_is_in_the_format_whatever_servers_call_their_tools() {
    let mut git = fake::http().tool("log").prompt("p");
    for name in HOSTILE {
        git = git.tool_with(json!({ "name": name, "inputSchema": { "type": "object" } }));
    }
    let keys = "limits = [{ budget = \"1000/day\", per = [\"caller\"] }, { rate = \"90/s\" }]\n\
                breaker = {}\nretry = {}\nin_flight = { max = 5 }\n\
                tools.log = { limits = [{ budget = \"4/month\" }], breaker = {} }";
    let down = fake::http().tool("other");
    let plan = gateway().server(ADMIN).upstream_with("git", &git, keys).upstream("down", &down);
    let gate = plan.unreachable("away").start().await;
    let client = gate.modern();
    let tools = client.tools().await;
    assert_eq!(tools.len(), HOSTILE.len() + 2, "{tools:?}");
    for tool in &tools {
        client.call(tool).await;
    }
    down.goes_down();
    client.call("other").await;
    let metrics = read(&gate).await;
    let shown: BTreeSet<_> =
        metrics.of("tollgate_tool_outcomes_total").map(|(labels, _)| &labels["tool"]).collect();
    assert_eq!(shown.len(), tools.len(), "{shown:?}");
    assert!(shown.contains(&"line\\u000aend".to_owned()), "{shown:?}");
    let budget = [("kind", "tool"), ("name", "git/log"), ("budget", "4/month")];
    assert_eq!(metrics.value("tollgate_limit_budget_left", &budget), Some(3.0));
    let calls = tools.len() as f64 - 1.0;
    let budget = [("kind", "upstream"), ("name", "git"), ("budget", "1000/day per caller")];
    assert_eq!(metrics.value("tollgate_limit_budget_left", &budget), Some(1_000.0 - calls));
    let retries = metrics.value("tollgate_upstream_retries_left", &[("upstream", "git")]);
    assert!(retries.is_some_and(|left| 0.0 < left), "{retries:?}");
}

#[tokio::test]
async fn a_calls_time_is_split_between_the_gate_and_its_upstream() {
    let git = fake::http().tool("log");
    let keys = "tools.slow = { limits = [{ rate = \"1/h\" }] }";
    let gate = gateway().server(ADMIN).upstream_with("git", &git.tool("slow"), keys).start().await;
    let client = gate.modern();
    for tool in ["log", "log", "slow", "slow"] {
        client.call(tool).await;
    }
    let metrics = read(&gate).await;
    let count = |scope: &str, part: &str, labels: &[(&str, &str)]| {
        metrics.value(&format!("tollgate_{scope}_{part}_seconds_count"), labels)
    };
    let route = [("route", "/mcp")];
    let tool = [("upstream", "git"), ("tool", "slow")];
    for (scope, labels, called, sent) in [
        ("route", &route[..], 4.0, 3.0),
        ("upstream", &tool[..1], 4.0, 3.0),
        ("tool", &tool[..], 2.0, 1.0),
    ] {
        assert_eq!(count(scope, "call", labels), Some(called), "{scope}");
        assert_eq!(count(scope, "call_gate", labels), Some(called), "{scope}");
        assert_eq!(count(scope, "call_upstream", labels), Some(sent), "{scope}: one was refused");
        let sum = |part: &str| {
            let name = format!("tollgate_{scope}_{part}_seconds_sum");
            metrics.value(&name, labels).unwrap()
        };
        let parts = sum("call_gate") + sum("call_upstream");
        assert!((sum("call") - parts).abs() < 1e-5, "{scope}: {parts}");
        assert!(0.0 < sum("call_upstream"), "{scope}");
    }
}

#[tokio::test]
async fn metrics_stand_under_their_common_names_too() {
    let ill = r#"{"content":[],"isError":true}"#;
    let odd = r#"{"code":-32050,"message":"no such job"}"#;
    let git = fake::http().tool("log").tool("ill").answer(ill).tool("odd").error(odd);
    let hub = fake::http().tool("log");
    let plan = gateway().server(ADMIN).upstream_with("git", &git, "breaker = {}");
    let gate = plan.upstream_with("hub", &hub, "tools.log = { breaker = {} }").start().await;
    let client = gate.modern();
    let tools = client.tools().await;
    for tool in tools.iter().chain(&tools) {
        client.ask("tools/call", json!({ "name": tool })).await;
    }
    let metrics = read(&gate).await;
    for (name, labels, value) in [
        ("mcp_tool_calls_total", [("tool", "log"), ("status", "success")], Some(4.0)),
        ("mcp_tool_calls_total", [("tool", "log"), ("status", "error")], None),
        ("mcp_tool_calls_total", [("tool", "ill"), ("status", "error")], Some(2.0)),
        ("mcp_tool_calls_total", [("tool", "odd"), ("status", "error")], Some(2.0)),
        ("downstream_calls_total", [("service", "git"), ("status", "success")], Some(4.0)),
        ("downstream_calls_total", [("service", "git"), ("status", "error")], Some(2.0)),
        ("downstream_calls_total", [("service", "hub"), ("status", "success")], Some(2.0)),
        ("downstream_duration_seconds_count", [("service", "git"), ("endpoint", "ill")], Some(2.0)),
        ("downstream_duration_seconds_count", [("service", "hub"), ("endpoint", "log")], Some(2.0)),
        ("circuit_breaker_state", [("name", "git"), ("state", "closed")], Some(1.0)),
        ("circuit_breaker_state", [("name", "git"), ("state", "open")], Some(0.0)),
        ("circuit_breaker_state", [("name", "hub/log"), ("state", "half_open")], Some(0.0)),
    ] {
        assert_eq!(metrics.value(name, &labels), value, "{name} {labels:?}");
    }
    let durations = metrics.value("mcp_tool_duration_seconds_count", &[("tool", "log")]);
    assert_eq!(durations, Some(4.0), "both servers' together");
}

#[tokio::test]
async fn invented_names_make_no_series() {
    let gate = gateway().server(ADMIN).upstream("git", &fake::http().tool("log")).start().await;
    let client = gate.legacy("2025-03-26").await;
    client.call("log").await;
    client.ask("tools/call", json!({ "name": "none" })).await;
    let before = read(&gate).await.samples.len();
    for batch in 0..100 {
        let calls: Vec<_> = (0..50)
            .map(|at| client.request("tools/call", json!({ "name": format!("n{batch}_{at}") })))
            .collect();
        client.post(&format!("[{}]", calls.join(","))).await.text().await;
    }
    let metrics = read(&gate).await;
    assert_eq!(metrics.samples.len(), before);
    let labels = [("route", "/mcp"), ("outcome", "not_found")];
    assert_eq!(metrics.value("tollgate_route_outcomes_total", &labels), Some(5_001.0));
}

#[tokio::test]
async fn what_is_under_way_is_counted_until_it_ends() {
    let git = fake::http().tool("log").tool("hang").hang();
    let keys = "in_flight = { max = 1, wait = \"60s\" }";
    let gate = gateway().server(ADMIN).upstream_with("git", &git, keys).start().await;
    let legacy = gate.legacy("2025-11-25").await;
    let stream = legacy.listen().await;
    let first = tokio::spawn({
        let client = gate.modern();
        async move { client.call("hang").await }
    });
    eventually("the first", || (git.seen("tools/call").len() == 1).then_some(())).await;
    let second = tokio::spawn({
        let client = gate.modern();
        async move { client.call("log").await }
    });
    let now = |name: &str| gate.app().viewer().report().counters[&format!("{name}_now")];
    eventually("the second", || (now("waiting_calls") == 1).then_some(())).await;
    let metrics = read(&gate).await;
    for (name, value) in [("active_requests", 3.0), ("streams", 1.0), ("sessions", 1.0)] {
        assert_eq!(metrics.value(&format!("tollgate_{name}"), &[]), Some(value), "{name}");
    }
    assert!(3.0 <= metrics.value("tollgate_connections", &[]).unwrap());
    first.abort();
    second.abort();
    drop(stream);
    for name in ["active_requests", "streams", "waiting_calls"] {
        eventually(name, || (now(name) == 0).then_some(())).await;
    }
}

#[tokio::test]
async fn the_process_says_what_it_uses() {
    let gate = gateway().server(ADMIN).upstream("git", &fake::http().tool("log")).start().await;
    let metrics = read(&gate).await;
    for name in [
        "process_cpu_seconds_total",
        "process_start_time_seconds",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_open_fds",
        "process_threads",
    ] {
        assert!(metrics.value(name, &[]).is_some_and(|value| 0.0 <= value), "{name}");
    }
}
