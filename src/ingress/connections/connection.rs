//! An open connection: its requests under way, whether its peer reads, and whether it has to end.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio_util::sync::CancellationToken;

use crate::telemetry::{Counters, Gauge};

/// A connection, as far as others have to do with it.
#[derive(Debug)]
pub struct ClientConnection {
    pub id: u64,
    /// The address that it counts for; none where its address has no bound.
    pub address: Option<IpAddr>,
    /// Requests under way, each until the end of its answer.
    requests: AtomicUsize,
    /// The sweep in which the last request ended, or the connection was accepted.
    idle_since: AtomicU64,
    /// The sweep since which its peer has taken nothing; 0 where nothing waits.
    stalled_since: AtomicU64,
    http2: AtomicBool,
    /// Bytes of large answers that it has not taken; kept by the budget of all.
    pub unsent: AtomicUsize,
    /// Cancelled when it has to end, after what is under way.
    end: CancellationToken,
    /// Cancelled when it has to end at once.
    cut: CancellationToken,
    sweeps: Arc<AtomicU64>,
    counters: Arc<Counters>,
}

/// A request under way on a connection, until this is dropped.
#[derive(Debug)]
pub struct ActiveRequest(Arc<ClientConnection>);

impl ClientConnection {
    /// A connection just accepted; `end` is cancelled with all connections of its listener.
    pub fn new(
        id: u64,
        address: Option<IpAddr>,
        end: CancellationToken,
        sweeps: Arc<AtomicU64>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            id,
            address,
            requests: AtomicUsize::new(0),
            idle_since: AtomicU64::new(sweeps.load(Ordering::Relaxed)),
            stalled_since: AtomicU64::new(0),
            http2: AtomicBool::new(false),
            unsent: AtomicUsize::new(0),
            end,
            cut: CancellationToken::new(),
            sweeps,
            counters,
        }
    }

    pub fn is_http2(&self) -> bool {
        self.http2.load(Ordering::Relaxed)
    }

    /// The sweep since which its peer has taken nothing; none where nothing waits for it.
    pub fn stalled_since(&self) -> Option<u64> {
        Some(self.stalled_since.load(Ordering::Relaxed)).filter(|since| *since != 0)
    }

    #[cfg(test)]
    pub fn is_ending(&self) -> bool {
        self.end.is_cancelled()
    }

    #[cfg(test)]
    pub fn is_cut(&self) -> bool {
        self.cut.is_cancelled()
    }

    /// Ends it after what is under way; false where it was already told to.
    pub fn end(&self) -> bool {
        let first = !self.end.is_cancelled();
        self.end.cancel();
        first
    }

    /// Counts a request that begins.
    pub fn begin(self: &Arc<Self>, http2: bool) -> ActiveRequest {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.counters.raise(Gauge::ActiveRequests);
        if http2 {
            self.http2.store(true, Ordering::Relaxed);
        }
        ActiveRequest(Arc::clone(self))
    }

    /// The sweep since which it has no request; none while it has one.
    pub fn idle_since(&self) -> Option<u64> {
        let idle = self.requests.load(Ordering::Relaxed) == 0;
        idle.then(|| self.idle_since.load(Ordering::Relaxed))
    }

    /// Notes that the peer took something of what waits, or that nothing waits.
    pub fn progressed(&self) {
        if self.stalled_since.load(Ordering::Relaxed) != 0 {
            self.stalled_since.store(0, Ordering::Relaxed);
        }
    }

    /// Notes that the peer takes nothing at the moment.
    pub fn stalled(&self) {
        if self.stalled_since.load(Ordering::Relaxed) == 0 {
            self.stalled_since.store(self.sweeps.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Closes it at once; false where it was already told to.
    pub fn cut(&self) -> bool {
        let first = !self.cut.is_cancelled();
        self.cut.cancel();
        first
    }

    /// Waits until it has to end at once.
    pub async fn cut_off(&self) {
        self.cut.cancelled().await;
    }

    /// Tells whether it has no request at the moment.
    pub fn is_idle(&self) -> bool {
        self.idle_since().is_some()
    }

    /// Waits until it has to end.
    pub async fn ending(&self) {
        self.end.cancelled().await;
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        let now = self.0.sweeps.load(Ordering::Relaxed);
        self.0.idle_since.store(now, Ordering::Relaxed);
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
        self.0.counters.lower(Gauge::ActiveRequests);
    }
}
