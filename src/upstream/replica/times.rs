//! The moments that tell how long a replica has been as it is, for people who look.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::call::clock;

/// Moments of the connection that all share; none where there was none yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConnectionTimes {
    /// When it was opened; where it is not open, when it was lost or first failed to open. Seconds
    /// since 1970.
    pub since: Option<u64>,
    /// When the gate last began to open it, in seconds since 1970.
    pub last_try: Option<u64>,
    /// When the gate opens it again at the latest, in seconds since 1970: a call may be sooner.
    pub next_try: Option<u64>,
}

/// Keeps these moments while the replica is opened, lost and opened again. Zero is none.
#[derive(Debug, Default)]
pub struct ConnectionClock {
    since: AtomicU64,
    last_try: AtomicU64,
    next_try: AtomicU64,
}

impl ConnectionClock {
    /// Notes that it is being opened.
    pub fn tries(&self) {
        self.last_try.store(clock::unix_seconds(), Ordering::Relaxed);
        self.next_try.store(0, Ordering::Relaxed);
    }

    /// Notes that it is open from now on.
    pub fn opened(&self) {
        self.since.store(clock::unix_seconds(), Ordering::Relaxed);
    }

    /// Notes that it is not open, and whether it was until now.
    pub fn lost(&self, was_open: bool) {
        if was_open || self.since.load(Ordering::Relaxed) == 0 {
            self.since.store(clock::unix_seconds(), Ordering::Relaxed);
        }
    }

    /// Notes that it is opened again after this time.
    pub fn waits(&self, delay: Duration) {
        // Rounded up, so that the moment told is never before the try.
        let next = clock::unix_seconds() + delay.as_secs() + 1;
        self.next_try.store(next, Ordering::Relaxed);
    }

    /// Returns the moments as they are now.
    pub fn read(&self) -> ConnectionTimes {
        let moment = |at: &AtomicU64| Some(at.load(Ordering::Relaxed)).filter(|at| *at != 0);
        ConnectionTimes {
            since: moment(&self.since),
            last_try: moment(&self.last_try),
            next_try: moment(&self.next_try),
        }
    }
}

impl ConnectionTimes {
    /// Joins the moments of two replicas: the one that is as it is for longest, the latest try, and
    /// the next.
    pub fn joined(self, other: Self) -> Self {
        let earlier = |one: Option<u64>, other| one.into_iter().chain(other).min();
        Self {
            since: earlier(self.since, other.since),
            last_try: self.last_try.max(other.last_try),
            next_try: earlier(self.next_try, other.next_try),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_lost_since_the_first_of_many_failures() {
        let clock = ConnectionClock::default();
        assert_eq!(clock.read(), ConnectionTimes::default());
        clock.tries();
        clock.lost(false);
        let first = clock.read();
        assert!(first.since.is_some() && first.last_try.is_some() && first.next_try.is_none());
        clock.since.store(7, Ordering::Relaxed);
        for was_open in [false, false] {
            clock.waits(Duration::from_secs(30));
            assert!(first.last_try < clock.read().next_try);
            clock.tries();
            assert_eq!(clock.read().next_try, None, "it is being tried");
            clock.lost(was_open);
            assert_eq!(clock.read().since, Some(7), "it was not open in between");
        }
        clock.lost(true);
        assert!(Some(7) < clock.read().since, "it was open until now");
        clock.since.store(7, Ordering::Relaxed);
        clock.opened();
        assert!(Some(7) < clock.read().since, "it is open from now on");
    }

    #[test]
    fn several_are_told_by_the_longest_the_latest_and_the_next() {
        let times = |since, last_try, next_try| ConnectionTimes { since, last_try, next_try };
        for (one, other, both) in [
            (times(None, None, None), times(None, None, None), times(None, None, None)),
            (times(Some(1), None, None), times(None, Some(2), None), times(Some(1), Some(2), None)),
            (
                times(Some(3), Some(5), Some(9)),
                times(Some(2), Some(6), Some(8)),
                times(Some(2), Some(6), Some(8)),
            ),
        ] {
            assert_eq!(one.joined(other), both);
            assert_eq!(other.joined(one), both);
        }
    }
}
