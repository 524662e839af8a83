//! The state machine of a breaker, without a clock or a lock: closed, open and half-open over a
//! sliding window.
//!
//! The states, rates and probes are those of resilience4j 2 (`CircuitBreakerStateMachine`), with
//! two differences. A call's outcome counts for the state that let the call in and for no later
//! one: what was sent before it opened does not judge the probes. And a probe that is given up says
//! nothing, so that its permit is another's.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use crate::config::{self, Sliding};

/// Parts of a window of time; the oldest leaves it as a whole.
const PARTS: u64 = 20;
/// Tools whose failures are told apart within one part.
const TOOLS_MAX: usize = 64;
/// When to come back where all probes are out: they may be answered in a moment.
const PROBING: Duration = Duration::from_secs(1);

/// How a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BreakerState {
    Closed,
    Open,
    /// Some calls are let through, to see how they fare.
    HalfOpen,
}

/// How a call went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sample {
    pub failed: bool,
    pub slow: bool,
    /// The tool that it speaks of, as a number; 0: it speaks of the whole server.
    pub tool: u64,
}

impl Sample {
    pub fn is_good(self) -> bool {
        !self.failed && !self.slow
    }
}

/// A breaker; times are since whatever moment its owner likes, and never go back.
#[derive(Debug)]
pub struct Machine {
    settings: config::Breaker,
    phase: Phase,
    /// One for each time that it changed.
    generation: u64,
}

#[derive(Debug)]
enum Phase {
    Closed(Window),
    Open { until: Duration },
    HalfOpen { free: u32, seen: Tally },
}

#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    calls: u32,
    failed: u32,
    slow: u32,
}

/// Outcomes in one part of a window of time.
#[derive(Debug, Clone, Default)]
struct Part {
    tally: Tally,
    /// Failures of single tools; of no more than `TOOLS_MAX`.
    tools: HashMap<u64, Tally>,
}

#[derive(Debug)]
enum Window {
    Calls { marks: VecDeque<Sample>, max: usize, tally: Tally },
    Time { parts: Vec<(u64, Part)>, length: Duration },
}

impl Machine {
    pub fn new(settings: config::Breaker) -> Self {
        let phase = Phase::Closed(Window::new(settings.window));
        Self { settings, phase, generation: 1 }
    }

