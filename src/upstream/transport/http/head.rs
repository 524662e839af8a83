//! Reads what the head of an answer says beside its status.

use std::time::Duration;

use http::{HeaderMap, header};

use crate::call::clock;

/// No server is left alone for longer than a day, whatever it says.
const RETRY_AFTER_MAX: u64 = 24 * 60 * 60;

/// Returns what a server says in `WWW-Authenticate`, all of it together.
pub(super) fn challenge(headers: &HeaderMap) -> String {
    let all = headers.get_all(header::WWW_AUTHENTICATE).iter();
    let all: Vec<_> = all.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    all.join(", ")
}

/// When a server wants to be asked again (RFC 9110, 10.2.3): in so many seconds, or at a time.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = text.parse().ok().or_else(|| {
        let at = u64::try_from(jiff::fmt::rfc2822::parse(text).ok()?.timestamp().as_second());
        Some(at.ok()?.saturating_sub(clock::unix_seconds()))
    });
    seconds.map(|seconds: u64| Duration::from_secs(seconds.min(RETRY_AFTER_MAX)))
}
