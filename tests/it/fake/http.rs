//! A fake on a TCP port: sessions, streams and faults, on hyper.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    HeaderMap, Method, Request, Response,
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
};

use super::{Act, Conversations, Fake, Line, Listen, Place, Seen, Session, Stream, answer};
use crate::message::Message;

pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Marks a response in whose place the connection ends.
#[derive(Clone)]
struct Dropped;

/// One HTTP exchange: notes what goes out, and whether the other side left before the end.
pub struct Exchange {
    pub fake: Fake,
    pub modern: bool,
    pub message: Message,
    /// The tenant's and the caller's headers.
    who: String,
    complete: bool,
    abandoned: Arc<AtomicBool>,
}

impl Fake {
    pub(super) fn listen(versions: &[&str], place: fn(SocketAddr) -> Place) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let fake = Self::new(versions, place(listener.local_addr().unwrap()));
        let accepting = fake.clone();
        tokio::spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                let mut dead = accepting.0.dead.subscribe();
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    _ = dead.wait_for(|dead| *dead) => return,
                };
                let (stream, _): (_, SocketAddr) = accepted.unwrap();
                accepting.0.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(accepting.clone().converse(stream));
            }
        });
        fake
    }

    async fn converse(self, stream: TcpStream) {
        let mut down = self.0.down.subscribe();
        let service = service_fn(|request| {
            let fake = self.clone();
            async move {
                let response = fake.serve(request).await;
                let drops = response.extensions().get::<Dropped>().is_some();
                if drops { Err(io::Error::other("dropped")) } else { Ok(response) }
            }
        });
        let builder = auto::Builder::new(TokioExecutor::new());
        tokio::select! {
            // One that is down answers nothing, also where a request is there already.
            biased;
            _ = down.wait_for(|down| *down) => (),
            _ = builder.serve_connection(TokioIo::new(stream), service) => (),
        }
    }

    async fn serve(self, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let Ok(body) = body.collect().await else { return status(400) };
        let body = body.to_bytes();
        let seen = Seen::new(head.method.clone(), head.headers.clone(), &body);
        let message = seen.message();
        let abandoned = seen.abandoned.clone();
        self.0.live.lock().seen.push(seen);
        let text = match head.method {
            Method::POST => String::from_utf8_lossy(&body).into_owned(),
            ref verb => verb.to_string(),
        };
        let (token, metadata) = {
            let script = self.0.script.lock();
            (script.token.clone(), script.metadata.clone())
        };
        if head.uri.path().starts_with("/.well-known/oauth-protected-resource") {
            return metadata.map_or(status(404), |text| json_body(200, text.to_string().into()));
        }
        let sent = head.headers.get("authorization").map(|sent| sent.to_str().unwrap());
        if token.is_some_and(|token| sent != Some(&format!("Bearer {token}"))) {
            return status(401);
        }
        self.note(true, &text);
        let modern = answer::is_modern(&head.headers, &message);
        let who = ["x-tenant", "authorization"].map(|name| {
            let values = head.headers.get_all(name).iter().map(|value| value.to_str().unwrap());
            values.collect::<Vec<_>>().join("|")
        });
        let who = who.join(" ");
        let exchange = Exchange { fake: self, modern, message, who, complete: false, abandoned };
        match exchange.fake.0.place {
            Place::Sse(_) => exchange.older(&head.method, &head.uri).await,
            Place::Http(_) | Place::Stdio(_) => exchange.run(&head.method, &head.headers).await,
        }
    }

    fn note(&self, inward: bool, text: &str) {
        let line = Line { inward, text: text.to_owned() };
        self.0.live.lock().wire.push(line);
    }

    pub fn next_id(&self, prefix: &str) -> String {
        let mut live = self.0.live.lock();
        live.ids += 1;
        format!("{prefix}{}", live.ids)
    }
}

