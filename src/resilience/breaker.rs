//! A breaker that calls on all cores share.
//!
//! A closed breaker lets a call in by one load, and takes the lock only for its outcome, for some
//! tens of nanoseconds.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    config,
    telemetry::{Counter, Counters},
};

use super::{
    CircuitOpen,
    machine::{BreakerState, Machine, Sample},
};

/// A breaker; it counts what it does.
#[derive(Debug)]
pub struct Breaker {
    /// The upstream or tool that it protects, for the log.
    name: String,
    settings: config::Breaker,
    machine: Mutex<Machine>,
    /// The generation while it is closed, else 0.
    closed: AtomicU64,
    /// The moment where its time begins.
    epoch: Instant,
    opened: AtomicU64,
    refused: AtomicU64,
    counters: Arc<Counters>,
}

/// Proof that a call was let in. Dropped without an outcome, nothing is known of it.
#[derive(Debug)]
pub struct BreakerPermit {
    breaker: Arc<Breaker>,
    generation: u64,
    ended: bool,
}

impl Breaker {
    pub fn new(name: String, settings: config::Breaker, counters: &Arc<Counters>) -> Arc<Self> {
        let machine = Machine::new(settings.clone());
        Arc::new(Self {
            name,
            settings,
            closed: AtomicU64::new(machine.closed().unwrap_or_default()),
            machine: Mutex::new(machine),
            epoch: Instant::now(),
            opened: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            counters: Arc::clone(counters),
        })
    }

    /// Whether it is made of these settings.
    pub fn is(&self, settings: &config::Breaker) -> bool {
        self.settings == *settings
    }

    pub fn counts(&self, cause: config::Cause) -> bool {
        self.settings.counts.contains(&cause)
    }

    /// Whether an answer that took so long is slow.
    pub fn is_slow(&self, took: Duration) -> bool {
        self.settings.slow.is_some_and(|slow| slow.after <= took)
    }

    /// Lets a call in.
    ///
    /// # Errors
    /// While it is open, or half-open with all of its probes under way.
    pub fn admit(self: &Arc<Self>) -> Result<BreakerPermit, CircuitOpen> {
        let closed = self.closed.load(Ordering::Relaxed);
        if closed != 0 {
            return Ok(self.hold(closed));
        }
        self.admit_uncounted().inspect_err(|_| {
            self.refused.fetch_add(1, Ordering::Relaxed);
            self.counters.add(Counter::RefusedBreaker);
        })
    }

    /// Lets a call in as [`Breaker::admit`] does; a refusal is not counted.
    ///
    /// # Errors
    /// Fails where the breaker is open, with the time after which to try again.
    pub fn admit_uncounted(self: &Arc<Self>) -> Result<BreakerPermit, CircuitOpen> {
        let admitted = {
            let mut machine = self.machine.lock();
            machine.admit(self.epoch.elapsed())
        };
        admitted.map(|generation| self.hold(generation)).map_err(CircuitOpen)
    }

    pub fn state(&self) -> BreakerState {
        self.machine.lock().state(self.epoch.elapsed())
    }

    /// How often it opened.
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// How many calls it refused.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn hold(self: &Arc<Self>, generation: u64) -> BreakerPermit {
        BreakerPermit { breaker: Arc::clone(self), generation, ended: false }
    }

    fn end(&self, generation: u64, mark: Sample) {
        let now = self.epoch.elapsed();
        let mut machine = self.machine.lock();
        if !machine.end(generation, mark, now) {
            return;
        }
        // The change is told under the lock, so that the last change is the one that stays.
        self.closed.store(machine.closed().unwrap_or_default(), Ordering::Relaxed);
        let standing = machine.state(now);
        drop(machine);
        if standing == BreakerState::Closed {
            self.counters.add(Counter::BreakersClosed);
            tracing::info!(breaker = self.name, "closed again");
        } else {
            self.opened.fetch_add(1, Ordering::Relaxed);
            self.counters.add(Counter::BreakersOpened);
            tracing::warn!(breaker = self.name, "open: too many calls failed, or were slow");
        }
    }
}

impl BreakerPermit {
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    pub fn end(mut self, mark: Sample) {
        self.ended = true;
        self.breaker.end(self.generation, mark);
    }
}

impl Drop for BreakerPermit {
    fn drop(&mut self) {
        // Nobody waits for its permit where all are let in.
        if !self.ended && self.breaker.closed.load(Ordering::Relaxed) != self.generation {
            self.breaker.machine.lock().forget(self.generation);
        }
    }
}
