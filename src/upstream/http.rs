//! Streamable HTTP as a client, both eras: one POST a message, answered with JSON or with a stream
//! of events.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method as Verb, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::{
    call::{
        event::{Event, Notice, Question},
        tasks::Tasks,
    },
    config::Secret,
    mcp::{
        header as value,
        id::Id,
        message::{self, Body, Message},
        method::Method,
        raw::Raw,
        version::{Era, Version},
    },
    net::{Net, NetError},
    telemetry::Counter,
};

use super::{
    SendError,
    lines::{cancellation, refusal},
    sign::Signs,
    sse::{Decoder, Frame},
};

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const BOTH_TYPES: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
/// Where a server that closes its stream names no `retry`.
const RETRY: Duration = Duration::from_secs(1);
/// Times a stream is taken up again without an event in between, before the call counts as lost.
const RESUMES_MAX: u32 = 5;
/// What the gateway says by itself (notifications, answers to questions, DELETE) must be taken in
/// this time.
const ASIDE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where an HTTP upstream is, and how it is spoken to; shared by all of its connections.
#[derive(Debug)]
pub struct Endpoint {
    pub net: Net,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub h2c: bool,
    ids: AtomicU64,
}

/// A conversation with it: stateless (modern), or one session of its (legacy). A clone is the same
/// one.
#[derive(Debug, Clone)]
pub struct Http(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    endpoint: Arc<Endpoint>,
    /// Agreed when it was opened.
    version: OnceLock<Version>,
    session: OnceLock<HeaderValue>,
    closed: CancellationToken,
    why: Mutex<String>,
    signs: Signs,
    tasks: Tasks,
}

/// What one request says in its headers.
#[derive(Debug, Default)]
pub struct Mirrored<'a> {
    pub name: Option<&'a str>,
    pub params: &'a [(String, String)],
}

/// A request under way.
pub struct HttpCall {
    http: Http,
    method: Method,
    id: u64,
    state: State,
    last_event_id: Option<String>,
    retry: Duration,
    resumes: u32,
    /// What is said where it is cancelled.
    reason: Option<String>,
}

type Sending = Pin<Box<dyn Future<Output = Result<Response<Incoming>, NetError>> + Send>>;

enum State {
    Sending(Sending),
    Whole { status: StatusCode, body: Incoming, text: Vec<u8> },
    Stream { body: Incoming, decoder: Decoder },
    Resuming,
    Done,
}

impl Endpoint {
    /// # Errors
    /// What is wrong with the address or a header; the value of a header is not repeated.
    pub fn new(
        net: Net,
        url: &str,
        headers: &BTreeMap<String, Secret>,
        h2c: bool,
    ) -> Result<Self, String> {
        let uri = url.parse().map_err(|error| format!("`{url}` is no address: {error}"))?;
        let mut map = HeaderMap::new();
        for (name, secret) in headers {
            let parsed =
                HeaderName::try_from(name).ok().zip(HeaderValue::from_str(secret.expose()).ok());
            let (key, mut text) =
                parsed.ok_or_else(|| format!("header `{name}` is no valid header"))?;
            text.set_sensitive(true);
            map.insert(key, text);
        }
        Ok(Self { net, uri, headers: map, h2c, ids: AtomicU64::new(1) })
    }
}

impl Http {
    pub fn new(endpoint: Arc<Endpoint>, signs: Signs, tasks: &Tasks) -> Self {
        Self(Arc::new(Inner {
            endpoint,
            version: OnceLock::new(),
            session: OnceLock::new(),
            closed: CancellationToken::new(),
            why: Mutex::default(),
            signs,
            tasks: tasks.child(),
        }))
    }

    /// Another conversation with the same server, nothing agreed.
    pub fn afresh(&self) -> Self {
        Self::new(Arc::clone(&self.0.endpoint), self.0.signs.clone(), &self.0.tasks)
    }

    /// From here on every request says this version; agreed once.
    pub fn agree(&self, version: Version) {
        self.0.version.get_or_init(|| version);
    }

    /// Begins a request; nothing is sent before the call is polled.
    pub fn request(&self, method: Method, params: &Raw, mirrored: &Mirrored<'_>) -> HttpCall {
        let id = self.0.endpoint.ids.fetch_add(1, Ordering::Relaxed);
        self.request_as(id, method, params, mirrored)
    }

    /// An id for [`Http::request_as`], where the params must name it.
    pub fn next_id(&self) -> u64 {
        self.0.endpoint.ids.fetch_add(1, Ordering::Relaxed)
    }

