//! A call that its client no longer wants ends at the upstream, in the words of the upstream's era.

use std::{future::pending, pin::pin};

use serde_json::json;

use crate::{client::Reply, eventually, fake, gate::gateway};

/// Does `more` once the upstream has got the call, which must not be answered before; then the
/// client leaves.
async fn under_way(
    call: impl Future<Output = Reply>,
    upstream: &fake::Fake,
    more: impl AsyncFnOnce(),
) {
    let mut call = pin!(call);
    tokio::select! {
        reply = &mut call => panic!("it should still hang: {reply:?}"),
        _ = upstream.receives("tools/call") => (),
    }
    let ended = async {
        drop(call.await);
        pending::<()>().await;
    };
    tokio::select! {
        () = ended => (),
        () = more() => (),
    }
}

#[tokio::test]
async fn a_modern_client_that_leaves_cancels() {
    let git = fake::http().tool("slow").hang();
    let gate = gateway().upstream("git", &git).start().await;
    let client = gate.modern();
    under_way(client.start("tools/call", json!({ "name": "slow" })), &git, async || ()).await;
    let left = || git.seen("tools/call")[0].abandoned().then_some(());
    eventually("the upstream's stream is closed", left).await;
}

#[tokio::test]
async fn a_modern_client_that_leaves_cancels_at_a_legacy_upstream() {
    let git = fake::legacy("2025-06-18").tool("slow").hang();
    let gate = gateway().upstream("git", &git).start().await;
    let client = gate.modern();
    under_way(client.start("tools/call", json!({ "name": "slow" })), &git, async || ()).await;
    let cancelled = git.receives("notifications/cancelled").await.message();
    let call = git.seen("tools/call")[0].message();
    assert_eq!(cancelled.params()["requestId"].to_string(), call.id.unwrap());
}

#[tokio::test]
async fn a_modern_client_that_leaves_cancels_over_stdio() {
    for version in ["2025-06-18", fake::MODERN] {
        let git = fake::stdio(version).tool("slow").hang();
        let gate = gateway().upstream("git", &git).start().await;
        let client = gate.modern();
        under_way(client.start("tools/call", json!({ "name": "slow" })), &git, async || ()).await;
        let cancelled = git.receives("notifications/cancelled").await.message();
        let call = git.seen("tools/call")[0].message();
        assert_eq!(cancelled.params()["requestId"].to_string(), call.id.unwrap(), "{version}");
        assert!(git.pids().len() <= 2, "the process lives on");
    }
}

#[tokio::test]
async fn a_legacy_client_cancels_by_notification() {
    let mut reasons = Vec::new();
    for git in [fake::legacy("2025-06-18"), fake::stdio("2025-06-18")] {
        let git = git.tool("slow").hang();
        let gate = gateway().upstream("git", &git).start().await;
        let client = gate.legacy("2025-06-18").await;
        let params = json!({ "name": "slow" });
        let call = json!({ "jsonrpc": "2.0", "id": "m", "method": "tools/call", "params": params });
        under_way(client.post(&call.to_string()), &git, async || {
            let params = json!({ "requestId": "m", "reason": "enough" });
            assert_eq!(client.notify("notifications/cancelled", params).await.status, 202);
            let cancelled = git.receives("notifications/cancelled").await.message().params();
            let call = git.seen("tools/call")[0].message();
            assert_eq!(cancelled["requestId"].to_string(), call.id.unwrap(), "the upstream's id");
            reasons.push(cancelled["reason"].clone());
        })
        .await;
    }
    assert_eq!(reasons, ["enough"; 2], "the client's own words");
}

#[tokio::test]
async fn a_legacy_client_cancels_at_a_modern_upstream() {
    let git = fake::http().tool("slow").hang();
    let gate = gateway().upstream("git", &git).start().await;
    let client = gate.legacy("2025-06-18").await;
    let call = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"slow"}}"#;
    let left = || git.seen("tools/call")[0].abandoned().then_some(());
    under_way(client.post(call), &git, async || {
        client.notify("notifications/cancelled", json!({ "requestId": 7 })).await;
        eventually("the upstream's stream is closed", left).await;
    })
    .await;
}

/// "Disconnection SHOULD NOT be interpreted as the client cancelling its request" (2025-11-25).
#[tokio::test]
async fn a_legacy_client_that_leaves_does_not_cancel() {
    let elicit = json!({ "message": "sure?", "requestedSchema": { "type": "object" } });
    let git = fake::legacy("2025-06-18").tool("ask").ask("elicitation/create", &elicit);
    let gate = gateway().upstream("git", &git).start().await;
    let client = gate.legacy_with("2025-06-18", json!({ "elicitation": {} })).await;
    let mut reply = client.start("tools/call", json!({ "name": "ask" })).await;
    let ask = reply.until("elicitation/create").await;
    drop(reply);
    assert_eq!(client.respond(&ask.id.unwrap(), r#"{"action":"decline"}"#).await.status, 202);
    let answered = || git.all().into_iter().find(|seen| seen.message().result.is_some());
    eventually("the answer reaches the call that goes on", answered).await;
    assert!(git.seen("notifications/cancelled").is_empty());
    assert!(!git.seen("tools/call")[0].abandoned());
}

/// Nobody may end what is not theirs.
#[tokio::test]
async fn a_cancellation_counts_in_its_own_session_only() {
    let git = fake::stdio("2025-06-18").tool("slow").hang().tool("log");
    let gate = gateway().upstream("git", &git).start().await;
    let (client, other) = (gate.legacy("2025-06-18").await, gate.legacy("2025-06-18").await);
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"slow"}}"#;
    under_way(client.post(call), &git, async || {
        for id in [json!(1), json!("1"), json!(0), json!(99)] {
            other.notify("notifications/cancelled", json!({ "requestId": id })).await;
        }
        other.call("log").await;
        assert!(git.seen("notifications/cancelled").is_empty());
    })
    .await;
}