    /// Lets a call in, and says which generation it belongs to; or when to come back.
    pub fn admit(&mut self, now: Duration) -> Result<u64, Duration> {
        match &mut self.phase {
            Phase::Closed(_) => Ok(self.generation),
            Phase::Open { until } if now < *until => Err(*until - now),
            Phase::Open { .. } => {
                let free = self.settings.probes - 1;
                self.turn(Phase::HalfOpen { free, seen: Tally::default() });
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
            self.turn(Phase::Closed(Window::new(self.settings.window)));
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

    /// One whose time has come is half-open: the next call is a probe.
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

    fn is_bad(&self, seen: Tally) -> bool {
        self.is_bad_by(seen.calls, seen.failed, seen.calls, seen.slow)
    }

    /// So many of so many calls failed, and were slow.
    fn is_bad_by(&self, calls: u32, failed: u32, other_calls: u32, slow_ones: u32) -> bool {
        let reached = |share: config::Share, count: u32, all: u32| {
            share.is_reached(u64::from(count), u64::from(all))
        };
        reached(self.settings.failure_rate, failed, calls)
            || self.settings.slow.is_some_and(|slow| reached(slow.rate, slow_ones, other_calls))
    }

    /// Whether what is bad is the doing of one tool: without what the worst one failed, the rest is
    /// well, or too little to tell.
    fn is_of_one_tool(&self, seen: Tally, now: Duration) -> bool {
        let Phase::Closed(window) = &self.phase else { return false };
        if !self.settings.tools_apart {
            return false;
        }
        let worst = window.worst(now);
        // A tenth of what it takes to decide; one at least.
        let least = (self.settings.calls_min / 10).max(1);
        let (failed, slow) = (seen.failed - worst.failed, seen.slow - worst.slow);
        let failed = if failed < least { 0 } else { failed };
        let slow = if slow < least { 0 } else { slow };
        (failed == 0 && slow == 0)
            || !self.is_bad_by(seen.calls - worst.failed, failed, seen.calls - worst.slow, slow)
    }
}

impl Window {
    fn new(sliding: Sliding) -> Self {
        match sliding {
            Sliding::Calls(max) => {
                let max = max as usize;
                Self::Calls { marks: VecDeque::new(), max, tally: Tally::default() }
            }
            Sliding::Time(time) => {
                let parts = (0..PARTS).map(|_| (0, Part::default())).collect();
                Self::Time { parts, length: time / PARTS as u32 }
            }
        }
    }

    /// Adds one, and counts what is in the window then.
    fn add(&mut self, mark: Sample, now: Duration) -> Tally {
        match self {
            Self::Calls { marks, max, tally } => {
                if marks.len() == *max
                    && let Some(oldest) = marks.pop_front()
                {
                    tally.take(oldest);
                }
                marks.push_back(mark);
                tally.add(mark);
                *tally
            }
            Self::Time { parts, length } => {
                let at = part(now, *length);
                if let Some((of, part)) = parts.get_mut((at % PARTS) as usize) {
                    let so_far = (*of == at).then(|| std::mem::take(part));
                    (*of, *part) = (at, so_far.unwrap_or_default());
                    part.add(mark);
                }
                let inside = parts.iter().filter(|(of, _)| at < *of + PARTS);
                inside.fold(Tally::default(), |sum, (_, part)| sum.plus(part.tally))
            }
        }
    }

    /// The most that one tool failed, and the most that one was slow.
    fn worst(&self, now: Duration) -> Tally {
        let mut tools: HashMap<u64, Tally> = HashMap::new();
        match self {
            Self::Calls { marks, .. } => {
                for mark in marks.iter().filter(|mark| mark.tool != 0 && !mark.is_good()) {
                    tools.entry(mark.tool).or_default().add(*mark);
                }
            }
            Self::Time { parts, length } => {
                let at = part(now, *length);
                let inside = parts.iter().filter(|(of, _)| at < *of + PARTS);
                for (tool, tally) in inside.flat_map(|(_, part)| &part.tools) {
                    let sum = tools.entry(*tool).or_default();
                    *sum = sum.plus(*tally);
                }
            }
        }
        let most = |of: fn(&Tally) -> u32| tools.values().map(of).max().unwrap_or_default();
        Tally { calls: 0, failed: most(|tally| tally.failed), slow: most(|tally| tally.slow) }
    }
}

impl Part {
    fn add(&mut self, mark: Sample) {
        self.tally.add(mark);
        let is_known = self.tools.contains_key(&mark.tool) || self.tools.len() < TOOLS_MAX;
        if mark.tool != 0 && !mark.is_good() && is_known {
            self.tools.entry(mark.tool).or_default().add(mark);
        }
    }
}

impl Tally {
    fn add(&mut self, mark: Sample) {
        self.calls += 1;
        self.failed += u32::from(mark.failed);
        self.slow += u32::from(mark.slow);
    }

    fn take(&mut self, mark: Sample) {
        self.calls -= 1;
        self.failed -= u32::from(mark.failed);
        self.slow -= u32::from(mark.slow);
    }

    fn plus(self, other: Self) -> Self {
        Self {
            calls: self.calls + other.calls,
            failed: self.failed + other.failed,
            slow: self.slow + other.slow,
        }
    }
}

/// Which part of all time a moment is in.
fn part(now: Duration, length: Duration) -> u64 {
    (now.as_nanos() / length.as_nanos().max(1)) as u64
}

#[cfg(test)]
mod tests;
