//! The audit log: one record for every call, in a chain that shows what was changed in it.
//!
//! An [`Entry`] begins with its call and takes its place in the queue at once, so that what is
//! begun can be recorded. It goes with the call; dropped before anybody said how that ended, it
//! says that the call was cancelled. One thread writes.

mod file;
mod record;
mod writer;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;
use tokio::{
    sync::mpsc::{self, OwnedPermit},
    time::Instant,
};

use crate::{
    call::{Caller, Client, clock, tasks::Thread},
    config::{self, WhenFull},
    mcp::{message::Body, method::Method, raw::Raw},
    telemetry::{Counter, Counters, Reason},
};

pub use self::file::{Broken, Filter, OpenError, Proof, list, verify};
use self::{record::Open, writer::Work};

/// Begins the key of arguments' digests, which is derived from the gate's secret.
const KEY_CONTEXT: &str = "tollgate 2026-11 audit: digests of arguments";

/// The log of one gate.
pub struct Audit {
    settings: config::Audit,
    key: [u8; 32],
    queue: mpsc::Sender<Work>,
    state: Arc<State>,
    counters: Arc<Counters>,
    closing: Mutex<Option<(OwnedPermit<Work>, Thread)>>,
}

/// What the writer says of itself.
#[derive(Debug, Default)]
struct State {
    /// The last record could not be written.
    stuck: AtomicBool,
    /// No more is taken: the gate ends.
    closed: AtomicBool,
}

/// No call can be recorded now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("calls cannot be recorded now, and are not made unrecorded")]
pub struct Full;

/// A call that begins.
pub struct Begun<'a> {
    pub caller: &'a Caller,
    pub client: &'a Arc<Client>,
    pub route: &'a str,
    pub method: Method,
    /// What the client calls its target.
    pub name: Option<&'a str>,
    pub params: &'a Raw,
}

/// The record of one call, to be written when it ends.
pub struct Entry {
    audit: Arc<Audit>,
    since: Instant,
    /// None once it is written.
    open: Mutex<Option<(Open, Option<OwnedPermit<Work>>)>>,
}

impl Audit {
    /// Opens the file, and goes on with what is in it. `secret` is the gate's own. Where the gate
    /// that runs has the file still (`wait`), records wait until that ends.
    ///
    /// # Errors
    /// Where the file cannot be opened, is another gate's, or is no audit log.
    pub fn open(
        settings: &config::Audit,
        secret: &[u8],
        counters: &Arc<Counters>,
        wait: bool,
    ) -> Result<Arc<Self>, OpenError> {
        let (path, bytes_max) = (settings.path.clone(), settings.bytes_max);
        let file = match file::File::open(&path, bytes_max) {
            Err(OpenError::Taken(_)) if wait => None,
            opened => Some(opened?),
        };
        // One place more: for the word that it ends.
        let (queue, inbox) = mpsc::channel(settings.queue_max + 1);
        let state = Arc::<State>::default();
        let Ok(last) = queue.clone().try_reserve_owned() else {
            return Err(OpenError::Thread("its queue has no room".to_owned()));
        };
        let writer = writer::Writer::new(inbox, Arc::clone(&state), Arc::clone(counters));
        let work = move || {
            let open = || file::File::open(&path, bytes_max);
            if let Some(file) = file.or_else(|| writer.taken_over(open)) {
                writer.run(file);
            }
        };
        let thread = Thread::start("audit", work);
        let thread = thread.map_err(|error| OpenError::Thread(error.to_string()))?;
        Ok(Arc::new(Self {
            settings: settings.clone(),
            key: blake3::derive_key(KEY_CONTEXT, secret),
            queue,
            state,
            counters: Arc::clone(counters),
            closing: Mutex::new(Some((last, thread))),
        }))
    }

    /// The record of a call that begins.
    ///
    /// # Errors
    /// Where it could not be written, and no call goes unrecorded.
    pub fn begin(self: &Arc<Self>, call: &Begun<'_>) -> Result<Arc<Entry>, Full> {
        let refuses = self.settings.when_full == WhenFull::Refuse;
        let place = self.queue.clone().try_reserve_owned().ok();
        if refuses && (place.is_none() || self.is_stuck()) {
            self.counters.add(Counter::AuditRefused);
            return Err(Full);
        }
        let open = Open::new(call, clock::unix_micros());
        let (audit, since) = (Arc::clone(self), Instant::now());
        Ok(Arc::new(Entry { audit, since, open: Mutex::new(Some((open, place))) }))
    }

    /// Whether what was to be written last could not be.
    pub fn is_stuck(&self) -> bool {
        self.state.stuck.load(Ordering::Relaxed)
    }

    /// Writes all that waits, and ends.
    pub async fn close(&self) {
        let closing = self.closing.lock().take();
        if let Some((last, thread)) = closing {
            self.state.closed.store(true, Ordering::Relaxed);
            drop(last.send(Work::Close));
            thread.ended().await;
        }
    }
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audit").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Entry {
    /// Whom it is about, by the names upstream.
    pub fn about(&self, upstream: &str, target: &str) {
        if let Some((open, _)) = &mut *self.open.lock() {
            open.target = Some((upstream.to_owned(), target.to_owned()));
        }
    }

    /// What the guard lets pass of its params.
    pub fn cleared(&self, params: &Raw) {
        if let Some((open, _)) = &mut *self.open.lock() {
            open.cleared = Some(params.clone());
        }
    }

    /// It was answered, by whomever.
    pub fn answered(&self, body: &Body) {
        self.end(|open| record::outcome(open.method, body), Some(record::bytes(body)));
    }

    /// A stream was opened, which goes on.
    pub fn opened(&self) {
        self.end(|_| record::OK, None);
    }

    /// It ended without an answer of its upstream's own.
    pub fn failed(&self, reason: Reason) {
        self.end(|_| reason.name(), None);
    }

    /// The first word on how it ended counts.
    fn end(&self, outcome: impl FnOnce(&Open) -> &'static str, bytes: Option<usize>) {
        let Some((open, place)) = self.open.lock().take() else { return };
        let Some(place) = place.filter(|_| !self.audit.state.closed.load(Ordering::Relaxed)) else {
            return self.audit.counters.add(Counter::AuditDropped);
        };
        let (settings, key) = (&self.audit.settings, &self.audit.key);
        let end = record::End { outcome: outcome(&open), took: self.since.elapsed(), bytes };
        drop(place.send(Work::Record(open.record(&end, settings.arguments, key))));
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.failed(Reason::Cancelled);
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
