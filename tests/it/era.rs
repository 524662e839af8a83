//! Which era a server speaks is found out, whatever it does when it is asked, and remembered.

use std::{fs, time::Duration};

use serde_json::{Value, json};

use crate::{
    eventually,
    fake::{self, Act, Fake, MODERN},
    gate::{Gate, gateway},
};

const LEGACY: &str = "2025-06-18";
const DISCOVER: &str = "server/discover";

fn refuses(code: i64) -> Act {
    Act::Error(json!({ "code": code, "message": "no" }).to_string())
}

/// What a process of a legacy server may do with a request before `initialize`.
fn deaths() -> Vec<Act> {
    vec![
        Act::Exits(0),
        Act::Exits(1),
        Act::IsKilled,
        Act::Raises,
        Act::ClosesOutput,
        Act::IsDoomed,
        Act::ClosesMidway,
        Act::Stalls,
        Act::Hang,
        Act::Garbage,
        Act::Result("{}".into()),
        Act::Result("null".into()),
        refuses(-32601),
        refuses(-32602),
        refuses(-32600),
        refuses(-32000),
        refuses(0),
    ]
}

/// The same over HTTP, also of what stands before a server.
fn refusals() -> Vec<Act> {
    let statuses = [400, 403, 404, 405, 406, 415, 422, 429, 500, 501, 502, 504].map(Act::Status);
    let others = [
        Act::Busy(503, 1),
        Act::Drops,
        Act::ClosesMidway,
        Act::Hang,
        Act::Garbage,
        Act::Result("{}".into()),
        refuses(-32601),
        refuses(-32602),
        refuses(-32000),
        refuses(-32603),
    ];
    statuses.into_iter().chain(others).collect()
}

/// One gate before a legacy server for each act, each with a tool of its own.
async fn before(server: fn(&str) -> Fake, acts: Vec<Act>) -> (Gate, Vec<Fake>) {
    let servers: Vec<_> = acts
        .into_iter()
        .enumerate()
        .map(|(at, act)| server(LEGACY).tool(&format!("t{at}")).on(DISCOVER, act))
        .collect();
    let plan = servers.iter().enumerate().fold(gateway(), |plan, (at, server)| {
        plan.upstream_with(&format!("u{at}"), server, "timeout.open = \"3s\"")
    });
    (plan.open().await, servers)
}

