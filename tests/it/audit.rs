//! What is recorded of calls: one record each, however it ends.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    client::Client,
    eventually,
    fake::{self, Act, Fake},
    gate::{Gate, gateway},
};

pub const AUDIT: &str = "[audit]\n";

/// All records so far.
pub fn records(gate: &Gate) -> Vec<Value> {
    let path = gate.folder.path().join("state/audit.db");
    let file = rusqlite::Connection::open(path).unwrap();
    let mut all = file.prepare("SELECT record FROM records ORDER BY seq").unwrap();
    let rows = all.query_map([], |row| row.get::<_, String>(0)).unwrap();
    rows.map(|record| serde_json::from_str(&record.unwrap()).unwrap()).collect()
}

/// The records once there are so many; there must be no more.
pub async fn recorded(gate: &Gate, count: usize) -> Vec<Value> {
    let all = || Some(records(gate)).filter(|records| count <= records.len());
    let all = eventually(&format!("{count} records"), all).await;
    assert_eq!(all.len(), count, "{all:?}");
    all
}

fn outcomes(records: &[Value]) -> Vec<&str> {
    records.iter().map(|record| record["outcome"].as_str().unwrap()).collect()
}

fn counter(gate: &Gate, name: &str) -> u64 {
    gate.app().viewer().report().counters[name]
}

async fn both(gate: &Gate) -> [Client; 2] {
    [gate.modern(), gate.legacy("2025-11-25").await]
}

