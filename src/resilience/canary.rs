//! A successor on trial: who gets it, and when it gets nothing any more.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use parking_lot::Mutex;

use crate::config::{Back, Canary};

use super::affinity;

/// The trial of one `canary = { … }`, for as long as that is written the same.
#[derive(Debug)]
pub struct CanaryState {
    pub settings: Canary,
    rolled_back: AtomicBool,
    recent: Mutex<Recent>,
}

/// Its last calls.
#[derive(Debug, Default)]
struct Recent {
    calls: VecDeque<Call>,
    failed: usize,
    slow: usize,
    why: Option<String>,
}

#[derive(Debug, Clone, Copy)]
struct Call {
    failed: bool,
    slow: bool,
}

impl CanaryState {
    pub fn new(settings: Canary) -> Self {
        Self { settings, rolled_back: AtomicBool::new(false), recent: Mutex::default() }
    }

    /// Whether who has this key gets the successor.
    pub fn selects(&self, key: u64) -> bool {
        !self.is_rolled_back() && affinity::in_percentage(key, self.settings.weight)
    }

    /// Whether it gets nothing any more.
    pub fn is_rolled_back(&self) -> bool {
        self.rolled_back.load(Ordering::Relaxed)
    }

    /// Why that is.
    pub fn rolled_back_because(&self) -> Option<String> {
        self.recent.lock().why.clone()
    }

    /// Notes how a call to the successor went. The reason, where that was the last straw.
    pub fn record(&self, failed: bool, took: Duration) -> Option<String> {
        let Back { failure_rate, slow, slow_rate, window, calls_min, .. } = self.settings.back;
        let call = Call { failed, slow: slow.is_some_and(|slow| slow < took) };
        let mut recent = self.recent.lock();
        if recent.why.is_some() {
            return None;
        }
        recent.push(call, window);
        let count = recent.calls.len();
        if count < calls_min {
            return None;
        }
        let over = |some: usize, rate: f64| count_of(count) * rate < count_of(some);
        let why = if over(recent.failed, failure_rate) {
            format!("{} of its last {count} calls failed (`failure_rate`)", recent.failed)
        } else if over(recent.slow, slow_rate) {
            format!("{} of its last {count} calls were slow (`slow_rate`)", recent.slow)
        } else {
            return None;
        };
        self.rolled_back.store(true, Ordering::Relaxed);
        recent.why = Some(why.clone());
        Some(why)
    }
}

impl Recent {
    fn push(&mut self, call: Call, window: usize) {
        if window <= self.calls.len()
            && let Some(oldest) = self.calls.pop_front()
        {
            self.failed -= usize::from(oldest.failed);
            self.slow -= usize::from(oldest.slow);
        }
        self.failed += usize::from(call.failed);
        self.slow += usize::from(call.slow);
        self.calls.push_back(call);
    }
}

fn count_of(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const QUICK: Duration = Duration::from_millis(10);
    const SLOW: Duration = Duration::from_secs(3);

    fn trial(weight: u32) -> CanaryState {
        let back = Back {
            failure_rate: 0.05,
            slow: Some(Duration::from_secs(2)),
            slow_rate: 0.5,
            window: 50,
            calls_min: 20,
            tool_errors: false,
        };
        CanaryState::new(Canary { upstream: "v2".into(), weight, back })
    }

    #[test]
    fn nothing_is_decided_on_few_calls() {
        let trial = trial(100);
        for _ in 0..19 {
            assert_eq!(trial.record(true, QUICK), None);
        }
        assert!(trial.selects(7));
        let why = trial.record(false, QUICK).expect("the twentieth");
        assert_eq!(why, "19 of its last 20 calls failed (`failure_rate`)");
        assert!(!trial.selects(7) && trial.is_rolled_back());
        assert_eq!(trial.record(true, QUICK), None, "said once");
        assert_eq!(trial.rolled_back_because(), Some(why));
    }

    #[test]
    fn slow_calls_count_and_old_ones_are_forgotten() {
        let trial = trial(100);
        for _ in 0..9 {
            assert_eq!(trial.record(false, SLOW), None);
        }
        for _ in 0..100 {
            assert_eq!(trial.record(false, QUICK), None);
        }
        for _ in 0..25 {
            assert_eq!(trial.record(false, SLOW), None);
        }
        assert!(trial.record(false, SLOW).is_some_and(|why| why.contains("26 of its last 50")));
    }

    proptest! {
        #[test]
        fn it_goes_back_exactly_when_a_count_of_the_window_says_so(
            calls in prop::collection::vec((prop::bool::weighted(0.06), any::<bool>()), 0..200),
        ) {
            let trial = trial(100);
            let mut seen: Vec<(bool, bool)> = Vec::new();
            for (failed, slow) in calls {
                let went = trial.record(failed, if slow { SLOW } else { QUICK }).is_some();
                seen.push((failed, slow));
                let window = &seen[seen.len().saturating_sub(50)..];
                let failures = window.iter().filter(|call| call.0).count();
                let slow = window.iter().filter(|call| call.1).count();
                let bad = window.len() < 20 * failures || window.len() < 2 * slow;
                prop_assert_eq!(went, 20 <= window.len() && bad);
                if went {
                    return Ok(());
                }
            }
        }
    }
}
