//! Connections that servers close at any moment.
#![allow(
    clippy::disallowed_methods,
    reason = "the server is of threads, and the runtime is to stand still"
)]

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use http::Method as Verb;
use parking_lot::Mutex;
use rustix::net::sockopt::set_socket_linger;

use super::endpoint::{Endpoint, HeaderKind, How, RequestTemplate};
use crate::{
    config::Dial,
    net::{Net, NetError},
};

const ROUNDS: usize = 1_000;
/// How long a busy kernel may take to hand over what was sent to the same machine.
const DELIVERED: Duration = Duration::from_millis(5);

/// What the server does with a connection once it has answered.
const ENDS: [&str; 10] = [
    "keeps it",
    "HTTP/1.0",
    "HTTP/1.0, to the end",
    "says close",
    "closes",
    "closes what it reads from",
    "resets",
    "says 408 and closes",
    UNASKED,
    "closes late",
];
/// After that the connection stays open.
const UNASKED: &str = "says what nobody asked for";
/// It closes of itself there, and its answer says so.
const TOLD: [&str; 4] = ["keeps it", "HTTP/1.0", "HTTP/1.0, to the end", "says close"];

/// A server of threads; each connection ends when it is told to, and says when that is done.
struct Server {
    port: u16,
    /// How often each request was read whole.
    seen: Arc<Mutex<HashMap<usize, usize>>>,
    connections: Arc<AtomicUsize>,
    go: Sender<()>,
    done: Receiver<()>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (go, told) = channel();
        let (tell, done) = channel();
        let told = Arc::new(Mutex::new(told));
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            seen: Arc::default(),
            connections: Arc::default(),
            go,
            done,
        };
        let (seen, connections) = (Arc::clone(&server.seen), Arc::clone(&server.connections));
        let converse = move |stream: TcpStream| {
            // What comes unasked is not to wait for what came before it to be acknowledged.
            stream.set_nodelay(true).unwrap();
            let (seen, told, tell) = (Arc::clone(&seen), Arc::clone(&told), tell.clone());
            thread::spawn(move || while serve(&stream, &seen, &told, &tell) {});
        };
        thread::spawn(move || {
            for stream in listener.incoming() {
                connections.fetch_add(1, Ordering::Relaxed);
                converse(stream.unwrap());
            }
        });
        server
    }

    fn endpoint(&self) -> Endpoint {
        self.endpoint_over(Net::new())
    }

    fn endpoint_over(&self, net: Net) -> Endpoint {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("routes.toml");
        let url = format!("http://127.0.0.1:{}/mcp", self.port);
        let text =
            format!("[routes.\"/mcp\"]\nupstreams = [\"a\"]\n[upstreams.a]\nurl = {url:?}\n");
        std::fs::write(&file, text).unwrap();
        let config = crate::config::load(&file, &|_| None).unwrap();
        let transport = &config.upstreams[0].transport;
        Endpoint::new(net, transport, None, None).unwrap()
    }
}

/// Answers one request; false where the connection has ended with that.
fn serve(
    stream: &TcpStream,
    seen: &Mutex<HashMap<usize, usize>>,
    told: &Mutex<Receiver<()>>,
    tell: &Sender<()>,
) -> bool {
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    while line != "\r\n" {
        line.clear();
        if !reader.read_line(&mut line).is_ok_and(|length| 0 < length) {
            return false;
        }
        let line = line.to_ascii_lowercase();
        if let Some(text) = line.strip_prefix("content-length:") {
            length = text.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return false;
    }
    let text = String::from_utf8(body).unwrap();
    let (number, end) = text.split_once(' ').unwrap();
    *seen.lock().entry(number.parse().unwrap()).or_default() += 1;
    let mut stream = stream;
    let head = match end {
        "HTTP/1.0" => "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.0, to the end" => "HTTP/1.0 200 OK\r\n\r\n",
        "says close" => "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n",
        _ => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
    };
    stream.write_all(format!("{head}{{}}").as_bytes()).unwrap();
    if end == "keeps it" {
        return true;
    }
    if TOLD.contains(&end) {
        return false;
    }
    told.lock().recv().unwrap();
    match end {
        "closes what it reads from" => {
            // What comes from now on is answered by a reset.
            stream.shutdown(std::net::Shutdown::Both).unwrap();
        }
        "resets" => set_socket_linger(stream, Some(Duration::ZERO)).unwrap(),
        "says 408 and closes" => {
            let gone = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(gone.as_bytes()).unwrap();
        }
        UNASKED => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]").unwrap();
            tell.send(()).unwrap();
            return true;
        }
        "closes late" => thread::sleep(Duration::from_millis(2)),
        _ => (),
    }
    // The socket is closed for certain before that is told.
    stream.shutdown(std::net::Shutdown::Both).ok();
    tell.send(()).unwrap();
    false
}

fn template(body: String) -> RequestTemplate {
    RequestTemplate::new(Verb::POST, Bytes::from(body), HeaderKind::Message)
}

