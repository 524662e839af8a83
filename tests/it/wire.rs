//! Connections: both versions of HTTP, TLS, and what there may be of everything at once.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{client::Client, eventually, fake, gate::gateway, message::Message};

/// A request of this client for another kind of connection.
fn request(client: &Client, authority: &str) -> Request<Full<Bytes>> {
    let text = client.request("tools/call", json!({ "name": "log" }));
    let mut request = Request::post(format!("http://{authority}/mcp"))
        .header("host", authority)
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream");
    for (name, value) in client.headers(&text) {
        request = request.header(name, value);
    }
    request.body(Full::new(Bytes::from(text))).unwrap()
}

#[tokio::test]
async fn many_calls_share_one_connection_of_http_2() {
    let git = fake::http().tool("log");
    let gate = gateway().upstream("git", &git).start().await;
    let stream = TcpStream::connect(gate.address).await.unwrap();
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let client = gate.modern();
    let calls = (0..16).map(|_| {
        let mut request = request(&client, &gate.address.to_string());
        request.headers_mut().remove("host");
        let mut sender = sender.clone();
        async move {
            let body = sender.send_request(request).await.unwrap().into_body();
            Message::parse(&body.collect().await.unwrap().to_bytes()).result()
        }
    });
    for result in join_all(calls).await {
        assert_eq!(result["content"][0]["text"], "log ran");
    }
    assert_eq!(git.seen("tools/call").len(), 16);
}

#[tokio::test]
async fn a_connection_is_kept_for_the_next_call() {
    let gate = gateway().upstream("git", &fake::http().tool("log")).start().await;
    let stream = TcpStream::connect(gate.address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..3 {
        let request = request(&gate.modern(), &gate.address.to_string());
        let body = sender.send_request(request).await.unwrap().into_body();
        let answer = Message::parse(&body.collect().await.unwrap().to_bytes());
        assert_eq!(answer.result()["content"][0]["text"], "log ran");
        crate::soon("the connection to be ready again", sender.ready()).await.unwrap();
    }
}

#[tokio::test]
async fn with_a_certificate_it_speaks_tls() {
    let folder = tempfile::tempdir().unwrap();
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&certificate, pair.cert.pem()).unwrap();
    std::fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
    let tls = format!("tls = {{ certificate = {certificate:?}, key = {key:?} }}");
    let gate = gateway().server(&tls).upstream("git", &fake::http().tool("log")).start().await;

    let mut roots = rustls::RootCertStore::empty();
    roots.add(pair.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let settings = rustls::ClientConfig::builder_with_provider(provider);
    let settings = settings.with_safe_default_protocol_versions().unwrap();
    let settings = settings.with_root_certificates(roots).with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(settings));
    let stream = TcpStream::connect(gate.address).await.unwrap();
    let stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let authority = format!("localhost:{}", gate.address.port());
    let body = sender.send_request(request(&gate.modern(), &authority)).await.unwrap().into_body();
    let answer = Message::parse(&body.collect().await.unwrap().to_bytes());
    assert_eq!(answer.result()["content"][0]["text"], "log ran");
}

#[tokio::test]
async fn a_session_put_out_of_memory_is_not_lost() {
    let git = fake::legacy("2025-06-18").tool("log");
    let plan = gateway().server("limits.sessions_max = 2").upstream("git", &git);
    let gate = plan.start().await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        let client = gate.legacy("2025-06-18").await;
        client.call("log").await;
        clients.push(client);
    }
    for client in &clients {
        assert_eq!(client.call("log").await["content"][0]["text"], "log ran");
    }
}

