//! Clients that know only the older HTTP+SSE (2024-11-05): a stream, and posts beside it.

use hyper::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpSocket,
};

use crate::{
    client::{Endpoint, Reply},
    eventually, fake,
    gate::{Gate, gateway},
    message::Message,
    soon,
};

const ELICIT: &str = "elicitation/create";
const PING: &str = r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#;

/// A client of 2024-11-05.
struct Older {
    stream: Reply,
    messages: Endpoint,
}

async fn connect(gate: &Gate, path: &str) -> Older {
    let accept = [("accept", "text/event-stream")];
    let mut stream = gate.at(path).send(Method::GET, &accept, b"").await;
    assert!(stream.status == 200 && stream.is_stream(), "{stream:?}");
    let endpoint = stream.event().await.unwrap();
    assert!(endpoint.id.is_none());
    Older { stream, messages: gate.at(&endpoint.data) }
}

impl Older {
    async fn open(gate: &Gate, version: &str, capabilities: Value) -> Self {
        let mut client = connect(gate, "/mcp/sse").await;
        let info = json!({ "name": "old", "version": "1" });
        let params = json!({
            "protocolVersion": version,
            "capabilities": capabilities,
            "clientInfo": info,
        });
        let opened = client.ask("initialize", params).await.result();
        assert_eq!(opened["protocolVersion"], version);
        client.post(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
        client
    }

    /// Posts what must be taken.
    async fn post(&self, text: &str) {
        assert_eq!(self.messages.post(&[], text).await.status, 202, "{text}");
    }

    async fn start(&self, method: &str, params: Value) {
        let text = json!({ "jsonrpc": "2.0", "id": method, "method": method, "params": params });
        self.post(&text.to_string()).await;
    }

    async fn ask(&mut self, method: &str, params: Value) -> Message {
        self.start(method, params).await;
        loop {
            let message = self.stream.next().await.unwrap();
            if message.method.is_none() {
                assert_eq!(message.id.as_deref(), Some(&*format!("\"{method}\"")));
                return message;
            }
        }
    }
}

#[tokio::test]
async fn the_first_event_says_where_to_post() {
    let gate = gateway().upstream("git", &fake::http().tool("log")).start().await;
    let accept = [("accept", "text/event-stream")];
    let stream = gate.at("/mcp/sse").send(Method::GET, &accept, b"").await;
    assert_eq!(stream.header("x-accel-buffering"), "no");
    let text = stream.raw_until("\n\n").await;
    let id = text.strip_prefix("event: endpoint\ndata: /mcp/messages?session=").unwrap();
    assert_eq!(id.trim_end().len(), 32, "{text}");
}

#[tokio::test]
async fn a_client_of_any_version_lists_and_calls_at_any_server() {
    for git in [fake::http(), fake::legacy("2025-06-18"), fake::stdio("2025-03-26")] {
        let gate = gateway().upstream("git", &git.tool("log")).start().await;
        for version in ["2024-11-05", "2025-06-18", "2025-11-25"] {
            let mut client = Older::open(&gate, version, json!({})).await;
            let tools = client.ask("tools/list", json!({})).await.result();
            assert_eq!(tools["tools"][0]["name"], "log");
            let result = client.ask("tools/call", json!({ "name": "log" })).await.result();
            assert_eq!(result["content"][0]["text"], "log ran");
            let modern = json!({ "_meta": {
                "io.modelcontextprotocol/protocolVersion": fake::MODERN,
                "io.modelcontextprotocol/clientCapabilities": {},
            }});
            assert_eq!(client.ask("server/discover", modern).await.code(), -32600);
        }
    }
}

#[tokio::test]
async fn a_server_asks_and_is_answered() {
    let elicit = json!({ "message": "sure?", "requestedSchema": { "type": "object" } });
    let git = fake::legacy("2025-06-18").tool("ask").ask(ELICIT, &elicit);
    let gate = gateway().upstream("git", &git).start().await;
    let mut client = Older::open(&gate, "2025-06-18", json!({ "elicitation": {} })).await;
    client.start("tools/call", json!({ "name": "ask" })).await;
    let asked = client.stream.until(ELICIT).await;
    assert_eq!(asked.params(), elicit);
    let answer =
        format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"action":"accept"}}}}"#, asked.id.unwrap());
    client.post(&answer).await;
    let result = client.stream.next().await.unwrap().result();
    assert_eq!(result["structuredContent"]["answers"], json!([{ "action": "accept" }]));
}

