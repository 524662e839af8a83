//! Fake MCP servers: each speaks exactly one era (or says that it is dual), is built by sentences,
//! does what it is told to do wrong, and remembers what it received, byte for byte.
//!
//! What follows a name belongs to it, what comes before any name to the server itself:
//! `fake::legacy("2025-06-18").logging().tool("log").stream(&[progress]).tool("slow").hang()`.

mod answer;
mod http;
mod sse;
mod task;

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use hyper::{HeaderMap, Method};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    eventually,
    message::{Message, members},
};

pub use self::http::STATE;

pub const MODERN: &str = "2026-07-28";

/// A running fake; clones are the same server.
#[derive(Clone)]
pub struct Fake(Arc<Inner>);

struct Inner {
    script: Mutex<Script>,
    live: Mutex<Live>,
    place: Place,
    down: watch::Sender<bool>,
    dead: watch::Sender<bool>,
    connections: AtomicUsize,
}

enum Place {
    Http(SocketAddr),
    /// The older HTTP+SSE.
    Sse(SocketAddr),
    /// Keeps the script that `stdio.py` reads and the log that it writes.
    Stdio(TempDir),
}

/// What a fake has and does. `stdio.py` reads the same words.
#[derive(Clone, Serialize)]
pub struct Script {
    versions: Vec<String>,
    tools: Vec<String>,
    /// Of a process: listed for clients that can be asked only.
    asked_tools: Vec<String>,
    prompts: Vec<String>,
    resources: Vec<String>,
    templates: Vec<String>,
    completions: bool,
    logging: bool,
    page_size: usize,
    ttl_ms: u64,
    /// By tool, prompt, URI or the method of a list; the empty name is the server itself.
    acts: BTreeMap<String, Act>,
    /// By method, whatever else is said of it.
    methods: BTreeMap<String, Act>,
    /// Of a process: it reads nothing before.
    starts_after_ms: u64,
    /// Of a process: it ends at once.
    broken: bool,
    #[serde(skip)]
    last: String,
    #[serde(skip)]
    conversations: Conversations,
    /// Over HTTP: the only token that is taken.
    #[serde(skip)]
    token: Option<String>,
    /// Over HTTP: where tokens are had (RFC 9728).
    #[serde(skip)]
    metadata: Option<Value>,
}

/// How a legacy server over HTTP tells conversations apart.
#[derive(Clone, Copy, PartialEq)]
enum Conversations {
    Sessions,
    Stateless,
}

/// What happens when a name is called.
#[derive(Clone, Serialize)]
#[serde(tag = "act", content = "with", rename_all = "snake_case")]
pub enum Act {
    /// These very bytes are the `result`.
    Result(String),
    /// These very bytes are the `error`.
    Error(String),
    /// These messages on the call's own stream, then a plain result.
    Stream(Vec<String>),
    /// Over HTTP: these messages on the call's own stream, which then ends.
    Part(Vec<String>),
    /// Requests (method, params) to the client; the result holds the raw answers.
    Ask(Vec<(String, String)>),
    /// A task, if the client takes one; what each look at it finds: raw members, with its `status`.
    Task(Vec<String>),
    Hang,
    /// A stream that stays open; see `Fake::progresses`.
    Open,
    Garbage,
    Twice,
    ClosesMidway,
    HugeLine(usize),
    LiesAboutVersion,
    MillionTools,
    EndlessPages,
    /// An answer with an id that nobody asked with, then the right one.
    Stray,
    /// Over HTTP: these bytes are the `result`, with what the request's `x-tenant` and
    /// `authorization` headers say in place of `WHO`; it takes a moment.
    Echo(String),
    /// Over HTTP: this status with no MCP in it.
    Status(u16),
    /// Over HTTP: this status, and these very bytes are the `error`.
    Refuses(u16, String),
    /// The same with so many seconds of `Retry-After`.
    Busy(u16, u64),
    /// Over HTTP: this status, and where it leads.
    Redirect(u16, String),
    /// Over HTTP: each time the next of them; the last one stays.
    Turns(Vec<Act>),
    /// Over HTTP+SSE: this is said to be where messages go.
    Endpoint(String),
    /// What it would do anyway, after so many milliseconds.
    Later(u64),
    /// Over HTTP: the TCP connection is closed without a byte.
    Drops,
    /// A process ends with this code.
    Exits(i32),
    /// The same, after a plain answer.
    AnswersAndExits,
    /// The same with a traceback where answers are read.
    Raises,
    /// A process is killed.
    IsKilled,
    /// A process closes its output, and goes on living.
    ClosesOutput,
    /// A process says nothing, and ends at the next message.
    IsDoomed,
    /// A process reads nothing any more.
    Stalls,
}

