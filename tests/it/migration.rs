//! A server that takes over from another bit by bit, or is only compared with it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use serde_json::{Value, json};

use crate::{
    client::Client,
    eventually,
    fake::{self, Act, Fake},
    gate::{Gate, gateway},
    soon,
};

fn server(who: &str) -> Fake {
    let said = format!(r#"{{"content":[{{"type":"text","text":"{who}"}}]}}"#);
    let hints = json!({ "readOnlyHint": true });
    let read = json!({ "name": "read", "inputSchema": {}, "annotations": hints });
    fake::http().tool_with(read).answer(&said).tool("write").answer(&said)
}

/// `jobs`, with a successor `jobs_v2` under these keys.
async fn between(old: &Fake, new: &Fake, keys: &str) -> Gate {
    let plan = gateway().upstream_with("jobs", old, keys).upstream("jobs_v2", new);
    let gate = plan.route("/mcp", "upstreams = [\"*\"]").start().await;
    eventually("both are listed", || {
        let report = gate.app().viewer().report();
        report.upstreams.iter().all(|upstream| upstream.tools != 0).then_some(())
    })
    .await;
    gate
}

fn canary(weight: u32) -> String {
    format!("canary = {{ upstream = \"jobs_v2\", weight = {weight} }}")
}

fn who(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap_or("nobody")
}

fn counter(gate: &Gate, name: &str) -> u64 {
    gate.app().viewer().report().counters[name]
}

/// A client at an address of its own.
fn client_at(gate: &Gate, last: u8) -> Client {
    let mut client = gate.modern();
    client.endpoint.from = [127, 0, 0, last].into();
    client
}

/// The weight of now, and why it was taken back.
fn state(gate: &Gate) -> (u32, Option<String>) {
    let report = gate.app().viewer().report();
    let canary = report.upstreams[0].canary.clone().unwrap();
    (canary.weight, canary.back)
}

#[tokio::test]
async fn some_callers_get_the_successor_and_always_the_same_ones() {
    let (old, new) = (server("old"), server("new"));
    let gate = between(&old, &new, &canary(30)).await;
    let mut first = Vec::new();
    for last in 1..=60 {
        let client = client_at(&gate, last);
        assert_eq!(client.tools().await, ["read", "write"], "`*` leaves a successor out");
        let met = who(&client.call("read").await).to_owned();
        for _ in 0..3 {
            assert_eq!(who(&client.call("write").await), met);
        }
        first.push(met);
    }
    let count = first.iter().filter(|met| *met == "new").count();
    assert!((8..=30).contains(&count), "{count} of 60");
    gate.edit(|toml| toml.replace("weight = 30", "weight = 60"));
    eventually("the edit", || (state(&gate).0 == 60).then_some(())).await;
    for (last, met) in (1..=60).zip(&first) {
        let now = client_at(&gate, last).call("read").await;
        assert!(met == "old" || who(&now) == "new", "who had it keeps it");
    }
}

#[tokio::test]
async fn from_a_tenth_to_all_by_edits_under_load_no_call_fails() {
    let (old, new) = (server("old"), server("new"));
    let gate = Arc::new(between(&old, &new, &canary(0)).await);
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let busy: Vec<_> = (1..=24)
        .map(|last| {
            let client = client_at(&gate, last);
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let answer = client.call("write").await;
                    assert!(["old", "new"].contains(&who(&answer)), "{answer}");
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut weight = 0;
    for next in [10, 25, 50, 75, 100] {
        let (from, to) = (format!("weight = {weight} "), format!("weight = {next} "));
        gate.edit(|toml| toml.replace(&from, &to));
        eventually("the edit", || (state(&gate).0 == next).then_some(())).await;
        let seen = done.load(Ordering::Relaxed);
        eventually("more calls", || (seen + 48 < done.load(Ordering::Relaxed)).then_some(())).await;
        weight = next;
    }
    let before = old.seen("tools/call").len();
    for last in 1..=24 {
        assert_eq!(who(&client_at(&gate, last).call("write").await), "new");
    }
    stop.store(true, Ordering::Relaxed);
    for client in busy {
        soon("the load", client).await.expect("no call failed");
    }
    assert_eq!(old.seen("tools/call").len(), before, "nothing is left for the old one");
    assert_eq!(old.seen("server/discover").len(), 1, "no edit opens the servers anew");
    assert_eq!(state(&gate), (100, None));
}

#[tokio::test]
async fn a_successor_that_fails_is_taken_back_until_its_section_is_edited() {
    let (old, new) = (server("old"), server("new"));
    let keys =
        "canary = { upstream = \"jobs_v2\", weight = 100, back = { calls_min = 5, window = 10 } }";
    let gate = between(&old, &new, keys).await;
    let client = gate.modern();
    assert_eq!(who(&client.call("read").await), "new");
    let degraded = || gate.app().viewer().report().degraded.join("\n");
    assert_eq!(degraded(), "");
    new.becomes("read", Act::Error(r#"{"code":-32603,"message":"broken"}"#.to_owned()));
    for _ in 0..20 {
        assert_eq!(who(&client.call("read").await), "old", "a safe call is not lost");
    }
    let told = degraded();
    assert!(told.contains("the trial of `jobs_v2` is rolled back: "), "{told}");
    let (weight, why) = state(&gate);
    assert_eq!(weight, 0);
    assert!(why.as_deref().is_some_and(|why| why.contains("`failure_rate`")), "{why:?}");
    assert_eq!(counter(&gate, "canaries_back"), 1);
    assert_eq!(new.seen("tools/call").len(), 5, "the fifth was the last");
    gate.edit(|toml| toml.replace("upstreams = [\"*\"]", "upstreams = [\"*\"]\npage_size = 50"));
    eventually("the edit of another section", || (counter(&gate, "reloads") == 1).then_some(()))
        .await;
    assert_eq!(who(&client.call("write").await), "old");
    assert_eq!(state(&gate).0, 0);
    gate.edit(|toml| toml.replace("weight = 100", "weight = 99"));
    eventually("the edit", || (state(&gate) == (99, None)).then_some(())).await;
    assert_eq!(degraded(), "");
}

#[tokio::test]
async fn a_successor_that_is_slow_is_taken_back() {
    let (old, new) = (server("old"), server("new"));
    let keys = "canary = { upstream = \"jobs_v2\", weight = 100, back = { slow = \"1ms\", \
                slow_rate = 0.0, calls_min = 3 } }";
    let gate = between(&old, &new, keys).await;
    let client = gate.modern();
    let calling = async {
        while state(&gate).0 != 0 {
            client.call("write").await;
        }
    };
    soon("a call that takes a millisecond", calling).await;
    assert!(state(&gate).1.is_some_and(|why| why.contains("`slow_rate`")));
}

#[tokio::test]
async fn what_only_the_old_one_has_stays_there_and_so_does_all_while_the_new_one_is_away() {
    let (old, new) = (server("old").tool("older"), server("new"));
    let gate = between(&old, &new, &canary(100)).await;
    let client = gate.modern();
    assert_eq!(who(&client.call("older").await), "older ran");
    assert_eq!(who(&client.call("write").await), "new");
    new.dies();
    for _ in 0..10 {
        assert_eq!(who(&client.call("write").await), "old");
    }
    assert!(10 <= counter(&gate, "canary_fallbacks"));
}

#[tokio::test]
async fn a_shadow_is_compared_and_counted_and_its_answer_is_nobodys() {
    let (old, new) = (server("old"), server("old"));
    let keys = "shadow = { upstream = \"jobs_v2\", in_flight_max = 2 }";
    let gate = between(&old, &new, keys).await;
    let client = gate.modern();
    let compared = |count: usize| {
        let new = new.clone();
        eventually("it was asked too", move || {
            (new.seen("tools/call").len() == count).then_some(())
        })
    };
    assert_eq!(who(&client.call("read").await), "old");
    assert_eq!(who(&client.call("write").await), "old");
    compared(1).await;
    new.becomes("read", Act::Result(r#"{"content":[{"type":"text","text":"new"}]}"#.to_owned()));
    assert_eq!(who(&client.call("read").await), "old");
    eventually("it is counted", || (counter(&gate, "shadow_mismatches") == 1).then_some(())).await;
    assert_eq!((counter(&gate, "shadow_calls"), new.seen("tools/call").len()), (2, 2));
    new.becomes("read", Act::Hang);
    for _ in 0..10 {
        assert_eq!(who(&client.call("read").await), "old");
    }
    assert_eq!((counter(&gate, "shadow_calls"), counter(&gate, "shadow_skipped")), (4, 8));
    assert_eq!(counter(&gate, "shadow_mismatches"), 1);
    assert!(new.seen("tools/call").iter().all(|seen| seen.message().params()["name"] == "read"));
}
