//! Processes that stop reading, write what is no message, or take too much memory.

use std::{fs, path::Path};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    eventually,
    gate::{Gate, gateway},
    soon,
};

/// A server whose tool `act` does what its argument says: `deaf` reads nothing more until the file
/// `go` is there, `noise` writes so many lines, and `eat` takes so many MiB. It notes each request.
const SERVER: &str = r#"
import json, os, sys, time
folder = sys.argv[1]
held = []
def say(id, result):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": id, "result": result}) + "\n")
    sys.stdout.flush()
for line in sys.stdin:
    message = json.loads(line)
    params = message.get("params") or {}
    arguments = params.get("arguments") or {}
    with open(folder + "/log", "a") as log:
        log.write(message["method"] + " " + str(arguments.get("name", "")) + "\n")
    if "id" not in message:
        continue
    if message["method"] == "initialize":
        say(message["id"], {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
            "serverInfo": {"name": "s", "version": "1"}})
    elif message["method"] == "tools/list":
        say(message["id"], {"tools": [{"name": "act", "inputSchema": {"type": "object"}}]})
    elif message["method"] != "tools/call":
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": message["id"],
            "error": {"code": -32601, "message": "no"}}) + "\n")
        sys.stdout.flush()
    else:
        while arguments.get("deaf") and not os.path.exists(folder + "/go"):
            time.sleep(0.02)
        for _ in range(arguments.get("noise", 0)):
            sys.stdout.write("x" * 1000 + "\n")
        if arguments.get("eat"):
            held.append(b"x" * (arguments["eat"] << 20))
            time.sleep(60)
        say(message["id"], {"content": [{"type": "text", "text": arguments.get("name", "")}]})
"#;

async fn gate(keys: &str) -> (Gate, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("server.py");
    fs::write(&script, SERVER).unwrap();
    let args = [script.to_str().unwrap(), folder.path().to_str().unwrap()];
    let keys = format!("command = \"python3\"\nargs = {args:?}\nisolation = \"shared\"\n{keys}\n");
    (gateway().section("s", &keys).start().await, folder)
}

async fn act(gate: &Gate, arguments: Value) -> Value {
    let params = json!({ "name": "act", "arguments": arguments });
    gate.modern().ask("tools/call", params).await.result()
}

fn counter(gate: &Gate, name: &str) -> u64 {
    gate.app().viewer().report().counters[name]
}

async fn opens_again(gate: &Gate) {
    eventually("it is open again", || {
        let report = gate.app().viewer().report();
        let it = &report.upstreams[0];
        (0 < it.restarts && it.state.word() == "ready").then_some(())
    })
    .await;
}

fn log(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap_or_default()
}

fn last_error(gate: &Gate) -> String {
    gate.app().viewer().report().upstreams[0].last_error.clone().unwrap_or_default()
}

/// More than a pipe takes, for a server that does not read.
fn large() -> String {
    "x".repeat(300_000)
}

#[tokio::test]
async fn a_server_that_reads_nothing_is_ended_and_its_callers_hear_the_truth() {
    let (gate, folder) = gate("write_timeout = \"2s\"").await;
    let deaf = act(&gate, json!({ "name": "one", "deaf": true }));
    let more = async {
        eventually("it is deaf", || log(folder.path()).contains("call one").then_some(())).await;
        let large = act(&gate, json!({ "name": "two", "more": large() }));
        let queued = async {
            // After the large one, which is more than a pipe takes.
            eventually("it is on its way", || {
                (gate.app().viewer().report().upstreams[0].calls == 2).then_some(())
            })
            .await;
            act(&gate, json!({ "name": "three" })).await
        };
        futures_util::future::join(large, queued).await
    };
    let (one, (two, three)) =
        soon("all end", Box::pin(futures_util::future::join(deaf, more))).await;
    let said = |result: &Value| result["structuredContent"]["message"].as_str().unwrap().to_owned();
    for result in [&one, &two, &three] {
        assert_eq!(result["structuredContent"]["error"], "service_unavailable", "{result}");
    }
    assert!(said(&one).contains("not known") && said(&two).contains("not known"));
    assert!(said(&three).contains("nothing was done"), "{three}");
    assert!(last_error(&gate).contains("write_timeout"), "{}", last_error(&gate));
    opens_again(&gate).await;
    assert_eq!(act(&gate, json!({ "name": "four" })).await["content"][0]["text"], "four");
    assert!(!log(folder.path()).contains("call three"));
}

