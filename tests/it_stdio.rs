//! `tollgate stdio` and `tollgate sidecar` as a client starts them: the real binary, its pipes, its
//! children, its end.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::needless_pass_by_value,
    reason = "a test that starts processes"
)]

mod common;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use self::common::{is_dead, until};

const TOLLGATE: &str = env!("CARGO_BIN_EXE_tollgate");
const MODERN: &str = "2026-07-28";

/// A server of 2025-06-18 that says who it is and where, and asks.
const TINY: &str = r#"
import json, os, sys
folder = sys.argv[1]
with open(f"{folder}/pids", "a") as pids:
    print(os.getpid(), file=pids)
print("tiny is here", file=sys.stderr, flush=True)
def say(**message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)
def tool(name):
    return {"name": name, "inputSchema": {"type": "object"}}
asking = None
for line in sys.stdin:
    message = json.loads(line)
    method, params, id = message.get("method"), message.get("params") or {}, message.get("id")
    if method == "initialize":
        say(id=id, result={"protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
            "serverInfo": {"name": "tiny", "version": "9"}, "instructions": "be nice"})
    elif method == "tools/list":
        say(id=id, result={"tools": [tool("where"), tool("ask")]})
    elif method == "tools/call" and params["name"] == "where":
        words = [os.getcwd(), os.environ.get("TINY_TOKEN", "-"), *sys.argv[2:]]
        say(id=id, result={"content": [{"type": "text", "text": word} for word in words]})
    elif method == "tools/call":
        asking = id
        say(id="q", method="elicitation/create",
            params={"message": "sure?", "requestedSchema": {"type": "object", "properties": {}}})
    elif id == "q":
        text = message.get("result", {}).get("action", "refused")
        say(id=asking, result={"content": [{"type": "text", "text": text}]})
    elif id is not None:
        say(id=id, result={})
"#;

/// A folder with the server and a configuration of it.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tiny.py"), TINY).unwrap();
    let args = json!([folder.path().join("tiny.py"), folder.path()]);
    let toml = format!(
        "[routes.\"/first\"]\nupstreams = [\"tiny\"]\n[routes.\"/mcp\"]\nupstreams = [\"tiny\"]\n\
         tools.deny = [\"ask\"]\n[upstreams.tiny]\ncommand = \"python3\"\nargs = {args}\n"
    );
    fs::write(folder.path().join("routes.toml"), toml).unwrap();
    folder
}

/// The words that start the server.
fn tiny(folder: &TempDir) -> Vec<String> {
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    vec!["python3".into(), path(&folder.path().join("tiny.py")), path(folder.path())]
}

/// The numbers of its processes, all that there have been.
fn pids(folder: &TempDir) -> Vec<Pid> {
    let text = fs::read_to_string(folder.path().join("pids")).unwrap_or_default();
    text.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect()
}