async fn serves_all(gate: &Gate, count: usize) {
    let client = gate.modern();
    let waiting = async {
        for at in 0..count {
            let tool = format!("t{at}");
            loop {
                let answer = client.ask("tools/call", json!({ "name": tool })).await;
                let text = answer.result.as_ref().map(|_| answer.result()).unwrap_or(Value::Null);
                if text["content"][0]["text"] == format!("{tool} ran") {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    let served = tokio::time::timeout(crate::PATIENCE * 4, waiting).await;
    served.expect("every server is opened as a legacy one");
}

async fn is_opened_and_remembered(server: fn(&str) -> Fake, acts: Vec<Act>) {
    let (mut gate, servers) = before(server, acts).await;
    serves_all(&gate, servers.len()).await;
    let probes = || servers.iter().map(|server| server.seen(DISCOVER).len()).collect::<Vec<_>>();
    let once = probes();
    assert!(once.iter().all(|count| 1 <= *count), "each was asked: {once:?}");
    gate.restarts().await;
    serves_all(&gate, servers.len()).await;
    assert_eq!(probes(), once, "no server is asked again by another run of the gate");
}

#[tokio::test]
async fn a_process_that_does_not_survive_the_probe_is_opened_all_the_same() {
    is_opened_and_remembered(fake::stdio, deaths()).await;
}

#[tokio::test]
async fn a_server_over_http_that_refuses_the_probe_is_opened_all_the_same() {
    is_opened_and_remembered(fake::legacy, refusals()).await;
}

#[tokio::test]
async fn a_process_that_dies_of_the_probe_is_started_once_more_at_once() {
    let git = fake::stdio(LEGACY).tool("log").on(DISCOVER, Act::Exits(1));
    let slow = "restart = { delay = \"1h\", delay_max = \"1h\" }";
    let gate = gateway().upstream_with("git", &git, slow).start().await;
    assert_eq!(gate.modern().tools().await, ["log"]);
    let report = gate.app().viewer().report();
    let (restarts, counted) = (report.upstreams[0].restarts, report.counters["legacy_fallbacks"]);
    assert_eq!((restarts, counted), (0, 1), "no failure of its own");
}

#[tokio::test]
async fn whoever_wants_a_login_is_not_taken_for_a_legacy_server() {
    let git = fake::legacy(LEGACY).tool("log");
    git.wants_token("secret");
    let gate = gateway().upstream("git", &git).start().await;
    let error = gate.app().viewer().report().upstreams[0].last_error.clone().unwrap();
    assert!(error.contains("401"), "{error}");
    assert!(git.seen("initialize").is_empty());
}

/// What the configuration says of the era, over both transports, with servers of all versions: what
/// it rules out is neither tried nor opened.
#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_may_say_which_era_is_spoken() {
    let versions = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", MODERN];
    let mut rows = Vec::new();
    for era in ["auto", "legacy", "modern"] {
        let over_http = versions.iter().map(|version| match *version {
            MODERN => (era, MODERN, fake::http()),
            legacy => (era, legacy, fake::legacy(legacy)),
        });
        rows.extend(over_http);
        rows.extend([LEGACY, MODERN].map(|version| (era, version, fake::stdio(version))));
    }
    let plan = rows.iter().enumerate().fold(gateway(), |plan, (at, (era, _, server))| {
        let server = server.clone().tool("log");
        let plan = plan.upstream_with(&format!("u{at}"), &server, &format!("era = \"{era}\""));
        plan.route(&format!("/{at}"), &format!("upstreams = [\"u{at}\"]"))
    });
    let gate = plan.start().await;
    for (at, (era, version, server)) in rows.iter().enumerate() {
        let endpoint = gate.at(&format!("/{at}"));
        let row = format!("{at}: {era} with {version}");
        let is_modern = *version == MODERN;
        if *era == "auto" || (*era == "modern") == is_modern {
            let elicits = json!({ "elicitation": {} });
            for client in [endpoint.modern(), endpoint.legacy_with(LEGACY, elicits).await] {
                assert_eq!(client.call("log").await["content"][0]["text"], "log ran", "{row}");
            }
        } else {
            let report = gate.app().viewer().report();
            let found = report.upstreams.iter().find(|one| one.name == format!("u{at}")).unwrap();
            assert_ne!(found.state.word(), "ready", "{row}");
            let error = found.last_error.clone().unwrap();
            assert!(is_modern || error.contains("`era`"), "{row}: {error}");
        }
        assert_eq!(server.seen(DISCOVER).is_empty(), *era == "legacy", "{row}");
        // A server that may speak both is asked for a legacy client's own session.
        let initialized = !server.seen("initialize").is_empty();
        assert!(initialized == (*era != "modern") || *era == "auto" && is_modern, "{row}");
    }
}

/// A server that is another one by now, at the same address or by the same command.
#[tokio::test]
async fn a_server_of_the_other_era_in_its_place_is_opened() {
    let replaced: [(&str, &str, Option<Act>); 6] = [
        (LEGACY, MODERN, None),
        (MODERN, LEGACY, None),
        (LEGACY, LEGACY, Some(Act::Exits(1))),
        (MODERN, LEGACY, Some(Act::Exits(1))),
        (MODERN, LEGACY, Some(Act::IsDoomed)),
        (MODERN, "2024-11-05", Some(Act::ClosesOutput)),
    ];
    let scene = async |before: &str, after: &str, act: Option<Act>, over_http: bool| {
        let server = match over_http {
            true if before == MODERN => fake::http(),
            true => fake::legacy(before),
            false => fake::stdio(before),
        };
        let act = if over_http { act.map(|_| Act::Drops) } else { act };
        let git = server.tool("log");
        let mut gate = gateway().upstream_with("git", &git, "timeout.open = \"4s\"").start().await;
        gate.modern().call("log").await;
        git.is_replaced_by(after, act);
        gate.restarts().await;
        let wanted = after.to_owned();
        let speaks = || {
            let era = gate.app().viewer().report().upstreams[0].era.clone()?;
            era.contains(&wanted).then_some(())
        };
        eventually(&format!("{before} is opened as {after}"), speaks).await;
        assert_eq!(gate.modern().call("log").await["content"][0]["text"], "log ran");
    };
    let all = replaced.iter().flat_map(|(before, after, act)| {
        [true, false].map(|over_http| scene(before, after, act.clone(), over_http))
    });
    futures_util::future::join_all(all).await;
}

#[tokio::test]
async fn a_failure_that_says_nothing_of_the_era_leaves_it_known() {
    let git = fake::stdio(LEGACY).tool("log").on(DISCOVER, Act::Exits(1));
    let gate = gateway().upstream("git", &git).start().await;
    let client = gate.modern();
    for round in 0..3 {
        let lives =
            |pid: &i32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|it| !it.is_empty());
        let before = git.pids();
        before.iter().copied().filter(lives).for_each(crate::kill);
        let again = || (before.len() < git.pids().len()).then_some(());
        eventually("it is started again", again).await;
        let served = async {
            while client.call("log").await["content"][0]["text"] != "log ran" {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        crate::soon("it serves", served).await;
        assert_eq!(git.seen(DISCOVER).len(), 1, "asked once, before {round} deaths");
    }
}

/// What was inferred is asked again after SIGHUP, though nothing of the section was edited.
#[tokio::test]
async fn a_reload_has_what_was_inferred_asked_again() {
    let reloads = async |act: Act, after: Option<&str>| {
        let git = fake::stdio(LEGACY).tool("log").on(DISCOVER, act.clone());
        let gate = gateway().upstream_with("git", &git, "timeout.open = \"6s\"").start().await;
        gate.modern().call("log").await;
        assert_eq!(git.seen(DISCOVER).len(), 1);
        if let Some(after) = after {
            git.is_replaced_by(after, None);
        }
        gate.app().reload();
        let before = git.pids();
        assert_eq!(gate.modern().call("log").await["content"][0]["text"], "log ran");
        assert_eq!(git.pids(), before, "no process ends for that");
        let lives =
            |pid: &i32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|it| !it.is_empty());
        before.into_iter().filter(lives).for_each(crate::kill);
        let asked = || (2 <= git.seen(DISCOVER).len()).then_some(());
        eventually("it is asked again", asked).await;
        let wanted = after.unwrap_or(LEGACY);
        let speaks = || {
            let era = gate.app().viewer().report().upstreams[0].era.clone()?;
            era.contains(wanted).then_some(())
        };
        eventually("it is open", speaks).await;
    };
    let acts = [Act::Exits(0), Act::Exits(1), Act::IsKilled, Act::Raises];
    let all = acts.iter().flat_map(|act| {
        [None, Some(MODERN), Some("2025-11-25")].map(|after| reloads(act.clone(), after))
    });
    futures_util::future::join_all(all).await;
}

/// What is remembered is small, its owner's alone, and never a reason to fail.
#[tokio::test]
async fn a_damaged_memory_costs_nothing() {
    use std::os::unix::fs::PermissionsExt as _;
    let git = fake::stdio(LEGACY).tool("log").on(DISCOVER, Act::Exits(1));
    let mut gate = gateway().upstream("git", &git).start().await;
    let file = gate.folder.path().join("state/era-git.json");
    let metadata = fs::metadata(&file).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert!(metadata.len() < 1_000);
    let whole = fs::read(&file).unwrap();
    let damages: [&[u8]; 8] =
        [b"", b"{", b"null", b"[]", b"\xff\xfe", &whole[..whole.len() / 2], b"{\"x\":1}", &[0; 99]];
    for damage in damages {
        gate.stops().await;
        fs::write(&file, damage).unwrap();
        gate.restarts().await;
        gate.settled().await;
        assert_eq!(gate.modern().call("log").await["content"][0]["text"], "log ran", "{damage:?}");
        assert_eq!(fs::read(&file).unwrap().len(), whole.len(), "written anew");
    }
}

/// `initialize` goes behind the probe that was not read yet: the answer to that counts all the
/// same.
#[tokio::test]
async fn a_modern_process_that_starts_late_is_a_modern_one() {
    let late = [0, 1_500, 3_200, 3_600, 4_000];
    let all = late.map(|ms| async move {
        let git = fake::stdio(MODERN).tool("log").starts_after(ms);
        let gate = gateway().upstream_with("git", &git, "timeout.open = \"6s\"").start().await;
        assert_eq!(gate.modern().tools().await, ["log"], "{ms}");
        assert_eq!(git.pids().len(), 1, "{ms}: the first process");
        let report = gate.app().viewer().report();
        assert_eq!(report.upstreams[0].era.as_deref(), Some(MODERN), "{ms}");
        let cancelled = git.seen("notifications/cancelled").len();
        assert_eq!(cancelled, 0, "no handshake is cancelled");
    });
    futures_util::future::join_all(all).await;
}

/// The refusal of `initialize` may even be there first.
#[tokio::test]
async fn a_late_answer_to_the_probe_counts_whatever_is_said_to_initialize() {
    let refusals = [-32601, -32022, -32000, -32602, -32600];
    let scene = async |code: i64, over_http: bool| {
        let server = if over_http { fake::http() } else { fake::stdio(MODERN) };
        let git =
            server.tool("log").on(DISCOVER, Act::Later(4_400)).on("initialize", refuses(code));
        // The probe is waited for half of it, and then besides.
        let gate = gateway().upstream_with("git", &git, "timeout.open = \"8s\"").start().await;
        let report = gate.app().viewer().report();
        assert_eq!(report.upstreams[0].era.as_deref(), Some(MODERN), "{code} {over_http}");
        assert_eq!(git.seen("initialize").len(), 1, "{code}: both were asked");
    };
    let all = refusals.iter().flat_map(|code| [scene(*code, true), scene(*code, false)]);
    futures_util::future::join_all(all).await;
}

/// As `npx` that first downloads what it is to run, and prints that it does.
#[tokio::test]
async fn a_process_that_lives_and_says_nothing_is_waited_for_longer_with_each_try() {
    let all = [LEGACY, MODERN].map(|version| async move {
        let git = fake::stdio(version).tool("log").starts_after(2_400);
        let gate = gateway().upstream_with("git", &git, "timeout.open = \"1s\"").open().await;
        let told = || {
            let error = gate.app().viewer().report().upstreams[0].last_error.clone()?;
            error.contains("2s the next time").then_some(())
        };
        eventually("the next deadline is told", told).await;
        let open = || gate.app().viewer().report().upstreams[0].era.clone();
        let era = eventually("it is open", open).await;
        assert!(era.contains(version), "{era}");
        assert!(git.pids().len() <= 4, "1 s, 2 s, 4 s, and what only some clients are shown");
    });
    futures_util::future::join_all(all).await;
}

#[tokio::test]
async fn a_process_that_speaks_and_is_wrong_is_not_waited_for_longer() {
    let wrong = [
        fake::stdio(LEGACY).on("initialize", Act::Hang),
        fake::stdio(LEGACY).on(DISCOVER, refuses(-32602)).on("initialize", Act::Stalls),
        fake::stdio(LEGACY).on(DISCOVER, Act::Hang).on("initialize", Act::Garbage).does(Act::Hang),
    ];
    let all = wrong.map(|git| async move {
        let gate = gateway().upstream_with("git", &git, "timeout.open = \"1500ms\"").open().await;
        let tried = || (1 < gate.app().viewer().report().upstreams[0].restarts).then_some(());
        eventually("it is tried twice", tried).await;
        let error = gate.app().viewer().report().upstreams[0].last_error.clone().unwrap();
        assert!(!error.contains("next time"), "{error}");
    });
    futures_util::future::join_all(all).await;
}
