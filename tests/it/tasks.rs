//! Tasks of both eras: calls that go on as tasks of the gate, and tasks of servers that the gate
//! brings to their end.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::{
    client::{Client, Endpoint},
    eventually,
    fake::{self, Act, Fake},
    gate::{Gate, Plan, gateway},
    message::{Message, members},
    soon,
};

const TASKS: &str = "io.modelcontextprotocol/tasks";
/// What Rust's numbers and strings cannot hold.
const ODD: &str = r#"{"content":[],"structuredContent":{"n":1e400,"s":"\u00e9\/","n2":1.0}}"#;

fn form() -> Value {
    json!({ "message": "sure?", "requestedSchema": { "type": "object", "properties": {} } })
}

fn takes_tasks() -> Value {
    json!({ "elicitation": {}, "sampling": {}, "extensions": { TASKS: {} } })
}

/// Every call of a client that takes tasks goes on as one at once.
fn eager() -> Plan {
    gateway().server("limits.task_after = \"0s\"")
}

fn takes(gate: &Endpoint) -> Client {
    gate.client(fake::MODERN, takes_tasks())
}

/// Calls a tool, which must lead to a task; gives its id.
async fn begin(client: &Client, tool: &str) -> String {
    let task = client.call(tool).await;
    assert_eq!(task["resultType"], "task", "{task}");
    for key in ["status", "createdAt", "lastUpdatedAt", "ttlMs", "pollIntervalMs"] {
        assert!(task.get(key).is_some(), "{key} in {task}");
    }
    let created: jiff::Timestamp = task["createdAt"].as_str().unwrap().parse().unwrap();
    assert!(created <= jiff::Timestamp::now());
    task["taskId"].as_str().unwrap().to_owned()
}

async fn about(client: &Client, method: &str, id: &str) -> Message {
    client.ask(method, json!({ "taskId": id })).await
}

