//! The outcomes of the last calls, or of the last seconds, counted.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use crate::config::Sliding;

/// Parts of a window of time; the oldest leaves it as a whole.
const PARTS: u64 = 20;

/// Tools whose failures are told apart within one part.
const TOOLS_MAX: usize = 64;

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

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct OutcomeCounts {
    pub(super) calls: u32,
    pub(super) failed: u32,
    pub(super) slow: u32,
}

/// Outcomes in one part of a window of time.
#[derive(Debug, Clone, Default)]
pub(super) struct WindowPart {
    tally: OutcomeCounts,
    /// Failures of single tools; of no more than `TOOLS_MAX`.
    tools: HashMap<u64, OutcomeCounts>,
}

#[derive(Debug)]
pub(super) enum SlidingWindow {
    Calls { marks: VecDeque<Sample>, max: usize, tally: OutcomeCounts },
    Time { parts: Vec<(u64, WindowPart)>, length: Duration },
}

impl SlidingWindow {
    pub(super) fn new(sliding: Sliding) -> Self {
        match sliding {
            Sliding::Calls(max) => {
                let max = max as usize;
                Self::Calls { marks: VecDeque::new(), max, tally: OutcomeCounts::default() }
            }
            Sliding::Time(time) => {
                let parts = (0..PARTS).map(|_| (0, WindowPart::default())).collect();
                Self::Time { parts, length: time / PARTS as u32 }
            }
        }
    }

    /// Adds one, and counts what is in the window then.
    pub(super) fn add(&mut self, mark: Sample, now: Duration) -> OutcomeCounts {
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
                inside.fold(OutcomeCounts::default(), |sum, (_, part)| sum.plus(part.tally))
            }
        }
    }

    /// The most that one tool failed, and the most that one was slow.
    pub(super) fn worst(&self, now: Duration) -> OutcomeCounts {
        let mut tools: HashMap<u64, OutcomeCounts> = HashMap::new();
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
        let most = |of: fn(&OutcomeCounts) -> u32| tools.values().map(of).max().unwrap_or_default();
        OutcomeCounts {
            calls: 0,
            failed: most(|tally| tally.failed),
            slow: most(|tally| tally.slow),
        }
    }
}

impl WindowPart {
    pub(super) fn add(&mut self, mark: Sample) {
        self.tally.add(mark);
        let is_known = self.tools.contains_key(&mark.tool) || self.tools.len() < TOOLS_MAX;
        if mark.tool != 0 && !mark.is_good() && is_known {
            self.tools.entry(mark.tool).or_default().add(mark);
        }
    }
}

impl OutcomeCounts {
    pub(super) fn add(&mut self, mark: Sample) {
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

/// Returns the part of all time that a moment is in.
fn part(now: Duration, length: Duration) -> u64 {
    (now.as_nanos() / length.as_nanos().max(1)) as u64
}
