//! What belongs to a call while it runs: progress, log messages, questions to the client, and the
//! way back to a broken stream.

use serde_json::{Value, json};

use crate::{client::Client, fake, gate::gateway};

fn notification(method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "method": method, "params": params })
}

fn progress(step: u32) -> Value {
    notification("notifications/progress", json!({ "progressToken": "TOKEN", "progress": step }))
}

fn with_token(tool: &str) -> Value {
    json!({ "name": tool, "_meta": { "progressToken": "p-1" } })
}

async fn clients(gate: &crate::gate::Gate) -> [Client; 2] {
    [gate.legacy("2025-06-18").await, gate.modern()]
}

#[tokio::test]
async fn what_is_not_streamed_is_json() {
    let (old, new) = (fake::legacy("2025-06-18").tool("old"), fake::http().tool("new"));
    let gate = gateway().upstream("old", &old).upstream("new", &new).start().await;
    for client in clients(&gate).await {
        for tool in ["old", "new"] {
            let reply = client.start("tools/call", json!({ "name": tool })).await;
            assert_eq!(reply.header("content-type"), "application/json", "{tool}");
        }
    }
}

#[tokio::test]
async fn progress_and_log_come_on_the_calls_own_stream() {
    let log = notification("notifications/message", json!({ "level": "info", "data": "half" }));
    let events = [progress(1), log, progress(2)];
    let old = fake::legacy("2025-06-18").logging().tool("old").stream(&events);
    let new = fake::http().tool("new").stream(&events);
    let gate = gateway().upstream("old", &old).upstream("new", &new).start().await;
    for client in clients(&gate).await {
        for tool in ["old", "new"] {
            let mut call = with_token(tool);
            call["_meta"]["io.modelcontextprotocol/logLevel"] = json!("debug");
            let mut reply = client.start("tools/call", call).await;
            assert!(reply.is_stream(), "{tool}");
            assert_eq!(reply.header("x-accel-buffering"), "no");
            for step in [1, 2] {
                let params = reply.until("notifications/progress").await.params();
                assert_eq!(
                    (&params["progress"], &params["progressToken"]),
                    (&json!(step), &json!("p-1"))
                );
            }
            assert_eq!(reply.message().await.result()["content"][0]["text"], format!("{tool} ran"));
        }
    }
}

#[tokio::test]
async fn each_event_comes_as_soon_as_it_is_sent() {
    let elicit = json!({ "message": "sure?", "requestedSchema": { "type": "object" } });
    let git = fake::legacy("2025-06-18").tool("ask").ask("elicitation/create", &elicit);
    let gate = gateway().upstream("git", &git).start().await;
    let client = gate.legacy_with("2025-06-18", json!({ "elicitation": {} })).await;
    let mut reply = client.start("tools/call", json!({ "name": "ask" })).await;
    reply.until("elicitation/create").await;
    assert_eq!(git.all().iter().filter(|seen| seen.message().result.is_some()).count(), 0);
}

#[tokio::test]
async fn two_callers_of_one_process_keep_their_tokens() {
    let params = json!({ "progressToken": "TOKEN", "progress": 1 });
    let step = notification("notifications/progress", params);
    let git = fake::stdio("2025-06-18").tool("log").stream(&[step]);
    let gate = gateway().upstream("git", &git).start().await;
    let clients = clients(&gate).await;
    for client in &clients {
        let mut reply = client.start("tools/call", with_token("log")).await;
        let params = reply.until("notifications/progress").await.params();
        assert_eq!(params["progressToken"], "p-1");
        reply.message().await.result();
    }
    let calls = git.seen("tools/call");
    let token = |at: usize| calls[at].message().params()["_meta"]["progressToken"].clone();
    assert_ne!(token(0), token(1), "on a shared process they differ");
    assert_ne!(calls[0].message().id, calls[1].message().id);
}

