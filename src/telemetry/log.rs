//! The log on standard error: lines for people, or JSON.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::{call::clock, config};

use super::printable;

/// Whether all of standard error is JSON.
static IS_JSON: AtomicBool = AtomicBool::new(false);

pub fn is_json() -> bool {
    IS_JSON.load(Ordering::Relaxed)
}

/// Writes a remark to standard error that is no line of the log, whatever the filter says; where
/// that is to be JSON, in the same form as those.
pub fn remark(level: &str, text: &str) {
    use std::io::Write as _;
    let mut stderr = std::io::stderr().lock();
    // There is nobody left to tell when this fails.
    if is_json() {
        let timestamp = clock::rfc3339_micros(clock::unix_micros());
        let fields = json!({ "message": printable::masked(text).trim_matches('\n') });
        let line = json!({ "timestamp": timestamp, "level": level, "fields": fields,
            "target": "tollgate" });
        writeln!(stderr, "{line}").ok();
    } else {
        writeln!(stderr, "{text}").ok();
    }
}

/// Has all that is written to standard error be JSON from here on, what a panic says, too.
pub fn speak_json() {
    if !IS_JSON.swap(true, Ordering::Relaxed) {
        std::panic::set_hook(Box::new(|panic| remark("ERROR", &panic.to_string())));
    }
}

/// Whether standard error shows colours: on a terminal, unless `NO_COLOR` says otherwise
/// (<https://no-color.org>).
pub fn is_coloured() -> bool {
    use std::io::IsTerminal as _;
    let refused = config::environment("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal() && !is_json() && !refused
}

/// Sends logs to stderr: `filter` as in `RUST_LOG`, lines for people or JSON.
pub fn init(filter: &str, json: bool) {
    if json {
        speak_json();
    }
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    let builder = builder.with_writer(|| printable::Masked(std::io::stderr()));
    // A second call (tests) leaves the first in place.
    let set = if json {
        builder.json().try_init()
    } else {
        builder.with_target(false).with_ansi(is_coloured()).try_init()
    };
    if set.is_err() {
        tracing::debug!("logs are already set up");
    }
}