    pub fn request_as(
        &self,
        id: u64,
        method: Method,
        params: &Raw,
        mirrored: &Mirrored<'_>,
    ) -> HttpCall {
        let text = message::request(&Id::number(id), method.name(), params);
        let mut request = self.post(text);
        if self.version().era() == Era::Modern {
            let headers = request.headers_mut();
            headers.insert(METHOD, HeaderValue::from_static(method.name()));
            if let Some(text) = mirrored.name.and_then(|name| header_value(name)) {
                headers.insert(NAME, text);
            }
            for (name, text) in mirrored.params {
                if let Some((name, text)) = HeaderName::try_from(name).ok().zip(header_value(text))
                {
                    headers.insert(name, text);
                }
            }
        }
        let state = State::Sending(self.send(request));
        HttpCall {
            http: self.clone(),
            method,
            id,
            state,
            last_event_id: None,
            retry: RETRY,
            resumes: 0,
            reason: None,
        }
    }

    /// Posts a notification or an answer and waits until it is taken.
    pub async fn post_aside(&self, text: Bytes) -> Result<(), SendError> {
        let mut request = self.post(text);
        if self.version().era() == Era::Modern {
            return Err(SendError::Unavailable("a modern server takes requests only".to_owned()));
        }
        request.headers_mut().remove(METHOD);
        let response = tokio::time::timeout(ASIDE_TIMEOUT, self.send(request)).await;
        let response = response
            .map_err(|_| SendError::Idle(ASIDE_TIMEOUT))?
            .map_err(|error| self.broken(&error))?;
        let status = response.status();
        if status.is_success() { Ok(()) } else { Err(SendError::Status(status.as_u16())) }
    }

    /// Reads the session's own stream (GET) until the server has none or the connection is closed.
    /// `answered` is told when the first request for it was answered, whatever the answer.
    pub async fn listen(&self, answered: oneshot::Sender<()>) {
        let mut answered = Some(answered);
        let mut last_event_id = None;
        let mut retry = RETRY;
        while !self.is_closed() {
            let request = self.get(last_event_id.as_deref());
            let response = self.send(request).await;
            if let Some(answered) = answered.take() {
                // Nobody need be waiting.
                answered.send(()).ok();
            }
            let Ok(response) = response else {
                tokio::time::sleep(retry).await;
                continue;
            };
            if !response.status().is_success() || !is_stream(response.headers()) {
                return; // 405: it has none; anything else is seen by the next request
            }
            let mut body = response.into_body();
            let mut decoder = Decoder::new(self.0.signs.answer_bytes_max());
            while let Some(Ok(bytes)) = body.frame().await {
                let Ok(bytes) = bytes.into_data() else { continue };
                decoder.push(&bytes);
                loop {
                    match decoder.next() {
                        Ok(Some(frame)) => {
                            retry = frame.retry_ms.map_or(retry, Duration::from_millis);
                            last_event_id = frame.id.clone().or(last_event_id);
                            self.unasked(&frame);
                        }
                        Ok(None) => break,
                        Err(_) => return self.0.signs.count(Counter::UpstreamTooLarge),
                    }
                }
            }
            tokio::time::sleep(retry).await;
        }
    }

    /// Ends it from our side; a session is DELETEd (best effort).
    pub fn close(&self, why: &str) {
        self.end(why);
        if self.0.session.get().is_none() {
            return;
        }
        let mut request = self.get(None);
        *request.method_mut() = Verb::DELETE;
        let sending = self.send(request);
        self.0.tasks.finish(async move {
            if let Ok(Err(error)) = tokio::time::timeout(ASIDE_TIMEOUT, sending).await {
                tracing::debug!(%error, "a session could not be ended upstream");
            }
        });
    }

    /// Waits for its end, and says why it came.
    pub async fn closed(&self) -> String {
        self.0.closed.cancelled().await;
        self.0.why.lock().clone()
    }

    pub fn is_closed(&self) -> bool {
        self.0.closed.is_cancelled()
    }

    fn end(&self, why: &str) {
        {
            let mut said = self.0.why.lock();
            if said.is_empty() {
                why.clone_into(&mut said);
            }
        }
        self.0.closed.cancel();
    }

    fn version(&self) -> Version {
        self.0.version.get().copied().unwrap_or(Version::LEGACY_LATEST)
    }

    fn post(&self, text: Bytes) -> Request<Full<Bytes>> {
        let mut request = self.bare(Verb::POST, Full::new(text));
        request.headers_mut().insert(header::CONTENT_TYPE, JSON);
        request.headers_mut().insert(header::ACCEPT, BOTH_TYPES);
        request
    }

