//! How much may be asked for: what clients read when it was too much, and what stays as it was.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    client::Client,
    eventually,
    fake::{self, Act},
    gate::{Gate, gateway},
    message, soon,
};

const HOUR_MS: u64 = 3_600_000;

/// A client of each era.
async fn both(gate: &Gate) -> [Client; 2] {
    [gate.modern(), gate.legacy("2025-11-25").await]
}

/// What a client declares that takes tasks.
fn tasks() -> Value {
    json!({ "extensions": { "io.modelcontextprotocol/tasks": {} } })
}

fn counter(gate: &Gate, name: &str) -> u64 {
    gate.app().viewer().report().counters[name]
}

/// What a model reads, if it is a refusal for now.
#[track_caller]
fn limited(result: &Value) -> &Value {
    let said = &result["structuredContent"];
    assert_eq!((&result["isError"], &said["error"]), (&json!(true), &json!("rate_limited")));
    assert_eq!(said["retriable"], true);
    assert_eq!(result["content"][0]["text"], message::told(said));
    said
}

#[track_caller]
fn ran(result: &Value) {
    assert!(result.get("isError").is_none(), "{result}");
}

#[tokio::test]
async fn each_caller_has_a_burst_of_each_tool_and_is_told_when_to_come_back() {
    let jobs = fake::http().tool("submit").tool("list");
    let limits = "limits = [{ per = [\"caller\", \"tool\"], rate = \"1/h\", burst = 2 }]";
    let gate = gateway().upstream_with("jobs", &jobs, limits).start().await;
    let [modern, legacy] = both(&gate).await;
    for client in [&modern, &legacy] {
        ran(&client.call("submit").await);
    }
    for client in [&modern, &legacy] {
        let reply = client.start("tools/call", json!({ "name": "submit" })).await;
        assert_eq!(reply.status, 200);
        let seconds: u64 = reply.header("retry-after").parse().unwrap();
        let result = reply.message().await.result();
        let wait = limited(&result)["retry_after_ms"].as_u64().unwrap();
        assert!(wait <= HOUR_MS && HOUR_MS - 60_000 < wait, "{wait}");
        assert_eq!(seconds, wait.div_ceil(1_000));
        ran(&client.call("list").await);
    }
    let mut elsewhere = gate.modern();
    elsewhere.endpoint.from = [127, 0, 0, 2].into();
    ran(&elsewhere.call("submit").await);
    assert_eq!(jobs.seen("tools/call").len(), 5);
    assert_eq!((counter(&gate, "refused_rate"), counter(&gate, "refused_budget")), (2, 0));
}

#[tokio::test]
async fn what_one_limit_refuses_costs_no_other_anything() {
    let jobs = fake::http().tool("submit").tool("list").prompt("ask");
    let keys = "limits = [{ budget = \"4/month\" }]\ntools.submit = { cost = 2, limits = [{ rate = \
                \"2/h\" }] }";
    let gate = gateway().upstream_with("jobs", &jobs, keys).start().await;
    let client = gate.modern();
    ran(&client.call("submit").await);
    for _ in 0..5 {
        limited(&client.call("submit").await);
    }
    ran(&client.call("list").await);
    client.ask("prompts/get", json!({ "name": "ask" })).await.result();
    limited(&client.call("list").await);
    assert_eq!((counter(&gate, "refused_rate"), counter(&gate, "refused_budget")), (5, 1));
}

