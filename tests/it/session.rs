//! Legacy sessions: sealed ids that outlive the gate and open nothing else, and sessions of
//! upstreams behind them.

use serde_json::json;

use crate::{client::Client, eventually, fake, gate::gateway};

async fn status(client: &Client) -> u16 {
    client.start("tools/list", json!({})).await.status
}

#[tokio::test]
async fn only_the_gates_own_ids_open_a_session() {
    let gate = gateway().upstream("git", &fake::legacy("2025-06-18").tool("log")).start().await;
    let mut client = gate.legacy("2025-06-18").await;
    let own = client.session.clone().unwrap();
    assert!(own.bytes().all(|byte| (0x21..=0x7E).contains(&byte)), "visible ASCII only: {own}");
    assert_eq!(status(&client).await, 200);

    let turned: String = own.chars().rev().collect();
    let mut flipped = own.clone().into_bytes();
    let middle = flipped.len() / 2;
    flipped[middle] = if flipped[middle] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).unwrap();
    let cut = own[..own.len() - 2].to_owned();
    let longer = format!("{own}A");
    for forged in [turned, flipped, cut, longer, "x".into(), "A".repeat(8000)] {
        client.session = Some(forged.clone());
        assert_eq!(status(&client).await, 404, "{forged}");
        assert_eq!(client.get(&[]).await.status, 404, "{forged}");
        assert_eq!(client.close().await, 404, "{forged}");
    }
    client.session = None;
    let text = client.request("tools/list", json!({}));
    let missing = client.post_with(&text, &[("mcp-protocol-version", "2025-06-18")]).await;
    assert_eq!(missing.status, 400, "a session is missing, not over");
    client.session = Some(own);
    assert_eq!(status(&client).await, 200, "the true session is as it was");
}

#[tokio::test]
async fn an_id_of_another_route_or_another_gate_is_unknown() {
    let git = fake::legacy("2025-06-18").tool("log");
    let plan = || gateway().upstream("git", &git).route("/mcp", "upstreams = [\"git\"]");
    let gate = plan().route("/other", "upstreams = [\"git\"]").start().await;
    let mut client = gate.legacy("2025-06-18").await;
    client.endpoint = gate.at("/other");
    assert_eq!(status(&client).await, 404);
    let second = plan().start().await;
    client.endpoint = second.at("/mcp");
    assert_eq!(status(&client).await, 404);
}

#[tokio::test]
async fn a_session_outlives_the_gate() {
    let git = fake::legacy("2025-06-18").tool("log");
    let mut gate = gateway().upstream("git", &git).start().await;
    let mut client = gate.legacy_with("2025-06-18", json!({ "roots": {} })).await;
    client.call("log").await;
    gate.restarts().await;
    client.endpoint = gate.at("/mcp");
    assert_eq!(client.call("log").await["content"][0]["text"], "log ran");
    let opened = git.seen("initialize").into_iter();
    let able =
        opened.filter(|seen| seen.message().params()["capabilities"] == json!({ "roots": {} }));
    assert_eq!(able.count(), 2, "what the client can do is not forgotten");
    assert_eq!(client.close().await / 100, 2);
    assert_eq!(status(&client).await, 404);
}

#[tokio::test]
async fn a_deleted_session_is_gone_also_upstream() {
    let git = fake::legacy("2025-06-18").tool("log");
    let gate = gateway().upstream("git", &git).start().await;
    let (client, other) = (gate.legacy("2025-06-18").await, gate.legacy("2025-06-18").await);
    client.call("log").await;
    other.call("log").await;
    let calls = git.seen("tools/call");
    let mine = calls[0].header("mcp-session-id").to_owned();
    assert_ne!(mine, calls[1].header("mcp-session-id"), "upstream sessions are never shared");
    assert_eq!(client.close().await / 100, 2);
    assert_eq!(status(&client).await, 404);
    assert_eq!(client.get(&[]).await.status, 404);
    let deleted = || {
        let deletes = git.all().into_iter().filter(|seen| seen.verb == hyper::Method::DELETE);
        deletes.map(|seen| seen.header("mcp-session-id").to_owned()).find(|id| *id == mine)
    };
    eventually("the upstream session is deleted", deleted).await;
    assert_eq!(status(&other).await, 200);
}

#[tokio::test]
async fn a_session_that_the_upstream_forgot_is_opened_anew() {
    let git = fake::legacy("2025-06-18").tool("log");
    let gate = gateway().upstream("git", &git).start().await;
    let client = gate.legacy("2025-06-18").await;
    client.call("log").await;
    git.forgets_sessions();
    assert_eq!(client.call("log").await["content"][0]["text"], "log ran");
    let calls = git.seen("tools/call");
    let sessions: Vec<_> = calls.iter().map(|seen| seen.header("mcp-session-id")).collect();
    assert_eq!(sessions.len(), 3, "one, the one refused with 404, and its repetition");
    assert_eq!(sessions[0], sessions[1]);
    assert_ne!(sessions[1], sessions[2]);
}

#[tokio::test]
async fn upstream_sessions_open_with_the_first_call() {
    let git = fake::legacy("2025-06-18").tool("log");
    let gate = gateway().upstream("git", &git).start().await;
    let before = git.seen("initialize").len();
    let capabilities = json!({ "elicitation": {}, "sampling": {} });
    let client = gate.legacy_with("2025-06-18", capabilities.clone()).await;
    client.tools().await;
    assert_eq!(git.seen("initialize").len(), before, "a list asks nobody");
    client.call("log").await;
    client.call("log").await;
    let opened = git.seen("initialize").split_off(before);
    assert_eq!(opened.len(), 1);
    assert_eq!(opened[0].message().params()["capabilities"], capabilities);
}
