//! A connection that several calls share: ids and progress tokens are its own.
//!
//! How whole messages come and go is the transport's affair: as lines ([`pipe`]), or as events and
//! POSTs ([`super::http`]).

mod call;
mod calls;
mod lifecycle;
mod pipe;
mod queue;
mod receiving;
mod sending;
mod words;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    call::{event::ServerRequest, tasks::Tasks},
    mcp::version::Version,
    upstream::{
        replica::inbox::EventSink,
        transport::{http::Mailbox, noise::Noise},
    },
};

#[cfg(feature = "internals")]
pub use self::pipe::take_lines;
pub use self::{
    call::MultiplexedCall,
    pipe::open,
    words::{cancellation, is_question, own_token, refusal},
};
use self::{calls::Calls, queue::Queue};

/// Events of one call that wait to be read; the last place is kept for the answer.
const EVENTS_MAX: usize = 256;
/// Questions that wait for a call.
const EARLY_MAX: usize = 8;
/// Calls that were answered with what is no answer, and have not been told so yet.
const SPOILT_MAX: usize = 1_024;
/// The time in which the server must take what was said before the end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A connection that several calls share. A clone is the same one.
#[derive(Debug, Clone)]
pub struct Multiplexer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    out: Out,
    calls: Mutex<Calls>,
    /// The faults in answers of calls that have yet to be told so.
    spoilt: Mutex<HashMap<u64, String>>,
    /// Questions that came on a leased connection before there was a call.
    early_requests: Mutex<Vec<ServerRequest>>,
    ids: AtomicU64,
    /// Whether it is one client's: what the server asks belongs to its only call.
    exclusive: bool,
    version: Mutex<Version>,
    closed: CancellationToken,
    why: Mutex<String>,
    /// Whether it was closed because a message had no end.
    too_large: AtomicBool,
    /// Whether what it brings is held back, until there is room for a large message.
    held_back: AtomicBool,
    noise: Mutex<Noise>,
    /// The server has said something that is, or was meant to be, a message.
    spoke: AtomicBool,
    sink: EventSink,
    /// Messages that are posted without anybody waiting for them.
    said: TaskTracker,
    tasks: Tasks,
}

/// How messages leave.
#[derive(Debug)]
pub enum Out {
    /// Written one after the other.
    Queue(Arc<Queue>),
    /// Messages are posted one by one.
    Mailbox(Mailbox),
}

/// The side on whose behalf a request is sent. A message that names no call can belong to a
/// client's only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Gateway,
    Client {
        /// The params have a progress token, which must become the connection's own.
        has_token: bool,
    },
}

impl Multiplexer {
    /// Makes a connection with nothing to read yet: see [`Multiplexer::run`]. It ends with `tasks`.
    pub fn new(out: Out, exclusive: bool, sink: EventSink, tasks: &Tasks) -> Self {
        Self(Arc::new(Inner {
            out,
            calls: Mutex::default(),
            spoilt: Mutex::default(),
            early_requests: Mutex::default(),
            ids: AtomicU64::new(1),
            exclusive,
            version: Mutex::new(Version::LEGACY_LATEST),
            closed: CancellationToken::new(),
            why: Mutex::default(),
            too_large: AtomicBool::new(false),
            held_back: AtomicBool::new(false),
            noise: Mutex::new(sink.noise()),
            spoke: AtomicBool::new(false),
            sink,
            said: TaskTracker::new(),
            tasks: tasks.child(),
        }))
    }

    /// Runs what reads or writes for it; the connection is closed with its end, for the reason that
    /// it gives.
    pub fn run<W>(&self, name: &'static str, work: impl FnOnce(Self) -> W)
    where
        W: Future<Output = String> + Send + 'static,
    {
        let lines = self.clone();
        let work = work(self.clone());
        self.0.tasks.spawn(name, async move {
            let why = work.await;
            lines.close(&why);
        });
    }

    /// Sets the version in whose words the server is answered from here on.
    pub fn agree(&self, version: Version) {
        *self.0.version.lock() = version;
    }
}