/// Sends a request that may reach the server once only; its answer.
async fn send(endpoint: &Endpoint, number: usize, end: &str) -> Result<Vec<u8>, NetError> {
    let how = How { whose: None, repeatable: false, in_session: false, spans: None };
    let response = endpoint.send(template(format!("{number} {end}")), how).await?;
    let mut content = response.into_body();
    let mut text = Vec::new();
    while let Some(bytes) = content.next().await {
        text.extend_from_slice(&bytes.map_err(NetError::Broken)?);
    }
    Ok(text)
}

/// Whenever servers close connections: a request that may be done once only is never done twice,
/// gets its own answer, and is lost only where the server closes at that very moment.
#[tokio::test]
async fn a_connection_that_was_closed_loses_no_request() {
    let server = Server::start();
    let net = Net::new();
    let endpoint = server.endpoint_over(net.clone());
    let times = |number: usize| server.seen.lock().get(&number).copied().unwrap_or_default();
    let mut before = "keeps it";
    for number in 0..ROUNDS {
        // What was learned of the server would keep all requests off used connections.
        net.trust_pool();
        let end = ENDS[rand::random_range(0..ENDS.len())];
        let sent = send(&endpoint, number, end).await;
        let case = format!("{number}, after one that {before}: {sent:?}");
        assert!(sent.is_ok_and(|text| text == b"{}"), "{case}");
        assert_eq!(times(number), 1, "{case}");
        // The connection goes back to the pool.
        tokio::time::sleep(Duration::from_millis(1)).await;
        before = end;
        if TOLD.contains(&end) {
            continue;
        }
        server.go.send(()).unwrap();
        // What comes unasked at the very moment of a request cannot be told from its answer.
        if end == UNASKED || rand::random() {
            // The runtime stands still meanwhile: nothing in this process notes the end before the
            // next request does.
            server.done.recv().unwrap();
            thread::sleep(DELIVERED);
            continue;
        }
        // At that very moment: what became of it may not be known, but it is done once at most.
        thread::sleep(Duration::from_micros(rand::random_range(0..3_000)));
        let raced = send(&endpoint, ROUNDS + number, "keeps it").await;
        assert!(times(ROUNDS + number) <= 1, "{number}, while one {end}: {raced:?}");
        server.done.recv().unwrap();
        thread::sleep(DELIVERED);
    }
    let connections = server.connections.load(Ordering::Relaxed);
    assert!(connections < ROUNDS + ROUNDS / 2, "{connections}: the pool is used");
}

/// A server that closes connections after its answers gets no request on a used one, from the
/// second one on, however late it closes them.
#[tokio::test]
async fn no_connection_is_used_twice_where_they_are_closed_after_each_answer() {
    let ends = ["closes", "closes what it reads from", "resets", "says 408 and closes"];
    for (end, noted_after) in ends.into_iter().flat_map(|end| [(end, 0), (end, 5)]) {
        let server = Server::start();
        let endpoint = server.endpoint();
        assert_eq!(send(&endpoint, 0, end).await.unwrap(), b"{}");
        tokio::time::sleep(Duration::from_millis(1)).await;
        server.go.send(()).unwrap();
        server.done.recv().unwrap();
        thread::sleep(DELIVERED);
        // The end of the first one is noted now, or by the next request.
        tokio::time::sleep(Duration::from_millis(noted_after)).await;
        for number in 1..6 {
            // None of these is closed before the next one is sent.
            assert_eq!(send(&endpoint, number, end).await.unwrap(), b"{}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let connections = server.connections.load(Ordering::Relaxed);
        assert_eq!(connections, 6, "{end}, noted after {noted_after} ms");
    }
    // One that is closed when it was idle for long says nothing of others.
    let server = Server::start();
    let endpoint = server.endpoint();
    assert_eq!(send(&endpoint, 0, "closes").await.unwrap(), b"{}");
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    server.go.send(()).unwrap();
    server.done.recv().unwrap();
    tokio::time::sleep(DELIVERED).await;
    for number in 1..6 {
        assert_eq!(send(&endpoint, number, "keeps it").await.unwrap(), b"{}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 2);
}

/// Upstreams at the same address take no connections of one another: what one of them does with
/// its own is no other's trouble. Sessions of one upstream do.
#[tokio::test]
async fn upstreams_share_no_connections() {
    let server = Server::start();
    let nets = || Net::new().of_upstream(&Dial::default(), &|_| None).unwrap();
    let (one, other) = (nets(), nets());
    let sessions = [&one, &one, &other, &other, &one, &other];
    let sessions = sessions.map(|net| server.endpoint_over(net.clone()));
    for (number, session) in sessions.iter().enumerate() {
        assert_eq!(send(session, number, "keeps it").await.unwrap(), b"{}");
        // The connection goes back to the pool.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 2);
    one.distrust_pool();
    for (at, session) in sessions.iter().enumerate() {
        assert_eq!(send(session, 10 + at, "keeps it").await.unwrap(), b"{}");
    }
    let fresh = 3;
    assert_eq!(server.connections.load(Ordering::Relaxed), 2 + fresh, "of one upstream only");
}
