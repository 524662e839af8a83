//! Streamable HTTP as a client, both eras: one POST a message, answered with JSON or with a stream
//! of events. The older HTTP+SSE is in [`events`].

mod address;
mod get_stream;
mod call;
mod cookies;
mod endpoint;
pub mod events;
mod expected;
mod gone;

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method as Verb, header};
use hyper::Response;
use parking_lot::Mutex;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    call::{Token, event::ServerNotification, tasks::Tasks},
    mcp::{
        header as value,
        id::Id,
        message::{self, Notification},
        method::Method,
        raw::Raw,
        version::{Era, Version},
    },
    net::{Content, NetError},
    upstream::{exchange::error::SendError, replica::inbox::EventSink},
};

pub use self::{
    call::HttpCall,
    endpoint::Endpoint,
    events::{Mailbox, Posting},
};
use self::{
    endpoint::{HeaderKind, How, RequestTemplate},
    expected::Expected,
    get_stream::SideChannel,
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
/// What the gateway says by itself (notifications, answers to questions, DELETE) must be taken in
/// this time.
pub const NOTIFICATION_TIMEOUT: Duration = Duration::from_secs(10);
/// What was said before the end of a session has this long to be taken.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl Mirrored<'_> {
    /// What the body says must be said in headers too (2026-07-28, transports).
    fn write(&self, method: Method, request: &mut RequestTemplate) {
        request.set(METHOD, HeaderValue::from_static(method.name()));
        if let Some(text) = self.name.and_then(header_value) {
            request.set(NAME, text);
        }
        for (name, text) in self.params {
            let header = HeaderName::try_from(name).ok().zip(header_value(text));
            if let Some((name, text)) = header {
                request.set(name, text);
            }
        }
    }
}

/// A conversation with it: stateless (modern), or one session of its (legacy). A clone is the same
/// one.
#[derive(Debug, Clone)]
pub struct Http(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    endpoint: Arc<Endpoint>,
    exclusive: bool,
    /// Where the call under way hears what is said beside its own stream.
    aside: Mutex<SideChannel>,
    expected: Expected,
    /// The last event of the stream that belongs to no request.
    heard: Mutex<Option<String>>,
    /// Agreed when it was opened.
    version: OnceLock<Version>,
    session: OnceLock<HeaderValue>,
    /// Something was answered well in it.
    proven: AtomicBool,
    /// The server knows it no longer, and is well all the same.
    forgotten: AtomicBool,
    closed: CancellationToken,
    /// Told once the server has been told, or could not be.
    deleted: CancellationToken,
    why: Mutex<String>,
    /// Cancellations and answers on their way: a session is ended after its last words.
    said: TaskTracker,
    sink: EventSink,
    tasks: Tasks,
}

/// What one request says in its headers.
#[derive(Debug, Default)]
pub struct Mirrored<'a> {
    pub name: Option<&'a str>,
    pub params: &'a [(String, String)],
    /// The caller in whose name it is sent, where it is not the connection's.
    pub whose: Option<&'a Token>,
    /// The client's own headers, as far as any upstream has them.
    pub forwarded: Option<&'a HeaderMap>,
    /// A server that has done it once may be asked to do it again.
    pub safe: bool,
}

type Sending = Pin<Box<dyn Future<Output = Result<Response<Content>, NetError>> + Send>>;

impl Http {
    /// `exclusive`: it is leased to one call at a time, and what the server says beside that call's
    /// own stream belongs to it all the same.
    pub fn new(endpoint: Arc<Endpoint>, exclusive: bool, sink: EventSink, tasks: &Tasks) -> Self {
        let shared = !exclusive && !sink.is_of_session();
        Self(Arc::new(Inner {
            endpoint,
            exclusive,
            aside: Mutex::default(),
            expected: Expected::new(shared),
            heard: Mutex::default(),
            version: OnceLock::new(),
            session: OnceLock::new(),
            proven: AtomicBool::new(false),
            forgotten: AtomicBool::new(false),
            closed: CancellationToken::new(),
            deleted: CancellationToken::new(),
            why: Mutex::default(),
            said: TaskTracker::new(),
            sink,
            tasks: tasks.child(),
        }))
    }

