//! The built-in server over its pipe, as raw lines, in both eras.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};
use tokio::io::{
    AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, Lines, ReadHalf, WriteHalf, duplex,
};

use super::{
    gateway,
    report::{
        BreakerStatus, CanaryReport, ListSource, Report, RouteReport, UpstreamKind, UpstreamReport,
        UpstreamState,
    },
};

/// Bytes of the list of tools: every client of the route reads them before it has done anything.
const LIST_BYTES_MAX: usize = 3_000;

/// The client's end of the pipe.
struct Wire {
    lines: Lines<BufReader<ReadHalf<DuplexStream>>>,
    write: WriteHalf<DuplexStream>,
    modern: bool,
    next: u64,
}

impl Wire {
    async fn modern() -> Self {
        Self::with(report).await
    }

    async fn with(report: fn() -> Report) -> Self {
        let (ours, theirs) = duplex(64 * 1024);
        tokio::spawn(gateway::serve(theirs, Arc::new(report)));
        let (read, write) = tokio::io::split(ours);
        Self { lines: BufReader::new(read).lines(), write, modern: true, next: 1 }
    }

    async fn legacy(version: &str) -> Self {
        let mut wire = Self { modern: false, ..Self::modern().await };
        let params = json!({
            "protocolVersion": version,
            "capabilities": {},
            "clientInfo": { "name": "test", "version": "1" }
        });
        let answer = wire.ask("initialize", params).await;
        assert_eq!(answer["result"]["protocolVersion"], version, "{answer}");
        assert_eq!(answer["result"]["serverInfo"]["name"], "tollgate-gate");
        wire.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })).await;
        wire
    }

    async fn send(&mut self, message: &Value) {
        self.write.write_all(format!("{message}\n").as_bytes()).await.unwrap();
    }

    async fn ask(&mut self, method: &str, mut params: Value) -> Value {
        if self.modern {
            params["_meta"] = json!({
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
                "io.modelcontextprotocol/clientCapabilities": {}
            });
        }
        let id = self.next;
        self.next += 1;
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.send(&message).await;
        let line = self.lines.next_line().await.unwrap().expect("the server has ended");
        let answer: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(answer["id"], id, "{answer}");
        answer
    }

    async fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let params = json!({ "name": tool, "arguments": arguments });
        let mut answer = self.ask("tools/call", params).await;
        assert!(answer["result"].is_object(), "{answer}");
        answer["result"].take()
    }
}

fn upstream(name: &str, state: UpstreamState) -> UpstreamReport {
    UpstreamReport {
        name: name.to_owned(),
        kind: UpstreamKind::Stdio,
        state,
        era: Some("legacy 2025-11-25".to_owned()),
        server: Some("files 1.2.3".to_owned()),
        tools: 12,
        prompts: 0,
        resources: 4,
        templates: 1,
        listed_from: Some(ListSource::Upstream),
        last_error: None,
        last_words: None,
        since: None,
        last_try: None,
        next_try: None,
        restarts: 2,
        calls: 30,
        failures: 1,
        processes: 1,
        lists: BTreeMap::new(),
        left_out: vec![],
        mended: vec![],
        unusable_schemas: vec![],
        replicas: Vec::new(),
        canary: None,
        breaker: Some(BreakerStatus::Closed),
        breaker_opened: 0,
        breaker_refused: 0,
        tool_breakers: BTreeMap::new(),
        retries_left: None,
    }
}

fn report() -> Report {
    let error = "npx: not found in PATH (/bin): install Node.js";
    Report {
        version: "0.1.0".to_owned(),
        uptime_seconds: 3 * 3600 + 12 * 60 + 5,
        routes: vec![RouteReport {
            path: "/mcp".to_owned(),
            tools: 15,
            prompts: 0,
            resources: 4,
            templates: 1,
            degraded: vec!["memory".to_owned()],
            other_names: Vec::new(),
        }],
        upstreams: vec![
            upstream("files", UpstreamState::Ready),
            UpstreamReport {
                era: None,
                server: None,
                listed_from: Some(ListSource::Disk),
                last_error: Some(error.to_owned()),
                ..upstream("memory", UpstreamState::Failed)
            },
        ],
        budgets: Vec::new(),
        counters: BTreeMap::from([("calls".to_owned(), 60), ("sessions".to_owned(), 2)]),
        degraded: Vec::new(),
        edit_refused: None,
        certificates: Vec::new(),
    }
}

fn text(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap()
}

#[tokio::test]
async fn a_modern_client_discovers_lists_and_calls() {
    let mut wire = Wire::modern().await;
    let found = wire.ask("server/discover", json!({})).await;
    let versions = found["result"]["supportedVersions"].as_array().unwrap();
    assert!(versions.contains(&json!("2026-07-28")), "{found}");
    assert_eq!(found["result"]["capabilities"], json!({ "tools": {} }));

    let list = wire.ask("tools/list", json!({})).await;
    assert_eq!(list["result"]["ttlMs"], 86_400_000, "{list}");
    assert_eq!(list["result"]["cacheScope"], "public");
    let result = wire.call("gateway_upstream", json!({ "name": "files" })).await;
    assert_eq!(result["resultType"], "complete");
    assert_eq!(result["structuredContent"]["server"], "files 1.2.3");
}

