//! Clients that call as fast as they are answered: a closed loop on each connection.

use std::{fmt, net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::Instant};

use crate::asked::{self, Events};

pub const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const CLIENT: &str = r#"{"name":"bench","version":"1"}"#;
/// Tools of the long list.
pub const LISTED: usize = 500;
const ARGUMENTS: &str = r#"{"text":"What is the weather in Reykjavik?","days":3}"#;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    Modern,
    Legacy,
}

impl Era {
    pub const ALL: [Self; 2] = [Self::Modern, Self::Legacy];

    pub fn name(self) -> &'static str {
        match self {
            Self::Modern => "modern",
            Self::Legacy => "legacy",
        }
    }

    /// The same at the upstream and at the gate.
    pub fn path(self) -> &'static str {
        match self {
            Self::Modern => "/modern",
            Self::Legacy => "/legacy",
        }
    }

    fn version(self) -> &'static str {
        match self {
            Self::Modern => "2026-07-28",
            Self::Legacy => "2025-11-25",
        }
    }
}

/// What each call of a client is, and what the client can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// `echo`, of a client that can be asked nothing.
    Plain,
    /// `echo`, of one that can be asked.
    Askable,
    /// `ask`, whose server asks one thing before it answers.
    Asked,
    /// `large`, whose result has 64 KiB.
    Large,
    /// The list of 500 tools.
    List,
    /// `echo`, answered by what knows no call: always with the same id.
    Fixed,
}

