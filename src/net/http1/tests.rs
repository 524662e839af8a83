//! Answers of servers, well formed and not, in any pieces, beside what hyper makes of them.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
};
use tokio::io::AsyncWriteExt as _;

use super::{
    request::RequestText,
    whole::{AnswerRead, read},
};

/// What hyper's client makes of it: the status and the body.
async fn read_by_hyper(answer: Vec<u8>) -> Result<(u16, Bytes), hyper::Error> {
    let (ours, mut theirs) = tokio::io::duplex(1 << 20);
    let (mut sender, connection) =
        Box::pin(hyper::client::conn::http1::handshake(TokioIo::new(ours))).await?;
    let converse = async {
        let request = Request::post("/").header("host", "a").body(Full::new(Bytes::new())).unwrap();
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    };
    let serve = async {
        // The request has gone out before its answer comes.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        theirs.write_all(&answer).await.ok();
        drop(theirs);
    };
    let run = async {
        tokio::join!(serve, connection).1.ok();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        read = converse => read,
        () = run => unreachable!("it waits for ever"),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

/// What is put into answers.
const ODD: &[u8] = b"\r\n :;,0123aAfF\x00\x80xc";
const OK: &str = "HTTP/1.1 200 OK\r\n";

#[test]
fn answers_end_where_they_say_and_their_connection_is_kept_only_where_that_is_certain() {
    // The head behind its first line, the body, what is read of it, and whether it is kept.
    let table: [(&str, &str, Option<&str>, bool); 34] = [
        ("content-length: 2\r\n", "ab", Some("ab"), true),
        ("Content-Length:2\r\n", "ab", Some("ab"), true),
        ("content-length: 2\r\ncontent-length: 2\r\n", "ab", Some("ab"), true),
        ("content-length: 2, 2\r\n", "ab", Some("ab"), true),
        ("content-length: 2\r\ncontent-length: 3\r\n", "abc", None, false),
        ("content-length: 2, 3\r\n", "abc", None, false),
        ("content-length: +2\r\n", "ab", None, false),
        ("content-length: -2\r\n", "ab", None, false),
        ("content-length: 0x2\r\n", "ab", None, false),
        ("content-length: 2 2\r\n", "ab", None, false),
        ("content-length:\r\n", "ab", None, false),
        ("content-length: 99999999999999999999\r\n", "ab", None, false),
        ("content-length: 3\r\n", "ab", None, false),
        // What comes behind an answer is of nobody.
        (
            "content-length: 2\r\n",
            "abHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            Some("ab"),
            false,
        ),
        ("content-length: 0\r\n", "", Some(""), true),
        ("content-length: 0\r\n", "x", Some(""), false),
        ("content-length: 2\r\nconnection: close\r\n", "ab", Some("ab"), false),
        ("content-length: 2\r\nconnection: x, Close\r\n", "ab", Some("ab"), false),
        // Without a length it goes to the end.
        ("", "ab", Some("ab"), false),
        ("transfer-encoding: chunked\r\n", "2\r\nab\r\n0\r\n\r\n", Some("ab"), true),
        (
            "transfer-encoding: Chunked\r\n",
            "1\r\na\r\n1;x=\"y\"\r\nb\r\n0\r\nt: 1\r\n\r\n",
            Some("ab"),
            true,
        ),
        ("transfer-encoding: gzip, chunked\r\n", "2\r\nab\r\n0\r\n\r\n", Some("ab"), true),
        (
            "transfer-encoding: chunked\r\n",
            "A \r\n0123456789\r\n0\r\n\r\n",
            Some("0123456789"),
            true,
        ),
        // Somebody between may have read it by its length.
        (
            "content-length: 2\r\ntransfer-encoding: chunked\r\n",
            "2\r\nab\r\n0\r\n\r\n",
            Some("ab"),
            false,
        ),
        ("transfer-encoding: chunked, gzip\r\n", "ab", Some("ab"), false),
        ("transfer-encoding: chunked\r\n", "2\r\nabc\r\n0\r\n\r\n", None, false),
        ("transfer-encoding: chunked\r\n", "-2\r\nab\r\n0\r\n\r\n", None, false),
        ("transfer-encoding: chunked\r\n", "0x2\r\nab\r\n0\r\n\r\n", None, false),
        ("transfer-encoding: chunked\r\n", "2\nab\n0\n\n", None, false),
        ("transfer-encoding: chunked\r\n", "\r\nab\r\n0\r\n\r\n", None, false),
        ("transfer-encoding: chunked\r\n", "fffffffffffffffff\r\nab\r\n0\r\n\r\n", None, false),
        ("transfer-encoding: chunked\r\n", "2\r\nab\r\n", None, false),
        ("transfer-encoding: chunked\r\n", "2;x\rab\r\n", None, false),
        ("x: a\r\n b\r\ncontent-length: 0\r\n", "", None, false),
    ];
    for (fields, body, wanted, keeps) in table {
        let answer = format!("{OK}{fields}\r\n{body}");
        for sizes in [&[9_999][..], &[1], &[40, 1], &[19, 2, 3]] {
            let found = read(answer.as_bytes(), sizes);
            let found = found.map(|read| (read.body, read.keeps)).ok();
            let wanted = wanted.map(|body| (Bytes::from(body), keeps));
            assert_eq!(found, wanted, "{answer:?} in {sizes:?}");
        }
    }
}

#[test]
fn heads_are_read_as_strictly_as_by_hyper() {
    let empty = "content-length: 0\r\n\r\n";
    let table = [
        (format!("HTTP/1.1 200 OK\r\n{empty}"), Some((200, true))),
        (format!("\r\n\r\nHTTP/1.1 200 OK\r\n{empty}"), Some((200, true))),
        (format!("HTTP/1.1 200\r\n{empty}"), Some((200, true))),
        (format!("HTTP/1.0 200 OK\r\n{empty}"), Some((200, false))),
        (format!("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n{empty}"), Some((200, true))),
        (format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n{empty}"), Some((200, true))),
        (
            format!("HTTP/1.1 103 Hints\r\nlink: x\r\n\r\nHTTP/1.1 404 No\r\n{empty}"),
            Some((404, true)),
        ),
        ("HTTP/1.1 204 No\r\n\r\n".to_owned(), Some((204, true))),
        ("HTTP/1.1 304 Not\r\ncontent-length: 9\r\n\r\n".to_owned(), Some((304, true))),
        ("HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n".to_owned(), None),
        (format!("HTTP/2.0 200 OK\r\n{empty}"), None),
        (format!("HTTP/1.1 20 OK\r\n{empty}"), None),
        (format!("HTTP/1.1  200 OK\r\n{empty}"), None),
        (format!("ICY 200 OK\r\n{empty}"), None),
        (format!("SSH-2.0-OpenSSH_9.2\r\n{empty}"), None),
        (format!("HTTP/1.1 200 OK\r\nx : 1\r\n{empty}"), None),
        (format!("HTTP/1.1 200 OK\r\nx\r\n{empty}"), None),
        (format!("HTTP/1.1 200 OK\r\nx: a\0b\r\n{empty}"), None),
        (format!("HTTP/1.1 200 OK\r\n{}{empty}", "x: 1\r\n".repeat(99)), Some((200, true))),
        (format!("HTTP/1.1 200 OK\r\n{}{empty}", "x: 1\r\n".repeat(100)), None),
        (format!("HTTP/1.1 200 OK\r\nx: {}\r\n{empty}", "y".repeat(60 << 10)), Some((200, true))),
        (format!("HTTP/1.1 200 OK\r\nx: {}\r\n{empty}", "y".repeat(65 << 10)), None),
        ("y".repeat(70 << 10), None),
    ];
    let runtime = runtime();
    for (answer, wanted) in table {
        for sizes in [&[9_999][..], &[7], &[16, 1, 1, 3]] {
            let found = read(answer.as_bytes(), sizes);
            let found = found.ok().map(|read| (read.status, read.keeps));
            assert_eq!(found, wanted, "{answer:.99?} in {sizes:?}");
        }
        let theirs = runtime.block_on(read_by_hyper(answer.clone().into_bytes()));
        // It takes longer heads, and another protocol.
        let takes_more = 64 << 10 < answer.len() || answer.contains(" 101 ");
        assert!(theirs.is_ok() == wanted.is_some() || takes_more, "{answer:.99?}: {theirs:?}");
    }
}

#[test]
fn an_address_without_a_path_is_written_with_one() {
    for (address, wanted) in [
        ("http://h", "/"),
        ("http://h/", "/"),
        ("http://h?key=a", "/?key=a"),
        ("http://h:1?key=/a", "/?key=/a"),
        ("http://h/?key=a", "/?key=a"),
        ("http://h/mcp", "/mcp"),
        ("http://h//mcp?", "//mcp?"),
        ("http://u:p@h/a/../b?x#y", "/a/../b?x"),
        ("/mcp?x", "/mcp?x"),
        ("http://h/%2f", "/%2f"),
    ] {
        let written = RequestText::of(&Request::get(address).body(Bytes::new()).unwrap()).whole();
        let wanted = format!("GET {wanted} HTTP/1.1\r\n\r\n");
        assert_eq!(String::from_utf8(written).unwrap(), wanted, "{address}");
    }
}

#[test]
fn what_is_written_says_its_length_once_and_nothing_of_the_connection() {
    for (method, body, length) in [
        (Method::POST, "abc", Some(3)),
        (Method::POST, "", Some(0)),
        (Method::GET, "", None),
        (Method::DELETE, "", None),
    ] {
        let request = Request::builder()
            .method(method.clone())
            .uri("http://user@host:1/mcp?x=1")
            .header("host", "host:1")
            .header("content-length", "77")
            .header("transfer-encoding", "chunked")
            .header("connection", "x-secret")
            .header("x-secret", "1");
        let request = request.body(Bytes::from(body)).unwrap();
        let written = RequestText::of(&request).whole();
        let length = length.map(|length| format!("content-length: {length}\r\n"));
        let length = length.unwrap_or_default();
        let wanted = format!(
            "{method} /mcp?x=1 HTTP/1.1\r\nhost: host:1\r\nx-secret: 1\r\n{length}\r\n{body}"
        );
        assert_eq!(String::from_utf8(written).unwrap(), wanted);
    }
}

/// A well-formed answer, and the body in it.
fn answers() -> impl Strategy<Value = (Vec<u8>, Vec<u8>, bool)> {
    let fields = vec(("[a-z][a-z0-9-]{0,9}", "[ -~]{0,20}"), 0..6);
    let chunks = vec(vec(any::<u8>(), 1..2_000), 0..5);
    (fields, chunks, 0..3_u8, any::<bool>()).prop_map(|(fields, chunks, framing, closes)| {
        let mut text = b"HTTP/1.1 200 OK\r\n".to_vec();
        for (name, value) in fields {
            text.extend(format!("x-{name}: {value}\r\n").bytes());
        }
        if closes {
            text.extend(b"connection: close\r\n");
        }
        let body = chunks.concat();
        match framing {
            0 => text.extend(format!("content-length: {}\r\n\r\n", body.len()).bytes()),
            1 => text.extend(b"transfer-encoding: chunked\r\n\r\n"),
            _ => text.extend(b"\r\n"),
        }
        if framing == 1 {
            for chunk in &chunks {
                text.extend(format!("{:x}\r\n", chunk.len()).bytes());
                text.extend(chunk);
                text.extend(b"\r\n");
            }
            text.extend(b"0\r\n\r\n");
        } else {
            text.extend(&body);
        }
        (text, body, !closes && framing != 2)
    })
}

proptest! {
    #[test]
    fn in_any_pieces_an_answer_is_the_same(
        (answer, body, keeps) in answers(),
        sizes in vec(1..400_usize, 1..9),
    ) {
        let read = read(&answer, &sizes).unwrap();
        prop_assert_eq!(read, AnswerRead { status: 200, body: body.into(), keeps });
    }

    /// Whatever is changed in an answer, it is refused, or read as hyper reads it.
    #[test]
    fn a_changed_answer_is_read_as_by_hyper(
        (answer, _, _) in answers(),
        edits in vec((any::<Index>(), select(ODD.to_vec()), 0..3_u8), 1..6),
        sizes in vec(1..400_usize, 1..9),
    ) {
        let mut changed = answer;
        for (at, byte, how) in edits {
            // Most of what matters is at the beginning.
            let at = at.index(changed.len().min(120));
            match how {
                0 => changed[at] = byte,
                1 => changed.insert(at, byte),
                _ => _ = changed.remove(at),
            }
        }
        let ours = read(&changed, &sizes);
        prop_assert_eq!(&ours, &read(&changed, &[9_999]), "in other pieces");
        if let Ok(ours) = ours {
            let theirs = runtime().block_on(read_by_hyper(changed));
            let theirs = theirs.map_err(|error| error.to_string());
            prop_assert_eq!(theirs, Ok((ours.status, ours.body)));
        }
    }
}