#[tokio::test]
async fn a_modern_client_need_not_discover() {
    let mut wire = Wire::modern().await;
    let result = wire.call("gateway_status", json!({})).await;
    assert_eq!(result["structuredContent"]["version"], "0.1.0");
}

#[tokio::test]
async fn a_probe_may_be_followed_by_the_old_handshake() {
    let mut wire = Wire::modern().await;
    wire.ask("server/discover", json!({})).await;
    wire.modern = false;
    let params = json!({
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": { "name": "test", "version": "1" }
    });
    let answer = wire.ask("initialize", params).await;
    assert_eq!(answer["result"]["protocolVersion"], "2025-11-25");
    assert_eq!(wire.call("gateway_status", json!({})).await["isError"], false);
}

#[tokio::test]
async fn a_legacy_client_lists_and_calls() {
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let mut wire = Wire::legacy(version).await;
        assert_eq!(wire.ask("ping", json!({})).await["result"], json!({}));
        let list = wire.ask("tools/list", json!({})).await;
        assert_eq!(list["result"]["tools"].as_array().map(Vec::len), Some(3));
        assert_eq!(list["result"].get("ttlMs"), None, "{list}");
        let result = wire.call("gateway_status", json!({})).await;
        assert_eq!(result["isError"], false);
        assert_eq!(result.get("resultType"), None, "{result}");
    }
}

#[tokio::test]
async fn tools_are_described_in_few_bytes() {
    let mut wire = Wire::modern().await;
    let list = wire.ask("tools/list", json!({})).await;
    let tools = list["result"]["tools"].as_array().unwrap();
    let names: Vec<&str> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["gateway_status", "gateway_upstream", "gateway_upstreams"]);
    let bytes = list["result"].to_string().len();
    assert!(bytes <= LIST_BYTES_MAX, "{bytes} bytes: {list}");
    for tool in tools {
        assert_eq!(tool["annotations"]["readOnlyHint"], true);
        assert_eq!(tool["annotations"]["openWorldHint"], false);
        let arguments = match tool["name"].as_str().unwrap() {
            "gateway_upstream" => json!({ "name": "memory" }),
            _ => json!({}),
        };
        let input = jsonschema::validator_for(&tool["inputSchema"]).unwrap();
        assert!(input.is_valid(&arguments), "{tool}");
        let result = wire.call(tool["name"].as_str().unwrap(), arguments).await;
        assert!(result["structuredContent"].is_object(), "{result}");
    }
    let state = &tools[2]["inputSchema"]["properties"]["state"];
    assert_eq!(state["enum"], json!(["idle", "opening", "ready", "degraded", "tripped", "failed"]));
    for word in state["enum"].as_array().unwrap() {
        wire.call("gateway_upstreams", json!({ "state": word })).await;
    }
    assert_eq!(tools[2]["inputSchema"].get("required"), None);
}

/// Whoever may call the tools learns nothing of the machine's folders.
#[tokio::test]
async fn no_answer_shows_a_path() {
    let mut wire = Wire::with(report_with_paths).await;
    let mut said = String::new();
    for (tool, arguments) in [
        ("gateway_status", json!({})),
        ("gateway_upstreams", json!({})),
        ("gateway_upstream", json!({ "name": "memory" })),
    ] {
        said.push_str(&wire.call(tool, arguments).await.to_string());
    }
    for word in ["home", "/ann", "usr", ".cargo"] {
        assert!(!said.contains(word), "{word} in {said}");
    }
    assert!(said.contains("not found in PATH (…:…): install Node.js"), "{said}");
    assert!(said.contains("/mcp") && said.contains("https://example.com/mcp"), "{said}");
    assert!(!said.contains("\"retries\""), "a counter that is zero: {said}");
}

fn report_with_paths() -> Report {
    let mut report = report();
    let path = |words: &str| format!("{words} /home/ann/it.js");
    let error = "npx: not found in PATH (/usr/bin:~/.cargo/bin): install Node.js";
    report.counters.insert("retries".to_owned(), 0);
    for upstream in &mut report.upstreams {
        upstream.last_error = Some(format!("{error}; https://example.com/mcp said 500"));
        upstream.left_out = vec![path("tools \"a\": see")];
        upstream.mended = vec![path("b")];
        upstream.unusable_schemas = vec![path("c")];
        upstream.lists = BTreeMap::from([("tools/list".to_owned(), path("cannot read"))]);
        upstream.canary =
            Some(CanaryReport { upstream: "n".to_owned(), weight: 0, back: Some(path("d")) });
    }
    report
}

