//! Streamable HTTP as a client, both eras: one POST a message, answered with JSON or with a stream
//! of events. The older HTTP+SSE is in [`events`].

mod address;
mod answer_text;
mod get_stream;
mod call;
mod cookies;
mod endpoint;
pub mod events;
mod expected;
mod gone;
mod head;
mod lifecycle;
mod sending;

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock, atomic::AtomicBool},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use hyper::Response;
use parking_lot::Mutex;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    call::{event::ServerNotification, tasks::Tasks},
    mcp::{message::Notification, method::Method, version::Version},
    net::{Content, NetError},
    upstream::replica::inbox::EventSink,
};

pub use self::{
    call::HttpCall,
    endpoint::Endpoint,
    events::{Mailbox, Posting},
    sending::{Mirrored, TraceHeaders},
};
use self::{expected::Expected, get_stream::SideChannel};

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// The headers of a trace (W3C Trace Context, W3C Baggage).
const TRACE_HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("baggage"),
];
const BOTH_TYPES: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream");
/// The pause where a server that closes its stream names no `retry`.
const RETRY: Duration = Duration::from_secs(1);
/// The time in which the server must take what the gateway says by itself (notifications, answers
/// to questions, DELETE).
pub const NOTIFICATION_TIMEOUT: Duration = Duration::from_secs(10);
/// The time in which the server must take what was said before the end of a session.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A conversation with it: stateless (modern), or one session of its (legacy). A clone is the same
/// one.
#[derive(Debug, Clone)]
pub struct Http(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    endpoint: Arc<Endpoint>,
    exclusive: bool,
    /// The channel where the call under way hears what is said beside its own stream.
    aside: Mutex<SideChannel>,
    expected: Expected,
    /// The last event of the stream that belongs to no request.
    heard: Mutex<Option<String>>,
    /// The version that was agreed when it was opened.
    version: OnceLock<Version>,
    session: OnceLock<HeaderValue>,
    /// Something was answered well in it.
    proven: AtomicBool,
    /// The server knows it no longer, and is well all the same.
    forgotten: AtomicBool,
    closed: CancellationToken,
    /// Cancelled where it is closed from this side: calls under way end with it.
    cut: CancellationToken,
    /// Cancelled once the server has been told, or could not be.
    deleted: CancellationToken,
    why: Mutex<String>,
    /// Cancellations and answers on their way: a session is ended after its last words.
    said: TaskTracker,
    sink: EventSink,
    tasks: Tasks,
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
            cut: CancellationToken::new(),
            deleted: CancellationToken::new(),
            why: Mutex::default(),
            said: TaskTracker::new(),
            sink,
            tasks: tasks.child(),
        }))
    }

    /// Begins another conversation with the same server, with nothing agreed.
    pub fn afresh(&self) -> Self {
        let endpoint = Arc::clone(&self.0.endpoint);
        let sink = self.0.sink.clone();
        Self::new(endpoint, self.0.exclusive, sink, &self.0.tasks)
    }
}

fn notice(notification: &Notification) -> ServerNotification {
    let method = Method::notification(&notification.method);
    let params = notification.params.clone();
    let whole = notification.whole.clone();
    ServerNotification { method, params, whole }
}

fn is_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.to_ascii_lowercase().starts_with("text/event-stream"))
}

#[cfg(test)]
mod tests;
