//! A client on a pair of pipes: both eras on one channel, and what only a channel has.

use serde_json::{Value, json};

use crate::{
    eventually, fake,
    gate::gateway,
    pipe::{Pipe, modern},
};

const CANCELLED: &str = "notifications/cancelled";
const ELICIT: &str = "elicitation/create";

fn call(tool: &str) -> Value {
    json!({ "name": tool, "arguments": {} })
}

fn names(result: &Value) -> Vec<&str> {
    let tools = result["tools"].as_array().unwrap();
    tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_client_of_each_era_lists_and_calls_at_servers_of_each() {
    for git in [fake::http(), fake::legacy("2025-06-18"), fake::stdio("2025-03-26")] {
        let gate = gateway().upstream("git", &git.tool("log")).start().await;
        for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
            let mut pipe = gate.pipe();
            assert_eq!(pipe.open(version, json!({})).await["protocolVersion"], version);
            pipe.ask(json!(1), "tools/list", json!({})).await;
            assert_eq!(names(&pipe.answer("1").await.result()), ["log"]);
            pipe.ask(json!(2), "tools/call", call("log")).await;
            assert_eq!(pipe.answer("2").await.result()["content"][0]["text"], "log ran");
            assert!(pipe.close().await.is_empty());
        }
        let mut pipe = gate.pipe();
        pipe.ask_modern(json!(1), "server/discover", json!({})).await;
        let found = pipe.answer("1").await.result();
        assert!(found["supportedVersions"].as_array().unwrap().contains(&json!(fake::MODERN)));
        pipe.ask_modern(json!("x"), "tools/call", call("log")).await;
        let result = pipe.answer("\"x\"").await.result();
        assert_eq!(result["content"][0]["text"], "log ran");
        assert_eq!(result["resultType"], "complete");
    }
}

#[tokio::test]
async fn both_eras_come_on_one_channel() {
    let gate = gateway().upstream("git", &fake::dual().tool("log")).start().await;
    let mut pipe = gate.pipe();
    pipe.ask_modern(json!(1), "server/discover", json!({})).await;
    pipe.answer("1").await.result();
    pipe.open("2025-06-18", json!({})).await;
    pipe.ask(json!(2), "tools/call", call("log")).await;
    assert!(pipe.answer("2").await.result().get("resultType").is_none());
    pipe.ask_modern(json!(3), "tools/call", call("log")).await;
    assert_eq!(pipe.answer("3").await.result()["resultType"], "complete");
}

#[tokio::test]
async fn a_script_may_say_everything_at_once() {
    let gate = gateway().upstream("git", &fake::http().tool("log")).start().await;
    let mut pipe = gate.pipe();
    let client = json!({ "protocolVersion": "2025-06-18", "capabilities": {},
        "clientInfo": { "name": "sh", "version": "1" } });
    pipe.ask(json!(1), "initialize", client).await;
    pipe.notify("notifications/initialized", json!({})).await;
    pipe.ask(json!(2), "tools/call", call("log")).await;
    let rest = pipe.close().await;
    assert_eq!(rest[0].result()["protocolVersion"], "2025-06-18");
    assert_eq!(rest[1].result()["content"][0]["text"], "log ran");
    assert_eq!(rest.len(), 2);
}