#[tokio::test]
async fn announcements_come_on_the_stream() {
    let git = fake::legacy("2025-06-18").tool("log");
    let gate = gateway().upstream("git", &git).start().await;
    eventually("the gate listens", || (0 < git.listeners()).then_some(())).await;
    let mut client = Older::open(&gate, "2024-11-05", json!({})).await;
    git.add_tool("diff");
    client.stream.until("notifications/tools/list_changed").await;
}

#[tokio::test]
async fn what_cannot_be_taken_is_refused_by_its_status() {
    let plan = gateway().upstream("git", &fake::http().tool("log"));
    let plan = plan.server("limits.body_bytes_max = \"1KiB\"");
    let gate = plan
        .route("/mcp", "upstreams = [\"git\"]")
        .route("/other", "upstreams = [\"git\"]")
        .start()
        .await;
    let mut client = Older::open(&gate, "2024-11-05", json!({})).await;
    let messages = client.messages.clone();
    for (text, status) in [("{", 400), ("{}", 400), ("[]", 400), (&" ".repeat(2_000)[..], 413)] {
        assert_eq!(messages.post(&[], text).await.status, status, "{text}");
    }
    let html = [("content-type", "text/html")];
    assert_eq!(messages.post(&html, PING).await.status, 415);
    let elsewhere = messages.path.replace("/mcp/", "/other/");
    let cut = &messages.path[..messages.path.len() - 1];
    for path in [&elsewhere[..], cut, "/mcp/messages", "/mcp/messages?session="] {
        assert_eq!(gate.at(path).post(&[], PING).await.status, 404, "{path}");
    }
    for (verb, path, status) in [
        (Method::GET, "/mcp/messages", 405),
        (Method::POST, "/mcp/sse", 405),
        (Method::GET, "/none/sse", 404),
    ] {
        assert_eq!(gate.at(path).send(verb, &[], b"").await.status, status, "{path}");
    }
    let evil = [("host", "evil.example"), ("accept", "text/event-stream")];
    assert_eq!(gate.at("/mcp/sse").send(Method::GET, &evil, b"").await.status, 403);
    let evil = [("origin", "https://evil.example")];
    assert_eq!(messages.post(&evil, PING).await.status, 403);
    client.post(PING).await;
    assert_eq!(client.stream.next().await.unwrap().result(), json!({}), "it goes on");
}

/// The head of the answer to a post from another address of this machine.
async fn post_from(address: &str, to: &Endpoint, text: &str) -> String {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(address.parse().unwrap()).unwrap();
    let mut stream = socket.connect(to.address).await.unwrap();
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{text}",
        to.path,
        to.address,
        text.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon("an answer", stream.read_to_string(&mut answer)).await.unwrap();
    answer.lines().next().unwrap().to_owned()
}

#[tokio::test]
async fn only_who_opened_a_stream_posts_to_it() {
    let gate = gateway().upstream("git", &fake::http().tool("log")).start().await;
    let client = Older::open(&gate, "2024-11-05", json!({})).await;
    let answered = post_from("127.0.0.2:0", &client.messages, PING).await;
    assert_eq!(answered, "HTTP/1.1 404 Not Found");
    let answered = post_from("127.0.0.1:0", &client.messages, PING).await;
    assert_eq!(answered, "HTTP/1.1 202 Accepted");
}

#[tokio::test]
async fn a_stream_that_closes_takes_calls_and_session_with_it() {
    let git = fake::legacy("2025-06-18").tool("slow").hang();
    let gate = gateway().upstream("git", &git).start().await;
    let client = Older::open(&gate, "2024-11-05", json!({ "roots": {} })).await;
    client.start("tools/call", json!({ "name": "slow" })).await;
    let call = git.receives("tools/call").await;
    let Older { stream, messages } = client;
    drop(stream);
    let cancelled = git.receives("notifications/cancelled").await.message();
    assert_eq!(cancelled.params()["requestId"].to_string(), call.message().id.unwrap());
    let mine = call.header("mcp-session-id");
    let deleted = || {
        let mut deletes = git.all().into_iter().filter(|seen| seen.verb == Method::DELETE);
        deletes.find(|seen| seen.header("mcp-session-id") == mine)
    };
    eventually("the upstream session is deleted", deleted).await;
    assert_eq!(messages.post(&[], PING).await.status, 404);
}

