//! How an upstream fares, for people and agents who look.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::{
    builtin::report::UpstreamKind,
    config::Transport,
    mcp::{
        raw::Raw,
        version::{Era, Version},
    },
    upstream::{
        exchange::error::SendError,
        replica::{Replica, inbox::Inbox, phase::Phase},
    },
};

/// Whether the connection that all share is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Lazy, and nobody called yet.
    Idle,
    Opening,
    Ready,
    Failed,
}

/// A look at one upstream.
#[derive(Debug, Clone)]
pub struct Status {
    pub state: State,
    pub version: Option<Version>,
    /// The server's `Implementation` object.
    pub info: Option<Raw>,
    pub last_error: Option<String>,
    pub calls: u64,
    pub failures: u64,
    pub restarts: u64,
    pub processes: usize,
    /// Where there are several.
    pub replicas: Vec<ReplicaStatus>,
}

/// A look at one of several replicas.
#[derive(Debug, Clone)]
pub struct ReplicaStatus {
    pub url: String,
    pub state: State,
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

/// Counts of one upstream or replica.
#[derive(Debug, Default)]
pub struct Tally {
    calls: AtomicU64,
    failures: AtomicU64,
    restarts: AtomicU64,
    last_error: Mutex<Option<String>>,
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
        *self.last_error.lock() = Some(error.to_owned());
    }

    /// Notes an error, and passes it on.
    pub fn failure(&self, error: SendError) -> SendError {
        self.failed(&error.to_string());
        error
    }

    pub fn status_of_calls(&self) -> Noted {
        let failures = self.failures.load(Ordering::Relaxed);
        Noted { failures, last_error: self.last_error.lock().clone() }
    }

    /// True where it is another reason than the last time.
    pub fn lost(&self, why: &str) -> bool {
        self.restarts.fetch_add(1, Ordering::Relaxed);
        self.last_error.lock().replace(why.to_owned()).is_none_or(|before| before != why)
    }

    pub fn status(&self, phase: &Phase, inbox: &Inbox, processes: usize) -> Status {
        let (state, peer) = match phase {
            Phase::Idle => (State::Idle, None),
            Phase::Opening => (State::Opening, None),
            Phase::Ready(connection) => (State::Ready, Some(&connection.peer)),
            Phase::Failed(_) => (State::Failed, None),
        };
        Status {
            state,
            version: peer.map(|peer| peer.version),
            info: peer.and_then(|peer| peer.info.clone()),
            last_error: told(self.last_error.lock().clone(), inbox.last_noise()),
            calls: self.calls.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            restarts: self.restarts.load(Ordering::Relaxed),
            processes,
            replicas: Vec::new(),
        }
    }
}

/// Joins what is wrong and what may be why.
fn told(error: Option<String>, noise: Option<String>) -> Option<String> {
    match (error, noise) {
        (Some(error), Some(noise)) => Some(format!("{error}; {noise}")),
        (error, noise) => error.or(noise),
    }
}