#[tokio::test]
async fn a_call_costs_what_its_argument_says() {
    let jobs = fake::http().tool("submit");
    let keys = "tools.submit = { cost = { argument = \"/items\" }, limits = [{ rate = \"1/h\", burst \
                = 5 }] }";
    let gate = gateway().upstream_with("jobs", &jobs, keys).start().await;
    for client in both(&gate).await {
        let too_many = json!({ "name": "submit", "arguments": { "items": [1, 2, 3, 4, 5, 6] } });
        let reply = client.start("tools/call", too_many).await;
        assert_eq!(reply.header("retry-after"), "");
        let said = reply.message().await.result()["structuredContent"].clone();
        assert_eq!((&said["error"], &said["retriable"]), (&json!("rate_limited"), &json!(false)));
        assert!(said.get("retry_after_ms").is_none(), "{said}");
    }
    let submit = async |items: &[u8]| {
        let params = json!({ "name": "submit", "arguments": { "items": items } });
        gate.modern().ask("tools/call", params).await.result()
    };
    ran(&submit(&[1, 2, 3]).await);
    limited(&submit(&[1, 2, 3]).await);
    ran(&submit(&[1, 2]).await);
    assert_eq!((counter(&gate, "refused_cost"), counter(&gate, "refused_rate")), (2, 1));
}

#[tokio::test]
async fn lists_and_all_else_count_for_a_route_and_are_refused_with_an_error() {
    let jobs = fake::http().tool("submit").resource("mem://one");
    let route = |size: usize| {
        let limits = format!("limits = [{{ rate = \"1/h\", burst = {size} }}]");
        gateway().upstream("jobs", &jobs).route("/mcp", &format!("upstreams = [\"*\"]\n{limits}"))
    };
    let gate = route(1).start().await;
    let modern = gate.modern();
    modern.tools().await;
    for (method, params) in [
        ("tools/list", json!({})),
        ("server/discover", json!({})),
        ("resources/read", json!({ "uri": "mem://one" })),
        ("subscriptions/listen", json!({ "notifications": {} })),
    ] {
        let reply = modern.start(method, params).await;
        assert_eq!(reply.status, 429, "{method}");
        let seconds: u64 = reply.header("retry-after").parse().unwrap();
        let error = reply.message().await.error();
        assert_eq!(
            (&error["code"], &error["data"]["error"]),
            (&json!(-32603), &json!("rate_limited"))
        );
        let wait = error["data"]["retry_after_ms"].as_u64().unwrap();
        assert_eq!(seconds, wait.div_ceil(1_000), "{method}");
    }
    limited(&modern.call("submit").await);
    limited(&modern.call("no such tool").await);
    let made_up = json!({ "name": "submit", "arguments": {}, "requestState": "made up" });
    limited(&modern.ask("tools/call", made_up).await.result());
    // Once for the session, once for the list.
    let gate = route(2).start().await;
    let legacy = gate.legacy("2025-06-18").await;
    legacy.tools().await;
    let reply = legacy.start("tools/list", json!({})).await;
    assert_eq!((reply.status, reply.header("retry-after").is_empty()), (200, false));
    assert!(reply.message().await.error()["data"]["retry_after_ms"].is_u64());
    assert_eq!(legacy.ask("ping", json!({})).await.result(), json!({}), "it is a sign of life");
    let greeting = json!({ "protocolVersion": "2025-06-18", "capabilities": {} });
    let refused = gate.client("2025-06-18", json!({})).start("initialize", greeting).await;
    assert_eq!((refused.status, refused.header("mcp-session-id")), (200, ""));
    assert_eq!(refused.message().await.error()["data"]["error"], "rate_limited");
}

#[tokio::test]
async fn a_call_waits_for_its_place_and_is_refused_where_none_becomes_free() {
    let jobs = fake::http().tool("slow").does(Act::Open).tool("quick");
    let keys = "in_flight = { max = 2, wait = \"30s\" }\ntools.slow.in_flight = { max = 1 }";
    let gate = gateway().upstream_with("jobs", &jobs, keys).start().await;
    let begin = |tool: &'static str| {
        let client = gate.modern();
        tokio::spawn(async move { client.call(tool).await })
    };
    let jobs = &jobs;
    let calls = |count: usize| {
        let arrived = move || (jobs.seen("tools/call").len() == count).then_some(());
        eventually("the calls arrive", arrived)
    };
    let slow = begin("slow");
    calls(1).await;
    for client in both(&gate).await {
        let refused = client.call("slow").await;
        assert_eq!(limited(&refused)["retry_after_ms"], 1_000, "of its tool there is one place");
        ran(&client.call("quick").await);
    }
    assert_eq!(counter(&gate, "waited_in_flight"), 0);
    jobs.becomes("quick", Act::Open);
    let held = begin("quick");
    calls(4).await;
    jobs.becomes("quick", Act::Result("{\"content\":[]}".to_owned()));
    let waiting = begin("quick");
    eventually("a call waits", || (counter(&gate, "waited_in_flight") == 1).then_some(())).await;
    assert_eq!(jobs.seen("tools/call").len(), 4, "nothing is sent for it");
    // A client of 2026-07-28 that goes away has cancelled its call.
    slow.abort();
    ran(&soon("the place of the call that ended", waiting).await.unwrap());
    assert_eq!(counter(&gate, "refused_in_flight"), 2);
    held.abort();
}

