//! Messages of an upstream outside of any call: lists changed, a resource was updated, noise.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use crate::{
    call::{
        SessionKey,
        event::{ServerNotification, ServerRequest},
    },
    mcp::{method::Method, raw::Malformed},
    telemetry::{Counter, Counters},
    upstream::{
        connection::owner::Audience,
        exchange::server_reason::clean,
        transport::{noise::Noise, read_budget::ReadShare},
    },
};

/// Messages that wait to be passed on; more are dropped and counted.
const SERVER_MESSAGES_MAX: usize = 1_024;

/// The end where one connection's signs go in. A clone goes to the same place.
#[derive(Debug, Clone)]
pub struct EventSink {
    inbox: Arc<Inbox>,
    audience: Audience,
    counters: Arc<Counters>,
    bounds: Bounds,
}

/// Bounds on what a connection brings.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// The name of the upstream, for the log.
    pub upstream: String,
    pub answer_bytes_max: usize,
    pub noise_bytes_max: usize,
    /// The budget that large answers count in while they are read.
    pub reading: Arc<ReadShare>,
}

/// All signs of one upstream: those of change have one reader, what was said another, so that
/// nobody's message waits for a list to be read.
#[derive(Debug)]
pub struct Inbox {
    /// Methods of changed lists, apart from the queue, so that a full queue cannot lose them.
    changed: Mutex<Vec<Method>>,
    reopened: AtomicBool,
    /// A connection of one client said that its lists changed: perhaps those of all did.
    doubted: AtomicBool,
    wake: Notify,
    queue_in: mpsc::Sender<ServerMessage>,
    queue: tokio::sync::Mutex<mpsc::Receiver<ServerMessage>>,
    last_noise: Mutex<Option<LastNoise>>,
    /// The name of the upstream.
    upstream: String,
}

/// The last line of a server that is no message.
#[derive(Debug, Clone)]
pub struct LastNoise {
    pub what: String,
    /// Its first characters: for operators only.
    pub text: String,
}

/// A sign that the lists changed.
#[derive(Debug)]
pub enum ListChange {
    /// The connection is open anew: everything may have changed.
    Opened,
    /// A `list_changed` notification.
    Changed,
    /// A `list_changed` notification on a connection of one client only: the lists of all may have
    /// changed or not.
    Suspected,
}

/// A message for clients.
#[derive(Debug)]
pub enum ServerMessage {
    /// Anything else that clients may care for: `updated`, log messages.
    Notice(Option<SessionKey>, ServerNotification),
    /// A question outside of any call (legacy, on the stream that GET opened).
    Question(Option<SessionKey>, ServerRequest),
}

impl Inbox {
    pub fn new(upstream: &str) -> Arc<Self> {
        let (queue_in, queue) = mpsc::channel(SERVER_MESSAGES_MAX);
        Arc::new(Self {
            changed: Mutex::default(),
            reopened: AtomicBool::new(false),
            doubted: AtomicBool::new(false),
            wake: Notify::new(),
            queue_in,
            queue: tokio::sync::Mutex::new(queue),
            last_noise: Mutex::default(),
            upstream: upstream.to_owned(),
        })
    }

    /// The next sign of change; for one reader. Safe to drop.
    pub async fn next_list_change(&self) -> ListChange {
        loop {
            if self.reopened.swap(false, Ordering::Relaxed) {
                return ListChange::Opened;
            }
            if self.doubted.swap(false, Ordering::Relaxed) {
                return ListChange::Suspected;
            }
            if self.changed.lock().pop().is_some() {
                return ListChange::Changed;
            }
            self.wake.notified().await;
        }
    }

    /// The next message, for one reader; never none, as long as there is the inbox. Safe to drop.
    pub async fn next_server_message(&self) -> Option<ServerMessage> {
        self.queue.lock().await.recv().await
    }

    pub fn opened(&self) {
        self.reopened.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    pub fn last_noise(&self) -> Option<LastNoise> {
        self.last_noise.lock().clone()
    }
}

impl EventSink {
    pub fn new(
        inbox: Arc<Inbox>,
        audience: Audience,
        counters: Arc<Counters>,
        bounds: Bounds,
    ) -> Self {
        Self { inbox, audience, counters, bounds }
    }

    /// Whether all that is said is one client session's.
    pub fn is_of_session(&self) -> bool {
        matches!(self.audience, Audience::Session(_))
    }

    /// The name of the upstream whose connection this is of.
    pub fn upstream(&self) -> &str {
        &self.inbox.upstream
    }

    pub fn count(&self, counter: Counter) {
        self.counters.add(counter);
    }

    pub fn answer_bytes_max(&self) -> usize {
        self.bounds.answer_bytes_max
    }

    /// The budget that large answers count in while they are read.
    pub fn reading(&self) -> &Arc<ReadShare> {
        &self.bounds.reading
    }

    /// The bound on what is no message, for one connection or stream.
    pub fn noise(&self) -> Noise {
        Noise::new(self.bounds.noise_bytes_max)
    }

    /// Counts a connection or stream that is ended for its noise; gives the reason back.
    pub fn noisy(&self, why: String) -> String {
        self.count(Counter::UpstreamNoisy);
        why
    }

    /// A notification that belongs to no call.
    pub fn notice(&self, notice: &ServerNotification) {
        match notice.method {
            Some(
                method @ (Method::ToolsListChanged
                | Method::PromptsListChanged
                | Method::ResourcesListChanged),
            ) => {
                // A server that lists more for one client has not changed for the others.
                if self.audience == Audience::Call {
                    self.inbox.doubted.store(true, Ordering::Relaxed);
                    return self.inbox.wake.notify_one();
                }
                let mut changed = self.inbox.changed.lock();
                if !changed.contains(&method) {
                    changed.push(method);
                }
                drop(changed);
                self.inbox.wake.notify_one();
            }
            _ => self.offer(|session| ServerMessage::Notice(session, notice.clone())),
        }
    }

    /// A stream of changes had a gap.
    pub fn reopened(&self) {
        self.inbox.opened();
    }

    /// A request that belongs to no call; dropped, it is refused.
    pub fn question(&self, question: ServerRequest) {
        self.offer(|session| ServerMessage::Question(session, question));
    }

    /// Something that is no message: kept for the operator, counted, and passed over.
    pub fn garbage(&self, text: &[u8], error: &Malformed) {
        const SHOWN: usize = 200;
        self.counters.add(Counter::UpstreamGarbage);
        let text = String::from_utf8_lossy(text.get(..SHOWN.min(text.len())).unwrap_or_default());
        let text = clean(&text, &[]);
        let upstream = &self.bounds.upstream;
        tracing::debug!(upstream, %error, %text, "an upstream sent what is no MCP message");
        let what = format!("it sent what is no MCP message ({error}); the log has it at `debug`");
        *self.inbox.last_noise.lock() = Some(LastNoise { what, text });
    }

    fn offer(&self, message: impl FnOnce(Option<SessionKey>) -> ServerMessage) {
        let session = match self.audience {
            Audience::Everyone | Audience::Call => None,
            Audience::Session(key) => Some(key),
            Audience::Nobody => return self.counters.add(Counter::NoticesDropped),
        };
        if self.inbox.queue_in.try_send(message(session)).is_err() {
            self.counters.add(Counter::NoticesDropped);
        }
    }
}
