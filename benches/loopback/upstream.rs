//! A server that does as little as a server can: `echo`, whose result has 300 bytes, and `ask`,
//! which asks one thing before it answers the same.
//!
//! Modern only on one path, legacy only, with sessions, on another; modern and ill on three more.

use std::{
    collections::HashMap,
    convert::Infallible,
    io::{BufRead as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use anyhow::Result;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Either, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{io::AsyncReadExt as _, net::TcpListener, sync::oneshot, time::Instant};

use crate::load::{Era, LISTED, SESSION};

const RESULT_BYTES: usize = 300;
const LARGE_BYTES: usize = 64 << 10;
/// A modern server that lists 500 tools, and ten that list fifty each.
pub const ALL: &str = "/all";
pub const PART: &str = "/part";
pub const PARTS: usize = 10;
const INFO: &str = r#"{"name":"fast","version":"1"}"#;
const TOOLS: &str = concat!(
    r#"{"name":"echo","description":"Says it.","inputSchema":{"type":"object"}},"#,
    r#"{"name":"ask","description":"Asks first.","inputSchema":{"type":"object"}},"#,
    r#"{"name":"large","description":"Says much.","inputSchema":{"type":"object"}}"#,
);
const QUESTION: &str = concat!(
    r#""method":"elicitation/create","params":{"message":"Are you sure?","requestedSchema":"#,
    r#"{"type":"object","properties":{"sure":{"type":"boolean"}},"required":["sure"]}}"#,
);
const REFUSAL: &str = r#""error":{"code":-32000,"message":"not spoken here"}"#;
const TTL: &str = r#""resultType":"complete","ttlMs":600000,"cacheScope":"public""#;

/// The tool that tells how many sessions are open; it is not listed.
pub const SESSIONS: &str = "sessions";

/// Where every second call fails.
pub const HALF: &str = "/half";
/// Where no call is answered.
pub const HANGS: &str = "/hangs";
/// Where all calls fail for a time, and none for the next.
pub const FLAPS: &str = "/flaps";
const ILL: [&str; 3] = [HALF, HANGS, FLAPS];
const FLAP_MILLIS: u128 = 300;

type Reply = Response<Either<Full<Bytes>, UnsyncBoxBody<Bytes, Infallible>>>;

/// A request or a notification; without a method an answer.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: Option<&'a str>,
}

struct Server {
    sessions: AtomicU64,
    open: AtomicI64,
    modern_result: String,
    legacy_result: String,
    large_result: String,
    /// 500 tools, and 50.
    lists: [String; 2],
    /// Questions on streams, by their ids; who left is still in it.
    asked: Mutex<HashMap<u64, oneshot::Sender<()>>>,
    questions: AtomicU64,
    /// Those of which every second fails.
    calls: AtomicU64,
    started: Instant,
}

/// Serves, tells its address on the first line of its output, and ends when its input does.
pub async fn run() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    let server = Arc::new(Server {
        sessions: AtomicU64::new(0),
        open: AtomicI64::new(0),
        modern_result: result(RESULT_BYTES, r#","resultType":"complete"}"#),
        legacy_result: result(RESULT_BYTES, "}"),
        large_result: result(LARGE_BYTES, r#","resultType":"complete"}"#),
        lists: [LISTED, LISTED / PARTS].map(list),
        asked: Mutex::default(),
        questions: AtomicU64::new(0),
        calls: AtomicU64::new(0),
        started: Instant::now(),
    });
    let mut input = tokio::io::stdin();
    let mut nothing = [0];
    let mut end = std::pin::pin!(input.read(&mut nothing));
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted?.0,
            _ = &mut end => return Ok(()),
        };
        stream.set_nodelay(true)?;
        let server = Arc::clone(&server);
        let service = service_fn(move |request| {
            let server = Arc::clone(&server);
            async move { Ok::<_, Infallible>(server.serve(request).await) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

/// The modern server as a process that is spoken to over its standard input and output.
pub fn run_stdio() -> Result<()> {
    let (call, tools) = (
        result(RESULT_BYTES, r#","resultType":"complete"}"#),
        format!(r#"{{"tools":[{TOOLS}],{TTL}}}"#),
    );
    let mut output = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let Message { id, method } = serde_json::from_str(&line)?;
        let Some((id, method)) = id.zip(method) else { continue };
        let said = match method {
            "tools/call" => response(id.get(), &call),
            "tools/list" => response(id.get(), &tools),
            "server/discover" => response(id.get(), &discovered()),
            _ => format!(r#"{{"jsonrpc":"2.0","id":{id},{REFUSAL}}}"#),
        };
        output.write_all((said + "\n").as_bytes())?;
        output.flush()?;
    }
    Ok(())
}

impl Server {
    async fn serve(&self, request: Request<Incoming>) -> Reply {
        let (head, body) = request.into_parts();
        if head.method == Method::DELETE {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return status(StatusCode::NO_CONTENT);
        }
        if head.method != Method::POST {
            return status(StatusCode::METHOD_NOT_ALLOWED);
        }
        let Ok(body) = body.collect().await else { return status(StatusCode::BAD_REQUEST) };
        let body = body.to_bytes();
        let Ok(message) = serde_json::from_slice::<Message<'_>>(&body) else {
            return status(StatusCode::BAD_REQUEST);
        };
        let Some(id) = message.id else { return status(StatusCode::ACCEPTED) };
        let Some(method) = message.method else { return self.answered(id.get()) };
        let path = head.uri.path();
        if method == "tools/call" && self.falls_ill(path).await {
            return status(StatusCode::SERVICE_UNAVAILABLE);
        }
        if method == "tools/list" && (path == ALL || path.starts_with(PART)) {
            let [all, part] = &self.lists;
            return answer(id.get(), if path == ALL { all } else { part });
        }
        let is_modern = path == Era::Modern.path() || ILL.contains(&path);
        if is_modern || path == ALL || path.starts_with(PART) {
            return self.modern(id.get(), method, &body);
        }
        let asks = method == "tools/call" && has(&body, r#""name":"ask""#);
        match head.headers.contains_key(SESSION) {
            true if asks => self.ask(id.get()),
            in_session => self.legacy(id.get(), method, in_session),
        }
    }

    /// Whether a call on this path is to be refused; on one it never ends.
    async fn falls_ill(&self, path: &str) -> bool {
        match path {
            HALF => self.calls.fetch_add(1, Ordering::Relaxed).is_multiple_of(2),
            HANGS => std::future::pending().await,
            FLAPS => self.started.elapsed().as_millis() / FLAP_MILLIS % 2 == 1,
            _ => false,
        }
    }

    fn modern(&self, id: &str, method: &str, body: &[u8]) -> Reply {
        match method {
            "tools/call" if has(body, r#""name":"sessions""#) => {
                let open = self.open.load(Ordering::Relaxed);
                let content = format!(r#"[{{"type":"text","text":"{open}"}}]"#);
                answer(id, &format!(r#"{{"content":{content},"resultType":"complete"}}"#))
            }
            "tools/call" if has(body, r#""name":"ask""#) && !has(body, r#""inputResponses""#) => {
                let requests = format!(r#""inputRequests":{{"q1":{{{QUESTION}}}}}"#);
                let rest = r#""requestState":"a state","resultType":"input_required""#;
                answer(id, &format!("{{{requests},{rest}}}"))
            }
            "tools/call" if has(body, r#""name":"large""#) => answer(id, &self.large_result),
            "tools/call" => answer(id, &self.modern_result),
            "tools/list" => answer(id, &format!(r#"{{"tools":[{TOOLS}],{TTL}}}"#)),
            "server/discover" => answer(id, &discovered()),
            _ => refuse(id),
        }
    }

    fn legacy(&self, id: &str, method: &str, in_session: bool) -> Reply {
        match method {
            "tools/call" if in_session => answer(id, &self.legacy_result),
            "tools/list" if in_session => answer(id, &format!(r#"{{"tools":[{TOOLS}]}}"#)),
            "initialize" => {
                let version = r#""protocolVersion":"2025-11-25","capabilities":{"tools":{}}"#;
                let mut reply = answer(id, &format!(r#"{{{version},"serverInfo":{INFO}}}"#));
                let number = self.sessions.fetch_add(1, Ordering::Relaxed);
                self.open.fetch_add(1, Ordering::Relaxed);
                reply.headers_mut().insert(SESSION, HeaderValue::from(number));
                reply
            }
            _ => refuse(id),
        }
    }

    /// A stream with a question, and with the result once that is answered.
    fn ask(&self, id: &str) -> Reply {
        let number = self.questions.fetch_add(1, Ordering::Relaxed);
        let (tell, answered) = oneshot::channel();
        self.asked.lock().insert(number, tell);
        let question = event(&format!(r#"{{"jsonrpc":"2.0","id":{number},{QUESTION}}}"#));
        let result = event(&response(id, &self.legacy_result));
        let first = stream::once(async { Ok(question) });
        let last = stream::once(async {
            answered.await.ok();
            Ok(result)
        });
        let mut reply =
            Response::new(Either::Right(StreamBody::new(first.chain(last)).boxed_unsync()));
        let events = HeaderValue::from_static("text/event-stream");
        reply.headers_mut().insert(header::CONTENT_TYPE, events);
        reply
    }

    fn answered(&self, id: &str) -> Reply {
        let tell = id.parse().ok().and_then(|number: u64| self.asked.lock().remove(&number));
        // Whoever waited may have gone.
        tell.map(|tell| tell.send(()));
        status(StatusCode::ACCEPTED)
    }
}

fn discovered() -> String {
    let versions = r#""supportedVersions":["2026-07-28"]"#;
    format!(r#"{{{TTL},{versions},"capabilities":{{"tools":{{}}}}}}"#)
}

fn has(body: &[u8], text: &str) -> bool {
    memchr::memmem::find(body, text.as_bytes()).is_some()
}

/// So many tools.
fn list(count: usize) -> String {
    let tools = (0..count).map(|at| {
        format!(
            r#"{{"name":"tool_{at}","description":"Says what it is given, and when.","inputSchema":{{"type":"object","properties":{{"text":{{"type":"string"}}}}}}}}"#
        )
    });
    format!(r#"{{"tools":[{}],{TTL}}}"#, tools.collect::<Vec<_>>().join(","))
}

/// A result of so many bytes that ends with `end`.
fn result(bytes: usize, end: &str) -> String {
    let (open, close) = (r#"{"content":[{"type":"text","text":""#, r#""}]"#);
    let room = bytes - open.len() - close.len() - end.len();
    format!("{open}{}{close}{end}", "x".repeat(room))
}

fn response(id: &str, result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}

fn event(message: &str) -> Frame<Bytes> {
    Frame::data(format!("event: message\ndata: {message}\n\n").into())
}

fn answer(id: &str, result: &str) -> Reply {
    json(response(id, result))
}

/// No code of the modern era: whoever probes takes it for a legacy server where it is meant as one.
fn refuse(id: &str) -> Reply {
    let mut reply = json(format!(r#"{{"jsonrpc":"2.0","id":{id},{REFUSAL}}}"#));
    *reply.status_mut() = StatusCode::BAD_REQUEST;
    reply
}

fn json(text: String) -> Reply {
    let mut reply = Response::new(Either::Left(Full::from(text)));
    let json = HeaderValue::from_static("application/json");
    reply.headers_mut().insert(header::CONTENT_TYPE, json);
    reply
}

fn status(status: StatusCode) -> Reply {
    let mut reply = Response::new(Either::Left(Full::default()));
    *reply.status_mut() = status;
    reply
}
