//! How a client's messages come and go, by transport: all that comes, on whatever stream, is one
//! queue.

use std::{collections::HashMap, sync::Arc};

use hyper::Method;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader, DuplexStream, WriteHalf},
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};

use super::{
    Transport,
    spec::{MODERN, Version},
};
use crate::{
    client::{Client as Raw, Endpoint, Reply},
    gate::Gate,
};

/// Bytes that may be on their way to or from a client on pipes.
const PIPE_BYTES: usize = 1 << 20;

type Into = mpsc::UnboundedSender<Incoming>;

/// What came.
pub enum Incoming {
    Message(String),
    /// Something that is no MCP.
    Broken(String),
}

pub struct Link {
    by: By,
    inbox: mpsc::UnboundedReceiver<Incoming>,
    into: Into,
    /// They read what comes, and end with the link.
    readers: JoinSet<()>,
}

enum By {
    /// With the streams of the requests under way.
    Http(Arc<Raw>, HashMap<u64, AbortHandle>),
    /// Where to post to, as the stream said first.
    Sse(Endpoint),
    Stdio(WriteHalf<DuplexStream>),
}

impl Link {
    pub async fn open(
        gate: &Gate,
        version: Version,
        transport: Transport,
        capabilities: &Value,
    ) -> Result<Self, String> {
        let (into, inbox) = mpsc::unbounded_channel();
        let mut readers = JoinSet::new();
        let by = match transport {
            Transport::Http => {
                By::Http(Arc::new(gate.client(version, capabilities.clone())), HashMap::new())
            }
            Transport::Sse => {
                let accept = [("accept", "text/event-stream")];
                let mut reply = gate.at("/mcp/sse").send(Method::GET, &accept, b"").await;
                if reply.status != 200 {
                    return Err(format!("{} to GET /mcp/sse", reply.status));
                }
                let first = reply.event().await.ok_or("no endpoint event")?;
                let path = first.data.strip_prefix(&format!("http://{}", gate.address));
                let path = path.unwrap_or(&first.data).to_owned();
                readers.spawn(read(reply, into.clone()));
                By::Sse(gate.at(&path))
            }
            Transport::Stdio => {
                let (ours, its) = tokio::io::duplex(PIPE_BYTES);
                let (reader, writer) = tokio::io::split(its);
                let served = gate.app().serve_channel(reader, writer, "/mcp");
                served.map_err(|error| error.to_string())?;
                let (output, input) = tokio::io::split(ours);
                readers.spawn(read_lines(output, into.clone()));
                By::Stdio(input)
            }
        };
        Ok(Self { by, inbox, into, readers })
    }

    pub async fn send(&mut self, message: &Value) -> Result<(), String> {
        let text = message.to_string();
        let id = message["id"].as_u64().filter(|_| message["method"].is_string());
        match &mut self.by {
            By::Http(raw, _) if message["method"] == "initialize" => {
                let reply = raw.post(&text).await;
                let session = reply.headers.get("mcp-session-id");
                let raw = Arc::get_mut(raw).ok_or("opened twice")?;
                raw.session = session.map(|id| id.to_str().unwrap().to_owned());
                self.readers.spawn(read(reply, self.into.clone()));
                Ok(())
            }
            By::Http(raw, streams) => {
                let Some(id) = id else {
                    return accepted(&raw.post(&text).await, &text);
                };
                let (raw, into, message) = (Arc::clone(raw), self.into.clone(), message.clone());
                let stream = self.readers.spawn(async move {
                    read(post(&raw, &message).await, into).await;
                });
                streams.insert(id, stream);
                Ok(())
            }
            By::Sse(endpoint) => accepted(&endpoint.post(&[], &text).await, &text),
            By::Stdio(input) => {
                let written = input.write_all(format!("{text}\n").as_bytes()).await;
                written.map_err(|error| error.to_string())
            }
        }
    }

    /// Opens the stream for what belongs to no call, where it is one of its own.
    pub async fn listen(&mut self) -> Result<(), String> {
        let By::Http(raw, _) = &self.by else { return Ok(()) };
        let reply = raw.get(&[]).await;
        if reply.status != 200 {
            return Err(format!("{} to GET", reply.status));
        }
        self.readers.spawn(read(reply, self.into.clone()));
        Ok(())
    }

    /// Closes the stream of a request.
    pub fn leave(&mut self, id: u64) {
        let By::Http(_, streams) = &mut self.by else { return };
        if let Some(stream) = streams.remove(&id) {
            stream.abort();
        }
    }

    pub async fn next(&mut self) -> Option<Incoming> {
        self.inbox.recv().await
    }
}

/// Posts with the headers of the version; the argument that a tool wants mirrored among them.
async fn post(raw: &Raw, message: &Value) -> Reply {
    let text = message.to_string();
    let params = &message["params"];
    let mirrored = params["arguments"]["text"].as_str();
    match mirrored.filter(|_| raw.version == MODERN && params["name"] == "headers") {
        Some(mirrored) => raw.post_with(&text, &[("mcp-param-text", mirrored)]).await,
        None => raw.post(&text).await,
    }
}

fn accepted(reply: &Reply, text: &str) -> Result<(), String> {
    match reply.status {
        202 => Ok(()),
        status => Err(format!("{status} to {text}")),
    }
}

/// Reads an answer to its end.
async fn read(mut reply: Reply, into: Into) {
    let status = reply.status;
    if reply.is_stream() {
        while let Some(event) = reply.event().await {
            if !event.data.is_empty() {
                drop(into.send(Incoming::Message(event.data)));
            }
        }
        return;
    }
    let text = reply.text().await;
    let message: Option<Value> = serde_json::from_str(&text).ok();
    drop(into.send(match message.filter(Value::is_object) {
        Some(message) if !is_due(status, message["error"]["code"].as_i64()) => {
            Incoming::Broken(format!("status {status} with {text}"))
        }
        Some(_) => Incoming::Message(text),
        None if text.is_empty() && status < 300 => return, // a cancelled call
        None => Incoming::Broken(format!("{status}: {text}")),
    }));
}

/// The status that 2026-07-28 has for an error; the older versions have none for any.
fn is_due(status: u16, error: Option<i64>) -> bool {
    match error {
        None => status == 200,
        Some(-32022..=-32020) => status == 400,
        Some(_) => true,
    }
}

async fn read_lines(output: impl AsyncRead + Unpin, into: Into) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        drop(into.send(Incoming::Message(line)));
    }
}
