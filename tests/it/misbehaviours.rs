//! What servers in the field do wrong, row by row of `tests/data/misbehaviours.json`. The servers
//! are played by `tests/it/fake/misbehave.py`, which any client can be tried on.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    client::{Client, Endpoint},
    gate::{Gate, Plan, gateway},
    message::Message,
};

const TABLE: &str = include_str!("../data/misbehaviours.json");
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/fake/misbehave.py");

/// The script with all rows that are over HTTP; it ends with its standard input.
struct Servers {
    child: Child,
    port: u16,
}

impl Servers {
    #[allow(clippy::disallowed_methods, reason = "the peer, not the gate, is this process")]
    fn start() -> Self {
        let mut command = Command::new("python3");
        command.args([SCRIPT, "http"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, port: line.trim().parse().unwrap() }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn rows(transport: &str) -> Vec<Value> {
    let rows: Vec<Value> = serde_json::from_str(TABLE).unwrap();
    rows.into_iter().filter(|row| row.get(transport).is_some()).collect()
}

fn name(row: &Value) -> &str {
    row["name"].as_str().unwrap()
}

/// A gate with a route and an upstream for each row.
fn plan(rows: &[Value], section: impl Fn(&str) -> String) -> Plan {
    let plan = gateway().server("limits.answer_bytes_max = \"1MiB\"");
    rows.iter().fold(plan, |plan, row| {
        let name = name(row);
        let route = format!("upstreams = [{name:?}]");
        plan.section(name, &section(name)).route(&format!("/{name}"), &route)
    })
}

/// What is wrong with how several callers fare at once, of whom each has a session of its own.
async fn faults_of_many(gate: &Endpoint, row: &Value) -> Vec<String> {
    let each = (2..=5).map(async |address| {
        let client = Endpoint { from: [127, 0, 0, address].into(), ..gate.clone() }.modern();
        for call in 1..=5 {
            let found = call_once(&client).await;
            if let Some(want) = differs(&row["expect"], &found) {
                return Some(format!("caller {address}, call {call}: wants {want}, is {found}"));
            }
        }
        None
    });
    futures_util::future::join_all(each).await.into_iter().flatten().collect()
}

/// What is wrong with how a client fares with one row.
async fn faults(gate: &Endpoint, row: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    for client in [gate.modern(), gate.legacy("2025-06-18").await] {
        let era = if client.is_modern() { "modern" } else { "legacy" };
        if client.tools().await != ["echo"] {
            faults.push(format!("{era}: lists {:?}", client.tools().await));
            continue;
        }
        for call in 1..=5 {
            let found = call_once(&client).await;
            if let Some(want) = differs(&row["expect"], &found) {
                faults.push(format!("{era}, call {call}: wants {want}, is {found}"));
                break;
            }
        }
    }
    if name(row).starts_with("session_") {
        faults.extend(faults_of_many(gate, row).await);
    }
    faults
}

/// The message that answers a call, and how much progress came before it.
async fn call_once(client: &Client) -> Value {
    let call = json!({ "name": "echo", "arguments": {}, "_meta": { "progressToken": 41 } });
    let mut reply = client.start("tools/call", call).await;
    let (mut progress, mut tokens) = (0, true);
    if !reply.is_stream() {
        return found(&reply.message().await, 0, true);
    }
    loop {
        let Some(message) = reply.next().await else { return json!("no answer") };
        if message.method.as_deref() == Some("notifications/progress") {
            progress += 1;
            tokens &= message.params()["progressToken"] == 41;
            continue;
        }
        if message.method.is_some() {
            continue;
        }
        return found(&message, progress, tokens);
    }
}

fn found(message: &Message, progress: u64, tokens: bool) -> Value {
    let value = |text: &Option<String>| -> Value {
        text.as_ref().map_or(Value::Null, |text| serde_json::from_str(text).unwrap())
    };
    let (result, error) = (value(&message.result), value(&message.error));
    json!({ "result": result, "error": error, "progress": progress, "tokens": tokens })
}

fn differs(expect: &Value, found: &Value) -> Option<String> {
    let result = &found["result"];
    let good = if let Some(fails) = expect.get("fails") {
        result["isError"] == true && &result["structuredContent"]["error"] == fails
    } else if let Some(message) = expect.get("rpc") {
        &found["error"]["message"] == message && found["error"]["code"].is_i64()
    } else {
        let text = expect.get("text").cloned().unwrap_or(json!("ran"));
        let progress = expect.get("progress").cloned().unwrap_or(json!(0));
        result["content"][0]["text"] == text
            && found["progress"] == progress
            && found["tokens"] == true
    };
    (!good).then(|| expect.to_string())
}

async fn all_as_expected(gate: &Gate, rows: &[Value]) {
    let each = rows.iter().map(|row| async move {
        let faults = faults(&gate.at(&format!("/{}", name(row))), row).await;
        faults.into_iter().map(move |fault| format!("{}: {fault}", name(row)))
    });
    let faults: Vec<_> = futures_util::future::join_all(each).await.into_iter().flatten().collect();
    assert!(faults.is_empty(), "of {} rows:\n{}\n", rows.len(), faults.join("\n"));
}

#[tokio::test]
async fn servers_over_http_are_understood_as_far_as_they_can_be() {
    let (servers, rows) = (Servers::start(), rows("http"));
    let url = |name: &str| format!("url = \"http://127.0.0.1:{}/{name}\"\n", servers.port);
    let plan = plan(&rows, url).section("gate", "builtin = \"gate\"\n");
    let gate = plan.route("/gate", "upstreams = [\"gate\"]").start().await;
    all_as_expected(&gate, &rows).await;
    let shown = gate.at("/gate").modern();
    let counters = shown.call("gateway_status").await["structuredContent"]["counters"].clone();
    for counted in [
        "upstream_events_ignored",
        "upstream_sessions_renewed",
        "upstream_garbage",
        "notices_dropped",
    ] {
        assert!(counters[counted].as_u64() > Some(0), "{counted}: {counters}");
    }
    let report = gate.app().viewer().report();
    let of =
        |name: &str| report.upstreams.iter().map(|one| json!(one)).find(|one| one["name"] == name);
    for row in rows.iter().map(name).filter(|name| name.starts_with("session_")) {
        let found = of(row).unwrap();
        assert_eq!(found["restarts"], 0, "a server that forgets a session is well: {found}");
        assert_eq!(found["state"], "ready", "{found}");
    }
    for row in rows.iter().filter(|row| row["expect"]["log"].is_string()) {
        let call = json!({ "name": "gateway_upstream", "arguments": { "name": name(row) } });
        let report = shown.ask("tools/call", call).await.result()["structuredContent"].clone();
        let error = report["last_error"].as_str().unwrap();
        assert!(error.contains(row["expect"]["log"].as_str().unwrap()), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[tokio::test]
async fn servers_over_stdio_are_understood_as_far_as_they_can_be() {
    let rows = rows("stdio");
    let command =
        |name: &str| format!("command = \"python3\"\nargs = [{SCRIPT:?}, \"stdio\", {name:?}]\n");
    // No more processes at once than start in the time that a test waits, on a loaded machine.
    for rows in rows.chunks(4) {
        let gate = plan(rows, command).start().await;
        all_as_expected(&gate, rows).await;
    }
}