#[tokio::test]
async fn what_is_wrong_with_a_message_is_said_and_the_next_is_taken() {
    let plan = gateway().upstream("git", &fake::http().tool("log"));
    let gate = plan.server("limits.body_bytes_max = \"1KiB\"\nlimits.depth_max = 8").start().await;
    let mut pipe = gate.pipe();
    let deep = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"a","params":{}1{}}}"#,
        r#"{"a":"#.repeat(9),
        "}".repeat(9)
    );
    let long = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{}"}}"#, "a".repeat(2_000));
    for (text, id, code) in [
        ("{", "null", -32700),
        ("\u{1}", "null", -32700),
        ("7", "null", -32600),
        ("{}", "null", -32600),
        (r#"{"jsonrpc":"2.0","id":[1],"method":"ping"}"#, "null", -32600),
        ("[]", "null", -32600),
        (r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#, "null", -32600),
        // Its id can be read.
        (&deep, "1", -32600),
        (&long, "null", -32600),
    ] {
        pipe.say(text).await;
        let answer = pipe.next().await;
        assert_eq!((answer.id.as_deref(), answer.code()), (Some(id), code), "{text}");
    }
    pipe.say("").await;
    pipe.ask(json!(2), "ping", json!({})).await;
    assert_eq!(pipe.answer("2").await.result(), json!({}), "before `initialize`, too");
    pipe.ask(json!(3), "tools/list", json!({})).await;
    assert_eq!(pipe.answer("3").await.code(), -32600, "nothing was agreed");
}

#[tokio::test]
async fn a_modern_request_is_checked_but_for_headers() {
    let gate = gateway().upstream("git", &fake::http().tool("log")).start().await;
    let mut pipe = gate.pipe();
    let version = "io.modelcontextprotocol/protocolVersion";
    let good = modern(call("log"), json!({}));
    let mut next = good.clone();
    next["_meta"][version] = json!("2027-01-01");
    for (method, params, code) in [
        ("tools/call", json!({ "name": "log", "_meta": { version: fake::MODERN } }), -32602),
        ("tools/call", next, -32022),
        ("initialize", good.clone(), -32601),
        ("ping", good.clone(), -32601),
        ("no/such", good.clone(), -32601),
        ("tools/call", modern(json!({ "arguments": {} }), json!({})), -32602),
        ("tools/call", modern(call("none"), json!({})), -32602),
    ] {
        pipe.ask(json!(1), method, params.clone()).await;
        let error = pipe.answer("1").await.error();
        assert_eq!(error["code"], code, "{method} {params}");
        if code == -32022 {
            assert_eq!(error["data"]["requested"], "2027-01-01");
            assert!(error["data"]["supported"].as_array().unwrap().contains(&json!(fake::MODERN)));
        }
    }
    pipe.ask(json!(1), "tools/call", good).await;
    pipe.answer("1").await.result();
}

#[tokio::test]
async fn a_cancelled_call_ends_upstream_and_is_not_answered() {
    for era in ["2025-06-18", fake::MODERN] {
        for git in [fake::legacy("2025-06-18"), fake::stdio("2025-06-18")] {
            let git = git.tool("slow").hang().tool("log");
            let gate = gateway().upstream("git", &git).start().await;
            let mut pipe = gate.pipe();
            let params = if era == fake::MODERN {
                modern(call("slow"), json!({}))
            } else {
                pipe.open(era, json!({})).await;
                call("slow")
            };
            pipe.ask(json!("s"), "tools/call", params).await;
            git.receives("tools/call").await;
            pipe.notify(CANCELLED, json!({ "requestId": "s", "reason": "enough" })).await;
            let cancelled = git.receives(CANCELLED).await.message().params();
            let asked = git.seen("tools/call")[0].message();
            assert_eq!(cancelled["requestId"].to_string(), asked.id.unwrap(), "{era}");
            pipe.ask_modern(json!("l"), "tools/call", call("log")).await;
            let next = pipe.next().await;
            assert_eq!(next.id.as_deref(), Some("\"l\""), "{era}: the cancelled one has no answer");
        }
    }
}

#[tokio::test]
async fn an_id_is_in_use_until_its_call_ends() {
    let git = fake::http().tool("slow").hang().tool("log");
    let gate = gateway().upstream("git", &git).start().await;
    let mut pipe = gate.pipe();
    pipe.open("2025-06-18", json!({})).await;
    pipe.ask(json!(1), "tools/call", call("slow")).await;
    git.receives("tools/call").await;
    pipe.ask(json!(1), "tools/call", call("log")).await;
    assert_eq!(pipe.answer("1").await.code(), -32600);
    pipe.ask_modern(json!(1), "tools/call", call("log")).await;
    assert_eq!(pipe.answer("1").await.code(), -32600, "whatever the era");
    pipe.ask(json!("1"), "tools/call", call("log")).await;
    pipe.answer("\"1\"").await.result();
    pipe.notify(CANCELLED, json!({ "requestId": 1 })).await;
    eventually("the id is free", || git.seen("tools/call")[0].abandoned().then_some(())).await;
    pipe.ask(json!(1), "tools/call", call("log")).await;
    pipe.answer("1").await.result();
}

#[tokio::test]
async fn too_many_calls_at_once_are_refused_and_the_rest_goes_on() {
    let git = fake::http().tool("slow").hang().tool("log");
    let plan = gateway().upstream("git", &git).server("limits.channel_calls_max = 2");
    let gate = plan.start().await;
    let mut pipe = gate.pipe();
    for id in 1..=2 {
        pipe.ask_modern(json!(id), "tools/call", call("slow")).await;
    }
    pipe.ask_modern(json!(3), "tools/call", call("log")).await;
    let error = pipe.answer("3").await.error();
    assert!(error["message"].as_str().unwrap().contains("channel_calls_max"), "{error}");
    assert_eq!(gate.app().viewer().report().counters["refused_calls"], 1);
    eventually("two calls hang", || (git.seen("tools/call").len() == 2).then_some(())).await;
    pipe.notify(CANCELLED, json!({ "requestId": 1 })).await;
    let left = || git.seen("tools/call").iter().any(|seen| seen.abandoned()).then_some(());
    eventually("one is over", left).await;
    pipe.ask_modern(json!(4), "tools/call", call("log")).await;
    pipe.answer("4").await.result();
}

#[tokio::test]
async fn answers_that_a_client_does_not_read_wait_within_bytes() {
    let text = "x".repeat(40 << 10);
    let big = json!({ "content": [{ "type": "text", "text": text }] }).to_string();
    let git = fake::http().tool("big").answer(&big).tool("log");
    let plan = gateway().upstream("git", &git).server("limits.channel_bytes_max = \"64KiB\"");
    let gate = plan.start().await;
    let dropped = || gate.app().viewer().report().counters["refused_channel_bytes"];
    for modern in [false, true] {
        let before = dropped();
        let mut pipe = gate.narrow_pipe(8 << 10);
        if !modern {
            pipe.open("2025-06-18", json!({})).await;
        }
        for id in 1..=6 {
            if modern {
                pipe.ask_modern(json!(id), "tools/call", call("big")).await;
            } else {
                pipe.ask(json!(id), "tools/call", call("big")).await;
            }
        }
        // One is being written, and one waits.
        eventually("most are dropped", || (4 <= dropped() - before).then_some(())).await;
        let mut told = 0;
        for _ in 1..=6 {
            let answer = pipe.next().await;
            if answer.result.is_none() {
                let error = answer.error();
                assert!(
                    error["message"].as_str().unwrap().contains("channel_bytes_max"),
                    "{error}"
                );
                told += 1;
            } else {
                assert_eq!(answer.result()["content"][0]["text"].as_str(), Some(&*text));
            }
        }
        assert_eq!(told, dropped() - before);
        assert!(told < 6);
        pipe.ask_modern(json!(7), "tools/call", call("big")).await;
        pipe.answer("7").await.result();
    }
}

#[tokio::test]
async fn progress_and_questions_come_before_the_answer() {
    let elicit = json!({ "message": "sure?", "requestedSchema": { "type": "object" } });
    for git in [fake::legacy("2025-06-18"), fake::stdio("2025-06-18")] {
        let progress = json!({ "jsonrpc": "2.0", "method": "notifications/progress",
            "params": { "progressToken": "TOKEN", "progress": 1 } });
        let git = git.tool("ask").ask(ELICIT, &elicit).tool("long").stream(&[progress]);
        let gate = gateway().upstream("git", &git).start().await;
        let mut pipe = gate.pipe();
        pipe.open("2025-06-18", json!({ "elicitation": {} })).await;
        pipe.ask(json!(1), "tools/call", call("ask")).await;
        let asked = pipe.until(ELICIT).await;
        assert_eq!(asked.params(), elicit);
        let answer = format!(
            r#"{{"jsonrpc":"2.0","id":{},"result":{{"action":"accept"}}}}"#,
            asked.id.unwrap()
        );
        pipe.say(&answer).await;
        pipe.answer("1").await.result();
        let answered = || git.all().into_iter().find(|seen| seen.message().result.is_some());
        let answered = eventually("the server is answered", answered).await;
        assert_eq!(answered.message().result(), json!({ "action": "accept" }));

        let mut params = call("long");
        params["_meta"] = json!({ "progressToken": "mine" });
        pipe.ask(json!(2), "tools/call", params).await;
        let told = pipe.next().await;
        assert_eq!(told.method.as_deref(), Some("notifications/progress"));
        assert_eq!(told.params()["progressToken"], "mine");
        pipe.answer("2").await.result();
    }
}

#[tokio::test]
async fn a_batch_is_answered_with_an_array() {
    let git = fake::legacy("2025-03-26").tool("log").tool("slow").hang();
    let gate = gateway().upstream("git", &git).start().await;
    let mut pipe = gate.pipe();
    pipe.open("2025-03-26", json!({})).await;
    let request = |id: Value, method: &str, params: Value| {
        let base = json!({ "jsonrpc": "2.0", "id": id });
        let mut request = base.as_object().unwrap().clone();
        request.extend([("method".to_owned(), json!(method)), ("params".to_owned(), params)]);
        Value::Object(request)
    };
    let cancelled =
        json!({ "jsonrpc": "2.0", "method": CANCELLED, "params": { "requestId": "none" } });
    let batch = json!([
        request(json!(1), "tools/call", call("log")),
        cancelled,
        request(json!("two"), "no/such", json!({})),
        request(json!(3), "ping", json!({})),
        request(json!(3), "tools/list", json!({})),
    ]);
    pipe.say(&batch.to_string()).await;
    let line = pipe.line().await.unwrap();
    let answers: Vec<Value> = serde_json::from_str(&line).unwrap();
    assert_eq!(answers.len(), 4);
    assert_eq!(answers[0]["result"]["content"][0]["text"], "log ran");
    assert_eq!(answers[1]["error"]["code"], -32601);
    assert_eq!((&answers[2]["id"], &answers[2]["result"]), (&json!(3), &json!({})));
    assert_eq!(answers[3]["error"]["code"], -32600, "an id of a call under way");

    let alone = json!([request(json!("s"), "tools/call", call("slow"))]);
    pipe.say(&alone.to_string()).await;
    let hangs = || (git.seen("tools/call").len() == 2).then_some(());
    eventually("it hangs", hangs).await;
    pipe.notify(CANCELLED, json!({ "requestId": "s" })).await;
    git.receives(CANCELLED).await;
    pipe.ask(json!(9), "ping", json!({})).await;
    assert_eq!(pipe.next().await.id.as_deref(), Some("9"), "nothing is left to answer");
}

#[tokio::test]
async fn announcements_come_once_the_client_is_ready() {
    let changed = "notifications/tools/list_changed";
    let updated = "notifications/resources/updated";
    let git = fake::legacy("2025-06-18").tool("log").resource("git://head");
    let gate = gateway().upstream("git", &git).start().await;
    eventually("the gate listens", || (0 < git.listeners()).then_some(())).await;
    let mut pipe = gate.pipe();
    pipe.greet("2025-06-18", json!({})).await;
    let mut other = gate.pipe();
    other.open("2025-06-18", json!({})).await;
    git.add_tool("diff");
    other.until(changed).await;
    pipe.ask(json!(1), "ping", json!({})).await;
    assert_eq!(pipe.next().await.id.as_deref(), Some("1"), "it is not ready");
    pipe.notify("notifications/initialized", json!({})).await;
    pipe.until(changed).await;
    pipe.ask(json!(2), "resources/subscribe", json!({ "uri": "git://head" })).await;
    pipe.answer("2").await.result();
    git.tell(updated, &json!({ "uri": "git://head" }));
    assert_eq!(pipe.until(updated).await.params()["uri"], "git://head");
    let all = gate.app().viewer().report().counters;
    assert_eq!(all["outbox_dropped"], 0);
}

#[tokio::test]
async fn a_subscription_lives_on_the_channel() {
    let git = fake::legacy("2025-06-18").tool("log");
    let mut gate = gateway().upstream("git", &git).start().await;
    eventually("the gate listens", || (0 < git.listeners()).then_some(())).await;
    let mut pipe = gate.pipe();
    let wanted = json!({ "notifications": { "toolsListChanged": true } });
    let subscription = |message: &crate::message::Message| {
        message.params()["_meta"]["io.modelcontextprotocol/subscriptionId"].clone()
    };
    for id in [json!(7), json!("b")] {
        pipe.ask_modern(id.clone(), "subscriptions/listen", wanted.clone()).await;
        let first = pipe.until("notifications/subscriptions/acknowledged").await;
        assert_eq!(subscription(&first), id);
    }
    git.add_tool("diff");
    let changed = "notifications/tools/list_changed";
    let told = [pipe.until(changed).await, pipe.until(changed).await];
    let mut told = told.map(|message| subscription(&message).to_string());
    told.sort();
    assert_eq!(told, ["\"b\"", "7"]);

    pipe.notify(CANCELLED, json!({ "requestId": 7 })).await;
    pipe.ask_modern(json!(8), "tools/list", json!({})).await;
    assert_eq!(pipe.next().await.id.as_deref(), Some("8"), "no answer to what was cancelled");
    let stopping = gate.stops();
    let ((), rest) = tokio::join!(stopping, pipe.rest());
    assert_eq!(rest.len(), 2, "{rest:?}");
    assert_eq!(rest[0].id.as_deref(), Some("\"b\""));
    assert_eq!(rest[0].result()["resultType"], "complete");
    assert_eq!(rest[1].method.as_deref(), Some(CANCELLED));
    assert_eq!(rest[1].params()["requestId"], "b");
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_calls_with_it() {
    for version in ["2025-06-18", fake::MODERN] {
        let git = fake::legacy("2025-06-18").tool("slow").hang();
        let gate = gateway().upstream("git", &git).start().await;
        let mut pipe = gate.pipe();
        if version == fake::MODERN {
            pipe.ask_modern(json!(1), "tools/call", call("slow")).await;
        } else {
            pipe.open(version, json!({})).await;
            pipe.ask(json!(1), "tools/call", call("slow")).await;
        }
        git.receives("tools/call").await;
        pipe.leave().await;
        git.receives(CANCELLED).await;
    }
}

#[tokio::test]
async fn a_call_under_way_may_end_when_the_client_says_no_more() {
    let elicit = json!({ "message": "sure?", "requestedSchema": { "type": "object" } });
    let git = fake::legacy("2025-06-18").tool("ask").ask(ELICIT, &elicit).tool("log");
    let gate = gateway().upstream("git", &git).start().await;
    let mut pipe = gate.pipe();
    pipe.open("2025-06-18", json!({ "elicitation": {} })).await;
    pipe.ask(json!(1), "tools/call", call("ask")).await;
    pipe.until(ELICIT).await;
    pipe.ask(json!(2), "tools/call", call("log")).await;
    let rest = pipe.close().await;
    let mut ids: Vec<_> = rest.iter().map(|message| message.id.clone().unwrap()).collect();
    ids.sort();
    assert_eq!(ids, ["1", "2"], "whoever can say nothing more is asked nothing: {rest:?}");
}

/// Whoever does not read is waited for; what waits has a bound.
#[tokio::test]
async fn a_client_that_does_not_read_is_waited_for() {
    let text = "x".repeat(1_000);
    let big = json!({ "content": [{ "type": "text", "text": text }] });
    let git = fake::http().tool("big").answer(&big.to_string());
    let gate = gateway().upstream("git", &git).start().await;
    let mut pipe = gate.narrow_pipe(1 << 10);
    // More than is kept for it, and more than may be under way.
    let asked: usize = 1_000;
    let mut written = 0;
    while written < asked {
        let params = modern(call("big"), json!({}));
        let ask = pipe.ask(json!(written), "tools/call", params);
        // It is not read: at some point nothing more can be written. A slow machine may come to
        // that sooner.
        if tokio::time::timeout(std::time::Duration::from_millis(200), ask).await.is_err() {
            break;
        }
        written += 1;
    }
    assert!(written < asked, "the gate took everything and kept it");
    let answered = read_all(&mut pipe, written).await;
    assert_eq!(answered, written);
}

/// Reads so many answers, each whole.
async fn read_all(pipe: &mut Pipe, count: usize) -> usize {
    let mut answered = 0;
    while answered < count {
        let message = pipe.next().await;
        assert!(message.result.is_some() || message.error.is_some(), "{message:?}");
        answered += 1;
    }
    answered
}

#[tokio::test]
async fn a_message_is_one_line_whatever_the_server_wrote() {
    let git = fake::http().tool("odd").answer("{\n  \"content\": [\r\n ],\n\"big\": 1e400}");
    let gate = gateway().upstream("git", &git).start().await;
    let mut pipe = gate.pipe();
    pipe.ask_modern(json!(1), "tools/call", call("odd")).await;
    let line = pipe.line().await.unwrap();
    assert!(line.ends_with('}') && line.contains("1e400"), "{line}");
    // And the other way: a body of several lines, at a server that reads lines.
    let git = fake::stdio("2025-06-18").tool("log");
    let gate = gateway().upstream("git", &git).start().await;
    let client = gate.legacy("2025-06-18").await;
    let text = "{\"jsonrpc\":\"2.0\",\"id\":1,\n\
                \"method\":\"tools/call\",\"params\":{\n\"name\":\"log\"}}";
    client.post(text).await.message().await.result();
}

#[tokio::test]
async fn a_route_that_does_not_exist_is_named() {
    let gate = gateway().upstream("git", &fake::http().tool("log")).start().await;
    let (ours, _its) = tokio::io::duplex(64);
    let (reader, writer) = tokio::io::split(ours);
    let error = gate.app().serve_channel(reader, writer, "/none").unwrap_err().to_string();
    assert_eq!(error, "the configuration has no route `/none`; it has /mcp");
}

#[tokio::test]
async fn a_channel_ends_with_its_route() {
    let gate = gateway().upstream("git", &fake::http().tool("log")).start().await;
    let (mut old, mut new) = (gate.pipe(), gate.pipe());
    old.open("2025-06-18", json!({})).await;
    new.ask_modern(json!(1), "tools/list", json!({})).await;
    new.answer("1").await.result();
    gate.edit(|toml| toml.replace("\"/mcp\"", "\"/other\""));
    assert!(old.rest().await.is_empty());
    new.ask_modern(json!(2), "tools/list", json!({})).await;
    assert!(new.rest().await.is_empty(), "what leads nowhere is not served on");
}