impl Exchange {
    async fn run(self, verb: &Method, headers: &HeaderMap) -> Response<Body> {
        let method = self.message.method.clone().unwrap_or_default();
        let told = self.fake.0.script.lock().methods.get(&method).cloned();
        match told {
            Some(Act::Later(ms)) => tokio::time::sleep(Duration::from_millis(ms)).await,
            Some(act) => return self.act(act).await,
            None => (),
        }
        if self.modern || !self.fake.0.script.lock().speaks(false) {
            return match *verb {
                Method::POST => self.modern(headers).await,
                _ => self.ends(status(405)),
            };
        }
        let session = headers.get("mcp-session-id").map(|id| id.to_str().unwrap().to_owned());
        let first = self.message.method.as_deref() == Some("initialize");
        if self.fake.0.script.lock().conversations == Conversations::Stateless {
            return match *verb {
                Method::POST => self.legacy("").await,
                _ => self.ends(status(405)),
            };
        }
        match (first, &session) {
            (true, _) => return self.open().await,
            (false, None) => return self.refuse(answer::error(400, -32000, "no session")),
            (false, Some(id)) if !self.fake.0.live.lock().sessions.contains_key(id) => {
                return self.refuse(answer::error(404, -32001, "session not found"));
            }
            (false, Some(_)) => (),
        }
        let version = headers.get("mcp-protocol-version").map(|v| v.to_str().unwrap().to_owned());
        let own = self.fake.0.script.lock().legacy_version().to_owned();
        if version.as_ref().is_none_or(|version| *version != own) && own.as_str() >= "2025-06-18" {
            return self.refuse(answer::error(400, -32000, "wrong MCP-Protocol-Version"));
        }
        match *verb {
            Method::POST => self.legacy(&session.unwrap()).await,
            Method::GET => self.subscribe(&session.unwrap()),
            Method::DELETE => {
                self.fake.0.live.lock().sessions.remove(&session.unwrap());
                self.ends(status(200))
            }
            _ => self.ends(status(405)),
        }
    }

    async fn open(self) -> Response<Body> {
        let id = self.fake.next_id("session-");
        self.fake.0.live.lock().sessions.insert(id.clone(), Session::default());
        let mut response = self.answer().await;
        response.headers_mut().insert("mcp-session-id", id.parse().unwrap());
        response
    }

    pub async fn legacy(self, session: &str) -> Response<Body> {
        let Message { id, method, result, error, .. } = self.message.clone();
        let uri = self.message.params()["uri"].as_str().unwrap_or_default().to_owned();
        if let Some(session) = self.fake.0.live.lock().sessions.get_mut(session) {
            match method.as_deref() {
                Some("resources/subscribe") => session.uris.push(uri),
                Some("resources/unsubscribe") => session.uris.retain(|known| *known != uri),
                _ => (),
            }
        }
        if method.is_some() && id.is_some() {
            return self.answer().await;
        }
        let waiting = id.and_then(|id| self.fake.0.live.lock().asked.remove(&id));
        if let Some(waiting) = waiting {
            drop(waiting.send(result.or(error).unwrap_or_default()));
        }
        self.ends(status(202))
    }

    async fn modern(self, headers: &HeaderMap) -> Response<Body> {
        let speaks = self.fake.0.script.lock().speaks(true);
        if self.message.id.is_none() {
            return self.ends(status(202));
        }
        match answer::check_modern(headers, &self.message) {
            _ if !speaks => self.refuse(answer::error(400, -32000, "no session")),
            Err(refusal) => self.refuse(refusal),
            Ok(()) if self.message.method.as_deref() == Some("subscriptions/listen") => {
                self.listen()
            }
            Ok(()) => self.answer().await,
        }
    }

    /// What the script says about this call, or about the whole server.
    pub fn told(&self) -> Option<Act> {
        let script = self.fake.0.script.lock();
        let listing = self.message.method.as_deref() == Some("tools/list");
        let quiet = |act: &Act| {
            matches!(act, Act::LiesAboutVersion | Act::EndlessPages | Act::Endpoint(_))
                || (matches!(act, Act::MillionTools) && !listing)
        };
        let act = script.act("").filter(|act| !quiet(act));
        let act = act.or_else(|| script.target(&self.message)).cloned();
        drop(script);
        match act {
            Some(Act::Turns(_)) => self.fake.0.script.lock().turn(&self.message),
            act => act,
        }
    }