#[tokio::test]
async fn a_call_that_waits_for_its_client_has_no_place() {
    let elicit = json!({ "message": "sure?", "requestedSchema": { "type": "object" } });
    let jobs = fake::legacy("2025-06-18").tool("ask").ask("elicitation/create", &elicit);
    let keys = "in_flight.max = 1\nlimits = [{ rate = \"1/h\", burst = 3 }]";
    let gate = gateway().upstream_with("jobs", &jobs, keys).start().await;
    let client = gate.client(fake::MODERN, json!({ "elicitation": { "form": {} } }));
    let mut parked = Vec::new();
    for _ in 0..2 {
        let result = client.call("ask").await;
        assert_eq!(result["resultType"], "input_required");
        parked.push(result["requestState"].clone());
    }
    let retry = |state: &Value| {
        let answers = json!({ "q1": { "action": "accept" } });
        json!({ "name": "ask", "arguments": {}, "requestState": state, "inputResponses": answers })
    };
    let answered = client.ask("tools/call", retry(&parked[0])).await.result();
    ran(&answered);
    limited(&client.ask("tools/call", retry(&parked[1])).await.result());
    gate.edit(|toml| toml.replace("burst = 3", "burst = 4"));
    let retried = async {
        loop {
            let result = client.ask("tools/call", retry(&parked[1])).await.result();
            if result.get("isError").is_none() {
                return result;
            }
        }
    };
    assert_eq!(soon("the new limit", retried).await["content"][0]["text"], "asked");
}

#[tokio::test]
async fn an_edit_resets_no_bucket_without_cause_and_fails_no_call() {
    let jobs = fake::http().tool("counted").tool("free");
    let limits = "tools.counted.limits = [{ rate = \"1/h\", burst = 3 }]";
    let gate = gateway().upstream_with("jobs", &jobs, limits).start().await;
    let client = gate.modern();
    for _ in 0..3 {
        ran(&client.call("counted").await);
    }
    let busy: Vec<_> = (0..16)
        .map(|_| {
            let client = gate.modern();
            tokio::spawn(async move {
                for _ in 0..20 {
                    ran(&client.call("free").await);
                }
            })
        })
        .collect();
    for at in 0..3 {
        let reloads = counter(&gate, "reloads");
        let key = format!("tools.free.limits = [{{ rate = \"{}/s\" }}]\nurl", 100_000 + at);
        gate.edit(|toml| {
            let kept = toml.lines().filter(|line| !line.starts_with("tools.free"));
            kept.map(|line| format!("{line}\n")).collect::<String>().replace("url", &key)
        });
        eventually("the edit is applied", || (reloads < counter(&gate, "reloads")).then_some(()))
            .await;
        limited(&client.call("counted").await);
    }
    for client in busy {
        client.await.unwrap();
    }
    assert_eq!(jobs.seen("server/discover").len(), 1, "nor is the server opened anew");
    gate.edit(|toml| toml.replace("burst = 3", "burst = 4"));
    let more = async { while client.call("counted").await.get("isError").is_some() {} };
    soon("the changed limit begins anew", more).await;
}

