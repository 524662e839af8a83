//! Upstreams that speak the older HTTP+SSE, where one stream is the session.

use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::{
    client::{Client, Endpoint},
    eventually,
    fake::{self, Act, Fake},
    gate::{Plan, gateway},
    soon,
};

const VERSIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

fn step(step: u32) -> Value {
    let params = json!({ "progressToken": "TOKEN", "progress": step });
    json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": params })
}

/// A gate that also shows itself.
fn watched(git: &Fake, keys: &str) -> Plan {
    gateway().upstream_with("git", git, keys).section("gate", "builtin = \"gate\"\n")
}

/// What the gate says of the upstream `git`.
async fn report(gate: &Endpoint) -> Value {
    let call = json!({ "name": "gateway_upstream", "arguments": { "name": "git" } });
    gate.modern().ask("tools/call", call).await.result()["structuredContent"].clone()
}

async fn counter(gate: &Endpoint, name: &str) -> u64 {
    let status = gate.modern().call("gateway_status").await;
    // Those that are zero are left out.
    status["structuredContent"]["counters"][name].as_u64().unwrap_or_default()
}

/// What a model reads of a call that failed.
async fn failure(client: &Client, tool: &str) -> Value {
    let result = client.call(tool).await;
    assert_eq!(result["isError"], true, "{result}");
    result["structuredContent"].clone()
}

async fn serves_again(client: &Client) {
    let served = async {
        while client.call("log").await["content"][0]["text"] != "log ran" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon("the upstream to serve again", served).await;
}

fn streams_of(git: &Fake) -> usize {
    git.all().iter().filter(|seen| seen.verb == Method::GET).count()
}

// ---- what is spoken

#[tokio::test]
async fn it_is_found_out_and_remembered() {
    for version in VERSIONS {
        let git = fake::sse(version).tool("log").prompt("plan").resource("mem://one");
        let gate = watched(&git, "").start().await;
        let clients = [gate.legacy("2025-06-18").await, gate.legacy(version).await, gate.modern()];
        for client in clients {
            assert_eq!(client.call("log").await["content"][0]["text"], "log ran", "{version}");
            assert_eq!(client.names("prompts/list", "prompts", "name").await, ["plan"]);
            let uris = client.names("resources/list", "resources", "uri").await;
            let read = client.ask("resources/read", json!({ "uri": uris[0] })).await.result();
            assert_eq!(read["contents"][0]["text"], "text of mem://one");
        }
        assert_eq!(git.seen("server/discover").len(), 1, "probed once");
        let tried = git.seen("initialize").len() - streams_of(&git);
        assert_eq!(tried, 1, "over Streamable HTTP once");
        let report = report(&gate).await;
        assert_eq!(report["kind"], "sse");
        assert_eq!(report["era"], format!("legacy {version}"));
    }
}

#[tokio::test]
async fn it_is_spoken_at_once_where_the_configuration_says_so() {
    let git = fake::sse("2024-11-05").tool("log");
    let gate = watched(&git, "transport = \"sse\"").start().await;
    gate.modern().call("log").await;
    assert!(git.seen("server/discover").is_empty());
    assert_eq!(git.all()[0].verb, Method::GET);
    // The stream of a further listing may just be opened.
    let one_each = || (git.seen("initialize").len() == streams_of(&git)).then_some(());
    eventually("there is one a stream", one_each).await;

    let git = fake::sse("2024-11-05").tool("log");
    let gate = watched(&git, "transport = \"http\"").start().await;
    let report = report(&gate).await;
    assert_eq!((&report["kind"], &report["state"]), (&json!("http"), &json!("failed")));
    assert_eq!(streams_of(&git), 0);
}

/// What is wrong with the first attempt is the news; the second one was a guess.
#[tokio::test]
async fn a_server_that_speaks_neither_is_told_by_its_refusal() {
    let git = fake::legacy("2025-06-18").does(Act::Status(404));
    let gate = watched(&git, "").start().await;
    let error = report(&gate).await["last_error"].clone();
    let error = error.as_str().unwrap();
    assert!(error.starts_with("answered with HTTP status 404: is `http://"), "{error}");
    assert!(0 < streams_of(&git), "the other one was tried");
    for code in [403, 406, 415, 500] {
        let git = fake::legacy("2025-06-18").does(Act::Status(code));
        let _gate = watched(&git, "").start().await;
        assert_eq!(streams_of(&git), 0, "{code} is no sign of the older transport");
    }
}

#[tokio::test]
async fn a_stream_that_brings_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("url = \"http://{}/sse\"\ntimeout = {{ open = \"2s\" }}\n", {
        listener.local_addr().unwrap()
    });
    let serving = tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0_u8; 4096];
            let read = stream.read(&mut head).await.unwrap();
            if head[..read].starts_with(b"GET") {
                let mute = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n: hm\n\n";
                stream.write_all(mute).await.unwrap();
                held.push(stream);
            } else {
                let refusal = b"HTTP/1.1 405 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                stream.write_all(refusal).await.unwrap();
            }
        }
    });
    let gate = gateway().section("git", &url).section("gate", "builtin = \"gate\"\n").start().await;
    assert_eq!(report(&gate).await["last_error"], "answered with HTTP status 405");
    serving.abort();
}

