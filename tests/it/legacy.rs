//! The era of sessions: 2025-03-26 to 2025-11-25.

use std::time::Duration;

use hyper::Method;
use serde_json::json;

use crate::{eventually, fake, gate::gateway};

const CHANGED: &str = "notifications/tools/list_changed";
const VERSIONS: [&str; 3] = ["2025-03-26", "2025-06-18", "2025-11-25"];

#[tokio::test]
async fn every_pair_of_versions_calls() {
    for upstream in VERSIONS.into_iter().chain([fake::MODERN]) {
        let git = if upstream == fake::MODERN { fake::http() } else { fake::legacy(upstream) };
        let git = git.tool("log");
        let gate = gateway().upstream("git", &git).start().await;
        for version in VERSIONS {
            let mut client = gate.client(version, json!({}));
            let opened = client.open().await;
            assert_eq!(opened["protocolVersion"], version, "upstream {upstream}");
            assert_eq!(opened["serverInfo"]["name"], "tollgate");
            assert_eq!(client.tools().await, ["log"]);
            let result = client.call("log").await;
            assert_eq!(result["content"][0]["text"], "log ran", "{version} at {upstream}");
        }
    }
}

#[tokio::test]
async fn a_version_nobody_knows_is_answered_with_the_latest_of_the_era() {
    let gate = gateway().upstream("git", &fake::http().tool("log")).start().await;
    for version in ["1999-12-31", "2026-12-31", "x"] {
        let mut client = gate.client(version, json!({}));
        let info = json!({ "name": "a", "version": "1" });
        let params = json!({ "protocolVersion": version, "capabilities": {}, "clientInfo": info });
        let reply = client.start("initialize", params).await;
        client.session = Some(reply.header("mcp-session-id").to_owned());
        assert_eq!(reply.message().await.result()["protocolVersion"], "2025-11-25", "{version}");
    }
    let mut broken = gate.client("2025-06-18", json!({}));
    for params in [json!({}), json!({ "protocolVersion": 7, "capabilities": {} }), json!([])] {
        let error = broken.ask("initialize", params.clone()).await;
        assert!([-32600, -32602].contains(&error.code()), "{params}");
    }
    broken.open().await;
}

#[tokio::test]
async fn the_version_header_is_the_sessions() {
    let gate = gateway().upstream("git", &fake::http().tool("log")).start().await;
    let client = gate.legacy("2025-06-18").await;
    let list = || client.request("tools/list", json!({}));
    for (version, status) in [("2025-06-18", 200), ("-", 200), ("1999-12-31", 400), ("x", 400)] {
        let reply = client.post_with(&list(), &[("mcp-protocol-version", version)]).await;
        assert_eq!(reply.status, status, "{version}");
    }
}

#[tokio::test]
async fn ping_and_notifications_are_answered_here() {
    let git = fake::legacy("2025-06-18").tool("log");
    let gate = gateway().upstream("git", &git).start().await;
    let client = gate.legacy("2025-06-18").await;
    assert_eq!(client.ask("ping", json!({})).await.result(), json!({}));
    for method in ["notifications/roots/list_changed", "notifications/unknown"] {
        let reply = client.notify(method, json!({})).await;
        assert_eq!((reply.status, reply.bytes().await.len()), (202, 0), "{method}");
    }
    let mut early = gate.client("2025-06-18", json!({}));
    let info = json!({ "name": "a", "version": "1" });
    let params = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": info });
    let opened = early.start("initialize", params).await;
    early.session = Some(opened.header("mcp-session-id").to_owned());
    assert_eq!(early.ask("ping", json!({})).await.result(), json!({}), "before initialized too");
}

#[tokio::test]
async fn streams_are_of_a_session() {
    let gate = gateway().upstream("git", &fake::http().tool("log")).start().await;
    let accept = [("accept", "text/event-stream")];
    let none = gate.send(Method::GET, &accept, b"").await;
    assert_eq!((none.status, none.header("allow")), (405, "POST"));
    let client = gate.legacy("2025-06-18").await;
    let stream = client.listen().await;
    assert!(stream.status == 200 && stream.is_stream());
    assert_eq!(stream.header("x-accel-buffering"), "no");
    let picky = client.get(&[("accept", "application/json")]).await;
    assert!([200, 406].contains(&picky.status));
}

/// "The server MUST send each of its JSON-RPC messages on only one of the connected streams."
#[tokio::test]
async fn a_message_goes_on_one_stream_only() {
    let git = fake::legacy("2025-06-18").tool("log");
    let gate = gateway().upstream("git", &git).start().await;
    eventually("the gate listens", || (0 < git.listeners()).then_some(())).await;
    let client = gate.legacy("2025-06-18").await;
    let (mut one, mut two) = (client.listen().await, client.listen().await);
    git.add_tool("diff");
    two.until(CHANGED).await;
    let older = async {
        while let Some(message) = one.next().await {
            assert_ne!(message.method.as_deref(), Some(CHANGED));
        }
    };
    tokio::select! {
        () = older => (),
        _ = two.until("notifications/message") => panic!("nobody logs"),
        reply = client.ask("ping", json!({})) => assert_eq!(reply.result(), json!({})),
    }
}

