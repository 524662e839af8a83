//! Clients that speak plain HTTP to a port that speaks TLS.

use std::net::IpAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::telemetry::throttle;

const WORDS: &str = "This port speaks TLS: write https: in place of http:\n";
/// What is read of such a request, so that the answer is not lost to a reset.
const HEAD_BYTES: usize = 4 << 10;

/// Answers a client whose first byte is that of an HTTP method, and not of a TLS handshake (RFC
/// 8446 §5.1), and has it logged; false for all others, of which nothing is read. Waits for the
/// first byte without an end.
pub async fn is_answered(stream: &mut TcpStream, address: IpAddr) -> bool {
    let mut first = [0];
    let peeked = stream.peek(&mut first).await;
    if !matches!(peeked, Ok(1)) || !first.iter().all(u8::is_ascii_uppercase) {
        return false;
    }
    throttle::line(("plain HTTP", address), |more| {
        tracing::warn!(%address, more, "a client speaks plain HTTP to a port of TLS (`https:`)");
    });
    let length = WORDS.len();
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{WORDS}"
    );
    let mut head = vec![0; HEAD_BYTES];
    let read = stream.read(&mut head).await.unwrap_or_default();
    if 0 < read {
        stream.write_all(answer.as_bytes()).await.ok();
    }
    stream.shutdown().await.ok();
    true
}
