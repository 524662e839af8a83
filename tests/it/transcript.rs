//! Ring 3: conversations as text files, `tests/transcripts/*.txt`, played against the gate and held
//! to the letter.
//!
//! `upstream NAME: ERA WORD…` and `client: VERSION CAPABILITIES` set the scene. `>` is what the
//! client does: a message (its era's headers are added), `GET`, `DELETE`, `LEAVE` (it closes its
//! streams); `! NAME WORD…` happens upstream. Below each stand the messages it leads to: `>>` the
//! gate to an upstream, `<<` the upstream to the gate, `<` the gate to the client, `|` on a stream.
//! Lines of one step are in the order upstream, then client, there by exchange; what changes from
//! run to run has a name in angle brackets. `UPDATE=1` writes the answers anew: read the difference
//! before you commit it.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hyper::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::{
    client::{Client, Reply},
    fake::{self, Fake},
    gate::{Gate, gateway},
    message::Message,
};

/// Silence after which a step is over when the file does not say what to expect.
const QUIET: Duration = Duration::from_millis(400);

/// A refusal until a page was opened (2025-11-25).
const SIGN_IN: &str = r#"{"code":-32042,"message":"Sign in first","data":{"elicitations":[{"mode":"url","elicitationId":"e-1","url":"https://id.example/","message":"Sign in"}]}}"#;

/// How long the expected lines may take.
const PATIENCE: Duration = Duration::from_secs(5);

struct Scene {
    upstreams: Vec<(String, Fake)>,
    _gate: Gate,
    client: Client,
    /// What came to the client in the step under way: number of the exchange, line.
    heard: Arc<Mutex<Vec<(usize, String)>>>,
    exchanges: Vec<JoinHandle<()>>,
    names: Names,
}

/// Raw text that changes from run to run, and the name it has in the file.
#[derive(Default)]
struct Names(Vec<(String, String)>);

#[tokio::test]
async fn every_conversation_goes_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    let update = updates();
    let mut faults = Vec::new();
    for file in files {
        let written = fs::read_to_string(&file).unwrap();
        let played = play(&written, update).await;
        match update {
            true => fs::write(&file, played).unwrap(),
            false if played == written => (),
            false => faults.push(format!("{}:\n{}", file.display(), difference(&written, &played))),
        }
    }
    assert!(faults.is_empty(), "\n{}\n`UPDATE=1` accepts what was heard", faults.join("\n"));
}

#[allow(clippy::disallowed_methods, reason = "UPDATE is for the person at the keyboard")]
fn updates() -> bool {
    env::var("UPDATE").is_ok_and(|value| value == "1")
}

async fn play(written: &str, update: bool) -> String {
    let head = written.lines().take_while(|line| !is_step(line));
    let mut scene = Scene::set(head.clone()).await;
    let mut played: Vec<String> = head.map(str::to_owned).collect();
    let steps: Vec<&str> = written.lines().skip(played.len()).collect();
    let mut at = 0;
    while at < steps.len() {
        let expected = steps[at + 1..].iter().take_while(|line| !is_step(line));
        let lines: Vec<&str> = expected.copied().collect();
        let count = lines.iter().filter(|line| !line.is_empty()).count();
        played.push(steps[at].to_owned());
        scene.act(steps[at]).await;
        played.extend(scene.hear((!update).then_some(count)).await);
        let blank = lines.last().is_some_and(|line| line.is_empty());
        played.extend(blank.then(String::new));
        at += 1 + lines.len();
    }
    played.join("\n") + "\n"
}

/// A line that does something, rather than tells what came of it.
fn is_step(line: &str) -> bool {
    line.starts_with("> ") || line.starts_with("! ")
}

impl Scene {
    async fn set(head: impl Iterator<Item = &str>) -> Self {
        let (mut plan, mut upstreams) = (gateway(), Vec::new());
        let (mut version, mut capabilities) = ("2025-06-18", json!({}));
        for line in head {
            if let Some((name, words)) =
                line.strip_prefix("upstream ").and_then(|rest| rest.split_once(": "))
            {
                let fake = upstream(words);
                plan = plan.upstream(name, &fake);
                upstreams.push((name.to_owned(), fake));
            }
            if let Some(rest) = line.strip_prefix("client: ") {
                let (first, rest) = rest.split_once(' ').unwrap_or((rest, "{}"));
                (version, capabilities) = (first, serde_json::from_str(rest).unwrap());
            }
        }
        let gate = plan.start().await;
        for (name, fake) in &upstreams {
            let what = format!("the gate listens to {name}");
            crate::eventually(&what, || (0 < fake.listeners()).then_some(())).await;
            fake.forgets_wire();
        }
        let client = gate.client(version, capabilities);
        let (heard, names) = (Arc::default(), Names::default());
        Self { upstreams, _gate: gate, client, heard, exchanges: Vec::new(), names }
    }