/// What is meant for this server is sent to no other.
#[tokio::test]
async fn an_endpoint_elsewhere_is_refused() {
    let other = fake::http();
    let elsewhere = format!("http://{}/messages", other.address());
    for keys in ["", "transport = \"sse\""] {
        let git = fake::sse("2024-11-05").does(Act::Endpoint(elsewhere.clone())).tool("log");
        let gate = watched(&git, keys).start().await;
        let report = report(&gate).await;
        assert_eq!(report["state"], "failed");
        let error = report["last_error"].as_str().unwrap();
        assert!(error.contains(&elsewhere) && error.contains("same origin"), "{error}");
        assert!(other.all().is_empty());
    }
}

#[tokio::test]
async fn the_configured_headers_are_sent_with_every_request() {
    let git = fake::sse("2024-11-05").tool("log");
    let keys = "transport = \"sse\"\nheaders = { Authorization = \"Bearer x\" }";
    let gate = watched(&git, keys).start().await;
    gate.legacy("2025-06-18").await.call("log").await;
    let all = git.all();
    assert!(5 <= all.len() && all.iter().all(|seen| seen.header("authorization") == "Bearer x"));
    let kinds = all.iter().filter(|seen| seen.verb == Method::POST);
    assert!(kinds.map(|seen| seen.header("content-type")).all(|kind| kind == "application/json"));
}

// ---- calls

#[tokio::test]
async fn calls_of_all_at_once_keep_their_progress() {
    let git = fake::sse("2024-11-05").tool("log").stream(&[step(1), step(2)]);
    let gate = gateway().upstream("git", &git).start().await;
    let mut clients = vec![gate.modern(), gate.modern()];
    clients.push(gate.legacy("2025-06-18").await);
    let calls = clients.iter().map(|client| async move {
        let call = json!({ "name": "log", "_meta": { "progressToken": "p-1" } });
        let mut reply = client.start("tools/call", call).await;
        for step in [1, 2] {
            let params = reply.until("notifications/progress").await.params();
            assert_eq!(params, json!({ "progressToken": "p-1", "progress": step }));
        }
        assert_eq!(reply.message().await.result()["content"][0]["text"], "log ran");
    });
    futures_util::future::join_all(calls).await;
    let calls = git.seen("tools/call").into_iter().map(|seen| seen.message());
    let mut tokens: Vec<_> = calls
        .map(|call| call.params()["_meta"]["progressToken"].as_u64().expect("the gate's own"))
        .collect();
    tokens.sort_unstable();
    assert_eq!(tokens.len(), 3);
    assert!(tokens.windows(2).any(|two| two[0] != two[1]), "two share a stream: {tokens:?}");
}

#[tokio::test]
async fn json_of_many_lines_arrives_as_it_was() {
    let result = "{\n  \"content\": [],\n\n\t\"n\": 1.0e400 }";
    let git = fake::sse("2024-11-05").tool("log").answer(result);
    let gate = gateway().upstream("git", &git).start().await;
    let client = gate.legacy("2025-06-18").await;
    let message = client.ask("tools/call", json!({ "name": "log" })).await;
    assert_eq!(message.result.as_deref(), Some(result));
}