    fn get(&self, last_event_id: Option<&str>) -> Request<Full<Bytes>> {
        let mut request = self.bare(Verb::GET, Full::default());
        request.headers_mut().insert(header::ACCEPT, EVENTS);
        if let Some(id) = last_event_id.and_then(|id| HeaderValue::from_str(id).ok()) {
            request.headers_mut().insert(LAST_EVENT_ID, id);
        }
        request
    }

    fn bare(&self, verb: Verb, body: Full<Bytes>) -> Request<Full<Bytes>> {
        let mut request = Request::new(body);
        *request.method_mut() = verb;
        *request.uri_mut() = self.0.endpoint.uri.clone();
        request.headers_mut().clone_from(&self.0.endpoint.headers);
        if let Some(version) = self.0.version.get() {
            request.headers_mut().insert(VERSION, HeaderValue::from_static(version.as_str()));
        }
        if let Some(session) = self.0.session.get() {
            request.headers_mut().insert(SESSION, session.clone());
        }
        request
    }

    fn send(&self, request: Request<Full<Bytes>>) -> Sending {
        let endpoint = Arc::clone(&self.0.endpoint);
        Box::pin(async move { endpoint.net.send(request, endpoint.h2c).await })
    }

    /// A broken connection may mean that the whole server is gone: it is to be probed again.
    fn broken(&self, error: &NetError) -> SendError {
        match error {
            NetError::Connect(_) => {
                self.end(&error.to_string());
                SendError::Unavailable(error.to_string())
            }
            NetError::Broken(_) => SendError::Lost(error.to_string()),
        }
    }

    fn unasked(&self, frame: &Frame) {
        if frame.data.is_empty() {
            return;
        }
        match Message::parse(&frame.data) {
            Ok(Message::Notification(notification)) => self.0.signs.notice(&notice(notification)),
            Ok(Message::Request(request)) => {
                let question = self.question(request);
                if let Some(question) = question {
                    self.0.signs.question(question);
                }
            }
            Ok(Message::Response(_)) => self.0.signs.count(Counter::UpstreamUnexpected),
            Err(error) => self.0.signs.garbage(&frame.data, &error),
        }
    }

    /// A request from the server; a ping is answered here.
    fn question(&self, request: message::Request) -> Option<Question> {
        let (reply, answer) = oneshot::channel();
        let http = self.clone();
        let is_ping = &*request.method == "ping";
        let id = request.id;
        self.0.tasks.spawn("upstream http: question", async move {
            let body = answer
                .await
                .unwrap_or_else(|_| if is_ping { Body::Result(Raw::object()) } else { refusal() });
            if let Err(error) = http.post_aside(message::response(Some(&id), &body)).await {
                tracing::debug!(%error, "an answer was not taken");
            }
        });
        (!is_ping).then_some(Question { method: request.method, params: request.params, reply })
    }
}

impl HttpCall {
    /// The next event. Safe to drop: all progress is kept in `self`.
    pub async fn next(&mut self) -> Result<Event, SendError> {
        loop {
            match &mut self.state {
                State::Sending(sending) => {
                    let response = sending.await.map_err(|error| self.http.broken(&error));
                    self.state = State::Done;
                    self.state = self.sort(response?)?;
                }
                State::Whole { status, body, text } => {
                    let Some(frame) = body.frame().await else {
                        let (status, text) = (*status, std::mem::take(text));
                        self.state = State::Done;
                        return self.whole(status, text.into());
                    };
                    let frame = frame.map_err(|error| SendError::Lost(error.to_string()))?;
                    text.extend_from_slice(frame.data_ref().map_or(&[][..], |bytes| bytes));
                    let max = self.http.0.signs.answer_bytes_max();
                    if max < text.len() {
                        self.http.0.signs.count(Counter::UpstreamTooLarge);
                        self.state = State::Done;
                        return Err(SendError::TooLarge(max));
                    }
                }
                State::Stream { body, decoder } => {
                    if let Some(frame) = decoder.next().map_err(|_| self.http.too_large())? {
                        if let Some(event) = self.frame(&frame)? {
                            return Ok(event);
                        }
                        continue;
                    }
                    match body.frame().await {
                        Some(Ok(frame)) => {
                            decoder.push(frame.data_ref().map_or(&[][..], |bytes| bytes))
                        }
                        Some(Err(error)) if self.last_event_id.is_none() => {
                            return Err(SendError::Lost(error.to_string()));
                        }
                        Some(Err(_)) | None => return self.paused(),
                    }
                }
                State::Resuming => {
                    tokio::time::sleep(self.retry).await;
                    let request = self.http.get(self.last_event_id.as_deref());
                    self.state = State::Sending(self.http.send(request));
                }
                State::Done => return Err(SendError::Lost("it had ended".to_owned())),
            }
        }
    }

