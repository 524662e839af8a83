//! When a lost connection is opened again: at once the first time, then ever later, in a budget.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use crate::config::Restart;

/// A connection that did not live this long is not opened again at once.
const STEADY: Duration = Duration::from_secs(1);

/// Counts losses. In the long run a server that never holds is opened once per `delay_max`.
#[derive(Debug)]
pub struct Backoff {
    restart: Restart,
    delay: Duration,
}

/// The count of exchanges under way, by its clones; each notes that the server answers calls.
#[derive(Debug, Default)]
pub struct Underway {
    answered: AtomicBool,
}

/// How a connection that was lost had fared.
#[derive(Debug, Clone, Copy)]
pub struct Life {
    pub held: Duration,
    /// A call was answered on it.
    pub served: bool,
}

impl Backoff {
    pub fn new(restart: Restart) -> Self {
        Self { restart, delay: restart.delay }
    }

    /// How long to wait where the server has no part in it.
    pub fn first(&self) -> Duration {
        self.restart.delay
    }

    /// How long to wait after a connection that was lost (nothing: it was not opened). One that
    /// answered a call, or held for `delay_max`, has earned a fresh budget.
    pub fn lost(&mut self, life: Option<Life>) -> Duration {
        let earned = |life: Life| life.served || self.restart.delay_max <= life.held;
        if life.is_some_and(earned) {
            self.delay = self.restart.delay;
        }
        let fresh = self.delay == self.restart.delay;
        let at_once = fresh && life.is_some_and(|life| STEADY <= life.held);
        let delay = if at_once { Duration::ZERO } else { self.delay };
        self.delay = (self.delay * 2).min(self.restart.delay_max);
        delay
    }
}

impl Underway {
    /// A call was answered.
    pub fn answered(&self) {
        // Looked at first: written all the time, it would go from core to core.
        if !self.answered.load(Ordering::Relaxed) {
            self.answered.store(true, Ordering::Relaxed);
        }
    }

    /// Whether one was since this was asked last.
    pub fn take_answered(&self) -> bool {
        self.answered.swap(false, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DELAY: Duration = Duration::from_secs(1);
    const DELAY_MAX: Duration = Duration::from_secs(8);

    fn backoff() -> Backoff {
        Backoff::new(Restart { delay: DELAY, delay_max: DELAY_MAX })
    }

    fn held(seconds: u64) -> Life {
        Life { held: Duration::from_secs(seconds), served: false }
    }

    #[test]
    fn losses_are_ever_further_apart_until_one_holds() {
        let mut backoff = backoff();
        let lives = [None, None, Some(3), None, Some(3), None, Some(8), Some(3), Some(60)];
        let waited: Vec<_> = lives.map(|life| backoff.lost(life.map(held)).as_secs()).into();
        // The eighth lived longer than a second, but on a budget already touched.
        assert_eq!(waited, [1, 2, 4, 8, 8, 8, 0, 2, 0]);
    }

    proptest! {
        #[test]
        fn one_that_serves_never_waits_for_longer_than_the_first_delay(
            lives in prop::collection::vec(
                (prop::option::of(0_u64..40), any::<bool>()),
                1..40,
            ),
        ) {
            let mut backoff = backoff();
            for (seconds, served) in lives {
                let life = seconds.map(|seconds| Life { served, ..held(seconds) });
                let waits = backoff.lost(life);
                let well = life.is_some_and(|life| life.served);
                let longest = if well { DELAY } else { DELAY_MAX };
                prop_assert!(waits <= longest);
                let steady = life.is_some_and(|life| 1 <= life.held.as_secs());
                prop_assert!(!(well && steady) || waits.is_zero(), "back at once");
            }
        }
    }
}
