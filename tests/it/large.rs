//! Large results: judged beside the threads that serve, and as small ones are.

use serde_json::{Value, json};

use crate::{
    client::Client,
    fake::{self, Act, Fake},
    gate::{Gate, gateway},
};

const KEYS: &str = "guard = { results = \"schema\", detect = [{ find = [\"secrets:aws\"], \
                    in = [\"results\"], then = \"redact\" }] }";
const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
/// Bytes from which on a result is judged beside are 64 KiB.
const SIZES: [usize; 2] = [10, 200_000];

fn tool() -> Value {
    let properties = json!({ "days": { "type": "array", "items": { "type": "integer" } } });
    let output = json!({ "type": "object", "properties": properties, "required": ["days"] });
    json!({ "name": "weather", "inputSchema": {}, "outputSchema": output,
        "annotations": { "readOnlyHint": true } })
}

/// Results with this much text, and what clients are to read of each: the text, or the word of a
/// refusal.
fn results(size: usize) -> Vec<(Value, Result<String, &'static str>)> {
    let text = "x".repeat(size);
    let said = |text: &str, more: Value| {
        let mut result = json!({ "content": [{ "type": "text", "text": text }] });
        let members = more.as_object().unwrap().clone();
        result.as_object_mut().unwrap().extend(members);
        result
    };
    let days = |days: Value| json!({ "structuredContent": { "days": days } });
    let right = || days(json!([1, 2]));
    let secret = format!("{text} {KEY} {text}");
    let hidden = format!("{text} [redacted: secrets:aws] {text}");
    let accented = format!("é\"\\\n{text}");
    let failed = json!({ "isError": true });
    vec![
        (said(&text, right()), Ok(text.clone())),
        (said(&text, days(vec![7; size / 10].into())), Ok(text.clone())),
        (said(&accented, right()), Ok(accented.clone())),
        (said(&secret, right()), Ok(hidden.clone())),
        (said(&secret, failed.clone()), Ok(hidden)),
        (said(&text, failed), Ok(text.clone())),
        (said(&text, json!({})), Err("upstream_error")),
        (said(&text, days(json!("none"))), Err("upstream_error")),
        (said(&text, days(vec!["x"; 1 + size / 10].into())), Err("upstream_error")),
        (said(&secret, days(json!([1, "2"]))), Err("upstream_error")),
        (said(&text, json!({ "structuredContent": [text] })), Err("upstream_error")),
    ]
}

#[track_caller]
fn is_as_wanted(result: &Value, want: &Result<String, &str>, of: &str) {
    let short = |text: &Value| text.to_string().chars().take(300).collect::<String>();
    match want {
        Ok(text) => assert!(result["content"][0]["text"] == **text, "{of}: {}", short(result)),
        Err(word) => {
            assert_eq!(result["structuredContent"]["error"], *word, "{of}: {}", short(result));
        }
    }
}

async fn both(gate: &Gate) -> [Client; 2] {
    [gate.modern(), gate.legacy("2025-11-25").await]
}

/// Eleven results in two sizes, for both eras of clients, of servers of both eras, as answers and
/// as what tasks end with.
#[tokio::test]
async fn a_large_result_is_judged_as_a_small_one() {
    for server in [fake::http().tool_with(tool()), fake::legacy("2025-11-25").tool_with(tool())] {
        let gate = gateway().upstream_with("docs", &server, KEYS).start().await;
        for (size, client) in SIZES.iter().zip(both(&gate).await) {
            for (at, (result, want)) in results(*size).into_iter().enumerate() {
                server.becomes("weather", Act::Result(result.to_string()));
                let result = client.call("weather").await;
                is_as_wanted(&result, &want, &format!("{at} of {size}"));
            }
        }
    }
}

