//! Several gates behind one address, which open one another's sessions: what a message is about may
//! be at another one, and whoever sent it is told so.

use serde_json::{Value, json};

use crate::{
    client::{Client, Reply},
    eventually,
    fake::{self, Fake},
    gate::{Gate, Plan, gateway},
};

const VERSIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];
const TASKS: &str = "io.modelcontextprotocol/tasks";

/// Two gates with one key.
struct Pair {
    here: Gate,
    there: Gate,
    _folder: tempfile::TempDir,
}

impl Pair {
    async fn of(server: &Fake, keys: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        std::fs::write(&key, "a key of thirty-two bytes or more").unwrap();
        let plan = || -> Plan {
            let keys = format!("session_key = \"file:{}\"\n{keys}", key.display());
            gateway().server(&keys).upstream("git", server)
        };
        Self { here: plan().start().await, there: plan().start().await, _folder: folder }
    }

    /// The same client, whose messages reach the other gate.
    fn at_the_other(&self, client: &Client) -> Client {
        let mut other = self.there.client(&client.version, client.capabilities.clone());
        other.session.clone_from(&client.session);
        other
    }
}

fn everything() -> Value {
    json!({ "elicitation": {}, "sampling": {}, "roots": {} })
}

/// Refused, with a word on where to send it.
async fn is_told(reply: Reply, case: &str) {
    assert_eq!(reply.status, 400, "{case}");
    let error = reply.message().await.error();
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("not at this gateway: another one"), "{case}: {message}");
    assert!(!message.contains("again"), "{case}: {message}");
}

#[tokio::test]
async fn an_answer_that_reaches_another_gate_is_told_so_and_changes_nothing() {
    for version in VERSIONS {
        // What a client of this version can be asked.
        let asks = match version {
            "2024-11-05" | "2025-03-26" => ["roots/list", "sampling/createMessage"],
            _ => ["roots/list", "elicitation/create"],
        };
        for method in asks {
            let params = match method {
                "roots/list" => json!({}),
                "sampling/createMessage" => json!({ "messages": [], "maxTokens": 5 }),
                _ => json!({ "message": "?", "requestedSchema": {
                    "type": "object", "properties": {} } }),
            };
            let server = fake::legacy(version).tool("ask").ask(method, &params);
            let pair = Pair::of(&server, "").await;
            let client = pair.here.legacy_with(version, everything()).await;
            let other = pair.at_the_other(&client);
            let mut reply = client.start("tools/call", json!({ "name": "ask" })).await;
            let id = reply.until(method).await.id.unwrap();
            let case = format!("{version}, {method}");
            let answer = match method {
                "roots/list" => r#"{"roots":[]}"#,
                "sampling/createMessage" => {
                    r#"{"role":"assistant","model":"m","content":{"type":"text","text":"x"}}"#
                }
                _ => r#"{"action":"decline"}"#,
            };
            is_told(other.respond(&id, answer).await, &case).await;
            let refusal = r#"{"code":-1,"message":"no"}"#;
            let refusal = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{refusal}}}"#);
            is_told(other.post(&refusal).await, &case).await;
            // An id that no gate has made leads nowhere, as everywhere.
            assert_eq!(other.respond("\"mine\"", answer).await.status, 202, "{case}");
            assert_eq!(client.respond(&id, answer).await.status, 202, "{case}");
            assert_eq!(reply.message().await.result()["content"][0]["text"], "asked", "{case}");
            assert_eq!(client.respond(&id, answer).await.status, 202, "{case}: late, and known");
        }
    }
}

#[tokio::test]
async fn a_cancellation_that_reaches_another_gate_is_told_so_and_changes_nothing() {
    for version in VERSIONS {
        let server = fake::legacy(version).tool("slow").hang().tool("log");
        let pair = Pair::of(&server, "").await;
        let client = pair.here.legacy(version).await;
        let other = pair.at_the_other(&client);
        // Both have had calls of this session.
        assert_eq!(client.call("log").await["content"][0]["text"], "log ran");
        let calls = client.start("tools/call", json!({ "name": "slow" }));
        let cancels = async {
            eventually("it is sent", || (server.seen("tools/call").len() == 2).then_some(())).await;
            let id = json!({ "requestId": 3 });
            is_told(other.notify("notifications/cancelled", id.clone()).await, version).await;
            assert!(server.seen("notifications/cancelled").is_empty(), "{version}");
            assert_eq!(client.notify("notifications/cancelled", id.clone()).await.status, 202);
            server.receives("notifications/cancelled").await;
            // Late, where it ran.
            assert_eq!(client.notify("notifications/cancelled", id).await.status, 202, "{version}");
        };
        tokio::join!(async { drop(calls.await) }, cancels);
        // A call that ended at the other gate is known there.
        let ran = other.request("tools/call", json!({ "name": "log" }));
        let id: Value = serde_json::from_str::<Value>(&ran).unwrap()["id"].clone();
        other.post(&ran).await.message().await.result();
        let late = other.notify("notifications/cancelled", json!({ "requestId": id })).await;
        assert_eq!(late.status, 202, "{version}");
    }
}

#[tokio::test]
async fn a_retry_or_a_task_that_reaches_another_gate_is_told_so() {
    let form = json!({ "message": "?", "requestedSchema": { "type": "object", "properties": {} } });
    for version in VERSIONS.into_iter().skip(2) {
        let server = fake::legacy(version).tool("ask").ask("elicitation/create", &form);
        let server = server.tool("slow").hang();
        let pair = Pair::of(&server, "limits.task_after = \"0s\"").await;
        let client = pair.here.client(fake::MODERN, everything());
        let asked = client.call("ask").await;
        let retry = |client: &Client| {
            let params = json!({
                "name": "ask",
                "arguments": {},
                "requestState": asked["requestState"],
                "inputResponses": { "q1": { "action": "decline" } },
            });
            client.request("tools/call", params)
        };
        let other = pair.at_the_other(&client);
        let told = other.post(&retry(&other)).await.message().await.error();
        let message = told["message"].as_str().unwrap();
        assert!(message.contains("not at this gateway: another one"), "{version}: {message}");
        let answered = client.post(&retry(&client)).await.message().await.result();
        assert_eq!(answered["content"][0]["text"], "asked", "{version}");

        let takes = json!({ "extensions": { TASKS: {} } });
        let client = pair.here.client(fake::MODERN, takes);
        let other = pair.at_the_other(&client);
        let id = client.call("slow").await["taskId"].clone();
        for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
            let params = json!({ "taskId": id, "inputResponses": {} });
            let told = other.ask(method, params.clone()).await.error();
            let message = told["message"].as_str().unwrap();
            assert!(message.contains("not at this gateway: another one"), "{method}: {message}");
            assert!(!message.contains("call the tool again"), "{method}: {message}");
        }
        let looked = client.ask("tasks/get", json!({ "taskId": id })).await.result();
        assert_eq!(looked["status"], "working", "{version}: it goes on");
    }
}