impl Work {
    fn tool(self) -> &'static str {
        match self {
            Self::Plain | Self::Askable | Self::List | Self::Fixed => "echo",
            Self::Asked => "ask",
            Self::Large => "large",
        }
    }

    fn method(self) -> &'static str {
        match self {
            Self::Plain | Self::Askable | Self::Asked | Self::Large | Self::Fixed => "tools/call",
            Self::List => "tools/list",
        }
    }

    /// How an answer goes on behind `"result":{`, and the bytes that it has at least.
    fn answer(self) -> (&'static str, usize) {
        match self {
            Self::Plain | Self::Askable | Self::Asked | Self::Fixed => (r#""content":"#, 100),
            Self::Large => (r#""content":"#, 64 << 10),
            Self::List => (r#""tools":"#, LISTED * 40),
        }
    }

    fn capabilities(self) -> &'static str {
        match self {
            Self::Plain | Self::Large | Self::List | Self::Fixed => "{}",
            Self::Askable | Self::Asked => r#"{"elicitation":{}}"#,
        }
    }
}

type Sender = SendRequest<Full<Bytes>>;

/// One connection, in the legacy era with one session.
pub struct Client {
    sender: Sender,
    /// For answers, while the other one carries the stream on which a legacy client is asked.
    aside: Option<Sender>,
    era: Era,
    work: Work,
    path: &'static str,
    tool: &'static str,
    headers: HeaderMap,
    /// What follows the arguments of a call.
    meta: String,
    ids: u64,
    address: SocketAddr,
}

/// What was measured on one side.
#[derive(Default)]
pub struct Tally {
    pub latencies: Vec<Duration>,
    /// Calls a second, of each round.
    rates: Vec<f64>,
    /// Calls that were not answered as they are to be; each is followed by a new connection.
    pub failed: usize,
}

/// Opens connections, and sessions on them.
pub async fn connect(
    address: SocketAddr,
    path: &'static str,
    (era, work): (Era, Work),
    connections: usize,
) -> Result<Vec<Client>> {
    let mut clients = Vec::new();
    for _ in 0..connections {
        let mut client = Client::connect(address, path, era, work).await?;
        if era == Era::Legacy {
            client.initialize().await?;
        }
        clients.push(client);
    }
    Ok(clients)
}

/// Calls on all of them for `time`, and then until the last is answered.
pub async fn run(clients: &mut Vec<Client>, time: Duration) -> Result<Tally> {
    let start = Instant::now();
    let loops = clients.drain(..).map(|client| tokio::spawn(client.call_until(start + time)));
    let mut tally = Tally::default();
    for running in loops.collect::<Vec<_>>() {
        let (client, latencies, failed) = running.await??;
        tally.latencies.extend(latencies);
        tally.failed += failed;
        clients.push(client);
    }
    tally.rates.push(tally.count() / start.elapsed().as_secs_f64());
    Ok(tally)
}

/// Calls `rate` times a second over all of them, evenly, for `time`.
pub async fn run_at(clients: &mut Vec<Client>, rate: f64, time: Duration) -> Result<Tally> {
    let start = Instant::now();
    let between = Duration::from_secs_f64(1.0 / rate);
    let apart = between * u32::try_from(clients.len())?;
    let loops = clients.drain(..).zip(0..).map(|(client, at)| {
        tokio::spawn(client.call_at(start + between * at, apart, start + time))
    });
    let mut tally = Tally::default();
    for running in loops.collect::<Vec<_>>() {
        let (client, latencies, failed) = running.await??;
        tally.latencies.extend(latencies);
        tally.failed += failed;
        clients.push(client);
    }
    tally.rates.push(tally.count() / start.elapsed().as_secs_f64());
    Ok(tally)
}

/// Ends the sessions and the connections.
pub async fn disconnect(clients: Vec<Client>) -> Result<()> {
    for mut client in clients {
        if client.era == Era::Legacy {
            client.send(Method::DELETE, String::new()).await?;
        }
    }
    Ok(())
}

impl Client {
    pub async fn connect(
        address: SocketAddr,
        path: &'static str,
        era: Era,
        work: Work,
    ) -> Result<Self> {
        let aside = match (era, work) {
            (Era::Legacy, Work::Asked) => Some(dial(address).await?),
            _ => None,
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(&address.to_string())?);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let accept = HeaderValue::from_static("application/json, text/event-stream");
        headers.insert(header::ACCEPT, accept);
        headers.insert(VERSION, HeaderValue::from_static(era.version()));
        let mut meta = String::new();
        if era == Era::Modern {
            headers.insert("mcp-method", HeaderValue::from_static(work.method()));
            let (key, version) = ("io.modelcontextprotocol", era.version());
            let capabilities = work.capabilities();
            meta = format!(
                r#","_meta":{{"{key}/protocolVersion":"{version}","{key}/clientInfo":{CLIENT},"#
            );
            meta += &format!(r#""{key}/clientCapabilities":{capabilities}}}"#);
        }
        let sender = dial(address).await?;
        let tool = work.tool();
        let client = Self { sender, aside, era, work, path, tool, headers, meta, ids: 0, address };
        Ok(if work == Work::List { client } else { client.naming(tool) })
    }

    /// It shows a token.
    pub fn with_token(mut self, token: &str) -> Result<Self> {
        let value = HeaderValue::from_str(&format!("Bearer {token}"))?;
        self.headers.insert(header::AUTHORIZATION, value);
        Ok(self)
    }

    /// It calls another tool.
    pub fn naming(mut self, tool: &'static str) -> Self {
        self.tool = tool;
        if self.era == Era::Modern {
            self.headers.insert("mcp-name", HeaderValue::from_static(tool));
        }
        self
    }

    /// Opens a session, and uses it from now on; the one before stays open.
    pub async fn initialize(&mut self) -> Result<()> {
        self.headers.remove(SESSION);
        let (version, capabilities) = (self.era.version(), self.work.capabilities());
        let params = format!(
            r#"{{"protocolVersion":"{version}","capabilities":{capabilities},"clientInfo":{CLIENT}}}"#
        );
        let text = format!(r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{params}}}"#);
        let (headers, _) = self.send(Method::POST, text).await?;
        let session = headers.get(SESSION).context("the answer has no session id")?;
        self.headers.insert(SESSION, session.clone());
        let text = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        self.send(Method::POST, text.to_owned()).await?;
        Ok(())
    }

    /// Calls the tool, to the result.
    pub async fn call(&mut self) -> Result<()> {
        let answer = match (self.work, self.era) {
            (Work::Plain | Work::Askable | Work::Large | Work::List | Work::Fixed, _) => {
                self.ask("").await?
            }
            (Work::Asked, Era::Modern) => {
                let asked = self.ask("").await?;
                self.ask(&asked::retry(&asked)?).await?
            }
            (Work::Asked, Era::Legacy) => self.talk().await?,
        };
        let head = answer.get(..answer.len().min(100)).unwrap_or_default();
        let (begins, bytes_min) = self.work.answer();
        let has = |text: &str| memchr::memmem::find(head, text.as_bytes()).is_some();
        let is_own = has(&format!(r#""id":{},"#, self.ids))
            || matches!(self.work, Work::Asked | Work::Fixed);
        let is_result = has(&format!(r#""result":{{{begins}"#)) && bytes_min <= answer.len();
        ensure!(is_own && is_result, "no result: {}", String::from_utf8_lossy(head));
        Ok(())
    }

    /// One request, and what is answered to it; `rest` are further members of its params.
    pub async fn ask(&mut self, rest: &str) -> Result<Bytes> {
        let text = self.text(rest);
        Ok(self.send(Method::POST, text).await?.1)
    }

    /// One request, and what is answered on its stream once each question was.
    async fn talk(&mut self) -> Result<Bytes> {
        let text = self.text("");
        let request = self.request(Method::POST, text)?;
        self.sender.ready().await?;
        let mut stream = self.sender.send_request(request).await?.into_body();
        let mut events = Events::default();
        loop {
            let Some(message) = events.next() else {
                let frame = stream.frame().await.context("no answer on the stream")??;
                events.push(frame.data_ref().map_or(&[], |data| data));
                continue;
            };
            let Some(answer) = asked::answer(&message)? else {
                // To its end, so that the connection can be used again.
                stream.collect().await?;
                return Ok(message.into());
            };
            let request = self.request(Method::POST, answer)?;
            let aside = self.aside.as_mut().context("who can be asked has two connections")?;
            exchange(aside, request).await?;
        }
    }

    async fn call_until(mut self, end: Instant) -> Result<(Self, Vec<Duration>, usize)> {
        let mut latencies = Vec::new();
        let mut failed = 0;
        let mut now = Instant::now();
        while now < end {
            let called = self.call().await;
            let answered = Instant::now();
            match called {
                Ok(()) => latencies.push(answered - now),
                Err(error) => {
                    self.failed(&mut failed, &error).await?;
                }
            }
            now = answered;
        }
        Ok((self, latencies, failed))
    }

    /// Calls at moments that are given beforehand, every `apart`, whatever the answers do: the time
    /// of a call counts from its moment, also where the one before was still under way then.
    async fn call_at(
        mut self,
        first: Instant,
        apart: Duration,
        end: Instant,
    ) -> Result<(Self, Vec<Duration>, usize)> {
        let mut latencies = Vec::new();
        let mut failed = 0;
        let mut due = first;
        while due < end {
            // The timers' milliseconds are longer than a call.
            while Instant::now() < due {
                tokio::task::yield_now().await;
            }
            match self.call().await {
                Ok(()) => latencies.push(due.elapsed()),
                Err(error) => self.failed(&mut failed, &error).await?,
            }
            due += apart;
        }
        Ok((self, latencies, failed))
    }

    /// Counts a failed call, tells the first, and goes on over a new connection.
    async fn failed(&mut self, failed: &mut usize, error: &anyhow::Error) -> Result<()> {
        if *failed == 0 {
            println!("a call failed: {error:#}");
        }
        *failed += 1;
        ensure!(*failed < 1_000, "too many calls failed");
        self.sender = dial(self.address).await?;
        Ok(())
    }

    fn text(&mut self, rest: &str) -> String {
        self.ids += 1;
        let (id, tool, meta) = (self.ids, self.tool, &self.meta);
        let method = self.work.method();
        let params = match self.work {
            Work::List => format!("{{{}}}", meta.trim_start_matches(',')),
            Work::Plain | Work::Askable | Work::Asked | Work::Large | Work::Fixed => {
                format!(r#"{{"name":"{tool}","arguments":{ARGUMENTS}{rest}{meta}}}"#)
            }
        };
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#)
    }

    async fn send(&mut self, method: Method, body: String) -> Result<(HeaderMap, Bytes)> {
        let request = self.request(method, body)?;
        exchange(&mut self.sender, request).await
    }

    fn request(&self, method: Method, body: String) -> Result<Request<Full<Bytes>>> {
        let mut request = Request::new(Full::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = self.path.parse()?;
        request.headers_mut().clone_from(&self.headers);
        Ok(request)
    }
}

async fn dial(address: SocketAddr) -> Result<Sender> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // Ends when the sender is dropped; an error is seen by whoever waits for an answer.
    tokio::spawn(async move { connection.await.ok() });
    Ok(sender)
}

async fn exchange(
    sender: &mut Sender,
    request: Request<Full<Bytes>>,
) -> Result<(HeaderMap, Bytes)> {
    sender.ready().await?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    let text = || String::from_utf8_lossy(&body);
    ensure!(head.status.is_success(), "status {}: {}", head.status, text());
    Ok((head.headers, body))
}

impl Tally {
    pub fn add(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.rates.extend(other.rates);
        self.failed += other.failed;
    }

    pub fn count(&self) -> f64 {
        self.latencies.len() as f64
    }

    /// Calls a second, in the median round.
    pub fn rate(&self) -> f64 {
        let mut sorted = self.rates.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }
}

/// Calls a second, median and 99th percentile of all rounds' latencies.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = |percent| percentile(&self.latencies, percent).as_secs_f64() * 1e6;
        write!(f, "{:>9.0} {:>7.0} {:>7.0}", self.rate(), micros(50), micros(99))
    }
}

/// The latency that so many of a hundred are below; zero of none.
pub fn percentile(latencies: &[Duration], percent: usize) -> Duration {
    let mut sorted = latencies.to_vec();
    sorted.sort();
    sorted.get(sorted.len() * percent / 100).copied().unwrap_or_default()
}
