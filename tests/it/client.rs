//! A raw HTTP client: one connection per request, so that dropping a [`Reply`] closes it; what it
//! reads are the very bytes.

use std::net::{IpAddr, SocketAddr};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Request, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{net::TcpSocket, task::JoinHandle};

use crate::{fake::MODERN, message::Message, soon};

/// No honest answer in these tests is longer.
const READ_BYTES_MAX: usize = 8 << 20;

/// An endpoint: `http://address/path`.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub address: SocketAddr,
    pub path: String,
    /// Where its clients are.
    pub from: IpAddr,
    /// Sent as `Authorization: Bearer …`.
    pub token: Option<String>,
}

/// An answer as it arrives.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    body: Incoming,
    read: BytesMut,
    connection: JoinHandle<()>,
}

/// One server-sent event.
#[derive(Debug, Clone, Default)]
pub struct Event {
    pub id: Option<String>,
    pub data: String,
}

/// An MCP client of one era.
#[derive(Debug)]
pub struct Client {
    pub endpoint: Endpoint,
    pub version: String,
    /// Of the legacy era; without one it is stateless.
    pub session: Option<String>,
    pub capabilities: Value,
    ids: Mutex<u64>,
}

pub fn endpoint(address: SocketAddr, path: &str) -> Endpoint {
    Endpoint { address, path: path.to_owned(), from: IpAddr::from([127, 0, 0, 1]), token: None }
}

impl Endpoint {
    /// The same for clients that have this token.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    pub async fn send(&self, verb: Method, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(self.from, 0)).unwrap();
        let stream = socket.connect(self.address).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(async move { drop(connection.await) });
        let mut request = Request::builder().method(verb).uri(&self.path);
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            request = request.header("host", self.address.to_string());
        }
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers.iter().filter(|(_, value)| *value != "-") {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
        let guard = Closes(Some(connection));
        let response = soon("the head of an answer", sender.send_request(request)).await.unwrap();
        let (head, body) = response.into_parts();
        let (status, headers) = (head.status.as_u16(), head.headers);
        Reply { status, headers, body, read: BytesMut::new(), connection: guard.keep() }
    }

    /// A POST with the media types that every version demands.
    pub async fn post(&self, headers: &[(&str, &str)], body: &str) -> Reply {
        let mut all: Vec<(&str, &str)> = headers.to_vec();
        let both = "application/json, text/event-stream";
        for (name, value) in [("content-type", "application/json"), ("accept", both)] {
            if !headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name)) {
                all.push((name, value));
            }
        }
        self.send(Method::POST, &all, body.as_bytes()).await
    }

    /// A client of 2026-07-28 that can do nothing special.
    pub fn modern(&self) -> Client {
        self.client(MODERN, json!({}))
    }

    /// Opens a session, as a client that can do nothing special.
    pub async fn legacy(&self, version: &str) -> Client {
        self.legacy_with(version, json!({})).await
    }

    pub async fn legacy_with(&self, version: &str, capabilities: Value) -> Client {
        let mut client = self.client(version, capabilities);
        client.open().await;
        client
    }

    pub fn client(&self, version: &str, capabilities: Value) -> Client {
        Client {
            endpoint: self.clone(),
            version: version.to_owned(),
            session: None,
            capabilities,
            ids: Mutex::new(0),
        }
    }
}

impl Client {
    pub fn is_modern(&self) -> bool {
        self.version == MODERN
    }

    /// `initialize` and `notifications/initialized`; gives the result of the first.
    pub async fn open(&mut self) -> Value {
        let info = json!({ "name": "test", "version": "1" });
        let params = json!({
            "protocolVersion": self.version,
            "capabilities": self.capabilities,
            "clientInfo": info,
        });
        let reply = self.start("initialize", params).await;
        assert_eq!(reply.status, 200);
        self.session = reply.headers.get("mcp-session-id").map(|id| id.to_str().unwrap().into());
        let result = reply.message().await.result();
        let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        assert_eq!(self.post(initialized).await.status, 202);
        result
    }

    /// Sends a request and gives its answer as it arrives.
    pub async fn start(&self, method: &str, params: Value) -> Reply {
        let request = self.request(method, params);
        self.post(&request).await
    }

