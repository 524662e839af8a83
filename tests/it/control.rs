//! What judges and protects calls, all at once: an ill upstream hurts no other, and an edit of any
//! section costs no call under way.
#![allow(clippy::print_stdout, reason = "latencies are shown, not judged: machines differ")]

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    auth::{Issuer, Signer, changed},
    client::Endpoint,
    eventually,
    fake::{self, Act},
    gate::{self, gateway, section},
    soon,
};

const CALLERS: usize = 16;
const CALLS: usize = 20;
/// Between two calls of one that is failed.
const PACE: Duration = Duration::from_millis(20);

/// Calls of all callers at once; how long each took, sorted.
async fn load(endpoint: &Endpoint, tool: &str) -> Vec<Duration> {
    let callers = (0..CALLERS).map(|_| {
        let (client, tool) = (endpoint.modern(), tool.to_owned());
        async move {
            let mut all = Vec::new();
            for _ in 0..CALLS {
                let begin = Instant::now();
                let result = client.call(&tool).await;
                assert_eq!(result["content"][0]["text"], format!("{tool} ran"));
                all.push(begin.elapsed());
            }
            all
        }
    });
    let mut all = join_all(callers).await.concat();
    all.sort();
    all
}

fn told(all: &[Duration]) -> String {
    let at = |part: usize| all[all.len() * part / 100];
    format!("p50 {:?}, p99 {:?}", at(50), at(99))
}

#[tokio::test]
async fn ill_upstreams_hurt_no_other() {
    let (well, hangs, flaps) =
        (fake::http().tool("log"), fake::http().tool("wait").hang(), fake::http().tool("flap"));
    let half = fake::http().tool("good").tool("bad").does(Act::Status(500));
    let breaker = |open: &str| {
        format!("breaker = {{ window = 10, failure_rate = 0.5, open = \"{open}\" }}\n")
    };
    let gate = gateway()
        .server("admin = \"127.0.0.1:0\"")
        .upstream("well", &well)
        .upstream_with("half", &half, &breaker("1h"))
        .upstream_with("hangs", &hangs, &(breaker("1h") + "timeout = { idle = \"300ms\" }\n"))
        .upstream_with("flaps", &flaps, &breaker("100ms"))
        .start()
        .await;
    let before = load(&gate, "log").await;

    let ended = Arc::new(AtomicBool::new(false));
    let ill = ["good", "bad", "wait", "wait", "flap", "flap"].map(|tool| {
        let (client, ended) = (gate.modern(), Arc::clone(&ended));
        tokio::spawn(async move {
            while !ended.load(Ordering::Relaxed) {
                client.call(tool).await;
                // Once it is refused at once, a caller would only burn the core.
                tokio::time::sleep(PACE).await;
            }
        })
    });
    let turns = {
        let (flaps, ended) = (flaps.clone(), Arc::clone(&ended));
        tokio::spawn(async move {
            while !ended.load(Ordering::Relaxed) {
                flaps.goes_down();
                tokio::time::sleep(Duration::from_millis(50)).await;
                flaps.comes_back();
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
    };
    let opened = |name: &str| {
        let report = gate.app().viewer().report();
        let one = report.upstreams.into_iter().find(|one| one.name == name).unwrap();
        (0 < one.breaker_opened).then_some(())
    };
    for name in ["half", "hangs", "flaps"] {
        eventually("its breaker opens", || opened(name)).await;
    }
    let during = load(&gate, "log").await;
    ended.store(true, Ordering::Relaxed);
    for task in ill.into_iter().chain([turns]) {
        soon("an ill upstream's caller", task).await.unwrap();
    }
    println!("alone: {}; beside three ill ones: {}", told(&before), told(&during));

    let text = crate::admin::get(&gate, "/metrics").await.1;
    for line in [
        "tollgate_breaker{upstream=\"well\",tool=\"\",state=\"closed\"} 1",
        "tollgate_breaker{upstream=\"half\",tool=\"\",state=\"open\"} 1",
        "tollgate_breaker{upstream=\"hangs\",tool=\"\",state=\"open\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }
    assert_eq!(well.seen("tools/call").len(), 2 * CALLERS * CALLS);
    // A server that is whole again is used again.
    flaps.comes_back();
    let again = tokio::time::timeout(Duration::from_secs(10), async {
        while gate.modern().call("flap").await["content"][0]["text"] != "flap ran" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    again.await.expect("its breaker closes");
}

#[tokio::test]
async fn an_edit_of_any_section_costs_no_call_and_no_bucket() {
    let signer = Signer::elliptic("e1");
    let issuer = Issuer::start(&[&signer]).await;
    let (git, next) = (fake::http().tool("log").tool("scarce"), fake::http().tool("log"));
    let successor = section("next", &next.section());
    let text = format!(
        "[server]\nlimits.drain = \"2s\"\n[routes.\"/mcp\"]\nupstreams = [\"git\"]\nauth = \
         [\"corp\"]\n#route\n[auth.corp]\nkind = \"jwt\"\nissuer = \"{}\"\naudience = [\"gate\"]\n\
         #auth\n[upstreams.git]\n{}tools.scarce.limits = [{{ rate = \"1/h\" }}]\n#upstream\n{successor}",
        issuer.url,
        git.section(),
    );
    let gate = gate::of(&text).await;
    gate.settled().await;
    let token = signer.sign(&changed(&issuer.claims(), "aud", json!("gate")));
    let endpoint = gate.with_token(&token);
    assert_eq!(endpoint.modern().call("scarce").await["content"][0]["text"], "scarce ran");

    let (ended, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut callers = Vec::new();
    for at in 0..4 {
        let client = match at % 2 {
            0 => endpoint.modern(),
            _ => endpoint.legacy("2025-11-25").await,
        };
        let (ended, count) = (Arc::clone(&ended), Arc::clone(&count));
        callers.push(tokio::spawn(async move {
            while !ended.load(Ordering::Relaxed) {
                let result: Value = client.call("log").await;
                assert_eq!(result["content"][0]["text"], "log ran");
                count.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    fs::write(gate.folder.path().join("all.cedar"), "permit(principal, action, resource);")
        .unwrap();
    let reloads = || gate.app().viewer().report().counters["reloads"];
    for (mark, keys) in [
        ("#auth", "leeway = \"20s\""),
        ("#route", "policy = [\"all.cedar\"]"),
        ("#route", "limits = [{ rate = \"100000/s\" }]"),
        (
            "#route",
            "guard.detect = [{ find = [\"secrets\"], in = [\"arguments\"], then = \"block\" }]",
        ),
        ("#upstream", "limits = [{ per = [\"caller\"], budget = \"1000000/day\" }]"),
        ("#upstream", "breaker = { failure_rate = 0.5 }"),
        ("#upstream", "retry = { attempts = 2 }"),
        ("#upstream", "canary = { upstream = \"next\", weight = 50 }"),
        ("#upstream", "tools.log.cache = { ttl = \"1h\", even_if_writing = true }"),
    ] {
        let (before, called) = (reloads(), count.load(Ordering::Relaxed));
        gate.edit(|toml| toml.replace(mark, &format!("{keys}\n{mark}")));
        eventually(keys, || (before < reloads()).then_some(())).await;
        let goes_on = || (called + 8 < count.load(Ordering::Relaxed)).then_some(());
        eventually("calls go on", goes_on).await;
    }
    ended.store(true, Ordering::Relaxed);
    for caller in callers {
        soon("a caller", caller).await.expect("no call fails");
    }
    let result = endpoint.modern().call("scarce").await;
    assert_eq!(result["structuredContent"]["error"], "rate_limited", "no edit filled it: {result}");
}
