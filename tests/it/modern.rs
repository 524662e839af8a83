//! The era without sessions: 2026-07-28.

use serde_json::json;

use crate::{eventually, fake, gate::gateway};

const META: &str = "io.modelcontextprotocol/";

#[tokio::test]
async fn discovery_says_what_the_gate_can() {
    let gate = gateway().upstream("git", &fake::legacy("2025-06-18").tool("log")).start().await;
    let found = gate.modern().ask("server/discover", json!({})).await.result();
    assert_eq!(found["resultType"], "complete");
    let versions = found["supportedVersions"].as_array().unwrap();
    assert!(versions.contains(&json!(fake::MODERN)), "its own, whatever the upstream speaks");
    assert!(found["capabilities"]["tools"].is_object());
    assert!(found["ttlMs"].is_u64() && found["cacheScope"].is_string());
    assert_eq!(found["_meta"][format!("{META}serverInfo")]["name"], "tollgate");
}

#[tokio::test]
async fn every_upstream_is_called_in_its_own_era() {
    for git in [fake::http(), fake::legacy("2025-03-26"), fake::legacy("2025-11-25"), fake::dual()]
    {
        let git = git.tool("log");
        let gate = gateway().upstream("git", &git).start().await;
        let client = gate.modern();
        assert_eq!(client.tools().await, ["log"]);
        let result = client.call("log").await;
        assert_eq!(
            (&result["resultType"], &result["content"][0]["text"]),
            (&json!("complete"), &json!("log ran"))
        );
        let seen = git.receives("tools/call").await;
        let modern = seen.header("mcp-session-id").is_empty();
        assert_eq!(
            modern,
            !git.seen("server/discover").is_empty() && git.seen("initialize").is_empty()
        );
        assert_eq!(seen.header("mcp-method"), if modern { "tools/call" } else { "" });
        assert_eq!(seen.header("mcp-name"), if modern { "log" } else { "" });
    }
}

#[tokio::test]
async fn the_era_of_an_upstream_is_asked_once() {
    let git = fake::legacy("2025-06-18").tool("log");
    let gate = gateway().upstream("git", &git).start().await;
    for _ in 0..3 {
        gate.modern().call("log").await;
    }
    assert_eq!(git.seen("server/discover").len(), 1);
}

#[tokio::test]
async fn a_client_is_relayed_as_it_describes_itself() {
    let git = fake::http().tool("log");
    let gate = gateway().upstream("git", &git).start().await;
    let capabilities =
        json!({ "sampling": { "tools": {} }, "extensions": { "com.example/x": { "a": 1 } } });
    let client = gate.client(fake::MODERN, capabilities.clone());
    let info = json!({ "name": "someone", "version": "7", "x": true });
    let meta = json!({ format!("{META}clientInfo"): info, format!("{META}logLevel"): "debug" });
    client.ask("tools/call", json!({ "name": "log", "_meta": meta })).await.result();
    let seen = git.receives("tools/call").await.message().params()["_meta"].clone();
    assert_eq!(seen[format!("{META}clientInfo")], info);
    assert_eq!(seen[format!("{META}clientCapabilities")], capabilities);
    assert_eq!(seen[format!("{META}logLevel")], "debug");
    assert_eq!(seen[format!("{META}protocolVersion")], fake::MODERN);
}

#[tokio::test]
async fn a_legacy_clients_self_is_told_with_every_call() {
    let git = fake::http().tool("log");
    let gate = gateway().upstream("git", &git).start().await;
    let client = gate.legacy_with("2025-06-18", json!({ "roots": {} })).await;
    client.call("log").await;
    let seen = git.receives("tools/call").await;
    let meta = seen.message().params()["_meta"].clone();
    let carried = &meta[format!("{META}clientCapabilities")];
    assert_eq!(*carried, json!({ "roots": {} }), "as it declared it in its session");
    assert_eq!(meta[format!("{META}clientInfo")]["name"], "test");
    assert_eq!(seen.header("mcp-session-id"), "");
}

#[tokio::test]
async fn nothing_depends_on_what_was_sent_before() {
    let git = fake::legacy("2025-06-18").tool("log");
    let gate = gateway().upstream("git", &git).start().await;
    let (able, plain) = (gate.client(fake::MODERN, json!({ "roots": {} })), gate.modern());
    for client in [&able, &plain, &able] {
        assert_eq!(client.call("log").await["content"][0]["text"], "log ran");
        assert_eq!(client.tools().await, ["log"]);
    }
    let opened = git.seen("initialize");
    let declared = git.seen("tools/call").into_iter().map(|called| {
        // The fake numbers its sessions from 1.
        let session = called.header("mcp-session-id").replace("session-", "");
        opened[session.parse::<usize>().unwrap() - 1].message().params()["capabilities"].clone()
    });
    let (able, plain) = (json!({ "roots": {} }), json!({}));
    assert_eq!(declared.collect::<Vec<_>>(), [able.clone(), plain, able], "each as it declares");
}

