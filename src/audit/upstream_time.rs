//! The time that a call spends at its upstream: from each send to what came last for it.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The value of `since` where nothing is at the upstream yet.
const NEVER: u64 = u64::MAX;

/// The time of one call at its upstream. What the client is asked in mid-call counts, too, since
/// the upstream waits for it.
#[derive(Debug)]
pub struct UpstreamTime {
    /// Microseconds that the upstream had it; [`NEVER`] until something came from there.
    total: AtomicU64,
    /// Since when the upstream has it now, in microseconds from the call's begin.
    since: AtomicU64,
}

impl UpstreamTime {
    /// Notes that the call is about to be sent, so long after it began.
    pub fn sending(&self, after: Duration) {
        self.since.store(micros(after), Ordering::Relaxed);
    }

    /// Notes that something came for it, so long after it began.
    pub fn heard(&self, after: Duration) {
        let now = micros(after);
        let before = self.since.swap(now, Ordering::Relaxed);
        let total = self.total.load(Ordering::Relaxed);
        let total = if total == NEVER { 0 } else { total };
        // One task reads what comes for a call, so nothing is added in between.
        self.total.store(total + now.saturating_sub(before), Ordering::Relaxed);
    }

    /// Returns the time so far; none where nothing came from the upstream.
    pub fn total(&self) -> Option<Duration> {
        let total = self.total.load(Ordering::Relaxed);
        (total != NEVER).then(|| Duration::from_micros(total))
    }
}

impl Default for UpstreamTime {
    fn default() -> Self {
        Self { total: AtomicU64::new(NEVER), since: AtomicU64::new(NEVER) }
    }
}

/// Microseconds, of 584,000 years at most.
pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_with_the_upstream_is_from_each_send_to_what_came_last() {
        let time = UpstreamTime::default();
        let ms = Duration::from_millis;
        assert_eq!(time.total(), None);
        // Sent, and lost; sent again, progress, and the answer.
        time.sending(ms(10));
        time.sending(ms(30));
        assert_eq!(time.total(), None);
        time.heard(ms(35));
        time.heard(ms(50));
        assert_eq!(time.total(), Some(ms(20)));
        // A retry takes the time between for the gate's own.
        time.sending(ms(100));
        time.heard(ms(101));
        assert_eq!(time.total(), Some(ms(21)));
    }

    #[test]
    fn what_came_unsent_took_no_time() {
        let time = UpstreamTime::default();
        time.heard(Duration::from_millis(5));
        assert_eq!(time.total(), Some(Duration::ZERO));
    }
}