    /// Sends a request and gives the message that answers it.
    pub async fn ask(&self, method: &str, params: Value) -> Message {
        self.start(method, params).await.message().await
    }

    /// Calls a tool; gives the result.
    pub async fn call(&self, tool: &str) -> Value {
        self.ask("tools/call", json!({ "name": tool, "arguments": {} })).await.result()
    }

    /// The names in a list, all pages of it.
    pub async fn names(&self, method: &str, list: &str, key: &str) -> Vec<String> {
        let (mut names, mut cursor) = (Vec::new(), json!({}));
        loop {
            let page = self.ask(method, cursor).await.result();
            let entries = page[list].as_array().unwrap();
            names.extend(entries.iter().map(|entry| entry[key].as_str().unwrap().to_owned()));
            match page.get("nextCursor") {
                Some(next) => cursor = json!({ "cursor": next }),
                None => return names,
            }
        }
    }

    pub async fn tools(&self) -> Vec<String> {
        self.names("tools/list", "tools", "name").await
    }

    /// The text of a request with the next id, and `_meta` where the era wants it.
    pub fn request(&self, method: &str, mut params: Value) -> String {
        let mut id = self.ids.lock();
        *id += 1;
        if self.is_modern() {
            params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!(self.version);
            params["_meta"]["io.modelcontextprotocol/clientCapabilities"] =
                self.capabilities.clone();
        }
        json!({ "jsonrpc": "2.0", "id": *id, "method": method, "params": params }).to_string()
    }

    /// Posts this very text with the headers that the era wants for it.
    pub async fn post(&self, text: &str) -> Reply {
        self.post_with(text, &[]).await
    }

    /// The same with headers changed; `-` leaves one out.
    pub async fn post_with(&self, text: &str, changes: &[(&str, &str)]) -> Reply {
        let own = self.headers(text);
        let changed = |name: &str| changes.iter().any(|(other, _)| *other == name);
        let kept = own.iter().filter(|(name, _)| !changed(name));
        let kept = kept.map(|(name, value)| (*name, value.as_str()));
        let headers: Vec<_> = kept.chain(changes.iter().copied()).collect();
        Box::pin(self.endpoint.post(&headers, text)).await
    }

    /// The headers that the era wants for this message.
    pub fn headers(&self, text: &str) -> Vec<(&'static str, String)> {
        let message = Message::parse(text.as_bytes());
        let mut headers = Vec::new();
        if self.session.is_some() || self.is_modern() {
            headers.push(("mcp-protocol-version", self.version.clone()));
        }
        headers.extend(self.session.clone().map(|session| ("mcp-session-id", session)));
        if self.is_modern() {
            let params = message.params();
            let name = params.get("name").or(params.get("uri")).or(params.get("taskId"));
            let name = name.and_then(Value::as_str);
            headers.push(("mcp-method", message.method.clone().unwrap_or_default()));
            let named = ["tools/call", "prompts/get", "resources/read"];
            let method = message.method.as_deref().unwrap_or_default();
            if named.contains(&method) || method.starts_with("tasks/") {
                headers.extend(name.map(|name| ("mcp-name", name.to_owned())));
            }
        }
        headers
    }

    /// Answers a request that the server made.
    pub async fn respond(&self, id: &str, result: &str) -> Reply {
        self.post(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)).await
    }

    pub async fn notify(&self, method: &str, params: Value) -> Reply {
        let message = json!({ "jsonrpc": "2.0", "method": method, "params": params });
        self.post(&message.to_string()).await
    }

    /// The stream for what belongs to no call: GET, or `subscriptions/listen` for everything.
    pub async fn listen(&self) -> Reply {
        if !self.is_modern() {
            return self.get(&[]).await;
        }
        let all = json!({
            "toolsListChanged": true,
            "promptsListChanged": true,
            "resourcesListChanged": true,
        });
        let mut reply = self.start("subscriptions/listen", json!({ "notifications": all })).await;
        let first = reply.next().await.unwrap();
        assert_eq!(
            first.method.as_deref(),
            Some("notifications/subscriptions/acknowledged"),
            "{first:?}"
        );
        reply
    }

    /// GET in the session, with more headers.
    pub async fn get(&self, more: &[(&str, &str)]) -> Reply {
        let own = self.headers("{}");
        let mut headers: Vec<_> = own.iter().map(|(name, value)| (*name, value.as_str())).collect();
        headers.push(("accept", "text/event-stream"));
        headers.extend(more);
        self.endpoint.send(Method::GET, &headers, b"").await
    }

    /// DELETE of the session; gives the status.
    pub async fn close(&self) -> u16 {
        let own = self.headers("{}");
        let headers: Vec<_> = own.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.endpoint.send(Method::DELETE, &headers, b"").await.status
    }
}