/// What changes while the fake runs.
#[derive(Default)]
struct Live {
    seen: Vec<Seen>,
    sessions: HashMap<String, Session>,
    listens: Vec<Listen>,
    /// Requests of ours to the client, by the raw text of their id.
    asked: HashMap<String, oneshot::Sender<String>>,
    /// The same with the streams of the calls that they belong to.
    asking: Vec<(String, Stream)>,
    jobs: HashMap<String, task::Job>,
    /// Streams of calls that are held open, with their progress tokens and ids.
    open: Vec<(Value, String, Stream)>,
    ids: usize,
    wire: Vec<Line>,
}

type Stream = mpsc::UnboundedSender<Bytes>;

/// A legacy session: its GET streams and the resources it wants to hear of.
#[derive(Default)]
struct Session {
    streams: Vec<Stream>,
    uris: Vec<String>,
}

/// A `subscriptions/listen` of the modern era: its id, raw, and what it asked for.
struct Listen {
    id: String,
    wanted: Value,
    stream: Stream,
}

/// One message in or out, for transcripts.
#[derive(Clone)]
pub struct Line {
    pub inward: bool,
    pub text: String,
}

/// One request that a fake received.
#[derive(Clone)]
pub struct Seen {
    pub verb: Method,
    pub headers: HeaderMap,
    pub body: Bytes,
    abandoned: Arc<AtomicBool>,
}

/// Speaks 2026-07-28 over HTTP and nothing else.
pub fn http() -> Fake {
    Fake::listen(&[MODERN], Place::Http)
}

/// Speaks one version with `initialize` and sessions over HTTP, and nothing else.
pub fn legacy(version: &str) -> Fake {
    Fake::listen(&[version], Place::Http)
}

/// Speaks one version with `initialize` over HTTP+SSE, and nothing else: a stream at `/sse` is the
/// session, and brings all that the server says.
pub fn sse(version: &str) -> Fake {
    Fake::listen(&[version], Place::Sse)
}

/// Speaks 2026-07-28 and 2025-11-25 over HTTP, on the same path.
pub fn dual() -> Fake {
    Fake::listen(&[MODERN, "2025-11-25"], Place::Http)
}

/// Speaks one version over standard input and output; needs python3.
pub fn stdio(version: &str) -> Fake {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("stdio.py"), include_str!("stdio.py")).unwrap();
    Fake::new(&[version], Place::Stdio(folder))
}

/// The sentences.
impl Fake {
    pub fn tool(self, name: &str) -> Self {
        self.tool_with(json!({ "name": name, "inputSchema": { "type": "object" } }))
    }

    pub fn tool_with(self, tool: Value) -> Self {
        self.tool_raw(&tool.to_string())
    }

    /// A tool whose entry in the list is these very bytes.
    pub fn tool_raw(self, tool: &str) -> Self {
        self.has(tool, "name", |script| &mut script.tools)
    }

    /// A process lists it for clients that can be asked only.
    pub fn asked_tool(self, name: &str) -> Self {
        let tool = json!({ "name": name, "inputSchema": { "type": "object" } });
        self.with(|script| script.asked_tools.push(tool.to_string()))
    }

    pub fn prompt(self, name: &str) -> Self {
        let prompt = json!({ "name": name, "arguments": [{ "name": "topic" }] });
        self.has(&prompt.to_string(), "name", |script| &mut script.prompts)
    }

    pub fn resource(self, uri: &str) -> Self {
        let resource = json!({ "uri": uri, "name": uri });
        self.has(&resource.to_string(), "uri", |script| &mut script.resources)
    }

    pub fn template(self, uri: &str) -> Self {
        let template = json!({ "uriTemplate": uri, "name": uri });
        self.has(&template.to_string(), "uriTemplate", |script| &mut script.templates)
    }

    pub fn completions(self) -> Self {
        self.with(|script| script.completions = true)
    }

    pub fn logging(self) -> Self {
        self.with(|script| script.logging = true)
    }

    /// Legacy over HTTP: without sessions.
    pub fn stateless(self) -> Self {
        self.with(|script| script.conversations = Conversations::Stateless)
    }

    /// Its lists come in pages of so many entries.
    pub fn pages_of(self, entries: usize) -> Self {
        self.with(|script| script.page_size = entries)
    }

    /// The cache hint on its lists, modern era only.
    pub fn ttl_ms(self, ttl: u64) -> Self {
        self.with(|script| script.ttl_ms = ttl)
    }