    async fn answer(self) -> Response<Body> {
        let script = self.fake.0.script.lock().clone();
        if self.message.method.as_deref().is_some_and(|method| method.starts_with("tasks/")) {
            return self.on_job();
        }
        match self.told() {
            Some(act) => self.act(act).await,
            None => match script.answer(&self.message, self.modern) {
                Some(Ok(result)) => self.result(&result),
                Some(Err(refusal)) => self.refuse(refusal),
                None => {
                    let status = if self.modern { 404 } else { 200 };
                    self.refuse(answer::error(status, -32601, "method not found"))
                }
            },
        }
    }

    #[allow(clippy::wildcard_enum_match_arm, reason = "the rest acts elsewhere")]
    async fn act(self, act: Act) -> Response<Body> {
        match act {
            Act::Result(raw) => self.result(&raw),
            Act::Error(raw) => self.refuse((200, raw)),
            Act::Echo(raw) => {
                // What asks the same at once is here before the answer.
                tokio::time::sleep(Duration::from_millis(10)).await;
                let raw = raw.replace("WHO", &self.who);
                self.result(&raw)
            }
            Act::Status(code) => self.ends(status(code)),
            Act::Refuses(code, raw) => self.refuse((code, raw)),
            Act::Drops => {
                let mut response = status(200);
                response.extensions_mut().insert(Dropped);
                self.ends(response)
            }
            Act::Later(ms) => {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                let plain = self.plain();
                self.result(&plain)
            }
            Act::Busy(code, seconds) => self.heads(code, "retry-after", &seconds.to_string()),
            Act::Redirect(code, to) => self.heads(code, "location", &to),
            Act::Open => {
                let (sender, body) = events();
                let token = self.message.params()["_meta"]["progressToken"].clone();
                let id = self.message.id.clone().unwrap();
                self.fake.0.live.lock().open.push((token, id, sender));
                self.ends(body)
            }
            Act::Task(steps) => self.begins_job(steps),
            Act::Hang => {
                let _held = self;
                std::future::pending().await
            }
            Act::Garbage => {
                self.note("<html>not JSON");
                self.ends(json_body(200, Bytes::from("<html>not JSON")))
            }
            Act::Stream(messages) => self.streams(messages, true),
            Act::Part(messages) => self.streams(messages, false),
            Act::Twice => {
                let twice = vec![self.envelope("result", &self.plain()); 1];
                self.streams(twice, true)
            }
            Act::Stray => {
                let stray = json!({ "jsonrpc": "2.0", "id": "stray", "result": {} });
                self.streams(vec![stray.to_string()], true)
            }
            Act::ClosesMidway => self.endless(|sent| match sent {
                0 => Some(Ok(Bytes::from("data: {\"jsonrpc\":\"2.0\",\"id\":"))),
                _ => Some(Err(io::Error::other("closed midway"))),
            }),
            Act::HugeLine(bytes) => self.endless(move |sent| match sent << 16 {
                0 => Some(Ok(Bytes::from("data: {\"jsonrpc\":\"2.0\",\"x\":\""))),
                sent if sent <= bytes => Some(Ok(Bytes::from(vec![b'x'; 1 << 16]))),
                _ => None,
            }),
            Act::Ask(asks) if self.modern => self.asks_by_result(&asks),
            Act::Ask(asks) => self.asks_on_stream(asks),
            Act::MillionTools => {
                let id = self.message.id.clone().unwrap();
                self.endless(move |sent| million(&id, sent))
            }
            _ => unreachable!("these act by their answers, or are of processes"),
        }
    }

    fn heads(self, code: u16, name: &'static str, value: &str) -> Response<Body> {
        let mut response = status(code);
        response.headers_mut().insert(name, value.parse().unwrap());
        self.ends(response)
    }

