//! Outlier ejection: a replica that does worse than the others gets no calls for a while, after
//! Envoy's rules (outlier detection).
//!
//! A replica is ejected at once after so many failures in a row, and at the end of an interval
//! where its share of failures is too high and the others' is less than half of it: a server whose
//! every replica fails is not mended by leaving some out. The n-th time lasts n times as long; each
//! interval without an ejection takes one off. Never are more than a share of all ejected at once,
//! and never all.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::config::Ejection;

/// The replicas of one upstream. A good call takes no lock.
#[derive(Debug)]
pub struct Ejections {
    settings: Ejection,
    begun: Instant,
    replicas: Vec<Replica>,
    /// When the interval of now ends, in milliseconds from `begun`.
    interval_at: AtomicU64,
    /// The lock that is held while one is ejected or an interval ends.
    deciding: Mutex<()>,
}

#[derive(Debug, Default)]
struct Replica {
    good: AtomicU32,
    bad: AtomicU32,
    in_a_row: AtomicU32,
    /// The end of the ejection in milliseconds from `begun`; 0 where it never was ejected.
    until: AtomicU64,
    times: AtomicU32,
}

impl Ejections {
    pub fn new(settings: Ejection, count: usize, now: Instant) -> Self {
        let interval_at = AtomicU64::new(millis(settings.interval));
        let replicas = (0..count).map(|_| Replica::default()).collect();
        Self { settings, begun: now, replicas, interval_at, deciding: Mutex::new(()) }
    }

    /// Notes how a call went; the replicas that are ejected for it, with how long.
    pub fn record(&self, at: usize, good: bool, now: Instant) -> Vec<(usize, Duration)> {
        let mut ejected = self.end_interval(now);
        let Some(replica) = self.replicas.get(at) else { return ejected };
        if good {
            replica.good.fetch_add(1, Ordering::Relaxed);
            // Most often it is: read, so that cores need not fight for it.
            if replica.in_a_row.load(Ordering::Relaxed) != 0 {
                replica.in_a_row.store(0, Ordering::Relaxed);
            }
            return ejected;
        }
        // Calls that it had under way before it was ejected say nothing new.
        if self.is_ejected(at, now) {
            return ejected;
        }
        replica.bad.fetch_add(1, Ordering::Relaxed);
        let in_a_row = 1 + replica.in_a_row.fetch_add(1, Ordering::Relaxed);
        if self.settings.consecutive <= in_a_row {
            let _deciding = self.deciding.lock();
            ejected.extend(self.eject(at, now).map(|long| (at, long)));
        }
        ejected
    }

    pub fn is_ejected(&self, at: usize, now: Instant) -> bool {
        let until = self.replicas.get(at).map_or(0, |it| it.until.load(Ordering::Relaxed));
        until != 0 && self.millis_at(now) < until
    }

    pub fn count(&self, now: Instant) -> usize {
        (0..self.replicas.len()).filter(|at| self.is_ejected(*at, now)).count()
    }

    /// How many may be at once.
    pub fn count_max(&self) -> usize {
        let count = self.replicas.len();
        if self.settings.max <= 0.0 {
            return 0;
        }
        // Counted up: floats are not made to integers here.
        let share = |many: &usize| many_of(*many) <= many_of(count) * self.settings.max;
        let most = (1..=count).take_while(share).last().unwrap_or_default();
        most.max(1).min(count.saturating_sub(1))
    }

    /// Looks at the shares of an interval that is over.
    fn end_interval(&self, now: Instant) -> Vec<(usize, Duration)> {
        let due = || self.interval_at.load(Ordering::Relaxed) <= self.millis_at(now);
        if !due() {
            return Vec::new();
        }
        let _deciding = self.deciding.lock();
        if !due() {
            return Vec::new();
        }
        let next = self.millis_at(now) + millis(self.settings.interval);
        self.interval_at.store(next, Ordering::Relaxed);
        let taken = self.replicas.iter().map(Replica::take);
        let counts: Vec<(u32, u32)> = taken.collect();
        let all = counts.iter().fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
        let mut ejected = Vec::new();
        for (at, (good, bad)) in counts.into_iter().enumerate() {
            if self.is_ejected(at, now) {
                continue;
            }
            let others = rate(all.0 - good, all.1 - bad);
            let own = rate(good, bad);
            let enough = self.settings.calls_min <= good + bad;
            if enough && self.settings.failure_rate <= own && 2.0 * others < own && 0.0 < own {
                ejected.extend(self.eject(at, now).map(|long| (at, long)));
            } else if let Some(replica) = self.replicas.get(at) {
                let times = replica.times.load(Ordering::Relaxed);
                replica.times.store(times.saturating_sub(1), Ordering::Relaxed);
            }
        }
        ejected
    }

    /// Ejects a replica, and returns for how long; none where it is already, or no more may be.
    fn eject(&self, at: usize, now: Instant) -> Option<Duration> {
        let replica = self.replicas.get(at)?;
        if self.is_ejected(at, now) || self.count_max() <= self.count(now) {
            return None;
        }
        let times = replica.times.load(Ordering::Relaxed).saturating_add(1);
        replica.times.store(times, Ordering::Relaxed);
        let long = self.settings.base.saturating_mul(times).min(self.settings.base_max);
        replica.until.store(self.millis_at(now) + millis(long), Ordering::Relaxed);
        // When it comes back it begins anew.
        replica.in_a_row.store(0, Ordering::Relaxed);
        replica.take();
        Some(long)
    }