    pub fn answer(self, result: &str) -> Self {
        self.does(Act::Result(result.into()))
    }

    pub fn error(self, error: &str) -> Self {
        self.does(Act::Error(error.into()))
    }

    /// These messages before the result; `"TOKEN"` in them is the caller's progress token.
    pub fn stream(self, messages: &[Value]) -> Self {
        self.does(Act::Stream(messages.iter().map(Value::to_string).collect()))
    }

    /// Asks the client on the call's own stream (legacy) or with `input_required` (modern).
    pub fn ask(self, method: &str, params: &Value) -> Self {
        let ask = (method.to_owned(), params.to_string());
        self.with(|script| {
            let act = script.acts.entry(script.last.clone()).or_insert(Act::Ask(vec![]));
            if let Act::Ask(asks) = act {
                asks.push(ask);
            }
        })
    }

    pub fn task(self, steps: &[&str]) -> Self {
        self.does(Act::Task(steps.iter().map(|&step| step.to_owned()).collect()))
    }

    /// What comes of requests with this method.
    pub fn on(self, method: &str, act: Act) -> Self {
        self.with(|script| drop(script.methods.insert(method.into(), act)))
    }

    /// A process that reads nothing before.
    pub fn starts_after(self, ms: u64) -> Self {
        self.with(|script| script.starts_after_ms = ms)
    }

    pub fn hang(self) -> Self {
        self.does(Act::Hang)
    }

    pub fn does(self, act: Act) -> Self {
        self.with(|script| drop(script.acts.insert(script.last.clone(), act)))
    }

    fn has(self, raw: &str, key: &str, list: fn(&mut Script) -> &mut Vec<String>) -> Self {
        let name = text_of(raw, key);
        self.with(|script| {
            list(script).push(raw.to_owned());
            script.last = name;
        })
    }

    fn with(self, change: impl FnOnce(&mut Script)) -> Self {
        change(&mut self.0.script.lock());
        self
    }
}

/// What happens to it while it runs.
impl Fake {
    /// Adds a tool and says so to everyone who listens.
    pub fn add_tool(&self, name: &str) {
        drop(self.clone().tool(name));
        self.tell("notifications/tools/list_changed", &json!({}));
    }

    /// Lists these tools from now on, and says so to everyone who listens.
    pub fn relists(&self, tools: &[Value]) {
        self.0.script.lock().tools = tools.iter().map(Value::to_string).collect();
        self.tell("notifications/tools/list_changed", &json!({}));
    }

    /// From now on only requests with this token are taken.
    pub fn wants_token(&self, token: &str) {
        self.0.script.lock().token = Some(token.to_owned());
    }

    /// From now on it says where tokens are had.
    pub fn names_issuer(&self, issuer: &str) {
        let resource = format!("http://{}/mcp", self.address());
        let metadata = json!({ "resource": resource, "authorization_servers": [issuer] });
        self.0.script.lock().metadata = Some(metadata);
    }

    /// The next process of it ends at once, or does not.
    pub fn is_broken(&self, broken: bool) {
        self.0.script.lock().broken = broken;
        self.section();
    }

    /// From now on, and for processes to come, another version is spoken, and nothing is wrong.
    pub fn is_replaced_by(&self, version: &str, on_discover: Option<Act>) {
        {
            let mut script = self.0.script.lock();
            script.versions = vec![version.to_owned()];
            let acts = on_discover.into_iter().map(|act| ("server/discover".to_owned(), act));
            script.methods = acts.collect();
        }
        self.section();
    }

    /// From now on, calls of `name` do this.
    pub fn becomes(&self, name: &str, act: Act) {
        self.0.script.lock().acts.insert(name.into(), act);
    }

    /// From now on, calls of `name` do nothing special.
    pub fn recovers(&self, name: &str) {
        self.0.script.lock().acts.remove(name);
    }

    /// Sends a notification to all who want it: on one stream of each session, and on each
    /// subscription.
    pub fn tell(&self, method: &str, params: &Value) {
        let mut live = self.0.live.lock();
        let text = notification(method, params);
        let uri = params["uri"].as_str().unwrap_or_default();
        let update = method == "notifications/resources/updated";
        for session in live.sessions.values().filter(|s| !update || s.uris.iter().any(|u| u == uri))
        {
            let open = session.streams.iter().find(|stream| !stream.is_closed());
            drop(open.map(|stream| stream.send(http::event(&text))));
        }
        for listen in live.listens.iter().filter(|listen| listen.wants(method, uri)) {
            listen.tell(method, params);
        }
        live.wire.push(Line { inward: false, text });
    }