    /// Another conversation with the same server, nothing agreed.
    pub fn afresh(&self) -> Self {
        let (endpoint, sink) = (Arc::clone(&self.0.endpoint), self.0.sink.clone());
        Self::new(endpoint, self.0.exclusive, sink, &self.0.tasks)
    }

    /// From here on every request says this version; agreed once.
    pub fn agree(&self, version: Version) {
        self.0.version.get_or_init(|| version);
    }

    /// Begins a request; nothing is sent before the call is polled.
    pub fn request(&self, method: Method, params: &Raw, mirrored: &Mirrored<'_>) -> Box<HttpCall> {
        self.request_as(self.next_id(), method, params, mirrored)
    }

    /// An id for [`Http::request_as`], where the params must name it.
    pub fn next_id(&self) -> u64 {
        self.0.endpoint.next_id()
    }

    pub fn request_as(
        &self,
        id: u64,
        method: Method,
        params: &Raw,
        mirrored: &Mirrored<'_>,
    ) -> Box<HttpCall> {
        let text = message::request(&Id::number(id), method.name(), params);
        let mut request = self.post(text);
        // A greeting of the legacy era may reach a modern server, which demands it of every
        // request.
        if self.version().era() == Era::Modern || method == Method::Initialize {
            mirrored.write(method, &mut request);
        }
        if let Some(forwarded) = mirrored.forwarded {
            self.0.endpoint.forward(forwarded, &mut request);
        }
        let how = How {
            whose: mirrored.whose.cloned(),
            repeatable: mirrored.safe || is_repeatable(method),
            in_session: method == Method::Initialize || self.keeps_cookies(),
        };
        let sending = self.send_as(request, how);
        // Boxed: it is large, and moved from future to future.
        Box::new(HttpCall::new(self.clone(), (method, id, params), sending))
    }

    /// Posts a notification or an answer and waits until it is taken.
    pub async fn post_notification(&self, text: Bytes) -> Result<(), SendError> {
        if self.version().era() == Era::Modern {
            return Err(SendError::Unavailable("a modern server takes requests only".to_owned()));
        }
        let request = self.post(text);
        let response = tokio::time::timeout(NOTIFICATION_TIMEOUT, self.send(request)).await;
        let Ok(response) = response else { return Err(SendError::Idle(NOTIFICATION_TIMEOUT)) };
        let response = response.map_err(|error| self.broken(error))?;
        let status = response.status();
        if status.is_success() { Ok(()) } else { Err(SendError::Status(status.as_u16())) }
    }

    /// Ends it from our side; its session by DELETE (best effort). Nothing where it has ended.
    pub fn close(&self, why: &str) {
        if self.is_closed() {
            return self.0.deleted.cancel();
        }
        self.end(why);
        if self.0.session.get().is_none() {
            return self.0.deleted.cancel();
        }
        let mut request = self.get(None);
        request.verb = Verb::DELETE;
        let (sending, deleted) = (self.send(request), self.0.deleted.clone());
        let said = self.0.said.clone();
        said.close();
        self.0.tasks.finish(async move {
            tokio::time::timeout(LAST_WORDS, said.wait()).await.ok();
            if let Ok(Err(error)) = tokio::time::timeout(NOTIFICATION_TIMEOUT, sending).await {
                tracing::debug!(%error, "a session could not be ended upstream");
            }
            deleted.cancel();
        });
    }

    /// Waits until the server knows of the end, after [`Http::close`].
    pub async fn deleted(&self) {
        self.0.deleted.cancelled().await;
    }