#[tokio::test]
async fn answers_that_a_client_does_not_read_wait_within_bytes() {
    let text = "x".repeat(1 << 20);
    let big = json!({ "content": [{ "type": "text", "text": text }] }).to_string();
    let git = fake::http().tool("big").answer(&big);
    let plan = gateway().upstream("git", &git).server("limits.channel_bytes_max = \"2MiB\"");
    let gate = plan.start().await;
    let mut client = Older::open(&gate, "2024-11-05", json!({})).await;
    let dropped = || gate.app().viewer().report().counters["refused_channel_bytes"];
    // More than the buffers of its connection hold.
    let mut asked = 0;
    while dropped() == 0 && asked < 64 {
        for _ in 0..4 {
            asked += 1;
            let params = json!({ "name": "big" });
            let call =
                json!({ "jsonrpc": "2.0", "id": asked, "method": "tools/call", "params": params });
            client.post(&call.to_string()).await;
        }
        let seen = || (git.seen("tools/call").len() == asked).then_some(());
        eventually("all are sent on", seen).await;
    }
    let mut told = 0;
    for _ in 0..asked {
        let answer = client.stream.next().await.unwrap();
        if answer.result.is_none() {
            let error = answer.error();
            assert!(error["message"].as_str().unwrap().contains("channel_bytes_max"), "{error}");
            told += 1;
        }
    }
    assert!(0 < told, "{asked} answers waited");
    assert_eq!(told, dropped());
    let result = client.ask("tools/call", json!({ "name": "big" })).await.result();
    assert_eq!(result["content"][0]["text"].as_str(), Some(&*text), "it goes on");
}

#[tokio::test]
async fn silence_is_broken() {
    let plan = gateway().upstream("git", &fake::http().tool("log"));
    let gate = plan.server("limits.keep_alive = \"1s\"").start().await;
    let client = Older::open(&gate, "2024-11-05", json!({})).await;
    client.stream.raw_until(": keep-alive\n\n").await;
}

#[tokio::test]
async fn a_route_has_it_unless_it_says_no() {
    let plan = gateway().upstream("git", &fake::http().tool("log"));
    let gate = plan
        .route("/mcp", "upstreams = [\"git\"]\nsse = false")
        .route("/old/sse", "upstreams = [\"git\"]")
        .start()
        .await;
    let accept = [("accept", "text/event-stream")];
    for (path, status) in [("/mcp/sse", 404), ("/mcp", 405), ("/mcp/messages", 404)] {
        assert_eq!(gate.at(path).send(Method::GET, &accept, b"").await.status, status, "{path}");
    }
    for path in ["/old/sse", "/old/sse/sse"] {
        let mut client = connect(&gate, path).await;
        client.post(PING).await;
        assert_eq!(client.stream.next().await.unwrap().result(), json!({}), "{path}");
    }
    assert_eq!(gate.at("/old/sse").modern().tools().await, ["log"], "and Streamable HTTP");
}

#[tokio::test]
async fn a_gate_that_stops_lets_calls_end_and_then_the_stream() {
    let elicit = json!({ "message": "sure?", "requestedSchema": { "type": "object" } });
    let git = fake::legacy("2025-06-18").tool("ask").ask(ELICIT, &elicit);
    let mut gate = gateway().upstream("git", &git).start().await;
    let idle = Older::open(&gate, "2024-11-05", json!({})).await;
    let mut busy = Older::open(&gate, "2025-06-18", json!({ "elicitation": {} })).await;
    busy.start("tools/call", json!({ "name": "ask" })).await;
    busy.stream.until(ELICIT).await;
    let rest = |mut stream: Reply| async move {
        let mut rest = Vec::new();
        while let Some(message) = stream.next().await {
            rest.push(message);
        }
        rest
    };
    // Nobody can answer a gate that takes no more connections.
    let ((), idle, busy) = tokio::join!(gate.stops(), rest(idle.stream), rest(busy.stream));
    assert!(idle.is_empty(), "{idle:?}");
    assert_eq!(busy.len(), 1, "{busy:?}");
    assert_eq!(busy[0].id.as_deref(), Some("\"tools/call\""));
}
