//! How many calls may be sent to a second replica, so that a server that is slow because of its
//! load does not get twice as much of it (gRPC A6: throttling of retries and hedges): one for each
//! ten, and ten at once; of those whose replica went away, one for each two, and a thousand at
//! once.

use std::sync::atomic::{AtomicU32, Ordering};

/// Tokens of one upstream: each call deposits one, and each hedge withdraws its cost.
#[derive(Debug)]
pub struct HedgeBudget {
    tokens: AtomicU32,
    /// Tokens per hedge.
    cost: u32,
    capacity: u32,
}

impl HedgeBudget {
    /// Makes the budget for calls that are slow, or that the server failed: it may have too much to
    /// do.
    pub fn for_slow() -> Self {
        Self::new(10, 100)
    }

    /// Makes the budget for calls whose replica went away: it works on them no longer, and all that
    /// it had under way at that moment must find another.
    pub fn for_lost() -> Self {
        Self::new(2, 2_000)
    }

    fn new(cost: u32, most: u32) -> Self {
        Self { tokens: AtomicU32::new(most), cost, capacity: most }
    }

    /// A call brings its coin.
    pub fn deposit(&self) {
        // Most often it is full: read, so that cores need not fight for it.
        if self.tokens.load(Ordering::Relaxed) < self.capacity {
            self.tokens.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes what a second request costs; false where there is not enough.
    pub fn withdraw(&self) -> bool {
        let take = |saved: u32| saved.checked_sub(self.cost);
        self.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_the_long_run_a_share_is_sent_twice() {
        for (spare, share, at_once) in
            [(HedgeBudget::for_slow(), 10_000, 10), (HedgeBudget::for_lost(), 50_000, 1_000)]
        {
            let mut twice = 0;
            for _ in 0..100_000 {
                spare.deposit();
                twice += u32::from(spare.withdraw());
            }
            assert!((share..=share + at_once).contains(&twice), "{twice}");
            assert!(!spare.withdraw());
        }
    }
}