    async fn act(&mut self, step: &str) {
        self.heard.lock().clear();
        for (_, fake) in &self.upstreams {
            fake.forgets_wire();
        }
        let number = self.exchanges.len();
        let Some(line) = step.strip_prefix("> ") else { return self.happens(step) };
        let line = self.names.restore(line);
        if line == "LEAVE" {
            self.exchanges.iter().for_each(JoinHandle::abort);
            return;
        }
        let (verb, body) = match line.as_str() {
            "GET" => (Method::GET, ""),
            "DELETE" => (Method::DELETE, ""),
            body => (Method::POST, body),
        };
        let own = self.client.headers(body);
        let opens = Message::parse(body.as_bytes()).method.as_deref() == Some("initialize");
        let (endpoint, heard) = (self.client.endpoint.clone(), Arc::clone(&self.heard));
        let body = body.to_owned();
        let (opened, session) = oneshot::channel();
        self.exchanges.push(tokio::spawn(async move {
            let mut headers: Vec<_> =
                own.iter().map(|(name, value)| (*name, value.as_str())).collect();
            headers.push(("accept", "application/json, text/event-stream"));
            headers.push(("content-type", "application/json"));
            let reply = endpoint.send(verb, &headers, body.as_bytes()).await;
            drop(opened.send(reply.header("mcp-session-id").to_owned()));
            listen(number, reply, heard).await;
        }));
        if opens {
            self.client.session = session.await.ok();
        }
    }

    /// `! NAME tool NEW` or `! NAME tell METHOD PARAMS`.
    fn happens(&self, step: &str) {
        let words: Vec<&str> = step.trim_start_matches("! ").splitn(4, ' ').collect();
        let (_, fake) = self.upstreams.iter().find(|(name, _)| name == words[0]).unwrap();
        match words[1] {
            "tool" => fake.add_tool(words[2]),
            "tell" => fake.tell(words[2], &serde_json::from_str(words[3]).unwrap()),
            word => panic!("nothing is called {word}"),
        }
    }

    /// The lines of a step: as many as expected, or until it is quiet.
    async fn hear(&mut self, expected: Option<usize>) -> Vec<String> {
        let enough = async {
            let (mut last, mut since) = (0, Instant::now());
            loop {
                let count = self.lines().len();
                if count != last {
                    (last, since) = (count, Instant::now());
                }
                match expected {
                    Some(expected) if expected <= count => return,
                    None if QUIET < since.elapsed() => return,
                    Some(_) | None => sleep(Duration::from_millis(5)).await,
                }
            }
        };
        drop(timeout(PATIENCE, enough).await);
        let lines = self.lines();
        lines.into_iter().map(|line| self.names.replace(&line)).collect()
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, fake) in &self.upstreams {
            let wire = fake.wire();
            lines.extend(wire.iter().filter(|line| spoken(&line.text)).map(|line| {
                let mark = if line.inward { ">>" } else { "<<" };
                format!("{mark} {name} {}", line.text)
            }));
        }
        let mut heard = self.heard.lock().clone();
        heard.sort_by_key(|(exchange, _)| *exchange);
        lines.extend(heard.into_iter().map(|(_, line)| line));
        lines
    }
}

