//! A server that does as little as a server can: one tool, `echo`, whose result has 300 bytes.
//!
//! Modern on one path, legacy with sessions on another.

use std::{
    convert::Infallible,
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Result;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{io::AsyncReadExt as _, net::TcpListener};

use crate::load::{Era, SESSION};

const RESULT_BYTES: usize = 300;
const INFO: &str = r#"{"name":"fast","version":"1"}"#;
const TOOL: &str = r#"{"name":"echo","description":"Says it.","inputSchema":{"type":"object"}}"#;
const TTL: &str = r#""resultType":"complete","ttlMs":600000,"cacheScope":"public""#;

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: &'a str,
}

/// What does not change from call to call.
struct Server {
    sessions: AtomicU64,
    modern_result: String,
    legacy_result: String,
}

/// Serves, tells its address on the first line of its output, and ends when its input does.
pub async fn run() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    let server = Arc::new(Server {
        sessions: AtomicU64::new(0),
        modern_result: result(r#","resultType":"complete"}"#),
        legacy_result: result("}"),
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

impl Server {
    async fn serve(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        if head.method == Method::DELETE {
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
        if head.uri.path() == Era::Modern.path() {
            return self.modern(id.get(), message.method);
        }
        self.legacy(id.get(), message.method, head.headers.contains_key(SESSION))
    }

    fn modern(&self, id: &str, method: &str) -> Response<Full<Bytes>> {
        match method {
            "tools/call" => answer(id, &self.modern_result),
            "tools/list" => answer(id, &format!(r#"{{"tools":[{TOOL}],{TTL}}}"#)),
            "server/discover" => {
                let versions = r#""supportedVersions":["2026-07-28"]"#;
                answer(id, &format!(r#"{{{TTL},{versions},"capabilities":{{"tools":{{}}}}}}"#))
            }
            _ => refuse(id),
        }
    }

    fn legacy(&self, id: &str, method: &str, in_session: bool) -> Response<Full<Bytes>> {
        match method {
            "tools/call" if in_session => answer(id, &self.legacy_result),
            "tools/list" if in_session => answer(id, &format!(r#"{{"tools":[{TOOL}]}}"#)),
            "initialize" => {
                let version = r#""protocolVersion":"2025-11-25","capabilities":{"tools":{}}"#;
                let mut reply = answer(id, &format!(r#"{{{version},"serverInfo":{INFO}}}"#));
                let number = self.sessions.fetch_add(1, Ordering::Relaxed);
                reply.headers_mut().insert(SESSION, HeaderValue::from(number));
                reply
            }
            _ => refuse(id),
        }
    }
}

/// A result of [`RESULT_BYTES`] that ends with `end`.
fn result(end: &str) -> String {
    let (open, close) = (r#"{"content":[{"type":"text","text":""#, r#""}]"#);
    let room = RESULT_BYTES - open.len() - close.len() - end.len();
    format!("{open}{}{close}{end}", "x".repeat(room))
}

fn answer(id: &str, result: &str) -> Response<Full<Bytes>> {
    json(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#))
}

/// No code of the modern era: whoever probes takes it for a legacy server where it is meant as one.
fn refuse(id: &str) -> Response<Full<Bytes>> {
    let error = r#"{"code":-32000,"message":"not spoken here"}"#;
    let mut reply = json(format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#));
    *reply.status_mut() = StatusCode::BAD_REQUEST;
    reply
}

fn json(text: String) -> Response<Full<Bytes>> {
    let mut reply = Response::new(Full::from(text));
    let json = HeaderValue::from_static("application/json");
    reply.headers_mut().insert(header::CONTENT_TYPE, json);
    reply
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = status;
    reply
}
