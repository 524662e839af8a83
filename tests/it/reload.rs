//! Edits of `routes.toml` while the gate serves.

use std::{os::unix::fs::symlink, time::Duration};

use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::{
    eventually, fake,
    gate::{gateway, section},
};

/// An edit is applied within this time; what it has not changed by then, it does not change.
const APPLIED: Duration = Duration::from_secs(1);

/// What "within a second" is on a machine that also runs the other tests.
const A_SECOND: Duration = Duration::from_secs(3);

#[tokio::test]
async fn a_new_upstream_is_told_and_the_others_are_not_touched() {
    let (git, db) = (fake::legacy("2025-06-18").tool("log"), fake::http().tool("query"));
    let gate = gateway().upstream("git", &git).route("/mcp", "upstreams = [\"*\"]").start().await;
    let (old, new) = (gate.legacy("2025-06-18").await, gate.modern());
    old.call("log").await;
    let opened = git.seen("initialize").len();
    let (mut told, mut listening) = (old.listen().await, new.listen().await);
    gate.edit(|toml| toml + &section("db", &db.section()));
    for stream in [&mut told, &mut listening] {
        let change = stream.until("notifications/tools/list_changed");
        timeout(A_SECOND, change).await.expect("the edit is applied within a second");
    }
    assert_eq!(old.tools().await, ["log", "query"]);
    assert_eq!(new.tools().await, ["log", "query"]);
    old.call("log").await;
    old.call("query").await;
    assert_eq!(git.seen("initialize").len(), opened, "same session upstream");
    let calls = git.seen("tools/call");
    assert_eq!(calls[0].header("mcp-session-id"), calls[1].header("mcp-session-id"));
}

/// As Kubernetes mounts a secret: a name that links through `..data`, which is swapped as a whole.
#[tokio::test]
async fn a_secret_file_is_read_again_each_time_its_folder_is_swapped() {
    let folder = tempfile::tempdir().unwrap();
    let swap = |version: &str| {
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path(version)).unwrap();
        std::fs::write(path(version).join("token"), version).unwrap();
        symlink(version, path("..data_next")).unwrap();
        std::fs::rename(path("..data_next"), path("..data")).unwrap();
    };
    swap("..1");
    symlink("..data/token", folder.path().join("token")).unwrap();
    let git = fake::http().tool("log");
    let key = format!("headers.X-Token = \"file:{}/token\"", folder.path().display());
    let gate = gateway().upstream_with("git", &git, &key).start().await;
    let client = gate.modern();
    let token = async || {
        client.call("log").await;
        git.seen("tools/call").last().unwrap().header("x-token").to_owned()
    };
    assert_eq!(token().await, "..1");
    for version in ["..2", "..3", "..4"] {
        swap(version);
        let changed = async { while token().await != version {} };
        timeout(A_SECOND, changed).await.expect("it is applied within a second");
    }
}

