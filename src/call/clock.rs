//! The clock: the only place that asks the system for the time of day.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since 1970 (UTC).
pub fn unix_seconds() -> u64 {
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

/// Microseconds since 1970 (UTC).
pub fn unix_micros() -> u64 {
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    let now = SystemTime::now();
    let micros = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_micros();
    u64::try_from(micros).unwrap_or(u64::MAX)
}

/// A time of day (microseconds since 1970) as RFC 3339 has it, always of the same length: as texts
/// they are in the order of time.
pub fn rfc3339_micros(micros: u64) -> String {
    let stamp = i64::try_from(micros).ok();
    let stamp = stamp.and_then(|at| jiff::Timestamp::from_microsecond(at).ok());
    format!("{:.6}", stamp.unwrap_or(jiff::Timestamp::MAX))
}

/// A moment, as RFC 3339 or as a time before now ("24h"), in the form of [`rfc3339_micros`]; none
/// where it is neither.
pub fn moment(text: &str) -> Option<String> {
    if let Ok(stamp) = text.parse::<jiff::Timestamp>() {
        return Some(format!("{stamp:.6}"));
    }
    let ago = text.parse::<jiff::SignedDuration>().ok()?;
    let ago = u64::try_from(ago.as_micros()).ok()?;
    Some(rfc3339_micros(unix_micros().saturating_sub(ago)))
}

/// A time of day (seconds since 1970) as RFC 3339 has it.
pub fn rfc3339(seconds: u64) -> String {
    let stamp = i64::try_from(seconds).ok().and_then(|at| jiff::Timestamp::from_second(at).ok());
    stamp.unwrap_or(jiff::Timestamp::MAX).to_string()
}