#[tokio::test]
async fn keys_are_bounded_whatever_clients_call_themselves() {
    let jobs = fake::http().tool("log");
    let limits =
        "limits = [{ per = [\"client\"], rate = \"1/h\" }, { rate = \"1/h\", burst = 500 }]";
    let plan = gateway().server("limits.limit_keys_max = 64").upstream_with("jobs", &jobs, limits);
    let gate = plan.start().await;
    let client = gate.modern();
    let call = |name: String| {
        let info = json!({ "name": name, "version": "1" });
        let meta = json!({ "io.modelcontextprotocol/clientInfo": info });
        client.ask("tools/call", json!({ "name": "log", "_meta": meta }))
    };
    for at in 0..200 {
        ran(&call(format!("client {at}")).await.result());
    }
    limited(&call("client 199".to_owned()).await.result());
    // One key more is that of the limit that all share.
    assert!(counter(&gate, "limit_keys_now") <= 65, "{}", counter(&gate, "limit_keys_now"));
    assert!(200 - 65 < counter(&gate, "limit_keys_evicted"));
}

#[tokio::test]
async fn what_ends_something_is_never_refused() {
    let jobs = fake::legacy("2025-06-18").tool("slow").does(Act::Open).resource("mem://one");
    let route = "upstreams = [\"*\"]\nlimits = [{ rate = \"1/h\", burst = 2 }]";
    let plan = || gateway().server("limits.task_after = \"0s\"").upstream("jobs", &jobs);
    let gate = plan().route("/mcp", route).start().await;
    let client = gate.client(fake::MODERN, tasks());
    let created = client.call("slow").await;
    let task = || json!({ "taskId": created["taskId"] });
    assert_eq!(client.ask("tasks/get", task()).await.result()["status"], "working");
    assert_eq!(client.ask("tasks/get", task()).await.error()["data"]["error"], "rate_limited");
    client.ask("tasks/cancel", task()).await.result();
    let gate = plan().route("/mcp", route).start().await;
    let client = gate.legacy("2025-06-18").await;
    let one = || json!({ "uri": "mem://one" });
    client.ask("resources/subscribe", one()).await.result();
    let refused = client.ask("resources/subscribe", one()).await.error();
    assert_eq!(refused["data"]["error"], "rate_limited");
    client.ask("resources/unsubscribe", one()).await.result();
}