impl Reply {
    /// The value of a header; empty when absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn is_stream(&self) -> bool {
        self.header("content-type").starts_with("text/event-stream")
    }

    /// The rest of the body, whole.
    pub async fn bytes(mut self) -> Bytes {
        while self.more().await {}
        self.read.split().freeze()
    }

    pub async fn text(self) -> String {
        String::from_utf8(self.bytes().await.to_vec()).unwrap()
    }

    /// What was sent up to and with this mark.
    pub async fn raw_until(mut self, mark: &str) -> String {
        let mut from = 0;
        while memchr::memmem::find(&self.read[from..], mark.as_bytes()).is_none() {
            from = self.read.len().saturating_sub(mark.len());
            assert!(self.more().await, "the stream ended before {mark:?}");
        }
        String::from_utf8_lossy(&self.read).into_owned()
    }

    /// The message that ends the exchange: the body, or the last event with a result or error.
    pub async fn message(mut self) -> Message {
        let (status, headers) = (self.status, self.headers.clone());
        if !self.is_stream() {
            let text = self.text().await;
            let message = Message::parse(text.as_bytes());
            let answers = message.result.is_some() || message.error.is_some();
            assert!(answers, "no message in {status} {headers:?} {text:?}");
            return message;
        }
        while let Some(message) = self.next().await {
            if message.result.is_some() || message.error.is_some() {
                return message;
            }
        }
        panic!("the stream ended without an answer")
    }

    /// The next message on a stream; `None` at its end.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            let event = self.event().await?;
            if !event.data.is_empty() {
                return Some(Message::parse(event.data.as_bytes()));
            }
        }
    }

    /// The next message with this method.
    pub async fn until(&mut self, method: &str) -> Message {
        loop {
            let message = self.next().await;
            let message = message.unwrap_or_else(|| panic!("the stream ended before {method}"));
            if message.method.as_deref() == Some(method) {
                return message;
            }
        }
    }

    /// The next event, an empty one (priming) too; comments are passed over.
    pub async fn event(&mut self) -> Option<Event> {
        loop {
            while let Some(end) = self.read.windows(2).position(|two| two == b"\n\n") {
                let frame = self.read.split_to(end + 2);
                let frame = std::str::from_utf8(&frame).unwrap();
                let field = |name: &str| {
                    frame.lines().find_map(|line| line.strip_prefix(name)).map(str::trim_start)
                };
                let id = field("id:").map(str::to_owned);
                let data = frame.lines().filter_map(|line| line.strip_prefix("data:"));
                let data: Vec<_> =
                    data.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
                if id.is_some() || !data.is_empty() {
                    return Some(Event { id, data: data.join("\n") });
                }
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// Reads one piece; false at the end, however it comes.
    async fn more(&mut self) -> bool {
        match soon("more of an answer", self.body.frame()).await {
            Some(Ok(frame)) => {
                self.read.extend_from_slice(&frame.into_data().unwrap_or_default());
                assert!(self.read.len() < READ_BYTES_MAX, "nobody bounds what this client gets");
                true
            }
            Some(Err(_)) | None => false,
        }
    }
}

/// Closes the connection of a request that nobody waits for.
struct Closes(Option<JoinHandle<()>>);

impl Closes {
    fn keep(mut self) -> JoinHandle<()> {
        self.0.take().unwrap()
    }
}

impl Drop for Closes {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            connection.abort();
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