    /// Messages, and then the plain result where it is `answered`, as SSE.
    fn streams(self, messages: Vec<String>, answered: bool) -> Response<Body> {
        let (sender, body) = events();
        let token = self.message.params()["_meta"]["progressToken"].to_string();
        for message in messages {
            let message = message.replace("\"TOKEN\"", &token);
            self.note(&message);
            drop(sender.send(event(&message)));
        }
        if answered {
            let last = self.envelope("result", &self.plain());
            self.note(&last);
            drop(sender.send(event(&last)));
        }
        self.ends(body)
    }

    /// The legacy way: requests on the call's own stream, answered by POSTs of their own.
    fn asks_on_stream(mut self, asks: Vec<(String, String)>) -> Response<Body> {
        let (sender, body) = events();
        tokio::spawn(async move {
            let mut answers = Vec::new();
            for ask in asks {
                tokio::select! {
                    answer = self.asks(ask, &sender) => answers.push(answer),
                    () = sender.closed() => return,
                }
            }
            let result = self.envelope("result", &asked(&answers.join(","), false));
            self.note(&result);
            drop(sender.send(event(&result)));
            self.completes();
        });
        body
    }

    /// Asks one thing on a stream; gives the raw answer.
    pub(super) async fn asks(&self, (method, params): (String, String), on: &Stream) -> String {
        let id = format!("\"{}\"", self.fake.next_id("ask-"));
        let (answer, answered) = oneshot::channel();
        self.fake.0.live.lock().asked.insert(id.clone(), answer);
        self.fake.0.live.lock().asking.push((id.clone(), on.clone()));
        let ask = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#);
        self.note(&ask);
        drop(on.send(event(&ask)));
        answered.await.unwrap_or_default()
    }

