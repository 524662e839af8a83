//! Lines of the log that others can cause as often as they like: one in a while of each kind, and
//! how many were like it.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, Hash, RandomState},
    sync::LazyLock,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

/// The time between two lines of one kind.
const PERIOD: Duration = Duration::from_secs(10);
/// Kinds that are remembered; more than that share one line.
const KINDS_MAX: usize = 1_000;

/// The throttle of the whole process, as the log is.
static LINES: LazyLock<Throttle> = LazyLock::new(|| Throttle::new(PERIOD, KINDS_MAX));

/// Lines by kind.
#[derive(Debug)]
struct Throttle {
    period: Duration,
    kinds_max: usize,
    secret: RandomState,
    kinds: Mutex<HashMap<u64, Line>>,
}

#[derive(Debug)]
struct Line {
    written: Instant,
    /// Times that it was not written since.
    withheld: u64,
}

/// Lets a line be written; `more` of its kind were withheld since the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// None where there were none, so that the field is left out.
    pub more: Option<u64>,
}

/// Whether a line of this kind is to be written now: what happened, and to whom.
pub fn passes(kind: impl Hash) -> Option<Passed> {
    LINES.pass(kind, Instant::now())
}

/// Writes a line of this kind, unless one was written a moment ago; `write` is told how many were
/// withheld since.
pub fn line(kind: impl Hash, write: impl FnOnce(Option<u64>)) {
    if let Some(like) = passes(kind) {
        write(like.more);
    }
}

/// Says how many lines were withheld of which none followed since.
pub fn flush() {
    let withheld = LINES.flush(Instant::now());
    if 0 < withheld {
        tracing::warn!(withheld, "more lines like the last ones were not written");
    }
}

impl Throttle {
    fn new(period: Duration, kinds_max: usize) -> Self {
        Self { period, kinds_max, secret: RandomState::new(), kinds: Mutex::default() }
    }

    fn pass(&self, kind: impl Hash, now: Instant) -> Option<Passed> {
        let mut kind = self.secret.hash_one(kind);
        let mut kinds = self.kinds.lock();
        if self.kinds_max <= kinds.len() && !kinds.contains_key(&kind) {
            let period = self.period;
            kinds.retain(|_, line| line.withheld != 0 || now < line.written + period);
            if self.kinds_max <= kinds.len() {
                kind = 0;
            }
        }
        let Some(line) = kinds.get_mut(&kind) else {
            kinds.insert(kind, Line { written: now, withheld: 0 });
            return Some(Passed { more: None });
        };
        if now < line.written + self.period {
            line.withheld += 1;
            return None;
        }
        line.written = now;
        let more = std::mem::take(&mut line.withheld);
        Some(Passed { more: (more != 0).then_some(more) })
    }

    fn flush(&self, now: Instant) -> u64 {
        let period = self.period;
        let mut kinds = self.kinds.lock();
        let old = kinds.extract_if(|_, line| line.written + period <= now);
        old.map(|(_, line)| line.withheld).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Each kind has one line in a period at most, nothing is lost of the count, and the kinds
        /// that are remembered are bounded.
        #[test]
        fn one_line_of_a_kind_in_a_while(
            events in prop::collection::vec((0_u8..30, 0_u64..3_000), 1..300),
            kinds_max in 1_usize..40,
        ) {
            let throttle = Throttle::new(Duration::from_secs(10), kinds_max);
            let begin = Instant::now();
            let mut now = begin;
            let mut last: HashMap<u8, Instant> = HashMap::new();
            let (mut written, mut withheld) = (0, 0);
            let count = events.len() as u64;
            for (kind, gap) in events {
                now += Duration::from_millis(gap);
                match throttle.pass(kind, now) {
                    Some(passed) => {
                        written += 1;
                        withheld += passed.more.unwrap_or_default();
                        if let Some(before) = last.insert(kind, now) {
                            prop_assert!(kinds_max <= 30 || before + throttle.period <= now);
                        }
                    }
                    None => prop_assert!(!last.is_empty(), "the first is written"),
                }
                prop_assert!(throttle.kinds.lock().len() <= kinds_max + 1);
            }
            withheld += throttle.flush(now + throttle.period);
            prop_assert_eq!(written + withheld, count);
            prop_assert!(throttle.kinds.lock().is_empty());
        }
    }
}
