//! Power of two choices by peak EWMA: of two replicas drawn at random the one with less to do gets
//! the call.
//!
//! What a replica has to do is its latency, times the calls it has under way and one more. Its
//! latency follows a peak at once and sinks slowly (Finagle's `PeakEwma`; linkerd2's
//! `tower::load::PeakEwma`). pingora's load balancing has round robin, random and consistent
//! hashing, and none that hears how long calls take.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

/// In this time a peak is forgotten to a third. Finagle's and linkerd2's default.
const DECAY: Duration = Duration::from_secs(10);
/// What a replica is taken to need that has calls under way and has answered none: it gets no
/// second call before the others have as many.
const UNKNOWN: f64 = 1e6;
/// A failure is quick, and must not draw calls: it counts as if it had taken this many times as
/// long as the replica usually needs, and at least so long.
const FAILED_TIMES: f64 = 4.0;
const FAILED_LEAST: Duration = Duration::from_millis(200);

/// What one replica has to do.
#[derive(Debug)]
pub struct Load {
    in_flight: AtomicU32,
    latency: Mutex<Latency>,
}

#[derive(Debug)]
struct Latency {
    /// Seconds; 0 where nothing is known.
    seconds: f64,
    at: Instant,
}

impl Load {
    pub fn new(now: Instant) -> Self {
        let latency = Mutex::new(Latency { seconds: 0.0, at: now });
        Self { in_flight: AtomicU32::new(0), latency }
    }

    pub fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// A call showed its first sign after so long, or failed then.
    pub fn observe(&self, took: Duration, failed: bool, now: Instant) {
        let mut latency = self.latency.lock();
        let seen = took.as_secs_f64();
        let seen = if failed {
            seen.max(latency.seconds * FAILED_TIMES).max(FAILED_LEAST.as_secs_f64())
        } else {
            seen
        };
        let kept = latency.left(now);
        latency.seconds = if latency.seconds < seen {
            seen
        } else {
            latency.seconds * kept + seen * (1.0 - kept)
        };
        latency.at = now;
    }

    /// A call was given up after so long without a sign.
    pub fn abandoned(&self, took: Duration, now: Instant) {
        let mut latency = self.latency.lock();
        if latency.seconds * latency.left(now) < took.as_secs_f64() {
            *latency = Latency { seconds: took.as_secs_f64(), at: now };
        }
    }

    /// In seconds of work that stand before one more call.
    pub fn cost(&self, now: Instant) -> f64 {
        let in_flight = f64::from(self.in_flight());
        let latency = self.latency.lock();
        match latency.seconds * latency.left(now) {
            0.0 if 0.0 < in_flight => UNKNOWN + in_flight,
            seconds => seconds * (in_flight + 1.0),
        }
    }
}

impl Latency {
    /// The share of what was known that still counts.
    fn left(&self, now: Instant) -> f64 {
        let since = now.saturating_duration_since(self.at);
        (-since.as_secs_f64() / DECAY.as_secs_f64()).exp()
    }
}

/// One of the candidates: the cheaper of two different ones that the draws say.
pub fn pick(candidates: &[usize], draws: [u64; 2], cost: impl Fn(usize) -> f64) -> Option<usize> {
    let count = candidates.len() as u64;
    let place = |draw: u64, count: u64| usize::try_from(draw % count.max(1)).unwrap_or_default();
    let [first, second] = draws;
    let at = place(first, count);
    let one = *candidates.get(at)?;
    if count == 1 {
        return Some(one);
    }
    // Any but the first.
    let other = (at + 1 + place(second, count - 1)) % candidates.len();
    let other = *candidates.get(other)?;
    Some(if cost(other) < cost(one) { other } else { one })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_peak_counts_at_once_and_is_forgotten_slowly() {
        let begin = Instant::now();
        let load = Load::new(begin);
        assert!(load.cost(begin).abs() < 1e-9);
        load.observe(10 * MS, false, begin);
        load.observe(500 * MS, false, begin);
        assert!((load.cost(begin) - 0.5).abs() < 1e-9);
        load.observe(10 * MS, false, begin);
        assert!((load.cost(begin) - 0.5).abs() < 1e-9, "a moment later nothing is forgotten");
        let third = load.cost(begin + DECAY);
        assert!((0.18..0.19).contains(&third), "{third}");
        load.begin();
        load.begin();
        assert!((load.cost(begin) - 1.5).abs() < 1e-9, "two under way, and one more");
        load.end();
        assert_eq!(load.in_flight(), 1);
    }

    #[test]
    fn a_quick_failure_draws_no_calls() {
        let now = Instant::now();
        let (good, bad) = (Load::new(now), Load::new(now));
        good.observe(20 * MS, false, now);
        bad.observe(20 * MS, false, now);
        bad.observe(MS, true, now);
        assert!(good.cost(now) * 3.0 < bad.cost(now));
    }

    #[test]
    fn an_unknown_one_gets_one_call_and_no_second() {
        let now = Instant::now();
        let (known, unknown) = (Load::new(now), Load::new(now));
        known.observe(20 * MS, false, now);
        let costs = |at: usize| if at == 0 { known.cost(now) } else { unknown.cost(now) };
        assert_eq!(pick(&[0, 1], [0, 0], costs), Some(1));
        unknown.begin();
        assert_eq!(pick(&[0, 1], [0, 0], costs), Some(0));
    }

    proptest! {
        #[test]
        fn the_pick_is_a_candidate_and_never_the_dearest(
            costs in prop::collection::vec(0_u32..1_000, 1..9),
            draws: [u64; 2],
        ) {
            let candidates: Vec<_> = (0..costs.len()).collect();
            let found = pick(&candidates, draws, |at| f64::from(costs[at])).unwrap();
            let dearest = costs.iter().max().unwrap();
            let unique = costs.iter().filter(|cost| *cost == dearest).count() == 1;
            prop_assert!(costs.len() == 1 || !unique || costs[found] != *dearest);
            prop_assert_eq!(pick(&[], draws, |_| 0.0), None);
        }
    }
}
