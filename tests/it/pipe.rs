//! A client that speaks to a gate in lines, as over standard input and output.

use serde_json::{Value, json};
use tokio::io::{
    AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, Lines, ReadHalf, WriteHalf,
};
use tollgate::app;

use crate::{fake::MODERN, gate::Gate, message::Message, soon};

/// Both sides' bytes that may be on their way.
const PIPE_BYTES: usize = 64 << 10;

pub struct Pipe {
    input: WriteHalf<DuplexStream>,
    output: Lines<BufReader<ReadHalf<DuplexStream>>>,
    served: app::ServedChannel,
}

impl Gate {
    /// A client's pair of pipes on the route `/mcp`.
    pub fn pipe(&self) -> Pipe {
        self.narrow_pipe(PIPE_BYTES)
    }

    /// The same with room for so many bytes.
    pub fn narrow_pipe(&self, bytes: usize) -> Pipe {
        let (ours, its) = tokio::io::duplex(bytes);
        let (reader, writer) = tokio::io::split(its);
        let served = self.app().serve_channel(reader, writer, "/mcp").unwrap();
        let (output, input) = tokio::io::split(ours);
        Pipe { input, output: BufReader::new(output).lines(), served }
    }
}

impl Pipe {
    /// Writes this very text as a line.
    pub async fn say(&mut self, text: &str) {
        let line = format!("{text}\n");
        soon("room in the pipe", self.input.write_all(line.as_bytes())).await.unwrap();
    }

    /// Sends a request as a session has it.
    pub async fn ask(&mut self, id: Value, method: &str, params: Value) {
        let text = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        self.say(&text.to_string()).await;
    }

    /// Sends a request as a client of 2026-07-28.
    pub async fn ask_modern(&mut self, id: Value, method: &str, params: Value) {
        self.ask(id, method, modern(params, json!({}))).await;
    }

    pub async fn notify(&mut self, method: &str, params: Value) {
        let text = json!({ "jsonrpc": "2.0", "method": method, "params": params });
        self.say(&text.to_string()).await;
    }

    /// `initialize` and `notifications/initialized`; gives the result of the first.
    pub async fn open(&mut self, version: &str, capabilities: Value) -> Value {
        let result = self.greet(version, capabilities).await;
        self.notify("notifications/initialized", json!({})).await;
        result
    }

    pub async fn greet(&mut self, version: &str, capabilities: Value) -> Value {
        let info = json!({ "name": "test", "version": "1" });
        let params = json!({
            "protocolVersion": version,
            "capabilities": capabilities,
            "clientInfo": info,
        });
        self.ask(json!("hello"), "initialize", params).await;
        self.answer("\"hello\"").await.result()
    }

    /// The next line, as it came.
    pub async fn line(&mut self) -> Option<String> {
        soon("a line", self.output.next_line()).await.unwrap()
    }

    pub async fn next(&mut self) -> Message {
        let line = self.line().await.expect("a message");
        Message::parse(line.as_bytes())
    }

    /// The next message with this method.
    pub async fn until(&mut self, method: &str) -> Message {
        loop {
            let message = self.next().await;
            if message.method.as_deref() == Some(method) {
                return message;
            }
        }
    }

    /// The answer to the request of this id, as it is written; whatever comes before is passed
    /// over.
    pub async fn answer(&mut self, id: &str) -> Message {
        loop {
            let message = self.next().await;
            if message.method.is_none() && message.id.as_deref() == Some(id) {
                return message;
            }
        }
    }

    /// Closes the client's side, and reads the rest.
    pub async fn close(mut self) -> Vec<Message> {
        self.input.shutdown().await.unwrap();
        self.rest().await
    }

    /// What comes until the gate closes its side.
    pub async fn rest(mut self) -> Vec<Message> {
        let mut rest = Vec::new();
        while let Some(line) = self.line().await {
            rest.push(Message::parse(line.as_bytes()));
        }
        soon("the end of the channel", self.served.ended()).await;
        rest
    }

    /// Goes away without a word, and waits until the gate sees it.
    pub async fn leave(self) {
        let Self { input, output, served } = self;
        drop((input, output));
        soon("the end of the channel", served.ended()).await;
    }
}

/// Params with the `_meta` of 2026-07-28.
pub fn modern(mut params: Value, capabilities: Value) -> Value {
    params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!(MODERN);
    params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = capabilities;
    params
}