#[tokio::test]
async fn a_legacy_server_asks_a_legacy_client_in_mid_call() {
    let asks = [
        (
            "elicitation/create",
            json!({ "message": "sure?", "requestedSchema": { "type": "object" } }),
            r#"{"action":"accept","content":{"b":1,"a":1e400}}"#,
        ),
        (
            "sampling/createMessage",
            json!({ "messages": [], "maxTokens": 5 }),
            r#"{"role":"assistant","model":"m","content":{"type":"text","text":"\u00e9"}}"#,
        ),
        ("roots/list", json!({}), r#"{"roots":[{"uri":"file:///x"}]}"#),
    ];
    for upstream in [fake::legacy("2025-06-18"), fake::stdio("2025-06-18")] {
        let git = asks
            .iter()
            .fold(upstream.tool("ask"), |git, (method, params, _)| git.ask(method, params));
        let gate = gateway().upstream("git", &git).start().await;
        let capabilities = json!({ "elicitation": {}, "sampling": {}, "roots": {} });
        let client = gate.legacy_with("2025-06-18", capabilities).await;
        let mut reply = client.start("tools/call", json!({ "name": "ask" })).await;
        for (method, params, answer) in &asks {
            let ask = reply.until(method).await;
            assert_eq!(ask.params(), *params);
            assert_eq!(client.respond(&ask.id.unwrap(), answer).await.status, 202);
        }
        reply.message().await.result();
        let answers: Vec<_> = git.all().iter().filter_map(|seen| seen.message().result).collect();
        assert_eq!(
            answers,
            asks.each_ref().map(|(_, _, answer)| (*answer).to_owned()),
            "byte for byte"
        );
    }
}

#[tokio::test]
async fn a_clients_error_goes_back_to_the_server_that_asked() {
    let git = fake::legacy("2025-06-18").tool("ask").ask("roots/list", &json!({}));
    let gate = gateway().upstream("git", &git).start().await;
    let client = gate.legacy_with("2025-06-18", json!({ "roots": {} })).await;
    let mut reply = client.start("tools/call", json!({ "name": "ask" })).await;
    let id = reply.until("roots/list").await.id.unwrap();
    let error = r#"{"code":-1,"message":"User rejected","data":{"z":1,"a":2}}"#;
    let refusal = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#);
    assert_eq!(client.post(&refusal).await.status, 202);
    let answers = reply.message().await.result()["structuredContent"]["answers"].clone();
    assert_eq!(answers[0]["message"], "User rejected");
}

#[tokio::test]
async fn only_the_session_that_was_asked_can_answer() {
    let git = fake::legacy("2025-06-18").tool("ask").ask("roots/list", &json!({}));
    let gate = gateway().upstream("git", &git).start().await;
    let client = gate.legacy_with("2025-06-18", json!({ "roots": {} })).await;
    let other = gate.legacy_with("2025-06-18", json!({ "roots": {} })).await;
    let mut reply = client.start("tools/call", json!({ "name": "ask" })).await;
    let id = reply.until("roots/list").await.id.unwrap();
    drop(other.respond(&id, r#"{"roots":["forged"]}"#).await);
    assert_eq!(client.respond(&id, r#"{"roots":[]}"#).await.status, 202);
    let answers = reply.message().await.result()["structuredContent"]["answers"].clone();
    assert_eq!(answers, json!([{ "roots": [] }]));
}

#[tokio::test]
async fn input_required_is_relayed_with_its_state() {
    let elicit =
        json!({ "mode": "form", "message": "sure?", "requestedSchema": { "type": "object" } });
    let git = fake::http().tool("ask").ask("elicitation/create", &elicit);
    let gate = gateway().upstream("git", &git).start().await;
    let client = gate.client(fake::MODERN, json!({ "elicitation": { "form": {} } }));
    let first = client.ask("tools/call", json!({ "name": "ask", "arguments": {} })).await;
    let asked = first.result();
    assert_eq!(asked["resultType"], "input_required");
    let inputs = json!({ "k0": { "method": "elicitation/create", "params": elicit } });
    assert_eq!(asked["inputRequests"], inputs);
    let state = crate::message::members(first.result.unwrap().as_bytes())["requestState"].clone();

    let params = json!({ "name": "ask", "arguments": {}, "requestState": "STATE",
        "inputResponses": { "k0": { "action": "accept" } } });
    let retry = client.request("tools/call", params).replace("\"STATE\"", &state);
    let result = client.post(&retry).await.message().await.result();
    assert_eq!(result["structuredContent"]["answers"], json!({ "k0": { "action": "accept" } }));
    let calls = git.seen("tools/call");
    assert_eq!(calls.len(), 2);
    let capabilities =
        &calls[0].message().params()["_meta"]["io.modelcontextprotocol/clientCapabilities"];
    assert_eq!(capabilities, &client.capabilities);
}

#[tokio::test]
async fn a_broken_stream_is_taken_up_again() {
    let elicit = json!({ "message": "sure?", "requestedSchema": { "type": "object" } });
    let git = fake::legacy("2025-11-25").tool("ask").ask("elicitation/create", &elicit);
    let gate = gateway().upstream("git", &git).start().await;
    let client = gate.legacy_with("2025-11-25", json!({ "elicitation": {} })).await;
    let mut reply = client.start("tools/call", json!({ "name": "ask" })).await;
    let (mut last, mut ask) = (None, None);
    while ask.is_none() {
        let event = reply.event().await.expect("the question");
        let message = crate::message::Message::parse(event.data.as_bytes());
        ask = message.method.is_some().then_some(message);
        last = event.id.or(last);
    }
    drop(reply);
    client.respond(&ask.unwrap().id.unwrap(), r#"{"action":"accept"}"#).await;
    let again = client.get(&[("last-event-id", &last.expect("events carry ids"))]).await;
    assert!(again.is_stream());
    assert_eq!(again.message().await.result()["content"][0]["text"], "asked");
}

/// For proxies that would cut a stream: it is closed before they do, and read on (SEP-1699).
#[tokio::test]
async fn an_old_stream_is_closed_and_taken_up_again() {
    let slow = fake::http().tool("slow").hang();
    let gate = gateway().server("limits.stream_age = \"300ms\"").upstream("git", &slow);
    let gate = gate.start().await;
    let client = gate.legacy("2025-11-25").await;
    let mut reply = client.start("tools/call", json!({ "name": "slow" })).await;
    let mut last = None;
    while let Some(event) = reply.event().await {
        last = event.id.or(last);
    }
    let after = last.expect("primed before it is closed");
    let mut again = client.get(&[("last-event-id", &after)]).await;
    assert!(again.is_stream());
    assert!(again.event().await.is_none(), "closed again at the same age");
    assert_eq!(slow.seen("tools/call").len(), 1, "the call goes on");
}

/// "The server MUST NOT replay messages that would have been delivered on a different stream."
#[tokio::test]
async fn another_session_cannot_take_up_a_stream() {
    let step = progress(1);
    let git = fake::legacy("2025-11-25").tool("log").stream(&[step]);
    let gate = gateway().upstream("git", &git).start().await;
    let (client, other) = (gate.legacy("2025-11-25").await, gate.legacy("2025-11-25").await);
    let mut reply = client.start("tools/call", with_token("log")).await;
    let id = reply.event().await.unwrap().id.expect("events carry ids");
    let stolen = other.get(&[("last-event-id", &id)]).await;
    if !stolen.is_stream() {
        assert_eq!(stolen.status / 100, 4);
        return;
    }
    let (mut stolen, changed) = (stolen, "notifications/tools/list_changed");
    git.add_tool("diff");
    assert_eq!(stolen.next().await.unwrap().method.as_deref(), Some(changed), "its own only");
}

#[tokio::test]
async fn silence_is_filled_with_comments() {
    let git = fake::legacy("2025-06-18").tool("log");
    let gate = gateway().server("limits.keep_alive = \"1s\"").upstream("git", &git).start().await;
    let client = gate.legacy("2025-06-18").await;
    let stream = client.listen().await;
    let comments = crate::soon("comments on a silent stream", stream.raw_until("\n:")).await;
    assert!(comments.lines().any(|line| line.starts_with(':')));
}

#[tokio::test]
async fn a_stream_of_2025_11_25_begins_with_a_priming_event() {
    let git = fake::legacy("2025-11-25").tool("log").stream(&[progress(1)]);
    let gate = gateway().upstream("git", &git).start().await;
    for (version, primed) in [("2025-11-25", true), ("2025-06-18", false)] {
        let client = gate.legacy(version).await;
        let mut reply = client.start("tools/call", with_token("log")).await;
        let first = reply.event().await.unwrap();
        assert_eq!(first.data.is_empty() && first.id.is_some(), primed, "{version}");
    }
}

#[tokio::test]
async fn event_ids_are_unique_in_their_session() {
    let git = fake::legacy("2025-11-25").tool("log").stream(&[progress(1), progress(2)]);
    let gate = gateway().upstream("git", &git).start().await;
    let client = gate.legacy("2025-11-25").await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let mut reply = client.start("tools/call", with_token("log")).await;
        while let Some(event) = reply.event().await {
            ids.extend(event.id);
        }
    }
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert!(9 <= count && ids.len() == count, "{ids:?}");
}

#[tokio::test]
async fn an_id_in_use_cannot_be_used_again() {
    let git = fake::legacy("2025-06-18").tool("ask").ask("roots/list", &json!({})).tool("log");
    let gate = gateway().upstream("git", &git).start().await;
    let client = gate.legacy_with("2025-06-18", json!({ "roots": {} })).await;
    let call = |tool: &str| {
        let params = json!({ "name": tool });
        json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params }).to_string()
    };
    let mut first = client.post(&call("ask")).await;
    let ask = first.until("roots/list").await.id.unwrap();
    assert_eq!(client.post(&call("log")).await.message().await.code(), -32600);
    client.respond(&ask, r#"{"roots":[]}"#).await;
    assert_eq!(first.message().await.result()["content"][0]["text"], "asked");
    client.post(&call("log")).await.message().await.result();
}

/// The answer of a tool with side effects must not be lost with the connection that carried it.
#[tokio::test]
async fn a_stream_that_ended_can_be_read_again() {
    let git = fake::legacy("2025-11-25").tool("log").stream(&[progress(1)]);
    let gate = gateway().upstream("git", &git).start().await;
    let client = gate.legacy("2025-11-25").await;
    let mut reply = client.start("tools/call", with_token("log")).await;
    let first = reply.event().await.unwrap().id.expect("events carry ids");
    while reply.event().await.is_some() {}
    let again = client.get(&[("last-event-id", &first)]).await;
    assert_eq!(again.message().await.result()["content"][0]["text"], "log ran");
}

#[tokio::test]
async fn what_is_announced_between_two_gets_comes_with_the_second() {
    let changed = "notifications/tools/list_changed";
    let git = fake::legacy("2025-11-25").tool("log");
    let gate = gateway().upstream("git", &git).start().await;
    let (client, other) = (gate.legacy("2025-11-25").await, gate.legacy("2025-11-25").await);
    drop(client.listen().await);
    let mut hears = other.listen().await;
    git.add_tool("diff");
    hears.until(changed).await;
    client.listen().await.until(changed).await;
}

/// Numbers begin anew with the gate: an id from before stands for nothing that came since.
#[tokio::test]
async fn an_event_id_from_before_a_restart_swallows_nothing() {
    let changed = "notifications/tools/list_changed";
    let git = fake::legacy("2025-11-25").tool("log").stream(&[progress(1)]);
    let mut gate = gateway().upstream("git", &git).start().await;
    let mut client = gate.legacy("2025-11-25").await;
    let mut stream = client.listen().await;
    git.add_tool("one");
    let of_listening = stream.event().await.unwrap().id.expect("events carry ids");
    let mut reply = client.start("tools/call", with_token("log")).await;
    let of_call = reply.event().await.unwrap().id.expect("events carry ids");
    drop((stream, reply));
    gate.restarts().await;
    client.endpoint = gate.at("/mcp");
    let mut stream = client.get(&[("last-event-id", &of_listening)]).await;
    git.add_tool("two");
    stream.until(changed).await;
    drop(client.start("tools/call", with_token("log")).await);
    assert_eq!(client.get(&[("last-event-id", &of_call)]).await.status, 400);
}

/// Who has no stream to hear a question is not waited for.
#[tokio::test]
async fn a_question_without_a_stream_is_refused_at_once() {
    let git = fake::legacy("2025-03-26").tool("ask").ask("roots/list", &json!({}));
    let gate = gateway().upstream("git", &git).start().await;
    let client = gate.legacy_with("2025-03-26", json!({ "roots": {} })).await;
    let call = client.request("tools/call", json!({ "name": "ask" }));
    let alone = client.post_with(&call, &[("accept", "application/json")]).await;
    alone.message().await.result();
    let answers: Vec<_> = git.all().into_iter().map(|seen| seen.message()).collect();
    assert!(answers.iter().any(|answer| answer.error.is_some()), "{answers:?}");
    let call = client.request("tools/call", json!({ "name": "ask" }));
    let batch = client.post(&format!("[{call}]")).await.text().await;
    assert!(batch.contains("asked"), "{batch}");
}
