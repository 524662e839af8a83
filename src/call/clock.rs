//! The clock: the only place that asks the system for the time of day.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since 1970 (UTC).
pub fn unix_seconds() -> u64 {
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

/// A time of day (seconds since 1970) as RFC 3339 has it.
pub fn rfc3339(seconds: u64) -> String {
    let stamp = i64::try_from(seconds).ok().and_then(|at| jiff::Timestamp::from_second(at).ok());
    stamp.unwrap_or(jiff::Timestamp::MAX).to_string()
}