    fn sort(&mut self, response: Response<Incoming>) -> Result<State, SendError> {
        let status = response.status();
        let in_session = self.http.0.session.get().is_some();
        if status == StatusCode::NOT_FOUND && in_session {
            self.http.end("it no longer knows the session");
            return Err(SendError::SessionGone);
        }
        if self.method == Method::Initialize
            && let Some(session) = response.headers().get(SESSION)
        {
            self.http.0.session.get_or_init(|| session.clone());
        }
        if status.is_success() && is_stream(response.headers()) {
            let decoder = Decoder::new(self.http.0.signs.answer_bytes_max());
            return Ok(State::Stream { body: response.into_body(), decoder });
        }
        Ok(State::Whole { status, body: response.into_body(), text: Vec::new() })
    }

    /// A body of JSON. A status that says failure may still carry a JSON-RPC error: that is the
    /// answer then.
    fn whole(&self, status: StatusCode, text: Bytes) -> Result<Event, SendError> {
        match Message::parse(&text) {
            Ok(Message::Response(response)) => {
                let ours = response.id.as_ref().is_none_or(|id| id.as_number() == Some(self.id));
                if ours && (status.is_success() || matches!(response.body, Body::Error(_))) {
                    return Ok(Event::Answer { body: response.body, status: status.as_u16() });
                }
                Err(SendError::Garbage("an answer to another request".to_owned()))
            }
            _ if !status.is_success() => Err(SendError::Status(status.as_u16())),
            Ok(_) => Err(SendError::Garbage("a body that answers nothing".to_owned())),
            Err(error) => {
                self.http.0.signs.garbage(&text, &error);
                Err(SendError::Garbage(error.to_string()))
            }
        }
    }

    fn frame(&mut self, frame: &Frame) -> Result<Option<Event>, SendError> {
        self.retry = frame.retry_ms.map_or(self.retry, Duration::from_millis);
        if frame.id.is_some() {
            self.last_event_id.clone_from(&frame.id);
        }
        if frame.data.is_empty() {
            return Ok(None);
        }
        self.resumes = 0;
        match Message::parse(&frame.data) {
            Ok(Message::Response(response)) => {
                if response.id.as_ref().and_then(Id::as_number) != Some(self.id) {
                    self.http.0.signs.count(Counter::UpstreamUnexpected);
                    return Ok(None);
                }
                self.state = State::Done;
                Ok(Some(Event::Answer { body: response.body, status: 200 }))
            }
            Ok(Message::Notification(notification)) => {
                Ok(Some(Event::Notice(notice(notification))))
            }
            Ok(Message::Request(request)) => Ok(self.http.question(request).map(Event::Question)),
            Err(error) => {
                self.http.0.signs.garbage(&frame.data, &error);
                Err(SendError::Garbage(error.to_string()))
            }
        }
    }

    /// The stream ended before the answer: taken up again where the server gave event ids (legacy).
    fn paused(&mut self) -> Result<Event, SendError> {
        let resumable = self.last_event_id.is_some() && self.http.version().era() == Era::Legacy;
        if !resumable || RESUMES_MAX <= self.resumes {
            self.state = State::Done;
            return Err(SendError::Lost("it closed the stream before the answer".to_owned()));
        }
        self.resumes += 1;
        self.state = State::Resuming;
        Ok(Event::Paused { retry: self.retry })
    }

    pub fn give_reason(&mut self, reason: String) {
        self.reason = Some(reason);
    }
}

impl Http {
    fn too_large(&self) -> SendError {
        self.0.signs.count(Counter::UpstreamTooLarge);
        SendError::TooLarge(self.0.signs.answer_bytes_max())
    }
}

impl Drop for HttpCall {
    /// Modern: closing the stream is the cancellation. Legacy: it must be said.
    fn drop(&mut self) {
        let begun = !matches!(self.state, State::Done);
        let says = self.http.version().era() == Era::Legacy && self.method != Method::Initialize;
        if !begun || !says || self.http.is_closed() {
            return;
        }
        let params = cancellation(self.id, self.reason.as_deref());
        let text = message::notification(Method::Cancelled.name(), &params).bytes().clone();
        let http = self.http.clone();
        self.http.0.tasks.spawn("upstream http: cancel", async move {
            if let Err(error) = http.post_aside(text).await {
                tracing::debug!(%error, "a cancellation was not taken");
            }
        });
    }
}

impl fmt::Debug for HttpCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpCall")
            .field("method", &self.method)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

fn notice(notification: message::Notification) -> Notice {
    let method = Method::notification(&notification.method);
    Notice { method, params: notification.params, whole: notification.whole }
}

fn header_value(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(&value::encode(text)).ok()
}

fn is_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.to_ascii_lowercase().starts_with("text/event-stream"))
}
