//! When a lost connection is opened again: at once the first time, then ever later, in a budget.

use std::time::Duration;

use crate::config::Restart;

/// A connection that did not live this long is not opened again at once.
const STEADY: Duration = Duration::from_secs(1);

/// Counts losses. In the long run a server that never holds is opened once per `delay_max`.
#[derive(Debug)]
pub struct Backoff {
    restart: Restart,
    delay: Duration,
}

impl Backoff {
    pub fn new(restart: Restart) -> Self {
        Self { restart, delay: restart.delay }
    }

    /// How long to wait after a connection that lived for `held` (nothing: it was not opened). One
    /// that held for `delay_max` has earned a fresh budget.
    pub fn lost(&mut self, held: Option<Duration>) -> Duration {
        if held.is_some_and(|held| self.restart.delay_max <= held) {
            self.delay = self.restart.delay;
        }
        let fresh = self.delay == self.restart.delay;
        let at_once = fresh && held.is_some_and(|held| STEADY <= held);
        let delay = if at_once { Duration::ZERO } else { self.delay };
        self.delay = (self.delay * 2).min(self.restart.delay_max);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_ever_further_apart_until_one_holds() {
        let seconds = Duration::from_secs;
        let mut backoff = Backoff::new(Restart { delay: seconds(1), delay_max: seconds(8) });
        let held = [None, None, Some(3), None, Some(3), None, Some(8), Some(3), Some(60)];
        let waited: Vec<_> = held.map(|held| backoff.lost(held.map(seconds)).as_secs()).into();
        // The eighth lived longer than a second, but on a budget already touched.
        assert_eq!(waited, [1, 2, 4, 8, 8, 8, 0, 2, 0]);
    }
}
