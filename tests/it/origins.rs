//! Pages in browsers: which origins may use the gate, what CORS tells them, and headers that must
//! not be there twice.

use http::Method;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    fake,
    gate::{Gate, gateway},
};

const PAGE: &str = "https://app.example";

/// Sends a request as it is, and reads the head of the reply.
async fn head(gate: &Gate, request: &str) -> String {
    let mut stream = TcpStream::connect(gate.address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = Vec::new();
    while !String::from_utf8_lossy(&reply).contains("\r\n\r\n") {
        if stream.read_buf(&mut reply).await.unwrap() == 0 {
            break;
        }
    }
    String::from_utf8_lossy(&reply).to_ascii_lowercase()
}

async fn start(server: &str) -> Gate {
    gateway().server(server).upstream("git", &fake::http().tool("log")).start().await
}

#[tokio::test]
async fn headers_that_count_once_are_not_there_twice() {
    let gate = start("").await;
    let mut refused = 0;
    let plain = "Host: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n";
    for (twice, status) in [
        ("Host: localhost\r\n", 400),
        ("host: evil.example\r\n", 400),
        ("Mcp-Session-Id: a\r\nMcp-Session-Id: a\r\n", 400),
        ("Mcp-Session-Id: a\r\nMCP-SESSION-ID: b\r\n", 400),
        ("Origin: http://localhost\r\nOrigin: http://localhost\r\n", 400),
        ("Origin: http://localhost\r\nOrigin: https://evil.example\r\n", 400),
        ("Accept: application/json\r\nAccept: text/event-stream\r\n", 0),
        ("X-Own: a\r\nX-Own: b\r\n", 0),
    ] {
        let reply = head(&gate, &format!("POST /mcp HTTP/1.1\r\n{plain}{twice}\r\n{{}}")).await;
        assert!(status == 0 || reply.starts_with("http/1.1 400"), "{twice}: {reply}");
        refused += u64::from(status == 400);
        assert_eq!(gate.app().viewer().report().counters["refused_headers"], refused, "{twice}");
    }
}

#[tokio::test]
async fn only_the_gates_own_pages_and_those_that_are_named_may_use_it() {
    let gate = start(&format!("origins = [\"{PAGE}\", \"http://localhost:6274\"]")).await;
    let port = gate.address.port();
    let client = gate.modern();
    let text = client.request("tools/list", json!({}));
    for (origin, allowed) in [
        (format!("http://localhost:{port}"), true),
        (format!("https://localhost:{port}"), true),
        (format!("http://127.0.0.1:{port}"), true),
        (format!("http://[::1]:{port}"), true),
        (PAGE.to_owned(), true),
        ("http://localhost:6274".to_owned(), true),
        ("http://localhost:3000".to_owned(), false),
        ("http://localhost".to_owned(), false),
        ("http://127.0.0.1:1".to_owned(), false),
        (format!("x://127.0.0.1:{port}"), false),
        (format!("file://localhost:{port}"), false),
        (format!("http://localhost:{port}.evil.example"), false),
        (format!("http://evil@localhost:{port}"), false),
        ("http://app.example".to_owned(), false),
        ("https://app.example:444".to_owned(), false),
        ("null".to_owned(), false),
    ] {
        let reply = client.post_with(&text, &[("origin", &origin)]).await;
        assert_eq!(reply.status, if allowed { 200 } else { 403 }, "{origin}");
        let told = if allowed { origin.as_str() } else { "" };
        assert_eq!(reply.header("access-control-allow-origin"), told, "{origin}");
        if allowed {
            assert!(reply.header("vary").contains("Origin"), "{origin}");
            let exposed = reply.header("access-control-expose-headers");
            for name in ["Mcp-Session-Id", "WWW-Authenticate"] {
                assert!(exposed.contains(name), "{exposed}");
            }
        }
    }
}

#[tokio::test]
async fn a_preflight_is_answered_before_any_login() {
    for server in [format!("origins = [\"{PAGE}\"]"), "origins = [\"*\"]".to_owned()] {
        let gate = start(&server).await;
        for path in ["/mcp", "/.well-known/oauth-protected-resource/mcp"] {
            let ask = |origin: &str, more: &str| {
                format!(
                    "OPTIONS {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\n{more}\r\n"
                )
            };
            let wish = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: \
                        authorization,mcp-protocol-version,x-tenant\r\n";
            let reply = head(&gate, &ask(PAGE, wish)).await;
            assert!(reply.starts_with("http/1.1 204"), "{reply}");
            for line in [
                "access-control-allow-origin: https://app.example",
                "access-control-allow-methods: get, post, delete",
                "vary: origin",
            ] {
                assert!(reply.contains(line), "{reply}");
            }
            let headers = reply.lines().find(|line| line.contains("allow-headers")).unwrap();
            for name in ["authorization", "mcp-session-id", "mcp-protocol-version", "x-tenant"] {
                assert!(headers.contains(name), "{headers}");
            }
            if !server.contains('*') {
                let reply = head(&gate, &ask("https://evil.example", wish)).await;
                assert!(reply.starts_with("http/1.1 403"), "{reply}");
                assert!(!reply.contains("access-control"), "{reply}");
            }
        }
        let elsewhere = "OPTIONS /elsewhere HTTP/1.1\r\nHost: localhost\r\nOrigin: \
                         https://app.example\r\nAccess-Control-Request-Method: POST\r\n\r\n";
        assert!(head(&gate, elsewhere).await.starts_with("http/1.1 404"));
        // No browser asks: as before.
        assert_eq!(gate.send(Method::OPTIONS, &[], b"").await.status, 405);
    }
}

#[tokio::test]
async fn a_page_can_read_that_too_many_requests_are_under_way() {
    let git = fake::http().tool("log");
    let server = format!("origins = [\"{PAGE}\"]\nlimits.requests_max = 1");
    let gate = gateway().server(&server).upstream("git", &git).start().await;
    let client = gate.modern();
    let text = client.request("tools/list", json!({}));
    let own = format!("http://localhost:{}", gate.address.port());
    // It is a request under way for as long as it is open.
    let _stream = client.listen().await;
    for (origin, allowed) in [
        (PAGE, true),
        (own.as_str(), true),
        ("https://evil.example", false),
        ("http://localhost:1", false),
        ("null", false),
        ("", false),
    ] {
        let reply = client.post_with(&text, &[("origin", origin)]).await;
        assert_eq!(reply.status, 503, "{origin}");
        let told = if allowed { origin } else { "" };
        assert_eq!(reply.header("access-control-allow-origin"), told, "{origin}");
        assert_eq!(reply.header("vary").contains("Origin"), allowed, "{origin}");
        assert_eq!(reply.header("access-control-expose-headers").contains("Retry-After"), allowed);
    }
    let reply = client.post_with(&text, &[]).await;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (503, ""));
}