/// Tollgate as a client's child.
struct Started {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

fn tollgate(folder: &TempDir, words: &[&str]) -> Command {
    let mut command = Command::new(TOLLGATE);
    command
        .args(words)
        .current_dir(folder.path())
        .env("XDG_STATE_HOME", folder.path().join("state-home"))
        .env("TINY_TOKEN", "t0ken")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn start(folder: &TempDir, words: &[&str]) -> Started {
    let mut child = tollgate(folder, words).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    Started { input: child.stdin.take(), output, child }
}

fn sidecar(folder: &TempDir, options: &[&str]) -> Started {
    let server = tiny(folder);
    let words = [&["sidecar"], options, &["--"]].concat();
    let words = words.into_iter().chain(server.iter().map(String::as_str));
    start(folder, &words.collect::<Vec<_>>())
}

impl Started {
    fn say(&mut self, message: Value) {
        writeln!(self.input.as_mut().unwrap(), "{message}").unwrap();
    }

    /// The next line, which must be a message; null at the end.
    fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        if line.is_empty() {
            return Value::Null;
        }
        let message: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
        assert_eq!(message["jsonrpc"], "2.0", "{line}");
        message
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.say(json!({ "jsonrpc": "2.0", "id": method, "method": method, "params": params }));
        loop {
            let message = self.hear();
            assert!(!message.is_null(), "it ended");
            if message["id"] == method {
                return message["result"].clone();
            }
        }
    }

    fn open(&mut self, capabilities: Value) -> Value {
        let info = json!({ "name": "desktop", "version": "1" });
        let params = json!({ "protocolVersion": "2025-06-18", "capabilities": capabilities,
            "clientInfo": info });
        let result = self.ask("initialize", params);
        self.say(json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        result
    }

    fn texts(&mut self, tool: &str) -> Vec<String> {
        let result = self.ask("tools/call", json!({ "name": tool, "arguments": {} }));
        let blocks = result["content"].as_array().unwrap_or_else(|| panic!("{result}"));
        blocks.iter().map(|block| block["text"].as_str().unwrap().to_owned()).collect()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end, and that none of the server's processes is left. What it said last on
    /// standard output must be messages, too.
    fn ends(mut self, folder: &TempDir) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        drop(self.input.take());
        while !self.hear().is_null() {}
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        until("the server's end", || pids(folder).into_iter().all(is_dead));
        (status, said)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // Where a test failed; else it has ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn names(list: &Value) -> Vec<&str> {
    list["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect()
}

#[test]
fn a_route_is_served_until_its_client_is_gone() {
    let folder = folder();
    for (route, tools) in [(&[][..], &["where", "ask"][..]), (&["--route", "/mcp"], &["where"])] {
        let mut gate = start(&folder, &[&["stdio"], route].concat());
        assert_eq!(gate.open(json!({}))["serverInfo"]["name"], "tollgate");
        assert_eq!(names(&gate.ask("tools/list", json!({}))), tools);
        assert_eq!(gate.texts("where")[1], "-", "a gate's variables are not its servers'");
        drop(gate.input.take());
        let (status, said) = gate.ends(&folder);
        assert!(status.success() && said.is_empty(), "{status}: {said}");
    }
    let (status, said) = start(&folder, &["stdio", "--route", "/none"]).ends(&folder);
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("no route `/none`; it has /first, /mcp"), "{said}");
}

/// What a pipe holds on Linux (pipe(7)).
const PIPE_BYTES: usize = 65_536;

/// The client of these tests uses one id again and again, as soon as it has the answer.
#[test]
fn no_call_waits_for_a_log_that_nobody_reads() {
    let folder = folder();
    let file = folder.path().join("routes.toml");
    let text = fs::read_to_string(&file).unwrap() + "[log]\naccess = true\n";
    fs::write(file, text).unwrap();
    let mut gate = start(&folder, &["--log", "info", "stdio"]);
    gate.open(json!({}));
    for _ in 0..500 {
        assert_eq!(gate.texts("where")[1], "-");
    }
    drop(gate.input.take());
    let (status, said) = gate.ends(&folder);
    assert!(status.success(), "{status}");
    assert!(PIPE_BYTES / 2 < said.len(), "the pipe was full: {} bytes", said.len());
}

#[test]
fn a_signal_ends_it_with_all_that_it_started() {
    for signal in [Signal::TERM, Signal::INT] {
        let folder = folder();
        let mut gate = start(&folder, &["stdio"]);
        gate.open(json!({}));
        gate.texts("where");
        gate.signal(signal);
        let (status, said) = gate.ends(&folder);
        assert!(status.success() && said.is_empty(), "{status}: {said}");
    }
}

#[test]
fn killed_outright_it_leaves_no_process() {
    let folder = folder();
    let mut gate = start(&folder, &["stdio"]);
    gate.open(json!({}));
    gate.texts("where");
    gate.signal(Signal::KILL);
    gate.ends(&folder);
}

/// A desktop starts one for each of its windows, at once.
#[test]
fn many_share_one_state_folder() {
    let folder = folder();
    let mut gates: Vec<_> = (0..4).map(|_| start(&folder, &["stdio"])).collect();
    for gate in &mut gates {
        gate.open(json!({}));
        assert_eq!(gate.texts("where").len(), 2);
        drop(gate.input.take());
    }
    for gate in gates {
        let (status, said) = gate.ends(&folder);
        assert!(status.success(), "{status}: {said}");
    }
    let key = fs::read(folder.path().join("state/session.key")).unwrap();
    assert_eq!(key.len(), 32);
}

/// A server of an old kit dies of a request before `initialize`.
#[test]
fn a_sidecar_is_its_server_also_where_that_dies_of_the_probe() {
    for dies in ["sys.exit(1)", "os.close(1)", "os.kill(os.getpid(), 9)", "raise ValueError(line)"]
    {
        let folder = folder();
        let dying = format!("    if method == \"server/discover\":\n        {dies}\n    elif");
        let tiny = TINY.replacen("    if", &dying, 1);
        assert_ne!(tiny, TINY);
        fs::write(folder.path().join("tiny.py"), tiny).unwrap();
        let mut gate = sidecar(&folder, &["--stdio"]);
        let params = json!({ "protocolVersion": "2025-06-18", "capabilities": {},
            "clientInfo": { "name": "test", "version": "1" } });
        let greeted = gate.ask("initialize", params);
        assert_eq!(greeted["serverInfo"]["name"], "tiny", "{dies}: {greeted}");
    }
}

#[test]
fn a_sidecar_is_its_server() {
    let folder = folder();
    let mut gate = sidecar(&folder, &["--stdio"]);
    let opened = gate.open(json!({ "elicitation": {} }));
    assert_eq!(opened["serverInfo"], json!({ "name": "tiny", "version": "9" }));
    assert_eq!(opened["instructions"], "be nice");
    assert_eq!(names(&gate.ask("tools/list", json!({}))), ["where", "ask"]);
    let home = fs::canonicalize(folder.path()).unwrap();
    assert_eq!(gate.texts("where"), [home.to_str().unwrap(), "t0ken"]);
    let call = json!({ "name": "ask", "arguments": {} });
    gate.say(json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": call }));
    let asked = gate.hear();
    assert_eq!(asked["method"], "elicitation/create");
    gate.say(json!({ "jsonrpc": "2.0", "id": asked["id"], "result": { "action": "decline" } }));
    assert_eq!(gate.hear()["result"]["content"][0]["text"], "decline");
    drop(gate.input.take());
    let (status, said) = gate.ends(&folder);
    assert!(status.success(), "{status}");
    assert!(said.contains("tiny is here"), "{said}");
    let kept = fs::read_dir(folder.path().join("state-home/tollgate/sidecar")).unwrap();
    let kept: Vec<_> =
        kept.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(kept.len() == 1 && kept[0].starts_with("python3-"), "{kept:?}");
}

/// What the modern era sends to a route, and its result.
fn post(address: &str, method: &str, mut params: Value) -> Value {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let name = params["name"].as_str().map(|name| format!("mcp-name: {name}\r\n"));
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{}\
         content-type: application/json\r\naccept: application/json, text/event-stream\r\n\
         mcp-protocol-version: {MODERN}\r\nmcp-method: {method}\r\ncontent-length: {}\r\n\r\n",
        name.unwrap_or_default(),
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    serde_json::from_str::<Value>(body).unwrap()["result"].clone()
}

/// Where it says that it serves.
fn address(gate: &mut Started) -> String {
    let mut said = BufReader::new(gate.child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains(" serves on ") {
        line.clear();
        assert_ne!(said.read_line(&mut line).unwrap(), 0, "it ended");
    }
    gate.child.stderr = Some(said.into_inner());
    let (_, url) = line.trim().split_once(" serves on ").unwrap();
    url.strip_prefix("http://").unwrap().strip_suffix("/mcp").unwrap().to_owned()
}

#[test]
fn an_old_server_becomes_a_new_one_and_that_an_old_one() {
    let folder = folder();
    let mut front = sidecar(&folder, &["--listen", "127.0.0.1:0"]);
    let address = address(&mut front);
    let found = post(&address, "server/discover", json!({}));
    let info = &found["_meta"]["io.modelcontextprotocol/serverInfo"];
    assert_eq!((&info["name"], &found["instructions"]), (&json!("tiny"), &json!("be nice")));
    assert_eq!(names(&post(&address, "tools/list", json!({}))), ["where", "ask"]);
    let result = post(&address, "tools/call", json!({ "name": "where", "arguments": {} }));
    assert_eq!(result["content"][1]["text"], "t0ken");

    let url = format!("http://{address}/mcp");
    let mut back = start(&folder, &["sidecar", "--stdio", "--url", &url]);
    assert_eq!(back.open(json!({}))["serverInfo"]["name"], "tiny", "through both");
    assert_eq!(back.texts("where")[1], "t0ken");
    back.signal(Signal::INT);
    assert!(back.child.wait().unwrap().success());
    front.signal(Signal::INT);
    let (status, _) = front.ends(&folder);
    assert!(status.success(), "{status}");
}

#[test]
fn what_cannot_be_started_is_said_and_no_client_waits() {
    let folder = folder();
    for (words, wanted) in [
        (&["--stdio", "--", "no-such-program"][..], "no-such-program: not found"),
        (&["--stdio", "--", "sh", "-c", "echo out of luck >&2; exit 3"], "exit status: 3"),
        (&["--listen", "127.0.0.1:0", "--", "no-such-program"], "no-such-program: not found"),
        (&["--stdio", "--url", "http://127.0.0.1:9/mcp"], "cannot connect"),
        (&["--stdio", "--header", "x", "--url", "http://127.0.0.1:9"], "write it as `Name: value`"),
    ] {
        let (status, said) = start(&folder, &[&["sidecar"], words].concat()).ends(&folder);
        assert_eq!(status.code(), Some(1), "{words:?}");
        assert!(said.lines().last().unwrap().contains(wanted), "{words:?}: {said}");
    }
    for words in [&["sidecar"][..], &["sidecar", "--url", "http://x", "--", "sh"]] {
        let (status, said) = start(&folder, words).ends(&folder);
        assert_eq!(status.code(), Some(2), "{said}");
    }
}

#[test]
fn a_sidecars_file_brings_the_rest() {
    let folder = folder();
    let file = folder.path().join("side.toml");
    fs::write(&file, "[routes.\"/mcp\"]\ntools.rename = { where = \"here\" }\n").unwrap();
    let options = ["--stdio", "--config", "side.toml", "--state", "kept"];
    let mut gate = sidecar(&folder, &options);
    gate.open(json!({}));
    assert_eq!(names(&gate.ask("tools/list", json!({}))), ["here", "ask"]);
    drop(gate.input.take());
    let (status, said) = gate.ends(&folder);
    assert!(status.success(), "{status}: {said}");
    assert!(folder.path().join("kept/session.key").is_file());

    fs::write(&file, "[server]\nlisten = 7\n[routes.\"/mcp\"]\nname = \"never\"\n").unwrap();
    let (status, said) = sidecar(&folder, &options).ends(&folder);
    assert_eq!(status.code(), Some(1));
    for wanted in ["side.toml:2:10", "side.toml:4:", "did you mean `names`?", "2 problem(s)"] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
}

#[test]
fn a_sidecar_takes_its_command_with_and_without_two_hyphens() {
    let folder = folder();
    let server = tiny(&folder);
    let server: Vec<&str> = server.iter().map(String::as_str).collect();
    for words in [
        [&["sidecar", "--stdio", "--"], &server[..]].concat(),
        [&["sidecar", "--stdio"], &server[..]].concat(),
        // What stands behind the command is the command's, whatever it looks like.
        [&["sidecar", "--stdio"], &server[..], &["--stdio", "--listen", "x", "--", "-h"]].concat(),
    ] {
        let mut client = start(&folder, &words);
        assert_eq!(client.open(json!({}))["serverInfo"]["name"], "tiny", "{words:?}");
        drop(client.input.take());
        let (status, said) = client.ends(&folder);
        assert!(status.success(), "{words:?}: {said}");
    }
    let misspelt = tollgate(&folder, &["sidecar", "--stdoi", "python3"]).output().unwrap();
    assert_eq!(misspelt.status.code(), Some(2), "an option of its own that does not exist");
}

#[test]
fn run_takes_its_file_with_and_without_the_option() {
    let folder = folder();
    fs::write(folder.path().join("other.toml"), "[routes.\"/x\"]\nupstreams = [\"none\"]\n")
        .unwrap();
    for words in [
        vec!["run", "other.toml"],
        vec!["run", "--config", "other.toml"],
        vec!["--config", "other.toml", "run"],
        vec!["run", "--listen", "127.0.0.1:0", "other.toml"],
    ] {
        let output = tollgate(&folder, &words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("other.toml"), "{words:?}: {said}");
    }
    let twice = tollgate(&folder, &["--config", "routes.toml", "run", "other.toml"]);
    let said = { twice }.output().unwrap();
    assert!(String::from_utf8_lossy(&said.stderr).contains("named twice"));
}

/// Each line of standard error as JSON; all have a level and a message.
fn json_lines(said: &str, words: &[&str]) -> Vec<String> {
    let line = |line: &str| {
        let read: Value =
            serde_json::from_str(line).unwrap_or_else(|_| panic!("{words:?}: no JSON: {line}"));
        assert!(read["level"].is_string() && read["timestamp"].is_string(), "{words:?}: {line}");
        read["fields"]["message"].as_str().unwrap_or_else(|| panic!("{words:?}: {line}")).to_owned()
    };
    said.lines().map(line).collect()
}

#[test]
fn with_log_json_all_of_standard_error_is_json() {
    let folder = folder();
    fs::write(folder.path().join("bad.toml"), "[routes\nnot = toml").unwrap();
    fs::write(folder.path().join("wrong.toml"), "[routes.\"/mcp\"]\nupstream = [1]\n").unwrap();
    let ill = "printf '\\033[31mred\\n{\"a\":1}\\nhalf' >&2; exit 3";
    for (words, wanted) in [
        (&["--config", "bad.toml", "run"][..], "bad.toml"),
        (&["run", "wrong.toml"], "upstream"),
        (&["run", "missing.toml"], "missing.toml"),
        (&["run", "--listen", "192.0.2.1:9"], "192.0.2.1:9"),
        (&["run", "--no-such-option"], "--no-such-option"),
        (&["no-such-command"], "no-such-command"),
        (&["sidecar"], "required"),
        (&["sidecar", "--stdio", "--", "no-such-program"], "no-such-program"),
        (&["sidecar", "--stdio", "--", "sh", "-c", ill], "exit status: 3"),
        (&["sidecar", "--stdio", "--url", "http://127.0.0.1:9/mcp"], "cannot connect"),
        (&["--log", "debug", "stdio", "--route", "/none"], "/none"),
        (&["audit", "verify"], "[audit]"),
        (&["check", "--config", "wrong.toml"], "upstream"),
    ] {
        let words = [&["--log-json"], words].concat();
        let mut started = start(&folder, &words);
        drop(started.input.take());
        let mut said = String::new();
        started.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(!started.child.wait().unwrap().success(), "{words:?}");
        let messages = json_lines(&said, &words);
        assert!(messages.iter().any(|message| message.contains(wanted)), "{words:?}: {said}");
    }
}

#[test]
fn with_log_json_a_gate_says_in_json_where_it_is_and_how_it_stands() {
    let folder = folder();
    let words = ["--log-json", "--log", "debug", "run", "--listen", "127.0.0.1:0"];
    let mut gate = start(&folder, &words);
    let mut lines = BufReader::new(gate.child.stderr.take().unwrap());
    let mut said = String::new();
    // The table is the last of what it says by itself.
    while !said.contains("/first") {
        assert_ne!(lines.read_line(&mut said).unwrap(), 0, "{said}");
    }
    gate.signal(Signal::HUP);
    gate.signal(Signal::TERM);
    lines.read_to_string(&mut said).unwrap();
    assert!(gate.child.wait().unwrap().success());
    let messages = json_lines(&said, &words);
    for wanted in ["serves on http://127.0.0.1:", "stderr: tiny is here", "stopped"] {
        assert!(messages.iter().any(|message| message.contains(wanted)), "{wanted}: {said}");
    }
}

/// A server that is silent at one point, and goes on reading.
const SILENT: &str = r#"
import json, os, sys
folder, at = sys.argv[1:]
with open(f"{folder}/pids", "a") as pids:
    print(os.getpid(), file=pids)
for line in sys.stdin:
    message = json.loads(line)
    method, id = message.get("method"), message.get("id")
    if id is None or at == "all" or at in method:
        continue
    result = {"tools": [], "prompts": [], "resources": [], "resourceTemplates": []}
    if method == "initialize":
        result = {"protocolVersion": "2025-06-18", "serverInfo": {"name": "silent", "version": "1"},
            "capabilities": {"tools": {}, "prompts": {}, "resources": {}}}
    elif method == "server/discover":
        print(json.dumps({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": ""}}),
            flush=True)
        continue
    print(json.dumps({"jsonrpc": "2.0", "id": id, "result": result}), flush=True)
"#;

#[test]
fn a_sidecar_answers_initialize_whatever_its_server_does_not() {
    let folder = folder();
    let script = folder.path().join("silent.py");
    fs::write(&script, SILENT).unwrap();
    let points = [
        "all",
        "initialize",
        "server/discover",
        "tools/list",
        "prompts/list",
        "resources/list",
        "templates",
        "list",
        "tools",
        "s/list",
    ];
    // All at once: each waits for its time.
    let start = |at: &&str| {
        let words = [script.to_str().unwrap(), folder.path().to_str().unwrap(), at];
        let words = [&["sidecar", "--stdio", "--state", at, "--", "python3"], &words[..]].concat();
        start(&folder, &words)
    };
    let mut started: Vec<_> = points.iter().map(start).collect();
    for (at, sidecar) in points.iter().zip(&mut started) {
        let result = sidecar.open(json!({}));
        assert!(result["serverInfo"].is_object(), "{at}: {result}");
        assert_eq!(sidecar.ask("ping", json!({})), json!({}), "{at}");
        if *at == "tools/list" {
            assert_eq!(result["serverInfo"]["name"], "silent", "it has said who it is");
        }
    }
    for mut sidecar in started {
        drop(sidecar.input.take());
        assert!(sidecar.child.wait().unwrap().success());
    }
}
