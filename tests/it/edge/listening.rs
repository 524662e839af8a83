//! Streams to servers for sessions of legacy clients: open while somebody may need them.

use std::process::Stdio;

use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

use super::{counter, pause};
use crate::{
    client::{Client, Endpoint, endpoint},
    eventually,
    fake::{self, Fake},
    gate::{Gate, gateway},
    soon,
};

/// A gate before a legacy server, with the streams that are open there for nobody in particular.
async fn gate_with(keys: &str) -> (Fake, Gate, usize) {
    let git = fake::legacy("2025-06-18").tool("log").tool("slow").hang();
    let gate = gateway().upstream_with("git", &git, keys).start().await;
    listens(&git, 1).await;
    (git, gate, 1)
}

/// A client of the caller at this address.
fn client_at(gate: &Gate, last: u8) -> Client {
    Endpoint { from: [127, 0, 0, last].into(), ..(**gate).clone() }.modern()
}

async fn listens(git: &Fake, count: usize) {
    eventually(&format!("{count} are open"), || (git.listeners() == count).then_some(())).await;
}

#[tokio::test]
async fn a_stream_is_open_while_somebody_may_need_it() {
    let (git, gate, shared) = gate_with("listen_after = \"300ms\"").await;
    let client = gate.legacy("2025-06-18").await;
    client.call("log").await;
    assert_eq!(git.listeners(), shared + 1, "something may follow a call");
    listens(&git, shared).await;
    {
        let slow = client.start("tools/call", json!({ "name": "slow" }));
        tokio::pin!(slow);
        tokio::select! {
            _ = &mut slow => panic!("it hangs"),
            () = listens(&git, shared + 1) => (),
        }
        tokio::select! {
            _ = &mut slow => panic!("it hangs"),
            () = pause(700) => (),
        }
        assert_eq!(git.listeners(), shared + 1, "a call is under way");
    }
    // A legacy client that goes away has cancelled nothing: the call goes on without it.
    let other = gate.legacy("2025-06-18").await;
    let listening = other.get(&[]).await;
    other.call("log").await;
    pause(700).await;
    assert_eq!(git.listeners(), shared + 2, "the client listens itself");
    drop(listening);
    listens(&git, shared + 1).await;
    let listening = other.get(&[]).await;
    listens(&git, shared + 2).await;
    drop(listening);
}

/// Many sessions of one call each: what lingers is bounded.
#[tokio::test]
async fn those_that_linger_are_bounded() {
    let (git, gate, shared) = gate_with("listen_after = \"1h\"\nlistens_max = 3").await;
    for _ in 0..12 {
        assert_eq!(
            gate.legacy("2025-06-18").await.call("log").await["content"][0]["text"],
            "log ran"
        );
    }
    listens(&git, shared + 3).await;
}

/// The same of callers whose clients have no session, alone and among legacy sessions.
#[tokio::test]
async fn streams_of_callers_are_bounded_with_those_of_sessions() {
    for (max, callers, sessions) in [
        (1, 1, 0),
        (1, 2, 0),
        (1, 6, 0),
        (2, 5, 0),
        (3, 3, 0),
        (3, 4, 0),
        (4, 9, 0),
        (1, 2, 2),
        (2, 3, 3),
        (5, 4, 4),
        (5, 2, 1),
        (6, 0, 7),
    ] {
        let keys = format!("listen_after = \"1h\"\nlistens_max = {max}");
        let (git, gate, shared) = gate_with(&keys).await;
        for caller in 0..callers {
            let result = client_at(&gate, 10 + caller).call("log").await;
            assert_eq!(result["content"][0]["text"], "log ran");
            // On the same session: it takes no place of its own.
            client_at(&gate, 10 + caller).call("log").await;
        }
        for _ in 0..sessions {
            gate.legacy("2025-06-18").await.call("log").await;
        }
        let lingering = usize::from(callers + sessions).min(max);
        listens(&git, shared + lingering).await;
        // Those that were closed are opened again by the next call.
        for caller in 0..callers {
            let result = client_at(&gate, 10 + caller).call("log").await;
            assert_eq!(result["content"][0]["text"], "log ran", "{max}, {callers}, {sessions}");
        }
        listens(&git, shared + lingering).await;
    }
}

/// A caller's stream is open while a call is under way, and for a moment after the last one.
#[tokio::test]
async fn a_callers_stream_is_open_while_somebody_may_need_it() {
    let (git, gate, shared) = gate_with("listen_after = \"300ms\"").await;
    for caller in 10..20 {
        client_at(&gate, caller).call("log").await;
    }
    listens(&git, shared).await;
    let slow = client_at(&gate, 10);
    let slow = slow.start("tools/call", json!({ "name": "slow" }));
    tokio::pin!(slow);
    tokio::select! {
        _ = &mut slow => panic!("it hangs"),
        () = listens(&git, shared + 1) => (),
    }
    tokio::select! {
        _ = &mut slow => panic!("it hangs"),
        () = pause(700) => (),
    }
    assert_eq!(git.listeners(), shared + 1, "a call is under way");
}

/// Sessions at the server are bounded, too; those that made room open another one.
#[tokio::test]
async fn sessions_upstream_are_bounded() {
    let (git, gate, _) = gate_with("client_sessions_max = 3").await;
    let before = git.seen("initialize").len();
    let mut clients = Vec::new();
    for _ in 0..8 {
        let client = gate.legacy("2025-06-18").await;
        client.call("log").await;
        clients.push(client);
    }
    assert_eq!(counter(&gate, "upstream_sessions_evicted"), 5);
    let ended = || git.all().iter().filter(|seen| seen.verb == hyper::Method::DELETE).count();
    eventually("the server is told", || (5 <= ended()).then_some(())).await;
    for client in &clients {
        assert_eq!(client.call("log").await["content"][0]["text"], "log ran");
    }
    assert!(before + 13 <= git.seen("initialize").len());
}

/// Few descriptors, and no more to be had: many sessions of one call each are all served, and so is
/// whoever comes after them.
#[tokio::test]
async fn few_descriptors_serve_many_sessions() {
    let git = fake::legacy("2025-06-18").tool("log");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("routes.toml");
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[routes.\"/mcp\"]\nupstreams = [\"git\"]\n\
         [upstreams.git]\n{}",
        git.section()
    );
    std::fs::write(&file, text).unwrap();
    let mut gate = Command::new("sh")
        .args(["-c", "ulimit -n 256; exec \"$0\" --config \"$1\" run"])
        .arg(env!("CARGO_BIN_EXE_tollgate"))
        .arg(&file)
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(gate.stderr.take().unwrap()).lines();
    let mut warned = false;
    let address = loop {
        let line = soon("the gate", lines.next_line()).await.unwrap().unwrap();
        warned |= line.contains("LimitNOFILE");
        if let Some((_, address)) = line.split_once("serves on http://") {
            break address.trim().parse().unwrap();
        }
    };
    assert!(warned, "it says that there are too few");
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    let endpoint = endpoint(address, "/mcp");
    let mut sessions = Vec::new();
    for number in 0..400 {
        let client = endpoint.legacy("2025-06-18").await;
        let result = client.call("log").await;
        assert_eq!(result["content"][0]["text"], "log ran", "session {number}");
        sessions.push(client);
    }
    assert_eq!(endpoint.modern().call("log").await["content"][0]["text"], "log ran");
    gate.start_kill().unwrap();
    soon("its end", gate.wait()).await.unwrap();
}