#[tokio::test]
async fn each_call_has_one_record_however_it_ends() {
    let schema = json!({ "type": "object", "properties": { "days": { "type": "integer" } } });
    let docs = fake::dual()
        .tool_with(json!({ "name": "well", "inputSchema": schema }))
        .tool("secret")
        .tool("ill")
        .answer(r#"{"content":[],"isError":true}"#)
        .tool("odd")
        .error(r#"{"code":-32050,"message":"no such job"}"#)
        .tool("slow")
        .hang()
        .tool("dear")
        .prompt("p")
        .resource("mem://one");
    let keys = "timeout.idle = \"200ms\"\ntools.dear.limits = [{ rate = \"1/h\" }]";
    let policy = "permit(principal, action, resource);
        forbid(principal, action, resource) when { resource.name == \"secret\" };";
    for at in 0..2 {
        let plan = gateway().upstream_with("docs", &docs, keys).policy(policy);
        let gate = plan.extra(AUDIT).start().await;
        let [modern, legacy] = both(&gate).await;
        let client = [modern, legacy].into_iter().nth(at).unwrap();
        client.tools().await;
        for (name, arguments) in [
            ("well", json!({ "days": 3 })),
            ("well", json!({ "days": "three" })),
            ("ill", json!({})),
            ("odd", json!({})),
            ("secret", json!({})),
            ("none", json!({})),
            ("dear", json!({})),
            ("dear", json!({})),
            ("slow", json!({})),
        ] {
            client.ask("tools/call", json!({ "name": name, "arguments": arguments })).await;
        }
        client.ask("prompts/get", json!({ "name": "p" })).await;
        client.ask("resources/read", json!({ "uri": "mem://one" })).await;
        let records = recorded(&gate, 11).await;
        let mut want =
            ["ok", "invalid_arguments", "tool_error", "error", "not_found", "not_found"].to_vec();
        want.extend(["ok", "rate_limited", "service_timeout", "ok", "ok"]);
        assert_eq!(outcomes(&records), want);
        let first = &records[0];
        assert_eq!(
            [&first["method"], &first["name"], &first["upstream"], &first["target"]],
            ["tools/call", "well", "docs", "well"]
        );
        assert_eq!(first["route"], "/mcp");
        assert_eq!(first["protocol"], ["2026-07-28", "2025-11-25"][at]);
        assert!(first["caller"].as_str().unwrap().contains("127.0.0.1"), "{first}");
        assert_eq!(records[5].get("upstream"), None, "nobody has it");
        assert!(records.iter().all(|record| record.get("arguments").is_none()));
    }
}

#[tokio::test]
async fn who_leaves_or_asks_first_is_recorded_so_and_a_hit_as_any_other() {
    let form = json!({ "message": "sure?",
        "requestedSchema": { "type": "object", "properties": {} } });
    let docs = fake::http().tool("slow").hang().tool("kept").tool("ask");
    let docs = docs.ask("elicitation/create", &form);
    let keys = "tools.kept.cache = { ttl = \"1h\", even_if_writing = true }";
    let gate = gateway().upstream_with("docs", &docs, keys).extra(AUDIT).start().await;
    let client = gate.client(fake::MODERN, json!({ "elicitation": { "form": {} } }));
    {
        let call = client.ask("tools/call", json!({ "name": "slow" }));
        tokio::select! {
            reply = call => panic!("it hangs: {reply:?}"),
            _ = docs.receives("tools/call") => (),
        }
    }
    recorded(&gate, 1).await;
    client.call("kept").await;
    client.call("kept").await;
    client.call("ask").await;
    let records = recorded(&gate, 4).await;
    assert_eq!(outcomes(&records), ["cancelled", "ok", "ok", "input_required"]);
    assert_eq!(docs.seen("tools/call").len(), 3, "one of two was a hit");
}

#[tokio::test]
async fn a_retry_that_goes_on_with_a_parked_call_is_recorded_whole() {
    let form = json!({ "message": "sure?",
        "requestedSchema": { "type": "object", "properties": {} } });
    let docs = fake::legacy("2025-06-18").tool("ask").ask("elicitation/create", &form);
    let audit = "[audit]\narguments = \"whole\"\n";
    let gate = gateway().upstream("docs", &docs).extra(audit).start().await;
    let client = gate.client(fake::MODERN, json!({ "elicitation": { "form": {} } }));
    let asked = client.call("ask").await;
    let key = asked["inputRequests"].as_object().unwrap().keys().next().unwrap().clone();
    let retry = json!({ "name": "ask", "arguments": {}, "requestState": asked["requestState"],
        "inputResponses": { key: { "action": "accept", "content": {} } } });
    client.ask("tools/call", retry).await.result();
    let records = recorded(&gate, 2).await;
    assert_eq!(outcomes(&records), ["input_required", "ok"]);
    assert_eq!([&records[1]["upstream"], &records[1]["target"]], ["docs", "ask"]);
    assert_eq!(records[1]["arguments"], json!({}));
    assert_eq!(records[1]["parent"], records[0]["id"], "it says what it goes on with");
    assert!(records[0].get("parent").is_none() && records[0]["id"] != records[1]["id"]);
}

#[tokio::test]
async fn arguments_are_recorded_as_it_is_said() {
    for (arguments, whole) in [("whole", true), ("hash", false), ("none", false)] {
        let docs = fake::dual().tool("well");
        let keys = "guard.detect = [{ find = [\"personal:email\"], in = [\"arguments\"], then = \
                    \"redact\" }]";
        let audit = format!("[audit]\narguments = \"{arguments}\"\n");
        let gate = gateway().upstream_with("docs", &docs, keys).extra(&audit).start().await;
        let said = json!({ "a": 1, "to": "ann@example.com" });
        gate.modern().ask("tools/call", json!({ "name": "well", "arguments": said })).await;
        let record = recorded(&gate, 1).await.remove(0);
        let want = json!({ "a": 1, "to": "[redacted: personal:email]" });
        assert_eq!(record.get("arguments").cloned(), whole.then_some(want), "{record}");
        assert_eq!(record.get("arguments_hash").is_some(), arguments == "hash", "{record}");
    }
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A `traceparent` of this trace.
fn traceparent(trace: &str) -> String {
    format!("00-{trace}-00f067aa0ba902b7-01")
}

#[tokio::test]
async fn a_record_says_who_why_and_what_it_took() {
    let docs = fake::dual().tool("well").tool("mail").tool("secret");
    let keys = "limits = [{ rate = \"100/s\" }]\n\
                tools.mail.cost = 7\n\
                guard.detect = [{ find = [\"personal:email\"], in = [\"arguments\"], then = \
                \"redact\" }]";
    let policy = "@id(\"all\") permit(principal, action, resource);
        @id(\"no secrets\") forbid(principal, action == Action::\"call\", resource)
            when { resource.name == \"secret\" };";
    for at in 0..2 {
        let plan = gateway().upstream_with("docs", &docs, keys).policy(policy);
        let gate = plan.extra(AUDIT).start().await;
        let client = both(&gate).await.into_iter().nth(at).unwrap();
        client.call("well").await;
        let mail = json!({ "name": "mail", "arguments": { "to": "ann@example.com" } });
        client.ask("tools/call", mail).await;
        client.call("secret").await;
        let records = recorded(&gate, 3).await;
        for record in &records {
            assert_eq!((&record["v"], &record["peer"]), (&json!(3), &json!("127.0.0.1")));
            assert_eq!(record["id"].as_str().unwrap().len(), 16);
            assert!(20 < record["request_bytes"].as_u64().unwrap(), "{record}");
        }
        let [well, mail, secret] = &records[..] else { panic!("{records:?}") };
        for (record, policy) in [(well, "`all`"), (mail, "`all`"), (secret, "`no secrets`")] {
            let policies = record["policies"].as_array().unwrap();
            assert!(policies.len() == 1 && policies[0].as_str().unwrap().contains(policy));
        }
        assert_eq!((&well["attempts"], &well["upstream_cost"]), (&json!(1), &json!(1)));
        assert_eq!((&mail["attempts"], &mail["upstream_cost"]), (&json!(1), &json!(7)));
        assert_eq!(mail["guards"], json!(["personal:email redact arguments"]));
        let took = |key| well[key].as_u64().unwrap();
        assert!(took("upstream_us") <= took("duration_us"), "{well}");
        // What was not done has no figures.
        for key in ["attempts", "upstream_cost", "upstream_us", "route_cost", "guards", "cache"] {
            assert_eq!(secret.get(key), None, "{secret}");
        }
        for key in ["guards", "cache", "parent", "trace", "successor", "replica", "route_cost"] {
            assert_eq!(well.get(key), None, "{well}");
        }
    }
}

#[tokio::test]
async fn a_record_names_the_trace_that_its_call_is_part_of() {
    let docs = fake::dual().tool("well");
    let gate = gateway().upstream("docs", &docs).extra(AUDIT).start().await;
    let [other, own] = ["1".repeat(32), TRACE.to_owned()];
    let mut wants = Vec::new();
    for client in both(&gate).await {
        for (header, said, want) in [
            (None, None, None),
            (Some(traceparent(&own)), None, Some(&own)),
            (None, Some(json!(traceparent(&own))), Some(&own)),
            // The message is what the call is.
            (Some(traceparent(&other)), Some(json!(traceparent(&own))), Some(&own)),
            (Some(traceparent(&own)), Some(json!("00-x")), Some(&own)),
            (Some(traceparent(&own)), Some(json!(7)), Some(&own)),
            (Some(traceparent(&own)), Some(json!({ "a": [1] })), Some(&own)),
            (Some("00-zz".to_owned()), None, None),
            (Some(traceparent(&"0".repeat(32))), None, None),
            (None, Some(json!(null)), None),
        ] {
            let mut params = json!({ "name": "well" });
            if let Some(said) = said {
                params["_meta"] = json!({ "traceparent": said });
            }
            let header = header.iter().map(|value| ("traceparent", value.as_str()));
            let text = client.request("tools/call", params);
            client.post_with(&text, &header.collect::<Vec<_>>()).await.message().await.result();
            wants.push(want.map(|trace| json!(trace)));
        }
    }
    let records = recorded(&gate, wants.len()).await;
    let traces: Vec<_> = records.iter().map(|record| record.get("trace").cloned()).collect();
    assert_eq!(traces, wants);
}

#[tokio::test]
async fn a_record_says_how_often_and_where_it_was_sent_and_what_memory_had() {
    let busy = Act::Turns(vec![Act::Status(503), Act::Result(r#"{"content":[]}"#.to_owned())]);
    let again = json!({ "name": "again", "inputSchema": { "type": "object" },
        "annotations": { "readOnlyHint": true } });
    let docs = fake::http().tool("kept").tool_with(again).does(busy);
    let next = fake::http().tool("kept").tool("turned");
    let keys = "tools.kept.cache = { ttl = \"1h\", even_if_writing = true }\n\
                retry = { attempts = 3, backoff = \"1ms\", backoff_max = \"1ms\" }";
    let stable = fake::http().tool("turned");
    let one = fake::http().tool("any");
    let plan = gateway().upstream_with("docs", &docs, keys).upstream("next", &next);
    let canary = "canary = { upstream = \"next\", weight = 100 }";
    let plan = plan.upstream_with("stable", &stable, canary);
    let plan = plan.section("jobs", &Fake::replicas(&[&one, &fake::http().tool("any")]));
    let plan = plan.route("/mcp", "upstreams = [\"docs\", \"stable\", \"jobs\"]");
    let gate = plan.extra(AUDIT).start().await;
    eventually("all are listed", || {
        let report = gate.app().viewer().report();
        report.upstreams.iter().all(|upstream| upstream.tools != 0).then_some(())
    })
    .await;
    let client = gate.modern();
    for tool in ["kept", "kept", "again", "turned", "any"] {
        let result = client.call(tool).await;
        assert_ne!(result["isError"], true, "{result}");
    }
    let records = recorded(&gate, 5).await;
    let of = |key: &str| records.iter().map(|record| record.get(key).cloned()).collect::<Vec<_>>();
    let (one, two) = (Some(json!(1)), Some(json!(2)));
    assert_eq!(of("cache"), [Some(json!("miss")), Some(json!("hit")), None, None, None]);
    assert_eq!(of("attempts"), [one.clone(), None, two, one.clone(), one]);
    let successors = [None, None, None, Some(json!("next")), None];
    assert_eq!(
        (&of("successor")[..], &records[3]["upstream"]),
        (&successors[..], &json!("stable"))
    );
    let replica = records[4]["replica"].as_str().unwrap();
    assert!(replica.starts_with("http://127.0.0.1:"), "{replica}");
}

#[tokio::test]
async fn a_look_at_a_task_names_the_call_that_made_it() {
    let docs = fake::legacy("2025-11-25").tool("slow").does(Act::Open);
    let plan = gateway().server("limits.task_after = \"0s\"").upstream("docs", &docs);
    let gate = plan.extra(AUDIT).start().await;
    let tasks = json!({ "extensions": { "io.modelcontextprotocol/tasks": {} } });
    let client = gate.client(fake::MODERN, tasks);
    let task = client.call("slow").await["taskId"].clone();
    client.ask("tasks/get", json!({ "taskId": task })).await.result();
    docs.finishes(r#"{"content":[]}"#);
    let records = recorded(&gate, 2).await;
    let [look, call] = &records[..] else { panic!("{records:?}") };
    assert_eq!((&look["method"], &call["method"]), (&json!("tasks/get"), &json!("tools/call")));
    assert_eq!((&look["parent"], &call["outcome"]), (&call["id"], &json!("ok")));
}

#[tokio::test]
async fn a_stop_writes_all_and_a_restart_goes_on() {
    let docs = fake::dual().tool("well").tool("slow").hang();
    let mut gate = gateway().upstream("docs", &docs).extra(AUDIT).start().await;
    let client = gate.modern();
    for _ in 0..100 {
        client.call("well").await;
    }
    let slow =
        tokio::spawn(async move { client.start("tools/call", json!({ "name": "slow" })).await });
    docs.receives("tools/call").await;
    let seen = || {
        docs.seen("tools/call").last().filter(|seen| seen.header("mcp-name") == "slow").map(drop)
    };
    eventually("the slow one is under way", seen).await;
    gate.stops().await;
    let ended = records(&gate);
    assert_eq!(ended.len(), 101, "none is lost");
    assert_eq!(outcomes(&ended)[100], "service_unavailable", "`drain` has ended it");
    slow.abort();
    gate.restarts().await;
    gate.modern().call("well").await;
    let all = recorded(&gate, 102).await;
    assert_eq!(all[101]["seq"], 102);
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_done_unless_it_is_said() {
    for (when_full, refuses) in [("refuse", true), ("drop", false)] {
        let docs = fake::dual().tool("well").prompt("p");
        let audit = format!("[audit]\nbytes_max = \"64KiB\"\nwhen_full = \"{when_full}\"\n");
        let gate = gateway().upstream("docs", &docs).extra(&audit).start().await;
        let answered = AtomicU64::new(0);
        for client in both(&gate).await {
            let full = async {
                while counter(&gate, "audit_failed") == 0 {
                    let written = counter(&gate, "audit_written");
                    if client.call("well").await["isError"] != true {
                        answered.fetch_add(1, Ordering::Relaxed);
                    } else if written == answered.load(Ordering::Relaxed) {
                        // Nothing waits that would make room.
                        break;
                    }
                }
            };
            tokio::time::timeout(Duration::from_secs(30), full)
                .await
                .expect("64 KiB are soon full");
            let before = docs.seen("tools/call").len();
            let result = client.call("well").await;
            assert_eq!(docs.seen("tools/call").len() == before, refuses);
            if refuses {
                let said = &result["structuredContent"];
                assert_eq!(
                    (&said["error"], &said["retriable"]),
                    (&json!("service_unavailable"), &json!(true))
                );
                let refused = client.ask("prompts/get", json!({ "name": "p" })).await;
                assert_eq!(refused.code(), -32603);
                assert!(!client.tools().await.is_empty(), "lists go on");
            }
        }
        assert_eq!(0 < counter(&gate, "audit_refused"), refuses);
        assert_eq!(0 < counter(&gate, "audit_failed"), !refuses, "what is let in can be written");
    }
}

#[tokio::test]
async fn no_answer_is_given_that_cannot_be_recorded() {
    for at in 0..2 {
        let docs = fake::dual().tool("well").tool("open").does(Act::Open);
        let gate = gateway().upstream("docs", &docs).extra(AUDIT).start().await;
        let client = both(&gate).await.into_iter().nth(at).unwrap();
        let calls = (0..4).map(|_| client.call("open"));
        let calls = futures_util::future::join_all(calls);
        let file = rusqlite::Connection::open(gate.folder.path().join("state/audit.db")).unwrap();
        let breaking = async {
            eventually("all are under way", || (docs.seen("tools/call").len() == 4).then_some(()))
                .await;
            let broken = "CREATE TRIGGER broken BEFORE INSERT ON records
                BEGIN SELECT RAISE(ABORT, 'broken'); END";
            file.execute_batch(broken).unwrap();
            // Nobody knows yet.
            assert_ne!(gate.modern().call("well").await["isError"], true);
            let failed = || (2 <= counter(&gate, "audit_failed")).then_some(());
            eventually("it is known", failed).await;
            docs.finishes(r#"{"content":[]}"#);
        };
        let (answers, ()) = tokio::join!(calls, breaking);
        for answer in answers {
            let said = &answer["structuredContent"];
            assert_eq!(
                (&answer["isError"], &said["error"], &said["retriable"]),
                (&json!(true), &json!("service_unavailable"), &json!(false)),
                "{answer}"
            );
            assert!(said["message"].as_str().unwrap().contains("may have been done"), "{said}");
        }
        let sent = docs.seen("tools/call").len();
        assert_eq!(client.call("well").await["isError"], true);
        assert_eq!(docs.seen("tools/call").len(), sent, "later calls are not sent");
        file.execute_batch("DROP TRIGGER broken").unwrap();
        let records = recorded(&gate, 5).await;
        let mut outcomes = outcomes(&records);
        outcomes.sort_unstable();
        let lost = ["service_unavailable"; 4];
        assert_eq!(outcomes, [&["ok"], &lost[..]].concat());
        assert_eq!(counter(&gate, "audit_dropped"), 0);
    }
}

#[tokio::test]
async fn an_edit_of_the_section_waits_for_a_restart() {
    let docs = fake::dual().tool("well");
    let gate = gateway().upstream("docs", &docs).extra(AUDIT).start().await;
    gate.edit(|toml| toml.replace(AUDIT, "[audit]\narguments = \"whole\"\n"));
    eventually("it is said", || {
        let report = gate.app().viewer().report();
        serde_json::to_string(&report).unwrap().contains("audit").then_some(())
    })
    .await;
    let act = Act::Result(r#"{"content":[]}"#.to_owned());
    docs.becomes("well", act);
    gate.modern().call("well").await;
    assert!(recorded(&gate, 1).await[0].get("arguments").is_none());
}

/// Without a call that would write to it.
#[tokio::test]
async fn a_file_that_is_removed_is_made_anew_within_seconds() {
    let docs = fake::dual().tool("well");
    let gate = gateway().upstream("docs", &docs).extra(AUDIT).start().await;
    gate.modern().call("well").await;
    recorded(&gate, 1).await;
    let path = gate.folder.path().join("state/audit.db");
    for (round, lost) in [(1, "audit.db.1"), (2, "audit.db.2"), (3, "audit.db.3")] {
        std::fs::rename(&path, path.with_file_name(lost)).unwrap();
        eventually("the next file", || (counter(&gate, "audit_reopened") == round).then_some(()))
            .await;
        gate.modern().call("well").await;
        let all = recorded(&gate, 1).await;
        assert_eq!(all[0]["seq"], round + 1, "the chain goes on");
    }
}