    /// The modern way: `input_required`, and the answers in a second call.
    fn asks_by_result(self, asks: &[(String, String)]) -> Response<Body> {
        let params = self.message.params.clone().unwrap_or_default();
        let members = crate::message::members(params.as_bytes());
        match (members.get("inputResponses"), members.get("requestState")) {
            (Some(answers), Some(state)) if state == STATE => self.result(&asked(answers, true)),
            (Some(_), _) => self.refuse(answer::error(200, -32602, "requestState was altered")),
            (None, _) => {
                let inputs = asks.iter().enumerate().map(|(at, (method, params))| {
                    format!(r#""k{at}":{{"method":"{method}","params":{params}}}"#)
                });
                let inputs = inputs.collect::<Vec<_>>().join(",");
                let kind = r#""input_required""#;
                self.result(&format!(
                    r#"{{"resultType":{kind},"inputRequests":{{{inputs}}},"requestState":{STATE}}}"#
                ))
            }
        }
    }

    fn subscribe(mut self, session: &str) -> Response<Body> {
        let (sender, body) = events();
        self.completes();
        drop(sender.send(Bytes::from(": open\n\n")));
        if let Some(session) = self.fake.0.live.lock().sessions.get_mut(session) {
            session.streams.push(sender);
        }
        body
    }

    fn listen(mut self) -> Response<Body> {
        let (sender, body) = events();
        self.completes();
        let id = self.message.id.clone().unwrap();
        let wanted = self.message.params()["notifications"].clone();
        let mut params = json!({ "notifications": wanted });
        let value: Value = serde_json::from_str(&id).unwrap();
        params["_meta"] = json!({ "io.modelcontextprotocol/subscriptionId": value });
        let method = "notifications/subscriptions/acknowledged";
        let ack = json!({ "jsonrpc": "2.0", "method": method, "params": params }).to_string();
        self.note(&ack);
        drop(sender.send(event(&ack)));
        self.fake.0.live.lock().listens.push(Listen { id, wanted, stream: sender });
        body
    }

    /// A stream of raw pieces, made one at a time as the other side takes them.
    fn endless(
        self,
        mut piece: impl FnMut(usize) -> Option<io::Result<Bytes>> + Send + 'static,
    ) -> Response<Body> {
        let json = self.message.method.as_deref() == Some("tools/list");
        let pieces = stream::unfold((self, 0), move |(mut exchange, sent)| {
            let next = piece(sent);
            async move {
                if next.is_none() {
                    exchange.completes();
                }
                tokio::task::yield_now().await; // what came before is flushed
                next.map(|bytes| (bytes.map(Frame::data), (exchange, sent + 1)))
            }
        });
        let body = BodyExt::boxed_unsync(StreamBody::new(pieces));
        let kind = if json { "application/json" } else { "text/event-stream" };
        Response::builder().header("content-type", kind).body(body).unwrap()
    }

    pub(super) fn result(self, raw: &str) -> Response<Body> {
        let text = self.envelope("result", raw);
        self.note(&text);
        self.ends(json_body(200, Bytes::from(text)))
    }

    pub(super) fn refuse(self, (status, raw): (u16, String)) -> Response<Body> {
        let text = self.envelope("error", &raw);
        self.note(&text);
        self.ends(json_body(status, Bytes::from(text)))
    }

    pub fn ends(mut self, response: Response<Body>) -> Response<Body> {
        self.completes();
        response
    }

    pub fn completes(&mut self) {
        self.complete = true;
    }

    /// What the call would give if nothing were wrong with it.
    fn plain(&self) -> String {
        let script = self.fake.0.script.lock().clone();
        script.answer(&self.message, self.modern).and_then(Result::ok).unwrap_or("{}".into())
    }

    pub(super) fn envelope(&self, member: &str, raw: &str) -> String {
        let id = self.message.id.as_deref().unwrap_or("null");
        format!(r#"{{"jsonrpc":"2.0","id":{id},"{member}":{raw}}}"#)
    }

    pub(super) fn note(&self, text: &str) {
        self.fake.note(false, text);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.abandoned.store(!self.complete, Ordering::SeqCst);
    }
}

/// Survives only those who relay it byte for byte, or at least as the same string.
pub const STATE: &str = r#""a state: +/=\u00e9\"\\ü 12345678901234567890""#;

fn asked(answers: &str, modern: bool) -> String {
    let kind = if modern { r#""resultType":"complete","# } else { "" };
    let answers = if modern { answers.to_owned() } else { format!("[{answers}]") };
    let content = r#""content":[{"type":"text","text":"asked"}]"#;
    format!(r#"{{{kind}{content},"structuredContent":{{"answers":{answers}}}}}"#)
}

/// A list of a million tools in pieces of a thousand.
fn million(id: &str, sent: usize) -> Option<io::Result<Bytes>> {
    let piece = match sent {
        0 => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"tools":["#),
        1..=1000 => {
            let tools = (0..1000).map(|at| {
                format!(r#"{{"name":"t{}","inputSchema":{{"type":"object"}}}},"#, sent * 1000 + at)
            });
            tools.collect()
        }
        1001 => {
            r#"{"name":"last","inputSchema":{"type":"object"}}],"resultType":"complete"}}"#.into()
        }
        _ => return None,
    };
    Some(Ok(Bytes::from(piece)))
}

pub fn event(data: &str) -> Bytes {
    Bytes::from(format!("data: {data}\n\n"))
}

/// A stream, and what comes on it; an empty piece breaks it.
pub fn events() -> (mpsc::UnboundedSender<Bytes>, Response<Body>) {
    let (sender, receiver) = mpsc::unbounded_channel::<Bytes>();
    let pieces = stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|bytes| match bytes.is_empty() {
            true => (Err(io::Error::other("closed midway")), receiver),
            false => (Ok(Frame::data(bytes)), receiver),
        })
    });
    let body = BodyExt::boxed_unsync(StreamBody::new(pieces));
    (sender, Response::builder().header("content-type", "text/event-stream").body(body).unwrap())
}

fn json_body(status: u16, bytes: Bytes) -> Response<Body> {
    let body = Full::new(bytes).map_err(|never| match never {}).boxed_unsync();
    let builder = Response::builder().status(status).header("content-type", "application/json");
    builder.body(body).unwrap()
}

pub fn status(code: u16) -> Response<Body> {
    let body = Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync();
    Response::builder().status(code).body(body).unwrap()
}
