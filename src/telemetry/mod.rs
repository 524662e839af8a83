//! Counters and logs: what the gate counts of itself, by a closed set of names.

mod calls;
mod names;
pub mod printable;
pub mod throttle;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use serde_json::json;

use crate::call::clock;

use self::calls::MetricsRegistry;
pub use self::{
    calls::{BUCKETS_US, CallMetrics, CallReading, MetricScope},
    names::{Counter, Outcome, Reason, ScopeKind},
};

/// The counters of one gate.
#[derive(Debug)]
pub struct Counters {
    counts: [AtomicU64; Counter::ALL.len()],
    faults: [AtomicU64; Reason::ALL.len()],
    calls: MetricsRegistry,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            faults: std::array::from_fn(|_| AtomicU64::new(0)),
            calls: MetricsRegistry::default(),
        }
    }
}

impl Counters {
    pub fn add(&self, counter: Counter) {
        self.add_many(counter, 1);
    }

    pub fn add_many(&self, counter: Counter, many: usize) {
        if let Some(count) = self.counts.get(counter as usize) {
            count.fetch_add(u64::try_from(many).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// A call ended so.
    pub fn fault(&self, reason: Reason) {
        if let Some(count) = self.faults.get(reason as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The metrics of calls of a scope, for it to hold. All that are too many share theirs.
    pub fn calls_of(&self, scope: MetricScope) -> Arc<CallMetrics> {
        let kind = scope.kind();
        self.calls.of(scope).unwrap_or_else(|| {
            self.add(Counter::MetricsShared);
            throttle::line(("shared metrics", kind.name()), |more| {
                tracing::warn!(
                    kind = kind.name(),
                    more,
                    "it has no metrics of its own (`call_metrics_max` of `[server.limits]`)"
                );
            });
            self.calls.other(kind)
        })
    }

    /// Bounds how many routes, upstreams and tools have metrics of their own.
    pub fn set_call_metrics_max(&self, max: usize) {
        self.calls.set_scopes_max(max);
    }

    /// The metrics of all routes, upstreams and tools that had a call.
    pub fn calls(&self) -> Vec<CallReading> {
        self.calls.read()
    }

    /// All of them, by name.
    pub fn read(&self) -> BTreeMap<String, u64> {
        let value = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = Counter::ALL.iter().zip(&self.counts);
        let counts = counts.map(|(counter, count)| (counter.name().to_owned(), value(count)));
        let faults = Reason::ALL.iter().zip(&self.faults);
        let faults = faults.map(|(why, count)| (format!("fault_{}", why.name()), value(count)));
        counts.chain(faults).collect()
    }
}

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

/// Sends logs to stderr: `filter` as in `RUST_LOG`, lines for people or JSON.
pub fn init(filter: &str, json: bool) {
    use std::io::IsTerminal as _;
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
        builder.with_target(false).with_ansi(std::io::stderr().is_terminal()).try_init()
    };
    if set.is_err() {
        tracing::debug!("logs are already set up");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_counts_under_its_own_name() {
        let counters = Counters::default();
        counters.add(Counter::ReloadsRefused);
        counters.add(Counter::Requests);
        counters.fault(Reason::UpstreamError);
        let read = counters.read();
        assert_eq!((read["reloads_refused"], read["requests"], read["reloads"]), (1, 1, 0));
        assert_eq!((read["fault_upstream_error"], read["fault_invalid_request"]), (1, 0));
    }
}