    /// The entries of its tools, as they are.
    pub fn tools_raw(&self) -> Vec<String> {
        self.0.script.lock().tools.clone()
    }

    /// How many subscriptions of modern clients are open.
    pub fn listening(&self) -> usize {
        self.0.live.lock().listens.iter().filter(|listen| !listen.stream.is_closed()).count()
    }

    /// Tells late what happened before the newest subscription: on the others only.
    pub fn tell_late(&self, method: &str, params: &Value) {
        let live = self.0.live.lock();
        let (_, older) = live.listens.split_last().unwrap();
        older.iter().for_each(|listen| listen.tell(method, params));
    }

    /// Asks on a stream that belongs to no call, of each session that has one.
    pub fn asks_aside(&self, method: &str, params: &Value) {
        let live = self.0.live.lock();
        for (at, session) in live.sessions.values().enumerate() {
            let id = format!("aside-{at}");
            let ask = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
            let open = session.streams.iter().find(|stream| !stream.is_closed());
            drop(open.map(|stream| stream.send(http::event(&ask.to_string()))));
        }
    }

    /// Takes back what it asked on the streams of calls.
    pub fn withdraws_questions(&self) {
        for (id, stream) in self.0.live.lock().asking.drain(..) {
            let id: Value = serde_json::from_str(&id).unwrap();
            let text = notification("notifications/cancelled", &json!({ "requestId": id }));
            drop(stream.send(http::event(&text)));
        }
    }

    /// Says that the calls it holds open go on, to those who want to hear it.
    pub fn progresses(&self) {
        let live = self.0.live.lock();
        for (token, _, stream) in live.open.iter().filter(|(token, ..)| !token.is_null()) {
            let params = json!({ "progressToken": token, "progress": 1 });
            drop(stream.send(http::event(&notification("notifications/progress", &params))));
        }
    }

    /// Answers the calls it holds open with these very bytes as the `result`.
    pub fn finishes(&self, result: &str) {
        for (_, id, stream) in self.0.live.lock().open.drain(..) {
            let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
            drop(stream.send(http::event(&text)));
        }
    }

    /// Breaks off the calls it holds open.
    pub fn breaks_off(&self) {
        self.0.live.lock().open.clear();
    }

    /// Sends these very bytes on every stream of sessions.
    pub fn says(&self, text: &str) {
        for stream in self.0.live.lock().sessions.values().flat_map(|session| &session.streams) {
            drop(stream.send(Bytes::from(text.to_owned())));
        }
    }

    /// Every connection breaks and no new one is served.
    pub fn goes_down(&self) {
        self.0.down.send_replace(true);
    }

    /// Every connection breaks, and nothing listens any more.
    pub fn dies(&self) {
        self.0.dead.send_replace(true);
        self.goes_down();
    }

    /// The addresses of several that are the same server.
    pub fn replicas(all: &[&Self]) -> String {
        let urls = all.iter().map(|fake| format!("\"http://{}/mcp\"", fake.address()));
        format!("url = [{}]\n", urls.collect::<Vec<_>>().join(", "))
    }

    pub fn comes_back(&self) {
        self.0.down.send_replace(false);
    }

    /// As after a restart of the server: every session id answers 404.
    pub fn forgets_sessions(&self) {
        self.0.live.lock().sessions.clear();
    }

    pub fn forgets_wire(&self) {
        self.0.live.lock().wire.clear();
    }
}

/// What it remembers.
impl Fake {
    /// The requests with this JSON-RPC method so far; of a stdio fake without headers.
    pub fn seen(&self, method: &str) -> Vec<Seen> {
        self.all().into_iter().filter(|seen| seen.method() == method).collect()
    }

    pub fn all(&self) -> Vec<Seen> {
        let Place::Stdio(folder) = &self.0.place else { return self.0.live.lock().seen.clone() };
        let log = fs::read(folder.path().join("log")).unwrap_or_default();
        let whole = log.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
        whole.map(|line| Seen::new(Method::POST, HeaderMap::new(), line.trim_ascii())).collect()
    }

    /// The first request with this method, as soon as there is one.
    pub async fn receives(&self, method: &str) -> Seen {
        eventually(&format!("the upstream receives {method}"), || self.seen(method).pop()).await
    }

    /// Processes started from a stdio fake so far.
    pub fn pids(&self) -> Vec<i32> {
        let Place::Stdio(folder) = &self.0.place else { return vec![] };
        let pids = fs::read_to_string(folder.path().join("pids")).unwrap_or_default();
        pids.lines().map(|line| line.parse().unwrap()).collect()
    }

