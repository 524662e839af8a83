//! How a fake server is reached: Streamable HTTP, the older HTTP+SSE, and a process.

use std::{convert::Infallible, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_util::sync::DropGuard;

use super::{
    Transport,
    server::{Peer, Server},
    spec::V2025_06_18,
};

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A server with its doors open; its sessions by their ids.
struct House {
    server: Arc<Server>,
    sessions: parking_lot::Mutex<std::collections::HashMap<String, Arc<Peer>>>,
}

/// Opens a door; gives the keys of its section in `routes.toml`.
pub async fn open(server: &Arc<Server>, transport: Transport) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let house = House { server: Arc::clone(server), sessions: parking_lot::Mutex::default() };
    tokio::spawn(accept(listener, Arc::new(house), transport));
    match transport {
        Transport::Http => format!("url = \"http://{address}/mcp\"\n"),
        Transport::Sse => format!("url = \"http://{address}/sse\"\n"),
        // The process only carries lines to and from here, where they can be judged.
        Transport::Stdio => {
            let pipe = format!("exec 3<>/dev/tcp/{}/{}", address.ip(), address.port());
            let script = format!("{pipe}; cat <&3 & cat >&3; kill $!");
            format!("command = \"bash\"\nargs = [\"-c\", \"{script}\"]\n")
        }
    }
}

async fn accept(listener: TcpListener, house: Arc<House>, transport: Transport) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let house = Arc::clone(&house);
        match transport {
            Transport::Stdio => tokio::spawn(async move { house.process(stream).await }),
            Transport::Http | Transport::Sse => tokio::spawn(async move {
                let service = service_fn(|request| {
                    let house = Arc::clone(&house);
                    async move { Ok::<_, Infallible>(house.serve(request).await) }
                });
                drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
            }),
        };
    }
}

