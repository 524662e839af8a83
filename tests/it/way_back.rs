//! The way back of a call: whose HTTP status reaches a client, what becomes of a refresh of the
//! cache, and what a client is told of questions that nobody needs an answer to any more.

use serde_json::json;

use crate::{
    eventually,
    fake::{self, Act},
    gate::gateway,
    soon,
};

/// Statuses that carry an error of JSON-RPC, and that no other meaning is drawn from.
const STATUSES: [u16; 14] = [200, 400, 404, 405, 406, 409, 410, 413, 415, 422, 429, 500, 501, 503];

#[tokio::test]
async fn a_servers_status_reaches_a_client_only_within_the_modern_era() {
    let error = json!({ "code": -32050, "message": "no" });
    let servers = [
        ("modern", fake::http(), &STATUSES[..]),
        ("legacy", fake::legacy("2025-06-18").stateless(), &STATUSES),
        // Within a session 400, 404 and 410 may say that it is gone.
        ("sessions", fake::legacy("2025-03-26"), &[200, 405, 406, 409, 422, 429, 500, 503]),
    ];
    for (kind, server, statuses) in servers {
        let server = statuses.iter().fold(server, |server, status| {
            let refuses = Act::Refuses(*status, error.to_string());
            server.tool(&format!("gives_{status}")).does(refuses)
        });
        let gate = gateway().upstream("git", &server).start().await;
        for version in [fake::MODERN, "2025-11-25", "2025-03-26"] {
            let mut client = gate.client(version, json!({}));
            if !client.is_modern() {
                client.open().await;
            }
            for status in statuses {
                let call = json!({ "name": format!("gives_{status}") });
                let reply = client.start("tools/call", call).await;
                let both_modern = kind == "modern" && client.is_modern();
                let expected = if both_modern { *status } else { 200 };
                assert_eq!(reply.status, expected, "{status} of {kind} to {version}");
                assert_eq!(reply.message().await.error(), error, "{status}, {kind}, {version}");
            }
        }
    }
}

/// A refresh that is slower than `task_after` goes on: nobody would come back for a task.
#[tokio::test]
async fn a_slow_refresh_of_the_cache_never_becomes_a_task() {
    let reads = json!({
        "name": "get",
        "inputSchema": { "type": "object" },
        "annotations": { "readOnlyHint": true },
    });
    let tasks = json!({ "extensions": { "io.modelcontextprotocol/tasks": {} } });
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        for (at, server) in
            [fake::legacy(version), fake::legacy(version).stateless()].into_iter().enumerate()
        {
            for task_after in ["0s", "20ms"] {
                let case = format!("{version}, server {at}, {task_after}");
                let server = server.clone().tool_with(reads.clone());
                server.becomes("get", Act::Result(r#"{"content":["old"]}"#.to_owned()));
                let keys = "tools.get.cache = { ttl = \"1ms\", stale = \"1h\" }";
                let limits = format!("limits.task_after = {task_after:?}");
                let plan = gateway().server(&limits).upstream_with("jobs", &server, keys);
                let gate = plan.start().await;
                let client = gate.client(fake::MODERN, tasks.clone());
                let get = async || {
                    let params = json!({ "name": "get", "_meta": { "progressToken": "p" } });
                    client.ask("tools/call", params).await.result()["content"][0].clone()
                };
                let counter = |name: &str| gate.app().viewer().report().counters[name];
                let kept = async { while get().await != "old" {} };
                soon("it is kept", kept).await;
                let before = server.seen("tools/call").len();
                let tasks_before = counter("tasks");
                server.becomes("get", Act::Open);
                let asked = async {
                    while server.seen("tools/call").len() == before {
                        assert_eq!(get().await, "old", "{case}");
                    }
                };
                soon("it is asked anew", asked).await;
                // What has been heard of once, may become a task when it is silent.
                server.progresses();
                tokio::time::sleep(std::time::Duration::from_millis(60)).await;
                assert_eq!(counter("tasks"), tasks_before, "{case}");
                assert_eq!(server.seen("tools/call").len(), before + 1, "{case}: asked once");
                assert!(server.seen("notifications/cancelled").is_empty(), "{case}");
                server.finishes(r#"{"content":["new"]}"#);
                let renewed = async { while get().await != "new" {} };
                soon("the new one", renewed).await;
            }
        }
    }
}

/// However a modern server's task ends, a legacy client that was being asked for it is told that
/// no answer is needed any more, before it gets the call's.
#[tokio::test]
async fn questions_of_a_task_that_is_over_are_withdrawn() {
    let form = json!({
        "method": "elicitation/create",
        "params": { "message": "sure?", "requestedSchema": { "type": "object", "properties": {} } },
    });
    let sampling = json!({
        "method": "sampling/createMessage",
        "params": { "messages": [], "maxTokens": 5 },
    });
    let roots = json!({ "method": "roots/list", "params": {} });
    let asked = [
        json!({ "a": form }),
        json!({ "a": roots }),
        json!({ "a": form, "b": sampling }),
        json!({ "a": form, "b": form, "c": roots }),
    ];
    let ends = [
        r#""status":"completed","result":{"content":[]}"#,
        r#""status":"completed","result":{"content":[],"isError":true}"#,
        r#""status":"failed","error":{"code":-32603,"message":"crashed"}"#,
        r#""status":"cancelled""#,
        // These two cannot be read.
        r#""status":"completed""#,
        r#""status":"failed""#,
    ];
    for requests in &asked {
        for (at, end) in ends.into_iter().enumerate() {
            let version = ["2025-06-18", "2025-11-25"][at % 2];
            let case = format!("{version}, {requests}, {end}");
            // So spelled, the fake waits for no answer.
            let asks = format!(r#""status":"\u0069nput_required","inputRequests":{requests}"#);
            let server = fake::http().tool("job").task(&[&asks, end]);
            let gate = gateway().upstream("git", &server).start().await;
            let can = json!({ "elicitation": {}, "sampling": {}, "roots": {} });
            let client = gate.legacy_with(version, can).await;
            let mut reply = client.start("tools/call", json!({ "name": "job" })).await;
            let (mut open, mut withdrawn) = (Vec::new(), Vec::new());
            let answer = loop {
                let message = soon(&case, reply.next()).await.unwrap();
                match message.method.as_deref() {
                    None => break message,
                    Some("notifications/cancelled") => {
                        withdrawn.push(message.params()["requestId"].to_string());
                    }
                    Some(_) => open.push(message.id.unwrap()),
                }
            };
            assert_eq!(open.len(), requests.as_object().unwrap().len(), "{case}");
            assert_eq!(withdrawn, open, "{case}: {answer:?}");
            let over = || (server.jobs_underway() == 0).then_some(());
            eventually("the task is over", over).await;
        }
    }
}