#[tokio::test]
async fn a_slow_call_delays_no_other_and_is_told_of_its_cancellation() {
    let git = fake::sse("2024-11-05").tool("slow").hang().tool("log");
    let gate = gateway().upstream("git", &git).start().await;
    let client = gate.legacy("2025-06-18").await;
    let params = json!({ "name": "slow" });
    let call = json!({ "jsonrpc": "2.0", "id": "m", "method": "tools/call", "params": params });
    let call = call.to_string();
    let cancels = async {
        git.receives("tools/call").await;
        client.call("log").await;
        let params = json!({ "requestId": "m", "reason": "enough" });
        client.notify("notifications/cancelled", params).await;
        let cancelled = git.receives("notifications/cancelled").await.message().params();
        let calls = git.seen("tools/call").into_iter().map(|seen| seen.message());
        let slow = calls.filter(|call| call.params()["name"] == "slow").last().unwrap();
        assert_eq!(cancelled["requestId"].to_string(), slow.id.unwrap());
        assert_eq!(cancelled["reason"], "enough");
    };
    tokio::join!(client.post(&call), cancels);
}

#[tokio::test]
async fn it_asks_a_legacy_client_in_mid_call() {
    let asks = [
        ("elicitation/create", r#"{"action":"accept","content":{"a":1e400}}"#),
        ("roots/list", r#"{"roots":[{"uri":"file:///\u00e9"}]}"#),
    ];
    let git = fake::sse("2024-11-05").tool("ask");
    let git = asks.iter().fold(git, |git, (method, _)| git.ask(method, &json!({ "a": "b" })));
    let gate = gateway().upstream("git", &git).start().await;
    let capabilities = json!({ "elicitation": {}, "roots": {} });
    let client = gate.legacy_with("2025-06-18", capabilities.clone()).await;
    let mut reply = client.start("tools/call", json!({ "name": "ask" })).await;
    for (method, answer) in asks {
        let ask = reply.until(method).await;
        assert_eq!(ask.params(), json!({ "a": "b" }));
        assert_eq!(client.respond(&ask.id.unwrap(), answer).await.status, 202);
    }
    reply.message().await.result();
    let given: Vec<_> = git.all().iter().filter_map(|seen| seen.message().result).collect();
    assert_eq!(given, asks.map(|(_, answer)| answer.to_owned()), "byte for byte");
    let opened = git.seen("initialize").into_iter().map(|seen| seen.message().params());
    let opened = opened.filter(|params| params["capabilities"] == capabilities);
    assert_eq!(opened.count(), 1, "for this client alone");
}

/// Of several calls under way nobody can tell which one a question is about; the client can.
#[tokio::test]
async fn a_question_in_the_midst_of_several_calls_comes_on_the_sessions_stream() {
    let elicit = json!({ "message": "sure?", "requestedSchema": { "type": "object" } });
    let own = "isolation = \"session\"";
    for (git, keys) in [(fake::sse("2024-11-05"), ""), (fake::stdio("2025-06-18"), own)] {
        let git = git.tool("slow").hang().tool("ask").ask("elicitation/create", &elicit);
        let gate = gateway().upstream_with("git", &git, keys).start().await;
        let client = gate.legacy_with("2025-06-18", json!({ "elicitation": {} })).await;
        let mut stream = client.listen().await;
        let slow = client.start("tools/call", json!({ "name": "slow" }));
        let asks = async {
            git.receives("tools/call").await;
            let answers = async {
                let ask = stream.until("elicitation/create").await;
                client.respond(&ask.id.unwrap(), r#"{"action":"accept"}"#).await;
            };
            let (result, ()) = tokio::join!(client.call("ask"), answers);
            assert_eq!(result["content"][0]["text"], "asked");
            let given: Vec<_> = git.all().iter().filter_map(|seen| seen.message().result).collect();
            assert_eq!(given, [r#"{"action":"accept"}"#]);
        };
        tokio::select! {
            _ = slow => panic!("it should hang"),
            () = asks => (),
        }
    }
}

// ---- outside of calls

#[tokio::test]
async fn changes_and_updates_are_told() {
    let git = fake::sse("2024-11-05").tool("log").resource("mem://one");
    let gate = gateway().upstream("git", &git).start().await;
    let (client, modern) = (gate.legacy("2025-06-18").await, gate.modern());
    let mut stream = client.listen().await;
    let wanted = json!({ "toolsListChanged": true, "resourceSubscriptions": ["mem://one"] });
    let mut listening =
        modern.start("subscriptions/listen", json!({ "notifications": wanted })).await;
    listening.until("notifications/subscriptions/acknowledged").await;
    let uri = json!({ "uri": "mem://one" });
    client.ask("resources/subscribe", uri.clone()).await.result();
    assert_eq!(git.seen("resources/subscribe").len(), 2, "on the shared stream, and on its own");
    git.tell("notifications/resources/updated", &uri);
    assert_eq!(stream.until("notifications/resources/updated").await.params()["uri"], "mem://one");
    listening.until("notifications/resources/updated").await;
    git.add_tool("diff");
    for stream in [&mut stream, &mut listening] {
        stream.until("notifications/tools/list_changed").await;
    }
    assert_eq!(client.tools().await, ["log", "diff"]);
}

#[tokio::test]
async fn each_session_has_a_stream_of_its_own_that_ends_with_it() {
    let git = fake::sse("2024-11-05").tool("log");
    let mut gate = gateway().upstream("git", &git).start().await;
    let settled = || (git.listeners() == 1).then_some(());
    eventually("only the shared stream is left", settled).await;
    let (client, other) = (gate.legacy("2025-06-18").await, gate.legacy("2025-06-18").await);
    tokio::join!(client.call("log"), other.call("log"), client.call("log"));
    assert_eq!(git.listeners(), 3);
    client.close().await;
    eventually("its stream is closed", || (git.listeners() == 2).then_some(())).await;
    other.call("log").await;
    gate.stops().await;
    eventually("all streams are closed", || (git.listeners() == 0).then_some(())).await;
}

// ---- faults

#[tokio::test]
async fn a_stream_lost_in_mid_call_is_opened_again() {
    let git = fake::sse("2024-11-05").tool("slow").hang().tool("cut").tool("log");
    git.becomes("cut", Act::ClosesMidway);
    let gate = gateway().upstream("git", &git).start().await;
    for client in [gate.legacy("2025-06-18").await, gate.modern()] {
        let begun = git.seen("tools/call").len();
        let breaks = async {
            eventually("it hangs", || (begun < git.seen("tools/call").len()).then_some(())).await;
            git.goes_down();
        };
        let (failure_of_slow, ()) = tokio::join!(failure(&client, "slow"), breaks);
        assert_eq!(failure_of_slow["error"], "service_unavailable");
        assert_eq!(failure_of_slow["retriable"], true);
        git.comes_back();
        serves_again(&client).await;
        assert_eq!(failure(&client, "cut").await["error"], "service_unavailable");
        serves_again(&client).await;
    }
    let calls = git.seen("tools/call").into_iter().map(|seen| seen.message());
    let cuts = calls.filter(|call| call.params()["name"] == "cut").count();
    assert_eq!(cuts, 2, "what may have run is not repeated");
}

#[tokio::test]
async fn an_event_too_large_ends_its_stream() {
    let git = fake::sse("2024-11-05").tool("log").tool("bad").does(Act::HugeLine(4 << 20));
    let plan = watched(&git, "").server("limits.answer_bytes_max = \"1MiB\"");
    let gate = plan.start().await;
    for client in [gate.modern(), gate.legacy("2025-06-18").await] {
        let before = counter(&gate, "upstream_too_large").await;
        assert_eq!(failure(&client, "bad").await["error"], "response_too_large");
        assert_eq!(counter(&gate, "upstream_too_large").await, before + 1);
        serves_again(&client).await;
    }
}

/// Long before the call's own time is up.
#[tokio::test]
async fn a_message_that_is_refused_fails_at_once() {
    let git = fake::sse("2024-11-05").tool("log").tool("bad");
    let gate = watched(&git, "").start().await;
    for code in [307, 400, 404, 413, 500, 503] {
        git.becomes("bad", Act::Status(code));
        for client in [gate.modern(), gate.legacy("2025-06-18").await] {
            let error = failure(&client, "bad").await["error"].clone();
            let words = ["upstream_error", "service_unavailable"];
            assert!(words.contains(&error.as_str().unwrap()), "{code}: {error}");
            serves_again(&client).await;
        }
    }
    assert!(git.seen("notifications/cancelled").is_empty(), "what was not taken has no end");
}

#[tokio::test]
async fn what_is_no_message_is_passed_over() {
    let git = fake::sse("2024-11-05").tool("log");
    // One stream, of which each line is counted once.
    let gate = watched(&git, "isolation = \"shared\"").start().await;
    for session in 0..3 {
        git.says(": hm\n\nevent: other\ndata: {}\n\ndata: <html>\n\nevent: message\ndata\n\n");
        git.says("data: {\"jsonrpc\":\"2.0\",\"id\":99,\"result\":{}}\n\nretry: 5\nid: 7\n\n");
        gate.modern().call("log").await;
        assert_eq!(counter(&gate, "upstream_garbage").await, session + 1);
        assert_eq!(counter(&gate, "upstream_unexpected").await, session + 1);
    }
}
