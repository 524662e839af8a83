//! Large answers, which are read within one budget of bytes for all, over each transport.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    client::Client,
    eventually,
    gate::{Gate, gateway},
    soon,
};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/fake/large.py");
/// Transports, and how an answer comes on each; the script says what the words mean.
const KINDS: [&str; 16] = [
    "json",
    "json-chunked",
    "json-closes",
    "json-gzip",
    "json-modern",
    "json-modern-chunked-structured",
    "json-entries",
    "stream",
    "stream-chunked-lines",
    "stream-modern",
    "stream-blob",
    "sse",
    "sse-lines-entries",
    "stdio",
    "stdio-structured",
    "stdio-blob",
];
/// So many at once, each with servers and a gate of its own.
const AT_ONCE: usize = 2;

/// A server over HTTP; it ends with its standard input.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A gate before two upstreams that are the same server, with routes of their own, and a connection
/// of its own for each client.
struct Scene {
    gate: Gate,
    folder: TempDir,
    _server: Option<Server>,
}

impl Scene {
    async fn new(transport: &str, limits: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let (server, keys) = if transport.starts_with("stdio") {
            let args = [SCRIPT, transport, path];
            (None, format!("command = \"python3\"\nargs = {args:?}\nisolation = \"session\"\n"))
        } else {
            let (server, port) = start(transport, path);
            (Some(server), format!("url = \"http://127.0.0.1:{port}/mcp\"\n"))
        };
        let plan = ["one", "two"].into_iter().fold(gateway().server(limits), |plan, name| {
            let hasty = format!("[upstreams.{name}.tools.hasty]\ntimeout = {{ idle = \"2s\" }}\n");
            plan.section(name, &keys)
                .extra(&hasty)
                .route(&format!("/{name}"), &format!("upstreams = [{name:?}]"))
        });
        Self { gate: plan.start().await, folder, _server: server }
    }

    async fn client(&self, upstream: &str) -> Client {
        self.gate.at(&format!("/{upstream}")).legacy("2025-06-18").await
    }

    fn counter(&self, name: &str) -> u64 {
        self.gate.app().viewer().report().counters[name]
    }

    /// Has a client wait for an answer of which three quarters have come.
    async fn stall(&self, upstream: &str, mib: u64) -> tokio::task::JoinHandle<usize> {
        let client = self.client(upstream).await;
        let log = || fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let before = log().lines().count();
        let stalled = tokio::spawn(async move {
            text(&act(&client, json!({ "mib": mib, "stalls": true })).await)
        });
        eventually("it stalls", || (before < log().lines().count()).then_some(())).await;
        stalled
    }

    fn goes_on(&self) {
        fs::write(self.folder.path().join("go"), "").unwrap();
    }
}

#[allow(clippy::disallowed_methods, reason = "the peer, not the gate, is this process")]
fn start(transport: &str, folder: &str) -> (Server, u16) {
    let mut command = Command::new("python3");
    command.args([SCRIPT, transport, folder]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (Server(child), line.trim().parse().unwrap())
}

async fn call(client: &Client, tool: &str, arguments: Value) -> Value {
    client.ask("tools/call", json!({ "name": tool, "arguments": arguments })).await.result()
}

async fn act(client: &Client, arguments: Value) -> Value {
    call(client, "act", arguments).await
}

/// Bytes of all that is large in a result.
fn text(result: &Value) -> usize {
    let length = |value: &Value| value.as_str().map_or(0, str::len);
    let entries = result["content"].as_array().unwrap().iter();
    let entries = entries.map(|one| length(&one["text"]) + length(&one["resource"]["blob"]));
    entries.sum::<usize>() + length(&result["structuredContent"]["text"])
}

/// Tries each kind.
async fn each<T: Future<Output = ()>>(tried: impl Fn(&'static str) -> T) {
    for kinds in KINDS.chunks(AT_ONCE) {
        join_all(kinds.iter().copied().map(&tried)).await;
    }
}

/// While answers take up the budget, further large ones of the same upstream wait, and fail with
/// the key at the end of their time; small ones, and other upstreams, go on.
#[tokio::test]
async fn a_large_answer_waits_for_room_and_no_longer_than_its_call() {
    each(|transport| async move {
        let scene = Scene::new(transport, "limits.incoming_answers_bytes_max = \"1MiB\"").await;
        let (second, third, other) =
            (scene.client("one").await, scene.client("one").await, scene.client("two").await);
        let first = scene.stall("one", 3).await;
        let refused = async {
            loop {
                let result = call(&second, "hasty", json!({ "mib": 3 })).await;
                // What the server has sent of the first may not have been read yet.
                if result.get("structuredContent").is_some_and(|said| said["error"].is_string()) {
                    return result;
                }
            }
        };
        let refused = soon("an error", refused).await;
        assert_eq!(refused["structuredContent"]["error"], "service_timeout", "{transport}");
        let message = refused["structuredContent"]["message"].as_str().unwrap();
        assert!(message.contains("`incoming_answers_bytes_max`"), "{transport}: {message}");
        assert!(0 < scene.counter("answers_held_back"), "{transport}");
        assert_eq!(text(&soon("a small one", act(&third, json!({ "mib": 0 }))).await), 0);
        assert_eq!(text(&soon("another's", act(&other, json!({ "mib": 3 }))).await), 3 << 20);
        let waiting = tokio::spawn(async move { text(&act(&third, json!({ "mib": 3 })).await) });
        scene.goes_on();
        assert_eq!(soon("the first", first).await.unwrap(), 3 << 20, "{transport}");
        assert_eq!(soon("what waited", waiting).await.unwrap(), 3 << 20, "{transport}");
        // What was given up is over, and its connection is as good as before.
        assert_eq!(text(&soon("again", act(&second, json!({ "mib": 2 }))).await), 2 << 20);
    })
    .await;
}

/// Far more at once than there is room for: each comes, one after the other.
#[tokio::test]
async fn many_large_answers_at_once_all_come() {
    each(|transport| async move {
        let scene = Scene::new(transport, "limits.incoming_answers_bytes_max = \"2MiB\"").await;
        let mut clients = Vec::new();
        for at in 0..6 {
            clients.push(scene.client(["one", "two"][at % 2]).await);
        }
        let calls = clients.iter().enumerate().map(|(at, client)| async move {
            let mib = 1 + at as u64 % 3;
            (text(&act(client, json!({ "mib": mib })).await), (mib as usize) << 20)
        });
        for (came, sent) in soon("all", join_all(calls)).await {
            assert_eq!(came, sent, "{transport}");
        }
    })
    .await;
}
