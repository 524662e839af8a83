//! What operators are shown, on a listener of its own.

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    eventually, fake,
    gate::{Gate, gateway},
    soon,
};

const ADMIN: &str = "admin = \"127.0.0.1:0\"";

/// The head and the body of what operators get.
pub async fn get(gate: &Gate, path: &str) -> (String, String) {
    ask(gate, &format!("GET {path} HTTP/1.1\r\nHost: localhost")).await
}

/// The head and the body of the answer to a request with this head.
pub async fn ask(gate: &Gate, head: &str) -> (String, String) {
    let mut stream = TcpStream::connect(gate.app().admin_address().unwrap()).await.unwrap();
    let text = format!("{head}\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut reply = String::new();
    soon("the operators' door", stream.read_to_string(&mut reply)).await.unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[tokio::test]
async fn metrics_name_every_counter_and_every_upstream() {
    let git = fake::http().tool("log");
    let down = "url = \"http://127.0.0.1:9/mcp\"\n";
    let plan = gateway().server(ADMIN).upstream("git", &git);
    let gate = plan.extra(&crate::gate::section("down", down)).start().await;
    gate.modern().call("log").await;
    let (head, text) = get(&gate, "/metrics").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("openmetrics-text"), "{head}");
    for line in [
        "tollgate_requests_total 1",
        "tollgate_refused_rate_total 0",
        "tollgate_upstream_calls_total{upstream=\"git\"} 1",
        "tollgate_upstream_state{upstream=\"git\",state=\"ready\"} 1",
        "tollgate_upstream_state{upstream=\"down\",state=\"failed\"} 1",
        "tollgate_upstream_state{upstream=\"down\",state=\"ready\"} 0",
        "# TYPE tollgate_parked_now gauge",
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }
    let report = gate.app().viewer().report();
    for name in report.counters.keys() {
        let name = name.strip_suffix("_now").unwrap_or(name);
        assert!(text.contains(&format!("# TYPE tollgate_{name} ")), "{name}");
    }
}

/// The lines of the metrics that begin so, in their order.
async fn lines(gate: &Gate, begin: &str) -> Vec<String> {
    let (_, text) = get(gate, "/metrics").await;
    text.lines().filter(|line| line.starts_with(begin)).map(str::to_owned).collect()
}

#[tokio::test]
async fn calls_are_counted_by_outcome_and_time_for_route_upstream_and_tool() {
    let git = fake::dual()
        .tool("log")
        .tool("ill")
        .answer(r#"{"content":[],"isError":true}"#)
        .tool("odd")
        .error(r#"{"code":-32050,"message":"no such job"}"#)
        .prompt("p");
    for at in 0..2 {
        let gate = gateway().server(ADMIN).upstream("git", &git).start().await;
        let [modern, legacy] = [gate.modern(), gate.legacy("2025-11-25").await];
        let client = if at == 0 { modern } else { legacy };
        for tool in ["log", "log", "ill", "odd", "none", "(other)\"} 1 # nonsense"] {
            client.ask("tools/call", json!({ "name": tool })).await;
        }
        client.ask("prompts/get", json!({ "name": "p" })).await;
        client.tools().await;
        // An edit keeps what was counted, as long as the thing is the same.
        gate.edit(|toml| format!("{toml}\n[routes.\"/second\"]\nupstreams = [\"git\"]\n"));
        eventually("the edit", || {
            (gate.app().viewer().report().counters["reloads"] == 1).then_some(())
        })
        .await;
        assert_eq!(
            lines(&gate, "tollgate_route_outcomes").await,
            [
                "tollgate_route_outcomes_total{route=\"/mcp\",outcome=\"ok\"} 3",
                "tollgate_route_outcomes_total{route=\"/mcp\",outcome=\"tool_error\"} 1",
                "tollgate_route_outcomes_total{route=\"/mcp\",outcome=\"error\"} 1",
                "tollgate_route_outcomes_total{route=\"/mcp\",outcome=\"not_found\"} 2",
            ]
        );
        assert_eq!(
            lines(&gate, "tollgate_upstream_outcomes").await,
            [
                "tollgate_upstream_outcomes_total{upstream=\"git\",outcome=\"ok\"} 3",
                "tollgate_upstream_outcomes_total{upstream=\"git\",outcome=\"tool_error\"} 1",
                "tollgate_upstream_outcomes_total{upstream=\"git\",outcome=\"error\"} 1",
            ]
        );
        let tools = lines(&gate, "tollgate_tool_outcomes").await;
        let of = |tool: &str, outcome: &str, count: u64| {
            let labels = format!("upstream=\"git\",tool=\"{tool}\",outcome=\"{outcome}\"");
            format!("tollgate_tool_outcomes_total{{{labels}}} {count}")
        };
        assert_eq!(tools, [of("ill", "tool_error", 1), of("log", "ok", 2), of("odd", "error", 1)]);
        for line in [
            "# TYPE tollgate_route_call_seconds histogram",
            "# UNIT tollgate_tool_call_seconds seconds",
            "tollgate_route_call_seconds_count{route=\"/mcp\"} 7",
            "tollgate_upstream_call_seconds_count{upstream=\"git\"} 5",
            "tollgate_tool_call_seconds_bucket{le=\"+Inf\",upstream=\"git\",tool=\"log\"} 2",
        ] {
            assert_eq!(lines(&gate, line).await, [line]);
        }
    }
}

#[tokio::test]
async fn scopes_beyond_the_bound_share_their_metrics() {
    let mut git = fake::http();
    for at in 0..12 {
        git = git.tool(&format!("tool{at:02}"));
    }
    let bound = format!("{ADMIN}\nlimits.call_metrics_max = 10");
    let gate = gateway().server(&bound).upstream("git", &git).start().await;
    let client = gate.modern();
    for at in 0..12 {
        client.call(&format!("tool{at:02}")).await;
    }
    let tools = lines(&gate, "tollgate_tool_outcomes").await;
    // The route and the upstream have theirs, too.
    assert_eq!(tools.len(), 9, "{tools:?}");
    let labels = r#"upstream="(other)",tool="(other)",outcome="ok""#;
    let shared = format!("tollgate_tool_outcomes_total{{{labels}}} 4");
    assert!(tools.contains(&shared), "{tools:?}");
    assert!(4 <= gate.app().viewer().report().counters["metrics_shared"]);
}

#[tokio::test]
async fn readiness_names_tools_whose_arguments_cannot_be_checked() {
    let elsewhere = serde_json::json!({ "name": "far", "inputSchema": {
        "type": "object",
        "properties": { "a": { "$ref": "https://schemas.example/a secret" } } } });
    let git = fake::http().tool("log").tool_with(elsewhere);
    let gate = gateway().server(ADMIN).upstream("git", &git).start().await;
    gate.modern().tools().await;
    let known = || !gate.app().viewer().report().upstreams[0].unusable_schemas.is_empty();
    eventually("its schemas to be read", || known().then_some(())).await;
    let (head, detail) = get(&gate, "/readyz").await;
    let detail: Value = serde_json::from_str(&detail).unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "it takes no gate away: {head}");
    let named = detail["unusable_schemas"]["git"].to_string();
    assert!(named.contains("far") && !named.contains("log"), "{detail}");
}

#[tokio::test]
async fn readiness_says_what_is_troubled_and_which_edit_is_not_in_force() {
    let plan = gateway().server(ADMIN).upstream("git", &fake::http().tool("log"));
    let down = crate::gate::section("down", "url = \"http://127.0.0.1:9/mcp\"\n");
    let gate = plan.extra(&down).start().await;
    let (head, detail) = get(&gate, "/readyz").await;
    let detail: Value = serde_json::from_str(&detail).unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "one that is down takes no gate away: {head}");
    assert_eq!(detail["status"], "ready");
    assert_eq!(
        (&detail["troubled"][0]["name"], &detail["troubled"][0]["state"]),
        (&Value::from("down"), &Value::from("failed"))
    );
    assert_eq!(detail["edit_refused"], Value::Null);

    let before = std::fs::read_to_string(gate.folder.path().join("routes.toml")).unwrap();
    gate.edit(|toml| format!("nonsense = \"a secret\"\n{toml}"));
    let refused =
        eventually("the edit to be refused", || gate.app().viewer().report().edit_refused);
    let refused = refused.await;
    assert!(refused.contains("`nonsense`") && refused.contains("routes.toml:1:1"), "{refused}");
    assert!(!refused.contains("a secret"), "what stands in the file is not shown: {refused}");
    gate.edit(|_| before);
    let mended = || gate.app().viewer().report().edit_refused.is_none().then_some(());
    eventually("the edit to be mended", mended).await;
}

#[tokio::test]
async fn only_reads_of_a_known_host_are_answered() {
    let gate = gateway().server(ADMIN).upstream("git", &fake::http().tool("log")).start().await;
    for (head, status) in [
        ("GET /livez HTTP/1.1\r\nHost: 127.0.0.1", 200),
        ("GET /metrics HTTP/1.1\r\nHost: evil.example", 403),
        ("GET /metrics HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example", 403),
        ("POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0", 405),
        (
            "POST /cache/purge HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost:3000\r\n\
             Content-Length: 0",
            403,
        ),
        ("GET /mcp HTTP/1.1\r\nHost: localhost", 404),
    ] {
        let (reply, _) = ask(&gate, head).await;
        assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{head}: {reply}");
    }
    let (_, report) = get(&gate, "/report").await;
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["upstreams"][0]["name"], "git");
}

#[tokio::test]
async fn idle_connections_keep_no_probe_out() {
    let gate = gateway().server(ADMIN).upstream("git", &fake::http().tool("log")).start().await;
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(TcpStream::connect(gate.app().admin_address().unwrap()).await.unwrap());
    }
    let (head, text) = get(&gate, "/livez").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(text, "alive\n");
    let mut oldest = idle.remove(0);
    let ended = soon("the oldest to be ended", oldest.read(&mut [0; 1])).await;
    assert!(matches!(ended, Ok(0) | Err(_)));
}