/// The message about a task once it has this status.
async fn until(client: &Client, id: &str, status: &str) -> Message {
    let looking = async {
        loop {
            let message = about(client, "tasks/get", id).await;
            let task = message.result();
            assert_eq!((&task["resultType"], &task["taskId"]), (&json!("complete"), &json!(id)));
            if task["status"] == status {
                return message;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    soon(&format!("a task that is {status}"), looking).await
}

async fn update(client: &Client, id: &str, responses: Value) {
    let params = json!({ "taskId": id, "inputResponses": responses });
    let acknowledged = client.ask("tasks/update", params).await.result();
    assert_eq!(acknowledged, json!({ "resultType": "complete" }));
}

fn answers(server: &Fake) -> Vec<Message> {
    let heard = server.all().into_iter().map(|seen| seen.message());
    heard.filter(|message| message.result.is_some() || message.error.is_some()).collect()
}

fn legacy() -> [Fake; 2] {
    [fake::legacy("2025-06-18"), fake::stdio("2025-06-18")]
}

#[tokio::test]
async fn a_silent_call_goes_on_as_a_task_and_its_result_is_the_servers() {
    for server in legacy() {
        let server = server.tool("odd").answer(ODD);
        let server = server.tool("bad").answer(r#"{"content":[],"isError":true}"#);
        let server = server.tool("broken").error(r#"{"code":-32002,"message":"no such thing"}"#);
        let gate = eager().upstream("git", &server).start().await;
        let client = takes(&gate);
        let id = begin(&client, "odd").await;
        let found = until(&client, &id, "completed").await;
        let task = members(found.result.as_deref().unwrap().as_bytes());
        let want = format!(r#"{},"resultType":"complete"}}"#, ODD.strip_suffix('}').unwrap());
        assert_eq!(task["result"], want, "byte for byte");
        let again = until(&client, &id, "completed").await;
        assert_eq!(again.result, found.result, "it is kept");
        let id = begin(&client, "bad").await;
        let bad = until(&client, &id, "completed").await.result();
        assert_eq!(bad["result"]["isError"], true);
        let id = begin(&client, "broken").await;
        let broken = until(&client, &id, "failed").await.result();
        assert_eq!(broken["error"]["code"], -32602, "in the words of the client's era");
        assert_eq!(broken["statusMessage"], "no such thing");
    }
}

#[tokio::test]
async fn a_call_answered_in_time_or_of_another_client_is_no_task() {
    let server = fake::legacy("2025-06-18").tool("log");
    let gate = gateway().upstream("git", &server).start().await;
    assert_eq!(takes(&gate).call("log").await["resultType"], "complete");
    let gate = eager().upstream("git", &server).start().await;
    assert_eq!(gate.modern().call("log").await["resultType"], "complete");
    let old = gate.legacy("2025-06-18").await;
    assert!(old.call("log").await.get("taskId").is_none());
}

#[tokio::test]
async fn who_hears_of_progress_is_not_left_waiting() {
    let server = fake::legacy("2025-06-18").tool("slow").does(Act::Open);
    let plan = gateway().server("limits.task_after = \"1s\"");
    let gate = plan.upstream("git", &server).start().await;
    let client = takes(&gate);
    let params = json!({ "name": "slow", "_meta": { "progressToken": "p" } });
    let hears = async {
        let mut reply = client.start("tools/call", params).await;
        reply.until("notifications/progress").await;
        reply.message().await.result()
    };
    let second = async {
        // Begun after the first, and a task before it.
        eventually("the first is sent", || server.seen("tools/call").pop()).await;
        client.call("slow").await
    };
    let progress = async {
        let both = || (server.seen("tools/call").len() == 2).then_some(());
        eventually("both are sent", both).await;
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        server.progresses();
    };
    let (mut hears, second) = (Box::pin(hears), Box::pin(second));
    let both = async {
        tokio::select! {
            first = &mut hears => panic!("what goes on was made a task: {first}"),
            second = second => assert_eq!(second["resultType"], "task"),
        }
        assert_eq!(hears.await["resultType"], "task", "when it is silent again");
    };
    tokio::join!(both, progress);
}

#[tokio::test]
async fn a_question_in_mid_call_is_put_by_the_task() {
    for server in legacy() {
        let sampling = json!({ "messages": [], "maxTokens": 5 });
        let server = server.tool("ask").ask("elicitation/create", &form());
        let server = server.ask("sampling/createMessage", &sampling);
        let gate = gateway().upstream("git", &server).start().await;
        let client = takes(&gate);
        let id = begin(&client, "ask").await;
        let asked = until(&client, &id, "input_required").await.result()["inputRequests"].clone();
        assert_eq!(asked, json!({ "q1": { "method": "elicitation/create", "params": form() } }));
        for wrong in [json!({}), json!({ "q1": { "action": "perhaps" } }), json!({ "q2": {} })] {
            update(&client, &id, wrong).await;
        }
        assert_eq!(until(&client, &id, "input_required").await.result()["inputRequests"], asked);
        let text = r#"{"action":"accept","content":{"n":1.0,"s":"\u00e9"}}"#;
        let params = format!(r#""taskId":"{id}","inputResponses":{{"q1":{text},"other":{{}}}}"#);
        let request = client.request("tasks/update", json!({}));
        let request = request.replacen(r#""params":{"#, &format!(r#""params":{{{params},"#), 1);
        assert_eq!(client.post(&request).await.status, 200);
        let second = async {
            loop {
                let task = until(&client, &id, "input_required").await.result();
                if task["inputRequests"].get("q1").is_none() {
                    return task["inputRequests"].clone();
                }
            }
        };
        let second = soon("the second question", Box::pin(second)).await;
        assert_eq!(second["q2"]["method"], "sampling/createMessage", "{second}");
        assert_eq!(answers(&server)[0].result.as_deref(), Some(text), "byte for byte");
        // One that was answered is no more.
        update(&client, &id, json!({ "q1": { "action": "cancel" } })).await;
        let said = json!({ "role": "assistant", "model": "m", "content": { "type": "text" } });
        update(&client, &id, json!({ "q2": said })).await;
        let done = until(&client, &id, "completed").await.result();
        assert_eq!(done["result"]["content"][0]["text"], "asked");
        assert_eq!((answers(&server).len(), server.seen("tools/call").len()), (2, 1));
    }
}

#[tokio::test]
async fn what_is_asked_at_once_is_answered_in_parts() {
    let server = fake::legacy("2025-06-18").tool("slow").hang();
    let gate = gateway().upstream("git", &server).start().await;
    let client = takes(&gate);
    let asks = async {
        server.receives("tools/call").await;
        server.asks_aside("elicitation/create", &form());
        server.asks_aside("sampling/createMessage", &json!({ "messages": [] }));
    };
    let (id, ()) = tokio::join!(begin(&client, "slow"), asks);
    let asked = until(&client, &id, "input_required").await.result()["inputRequests"].clone();
    assert_eq!(asked.as_object().unwrap().len(), 2, "{asked}");
    update(&client, &id, json!({ "q1": { "action": "accept", "content": {} } })).await;
    let rest = until(&client, &id, "input_required").await.result()["inputRequests"].clone();
    assert_eq!(rest, json!({ "q2": asked["q2"] }));
}

#[tokio::test]
async fn a_cancelled_task_is_cancelled_upstream() {
    for server in legacy() {
        let server = server.tool("slow").hang().tool("log");
        let gate = eager().upstream("git", &server).start().await;
        let client = takes(&gate);
        let id = begin(&client, "slow").await;
        server.receives("tools/call").await;
        for _ in 0..2 {
            let acknowledged = about(&client, "tasks/cancel", &id).await.result();
            assert_eq!(acknowledged, json!({ "resultType": "complete" }));
        }
        until(&client, &id, "cancelled").await;
        server.receives("notifications/cancelled").await;
        let done = begin(&client, "log").await;
        until(&client, &done, "completed").await;
        about(&client, "tasks/cancel", &done).await.result();
        until(&client, &done, "completed").await;
    }
}

#[tokio::test]
async fn a_client_that_never_answers_ends_its_task() {
    let server = fake::legacy("2025-06-18").tool("ask").ask("elicitation/create", &form());
    let plan = gateway().server("limits.answer_timeout = \"1s\"");
    let gate = plan.upstream("git", &server).start().await;
    let client = takes(&gate);
    let id = begin(&client, "ask").await;
    let result = until(&client, &id, "completed").await.result()["result"].clone();
    assert_eq!(result["structuredContent"]["error"], "service_timeout", "{result}");
    server.receives("notifications/cancelled").await;
    let told = || answers(&server).pop();
    let told = eventually("the server is told", told).await;
    assert_eq!(told.result(), json!({ "action": "cancel" }));
}

#[tokio::test]
async fn a_task_is_kept_for_its_time_and_by_its_gate() {
    let server = fake::legacy("2025-06-18").tool("log");
    let plan = eager().server("limits.task_ttl = \"1s\"");
    let mut gate = plan.upstream("git", &server).start().await;
    let client = takes(&gate);
    let id = begin(&client, "log").await;
    until(&client, &id, "completed").await;
    let expired = async {
        loop {
            let message = about(&client, "tasks/get", &id).await;
            if message.error.is_some() {
                return message.error();
            }
        }
    };
    let expired = soon("the task to expire", expired).await;
    assert_eq!(expired["code"], -32602);
    assert!(expired["message"].as_str().unwrap().contains("expired"), "{expired}");
    let id = begin(&client, "log").await;
    gate.restarts().await;
    gate.settled().await;
    let lost = about(&takes(&gate), "tasks/get", &id).await.error();
    assert!(lost["message"].as_str().unwrap().contains("restarted"), "{lost}");
}

#[tokio::test]
async fn a_task_is_its_callers_and_its_routes() {
    let server = fake::legacy("2025-06-18").tool("log");
    let plan = eager().upstream("git", &server).route("/mcp", "upstreams = [\"git\"]");
    let gate = plan.route("/other", "upstreams = [\"git\"]").start().await;
    let client = takes(&gate);
    let id = begin(&client, "log").await;
    let stranger = Endpoint { from: IpAddr::from([127, 0, 0, 2]), ..(*gate).clone() };
    let elsewhere = gate.at("/other");
    for (client, id) in [(&takes(&stranger), &*id), (&takes(&elsewhere), &id), (&client, "made-up")]
    {
        for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
            let error = about(client, method, id).await.error();
            assert_eq!(error["code"], -32602);
            assert_eq!(error["message"], format!("unknown task: {id}"), "all read alike");
        }
    }
    let listen = json!({ "notifications": { "taskIds": [id] } });
    let wishes = ["tasks/get", "tasks/update", "tasks/cancel"];
    let wishes = wishes.map(|method| (method, json!({ "taskId": id })));
    for (method, params) in wishes.into_iter().chain([("subscriptions/listen", listen)]) {
        let reply = gate.modern().start(method, params).await;
        assert_eq!(reply.status, 400);
        let error = reply.message().await.error();
        assert_eq!(error["code"], -32021);
        assert_eq!(error["data"]["requiredCapabilities"], json!({ "extensions": { TASKS: {} } }));
    }
    until(&client, &id, "completed").await;
    assert!(server.seen("tasks/get").is_empty(), "a legacy server is asked nothing of it");
}

#[tokio::test]
async fn where_there_is_no_room_for_tasks_a_call_goes_on_without() {
    let server = fake::legacy("2025-06-18").tool("log").tool("slow").hang();
    let server = server.tool("ask").ask("elicitation/create", &form());
    let plan = eager().server("limits.tasks_per_caller_max = 1");
    let gate = plan.upstream("git", &server).start().await;
    let client = takes(&gate);
    begin(&client, "slow").await;
    assert_eq!(client.call("log").await["resultType"], "complete");
    assert_eq!(client.call("ask").await["resultType"], "input_required");
    let stranger = Endpoint { from: IpAddr::from([127, 0, 0, 2]), ..(*gate).clone() };
    begin(&takes(&stranger), "log").await;
}

#[tokio::test]
async fn the_extension_is_announced_where_the_gate_offers_it() {
    let extension = async |server: &Fake| {
        let gate = gateway().upstream("git", server).start().await;
        let found = gate.modern().ask("server/discover", json!({})).await.result();
        let old = gate.client("2025-11-25", json!({})).open().await;
        assert!(old["capabilities"].get("tasks").is_none(), "{old}");
        found["capabilities"]["extensions"].get(TASKS).is_some()
    };
    assert!(extension(&fake::legacy("2025-06-18").tool("log")).await);
    assert!(!extension(&fake::legacy("2025-06-18").prompt("p")).await);
    assert!(!extension(&fake::http().tool("log")).await);
    assert!(extension(&fake::http().tool("log").task(&["\"status\":\"working\""])).await);
}

#[tokio::test]
async fn a_modern_servers_own_task_is_told_from_the_gates() {
    let new = fake::http().tool("job").task(&[r#""status":"completed","result":{"content":[]}"#]);
    let old = fake::legacy("2025-06-18").tool("log");
    let gate = eager().upstream("new", &new).upstream("old", &old).start().await;
    let client = takes(&gate);
    let (theirs, ours) = (begin(&client, "job").await, begin(&client, "log").await);
    assert!(!theirs.contains("job-1"), "sealed for its caller: {theirs}");
    let stranger = Endpoint { from: [127, 0, 0, 2].into(), ..(*gate).clone() };
    let stranger = stranger.client(fake::MODERN, client.capabilities.clone());
    for method in ["tasks/get", "tasks/cancel"] {
        assert_eq!(about(&stranger, method, &theirs).await.code(), -32602, "another caller's");
        assert_eq!(about(&client, method, "job-1").await.code(), -32602, "the server's own id");
    }
    until(&client, &theirs, "completed").await;
    until(&client, &ours, "completed").await;
    assert_eq!(new.seen("tasks/get").len(), 1);
    assert_eq!(about(&client, "tasks/get", "old~job-1").await.code(), -32602);
}

/// A modern server's tool that gives a task, and a legacy client.
async fn polled(steps: &[&str]) -> (Fake, Gate) {
    let server = fake::http().tool("job").task(steps).tool("log");
    let gate = gateway().upstream("git", &server).start().await;
    (server, gate)
}

#[tokio::test]
async fn a_modern_servers_task_is_brought_to_its_end_for_a_legacy_client() {
    let completed = format!(r#""status":"completed","result":{ODD}"#);
    let failed = r#""status":"failed","error":{"code":-32603,"message":"crashed"}"#;
    let steps: [&[&str]; 3] = [
        &[r#""status":"working""#, r#""status":"working","pollIntervalMs":101"#, &completed],
        &[r#""status":"working""#, failed],
        &[r#""status":"cancelled""#],
    ];
    for (at, steps) in steps.into_iter().enumerate() {
        let (server, gate) = polled(steps).await;
        let client = gate.legacy("2025-06-18").await;
        let answer = client.ask("tools/call", json!({ "name": "job" })).await;
        match at {
            0 => assert_eq!(answer.result.as_deref(), Some(ODD), "byte for byte"),
            1 => assert_eq!(answer.error(), json!({ "code": -32603, "message": "crashed" })),
            _ => assert_eq!(answer.result()["structuredContent"]["error"], "upstream_error"),
        }
        assert_eq!(server.seen("tasks/get").len(), steps.len());
        assert!(server.seen("tasks/cancel").is_empty());
        assert_eq!(client.call("log").await["content"][0]["text"], "log ran", "as before");
    }
}

#[tokio::test]
async fn a_modern_servers_task_asks_a_legacy_client_on_the_calls_stream() {
    let request = json!({ "method": "elicitation/create", "params": form() });
    let roots = json!({ "method": "roots/list", "params": {} });
    let first = json!({ "a/1": request, "b": roots });
    let first = format!(r#""status":"input_required","inputRequests":{first}"#);
    let second = json!({ "c": request });
    let second = format!(r#""status":"input_required","inputRequests":{second}"#);
    let done = r#""status":"completed","result":{"content":[]}"#;
    let (server, gate) = polled(&[&first, r#""status":"working""#, &second, done]).await;
    let client = gate.legacy_with("2025-11-25", json!({ "elicitation": {}, "roots": {} })).await;
    let mut reply = client.start("tools/call", json!({ "name": "job" })).await;
    let form = r#"{"action":"accept","content":{"s":"\u00e9"}}"#;
    let folders = r#"{"roots":[{"uri":"file:\/\/\/x"}]}"#;
    for (method, answer) in
        [("elicitation/create", form), ("roots/list", folders), ("elicitation/create", form)]
    {
        let id = reply.until(method).await.id.unwrap();
        client.respond(&id, answer).await;
    }
    assert_eq!(reply.message().await.result(), json!({ "content": [] }));
    let updates = server.seen("tasks/update");
    assert_eq!(updates.len(), 2);
    let params = updates[0].message().params.unwrap();
    let sent = members(members(params.as_bytes())["inputResponses"].as_bytes());
    assert_eq!((&*sent["a/1"], &*sent["b"]), (form, folders), "byte for byte");
}

#[tokio::test]
async fn a_legacy_client_that_cancels_or_does_not_answer_ends_the_servers_task() {
    let request = json!({ "q": { "method": "elicitation/create", "params": form() } });
    let asks = format!(r#""status":"input_required","inputRequests":{request}"#);
    let (server, gate) = polled(&[&asks]).await;
    let client = gate.legacy_with("2025-06-18", takes_tasks()).await;
    let mut reply = client.start("tools/call", json!({ "name": "job" })).await;
    let asked = reply.until("elicitation/create").await.id.unwrap();
    client.notify("notifications/cancelled", json!({ "requestId": 2 })).await;
    let withdrawn = reply.until("notifications/cancelled").await.params();
    assert_eq!(withdrawn["requestId"].to_string(), asked);
    assert!(reply.next().await.is_none(), "it is answered no more");
    server.receives("tasks/cancel").await;
    eventually("the task is over", || (server.jobs_underway() == 0).then_some(())).await;

    let plan = gateway().server("limits.answer_timeout = \"1s\"");
    let gate = plan.upstream("git", &server).start().await;
    let client = gate.legacy_with("2025-06-18", takes_tasks()).await;
    let late = client.ask("tools/call", json!({ "name": "job" })).await.result();
    assert_eq!(late["structuredContent"]["error"], "service_timeout");
    let cancelled = || (server.seen("tasks/cancel").len() == 2).then_some(());
    eventually("the second task is cancelled", cancelled).await;
}

#[tokio::test]
async fn a_servers_task_takes_no_longer_than_a_call_may() {
    let (server, _) = polled(&[r#""status":"working""#]).await;
    let timeout = "timeout = { idle = \"300ms\", total = \"400ms\" }";
    let gate = gateway().upstream_with("git", &server, timeout).start().await;
    let client = gate.legacy("2025-06-18").await;
    let late = client.ask("tools/call", json!({ "name": "job" })).await.result();
    assert_eq!(late["structuredContent"]["error"], "service_timeout");
    server.receives("tasks/cancel").await;
}

#[tokio::test]
async fn a_client_that_reads_no_stream_is_shown_as_one_without_tasks() {
    let (server, gate) = polled(&[r#""status":"working""#]).await;
    let client = gate.legacy("2025-06-18").await;
    let call = client.request("tools/call", json!({ "name": "job" }));
    let reply = client.post_with(&call, &[("accept", "application/json")]).await;
    assert_eq!(reply.message().await.code(), -32602);
    let meta = server.receives("tools/call").await.message().params()["_meta"].clone();
    assert_eq!(meta["io.modelcontextprotocol/clientCapabilities"], json!({}));
}

/// A legacy server with a tool that it runs as a task only.
fn requiring(steps: &[&str]) -> Fake {
    required(fake::legacy("2025-11-25"), steps)
}

fn required(server: Fake, steps: &[&str]) -> Fake {
    let schema = json!({ "type": "object" });
    let execution = json!({ "taskSupport": "required" });
    let tool = json!({ "name": "job", "inputSchema": schema, "execution": execution });
    server.tool_with(tool).task(steps).tool("log")
}

#[tokio::test]
async fn a_tool_that_must_be_a_task_is_called_as_any_other() {
    let completed = format!(r#""status":"completed","result":{ODD}"#);
    let working = r#""status":"working""#;
    let server = requiring(&[working, working, &completed]);
    let beside = fake::http().prompt("p");
    // Behind several servers nobody is offered the tasks of one.
    let gate = gateway().upstream("git", &server).upstream("beside", &beside).start().await;
    let old = gate.legacy("2025-11-25").await;
    let capable = gate.client(fake::MODERN, json!({ "elicitation": {} }));
    for client in [&old, &gate.modern(), &capable, &takes(&gate)] {
        let tools = client.ask("tools/list", json!({})).await.result();
        assert!(tools["tools"][0]["execution"].get("taskSupport").is_none(), "{tools}");
        let params = json!({ "name": "job", "task": { "ttl": 1 } });
        let answer = client.ask("tools/call", params).await;
        let result = members(answer.result.as_deref().unwrap().as_bytes());
        let odd = members(ODD.as_bytes());
        assert_eq!(result["structuredContent"], odd["structuredContent"], "byte for byte");
        assert!(!answer.result.unwrap().contains("related-task"));
        assert_eq!(client.call("log").await["content"][0]["text"], "log ran");
    }
    assert!(8 <= server.seen("tasks/get").len(), "the server was asked how it goes");
    assert!(server.seen("tasks/cancel").is_empty());
    for seen in server.seen("tools/call") {
        let params = seen.message().params();
        let wished = params["task"]["ttl"].as_u64();
        assert_eq!(wished.is_some(), params["name"] == "job", "{params}");
        assert_ne!(wished, Some(1), "the wish is the gate's own");
    }
}

#[tokio::test]
async fn a_task_of_a_legacy_server_asks_its_client() {
    let request = json!({ "q": { "method": "elicitation/create", "params": form() } });
    let asks = format!(r#""status":"input_required","inputRequests":{request}"#);
    let done = r#""status":"completed","result":{"content":[]}"#;
    for server in [fake::legacy("2025-11-25"), fake::stdio("2025-11-25")] {
        let server = required(server, &[&asks, r#""status":"working""#, done]);
        Box::pin(ask_by_task(&server)).await;
    }
}

async fn ask_by_task(server: &Fake) {
    let gate = gateway().upstream("git", server).start().await;
    let answer = r#"{"action":"accept","content":{}}"#;

    let old = gate.legacy_with("2025-11-25", json!({ "elicitation": {} })).await;
    let mut reply = old.start("tools/call", json!({ "name": "job" })).await;
    let asked = reply.until("elicitation/create").await;
    assert!(!asked.params.unwrap().contains("related-task"));
    old.respond(&asked.id.unwrap(), answer).await;
    assert_eq!(reply.message().await.result()["content"], json!([]));

    let new = gate.client(fake::MODERN, json!({ "elicitation": {} }));
    let asked = new.call("job").await;
    assert_eq!(asked["inputRequests"]["q1"]["method"], "elicitation/create", "{asked}");
    assert!(!asked.to_string().contains("related-task"), "{asked}");
    let params = json!({
        "name": "job",
        "arguments": {},
        "requestState": asked["requestState"],
        "inputResponses": { "q1": { "action": "accept", "content": {} } },
    });
    assert_eq!(new.ask("tools/call", params).await.result()["content"], json!([]));

    let client = takes(&gate);
    let id = begin(&client, "job").await;
    until(&client, &id, "input_required").await;
    update(&client, &id, json!({ "q1": { "action": "accept", "content": {} } })).await;
    until(&client, &id, "completed").await;
    assert_eq!(server.seen("tools/call").len(), 3);
}

#[tokio::test]
async fn a_task_of_a_legacy_server_ends_with_its_call() {
    let server = requiring(&[r#""status":"working""#]);
    let timeout = "timeout = { idle = \"300ms\" }";
    let gate = gateway().upstream_with("git", &server, timeout).start().await;
    let old = gate.legacy("2025-11-25").await;
    let waiting = old.start("tools/call", json!({ "name": "job" }));
    let cancels = async {
        // Past the idle time: that the server answers is life enough.
        let looked = || (8 <= server.seen("tasks/get").len()).then_some(());
        eventually("the server is asked how it goes", looked).await;
        old.notify("notifications/cancelled", json!({ "requestId": 2 })).await;
        server.receives("tasks/cancel").await;
    };
    tokio::join!(async { drop(waiting.await) }, cancels);
    let capable = gate.client(fake::MODERN, json!({ "elicitation": {} }));
    let leaves = async {
        let looked = || (10 <= server.seen("tasks/get").len()).then_some(());
        eventually("the server is asked how the second goes", looked).await;
    };
    tokio::select! {
        _ = capable.call("job") => panic!("it does not end by itself"),
        () = leaves => (),
    }
    let cancelled = || (server.seen("tasks/cancel").len() == 2).then_some(());
    eventually("a client that leaves has cancelled", cancelled).await;
    assert_eq!(server.jobs_underway(), 0);
}

#[tokio::test]
async fn a_session_uses_the_tasks_of_its_server() {
    let request = json!({ "q": { "method": "elicitation/create", "params": form() } });
    let asks = format!(r#""status":"input_required","inputRequests":{request}"#);
    let completed = format!(r#""status":"completed","result":{ODD}"#);
    let server = requiring(&[&asks, &completed]);
    let gate = gateway().upstream("git", &server).start().await;
    let mut client = gate.client("2025-11-25", json!({ "elicitation": {}, "tasks": {} }));
    let tasks = client.open().await["capabilities"]["tasks"].clone();
    assert_eq!(tasks, json!({ "cancel": {}, "requests": { "tools": { "call": {} } } }));
    let tools = client.ask("tools/list", json!({})).await.result();
    assert_eq!(tools["tools"][0]["execution"]["taskSupport"], "required");
    let modern = gate.modern().ask("tools/list", json!({})).await.result();
    assert!(modern["tools"][0]["execution"].get("taskSupport").is_none(), "{modern}");
    let inner = server.seen("initialize").pop().unwrap().message().params();
    assert!(inner["capabilities"].get("tasks").is_none(), "no server runs tasks on a client");

    let wish = json!({ "name": "job", "task": { "ttl": 7 } });
    let begun = client.ask("tools/call", wish.clone()).await.result();
    let id = begun["task"]["taskId"].as_str().unwrap().to_owned();
    assert_eq!(server.seen("tools/call")[0].message().params()["task"], json!({ "ttl": 7 }));
    let looked = about(&client, "tasks/get", &id).await.result();
    assert_eq!((&looked["taskId"], &looked["status"]), (&json!(id), &json!("input_required")));
    let mut reply = client.start("tasks/result", json!({ "taskId": id })).await;
    let asked = reply.until("elicitation/create").await;
    let related = json!({ "io.modelcontextprotocol/related-task": { "taskId": id } });
    assert_eq!(asked.params()["_meta"], related);
    client.respond(&asked.id.unwrap(), r#"{"action":"accept","content":{}}"#).await;
    let result = reply.message().await.result.unwrap();
    let want = format!(r#"{},"_meta":{related}}}"#, ODD.strip_suffix('}').unwrap());
    assert_eq!(result, want, "byte for byte");

    let other = gate.legacy("2025-11-25").await;
    for method in ["tasks/get", "tasks/result", "tasks/cancel"] {
        assert_eq!(about(&other, method, &id).await.code(), -32602, "it is another session's");
    }
    assert_eq!(client.ask("tasks/list", json!({})).await.code(), -32601);
    let second = client.ask("tools/call", wish.clone()).await.result();
    let second = second["task"]["taskId"].as_str().unwrap().to_owned();
    assert_eq!(about(&client, "tasks/cancel", &second).await.result()["status"], "cancelled");
    // Whoever wishes for none gets the result itself.
    let inline = other.ask("tools/call", json!({ "name": "log" })).await.result();
    assert_eq!(inline["content"][0]["text"], "log ran");
}

#[tokio::test]
async fn tasks_of_a_server_are_hidden_where_they_cannot_be_used() {
    let server = requiring(&[r#""status":"completed","result":{"content":[]}"#]);
    let beside = fake::legacy("2025-11-25").prompt("p");
    let merged = gateway().upstream("git", &server).upstream("beside", &beside).start().await;
    let alone = gateway().upstream("git", &server).start().await;
    for (gate, version) in [(&merged, "2025-11-25"), (&alone, "2025-06-18")] {
        let mut client = gate.client(version, json!({}));
        let capabilities = client.open().await["capabilities"].clone();
        assert!(capabilities.get("tasks").is_none(), "{capabilities}");
        let wish = json!({ "name": "job", "task": { "ttl": 7 } });
        assert_eq!(client.ask("tools/call", wish).await.result()["content"], json!([]));
        for method in ["tasks/get", "tasks/result", "tasks/cancel"] {
            assert_eq!(about(&client, method, "job-1").await.code(), -32601);
        }
    }
}

/// A server of 2026-07-28 that has no tasks is no reason to leave a client waiting.
#[tokio::test]
async fn a_call_to_a_modern_server_without_tasks_becomes_one_of_the_gates() {
    for server in [fake::http(), fake::dual()] {
        let server = server.tool("quick").tool("slow").does(Act::Open);
        let plan = gateway().server("limits.task_after = \"200ms\"");
        let gate = plan.upstream("git", &server).start().await;
        let client = takes(&gate);
        assert_eq!(client.call("quick").await["resultType"], "complete", "it was answered in time");
        let id = begin(&client, "slow").await;
        server.finishes(r#"{"resultType":"complete","content":[{"type":"text","text":"late"}]}"#);
        let done = until(&client, &id, "completed").await.result();
        assert_eq!(done["result"]["content"][0]["text"], "late", "{done}");
        assert_eq!(server.seen("tools/call").len(), 2, "nothing is sent twice");
    }
}
