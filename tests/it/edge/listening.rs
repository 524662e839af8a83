//! Streams to servers for sessions of legacy clients: open while somebody may need them.

use std::{net::SocketAddr, process::Stdio};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
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

/// The gate as a process of its own.
struct Binary {
    process: Child,
    address: SocketAddr,
    /// What it said until it served.
    said: Vec<String>,
    _folder: TempDir,
}

impl Binary {
    /// Starts it with these sections, after the shell has set these limits.
    async fn start(limits: &str, sections: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("routes.toml");
        std::fs::write(&file, format!("[server]\nlisten = \"127.0.0.1:0\"\n{sections}")).unwrap();
        let mut process = Command::new("sh")
            .args(["-c", &format!("{limits}; exec \"$0\" --config \"$1\" run")])
            .arg(env!("CARGO_BIN_EXE_tollgate"))
            .arg(&file)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        let address = loop {
            let line = soon("the gate", lines.next_line()).await.unwrap().unwrap();
            if let Some((_, address)) = line.split_once("serves on http://") {
                break address.trim().parse().unwrap();
            }
            said.push(line);
        };
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { process, address, said, _folder: folder }
    }

    fn id(&self) -> Pid {
        Pid::from_raw(self.process.id().unwrap().cast_signed()).unwrap()
    }

    fn endpoint(&self) -> Endpoint {
        endpoint(self.address, "/mcp")
    }

    /// Its descriptors, once nothing changes any more.
    async fn descriptors(&self) -> Vec<u64> {
        let folder = format!("/proc/{}/fd", self.id().as_raw_pid());
        let look = || -> Vec<u64> {
            let open = std::fs::read_dir(&folder).unwrap().flatten();
            let mut open: Vec<u64> =
                open.filter_map(|one| one.file_name().to_str()?.parse().ok()).collect();
            open.sort_unstable();
            open
        };
        let mut before = look();
        loop {
            pause(200).await;
            let now = look();
            if now == before {
                return now;
            }
            before = now;
        }
    }

    /// Bounds its descriptors to those that it has; gives how many numbers below are free.
    async fn has_no_more(&self) -> usize {
        let open = self.descriptors().await;
        let bound = 1 + open.last().unwrap();
        self.may_have(bound);
        usize::try_from(bound).unwrap() - open.len()
    }

    fn may_have(&self, descriptors: u64) {
        let Rlimit { maximum, .. } = prlimit_of(self.id());
        let bounds = Rlimit { current: Some(descriptors), maximum };
        prlimit(Some(self.id()), Resource::Nofile, bounds).unwrap();
    }

    async fn ends(mut self) {
        self.process.start_kill().unwrap();
        soon("its end", self.process.wait()).await.unwrap();
    }
}

/// Few descriptors, and no more to be had: many sessions of one call each are all served, and so is
/// whoever comes after them.
#[tokio::test]
async fn few_descriptors_serve_many_sessions() {
    let git = fake::legacy("2025-06-18").tool("log");
    let route = "[routes.\"/mcp\"]\nupstreams = [\"git\"]\n[upstreams.git]\n";
    let gate = Binary::start("ulimit -n 256", &format!("{route}{}", git.section())).await;
    let warned = gate.said.iter().any(|line| line.contains("LimitNOFILE"));
    assert!(warned, "it says that there are too few: {:?}", gate.said);
    let endpoint = gate.endpoint();
    let mut sessions = Vec::new();
    for number in 0..400 {
        let client = endpoint.legacy("2025-06-18").await;
        let result = client.call("log").await;
        assert_eq!(result["content"][0]["text"], "log ran", "session {number}");
        sessions.push(client);
    }
    assert_eq!(endpoint.modern().call("log").await["content"][0]["text"], "log ran");
    gate.ends().await;
}

