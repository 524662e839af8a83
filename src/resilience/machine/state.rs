//! The state machine itself: closed, open and half-open.

use std::time::Duration;

use crate::config::{self};

use super::window::{OutcomeCounts, Sample, SlidingWindow};

/// When to come back where all probes are out: they may be answered in a moment.
pub(super) const PROBING: Duration = Duration::from_secs(1);

/// How a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BreakerState {
    Closed,
    Open,
    /// Some calls are let through, to see how they fare.
    HalfOpen,
}

/// A breaker; times are since whatever moment its owner likes, and never go back.
#[derive(Debug)]
pub struct Machine {
    settings: config::Breaker,
    phase: Phase,
    /// The number of times that it changed.
    generation: u64,
}

#[derive(Debug)]
enum Phase {
    Closed(SlidingWindow),
    Open { until: Duration },
    HalfOpen { free: u32, seen: OutcomeCounts },
}

impl Machine {
    pub fn new(settings: config::Breaker) -> Self {
        let phase = Phase::Closed(SlidingWindow::new(settings.window));
        Self { settings, phase, generation: 1 }
    }

    /// Lets a call in, and returns the generation it belongs to.
    ///
    /// # Errors
    /// Returns after how long to try again where the breaker is open or enough probes are under
    /// way.
    pub fn admit(&mut self, now: Duration) -> Result<u64, Duration> {
        match &mut self.phase {
            Phase::Closed(_) => Ok(self.generation),
            Phase::Open { until } if now < *until => Err(*until - now),
            Phase::Open { .. } => {
                let free = self.settings.probes - 1;
                self.turn(Phase::HalfOpen { free, seen: OutcomeCounts::default() });
                Ok(self.generation)
            }
            Phase::HalfOpen { free: 0, .. } => Err(PROBING),
            Phase::HalfOpen { free, .. } => {
                *free -= 1;
                Ok(self.generation)
            }
        }
    }

    /// Takes the outcome of a call that was let in; true where the breaker changed by it.
    pub fn end(&mut self, generation: u64, mark: Sample, now: Duration) -> bool {
        if generation != self.generation {
            return false;
        }
        let (seen, enough, probing) = match &mut self.phase {
            Phase::Closed(window) => {
                let seen = window.add(mark, now);
                (seen, self.settings.calls_min, false)
            }
            Phase::HalfOpen { seen, .. } => {
                seen.add(mark);
                (*seen, self.settings.probes, true)
            }
            // Nothing is let in.
            Phase::Open { .. } => return false,
        };
        if seen.calls < enough {
            return false;
        }
        if self.is_bad(seen) && !self.is_of_one_tool(seen, now) {
            self.turn(Phase::Open { until: now + self.settings.open });
        } else if probing {
            self.turn(Phase::Closed(SlidingWindow::new(self.settings.window)));
        } else {
            return false;
        }
        true
    }

    /// A call that was let in was given up: nothing is known of it.
    pub fn forget(&mut self, generation: u64) {
        if let Phase::HalfOpen { free, .. } = &mut self.phase
            && generation == self.generation
        {
            *free += 1;
        }
    }

    /// Returns the state. A breaker whose time has come is half-open: the next call is a probe.
    pub fn state(&self, now: Duration) -> BreakerState {
        match self.phase {
            Phase::Closed(_) => BreakerState::Closed,
            Phase::Open { until } if now < until => BreakerState::Open,
            Phase::Open { .. } | Phase::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// The generation, while every call is let in.
    pub fn closed(&self) -> Option<u64> {
        matches!(self.phase, Phase::Closed(_)).then_some(self.generation)
    }

    fn turn(&mut self, phase: Phase) {
        self.phase = phase;
        self.generation += 1;
    }

    fn is_bad(&self, seen: OutcomeCounts) -> bool {
        self.is_bad_by(seen.calls, seen.failed, seen.calls, seen.slow)
    }

    /// Returns whether so many failed and slow calls of so many are too many.
    fn is_bad_by(&self, calls: u32, failed: u32, other_calls: u32, slow_ones: u32) -> bool {
        let reached = |share: config::Share, count: u32, all: u32| {
            share.is_reached(u64::from(count), u64::from(all))
        };
        reached(self.settings.failure_rate, failed, calls)
            || self.settings.slow.is_some_and(|slow| reached(slow.rate, slow_ones, other_calls))
    }

    /// Whether what is bad is the doing of one tool: without what the worst one failed, the rest is
    /// well, or too little to tell.
    fn is_of_one_tool(&self, seen: OutcomeCounts, now: Duration) -> bool {
        let Phase::Closed(window) = &self.phase else { return false };
        if !self.settings.tools_apart {
            return false;
        }
        let worst = window.worst(now);
        // A tenth of what it takes to decide; one at least.
        let least = (self.settings.calls_min / 10).max(1);
        let failed = seen.failed - worst.failed;
        let slow = seen.slow - worst.slow;
        let failed = if failed < least { 0 } else { failed };
        let slow = if slow < least { 0 } else { slow };
        (failed == 0 && slow == 0)
            || !self.is_bad_by(seen.calls - worst.failed, failed, seen.calls - worst.slow, slow)
    }
}
