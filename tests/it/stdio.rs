//! Upstreams that are processes.

use serde_json::json;

use crate::{fake, gate::gateway};

#[tokio::test]
async fn one_process_serves_many_clients_of_every_era() {
    for version in ["2025-03-26", "2025-06-18", "2025-11-25", fake::MODERN] {
        let git = fake::stdio(version).tool("log").tool("diff").pages_of(1);
        let gate = gateway().upstream("git", &git).start().await;
        let calls = (0..8).map(|at| {
            let gate = &gate;
            async move {
                let client =
                    if at % 2 == 0 { gate.modern() } else { gate.legacy("2025-06-18").await };
                assert_eq!(client.tools().await, ["log", "diff"]);
                assert_eq!(client.call("diff").await["content"][0]["text"], "diff ran");
            }
        });
        futures_util::future::join_all(calls).await;
        // One more, for a moment, to list what only some clients may use.
        assert!(git.pids().len() <= 2, "{version}");
        let mut ids: Vec<_> =
            git.seen("tools/call").into_iter().map(|seen| seen.message().id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 8, "ids are the gate's own");
    }
}

#[tokio::test]
async fn a_client_that_can_be_asked_has_its_own_process() {
    let git = fake::stdio("2025-06-18").tool("log");
    let gate = gateway().upstream("git", &git).start().await;
    let capabilities = json!({ "elicitation": {}, "roots": {} });
    let client = gate.legacy_with("2025-06-18", capabilities.clone()).await;
    client.call("log").await;
    gate.modern().call("log").await;
    let opened = git.seen("initialize").into_iter();
    let declared: Vec<_> =
        opened.map(|seen| seen.message().params()["capabilities"].clone()).collect();
    assert_eq!(declared[0], json!({}), "the shared one cannot ask");
    assert!(declared.contains(&capabilities), "{declared:?}");
}

#[tokio::test]
async fn a_process_that_dies_at_once_is_tried_again_and_hurts_nobody() {
    let keys = "command = \"sh\"\nargs = [\"-c\", \"echo dying >&2; exit 3\"]\n";
    let gate =
        gateway().section("dead", keys).upstream("git", &fake::http().tool("log")).start().await;
    assert_eq!(gate.modern().tools().await, ["log"]);
    gate.modern().call("log").await;
}

#[tokio::test]
async fn what_a_process_says_on_its_side_is_not_a_message() {
    let git = fake::stdio("2025-06-18").tool("log");
    let section = git.section();
    let noisy = section.replace(
        "command = \"python3\"\nargs = [",
        r#"command = "sh"
args = ["-c", "echo noise; echo; echo '{}'; echo more >&2; exec python3 \"$@\"", "sh", "#,
    );
    assert_ne!(noisy, section);
    let gate = gateway().section("git", &noisy).start().await;
    assert_eq!(gate.modern().call("log").await["content"][0]["text"], "log ran");
}

/// A line end in a client's JSON would end the message for a server that reads lines, and what
/// follows would be a message of its own, which nobody has judged.
#[tokio::test]
async fn a_line_end_in_a_message_makes_no_second_message() {
    let git = fake::stdio("2025-06-18").tool("log").tool("secret");
    let denied = "tools = { deny = [\"secret\"] }";
    let gate = gateway().upstream_with("git", &git, denied).start().await;
    let client = gate.legacy("2025-06-18").await;
    let smuggled = r#"{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"secret"}}"#;
    for end in ["\n", "\r\n", "\r"] {
        let arguments = format!("{{\"x\":{end}{smuggled}{end}}}");
        let call = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"log","arguments":{arguments}}}}}"#
        );
        let result = client.post(&call).await.message().await.result();
        assert_eq!(result["content"][0]["text"], "log ran");
    }
    for call in git.seen("tools/call") {
        let params = call.message().params();
        assert_eq!(params["name"], "log");
        assert_eq!(params["arguments"]["x"]["method"], "tools/call", "it arrives as what it is");
    }
}
