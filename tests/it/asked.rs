//! How much a server may ask at once, in a call or in a task of its own, and how long such a task
//! may take.

use serde_json::{Value, json};

use crate::{
    client::Client,
    eventually,
    fake::{self, Act, Fake},
    gate::{Gate, gateway},
    soon,
};

const TASKS: &str = "io.modelcontextprotocol/tasks";

fn form(bytes: usize) -> (&'static str, Value) {
    let schema = json!({ "type": "object", "properties": {} });
    let message = "x".repeat(bytes);
    ("elicitation/create", json!({ "message": message, "requestedSchema": schema }))
}

fn sampling(bytes: usize) -> (&'static str, Value) {
    let content = json!({ "type": "text", "text": "x".repeat(bytes) });
    let messages = json!([{ "role": "user", "content": content }]);
    ("sampling/createMessage", json!({ "messages": messages, "maxTokens": 5 }))
}

/// A modern server's task that asks this.
fn task(questions: &[(&str, Value)]) -> Fake {
    let requests: serde_json::Map<String, Value> = questions
        .iter()
        .enumerate()
        .map(|(at, (method, params))| {
            (format!("q{at}"), json!({ "method": method, "params": params }))
        })
        .collect();
    let requests = Value::Object(requests);
    fake::http()
        .tool("job")
        .task(&[&format!(r#""status":"input_required","inputRequests":{requests}"#)])
}

/// A tool that asks this before it answers.
fn asks(server: Fake, questions: &[(&str, Value)]) -> Fake {
    questions.iter().fold(server.tool("job"), |server, (method, params)| server.ask(method, params))
}

async fn gate(server: &Fake, bytes: &str) -> Gate {
    let limits = format!("limits.questions_bytes_max = {bytes:?}");
    gateway().server(&limits).upstream("git", server).start().await
}

fn everything() -> Value {
    json!({ "elicitation": {}, "sampling": {} })
}

async fn legacy(gate: &Gate) -> Client {
    gate.legacy_with("2025-06-18", everything()).await
}

/// What the client is told at the end, with the messages before it.
async fn told(client: &Client) -> String {
    let mut reply = client.start("tools/call", json!({ "name": "job" })).await;
    let mut all = String::new();
    if !reply.is_stream() {
        return format!("{:?}", reply.message().await);
    }
    while let Some(message) = soon("a message", reply.next()).await {
        all.push_str(&format!("{message:?}"));
        if message.method.is_none() || message.method.as_deref() != Some("notifications/progress") {
            break;
        }
    }
    all
}

/// Whoever asks, in whichever way: with too many bytes the call ends, and says which key bounds it.
#[tokio::test]
async fn questions_are_bounded_in_bytes_wherever_they_wait() {
    let many = |count: usize, bytes: usize| vec![form(bytes); count];
    let rows: Vec<(&str, Vec<(&str, Value)>)> = vec![
        ("one form", vec![form(3_000)]),
        ("one conversation", vec![sampling(3_000)]),
        ("two", vec![form(1_500), sampling(1_500)]),
        ("ten", many(10, 300)),
        ("forty", many(40, 60)),
    ];
    for (what, questions) in &rows {
        let servers: [(&str, Fake); 3] = [
            ("task", task(questions)),
            ("call", asks(fake::http(), questions)),
            ("older", asks(fake::legacy("2025-06-18"), &questions[..1])),
        ];
        for (kind, server) in servers {
            let is_small = kind == "older" && questions.len() != 1;
            let gate = gate(&server, "2KiB").await;
            let client = match kind {
                "older" => gate.client(fake::MODERN, everything()),
                _ => legacy(&gate).await,
            };
            let told = told(&client).await;
            let refused = gate.app().viewer().report().counters["refused_question_bytes"];
            assert_eq!(told.contains("`questions_bytes_max`"), !is_small, "{what}, {kind}: {told}");
            assert_eq!(refused, u64::from(!is_small), "{what}, {kind}");
            if kind == "task" {
                server.receives("tasks/cancel").await;
                eventually("it is over", || (server.jobs_underway() == 0).then_some(())).await;
            }
        }
        // With the usual bound it is asked.
        let server = task(questions);
        let gate = gateway().upstream("git", &server).start().await;
        let told = told(&legacy(&gate).await).await;
        assert!(told.contains("\"xx") || told.contains("xx"), "{what}: {told}");
    }
}

/// A task of the gate holds the questions of its server until its client answers: all of them
/// count.
#[tokio::test]
async fn questions_of_a_task_of_the_gate_are_bounded_together() {
    for (count, bytes, fits) in
        [(1, 500, true), (3, 500, true), (1, 3_000, false), (4, 700, false), (10, 300, false)]
    {
        let server = fake::legacy("2025-06-18").tool("job").hang();
        let gate = gate(&server, "2KiB").await;
        let can = json!({ "elicitation": {}, "extensions": { TASKS: {} } });
        let client = gate.client(fake::MODERN, can);
        let begins = async { client.call("job").await };
        let asking = async {
            server.receives("tools/call").await;
            for _ in 0..count {
                let (method, params) = form(bytes);
                server.asks_aside(method, &params);
                // Longer than questions are gathered for.
                tokio::time::sleep(std::time::Duration::from_millis(30)).await;
            }
        };
        let (begun, ()) = tokio::join!(begins, asking);
        let counted = || gate.app().viewer().report().counters["refused_question_bytes"];
        let case = format!("{count} of {bytes}: {begun}");
        if fits {
            assert_eq!((begun["resultType"].as_str(), counted()), (Some("task"), 0), "{case}");
            continue;
        }
        eventually(&case, || (counted() == 1).then_some(())).await;
        if begun["resultType"] == "task" {
            let id = begun["taskId"].clone();
            let looked = client.ask("tasks/get", json!({ "taskId": id })).await;
            assert!(format!("{looked:?}").contains("`questions_bytes_max`"), "{looked:?}");
        } else {
            assert!(begun.to_string().contains("`questions_bytes_max`"), "{case}");
        }
    }
}

/// The time of a call is that of its task, too: a server that opens slowly leaves less of it, and
/// is told when it is over.
#[tokio::test]
async fn the_time_of_a_servers_task_is_what_is_left_of_its_calls() {
    let working = r#""status":"working""#;
    let done = r#""status":"completed","result":{"content":[]}"#;
    let mut steps = vec![working; 15];
    steps.push(done);
    for (total, comes) in [("2s", false), ("60s", true)] {
        let server = fake::http().tool("job").task(&steps);
        // It is asked whether it takes legacy clients, and takes its time to say that it does not.
        let server = server.on("initialize", Act::Later(1_500));
        let keys = format!("timeout = {{ idle = \"{total}\", total = \"{total}\" }}");
        let gate = gateway().upstream_with("git", &server, &keys).start().await;
        let client = gate.legacy("2025-06-18").await;
        let answer = client.ask("tools/call", json!({ "name": "job" })).await.result();
        if comes {
            assert_eq!(answer, json!({ "content": [] }));
        } else {
            assert_eq!(answer["structuredContent"]["error"], "service_timeout", "{answer}");
            server.receives("tasks/cancel").await;
        }
    }
}
