//! The fakes and the client, proved on each other, so that a failure elsewhere is the gate's.

use std::process::Stdio;

use hyper::Method;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::{
    client::{Client, endpoint},
    fake::{self, Act, Fake},
    message::Message,
};

fn modern(fake: &Fake) -> Client {
    endpoint(fake.address(), "/mcp").modern()
}

async fn legacy(fake: &Fake, version: &str) -> Client {
    endpoint(fake.address(), "/mcp").legacy(version).await
}

#[tokio::test]
async fn each_era_lists_and_calls() {
    let new = fake::http().tool("log").tool("diff").pages_of(1);
    assert_eq!(modern(&new).tools().await, ["log", "diff"]);
    let old = fake::legacy("2025-06-18").tool("log").tool("diff").pages_of(1);
    let client = legacy(&old, "2025-06-18").await;
    assert_eq!(client.tools().await, ["log", "diff"]);
    assert_eq!(client.call("log").await["content"][0]["text"], "log ran");
    assert_eq!(old.seen("tools/call").len(), 1);
}

#[tokio::test]
async fn each_era_refuses_the_other() {
    let new = fake::http().tool("log");
    let initialize = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#;
    let reply = endpoint(new.address(), "/mcp").post(&[], initialize).await;
    assert_eq!(reply.status, 400);
    let old = fake::legacy("2025-06-18").tool("log");
    let reply = modern(&old).start("server/discover", json!({})).await;
    assert_eq!((reply.status, reply.message().await.code()), (400, -32000));
    let both = fake::dual().tool("log");
    assert_eq!(modern(&both).tools().await, ["log"]);
    assert_eq!(legacy(&both, "2025-11-25").await.tools().await, ["log"]);
}

#[tokio::test]
async fn modern_rules_are_held() {
    let new = fake::http().tool("log");
    let client = modern(&new);
    let call = client.request("tools/call", json!({ "name": "log" }));
    let mut headers = client.headers(&call);
    headers.retain(|(name, _)| *name != "mcp-name");
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let reply = client.endpoint.post(&headers, &call).await;
    assert_eq!((reply.status, reply.message().await.code()), (400, -32020));
}

#[tokio::test]
async fn a_fake_asks_and_is_answered() {
    let elicit = json!({ "message": "sure?", "requestedSchema": {} });
    let old = fake::legacy("2025-06-18").tool("ask").ask("elicitation/create", &elicit);
    let client = legacy(&old, "2025-06-18").await;
    let mut reply = client.start("tools/call", json!({ "name": "ask" })).await;
    let ask = reply.until("elicitation/create").await;
    assert_eq!(client.respond(&ask.id.unwrap(), r#"{"action":"accept"}"#).await.status, 202);
    let answers = reply.message().await.result()["structuredContent"]["answers"].clone();
    assert_eq!(answers, json!([{ "action": "accept" }]));

    let new = fake::http().tool("ask").ask("elicitation/create", &elicit);
    let result = modern(&new).call("ask").await;
    assert_eq!(result["resultType"], "input_required");
    let retry = json!({ "name": "ask", "arguments": {}, "requestState": result["requestState"],
        "inputResponses": { "k0": { "action": "accept" } } });
    let refused = modern(&new).ask("tools/call", retry).await;
    assert_eq!(refused.code(), -32602, "its state has an escape that this client re-writes");
}

#[tokio::test]
async fn a_fake_notices_who_leaves() {
    let new = fake::http().tool("slow").hang();
    let client = modern(&new);
    let call = client.start("tools/call", json!({ "name": "slow" }));
    tokio::select! {
        _ = call => panic!("it should hang"),
        _ = new.receives("tools/call") => (),
    }
    let left = || new.seen("tools/call")[0].abandoned().then_some(());
    crate::eventually("the fake sees the end", left).await;
}

#[tokio::test]
async fn a_fake_tells_of_changes_and_forgets_sessions() {
    let old = fake::legacy("2025-06-18").tool("log");
    let client = legacy(&old, "2025-06-18").await;
    let mut stream = client.listen().await;
    crate::eventually("the stream is open", || (old.listeners() == 1).then_some(())).await;
    old.add_tool("diff");
    stream.until("notifications/tools/list_changed").await;
    assert_eq!(client.tools().await, ["log", "diff"]);
    old.forgets_sessions();
    assert_eq!(client.start("tools/list", json!({})).await.status, 404);
    old.goes_down();
    old.comes_back();
    assert_eq!(legacy(&old, "2025-06-18").await.close().await, 200);
}

#[tokio::test]
async fn a_fake_of_events_answers_on_its_stream() {
    let old = fake::sse("2024-11-05").tool("log");
    let accept = [("accept", "text/event-stream")];
    let at = endpoint(old.address(), "/sse");
    assert_eq!(at.post(&[], "{}").await.status, 405);
    let mut stream = at.send(Method::GET, &accept, b"").await;
    let mailbox = endpoint(old.address(), &stream.event().await.unwrap().data);
    let call = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"log"}}"#;
    assert_eq!(mailbox.post(&[], call).await.status, 202);
    let answer = stream.next().await.unwrap();
    assert_eq!(answer.id.as_deref(), Some("7"));
    assert_eq!(answer.result()["content"][0]["text"], "log ran");
    drop(stream);
    crate::eventually("the stream is closed", || (old.listeners() == 0).then_some(())).await;
    assert_eq!(mailbox.post(&[], call).await.status, 404, "the session has ended with it");
}

#[tokio::test]
async fn faults_are_what_they_say() {
    let new = fake::http().tool("log").does(Act::Garbage);
    let reply = modern(&new).start("tools/call", json!({ "name": "log" })).await;
    assert_eq!(reply.text().await, "<html>not JSON");
    new.becomes("log", Act::HugeLine(1 << 20));
    let reply = modern(&new).start("tools/call", json!({ "name": "log" })).await;
    assert!((1 << 20) <= reply.bytes().await.len());
    new.becomes("log", Act::Twice);
    let reply = modern(&new).start("tools/call", json!({ "name": "log" })).await;
    assert_eq!(reply.text().await.matches("\"result\"").count(), 2);
    new.becomes("log", Act::ClosesMidway);
    let reply = modern(&new).start("tools/call", json!({ "name": "log" })).await;
    assert!(reply.text().await.ends_with("\"id\":"));
    let many = fake::http().does(Act::MillionTools);
    let reply = modern(&many).start("tools/list", json!({})).await;
    let some = reply.raw_until("\"t99999\"").await;
    assert!(98_000 < some.matches("inputSchema").count());
}

#[tokio::test]
async fn a_process_answers_line_by_line() {
    let git = fake::stdio("2025-06-18").tool("log").tool("odd").does(Act::Garbage);
    let section = git.section();
    let args = section.split_once("args = ").unwrap().1;
    let args: Vec<String> = serde_json::from_str(args.trim()).unwrap();
    let mut child = tokio::process::Command::new("python3");
    let mut child = child
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut input = child.stdin.take().unwrap();
    let call =
        "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/call\",\"params\":{\"name\":\"log\"}}\n";
    input.write_all(call.as_bytes()).await.unwrap();
    let answer = crate::soon("an answer", lines.next_line()).await.unwrap().unwrap();
    let answer = Message::parse(answer.as_bytes());
    assert_eq!(answer.id.as_deref(), Some("7"));
    assert_eq!(answer.result()["content"][0]["text"], "log ran");
    assert_eq!((git.seen("tools/call").len(), git.pids().len()), (1, 1));
}