#[test]
fn paths_are_taken_out_and_addresses_stay() {
    for (text, wanted) in [
        ("cannot run /home/ann/bin/x: No such file", "cannot run …: No such file"),
        ("Cannot find module '/home/ann/My Files/x.js'", "Cannot find module '…'"),
        ("at f (/home/ann/x.js:1:2)", "at f (…:1:2)"),
        ("in \"C:\\Users\\ann\\x.cmd\"", "in \"…\""),
        ("C:\\Users\\ann\\x.cmd is missing", "… is missing"),
        ("file:///home/ann/x.mjs:3", "…:3"),
        ("PATH (/bin:/usr/bin:~/.cargo/bin)", "PATH (…:…:…)"),
        ("cwd=/srv/x,HOME=/root", "cwd=…,HOME=…"),
        ("`/opt/x y/z` failed", "`…` failed"),
        ("it's in /opt", "it's in …"),
        ("https://example.com:8443/a/b?c=1 said 404", "https://example.com:8443/a/b?c=1 said 404"),
        ("http://127.0.0.1:1/mcp refused", "http://127.0.0.1:1/mcp refused"),
        ("application/json, 3 / 4, and/or, a//b", "application/json, 3 / 4, and/or, a//b"),
        ("localhost:8080/mcp ünï/cödé", "localhost:8080/mcp ünï/cödé"),
        ("301, to `/moved`, which is not followed", "301, to `/moved`, which is not followed"),
        ("POST /mcp/v1 said 404", "POST /mcp/v1 said 404"),
        ("", ""),
    ] {
        assert_eq!(super::text::without_paths(text), wanted, "{text}");
    }
}

#[tokio::test]
async fn answers_read_well() {
    let mut wire = Wire::modern().await;
    let status = wire.call("gateway_status", json!({})).await;
    assert_eq!(
        text(&status),
        "Tollgate 0.1.0, up 3 h 12 min\n\
         upstreams: 1 failed, 1 ready\n\
         - memory is failed: npx: not found in PATH (…): install Node.js\n\
         route /mcp: 15 tools, 0 prompts, 4 resources, 1 templates\n\
         - not ready: memory\n\
         counters: calls 60, sessions 2\n"
    );
    let table = wire.call("gateway_upstreams", json!({})).await;
    assert_eq!(
        text(&table),
        "|name|kind|state|era|tools|prompts|resources|templates|calls|failures|\n\
         |-|-|-|-|-|-|-|-|-|-|\n\
         |files|stdio|ready|legacy 2025-11-25|12|0|4|1|30|1|\n\
         |memory|stdio|failed|-|12|0|4|1|30|1|\n\
         last error of memory: npx: not found in PATH (…): install Node.js\n"
    );
    let one = wire.call("gateway_upstream", json!({ "name": "memory" })).await;
    assert_eq!(
        text(&one),
        "memory (stdio) is failed\n\
         protocol: not agreed yet\n\
         server: not known yet\n\
         offers: 12 tools, 0 prompts, 4 resources, 1 templates (as last known, kept from before)\n\
         calls: 30, failures: 1, restarts: 2, processes: 1\n\
         last error: npx: not found in PATH (…): install Node.js\n"
    );
}

#[tokio::test]
async fn the_table_is_filtered_by_state() {
    let mut wire = Wire::modern().await;
    let names = |result: &Value| -> Vec<String> {
        let all = result["structuredContent"]["upstreams"].as_array().unwrap();
        all.iter().map(|upstream| upstream["name"].as_str().unwrap().to_owned()).collect()
    };
    let failed = wire.call("gateway_upstreams", json!({ "state": "failed" })).await;
    assert_eq!(names(&failed), ["memory"]);
    let idle = wire.call("gateway_upstreams", json!({ "state": "idle" })).await;
    assert!(names(&idle).is_empty());
    assert_eq!(text(&idle), "none\n");
}

#[tokio::test]
async fn an_unknown_name_is_answered_with_the_nearest() {
    let mut wire = Wire::modern().await;
    let result = wire.call("gateway_upstream", json!({ "name": "memry" })).await;
    assert_eq!(result["isError"], true);
    assert_eq!(text(&result), "no upstream is named `memry`; the nearest are: memory, files");
    assert_eq!(result["structuredContent"]["error"], "not_found");
}

#[tokio::test]
async fn wrong_arguments_are_told() {
    let mut wire = Wire::modern().await;
    let params = json!({ "name": "gateway_upstreams", "arguments": { "state": "sleepy" } });
    let answer = wire.ask("tools/call", params).await;
    assert!(answer.to_string().contains("unknown variant `sleepy`, expected one of"), "{answer}");
}

#[tokio::test]
async fn it_ends_with_its_client() {
    let (ours, theirs) = duplex(1024);
    let served = tokio::spawn(gateway::serve(theirs, Arc::new(report)));
    drop(ours);
    served.await.unwrap();
}
