//! The clock: the only place that asks the system for the time of day.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since 1970 (UTC).
pub fn unix_seconds() -> u64 {
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}