/// The gate takes as many descriptors as it may have, and its children find what it found.
#[tokio::test]
async fn the_soft_limit_is_raised_for_the_gate_and_not_for_its_children() {
    let rows = [
        ("ulimit -Sn 200", 200, None),
        ("ulimit -Sn 256", 256, None),
        ("ulimit -Sn 1024", 1024, None),
        ("ulimit -Sn 1024; ulimit -Hn 4096", 1024, Some(4096)),
        ("ulimit -Sn 4096; ulimit -Hn 4096", 4096, Some(4096)),
        ("ulimit -Sn 1024; ulimit -Hn 1024", 1024, Some(1024)),
        ("ulimit -Sn 999; ulimit -Hn 1024", 999, Some(1024)),
        ("ulimit -Sn 256; ulimit -Hn 512", 256, Some(512)),
        ("ulimit -Sn 511; ulimit -Hn 512", 511, Some(512)),
        ("ulimit -n 300", 300, Some(300)),
    ];
    let own = getrlimit(Resource::Nofile).maximum;
    let each = rows.into_iter().map(|(limits, soft, hard)| async move {
        let folder = tempfile::tempdir().unwrap();
        let told = folder.path().join("told");
        let script = format!("ulimit -Sn >{0}.new; mv {0}.new {0}; exec cat", told.display());
        let upstream = format!("command = \"sh\"\nargs = [\"-c\", {script:?}]\n");
        let sections = format!(
            "limits.connections_max = 1_000\n[routes.\"/mcp\"]\nupstreams = [\"sh\"]\n\
             [upstreams.sh]\n{upstream}"
        );
        let gate = Binary::start(limits, &sections).await;
        let Rlimit { current, maximum } = prlimit_of(gate.id());
        assert_eq!((current, maximum), (hard.or(own), hard.or(own)), "{limits}");
        let warned = gate.said.iter().any(|line| line.contains("LimitNOFILE"));
        assert_eq!(warned, hard.is_some_and(|hard| hard < 1_088), "{limits}: {:?}", gate.said);
        let child = || std::fs::read_to_string(&told).ok();
        let child = eventually("the child says what it may have", child).await;
        assert_eq!(child.trim(), soft.to_string(), "{limits}");
        gate.ends().await;
    });
    futures_util::future::join_all(each).await;
}

/// The bounds on open files of another process.
fn prlimit_of(process: Pid) -> Rlimit {
    let file = format!("/proc/{}/limits", process.as_raw_pid());
    let text = std::fs::read_to_string(file).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let mut words = line.split_whitespace().map(|word| word.parse().ok());
    Rlimit { current: words.next().unwrap(), maximum: words.next().unwrap() }
}

/// A connection that stays, and has asked once.
async fn kept(address: SocketAddr) -> TcpStream {
    try_keep(address).await.expect("a connection that serves")
}

async fn try_keep(address: SocketAddr) -> Option<TcpStream> {
    let head = format!("GET /nothing HTTP/1.1\r\nhost: {address}\r\n\r\n");
    try_send(address, &head).await
}

/// A connection in which something was asked and is answered; none where it is turned away.
async fn try_send(address: SocketAddr, request: &str) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut bytes = [0; 1024];
    let read = soon("an answer", stream.read(&mut bytes)).await.ok()?;
    bytes[..read].starts_with(b"HTTP/1.1 ").then_some(stream)
}

/// Whoever is turned away comes again, until it is served.
async fn newcomer(address: SocketAddr) -> TcpStream {
    loop {
        if let Some(stream) = try_keep(address).await {
            return stream;
        }
    }
}

/// No descriptor is left when a client connects: the longest idle connection makes room; afterwards
/// all is as before.
#[tokio::test]
async fn whoever_connects_without_a_descriptor_left_is_served() {
    let route = "[routes.\"/mcp\"]\nupstreams = [\"gate\"]\n[upstreams.gate]\n";
    let gate = Binary::start("true", &format!("{route}builtin = \"gate\"\n")).await;
    let endpoint = gate.endpoint();
    let exhausted = async || {
        gate.may_have(1_000);
        drop(soon("all is well again", newcomer(gate.address)).await);
        let status = endpoint.modern().call("gateway_status").await;
        status["structuredContent"]["counters"]["accept_exhausted"].as_u64().unwrap_or_default()
    };
    for round in 0..3 {
        let before = exhausted().await;
        let mut idle = vec![kept(gate.address).await];
        for _ in 0..gate.has_no_more().await {
            idle.extend(try_keep(gate.address).await);
        }
        let newcomer = soon("the newcomer is served", newcomer(gate.address)).await;
        let closed = soon("the longest idle is closed", idle[0].read(&mut [0; 16])).await;
        assert!(matches!(closed, Ok(0) | Err(_)), "round {round}");
        drop((newcomer, idle));
        assert!(before < exhausted().await, "round {round}");
    }
    gate.ends().await;
}
