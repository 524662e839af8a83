//! The hand-over of the listening socket from one process to the next, under load.
#![cfg(feature = "pingora")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that starts processes")]

mod common;

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;

use self::common::until;

/// Clients that ask all the time, each time on a connection of its own.
const CLIENTS: usize = 4;
/// Requests that must have been answered before and after the hand-over.
const ENOUGH: usize = 200;

/// An upstream whose tool `wait` ends when the file `go` appears.
const WAITING: &str = r#"
import json, os, sys, time
os.chdir(sys.argv[1])
open("child." + str(os.getpid()), "w").close()
for line in sys.stdin:
    message = json.loads(line)
    method, result = message.get("method"), None
    if method == "initialize":
        version = message["params"]["protocolVersion"]
        result = {"protocolVersion": version, "capabilities": {"tools": {}},
                  "serverInfo": {"name": "waiting", "version": "1"}}
    elif method == "tools/list":
        result = {"tools": [{"name": "wait", "inputSchema": {"type": "object"}}]}
    elif method == "tools/call":
        open("begun", "w").close()
        while not os.path.exists("go"):
            time.sleep(0.01)
        result = {"content": [{"type": "text", "text": "waited"}]}
    if "id" in message:
        answer = {"jsonrpc": "2.0", "id": message["id"]}
        if result is None:
            answer["error"] = {"code": -32601, "message": "no such method"}
        else:
            answer["result"] = result
        print(json.dumps(answer), flush=True)
"#;

/// `tollgate run`, and what it says.
struct Gate {
    process: Child,
    said: BufReader<ChildStderr>,
}

impl Gate {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .arg("run")
            .args(arguments)
            .current_dir(folder)
            .env_remove("TOLLGATE_CONFIG")
            .env_remove("RUST_LOG")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(process.stderr.take().unwrap());
        Self { process, said }
    }

    /// The next line that contains `what`.
    #[track_caller]
    fn says(&mut self, what: &str) -> String {
        let mut line = String::new();
        while !line.contains(what) {
            line.clear();
            assert_ne!(self.said.read_line(&mut line).unwrap(), 0, "it ended, not saying {what}");
        }
        line
    }

    fn serves(&mut self) -> SocketAddr {
        let line = self.says("serves on");
        line.trim().rsplit('/').next().unwrap().parse().unwrap()
    }

    fn told(&self, signal: Signal) {
        let id = Pid::from_child(&self.process);
        kill_process(id, signal).unwrap();
    }

    #[track_caller]
    fn ends(&mut self) {
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // It has ended, unless the test failed.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// One message on a connection of its own; head and body of the answer.
fn post(address: SocketAddr, session: &str, body: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "POST /mcp HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: application/json\r\naccept: application/json, text/event-stream\r\n\
         {session}content-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A call with an id that no other has.
fn call(tool: &str) -> String {
    static IDS: AtomicUsize = AtomicUsize::new(1);
    let id = IDS.fetch_add(1, Ordering::Relaxed);
    let name = format!(r#"{{"name":"{tool}","arguments":{{}}}}"#);
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{name}}}"#)
}

/// The header line of a new legacy session.
fn session(address: SocketAddr) -> String {
    let answer = post(
        address,
        "",
        r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18",
        "capabilities":{},"clientInfo":{"name":"test","version":"1"}}}"#,
    );
    let answer = answer.unwrap();
    let is_session = |line: &&str| line.to_ascii_lowercase().starts_with("mcp-session-id:");
    let line = answer.lines().find(is_session).expect(&answer);
    let line = format!("{line}\r\nmcp-protocol-version: 2025-06-18\r\n");
    let ready = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    assert!(post(address, &line, ready).unwrap().starts_with("HTTP/1.1 202"));
    line
}

/// Clients that ask until told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<thread::JoinHandle<Vec<String>>>,
}

impl Load {
    fn start(address: SocketAddr, session: &str) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let client = |_| {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            let session = session.to_owned();
            thread::spawn(move || ask(address, &session, &stop, &answered))
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self { stop, answered, clients }
    }

    fn goes_on(&self) {
        let enough = self.answered.load(Ordering::Relaxed) + ENOUGH;
        until("answers", || enough <= self.answered.load(Ordering::Relaxed));
    }

