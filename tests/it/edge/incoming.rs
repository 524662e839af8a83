//! What clients send: heads and bodies, one by one and all together.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{ONE, TWO, counter};
use crate::{
    eventually, fake,
    gate::{Gate, gateway},
    soon,
};

async fn gate_with(server: &str) -> Gate {
    gateway().server(server).upstream("git", &fake::http().tool("log")).start().await
}

#[tokio::test]
async fn heads_are_bounded() {
    let gate = gate_with("").await;
    let long = |bytes: usize| "x".repeat(bytes);
    for (bytes, status) in [
        (1, 200),
        (100, 200),
        (1_000, 200),
        (8_192, 200),
        (32_768, 200),
        (50_000, 200),
        (60_000, 200),
        (66_000, 431),
        (70_000, 431),
        (131_072, 431),
        (262_144, 431),
        (390_000, 431),
    ] {
        let text = long(bytes);
        let headers = [("host", "localhost"), ("x-long", text.as_str())];
        let reply = gate.send(hyper::Method::GET, &headers, b"");
        // The path is that of a route, without a session.
        let status = if status == 200 { 405 } else { status };
        assert_eq!(soon("an answer", reply).await.status, status, "{bytes}");
        let mut two = TWO.open(&gate).await;
        let request = hyper::Request::get(format!("http://{}/livez", gate.address))
            .header("x-long", long(bytes))
            .body(http_body_util::Full::default());
        let answered = soon("an answer", two.send(request.unwrap())).await;
        let served = answered.is_ok_and(|response| response.status() == 200);
        assert_eq!(served, status == 405, "{bytes} in HTTP/2");
    }
}

/// A head, and so much of a body that was said to be of `declared` bytes.
async fn begin(gate: &Gate, declared: Option<usize>, sent: usize) -> tokio::net::TcpStream {
    let mut stream = ONE.stream(gate).await;
    let length = match declared {
        Some(bytes) => format!("content-length: {bytes}"),
        None => "transfer-encoding: chunked".to_owned(),
    };
    let head = format!(
        "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let body = vec![b' '; sent];
    if declared.is_none() {
        stream.write_all(format!("{sent:x}\r\n").as_bytes()).await.unwrap();
    }
    // Refused before, nobody reads it.
    stream.write_all(&body).await.ok();
    stream
}

/// Slow senders of large bodies take what there is; then those of others are refused at once, and
/// small calls go on.
#[tokio::test]
async fn bodies_are_bounded_together() {
    for (declared, second) in
        [(Some(90_000), Some(60_000)), (Some(90_000), None), (None, Some(60_000)), (None, None)]
    {
        let gate = gate_with("limits.incoming_bytes_max = \"100KiB\"").await;
        let first = begin(&gate, declared, 80_000).await;
        let refused = || async {
            let mut stream = begin(&gate, second, 50_000).await;
            let mut answer = vec![0; 4_096];
            let read = soon("an answer", stream.read(&mut answer)).await.unwrap_or(0);
            String::from_utf8_lossy(&answer[..read]).into_owned()
        };
        let mut answer = String::new();
        // The first one's bytes may be on their way yet.
        for _ in 0..50 {
            answer = refused().await;
            if answer.starts_with("HTTP/1.1 503") {
                break;
            }
        }
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.contains("incoming_bytes_max") && answer.contains("retry-after: 1"));
        assert_eq!(gate.modern().call("log").await["content"][0]["text"], "log ran");
        assert!(0 < counter(&gate, "refused_incoming"));
        drop(first);
        let large =
            format!("{{\"jsonrpc\":\"2.0\",\"id\":1,{}\"method\":\"x\"}}", " ".repeat(50_000));
        let mut status = 503;
        let deadline = tokio::time::Instant::now() + crate::PATIENCE;
        while status == 503 && tokio::time::Instant::now() < deadline {
            status = gate.modern().post(&large).await.status;
        }
        assert_ne!(status, 503, "what was taken is given back");
    }
    eventually("the test ends", || Some(())).await;
}
