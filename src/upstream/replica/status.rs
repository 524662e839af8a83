//! How an upstream fares, for people and agents who look.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    builtin::report::UpstreamKind,
    config::Transport,
    mcp::{
        raw::Raw,
        version::{Era, Version},
    },
    upstream::{
        exchange::error::SendError,
        replica::{
            Replica,
            inbox::Inbox,
            phase::Phase,
            times::{ConnectionClock, ConnectionTimes},
        },
    },
};

/// Whether the connection that all share is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionState {
    /// Lazy, and nobody called yet.
    Idle,
    Opening,
    Ready,
    Failed,
}

/// A look at one upstream.
#[derive(Debug, Clone)]
pub struct Status {
    pub state: ConnectionState,
    pub version: Option<Version>,
    /// The server's `Implementation` object.
    pub info: Option<Raw>,
    pub last_error: Option<String>,
    /// The server's own words about it: for operators only.
    pub last_words: Option<String>,
    pub calls: u64,
    pub failures: u64,
    pub restarts: u64,
    pub processes: usize,
    pub times: ConnectionTimes,
    /// The replicas, where there are several.
    pub replicas: Vec<ReplicaStatus>,
}

/// A look at one of several replicas.
#[derive(Debug, Clone)]
pub struct ReplicaStatus {
    pub url: String,
    pub state: ConnectionState,
    pub ejected: bool,
    /// Whether its probes say that it is unhealthy.
    pub ill: bool,
    /// Whether its breaker is open.
    pub tripped: bool,
    pub in_flight: u32,
    pub calls: u64,
}

/// Failures of calls to an upstream, at whichever replica they were.
#[derive(Debug)]
pub struct Noted {
    pub failures: u64,
    pub last_error: Option<String>,
}

/// The last failure.
#[derive(Debug)]
struct Trouble {
    error: String,
    last_words: Option<String>,
    at: Instant,
    /// Calls that were sent by then: one that came after it and did not fail says that it is over.
    calls: u64,
    /// The upstream was opened again after it.
    is_over: bool,
}

/// Counts of one upstream or replica.
#[derive(Debug, Default)]
pub struct Tally {
    calls: AtomicU64,
    failures: AtomicU64,
    restarts: AtomicU64,
    trouble: Mutex<Option<Trouble>>,
    /// The last words of the process whose end is about to be told.
    last_words: Mutex<Option<String>>,
    opened_at: Mutex<Option<Instant>>,
    pub clock: ConnectionClock,
}

impl Replica {
    /// How it is reached, as far as that is known.
    pub fn transport_kind(&self) -> UpstreamKind {
        match self.settings.config.transport {
            Transport::Stdio { .. } => UpstreamKind::Stdio,
            Transport::Http { .. } if self.speaks_sse() => UpstreamKind::Sse,
            Transport::Http { .. } => UpstreamKind::Http,
            Transport::Builtin { .. } => UpstreamKind::Builtin,
        }
    }

    pub fn is_open(&self) -> bool {
        matches!(&*self.phase.borrow(), Phase::Ready(connection) if !connection.is_closed())
    }

    /// Whether it is, or may be, a legacy server, with sessions of its clients.
    pub fn keeps_sessions(&self) -> bool {
        let legacy =
            self.phase.borrow().peer().is_some_and(|peer| peer.version.era() == Era::Legacy);
        legacy || !self.refuses_legacy.load(Ordering::Relaxed)
    }

    /// Returns what is shown of the replica.
    pub fn report(&self) -> Status {
        self.tally.status(&self.phase.borrow(), &self.common.inbox, self.processes())
    }

    fn processes(&self) -> usize {
        if !matches!(self.settings.config.transport, Transport::Stdio { .. }) {
            return 0;
        }
        let shared = usize::from(matches!(*self.phase.borrow(), Phase::Ready(_)));
        shared + self.pool.open_count()
    }

    pub fn speaks_sse(&self) -> bool {
        self.sse.load(Ordering::Relaxed)
    }
}

