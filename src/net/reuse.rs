//! Whether connections to an upstream may be used more than once.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::call::clock;

/// A server that closed a pooled connection without a word is not sent requests on such ones for so
/// many seconds.
const FRESH_SECONDS: u64 = 60;

/// Findings about a server's connections.
#[derive(Debug, Default)]
pub struct Reuse {
    /// The time until when no connection is used twice, in seconds since 1970.
    fresh_until: AtomicU64,
}

impl Reuse {
    /// A server that closes a connection so soon after its first answers closes it because of them,
    /// not because it was idle.
    pub const CLOSED_AFTER_ANSWER: Duration = Duration::from_secs(1);

    /// Uses no connection twice, from now on and for a while.
    pub fn distrust(&self) {
        let until = clock::unix_seconds() + FRESH_SECONDS;
        self.fresh_until.store(until, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub fn trust(&self) {
        self.fresh_until.store(0, Ordering::Relaxed);
    }

    /// Whether a connection may be used that was used before.
    pub fn is_trusted(&self) -> bool {
        let until = self.fresh_until.load(Ordering::Relaxed);
        until == 0 || until <= clock::unix_seconds()
    }
}
