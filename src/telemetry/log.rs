//! The log on standard error: lines for people, or JSON.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, Ordering},
};

use serde_json::json;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};

use crate::{call::clock, config};

use super::printable;

/// Whether all of standard error is JSON.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// Lines that may wait to be written. What reads the log may be slow or stuck: calls do not wait
/// for it, and lines beyond these are dropped and counted.
const WAITING_LINES_MAX: usize = 8_192;

/// The lines that were dropped.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// Keeps the log being written. Dropped, it has what waits written, for a second at most.
#[derive(Debug)]
#[must_use]
pub struct LogGuard(#[expect(dead_code, reason = "it is there to be dropped")] Option<WorkerGuard>);

/// Lines of the log that were dropped because too many waited.
pub fn dropped_lines() -> u64 {
    let dropped = DROPPED.get().map_or(0, ErrorCounter::dropped_lines);
    u64::try_from(dropped).unwrap_or(u64::MAX)
}

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

/// Sends logs to stderr: `filter` as in `RUST_LOG`, lines for people or JSON. A thread of its own
/// writes them.
pub fn init(filter: &str, json: bool) -> LogGuard {
    if json {
        speak_json();
    }
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    let queue = NonBlockingBuilder::default().buffered_lines_limit(WAITING_LINES_MAX).lossy(true);
    let (writer, worker) = queue.finish(printable::Masked(std::io::stderr()));
    let dropped = writer.error_counter();
    let builder = builder.with_writer(writer);
    // A second call (tests) leaves the first in place.
    let set = if json {
        builder.json().try_init()
    } else {
        builder.with_target(false).with_ansi(is_coloured()).try_init()
    };
    if set.is_err() {
        tracing::debug!("logs are already set up");
        return LogGuard(None);
    }
    DROPPED.get_or_init(|| dropped);
    LogGuard(Some(worker))
}
