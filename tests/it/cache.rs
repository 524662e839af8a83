//! Results that are kept: who is served which of them, and until when.

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
};

use crate::{
    client::{Client, Endpoint},
    eventually,
    fake::{self, Act, Fake},
    gate::{Gate, Plan, gateway},
    soon,
};

const RESULT: &str =
    r#"{"content":[{"type":"text","text":"late"}],"vendor":12345678901234567890123}"#;
const TTL: &str = "tools.get.cache = { ttl = \"10m\" }";

/// A tool that only reads.
fn reads(name: &str) -> Value {
    json!({
        "name": name,
        "inputSchema": { "type": "object" },
        "annotations": { "readOnlyHint": true },
    })
}

fn jobs() -> Fake {
    fake::http().tool_with(reads("get"))
}

fn from(gate: &Gate, last: u8) -> Endpoint {
    Endpoint { from: [127, 0, 0, last].into(), ..(**gate).clone() }
}

async fn call(client: &Client, tool: &str, arguments: Value) -> Value {
    client.ask("tools/call", json!({ "name": tool, "arguments": arguments })).await.result()
}

async fn read(client: &Client, uri: &str) -> Value {
    client.ask("resources/read", json!({ "uri": uri })).await.result()
}

/// A call that is under way.
fn begin(endpoint: &Endpoint) -> JoinHandle<Value> {
    let client = endpoint.modern();
    tokio::spawn(async move { client.call("get").await })
}

fn calls(fake: &Fake) -> usize {
    fake.seen("tools/call").len()
}

fn counter(gate: &Gate, name: &str) -> u64 {
    gate.app().viewer().report().counters[name]
}

async fn counts(gate: &Gate, name: &str, count: u64) {
    eventually(&format!("{name} is {count}"), || (counter(gate, name) == count).then_some(()))
        .await;
}

async fn arrive(fake: &Fake, count: usize) {
    eventually("the calls arrive", || (calls(fake) == count).then_some(())).await;
}

fn plan(fake: &Fake, keys: &str) -> Plan {
    gateway().upstream_with("jobs", fake, keys)
}