#[tokio::test]
async fn streams_of_a_session_are_counted() {
    let git = fake::legacy("2025-06-18").tool("ask").ask("roots/list", &json!({}));
    let plan = gateway().server("limits.streams_max = 2").upstream("git", &git);
    let gate = plan.start().await;
    let client = gate.legacy_with("2025-06-18", json!({ "roots": {} })).await;
    let call = || client.start("tools/call", json!({ "name": "ask" }));
    let (mut first, mut second) = (call().await, call().await);
    let ask = first.until("roots/list").await.id.unwrap();
    second.until("roots/list").await;
    let third = call().await;
    let third = third.text().await;
    assert!(third.contains("streams_max"), "{third}");
    assert_eq!(git.seen("tools/call").len(), 2, "it is refused before it is sent");
    client.respond(&ask, r#"{"roots":[]}"#).await;
    first.message().await.result();
    let room = async {
        while call().await.status != 200 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    crate::soon("room for a stream", room).await;
}

#[tokio::test]
async fn calls_beyond_the_limit_are_refused_at_once() {
    let git = fake::http().tool("slow").hang().tool("log");
    let gate = gateway().server("limits.requests_max = 1").upstream("git", &git).start().await;
    let client = gate.modern();
    tokio::select! {
        _ = client.start("tools/call", json!({ "name": "slow" })) => panic!("it should hang"),
        () = async {
            git.receives("tools/call").await;
            let refused = client.start("tools/call", json!({ "name": "log" })).await;
            assert_eq!(refused.status, 503);
            assert_ne!(refused.header("retry-after"), "");
        } => (),
    }
    let room = async {
        while client.start("tools/call", json!({ "name": "log" })).await.status != 200 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    crate::soon("room for a call", room).await;
}

#[tokio::test]
async fn an_open_stream_is_a_request_under_way() {
    let git = fake::http().tool("log");
    let gate = gateway().server("limits.requests_max = 1").upstream("git", &git).start().await;
    let client = gate.modern();
    let stream = client.listen().await;
    assert_eq!(client.start("tools/call", json!({ "name": "log" })).await.status, 503);
    drop(stream);
    let room = async {
        while client.start("tools/call", json!({ "name": "log" })).await.status != 200 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    crate::soon("room for a call", room).await;
}

/// Silence, half a preface of HTTP/2, half a head, half a body: each has its time.
#[tokio::test]
async fn a_client_that_does_not_ask_is_left() {
    let server = "limits.request_timeout = \"200ms\"";
    let gate = gateway().server(server).upstream("git", &fake::http().tool("log")).start().await;
    let half_a_body = "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
        content-length: 9\r\n\r\n{";
    for (sent, answer) in
        [("", ""), ("PRI * HT", ""), ("GET /mcp", ""), (half_a_body, "HTTP/1.1 408 ")]
    {
        let mut stream = TcpStream::connect(gate.address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut heard = String::new();
        let left = crate::soon("the connection to be closed", stream.read_to_string(&mut heard));
        left.await.unwrap();
        assert!(heard.starts_with(answer) && answer.is_empty() == heard.is_empty(), "{heard}");
    }
}

#[tokio::test]
async fn the_built_in_server_needs_nobody() {
    let gate = gateway().section("gate", "builtin = \"gate\"\n").unreachable("far").start().await;
    for client in [gate.legacy("2025-06-18").await, gate.modern()] {
        let tools = client.tools().await;
        assert!(!tools.is_empty());
        let text = client.call(&tools[0]).await.to_string();
        assert!(text.contains("far"), "it tells of the upstreams: {text}");
    }
}

#[tokio::test]
async fn a_lazy_upstream_is_opened_by_the_first_call() {
    let git = fake::http().tool("log");
    let mut gate = gateway().upstream("git", &git).start().await;
    gate.edit(|toml| toml.replace("[upstreams.git]", "[upstreams.git]\nstart = \"lazy\""));
    let before = git.all().len();
    gate.restarts().await;
    let client = gate.modern();
    assert_eq!(client.tools().await, ["log"], "from the last good catalog");
    assert_eq!(git.all().len(), before, "nobody has asked it anything");
    client.call("log").await;
    assert_eq!(git.seen("tools/call").len(), 1);
}

/// The front, the upstreams and the tasks share one deadline (`drain`, 2 s here).
#[tokio::test]
async fn a_call_that_hangs_holds_up_the_stop_once() {
    let git = fake::http().tool("slow").hang();
    let mut gate = gateway().upstream("git", &git).start().await;
    let client = gate.modern();
    // It is answered when `drain` has ended it.
    let call = client.start("tools/call", json!({ "name": "slow" }));
    let stop = async {
        git.receives("tools/call").await;
        let begun = tokio::time::Instant::now();
        gate.stops().await;
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
    };
    tokio::join!(call, stop);
}

/// Whoever waits for a call when `drain` ends gets an answer, and is told what it was.
#[tokio::test]
async fn calls_that_outlast_drain_are_told_so() {
    for (server, name) in [
        (fake::http(), "modern"),
        (fake::legacy("2025-11-25"), "legacy"),
        (fake::legacy("2025-03-26"), "older"),
        (fake::sse("2025-06-18"), "HTTP+SSE"),
    ] {
        let server = server.tool("slow").hang();
        let mut gate = gateway().upstream("git", &server).start().await;
        let clients = [gate.modern(), gate.legacy("2025-11-25").await];
        let calls = clients.each_ref().map(|client| client.call("slow"));
        let stop = async {
            let both = || (server.seen("tools/call").len() == 2).then_some(());
            eventually("both calls hang", both).await;
            gate.stops().await;
        };
        let (answers, ()) = tokio::join!(join_all(calls), stop);
        for answer in answers {
            let text = answer.to_string();
            assert!(text.contains("`drain`"), "{name}: {text}");
            assert_eq!(answer["structuredContent"]["error"], "service_unavailable", "{name}");
        }
    }
}