    /// Waits for its end, and says why it came.
    pub async fn closed(&self) -> String {
        self.0.closed.cancelled().await;
        self.closed_why()
    }

    pub fn is_closed(&self) -> bool {
        self.0.closed.is_cancelled()
    }

    fn closed_why(&self) -> String {
        self.0.why.lock().clone()
    }

    /// Its server no longer knows the session.
    fn forgotten(&self) {
        self.0.forgotten.store(true, Ordering::Relaxed);
        self.end("it no longer knows the session");
    }

    /// Whether it ended because the server no longer knew the session: the server is well, and
    /// another session can be opened at once.
    pub fn has_lost_session(&self) -> bool {
        self.0.forgotten.load(Ordering::Relaxed)
    }

    /// Whether the server can tell this conversation from others: by a session, or by cookies.
    pub fn keeps_session(&self) -> bool {
        self.0.session.get().is_some() || self.0.endpoint.has_cookies()
    }

    /// Whether anything was answered well in the session.
    pub fn is_proven(&self) -> bool {
        self.0.proven.load(Ordering::Relaxed)
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

    fn post(&self, text: Bytes) -> RequestTemplate {
        self.template(Verb::POST, text, HeaderKind::Message)
    }

    fn get(&self, last_event_id: Option<&str>) -> RequestTemplate {
        let mut request = self.template(Verb::GET, Bytes::new(), HeaderKind::Bare);
        request.set(header::ACCEPT, EVENTS);
        if let Some(id) = last_event_id.and_then(|id| HeaderValue::from_str(id).ok()) {
            request.set(LAST_EVENT_ID, id);
        }
        request
    }

    fn template(&self, verb: Verb, body: Bytes, kind: HeaderKind) -> RequestTemplate {
        let mut request = RequestTemplate::new(verb, self.0.endpoint.uri.clone(), body, kind);
        if let Some(version) = self.0.version.get() {
            request.set(VERSION, HeaderValue::from_static(version.as_str()));
        }
        if let Some(session) = self.0.session.get() {
            request.set(SESSION, session.clone());
        }
        request
    }

    /// From here on what is sent in nobody else's name is in that of its caller, with this token.
    pub fn set_token(&self, token: &Token) {
        self.0.endpoint.set_token(token);
    }

    /// What is the gateway's own: notifications, answers, streams and ends of sessions. All of it
    /// may be said twice.
    fn send(&self, request: RequestTemplate) -> Sending {
        let in_session = self.keeps_cookies();
        self.send_as(request, How { whose: None, repeatable: true, in_session })
    }

    fn send_as(&self, request: RequestTemplate, how: How) -> Sending {
        let endpoint = Arc::clone(&self.0.endpoint);
        Box::pin(async move { endpoint.send(request, how).await })
    }

    /// Whether cookies are one session's here. What is stateless is every caller's.
    fn keeps_cookies(&self) -> bool {
        self.0.version.get().is_none_or(|version| version.era() == Era::Legacy)
    }

    /// A broken connection may mean that the whole server is gone: it is to be probed again.
    fn broken(&self, error: NetError) -> SendError {
        if let NetError::Connect(_) = error {
            self.end(&error.to_string());
        }
        endpoint::broken(error)
    }
}

/// Whether a request may be sent twice: all but the calls of tools, and what begins something.
fn is_repeatable(method: Method) -> bool {
    matches!(
        method,
        Method::Initialize
            | Method::Initialized
            | Method::Discover
            | Method::Ping
            | Method::ToolsList
            | Method::PromptsList
            | Method::ResourcesList
            | Method::TemplatesList
    )
}

fn notice(notification: &Notification) -> ServerNotification {
    let method = Method::notification(&notification.method);
    let (params, whole) = (notification.params.clone(), notification.whole.clone());
    ServerNotification { method, params, whole }
}

fn header_value(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(&value::encode(text)).ok()
}

fn is_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.to_ascii_lowercase().starts_with("text/event-stream"))
}