/// What operators get for a POST to the purge.
async fn purge(gate: &Gate, what: &str, headers: &str) -> (String, String) {
    let mut stream = TcpStream::connect(gate.app().admin_address().unwrap()).await.unwrap();
    let length = what.len();
    let text = format!(
        "POST /cache/purge HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Length: \
         {length}\r\nConnection: close\r\n\r\n{what}"
    );
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut reply = String::new();
    soon("the operators' door", stream.read_to_string(&mut reply)).await.unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

/// The table of a hiring platform: what is kept, for how long, and under which arguments.
const TABLE: &str = r#"
[upstreams.jobs.tools.getJobDetails]
cache = { ttl = "10m", keys = ["jobId"], public = true }
[upstreams.jobs.tools.getCandidateProfile]
cache = { ttl = "5m", keys = ["candidateId"], public = true }
[upstreams.jobs.tools.getCandidatePreferences]
cache = { ttl = "5m", keys = ["candidateId"], public = true }
[upstreams.jobs.tools.getCandidateAssessments]
cache = { ttl = "2m", keys = ["candidateId", "applicationId"], public = true }
"#;

#[tokio::test]
async fn a_table_of_what_is_kept_is_followed() {
    let table = [
        ("getJobDetails", &["jobId"][..]),
        ("getCandidateProfile", &["candidateId"]),
        ("getCandidatePreferences", &["candidateId"]),
        ("getCandidateAssessments", &["candidateId", "applicationId"]),
        ("getApplicationStatus", &[]),
        ("getApplicationTimeline", &[]),
        ("getInterviewFeedback", &[]),
    ];
    let jobs = table.iter().fold(fake::http(), |fake, (tool, _)| fake.tool_with(reads(tool)));
    let gate = gateway().upstream("jobs", &jobs).extra(TABLE).start().await;
    let clients = [gate.modern(), gate.legacy("2025-11-25").await, from(&gate, 2).modern()];
    for (tool, keys) in table {
        let before = calls(&jobs);
        for (at, client) in clients.iter().enumerate() {
            let mut arguments: Value =
                keys.iter().map(|key| ((*key).to_owned(), json!("A-1"))).collect();
            arguments["trace"] = json!(at);
            let result = call(client, tool, arguments).await;
            assert_eq!(result["content"][0]["text"], format!("{tool} ran"));
            assert_eq!(result.get("resultType").is_some(), client.is_modern(), "{result}");
        }
        let asked = if keys.is_empty() { clients.len() } else { 1 };
        assert_eq!(calls(&jobs) - before, asked, "{tool}");
        // Each of the arguments counts.
        for key in keys {
            let mut arguments: Value =
                keys.iter().map(|key| ((*key).to_owned(), json!("A-1"))).collect();
            arguments[*key] = json!("B-2");
            call(&clients[0], tool, arguments).await;
        }
        assert_eq!(calls(&jobs) - before, asked + keys.len(), "{tool}");
    }
    assert_eq!((counter(&gate, "cache_misses"), counter(&gate, "cache_hits")), (9, 8));
    assert_eq!(counter(&gate, "cache_entries_now"), 9);
    assert!(9 * 64 < counter(&gate, "cache_bytes_now"));
}

#[tokio::test]
async fn a_result_is_its_callers_in_every_era_and_as_its_server_wrote_it() {
    for (is_legacy, jobs) in [(false, fake::http()), (true, fake::legacy("2025-11-25"))] {
        let jobs = jobs.tool_with(reads("get")).answer(RESULT);
        let gate = plan(&jobs, TTL).start().await;
        for (last, asked) in [(1, 1), (2, 2), (1, 2)] {
            let endpoint = from(&gate, last);
            for client in [endpoint.modern(), endpoint.legacy("2025-11-25").await] {
                let reply = client.start("tools/call", json!({ "name": "get" })).await;
                let text = reply.text().await;
                assert!(text.contains("12345678901234567890123"), "untouched: {text}");
                assert_eq!(text.contains("resultType"), is_legacy && client.is_modern(), "{text}");
                assert_eq!(calls(&jobs), asked, "at {last}");
            }
        }
    }
}

#[tokio::test]
async fn a_hit_is_judged_and_counted_as_any_call() {
    let jobs = jobs();
    let keys =
        "tools.get = { cache = { ttl = \"10m\", public = true }, limits = [{ rate = \"1/h\" }] }";
    let route = "upstreams = [\"*\"]
policy = [\"policies/base.cedar\"]
limits = [{ rate = \"1/h\", burst = 2, per = [\"caller\", \"tool\"] }]
";
    let rules = "permit(principal, action, resource);
forbid(principal, action, resource) when { principal has address && principal.address == \
                 ip(\"127.0.0.3\") };";
    let gate = plan(&jobs, keys).route("/mcp", route).policy(rules).start().await;
    let client = gate.modern();
    for _ in 0..2 {
        assert!(client.call("get").await.get("isError").is_none());
    }
    assert_eq!(client.call("get").await["structuredContent"]["error"], "rate_limited");
    let unseen = from(&gate, 3).modern().ask("tools/call", json!({ "name": "get" })).await;
    assert_eq!(unseen.code(), -32602);
    assert!(from(&gate, 2).modern().call("get").await.get("isError").is_none());
    assert_eq!((calls(&jobs), counter(&gate, "cache_hits")), (1, 2));
}

#[tokio::test]
async fn nothing_that_went_wrong_or_asked_is_kept() {
    let elicit = json!({ "message": "sure?", "requestedSchema": { "type": "object" } });
    for jobs in [fake::http(), fake::legacy("2025-11-25")] {
        let jobs = jobs.tool_with(reads("get")).ask("elicitation/create", &elicit);
        let gate = plan(&jobs, TTL).start().await;
        let client = gate.client(fake::MODERN, json!({ "elicitation": { "form": {} } }));
        for _ in 0..2 {
            let asked = client.call("get").await;
            assert_eq!(asked["resultType"], "input_required", "{asked}");
            let key = asked["inputRequests"].as_object().unwrap().keys().next().unwrap();
            let params = json!({
                "name": "get",
                "arguments": {},
                "requestState": asked["requestState"],
                "inputResponses": { key: { "action": "accept" } },
            });
            let result = client.ask("tools/call", params).await.result();
            assert_eq!(result["content"][0]["text"], "asked", "{result}");
        }
        let seen = calls(&jobs);
        for act in [
            Act::Result(r#"{"content":[],"isError":true}"#.to_owned()),
            Act::Error(r#"{"code":-32603,"message":"no"}"#.to_owned()),
            Act::Garbage,
        ] {
            jobs.becomes("get", act);
            for _ in 0..2 {
                drop(client.ask("tools/call", json!({ "name": "get" })).await);
            }
        }
        assert_eq!(calls(&jobs) - seen, 6);
        assert_eq!((counter(&gate, "cache_hits"), counter(&gate, "cache_entries_now")), (0, 0));
    }
}

#[tokio::test]
async fn a_tool_that_may_write_is_kept_where_that_is_said() {
    let jobs = fake::http().tool("get").tool("poll");
    let keys = "tools.get.cache = { ttl = \"10m\" }\ntools.poll.cache = { ttl = \"10m\", \
                even_if_writing = true }";
    let gate = plan(&jobs, keys).start().await;
    let client = gate.modern();
    for (tool, asked) in [("get", 2), ("poll", 3)] {
        client.call(tool).await;
        client.call(tool).await;
        assert_eq!(calls(&jobs), asked, "{tool}");
    }
    assert_eq!(counter(&gate, "cache_refused_writing"), 2);
}

#[tokio::test]
async fn one_call_is_made_for_all_who_ask_at_once() {
    let jobs = jobs().does(Act::Open);
    let gate = plan(&jobs, TTL).start().await;
    let first = begin(&gate);
    arrive(&jobs, 1).await;
    let others: Vec<_> = (0..20).map(|_| begin(&gate)).collect();
    counts(&gate, "cache_joined", 20).await;
    let elsewhere = begin(&from(&gate, 2));
    arrive(&jobs, 2).await;
    jobs.finishes(RESULT);
    for waiting in others.into_iter().chain([first, elsewhere]) {
        let result = soon("an answer", waiting).await.unwrap();
        assert_eq!(result["content"][0]["text"], "late");
    }
    assert_eq!(calls(&jobs), 2, "one for each caller");
}

#[tokio::test]
async fn a_leader_that_leaves_costs_the_others_nothing() {
    let jobs = jobs().does(Act::Open);
    let gate = plan(&jobs, TTL).start().await;
    let leader = begin(&gate);
    arrive(&jobs, 1).await;
    let others: Vec<_> = (0..5).map(|_| begin(&gate)).collect();
    counts(&gate, "cache_joined", 5).await;
    leader.abort();
    arrive(&jobs, 2).await;
    jobs.finishes(RESULT);
    for waiting in others {
        let result = soon("an answer", waiting).await.unwrap();
        assert_eq!(result["content"][0]["text"], "late");
    }
    assert_eq!(calls(&jobs), 2, "one of them asked again, for all");
}

#[tokio::test]
async fn a_failure_is_tried_once_more_for_all_who_wait_and_is_not_kept() {
    let jobs = jobs().does(Act::Open);
    let gate = plan(&jobs, TTL).start().await;
    let leader = begin(&gate);
    arrive(&jobs, 1).await;
    let others: Vec<_> = (0..10).map(|_| begin(&gate)).collect();
    counts(&gate, "cache_joined", 10).await;
    jobs.breaks_off();
    arrive(&jobs, 2).await;
    jobs.breaks_off();
    for waiting in others.into_iter().chain([leader]) {
        let result = soon("an answer", waiting).await.unwrap();
        assert_eq!(result["structuredContent"]["error"], "service_unavailable", "{result}");
    }
    assert_eq!(calls(&jobs), 2, "no storm");
    jobs.becomes("get", Act::Result(RESULT.to_owned()));
    assert_eq!(gate.modern().call("get").await["content"][0]["text"], "late");
}

#[tokio::test]
async fn a_waiting_call_of_a_session_can_be_cancelled() {
    let jobs = jobs().does(Act::Open);
    let gate = plan(&jobs, TTL).start().await;
    let client = gate.legacy("2025-11-25").await;
    let leader = begin(&gate);
    arrive(&jobs, 1).await;
    let text = client.request("tools/call", json!({ "name": "get", "arguments": {} }));
    let id: Value = serde_json::from_str::<Value>(&text).unwrap()["id"].clone();
    let waits = client.post(&text);
    let cancels = async {
        counts(&gate, "cache_joined", 1).await;
        client.notify("notifications/cancelled", json!({ "requestId": id })).await
    };
    let (reply, _) = soon("the cancelled call", async { tokio::join!(waits, cancels) }).await;
    drop(reply);
    jobs.finishes(RESULT);
    assert_eq!(soon("the leader", leader).await.unwrap()["content"][0]["text"], "late");
}

#[tokio::test]
async fn a_stale_result_is_served_while_it_is_asked_for_anew() {
    let jobs = jobs().answer(r#"{"content":["old"]}"#);
    let gate = plan(&jobs, "tools.get.cache = { ttl = \"1ms\", stale = \"1h\" }").start().await;
    let client = gate.modern();
    client.call("get").await;
    jobs.becomes("get", Act::Open);
    let stale = async {
        while counter(&gate, "cache_stale") < 3 {
            assert_eq!(client.call("get").await["content"][0], "old");
        }
    };
    soon("stale results", stale).await;
    arrive(&jobs, 2).await;
    jobs.finishes(r#"{"content":["new"]}"#);
    let renewed = async { while client.call("get").await["content"][0] != "new" {} };
    soon("the new one", renewed).await;
}

#[tokio::test]
async fn what_is_old_is_served_where_the_upstream_fails() {
    let jobs = jobs().answer(r#"{"content":["old"]}"#);
    let gate = plan(&jobs, "tools.get.cache = { ttl = \"1ms\", on_error = \"1h\" }").start().await;
    let client = gate.modern();
    client.call("get").await;
    jobs.becomes("get", Act::Status(500));
    let served = async {
        while counter(&gate, "cache_stale_on_error") < 2 {
            assert_eq!(client.call("get").await["content"][0], "old");
        }
    };
    soon("the old one", served).await;
    jobs.becomes("get", Act::Result(r#"{"content":[],"isError":true}"#.to_owned()));
    let own = async { while client.call("get").await.get("isError").is_none() {} };
    soon("a tool's own error, which is no failure", own).await;
    assert!(2 < calls(&jobs));
}

#[tokio::test]
async fn a_writing_tool_makes_results_outdated_whatever_came_of_it() {
    let jobs = jobs().tool("put").tool_with(reads("other"));
    let keys = "tools.get.cache = { ttl = \"10m\" }\ntools.other.cache = { ttl = \
                \"10m\" }\ntools.put.invalidates = [\"get\"]";
    let gate = plan(&jobs, keys).start().await;
    let client = gate.modern();
    client.call("other").await;
    let asked = |tool: &str| {
        let is_it = |seen: &&fake::Seen| seen.message().params()["name"] == tool;
        jobs.seen("tools/call").iter().filter(is_it).count()
    };
    for (at, act) in [
        Act::Result("{\"content\":[]}".to_owned()),
        Act::ClosesMidway,
        Act::Error(r#"{"code":-32603,"message":"no"}"#.to_owned()),
    ]
    .into_iter()
    .enumerate()
    {
        jobs.becomes("put", act);
        for _ in 0..2 {
            client.call("get").await;
        }
        assert_eq!(asked("get"), at + 1);
        drop(client.ask("tools/call", json!({ "name": "put" })).await);
    }
    client.call("other").await;
    assert_eq!(asked("other"), 1);
    assert_eq!(counter(&gate, "cache_invalidated"), 3);
}

#[tokio::test]
async fn resources_are_kept_as_their_server_says_until_it_says_otherwise() {
    let hints = |scope: &str, text: &str| {
        format!(
            r#"{{"resultType":"complete","contents":[{{"uri":"mem://one","text":"{text}"}}],"ttlMs":600000,"cacheScope":"{scope}"}}"#
        )
    };
    let jobs = fake::http().resource("mem://one").answer(&hints("private", "first"));
    let gate = gateway().upstream("jobs", &jobs).start().await;
    let reads = || jobs.seen("resources/read").len();
    let (client, other) = (gate.modern(), from(&gate, 2).legacy("2025-11-25").await);
    let old = gate.legacy("2025-11-25").await;
    for client in [&client, &old, &client] {
        assert_eq!(read(client, "mem://one").await["contents"][0]["text"], "first");
    }
    let left = read(&client, "mem://one").await["ttlMs"].as_u64().unwrap();
    assert!(left <= 600_000);
    assert_eq!(reads(), 1);
    read(&other, "mem://one").await;
    assert_eq!(reads(), 2, "it is private");
    let wanted = json!({ "notifications": { "resourceSubscriptions": ["mem://one"] } });
    let mut stream = client.start("subscriptions/listen", wanted).await;
    stream.next().await.unwrap();
    jobs.becomes("mem://one", Act::Result(hints("public", "second")));
    jobs.tell("notifications/resources/updated", &json!({ "uri": "mem://one" }));
    stream.until("notifications/resources/updated").await;
    for client in [&client, &other, &old] {
        assert_eq!(read(client, "mem://one").await["contents"][0]["text"], "second");
    }
    assert_eq!(reads(), 3, "it is public, and the update was heard of");
    drop(client.ask("resources/read", json!({ "uri": "mem://two" })).await);
    drop(client.ask("resources/read", json!({ "uri": "mem://two" })).await);
    assert_eq!(reads(), 5, "what is not there is not kept");
}

#[tokio::test]
async fn another_definition_is_another_tool() {
    let jobs = jobs();
    let gate = plan(&jobs, TTL).start().await;
    let client = gate.modern();
    let mut told = client.listen().await;
    client.call("get").await;
    client.call("get").await;
    assert_eq!(calls(&jobs), 1);
    let mut changed = reads("get");
    changed["description"] = json!("another");
    jobs.relists(&[changed]);
    told.until("notifications/tools/list_changed").await;
    client.call("get").await;
    client.call("get").await;
    assert_eq!(calls(&jobs), 2);
}

#[tokio::test]
async fn operators_have_results_forgotten() {
    let admin = "admin = \"127.0.0.1:0\"";
    let jobs = jobs().tool_with(reads("other"));
    let keys = format!("{TTL}\ntools.other.cache = {{ ttl = \"10m\" }}");
    let gate = plan(&jobs, &keys).server(admin).start().await;
    let client = gate.modern();
    let json = "Content-Type: application/json\r\n";
    for (what, left, purged) in [
        (r#"{"upstream":"jobs","tool":"get"}"#, 1, 1),
        (r#"{"upstream":"elsewhere"}"#, 2, 0),
        (r#"{"tool":"other"}"#, 1, 1),
        (r#"{"resource":"mem://one"}"#, 2, 0),
        ("{}", 0, 2),
    ] {
        client.call("get").await;
        client.call("other").await;
        let (status, body) = purge(&gate, what, json).await;
        assert_eq!((&*status, body), ("HTTP/1.1 200 OK", format!("{{\"purged\":{purged}}}")));
        assert_eq!(counter(&gate, "cache_entries_now"), left, "{what}");
    }
    for (what, headers, status) in [
        ("{}", "", "415"),
        ("{}", "Content-Type: text/plain\r\n", "415"),
        ("{}", "Content-Type: application/json\r\nOrigin: https://evil.example\r\n", "403"),
        (r#"{"tol":"get"}"#, json, "400"),
        ("", json, "400"),
    ] {
        let (head, _) = purge(&gate, what, headers).await;
        assert!(head.contains(status), "{what} {headers}: {head}");
    }
}

#[tokio::test]
async fn an_edit_keeps_what_is_still_right_and_fails_no_call() {
    let (jobs, next) = (jobs(), jobs().answer(RESULT));
    let gate = plan(&jobs, TTL).start().await;
    let client = gate.modern();
    client.call("get").await;
    let busy: Vec<_> = (0..16)
        .map(|_| {
            let client = gate.modern();
            tokio::spawn(async move {
                for _ in 0..20 {
                    assert!(client.call("get").await.get("isError").is_none());
                }
            })
        })
        .collect();
    for at in 1..4 {
        let reloads = counter(&gate, "reloads");
        gate.edit(|toml| format!("[cache]\nbytes_max = \"{at}MiB\"\n{}", without_cache(&toml)));
        let applied = || (reloads < counter(&gate, "reloads")).then_some(());
        eventually("the edit is applied", applied).await;
    }
    for client in busy {
        client.await.unwrap();
    }
    assert_eq!(calls(&jobs), 1, "nothing was lost");
    gate.edit(|toml| toml.replace(&jobs.section(), &next.section()));
    let moved = async { while client.call("get").await["content"][0]["text"] != "late" {} };
    soon("another server's own result", moved).await;
    assert_eq!((calls(&jobs), calls(&next)), (1, 1));
}

/// The file without its first section of two lines, if that is the cache's.
fn without_cache(toml: &str) -> String {
    match toml.strip_prefix("[cache]\n") {
        Some(rest) => rest.split_once('\n').unwrap().1.to_owned(),
        None => toml.to_owned(),
    }
}