    /// When its processes were opening: from their first moment to their first answer, in seconds.
    pub fn openings(&self) -> Vec<(f64, f64)> {
        let Place::Stdio(folder) = &self.0.place else { return vec![] };
        let times = fs::read_to_string(folder.path().join("times")).unwrap_or_default();
        let times = times.lines().map(|line| line.split_once(' ').unwrap());
        times.map(|(from, to)| (from.parse().unwrap(), to.parse().unwrap())).collect()
    }

    pub fn wire(&self) -> Vec<Line> {
        self.0.live.lock().wire.clone()
    }

    /// Streams open for notifications: GET of the legacy era, `subscriptions/listen` of the modern
    /// one.
    pub fn listeners(&self) -> usize {
        let live = self.0.live.lock();
        let streams = live.sessions.values().flat_map(|session| &session.streams);
        let streams = streams.chain(live.listens.iter().map(|listen| &listen.stream));
        streams.filter(|stream| !stream.is_closed()).count()
    }

    /// Its keys in `routes.toml`.
    pub fn section(&self) -> String {
        match &self.0.place {
            Place::Http(address) => format!("url = \"http://{address}/mcp\"\n"),
            Place::Sse(address) => format!("url = \"http://{address}/sse\"\n"),
            Place::Stdio(folder) => {
                let script = serde_json::to_string(&*self.0.script.lock()).unwrap();
                fs::write(folder.path().join("script.json"), script).unwrap();
                let folder = folder.path().display();
                format!("command = \"python3\"\nargs = [\"{folder}/stdio.py\", \"{folder}\"]\n")
            }
        }
    }

    pub fn address(&self) -> SocketAddr {
        match &self.0.place {
            Place::Http(address) | Place::Sse(address) => *address,
            Place::Stdio(_) => panic!("a stdio fake has no address"),
        }
    }

    fn new(versions: &[&str], place: Place) -> Self {
        let script = Script {
            versions: versions.iter().map(|&version| version.to_owned()).collect(),
            tools: vec![],
            asked_tools: vec![],
            prompts: vec![],
            resources: vec![],
            templates: vec![],
            completions: false,
            logging: false,
            page_size: usize::MAX >> 1,
            ttl_ms: 60_000,
            acts: BTreeMap::new(),
            methods: BTreeMap::new(),
            starts_after_ms: 0,
            broken: false,
            last: String::new(),
            conversations: Conversations::Sessions,
            token: None,
            metadata: None,
        };
        Self(Arc::new(Inner {
            script: Mutex::new(script),
            live: Mutex::default(),
            place,
            down: watch::channel(false).0,
            dead: watch::channel(false).0,
            connections: AtomicUsize::new(0),
        }))
    }
}

impl Listen {
    fn tell(&self, method: &str, params: &Value) {
        let mut params = params.clone();
        let id: Value = serde_json::from_str(&self.id).unwrap();
        params["_meta"] = json!({ "io.modelcontextprotocol/subscriptionId": id });
        drop(self.stream.send(http::event(&notification(method, &params))));
    }

    fn wants(&self, method: &str, uri: &str) -> bool {
        let key = match method {
            "notifications/tools/list_changed" => "toolsListChanged",
            "notifications/prompts/list_changed" => "promptsListChanged",
            "notifications/resources/list_changed" => "resourcesListChanged",
            _ => "resourceSubscriptions",
        };
        let wanted = &self.wanted[key];
        let uris = wanted.as_array();
        wanted == &Value::Bool(true) || uris.is_some_and(|uris| uris.iter().any(|one| one == uri))
    }
}

/// A member of an entry, which may hold what Rust's numbers and strings cannot.
fn text_of(raw: &str, key: &str) -> String {
    serde_json::from_str(&members(raw.as_bytes())[key]).unwrap()
}

fn notification(method: &str, params: &Value) -> String {
    json!({ "jsonrpc": "2.0", "method": method, "params": params }).to_string()
}

impl Seen {
    fn new(verb: Method, headers: HeaderMap, body: &[u8]) -> Self {
        Self { verb, headers, body: Bytes::copy_from_slice(body), abandoned: Arc::default() }
    }

    pub fn method(&self) -> String {
        self.message().method.unwrap_or_default()
    }

    pub fn message(&self) -> Message {
        Message::parse(&self.body)
    }

    /// The value of a header; empty when absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Whether the other side went away before the answer was complete.
    pub fn abandoned(&self) -> bool {
        self.abandoned.load(Ordering::SeqCst)
    }
}