impl House {
    async fn process(self: Arc<Self>, stream: TcpStream) {
        let (reader, mut writer) = stream.into_split();
        let (out, mut messages) = mpsc::unbounded_channel::<String>();
        let peer = self.server.peer();
        if !self.server.is_modern() {
            *peer.aside.lock() = Some(out.clone());
        }
        tokio::spawn(async move {
            while let Some(text) = messages.recv().await {
                if writer.write_all(format!("{text}\n").as_bytes()).await.is_err() {
                    return;
                }
            }
        });
        let mut lines = BufReader::new(reader).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            self.server.hear(&peer, &line, out.clone());
        }
        peer.close();
    }

    async fn serve(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let Ok(body) = body.collect().await else { return status(400) };
        let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        let session = head.headers.get("mcp-session-id").map(|id| id.to_str().unwrap().to_owned());
        let query = head.uri.query().unwrap_or_default().to_owned();
        match (head.method, head.uri.path()) {
            (Method::POST, "/mcp") if self.server.is_modern() => {
                self.check_modern(&head.headers, &text);
                let peer = self.server.peer();
                self.exchange(&peer, &text).await
            }
            (Method::POST, "/mcp") => self.legacy(&head.headers, session, &text).await,
            (Method::GET, "/mcp") => match self.session(session.as_ref()) {
                Some(peer) => aside(&peer, None),
                None => status(405),
            },
            (Method::DELETE, "/mcp") => match session {
                Some(id) if self.sessions.lock().remove(&id).is_some() => status(200),
                _ => status(405),
            },
            (Method::GET, "/sse") => {
                let (peer, id) = self.open();
                aside(&peer, Some(format!("event: endpoint\ndata: /messages?{id}\n\n")))
            }
            (Method::POST, "/messages") => {
                let Some(peer) = self.session(Some(&query)) else { return status(404) };
                let out = peer.aside.lock().clone();
                let Some(out) = out else { return status(404) };
                self.server.hear(&peer, &text, out);
                status(202)
            }
            _ => status(405),
        }
    }

    fn open(&self) -> (Arc<Peer>, String) {
        let (peer, id) = (self.server.peer(), format!("s{}", self.server.next_id()));
        self.sessions.lock().insert(id.clone(), Arc::clone(&peer));
        (peer, id)
    }

    fn session(&self, id: Option<&String>) -> Option<Arc<Peer>> {
        self.sessions.lock().get(id?).cloned()
    }

    async fn legacy(
        &self,
        headers: &HeaderMap,
        session: Option<String>,
        text: &str,
    ) -> Response<Body> {
        let message: Value = serde_json::from_str(text).unwrap_or_default();
        self.check_accept(headers);
        if message["method"] == "initialize" {
            let (peer, id) = self.open();
            let mut response = self.exchange(&peer, text).await;
            response.headers_mut().insert("mcp-session-id", id.parse().unwrap());
            return response;
        }
        if message["method"] == "server/discover" {
            let peer = self.server.peer();
            return self.exchange(&peer, text).await;
        }
        let Some(peer) = self.session(session.as_ref()) else {
            self.server.fault("no session", format!("{session:?} {text}"));
            return status(404);
        };
        let version = headers.get("mcp-protocol-version");
        if V2025_06_18 <= self.server.version
            && version.is_none_or(|version| version != self.server.version)
        {
            self.server.fault(&format!("MCP-Protocol-Version is {version:?}"), text);
        }
        if message.get("id").is_none() || message.get("method").is_none() {
            self.server.hear(&peer, text, mpsc::unbounded_channel().0);
            return status(202);
        }
        self.exchange(&peer, text).await
    }

    /// The answer to a request: JSON where that is all there is, else a stream up to it.
    async fn exchange(&self, peer: &Arc<Peer>, text: &str) -> Response<Body> {
        let modern = self.server.is_modern();
        let (out, mut messages) = mpsc::unbounded_channel::<String>();
        let cancel = self.server.hear(peer, text, out);
        // Who leaves has cancelled in the modern era only.
        let guard = modern.then(|| cancel.drop_guard());
        let Some(first) = messages.recv().await else { return status(500) };
        if is_response(&first) {
            disarm(guard);
            let answer: Value = serde_json::from_str(&first).unwrap();
            let code = match answer["error"]["code"].as_i64() {
                Some(-32601) if modern => 404,
                Some(-32601 | -32022..=-32020) => 400,
                _ => 200,
            };
            let body = StreamBody::new(stream::iter([Ok(Frame::data(Bytes::from(first)))]));
            return response(code, "application/json", BodyExt::boxed_unsync(body));
        }
        let pieces =
            stream::unfold((Some(first), messages, guard), |(first, mut rest, guard)| async move {
                let text = match first {
                    Some(first) => first,
                    None => rest.recv().await?,
                };
                let guard = if is_response(&text) { disarm(guard) } else { guard };
                Some((Ok(event(&text)), (None, rest, guard)))
            });
        response(200, "text/event-stream", BodyExt::boxed_unsync(StreamBody::new(pieces)))
    }

    fn check_accept(&self, headers: &HeaderMap) {
        let accept = headers.get("accept").map_or("", |value| value.to_str().unwrap());
        if !accept.contains("application/json") || !accept.contains("text/event-stream") {
            self.server.fault("does not accept both media types", accept);
        }
    }

    /// The headers of a modern request say what its body says.
    fn check_modern(&self, headers: &HeaderMap, text: &str) {
        let message: Value = serde_json::from_str(text).unwrap_or_default();
        if message["method"] == "initialize" {
            return; // it is of the other era
        }
        let (method, params) = (&message["method"], &message["params"]);
        let name = match method.as_str() {
            Some("tools/call" | "prompts/get") => &params["name"],
            Some("resources/read") => &params["uri"],
            _ => &Value::Null,
        };
        let mirrored = match params["name"] == "headers" {
            true => &params["arguments"]["text"],
            false => &Value::Null,
        };
        let version: Value = self.server.version.into();
        let wanted = [
            ("mcp-protocol-version", &version),
            ("mcp-method", method),
            ("mcp-name", name),
            ("mcp-param-text", mirrored),
            ("mcp-session-id", &Value::Null),
        ];
        for (header, wanted) in wanted {
            let found = headers.get(header).map(|value| decoded(value.to_str().unwrap()));
            if found.as_deref() != wanted.as_str() {
                self.server.fault(&format!("{header} is {found:?}, not {wanted}"), text);
            }
        }
        self.check_accept(headers);
    }
}

/// The stream for what belongs to no call.
fn aside(peer: &Arc<Peer>, first: Option<String>) -> Response<Body> {
    let (out, messages) = mpsc::unbounded_channel::<String>();
    *peer.aside.lock() = Some(out);
    let first = Bytes::from(first.unwrap_or(": open\n\n".to_owned()));
    let pieces = stream::unfold((Some(first), messages), |(first, mut rest)| async move {
        match first {
            Some(first) => Some((Ok(Frame::data(first)), (None, rest))),
            None => rest.recv().await.map(|text| (Ok(event(&text)), (None, rest))),
        }
    });
    response(200, "text/event-stream", BodyExt::boxed_unsync(StreamBody::new(pieces)))
}

fn is_response(text: &str) -> bool {
    let message: Value = serde_json::from_str(text).unwrap_or_default();
    message["method"].is_null()
}

fn disarm(guard: Option<DropGuard>) -> Option<DropGuard> {
    drop(guard.map(DropGuard::disarm));
    None
}

fn event(text: &str) -> Frame<Bytes> {
    Frame::data(Bytes::from(format!("event: message\ndata: {text}\n\n")))
}

/// A header value without its base64 wrapping.
fn decoded(value: &str) -> String {
    let inner = value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?="));
    let bytes = inner.and_then(|text| STANDARD.decode(text).ok());
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or(value.to_owned())
}

fn response(code: u16, kind: &str, body: Body) -> Response<Body> {
    Response::builder().status(code).header("content-type", kind).body(body).unwrap()
}

fn status(code: u16) -> Response<Body> {
    let mut response = Response::new(BodyExt::boxed_unsync(http_body_util::Empty::new()));
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}