#[tokio::test]
async fn what_waits_is_bounded_in_bytes_and_a_call_that_is_cancelled_leaves_it() {
    let (gate, folder) = gate("write_timeout = \"1h\"\nqueue_bytes_max = \"1MiB\"").await;
    let deaf = tokio::spawn({
        let (client, params) =
            (gate.modern(), json!({ "name": "act", "arguments": { "name": "one", "deaf": true } }));
        async move { client.ask("tools/call", params).await.result() }
    });
    eventually("it is deaf", || log(folder.path()).contains("call one").then_some(())).await;
    // Far more than may wait; their callers go away after a moment.
    let given_up = (0..20).map(|at| {
        let call = act(&gate, json!({ "name": format!("gone-{at}"), "more": large() }));
        tokio::time::timeout(std::time::Duration::from_millis(400), call)
    });
    assert!(join_all(given_up).await.iter().all(Result::is_err));
    let last = async {
        let call = act(&gate, json!({ "name": "last" }));
        tokio::pin!(call);
        // It waits behind what has begun to be written, and nothing else.
        let early = tokio::time::timeout(std::time::Duration::from_millis(100), &mut call).await;
        assert!(early.is_err());
        fs::write(folder.path().join("go"), "").unwrap();
        call.await
    };
    assert_eq!(soon("the last", last).await["content"][0]["text"], "last");
    assert_eq!(soon("the first", deaf).await.unwrap()["content"][0]["text"], "one");
    // One had begun to be written, and was cancelled; of the others nothing was sent.
    let log = log(folder.path());
    let count = |what: &str| log.lines().filter(|line| line.starts_with(what)).count();
    assert!(count("tools/call gone") <= 1, "{log}");
    assert_eq!(count("notifications/cancelled"), count("tools/call gone"), "{log}");
}

#[tokio::test]
async fn a_flood_of_what_is_no_message_ends_it_and_some_noise_does_not() {
    let (gate, _folder) = gate("noise_bytes_max = \"100KiB\"").await;
    assert_eq!(
        act(&gate, json!({ "name": "some", "noise": 50 })).await["content"][0]["text"],
        "some"
    );
    let flooded = soon("the flood", act(&gate, json!({ "name": "much", "noise": 5_000 }))).await;
    assert_eq!(flooded["structuredContent"]["error"], "service_unavailable", "{flooded}");
    assert!(last_error(&gate).contains("noise_bytes_max"), "{}", last_error(&gate));
    assert_eq!(counter(&gate, "upstream_noisy"), 1);
    opens_again(&gate).await;
    assert_eq!(act(&gate, json!({ "name": "again" })).await["content"][0]["text"], "again");
}

#[tokio::test]
async fn a_process_that_takes_too_much_memory_is_ended_and_started_again() {
    let (gate, _folder) = gate("memory = \"128MiB\"").await;
    let eaten = soon("the end", act(&gate, json!({ "name": "much", "eat": 200 }))).await;
    assert_eq!(eaten["structuredContent"]["error"], "service_unavailable", "{eaten}");
    // Until it is open again: then it has no old error.
    assert!(last_error(&gate).contains("`memory` allows 128 MiB"), "{}", last_error(&gate));
    opens_again(&gate).await;
    assert_eq!(last_error(&gate), "");
    assert_eq!(counter(&gate, "upstream_memory"), 1);
    assert_eq!(
        act(&gate, json!({ "name": "small", "eat": 0 })).await["content"][0]["text"],
        "small"
    );
}