#[tokio::test]
async fn a_place_is_kept_as_long_as_a_task_goes_on() {
    let jobs = fake::legacy("2025-06-18").tool("slow").does(Act::Open).tool("quick");
    let plan = gateway().server("limits.task_after = \"0s\"");
    let gate = plan.upstream_with("jobs", &jobs, "in_flight.max = 1").start().await;
    let client = gate.client(fake::MODERN, tasks());
    let created = client.call("slow").await;
    assert_eq!(created["resultType"], "task", "{created}");
    limited(&client.call("quick").await);
    client.ask("tasks/cancel", json!({ "taskId": created["taskId"] })).await.result();
    let freed = async {
        while gate.modern().call("quick").await.get("isError").is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("the task's place", freed).await;
}

/// A budget of this many calls at the upstream.
fn budget(of: u32) -> String {
    format!("limits = [{{ budget = \"{of}/month\" }}]\n")
}

fn reading(name: &str) -> Value {
    json!({
        "name": name,
        "inputSchema": { "type": "object", "properties": { "id": { "type": "integer" } } },
        "annotations": { "readOnlyHint": true },
    })
}

/// Spends what is left of the upstream's budget with this tool: how much that was.
async fn left(client: &Client, tool: &str) -> usize {
    for spent in 0..20 {
        if client.call(tool).await["structuredContent"]["error"] == "rate_limited" {
            return spent;
        }
    }
    panic!("a budget of 20 and more");
}

#[tokio::test]
async fn what_is_answered_from_memory_or_refused_before_it_is_sent_costs_an_upstream_nothing() {
    let jobs = fake::http().tool_with(reading("get")).tool_with(reading("check")).tool("other");
    let keys = format!("{}tools.get.cache = {{ ttl = \"10m\" }}\n", budget(5));
    let plan = gateway().upstream_with("jobs", &jobs, &keys);
    let plan = plan.policy(
        "permit(principal, action, resource); forbid(principal, action == \
                            Action::\"call\", resource == Tool::\"jobs/other\");",
    );
    let gate = plan.start().await;
    for client in both(&gate).await {
        for _ in 0..8 {
            // One for each form that clients share.
            ran(&client.call("get").await);
            assert_eq!(client.call("other").await["isError"], true, "policies deny it");
            let wrong = json!({ "name": "check", "arguments": { "id": "no number" } });
            let refused = client.ask("tools/call", wrong).await;
            assert_eq!(refused.result()["isError"], true, "its arguments are wrong");
            client.tools().await;
        }
    }
    let sent = jobs.seen("tools/call").len();
    assert!((1..=2).contains(&sent), "{sent}");
    assert_eq!(left(&gate.modern(), "check").await, 5 - sent);
    assert_eq!(jobs.seen("tools/call").len(), 5);
}

#[tokio::test]
async fn what_a_breaker_or_a_dead_server_keeps_from_being_sent_costs_an_upstream_nothing() {
    let jobs = fake::http().tool("log").tool("fails").does(Act::Status(500));
    let keys = format!(
        "{}breaker = {{ failure_rate = 0.5, window = 2, calls_min = 2, open = \"1s\", \
         tools_apart = false }}\n",
        budget(6)
    );
    let gate = gateway().upstream_with("jobs", &jobs, &keys).start().await;
    let client = gate.modern();
    for _ in 0..2 {
        client.call("fails").await;
    }
    eventually("it is open", || (0 < counter(&gate, "breakers_opened")).then_some(())).await;
    for _ in 0..8 {
        assert_eq!(client.call("log").await["structuredContent"]["error"], "service_unavailable");
    }
    assert!(8 <= counter(&gate, "refused_breaker"));
    let works = async {
        while client.call("log").await.get("isError").is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon("the breaker closes", works).await;
    assert_eq!(left(&client, "log").await, 6 - 3, "two failed, one ran");

    let (listed, keys) = (fake::http().tool("log"), budget(3));
    let gate = gateway().upstream_with("jobs", &listed, &keys).start().await;
    let client = gate.modern();
    ran(&client.call("log").await);
    listed.dies();
    for _ in 0..8 {
        // The first may have been on its way.
        assert_eq!(client.call("log").await["structuredContent"]["error"], "service_unavailable");
    }
    assert_eq!(counter(&gate, "refused_budget"), 0, "what reached nobody was given back");
}

#[tokio::test]
async fn each_send_counts_at_the_upstream_that_it_goes_to() {
    let turns = [Act::Status(503), Act::Status(503), Act::Result(r#"{"content":[]}"#.to_owned())];
    let flaps = fake::http().tool_with(reading("flaps")).does(Act::Turns(turns.into()));
    let keys = format!(
        "{}retry = {{ attempts = 3, backoff = \"1ms\", backoff_max = \"1ms\", budget = 1.0, \
         budget_min = 100 }}\n",
        budget(4)
    );
    let gate = gateway().upstream_with("jobs", &flaps, &keys).start().await;
    let client = gate.modern();
    ran(&client.call("flaps").await);
    assert_eq!(flaps.seen("tools/call").len(), 3);
    assert_eq!(left(&client, "flaps").await, 1, "a retry is one more");

    let (old, new) = (fake::http().tool("log"), fake::http().tool("log"));
    let keys = format!("{}canary = {{ upstream = \"new\", weight = 100 }}\n", budget(1));
    let plan = gateway().upstream_with("old", &old, &keys).upstream_with("new", &new, &budget(4));
    let gate = plan.route("/mcp", "upstreams = [\"old\"]").start().await;
    eventually("both are listed", || {
        let report = gate.app().viewer().report();
        report.upstreams.iter().all(|upstream| upstream.tools != 0).then_some(())
    })
    .await;
    let client = gate.modern();
    assert_eq!(left(&client, "log").await, 4, "the successor's own budget");
    assert_eq!((old.seen("tools/call").len(), new.seen("tools/call").len()), (0, 4));
}