/// Lists are read when the gate thinks fit, and streams opened: of no meaning in a conversation.
fn spoken(text: &str) -> bool {
    let method = Message::parse(text.as_bytes()).method.unwrap_or_default();
    let list = method.ends_with("/list") && !method.starts_with("roots");
    let answer = text.contains(r#""result":{"tools":["#) || text.contains(r#""ttlMs":60000"#);
    let opens = ["server/discover", "subscriptions/listen"].contains(&method.as_str());
    let opened = method == "notifications/subscriptions/acknowledged";
    text != "GET" && !list && !answer && !opens && !opened
}

async fn listen(number: usize, mut reply: Reply, heard: Arc<Mutex<Vec<(usize, String)>>>) {
    let say = |line: String| heard.lock().push((number, line));
    if !reply.is_stream() {
        let status = reply.status;
        let text = reply.text().await;
        return say(format!("< {status} {text}").trim_end().to_owned());
    }
    while let Some(event) = reply.event().await {
        if !event.data.is_empty() {
            say(format!("| {}", event.data));
        }
    }
}

/// `legacy 2025-06-18 log ask:asks`: a tool of each name, which asks, takes steps, hangs and so on as
/// its suffix says.
fn upstream(words: &str) -> Fake {
    let mut words = words.split(' ');
    let mut fake = match words.next().unwrap() {
        "modern" => fake::http(),
        "legacy" => fake::legacy(words.next().unwrap()),
        era => panic!("no era is called {era}"),
    };
    for word in words {
        let (name, does) = word.split_once(':').unwrap_or((word, ""));
        fake = fake.tool(name);
        fake = match does {
            "" => fake,
            "hangs" => fake.hang(),
            "asks" => {
                let schema =
                    json!({ "type": "object", "properties": { "sure": { "type": "boolean" } } });
                let ask = json!({ "message": "Deploy?", "requestedSchema": schema });
                fake.ask("elicitation/create", &ask)
            }
            "asks-twice" => {
                let thinks = json!({ "messages": [], "maxTokens": 5 });
                fake.ask("roots/list", &json!({})).ask("sampling/createMessage", &thinks)
            }
            "wants-a-page" => fake.error(SIGN_IN),
            "steps" => {
                let params = json!({ "progressToken": "TOKEN", "progress": 1, "total": 2 });
                let method = "notifications/progress";
                fake.stream(&[json!({ "jsonrpc": "2.0", "method": method, "params": params })])
            }
            word => panic!("no tool does {word}"),
        };
    }
    fake
}

impl Names {
    /// Names for the ids that the gate gives, in order of appearance; they are known to later
    /// steps.
    fn replace(&mut self, line: &str) -> String {
        let (mark, text) = line.split_at(line.find('{').unwrap_or(line.len()));
        let message = Message::parse(text.as_bytes());
        let mut line = text.to_owned();
        let asks = message.method.is_some();
        match (message.id, mark.trim()) {
            (Some(id), "|" | "<") if asks => line = self.named(&line, &id, "ask"),
            (Some(id), mark) if mark.starts_with(">>") || mark.starts_with("<<") => {
                line = self.named(&line, &id, "id");
            }
            _ => (),
        }
        let cancelled = message.method.as_deref() == Some("notifications/cancelled");
        if mark.starts_with(">>") && cancelled {
            let params: BTreeMap<String, Value> =
                serde_json::from_str(&message.params.unwrap()).unwrap();
            let id = params["requestId"].to_string();
            let name = self.name(&id, "id");
            line = line.replace(&format!("\"requestId\":{id}"), &format!("\"requestId\":{name}"));
        }
        if let Some(state) =
            state_of(&line).filter(|_| !mark.starts_with(">>") && !mark.starts_with("<<"))
        {
            let name = self.name(&state, "state");
            line = line.replace(&state, &name);
        }
        let version = concat!("\"version\":\"", env!("CARGO_PKG_VERSION"), "\"");
        format!("{mark}{}", line.replace(version, "\"version\":<version>"))
    }

    fn named(&mut self, line: &str, id: &str, kind: &str) -> String {
        let name = self.name(id, kind);
        line.replacen(&format!("\"id\":{id}"), &format!("\"id\":{name}"), 1)
    }

    fn name(&mut self, id: &str, kind: &str) -> String {
        let key = format!("{kind} {id}");
        if let Some((_, name)) = self.0.iter().find(|(known, _)| *known == key) {
            return name.clone();
        }
        let count = self.0.iter().filter(|(known, _)| known.starts_with(kind)).count();
        let name = format!("<{kind}-{}>", count + 1);
        self.0.push((key, name.clone()));
        name
    }

    /// The line with this run's text for each name.
    fn restore(&self, line: &str) -> String {
        self.0.iter().fold(line.to_owned(), |line, (key, name)| {
            line.replace(name, key.split_once(' ').unwrap().1)
        })
    }
}

/// The `requestState` of a message to the client, with its quotes.
fn state_of(line: &str) -> Option<String> {
    let (_, rest) = line.split_once(r#""requestState":""#)?;
    Some(format!("\"{}\"", rest.split('"').next()?))
}

/// The lines that differ, old before new.
fn difference(written: &str, played: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (written.lines().collect(), played.lines().collect());
    let same = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let show = |mark: &str, lines: &[&str]| {
        let lines = lines.iter().skip(same).take(8).map(|line| format!("{mark}{line}\n"));
        lines.collect::<String>()
    };
    format!("line {}:\n{}{}", same + 1, show("- ", &old), show("+ ", &new))
}
