//! Power of two choices by peak EWMA: of two replicas drawn at random the one with less to do gets
//! the call.
//!
//! A replica's load is its latency, times the calls it has under way and one more. Its latency
//! follows a peak at once and sinks slowly (Finagle's `PeakEwma`; linkerd2's
//! `tower::load::PeakEwma`). pingora's load balancing has round robin, random and consistent
//! hashing, and none that hears how long calls take.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

/// The time in which a peak is forgotten to a third. Finagle's and linkerd2's default.
const DECAY: Duration = Duration::from_secs(10);
/// Latency that a replica is taken to have that has calls under way and has answered none: it gets
/// no second call before the others have as many.
const UNKNOWN: f64 = 1e6;
/// A failure is quick, and must not draw calls: for `PENALTY` it counts as if it had taken this
/// many times as long as the replica usually needs, at least and at most so long. Many failures
/// count as one, and stand apart from what the replica usually needs: a penalty never grows by
/// another.
const FAILED_TIMES: f64 = 4.0;
const FAILED_LEAST: Duration = Duration::from_millis(200);
const FAILED_MOST: Duration = Duration::from_secs(30);
/// A failure is forgotten after this time; each success in between halves what is left of it.
/// Finagle's probation (`FailureAccrualFactory`) begins with 5 s.
const PENALTY: Duration = Duration::from_secs(5);

/// Load of one replica.
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
    penalty: Option<Penalty>,
}

/// Cost of a failure, until it is forgotten.
#[derive(Debug, Clone, Copy)]
struct Penalty {
    seconds: f64,
    at: Instant,
}

impl Load {
    pub fn new(now: Instant) -> Self {
        let latency = Mutex::new(Latency { seconds: 0.0, at: now, penalty: None });
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
        if failed {
            let times = seen.max(latency.usual(now) * FAILED_TIMES);
            latency.fails(times.max(FAILED_LEAST.as_secs_f64()), now);
            return;
        }
        if let Some(penalty) = &mut latency.penalty {
            penalty.seconds /= 2.0;
        }
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
        let took = took.as_secs_f64();
        if latency.usual(now) < took {
            latency.fails(took, now);
        }
    }

    /// The server was opened anew: what the one before it failed is not its fault.
    pub fn forgive(&self) {
        self.latency.lock().penalty = None;
    }

    /// Returns the cost in seconds of work that stand before one more call.
    pub fn cost(&self, now: Instant) -> f64 {
        let in_flight = f64::from(self.in_flight());
        let latency = self.latency.lock();
        match latency.usual(now).max(latency.penalty(now)) {
            0.0 if 0.0 < in_flight => UNKNOWN + in_flight,
            seconds => seconds * (in_flight + 1.0),
        }
    }
}

impl Latency {
    fn usual(&self, now: Instant) -> f64 {
        self.seconds * self.left(now)
    }

    /// The share of what was known that still counts.
    fn left(&self, now: Instant) -> f64 {
        let since = now.saturating_duration_since(self.at);
        (-since.as_secs_f64() / DECAY.as_secs_f64()).exp()
    }

    /// The larger of what is left of the penalty and this one, never their sum.
    fn fails(&mut self, seconds: f64, now: Instant) {
        let seconds = seconds.max(self.penalty(now)).min(FAILED_MOST.as_secs_f64());
        self.penalty = Some(Penalty { seconds, at: now });
    }

    /// The rest of a failure's cost: it falls to nothing along a straight line.
    fn penalty(&self, now: Instant) -> f64 {
        let Some(penalty) = self.penalty else { return 0.0 };
        let since = now.saturating_duration_since(penalty.at).as_secs_f64();
        penalty.seconds * (1.0 - since / PENALTY.as_secs_f64()).max(0.0)
    }
}

/// Picks one of the candidates: the cheaper of two different ones that the draws say.
pub fn pick<T: Copy>(candidates: &[T], draws: [u64; 2], cost: impl Fn(T) -> f64) -> Option<T> {
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
    fn many_failures_are_one_and_are_forgotten_when_it_is_opened_anew() {
        let now = Instant::now();
        let (one, many) = (Load::new(now), Load::new(now));
        for load in [&one, &many] {
            load.observe(20 * MS, false, now);
        }
        one.observe(MS, true, now);
        (0..1_000).for_each(|_| many.observe(MS, true, now));
        assert!((one.cost(now) - many.cost(now)).abs() < 1e-9);
        many.observe(20 * MS, false, now);
        assert!((many.cost(now) * 2.0 - one.cost(now)).abs() < 1e-9, "a success halves it");
        assert!((many.cost(now + PENALTY) - 0.02 * (-0.5_f64).exp()).abs() < 1e-6);
        one.forgive();
        assert!((one.cost(now) - 0.02).abs() < 1e-9);
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

    /// Draws that are spread well, the same in each run.
    fn draws(seed: &mut u64) -> [u64; 2] {
        let mut next = || {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *seed >> 33
        };
        [next(), next()]
    }

    /// A round of `callers` calls at once of replicas that need `took`; how many each got.
    fn round(
        loads: &[Load],
        callers: usize,
        took: Duration,
        now: Instant,
        seed: &mut u64,
    ) -> Vec<usize> {
        let all: Vec<_> = (0..loads.len()).collect();
        let mut got = vec![0; loads.len()];
        for _ in 0..callers {
            let at = pick(&all, draws(seed), |at| loads[at].cost(now)).unwrap();
            loads[at].begin();
            got[at] += 1;
        }
        for (at, load) in loads.iter().enumerate() {
            for _ in 0..got[at] {
                load.observe(took, false, now + took);
                load.end();
            }
        }
        got
    }

    proptest! {
        /// However many calls of a replica fail at one moment, and after however long: once it is
        /// well it has its share again within ten seconds.
        #[test]
        fn a_replica_that_is_well_again_has_its_share_within_seconds(
            count in 2_usize..6,
            failures in 1_u32..1_000,
            failed_after in 0_u64..60_000,
            abandoned: bool,
            usual in 1_u64..1_000,
            callers in 1_usize..40,
            seed: u64,
        ) {
            let mut seed = seed;
            let mut now = Instant::now();
            let took = Duration::from_millis(usual);
            let loads: Vec<_> = (0..count).map(|_| Load::new(now)).collect();
            for _ in 0..4 {
                round(&loads, callers, took, now, &mut seed);
                now += took;
            }
            for _ in 0..failures {
                if abandoned {
                    loads[0].abandoned(Duration::from_millis(failed_after), now);
                } else {
                    loads[0].observe(Duration::from_millis(failed_after), true, now);
                }
            }
            prop_assert!(loads[0].cost(now) <= 2.0 * FAILED_MOST.as_secs_f64());
            let well = now;
            while now < well + 6 * Duration::from_secs(1) {
                round(&loads, callers, took, now, &mut seed);
                now += took.max(50 * MS);
            }
            let (mut own, mut all) = (0, 0);
            while all < 600 {
                let got = round(&loads, callers, took, now, &mut seed);
                own += got[0];
                all += callers;
                now += took.max(MS);
            }
            prop_assert!(all < 2 * own * count, "{own} of {all} calls, {count} replicas");
        }

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
            prop_assert_eq!(pick(&[0; 0], draws, |_| 0.0), None);
        }
    }
}
