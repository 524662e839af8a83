//! Calls by outcome and by duration, of each route, upstream and tool: handles that these hold, so
//! that a call that ends looks nothing up.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

use crate::call::{RoutePath, UpstreamName};

use super::names::{Outcome, ScopeKind};

/// Upper bounds of the buckets of durations, in microseconds; what takes longer has one more.
pub const BUCKETS_US: [u64; 15] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 200_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000,
];
const BUCKETS: usize = BUCKETS_US.len() + 1;
/// The name under which all that has no metrics of its own is counted together, which is no name of
/// anything.
const OTHER: &str = "(other)";
/// Bytes of the names of a scope: servers make them up, and each line of its metrics has them.
const NAME_BYTES_MAX: usize = 256;
/// Scopes that are turned away between two looks for ones that are gone.
const SWEEP_EVERY: usize = 1_024;

/// A route, an upstream or a tool of one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum MetricScope {
    Route(RoutePath),
    Upstream(UpstreamName),
    /// A tool by its upstream and its own name there.
    Tool(UpstreamName, String),
}

/// Counts of the calls of one scope.
#[derive(Debug)]
pub struct CallMetrics {
    outcomes: [AtomicU64; Outcome::COUNT],
    buckets: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
}

/// A reading of the metrics of one scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallReading {
    pub scope: MetricScope,
    /// Outcomes that there were, and how often.
    pub outcomes: Vec<(&'static str, u64)>,
    /// Calls in each bucket of [`BUCKETS_US`], and beyond the last.
    pub buckets: Vec<u64>,
    pub sum: Duration,
}

/// The metrics of all scopes. Whoever is of a scope holds them; nobody does, they go.
#[derive(Debug)]
pub struct MetricsRegistry {
    scopes_max: AtomicUsize,
    state: Mutex<State>,
    /// The metrics of others by the kind of the scope.
    others: [Arc<CallMetrics>; ScopeKind::ALL.len()],
}

#[derive(Debug, Default)]
struct State {
    scopes: BTreeMap<MetricScope, Weak<CallMetrics>>,
    turned_away: usize,
}

impl MetricScope {
    pub fn kind(&self) -> ScopeKind {
        match self {
            Self::Route(_) => ScopeKind::Route,
            Self::Upstream(_) => ScopeKind::Upstream,
            Self::Tool(..) => ScopeKind::Tool,
        }
    }

    /// Labels by name.
    pub fn labels(&self) -> Vec<(&'static str, &str)> {
        match self {
            Self::Route(path) => vec![("route", path)],
            Self::Upstream(name) => vec![("upstream", name)],
            Self::Tool(upstream, tool) => vec![("upstream", upstream), ("tool", tool)],
        }
    }

    /// All of this kind that have no metrics of their own.
    fn other(kind: ScopeKind) -> Self {
        match kind {
            ScopeKind::Route => Self::Route(OTHER.into()),
            ScopeKind::Upstream => Self::Upstream(OTHER.into()),
            ScopeKind::Tool => Self::Tool(OTHER.into(), OTHER.to_owned()),
        }
    }
}