    fn millis_at(&self, now: Instant) -> u64 {
        millis(now.saturating_duration_since(self.begun))
    }
}

impl Replica {
    fn take(&self) -> (u32, u32) {
        (self.good.swap(0, Ordering::Relaxed), self.bad.swap(0, Ordering::Relaxed))
    }
}

/// Rounded up, so that nothing ends early.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

fn rate(good: u32, bad: u32) -> f64 {
    let all = good + bad;
    if all == 0 { 0.0 } else { f64::from(bad) / f64::from(all) }
}

fn many_of(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn settings() -> Ejection {
        Ejection {
            max: 0.5,
            consecutive: 5,
            failure_rate: 0.5,
            calls_min: 20,
            interval: 10 * SECOND,
            base: 30 * SECOND,
            base_max: 300 * SECOND,
        }
    }

    fn fails(ejections: &Ejections, at: usize, times: u32, now: Instant) -> Option<Duration> {
        let mut found = None;
        for _ in 0..times {
            found = found.or(ejections.record(at, false, now).first().map(|(_, long)| *long));
        }
        found
    }

    #[test]
    fn five_failures_in_a_row_are_enough_and_each_time_lasts_longer() {
        let begin = Instant::now();
        let ejections = Ejections::new(settings(), 4, begin);
        assert_eq!(fails(&ejections, 0, 4, begin), None);
        ejections.record(0, true, begin);
        assert_eq!(fails(&ejections, 0, 4, begin), None, "not in a row");
        assert_eq!(fails(&ejections, 0, 1, begin), Some(30 * SECOND));
        assert!(ejections.is_ejected(0, begin + 29 * SECOND));
        let back = begin + 30 * SECOND;
        assert!(!ejections.is_ejected(0, back));
        // The interval that ended meanwhile found it ejected: it has no merit in that.
        assert_eq!(fails(&ejections, 0, 5, back - SECOND), None, "it is out already");
        let now = begin + 31 * SECOND;
        let long = fails(&ejections, 0, 5, now);
        assert!(long.is_some_and(|long| 30 * SECOND <= long), "{long:?}");
    }

    #[test]
    fn a_share_of_failures_counts_against_the_others() {
        let begin = Instant::now();
        let ejections = Ejections::new(settings(), 3, begin);
        for call in 0..40 {
            ejections.record(0, call % 2 == 0, begin);
            ejections.record(1, true, begin);
            ejections.record(2, true, begin);
        }
        assert_eq!(ejections.count(begin), 0);
        let found = ejections.record(1, true, begin + 10 * SECOND);
        assert_eq!(found, [(0, 30 * SECOND)]);
        let all = Ejections::new(settings(), 3, begin);
        for call in 0..40 {
            (0..3).for_each(|at| drop(all.record(at, call % 2 == 0, begin)));
        }
        assert_eq!(all.record(1, true, begin + 10 * SECOND), [], "all are alike");
    }

    #[test]
    fn a_time_without_trouble_takes_one_off() {
        let begin = Instant::now();
        let ejections = Ejections::new(settings(), 2, begin);
        assert_eq!(fails(&ejections, 0, 5, begin), Some(30 * SECOND));
        let second = begin + 30 * SECOND;
        ejections.record(1, true, second - SECOND);
        assert_eq!(fails(&ejections, 0, 5, second), Some(60 * SECOND));
        let mut now = second + 60 * SECOND;
        for _ in 0..3 {
            ejections.record(1, true, now);
            now += 10 * SECOND;
        }
        assert_eq!(fails(&ejections, 0, 5, now), Some(30 * SECOND));
    }

    #[test]
    fn one_may_always_be_ejected_and_all_never() {
        for (count, max, most) in
            [(1, 0.5, 0), (2, 0.1, 1), (2, 1.0, 1), (4, 0.5, 2), (4, 0.0, 0), (10, 0.35, 3)]
        {
            let ejections = Ejections::new(Ejection { max, ..settings() }, count, Instant::now());
            assert_eq!(ejections.count_max(), most, "{count} {max}");
        }
    }

    proptest! {
        #[test]
        fn never_more_than_the_share_are_out(
            steps in prop::collection::vec((0_usize..5, any::<bool>(), 0_u64..4_000), 1..400),
            max in 0.0_f64..=1.0,
        ) {
            let begin = Instant::now();
            let ejections = Ejections::new(Ejection { max, ..settings() }, 5, begin);
            let mut now = begin;
            for (at, good, millis) in steps {
                now += Duration::from_millis(millis);
                for (out, long) in ejections.record(at, good, now) {
                    prop_assert!(ejections.is_ejected(out, now));
                    prop_assert!(settings().base <= long && long <= settings().base_max);
                }
                prop_assert!(ejections.count(now) <= ejections.count_max());
            }
        }
    }
}
