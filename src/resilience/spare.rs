//! How many calls may be sent to a second replica: one for each ten, and a few at once, so that
//! a server that is slow because of its load does not get twice as much of it (gRPC A6: throttling
//! of retries and hedges).

use std::sync::atomic::{AtomicU32, Ordering};

/// What a second request costs, in the coin of which each call brings one.
const COST: u32 = 10;
/// What can be saved: ten at once.
const MOST: u32 = 100;

/// Of one upstream.
#[derive(Debug)]
pub struct Spare(AtomicU32);

impl Default for Spare {
    fn default() -> Self {
        Self(AtomicU32::new(MOST))
    }
}

impl Spare {
    /// A call brings its coin.
    pub fn earn(&self) {
        // Most often it is full: read, so that cores need not fight for it.
        if self.0.load(Ordering::Relaxed) < MOST {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes what a second request costs; false where there is not enough.
    pub fn spend(&self) -> bool {
        let take = |saved: u32| saved.checked_sub(COST);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_the_long_run_a_tenth_is_sent_twice() {
        let spare = Spare::default();
        let mut twice = 0;
        for _ in 0..10_000 {
            spare.earn();
            twice += u32::from(spare.spend());
        }
        assert!((1_000..=1_010).contains(&twice), "{twice}");
        assert!(!spare.spend());
    }
}