#[tokio::test]
async fn updates_come_on_the_subscription() {
    let upstreams = [fake::http(), fake::legacy("2025-06-18")];
    for docs in upstreams.map(|docs| docs.resource("mem://one").resource("mem://two")) {
        let gate = gateway().upstream("docs", &docs).start().await;
        let client = gate.modern();
        let wanted = json!({ "notifications": { "resourceSubscriptions": ["mem://one"] } });
        let mut stream = client.start("subscriptions/listen", wanted).await;
        let first = stream.next().await.unwrap();
        let honoured = first.params()["notifications"].clone();
        assert_eq!(honoured["resourceSubscriptions"], json!(["mem://one"]));
        let subscription = first.params()["_meta"][format!("{META}subscriptionId")].clone();
        docs.tell("notifications/resources/updated", &json!({ "uri": "mem://two" }));
        docs.tell("notifications/resources/updated", &json!({ "uri": "mem://one" }));
        let update = stream.until("notifications/resources/updated").await.params();
        assert_eq!(update["uri"], "mem://one", "acknowledged is what is really open");
        assert_eq!(update["_meta"][format!("{META}subscriptionId")], subscription);
        drop(stream);
    }
}

/// A list that is read slowly, or seldom because it changes all the time, holds up no update.
#[tokio::test]
async fn an_update_waits_for_no_list() {
    let docs = fake::http().resource("mem://one");
    let gate = gateway().upstream("docs", &docs).start().await;
    let wanted = json!({ "notifications": { "resourceSubscriptions": ["mem://one"] } });
    let mut stream = gate.modern().start("subscriptions/listen", wanted).await;
    stream.next().await.unwrap();
    docs.becomes("", fake::Act::Hang);
    let lists = docs.seen("resources/list").len();
    docs.tell("notifications/resources/list_changed", &json!({}));
    let reads = || (lists < docs.seen("resources/list").len()).then_some(());
    eventually("the list is read again", reads).await;
    docs.tell("notifications/resources/updated", &json!({ "uri": "mem://one" }));
    let update = stream.until("notifications/resources/updated").await.params();
    assert_eq!(update["uri"], "mem://one");
}

#[tokio::test]
async fn a_second_subscription_costs_the_first_no_update() {
    let docs = fake::http().resource("mem://one").resource("mem://two");
    let gate = gateway().upstream("docs", &docs).start().await;
    let client = gate.modern();
    let of = |uri: &str| json!({ "notifications": { "resourceSubscriptions": [uri] } });
    let mut first = client.start("subscriptions/listen", of("mem://one")).await;
    first.next().await.unwrap();
    let mut second = client.start("subscriptions/listen", of("mem://two")).await;
    second.next().await.unwrap();
    docs.tell_late("notifications/resources/updated", &json!({ "uri": "mem://one" }));
    let update = first.until("notifications/resources/updated").await.params();
    assert_eq!(update["uri"], "mem://one");
}

#[tokio::test]
async fn a_subscription_that_ends_is_left_upstream() {
    let docs = fake::legacy("2025-06-18").resource("mem://one");
    let gate = gateway().upstream("docs", &docs).start().await;
    let client = gate.modern();
    let wanted = json!({ "notifications": { "resourceSubscriptions": ["mem://one"] } });
    let mut stream = client.start("subscriptions/listen", wanted).await;
    stream.next().await.unwrap();
    docs.receives("resources/subscribe").await;
    drop(stream);
    docs.receives("resources/unsubscribe").await;
}

#[tokio::test]
async fn a_gate_that_stops_ends_its_subscriptions_properly() {
    let git = fake::http().tool("log");
    let mut gate = gateway().upstream("git", &git).start().await;
    let client = gate.modern();
    let stream = client.listen().await;
    let (message, ()) = tokio::join!(stream.message(), gate.stops());
    assert_eq!(message.result()["resultType"], "complete");
    eventually("no stream is left upstream", || (git.listeners() == 0).then_some(())).await;
}

#[tokio::test]
async fn the_greeting_of_the_other_era_is_an_unknown_method() {
    let gate = gateway().upstream("git", &fake::http().tool("log")).start().await;
    let info = json!({ "name": "a", "version": "1" });
    let params = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": info });
    let text = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params });
    for headers in [&[("mcp-method", "initialize")][..], &[]] {
        let headers = [&[("mcp-protocol-version", fake::MODERN)], headers].concat();
        let reply = gate.post(&headers, &text.to_string()).await;
        assert_eq!((reply.status, reply.message().await.code()), (404, -32601));
    }
}

#[tokio::test]
async fn a_notification_of_an_unknown_version_is_refused() {
    let gate = gateway().upstream("git", &fake::http().tool("log")).start().await;
    let text = r#"{"jsonrpc":"2.0","method":"notifications/example"}"#;
    let post = async |version| gate.post(&[("mcp-protocol-version", version)], text).await;
    let reply = post("2099-01-01").await;
    assert_eq!((reply.status, reply.message().await.code()), (400, -32022));
    assert_eq!(post(fake::MODERN).await.status, 202);
}

#[tokio::test]
async fn an_error_has_the_status_of_its_kind() {
    let error = r#"{"code":-32601,"message":"no such thing"}"#;
    for git in [fake::legacy("2025-06-18"), fake::stdio("2025-06-18"), fake::stdio(fake::MODERN)] {
        let git = git.tool("log").does(fake::Act::Error(error.to_owned()));
        let gate = gateway().upstream("git", &git).start().await;
        let reply = gate.modern().start("tools/call", json!({ "name": "log" })).await;
        assert_eq!((reply.status, reply.message().await.code()), (404, -32601));
    }
}
