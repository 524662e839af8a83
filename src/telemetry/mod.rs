//! Counters and logs: what the gate counts of itself, by a closed set of names.

mod calls;
mod gauge;
mod histogram;
mod log;
mod names;
pub mod printable;
pub mod throttle;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use self::calls::MetricsRegistry;
pub use self::{
    calls::{CallMetrics, CallReading, EndedCall, MetricScope},
    gauge::Raised,
    histogram::{BUCKETS_US, HistogramReading},
    log::{init, is_coloured, is_json, remark, speak_json},
    names::{CallPart, Counter, Gauge, Outcome, Reason, ScopeKind},
};

/// The counters of one gate.
#[derive(Debug)]
pub struct Counters {
    counts: [AtomicU64; Counter::ALL.len()],
    faults: [AtomicU64; Reason::ALL.len()],
    levels: [AtomicU64; Gauge::ALL.len()],
    calls: MetricsRegistry,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            faults: std::array::from_fn(|_| AtomicU64::new(0)),
            levels: std::array::from_fn(|_| AtomicU64::new(0)),
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

    /// There is one more of it; [`Counters::lower`] follows, for which [`Raised`] sees.
    pub fn raise(&self, gauge: Gauge) {
        if let Some(level) = self.levels.get(gauge as usize) {
            level.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// There is one less of it, which was raised before.
    pub fn lower(&self, gauge: Gauge) {
        if let Some(level) = self.levels.get(gauge as usize) {
            level.fetch_sub(1, Ordering::Relaxed);
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

    /// All of them, by name; those of what there is at the moment end with `_now`.
    pub fn read(&self) -> BTreeMap<String, u64> {
        let value = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts = Counter::ALL.iter().zip(&self.counts);
        let counts = counts.map(|(counter, count)| (counter.name().to_owned(), value(count)));
        let faults = Reason::ALL.iter().zip(&self.faults);
        let faults = faults.map(|(why, count)| (format!("fault_{}", why.name()), value(count)));
        let lost = (Counter::LogLinesDropped.name().to_owned(), log::dropped_lines());
        let levels = Gauge::ALL.iter().zip(&self.levels);
        let levels = levels.map(|(gauge, level)| (format!("{}_now", gauge.name()), value(level)));
        counts.chain(faults).chain(levels).chain([lost]).collect()
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
        assert_eq!(read["connections_now"], 0);
        let raised = [(); 2].map(|()| Raised::new(&counters, Gauge::Connections));
        assert_eq!(counters.read()["connections_now"], 2);
        drop(raised);
        assert_eq!(counters.read()["connections_now"], 0);
        assert_eq!((read["fault_upstream_error"], read["fault_invalid_request"]), (1, 0));
    }
}