    #[track_caller]
    fn none_failed(self) {
        self.stop.store(true, Ordering::Relaxed);
        let failures: Vec<_> =
            self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        let answered = self.answered.load(Ordering::Relaxed);
        assert_eq!(failures.len(), 0, "of {answered}; the first: {:?}", failures.first());
    }
}

/// Asks until told to stop; what failed.
fn ask(
    address: SocketAddr,
    session: &str,
    stop: &AtomicBool,
    answered: &AtomicUsize,
) -> Vec<String> {
    let mut failures = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        failures.extend(failure(post(address, session, &call("gateway_status"))));
        answered.fetch_add(1, Ordering::Relaxed);
    }
    failures
}

/// What is wrong with an answer.
fn failure(answer: io::Result<String>) -> Option<String> {
    match answer {
        Ok(answer) => (!answer.contains(r#""result":"#)).then_some(answer),
        Err(error) => Some(error.to_string()),
    }
}

/// The upstream processes that there have been.
fn children(folder: &Path) -> Vec<Pid> {
    let files = fs::read_dir(folder).unwrap().flatten().map(|file| file.file_name());
    let numbers = files.filter_map(|name| name.to_str()?.strip_prefix("child.")?.parse().ok());
    numbers.filter_map(Pid::from_raw).collect()
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    fs::write(path.join("waiting.py"), WAITING).unwrap();
    let waiting = format!("args = [\"{0}/waiting.py\", \"{0}\"]", path.display());
    let toml = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[routes.\"/mcp\"]\nupstreams = [\"*\"]\n\
         [upstreams.gate]\nbuiltin = \"gate\"\n\
         [upstreams.waiting]\ncommand = \"python3\"\n{waiting}\n"
    );
    fs::write(path.join("routes.toml"), toml).unwrap();
    (folder, path)
}

#[test]
fn a_new_process_takes_over_and_nothing_is_lost() {
    let (_folder, path) = folder();
    let mut old = Gate::start(&path, &[]);
    let address = old.serves();
    let session = session(address);
    let list = r#"{"jsonrpc":"2.0","id":"list","method":"tools/list"}"#;
    until("the upstream", || post(address, &session, list).unwrap().contains(r#""wait""#));
    let under_way = thread::spawn({
        let session = session.clone();
        move || post(address, &session, &call("wait"))
    });
    until("the call to begin", || path.join("begun").exists());
    let load = Load::start(address, &session);
    load.goes_on();

    old.told(Signal::QUIT);
    old.says("nobody to hand over to");
    load.goes_on();

    let mut new = Gate::start(&path, &["--upgrade"]);
    new.says("waiting for the listening socket");
    old.told(Signal::QUIT);
    assert_eq!(new.serves(), address);
    old.says("stopping");
    load.goes_on();
    fs::write(path.join("go"), "").unwrap();
    assert!(under_way.join().unwrap().unwrap().contains("waited"));
    old.ends();

    load.goes_on();
    load.none_failed();
    assert!(post(address, &session, &call("wait")).unwrap().contains("waited"));
    new.told(Signal::TERM);
    new.ends();
    let children = children(&path);
    assert!(2 <= children.len(), "both had one");
    assert!(children.into_iter().all(|id| test_kill_process(id).is_err()), "a child is left");
}

#[test]
fn a_request_on_a_connection_just_accepted_is_answered() {
    let (_folder, path) = folder();
    let mut gate = Gate::start(&path, &[]);
    let address = gate.serves();
    let mut stream = TcpStream::connect(address).unwrap();
    session(address); // later in the queue, so that the first one has been accepted
    gate.told(Signal::TERM);
    gate.says("stopping");
    write!(stream, "GET /none HTTP/1.1\r\nhost: {address}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    gate.ends();
}

#[test]
fn sigint_and_sigterm_end_it_and_its_children() {
    for signal in [Signal::INT, Signal::TERM] {
        let (_folder, path) = folder();
        let mut gate = Gate::start(&path, &[]);
        gate.serves();
        until("the upstream", || !children(&path).is_empty());
        gate.told(signal);
        gate.says("stopped");
        gate.ends();
        assert!(children(&path).into_iter().all(|id| test_kill_process(id).is_err()));
    }
}