#[tokio::test]
async fn a_removed_upstream_is_gone_but_its_calls_end() {
    let elicit = json!({ "message": "sure?", "requestedSchema": { "type": "object" } });
    let git = fake::legacy("2025-06-18").tool("ask").ask("elicitation/create", &elicit);
    let db = fake::http().tool("query");
    let plan = gateway().upstream("git", &git).upstream("db", &db);
    let gate = plan.route("/mcp", "upstreams = [\"git\", \"db\"]").start().await;
    let client = gate.legacy_with("2025-06-18", json!({ "elicitation": {} })).await;
    let mut told = client.listen().await;
    let mut reply = client.start("tools/call", json!({ "name": "ask" })).await;
    let ask = reply.until("elicitation/create").await;
    gate.edit(|toml| toml.replace("[\"git\", \"db\"]", "[\"db\"]"));
    told.until("notifications/tools/list_changed").await;
    assert_eq!(client.tools().await, ["query"]);
    client.respond(&ask.id.unwrap(), r#"{"action":"accept"}"#).await;
    assert_eq!(reply.message().await.result()["content"][0]["text"], "asked");
    let gone = client.ask("tools/call", json!({ "name": "ask" })).await;
    assert_eq!(gone.code(), -32602);
}

#[tokio::test]
async fn only_those_whose_view_changed_are_told() {
    let (git, db) = (fake::http().tool("log"), fake::http().tool("query"));
    let plan = gateway().upstream("git", &git).upstream("db", &db);
    let plan = plan.route("/git", "upstreams = [\"git\"]");
    let gate = plan.route("/db", "upstreams = [\"db\"]").start().await;
    let (git_client, db_client) =
        (gate.at("/git").legacy("2025-06-18").await, gate.at("/db").legacy("2025-06-18").await);
    let (mut at_git, mut at_db) = (git_client.listen().await, db_client.listen().await);
    gate.edit(|toml| {
        toml.replace("[routes.\"/db\"]", "[routes.\"/db\"]\ntools.rename = { query = \"select\" }")
    });
    at_db.until("notifications/tools/list_changed").await;
    assert_eq!(db_client.tools().await, ["select"]);
    gate.edit(|toml| {
        toml.replace("[routes.\"/git\"]", "[routes.\"/git\"]\ntools.rename = { log = \"history\" }")
    });
    at_git.until("notifications/tools/list_changed").await;
    assert_eq!(git_client.tools().await, ["history"], "its first notice is of its own change");
}

#[tokio::test]
async fn a_broken_edit_changes_nothing() {
    let git = fake::legacy("2025-06-18").tool("log");
    let gate = gateway().upstream("git", &git).start().await;
    let client = gate.legacy("2025-06-18").await;
    client.call("log").await;
    let (opened, mut good) = (git.seen("initialize").len(), String::new());
    for broken in ["[[[", "[upstreams.git]\nurl = 7\n", "[routes.\"/mcp\"]\nupstrems = []\n"] {
        gate.edit(|toml| {
            if good.is_empty() {
                good = toml;
            }
            broken.to_owned()
        });
        let begun = Instant::now();
        while begun.elapsed() < APPLIED {
            client.call("log").await;
        }
        assert_eq!(client.tools().await, ["log"], "{broken:?}");
    }
    assert_eq!(git.seen("initialize").len(), opened);
    let mut told = client.listen().await;
    gate.edit(|_| {
        good.replace("[routes.\"/mcp\"]", "[routes.\"/mcp\"]\ntools.rename = { log = \"history\" }")
    });
    told.until("notifications/tools/list_changed").await;
    assert_eq!(client.tools().await, ["history"], "mended, it is applied");
}

#[tokio::test]
async fn no_call_fails_while_the_file_is_edited() {
    let git = fake::http().tool("log");
    let gate = gateway().upstream("git", &git).start().await;
    let busy: Vec<_> = (0..64)
        .map(|_| {
            let client = gate.modern();
            tokio::spawn(async move {
                for _ in 0..20 {
                    assert_eq!(client.call("log").await["content"][0]["text"], "log ran");
                }
            })
        })
        .collect();
    for at in 0..4 {
        gate.edit(|toml| toml.replace("[routes.", &format!("# edit {at}\n[routes.")));
        let extra = fake::http().tool("extra");
        gate.edit(|toml| toml + &section(&format!("extra{at}"), &extra.section()));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for client in busy {
        client.await.unwrap();
    }
}

#[tokio::test]
async fn a_changed_upstream_is_opened_anew() {
    let (first, second) = (fake::http().tool("log"), fake::http().tool("log"));
    let gate = gateway().upstream("git", &first).start().await;
    let client = gate.modern();
    client.call("log").await;
    gate.edit(|toml| toml.replace(&first.section(), &second.section()));
    let moved = async {
        while second.seen("tools/call").is_empty() {
            assert_eq!(client.call("log").await.get("isError"), None);
        }
    };
    crate::soon("calls go to the new address", moved).await;
    eventually("the old one is left", || (first.listeners() == 0).then_some(())).await;
}

#[tokio::test]
async fn streams_of_a_removed_route_end() {
    let git = fake::legacy("2025-06-18").tool("log");
    let plan = gateway().upstream("git", &git).route("/mcp", "upstreams = [\"git\"]");
    let gate = plan.route("/other", "upstreams = [\"git\"]").start().await;
    let clients = [gate.at("/other").legacy("2025-06-18").await, gate.at("/other").modern()];
    let mut streams = [clients[0].listen().await, clients[1].listen().await];
    gate.edit(|toml| toml.replace("[routes.\"/other\"]", "[routes.\"/third\"]"));
    for stream in &mut streams {
        while stream.next().await.is_some() {}
    }
}

#[tokio::test]
async fn a_replaced_upstream_goes_on_with_what_clients_subscribed_to() {
    for docs in [fake::http(), fake::legacy("2025-06-18")] {
        let docs = docs.resource("mem://one");
        let gate = gateway().upstream("docs", &docs).start().await;
        let client = gate.modern();
        let wanted = json!({ "notifications": { "resourceSubscriptions": ["mem://one"] } });
        let mut stream = client.start("subscriptions/listen", wanted).await;
        stream.next().await.unwrap();
        let asks = || {
            let asked =
                ["subscriptions/listen", "resources/subscribe"].map(|method| docs.seen(method));
            let all = asked.into_iter().flatten();
            all.filter(|seen| String::from_utf8_lossy(&seen.body).contains("mem://one")).count()
        };
        let before = asks();
        gate.edit(|toml| toml.replace("[upstreams.docs]", "[upstreams.docs]\nrefresh = \"1h\""));
        eventually("the new one asks, too", || (before < asks()).then_some(())).await;
        let heard = async {
            loop {
                docs.tell("notifications/resources/updated", &json!({ "uri": "mem://one" }));
                let update = stream.until("notifications/resources/updated");
                if timeout(Duration::from_millis(200), update).await.is_ok() {
                    return;
                }
            }
        };
        timeout(A_SECOND * 3, heard).await.expect("updates go on");
    }
}