#[tokio::test]
async fn a_gate_that_stops_ends_its_streams() {
    let plan = gateway().upstream("git", &fake::legacy("2025-06-18").tool("log"));
    let mut gate = plan.start().await;
    let client = gate.legacy("2025-06-18").await;
    client.call("log").await;
    let mut stream = client.listen().await;
    let begun = tokio::time::Instant::now();
    gate.stops().await;
    assert!(begun.elapsed() < Duration::from_secs(1), "an idle stream holds nobody up");
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn log_levels_go_to_the_upstreams_that_log() {
    let (git, db) = (fake::legacy("2025-06-18").logging().tool("log"), fake::http().tool("query"));
    let gate = gateway().upstream("git", &git).upstream("db", &db).start().await;
    let client = gate.legacy("2025-06-18").await;
    assert_eq!(
        client.ask("logging/setLevel", json!({ "level": "warning" })).await.result(),
        json!({})
    );
    client.call("log").await;
    let level = git.receives("logging/setLevel").await;
    assert_eq!(level.message().params()["level"], "warning");
    let call = git.seen("tools/call").pop().unwrap();
    assert_eq!(level.header("mcp-session-id"), call.header("mcp-session-id"));
    client.call("query").await;
    let meta = db.receives("tools/call").await.message().params()["_meta"].clone();
    assert_eq!(
        meta["io.modelcontextprotocol/logLevel"], "warning",
        "a modern one is told per call"
    );
    let wrong = client.ask("logging/setLevel", json!({ "level": "loud" })).await;
    assert_eq!(wrong.code(), -32602);
}

#[tokio::test]
async fn nothing_overtakes_a_log_level() {
    let git = fake::legacy("2025-06-18").logging().tool("log");
    let gate = gateway().upstream("git", &git).start().await;
    let client = gate.legacy("2025-06-18").await;
    client.call("log").await;
    git.becomes("", fake::Act::Hang);
    let begun = tokio::time::Instant::now();
    client.ask("logging/setLevel", json!({ "level": "error" })).await.result();
    assert!(begun.elapsed() >= Duration::from_millis(300), "the client goes on no sooner");
    assert_eq!(git.seen("logging/setLevel").len(), 1);
}

#[tokio::test]
async fn updates_reach_the_subscriber_only() {
    let docs = fake::legacy("2025-06-18").resource("mem://one").resource("mem://two");
    let gate = gateway().upstream("docs", &docs).start().await;
    let (client, other) = (gate.legacy("2025-06-18").await, gate.legacy("2025-06-18").await);
    let (mut stream, mut others) = (client.listen().await, other.listen().await);
    let uri = json!({ "uri": "mem://one" });
    client.ask("resources/subscribe", uri.clone()).await.result();
    other.ask("resources/subscribe", json!({ "uri": "mem://two" })).await.result();
    assert_eq!(docs.seen("resources/subscribe").len(), 2);
    eventually("the gate listens in both sessions", || (2 <= docs.listeners()).then_some(())).await;
    docs.tell("notifications/resources/updated", &uri);
    assert_eq!(stream.until("notifications/resources/updated").await.params(), uri);
    docs.tell("notifications/resources/updated", &json!({ "uri": "mem://two" }));
    let seen = others.until("notifications/resources/updated").await.params();
    assert_eq!(seen["uri"], "mem://two", "the first it hears of is its own");
    client.ask("resources/unsubscribe", uri).await.result();
    docs.receives("resources/unsubscribe").await;
}

#[tokio::test]
async fn a_change_told_while_no_stream_is_open_is_not_an_error() {
    let git = fake::legacy("2025-06-18").tool("log");
    let gate = gateway().upstream("git", &git).start().await;
    eventually("the gate listens", || (0 < git.listeners()).then_some(())).await;
    let client = gate.legacy("2025-06-18").await;
    drop(client.listen().await);
    git.add_tool("diff");
    let listed = async {
        while client.tools().await != ["log", "diff"] {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    crate::soon("the new tool", listed).await;
}

/// What a server may ask is known; the rest would be written into the client's stream.
#[tokio::test]
async fn a_question_that_is_none_is_refused_at_once() {
    for git in [fake::legacy("2025-06-18"), fake::stdio("2025-06-18")] {
        let git = git.tool("ask").ask("secrets/list", &json!({}));
        let gate = gateway().upstream("git", &git).start().await;
        let client = gate.legacy_with("2025-06-18", json!({ "elicitation": {} })).await;
        client.call("ask").await;
        let answers = git.all().into_iter().map(|seen| seen.message());
        let refused: Vec<_> = answers.filter(|answer| answer.error.is_some()).collect();
        assert_eq!(refused.len(), 1);
        assert_eq!(refused[0].code(), -32601);
    }
}