impl Tally {
    pub fn call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    pub fn failed(&self, error: &str) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        *self.trouble.lock() = Some(Trouble::new(error, None, self.calls()));
    }

    /// Calls that were sent.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Notes an error, and passes it on.
    pub fn failure(&self, error: SendError) -> SendError {
        self.failed(&error.to_string());
        error
    }

    /// Notes a failure of a call to whichever replica, after so many `calls` to all of them.
    pub fn failed_after(&self, error: &SendError, calls: u64) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        *self.trouble.lock() = Some(Trouble::new(&error.to_string(), None, calls));
    }

    /// Failures of calls. The last of them is told as long as none was sent after it that did not
    /// fail, of `calls` in all, and where the upstream is open only if it came after `opened`.
    pub fn status_of_calls(&self, calls: u64, opened: Option<Instant>) -> Noted {
        let failures = self.failures.load(Ordering::Relaxed);
        let trouble = self.trouble.lock();
        let recent =
            |one: &&Trouble| opened.is_none_or(|opened| opened < one.at && calls <= one.calls);
        let last_error = trouble.as_ref().filter(recent).map(|one| one.error.clone());
        Noted { failures, last_error }
    }

    /// Keeps what a process said last, for [`Tally::lost`].
    pub fn keep_last_words(&self, last_words: Option<String>) {
        *self.last_words.lock() = last_words;
    }

    /// Takes what was kept by [`Tally::keep_last_words`].
    pub fn take_last_words(&self) -> Option<String> {
        self.last_words.lock().take()
    }

    /// Notes why it is not open; true where that, or what the server said of it, is another reason
    /// than the last time.
    pub fn lost(&self, why: &str, last_words: Option<String>) -> bool {
        self.restarts.fetch_add(1, Ordering::Relaxed);
        let was_open = self.opened_at.lock().take().is_some();
        self.clock.lost(was_open);
        let now = Trouble::new(why, last_words, self.calls());
        let mut trouble = self.trouble.lock();
        let is_same =
            |before: &Trouble| before.error == now.error && before.last_words == now.last_words;
        let is_news = !trouble.as_ref().is_some_and(is_same);
        *trouble = Some(now);
        is_news
    }

    /// Notes that it is open: what was wrong before is so no longer.
    pub fn opened(&self) {
        *self.opened_at.lock() = Some(Instant::now());
        self.clock.opened();
        if let Some(trouble) = &mut *self.trouble.lock() {
            trouble.is_over = true;
        }
    }

    /// When it was opened, as long as it is open.
    pub fn opened_at(&self) -> Option<Instant> {
        *self.opened_at.lock()
    }

    pub fn status(&self, phase: &Phase, inbox: &Inbox, processes: usize) -> Status {
        let (state, peer) = match phase {
            Phase::Idle => (ConnectionState::Idle, None),
            Phase::Opening => (ConnectionState::Opening, None),
            Phase::Ready(connection) => (ConnectionState::Ready, Some(&connection.peer)),
            Phase::Failed(_) => (ConnectionState::Failed, None),
        };
        let mut last_error = None;
        let mut last_words = None;
        let calls = self.calls();
        let is_over =
            |one: &Trouble| one.is_over || state == ConnectionState::Ready && one.calls < calls;
        if let Some(one) = self.trouble.lock().as_ref().filter(|one| !is_over(one)) {
            (last_error, last_words) = (Some(one.error.clone()), one.last_words.clone());
        }
        // A line or two that are no message do a server that is open no harm.
        let noise =
            inbox.last_noise().filter(|_| state != ConnectionState::Ready || last_error.is_some());
        let (noise, noise_text) = noise.map(|noise| (noise.what, noise.text)).unzip();
        Status {
            state,
            version: peer.map(|peer| peer.version),
            info: peer.and_then(|peer| peer.info.clone()),
            last_error: told(last_error, noise),
            last_words: last_words.or(noise_text),
            calls,
            failures: self.failures.load(Ordering::Relaxed),
            restarts: self.restarts.load(Ordering::Relaxed),
            processes,
            times: self.clock.read(),
            replicas: Vec::new(),
        }
    }
}

impl Trouble {
    fn new(error: &str, last_words: Option<String>, calls: u64) -> Self {
        let error = error.to_owned();
        Self { error, last_words, at: Instant::now(), calls, is_over: false }
    }
}

/// Joins what is wrong and what may be why.
fn told(error: Option<String>, noise: Option<String>) -> Option<String> {
    match (error, noise) {
        (Some(error), Some(noise)) => Some(format!("{error}; {noise}")),
        (error, noise) => error.or(noise),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(tally: &Tally, phase: &Phase) -> (Option<String>, Option<String>) {
        let status = tally.status(phase, &Inbox::new("git"), 0);
        (status.last_error, status.last_words)
    }

    /// What is news is logged: each line names what is new, and no line comes twice.
    #[test]
    fn the_end_of_a_server_is_news_once_per_change() {
        let tally = Tally::default();
        let words = |text: &str| Some(text.to_owned());
        for (why, last_words, is_news) in [
            ("closed", words("Error: no key"), true),
            ("closed", words("Error: no key"), false),
            ("closed", words("Error: no key"), false),
            ("closed", words("Error: no seat"), true),
            ("closed", words("Error: no key"), true),
            ("closed", None, true),
            ("closed", None, false),
            ("silent", None, true),
            ("silent", words("ready"), true),
            ("silent", words("ready"), false),
            ("closed", words("ready"), true),
        ] {
            assert_eq!(tally.lost(why, last_words.clone()), is_news, "{why} {last_words:?}");
            let failed = Phase::Failed(SendError::Unavailable(why.to_owned()));
            assert_eq!(shown(&tally, &failed), (Some(why.to_owned()), last_words));
        }
        // Opened in between, it is the same news still, and nothing is shown meanwhile.
        tally.opened();
        assert_eq!(shown(&tally, &Phase::Opening), (None, None));
        assert!(!tally.lost("closed", words("ready")));
        assert_eq!(tally.restarts.load(Ordering::Relaxed), 12);
    }

    #[test]
    fn a_failure_is_over_with_the_next_call_or_opening() {
        let tally = Tally::default();
        let error = |tally: &Tally, calls, opened| tally.status_of_calls(calls, opened).last_error;
        let before = Instant::now();
        tally.failed_after(&SendError::Idle(std::time::Duration::from_secs(2)), 3);
        assert!(error(&tally, 3, Some(before)).is_some());
        assert!(error(&tally, 4, Some(before)).is_none(), "another call went well");
        assert!(error(&tally, 3, Some(Instant::now())).is_none(), "it was opened since");
        assert!(error(&tally, 4, None).is_some(), "it is not open");
    }
}