#[tokio::test]
async fn what_a_task_ends_with_is_judged_as_an_answer() {
    for size in SIZES {
        for (at, (result, want)) in results(size).into_iter().enumerate() {
            let end = format!(r#""status":"completed","result":{result}"#);
            let server = fake::http().tool_with(tool()).task(&[end.as_str()]);
            let gate = gateway().upstream_with("docs", &server, KEYS).start().await;
            let result = gate.legacy("2025-11-25").await.call("weather").await;
            is_as_wanted(&result, &want, &format!("{at} of {size}"));
        }
    }
}

#[tokio::test]
async fn large_results_are_kept_and_put_behind_links_as_small_ones() {
    let days: Vec<_> = (0..100_000).collect();
    let result = json!({ "content": [], "structuredContent": { "days": days } }).to_string();
    let plain = || fake::http().tool_with(tool()).answer(&result);
    let server = plain();
    let keys = format!("{KEYS}\ntools.weather.cache = {{ ttl = \"10m\" }}");
    let gate = gateway().upstream_with("docs", &server, &keys).start().await;
    for client in both(&gate).await {
        for _ in 0..2 {
            let result = client.call("weather").await;
            assert_eq!(result["structuredContent"]["days"][99_999], 99_999);
        }
    }
    assert_eq!(server.seen("tools/call").len(), 1, "the others are from memory");
    let server = plain();
    let keys = KEYS.replace("results =", "result_max = \"1KiB\", too_large = \"link\", results =");
    let gate = gateway().upstream_with("docs", &server, &keys).start().await;
    for client in both(&gate).await {
        let linked = client.call("weather").await;
        let uri = linked["content"][1]["uri"].as_str().unwrap();
        let says = linked["content"][0]["text"].as_str().unwrap();
        assert!(says.ends_with("or ask for less."), "{says}");
        let read = client.ask("resources/read", json!({ "uri": uri })).await.result();
        assert_eq!(read["contents"][0]["text"], result);
    }
}

/// A server whose answer takes seconds to be judged, on a gate of one thread.
fn slow() -> (Fake, String) {
    let items = json!({ "type": "string", "pattern": "^(a|b|ab)*c?$" });
    let output = json!({
        "type": "object",
        "properties": { "days": { "type": "array", "items": items, "uniqueItems": true } },
    });
    let tool = json!({ "name": "weather", "inputSchema": {}, "outputSchema": output });
    let days: Vec<_> = (0..2_000_usize).map(|at| "ab".repeat(100) + &"a".repeat(at)).collect();
    let result = json!({ "content": [], "structuredContent": { "days": days } }).to_string();
    (fake::http().tool_with(tool).tool("quick"), result)
}

#[tokio::test]
async fn other_calls_are_answered_while_a_large_result_is_judged() {
    let (server, result) = slow();
    server.becomes("weather", Act::Result(result));
    let gate = gateway()
        .server("limits.schema_work_max = 1_000_000_000_000")
        .upstream_with("docs", &server, "guard.results = \"schema\"")
        .start()
        .await;
    let (client, other) = (gate.modern(), gate.modern());
    let judged = client.call("weather");
    let others = async {
        server.receives("tools/call").await;
        other.call("quick").await
    };
    tokio::pin!(judged);
    tokio::select! {
        biased;
        _ = &mut judged => panic!("the large one was judged before anything else was done"),
        quick = others => assert_eq!(quick["content"][0]["text"], "quick ran"),
    }
    let result = judged.await;
    assert_eq!(result["structuredContent"]["days"].as_array().map(Vec::len), Some(2_000));
}

#[tokio::test]
async fn what_has_no_verdict_in_time_is_refused_and_names_the_key() {
    let (server, result) = slow();
    server.becomes("weather", Act::Result(result));
    let limits = "limits.schema_patience = \"10ms\"\nlimits.schema_work_max = 1_000_000_000_000";
    let keys = "guard.results = \"schema\"";
    let gate = gateway().server(limits).upstream_with("docs", &server, keys).start().await;
    for client in both(&gate).await {
        let result = client.call("weather").await;
        let said = &result["structuredContent"];
        assert_eq!(said["error"], "response_too_large", "{said}");
        assert!(said["message"].as_str().unwrap().contains("schema_patience"), "{said}");
        assert_eq!(said["retriable"], false, "the server has done it");
    }
    assert_eq!(gate.app().viewer().report().counters["schema_checks_late"], 2);
}

/// What a thread judges for longer than anybody waits takes its part of the budget until then.
#[tokio::test]
async fn what_is_being_judged_counts_among_the_answers_that_are_read() {
    let servers = [
        ("http", fake::http()),
        ("dual", fake::dual()),
        ("sessions", fake::legacy("2025-06-18")),
        ("stateless", fake::legacy("2025-03-26").stateless()),
        ("sse", fake::sse("2024-11-05")),
        ("stdio", fake::stdio("2025-06-18")),
    ];
    for (kind, server) in servers {
        let (slow, result) = slow();
        let tools = slow.tools_raw();
        let server = tools.iter().fold(server, |server, tool| server.tool_raw(tool));
        server.becomes("weather", Act::Result(result));
        let limits = "limits.schema_patience = \"10ms\"\n\
                      limits.schema_work_max = 1_000_000_000_000\n\
                      limits.incoming_answers_bytes_max = \"1MiB\"";
        let keys = "guard.results = \"schema\"";
        let gate = gateway().server(limits).upstream_with("docs", &server, keys).start().await;
        let client = gate.modern();
        let counter = |name: &str| gate.app().viewer().report().counters[name];
        client.call("weather").await;
        assert_eq!((counter("schema_checks_late"), counter("answers_held_back")), (1, 0), "{kind}");
        // The first of an upstream may exceed the budget; who judges it has that place still.
        client.call("weather").await;
        assert_eq!((counter("schema_checks_late"), counter("answers_held_back")), (2, 1), "{kind}");
    }
}

/// The same server with the schema on its arguments, and arguments that take as long.
fn slow_arguments() -> (Fake, Value) {
    let items = json!({ "type": "string", "pattern": "^(a|b|ab)*c?$" });
    let input = json!({
        "type": "object",
        "properties": { "days": { "type": "array", "items": items, "uniqueItems": true } },
    });
    let tool = json!({ "name": "weather", "inputSchema": input });
    let days: Vec<_> = (0..2_000_usize).map(|at| "ab".repeat(100) + &"a".repeat(at)).collect();
    let call = json!({ "name": "weather", "arguments": { "days": days } });
    (fake::http().tool_with(tool).tool("quick"), call)
}

const ANY_WORK: &str = "limits.schema_work_max = 1_000_000_000_000";

#[tokio::test]
async fn other_calls_are_answered_while_large_arguments_are_checked() {
    let (server, call) = slow_arguments();
    let gate = gateway().server(ANY_WORK).upstream("docs", &server).start().await;
    let (client, other) = (gate.modern(), gate.modern());
    let checked = client.ask("tools/call", call);
    let others = async {
        for _ in 0..5 {
            let quick = other.call("quick").await;
            assert_eq!(quick["content"][0]["text"], "quick ran");
        }
    };
    tokio::pin!(checked);
    tokio::select! {
        biased;
        _ = &mut checked => panic!("the large ones were checked before anything else was done"),
        () = others => (),
    }
    assert_eq!(checked.await.result()["content"][0]["text"], "weather ran");
}

#[tokio::test]
async fn arguments_without_a_verdict_in_time_are_refused_and_reach_no_server() {
    let (server, call) = slow_arguments();
    let limits = format!("limits.schema_patience = \"10ms\"\n{ANY_WORK}");
    let gate = gateway().server(&limits).upstream("docs", &server).start().await;
    for client in both(&gate).await {
        let result = client.ask("tools/call", call.clone()).await.result();
        let said = &result["structuredContent"];
        assert_eq!(result["isError"], true, "{said}");
        assert!(said["message"].as_str().unwrap().contains("schema_patience"), "{said}");
        assert_eq!(client.call("quick").await["content"][0]["text"], "quick ran");
    }
    assert_eq!(gate.app().viewer().report().counters["schema_checks_late"], 2);
    let reached = server.seen("tools/call");
    assert!(reached.iter().all(|seen| seen.header("mcp-name") == "quick"), "nothing was done");
}

/// However few places there are, whoever finds them taken waits for one.
#[tokio::test]
async fn large_arguments_are_checked_so_many_at_once() {
    for places in [1, 2, 4] {
        let (server, mut call) = slow_arguments();
        call["arguments"]["days"].as_array_mut().unwrap().truncate(400);
        let limits = format!(
            "limits.schema_checks_max = {places}\nlimits.schema_patience = \"1m\"\n{ANY_WORK}"
        );
        let gate = gateway().server(&limits).upstream("docs", &server).start().await;
        let clients: Vec<_> = (0..4).map(|_| gate.modern()).collect();
        let calls = clients.iter().map(|client| client.ask("tools/call", call.clone()));
        for message in futures_util::future::join_all(calls).await {
            assert_eq!(message.result()["content"][0]["text"], "weather ran", "{places}");
        }
        assert_eq!(gate.app().viewer().report().counters["schema_checks_late"], 0);
    }
}