impl CallMetrics {
    /// Counts a call that ended.
    pub fn add(&self, outcome: Outcome, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_US.partition_point(|bound| *bound < us);
        let counts = [self.outcomes.get(outcome.index()), self.buckets.get(bucket)];
        for count in counts.into_iter().flatten() {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    fn read(&self, scope: MetricScope) -> Option<CallReading> {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let outcomes = Outcome::all().zip(self.outcomes.iter().map(load));
        let outcomes: Vec<_> = outcomes.filter(|(_, count)| 0 < *count).collect();
        let outcomes = outcomes.into_iter().map(|(outcome, count)| (outcome.name(), count));
        let outcomes: Vec<_> = outcomes.collect();
        let buckets = self.buckets.iter().map(load).collect();
        let sum = Duration::from_micros(load(&self.sum_us));
        (!outcomes.is_empty()).then_some(CallReading { scope, outcomes, buckets, sum })
    }
}

impl Default for CallMetrics {
    fn default() -> Self {
        Self {
            outcomes: std::array::from_fn(|_| AtomicU64::new(0)),
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
            sum_us: AtomicU64::new(0),
        }
    }
}

impl MetricsRegistry {
    /// Bounds how many scopes have metrics of their own; those that have them keep them.
    pub fn set_scopes_max(&self, max: usize) {
        self.scopes_max.store(max, Ordering::Relaxed);
    }

    /// The metrics of a scope: those that somebody holds already, else new ones. None where as many
    /// scopes as may have theirs, or its name is too long; [`MetricsRegistry::other`] has those to
    /// use then.
    pub fn of(&self, scope: MetricScope) -> Option<Arc<CallMetrics>> {
        if scope.labels().iter().any(|(_, name)| NAME_BYTES_MAX < name.len()) {
            return None;
        }
        let mut state = self.state.lock();
        if let Some(held) = state.scopes.get(&scope).and_then(Weak::upgrade) {
            return Some(held);
        }
        let max = self.scopes_max.load(Ordering::Relaxed);
        if max <= state.scopes.len() && state.turned_away.is_multiple_of(SWEEP_EVERY) {
            state.scopes.retain(|_, held| 0 < held.strong_count());
        }
        if max <= state.scopes.len() {
            state.turned_away += 1;
            return None;
        }
        let made = Arc::new(CallMetrics::default());
        state.scopes.insert(scope, Arc::downgrade(&made));
        state.turned_away = 0;
        Some(made)
    }

    /// The metrics that all scopes of a kind share that have none of their own.
    pub fn other(&self, kind: ScopeKind) -> Arc<CallMetrics> {
        self.others.get(kind as usize).map(Arc::clone).unwrap_or_default()
    }

    /// Reads the scopes that had a call, in the order of their names.
    pub fn read(&self) -> Vec<CallReading> {
        let state = self.state.lock();
        let own = state.scopes.iter().filter_map(|(scope, held)| {
            held.upgrade().and_then(|metrics| metrics.read(scope.clone()))
        });
        let others = ScopeKind::ALL.iter().zip(&self.others);
        let others = others.filter_map(|(kind, metrics)| metrics.read(MetricScope::other(*kind)));
        own.chain(others).collect()
    }
}

impl Default for MetricsRegistry {
    fn default() -> Self {
        Self {
            scopes_max: AtomicUsize::new(usize::MAX),
            state: Mutex::default(),
            others: std::array::from_fn(|_| Arc::default()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tool(at: usize) -> MetricScope {
        MetricScope::Tool("a".into(), at.to_string())
    }

    proptest! {
        #[test]
        fn each_call_is_in_the_bucket_of_its_time_and_under_its_outcome(
            calls in prop::collection::vec((0..Outcome::COUNT, 0_u64..60_000_000), 1..200),
        ) {
            let (metrics, all) = (CallMetrics::default(), Outcome::all().collect::<Vec<_>>());
            for (outcome, us) in &calls {
                metrics.add(all[*outcome], Duration::from_micros(*us));
            }
            let read = metrics.read(tool(1)).unwrap();
            let sum = calls.iter().map(|(_, us)| u128::from(*us)).sum();
            prop_assert_eq!(read.sum.as_micros(), sum);
            for (outcome, name) in all.iter().map(|one| one.name()).enumerate() {
                let want = calls.iter().filter(|(one, _)| *one == outcome).count() as u64;
                let found = read.outcomes.iter().find(|(one, _)| *one == name);
                prop_assert_eq!(found.map_or(0, |(_, count)| *count), want);
            }
            // The buckets add up as in Prometheus: all that took no longer than the bound.
            let mut so_far = 0;
            for (bound, count) in BUCKETS_US.iter().zip(&read.buckets) {
                so_far += count;
                let want = calls.iter().filter(|(_, us)| us <= bound).count() as u64;
                prop_assert_eq!(so_far, want, "{}", bound);
            }
            prop_assert_eq!(read.buckets.iter().sum::<u64>(), calls.len() as u64);
        }

        #[test]
        fn scopes_are_bounded_and_those_that_are_held_stay_the_same(
            steps in prop::collection::vec((0_usize..40, any::<bool>()), 1..300),
            max in 1_usize..20,
        ) {
            let registry = MetricsRegistry::default();
            registry.set_scopes_max(max);
            let mut held: BTreeMap<usize, Arc<CallMetrics>> = BTreeMap::new();
            for (at, holds) in steps {
                if !holds {
                    held.remove(&at);
                    continue;
                }
                let found = registry.of(tool(at));
                if let Some(before) = held.get(&at) {
                    prop_assert!(Arc::ptr_eq(&found.unwrap(), before));
                } else if let Some(found) = found {
                    held.insert(at, found);
                }
                prop_assert!(registry.state.lock().scopes.len() <= max);
            }
        }
    }

    #[test]
    fn what_is_gone_makes_room_and_what_was_never_called_is_not_read() {
        let registry = MetricsRegistry::default();
        registry.set_scopes_max(2);
        let (one, two) = (registry.of(tool(1)).unwrap(), registry.of(tool(2)).unwrap());
        assert!(registry.of(tool(3)).is_none());
        assert!(registry.of(MetricScope::Route("x".repeat(257).into())).is_none());
        registry.other(ScopeKind::Tool).add(Outcome::Ok, Duration::ZERO);
        one.add(Outcome::ToolError, Duration::from_secs(60));
        let read = registry.read();
        assert_eq!(read.len(), 2, "{read:?}");
        assert_eq!(read[0].outcomes, [("tool_error", 1)]);
        assert_eq!(read[1].scope.labels(), [("upstream", OTHER), ("tool", OTHER)]);
        drop(two);
        let turned_away = (0..=SWEEP_EVERY).filter(|_| registry.of(tool(3)).is_none()).count();
        assert!(turned_away <= SWEEP_EVERY, "the second is gone");
    }
}
