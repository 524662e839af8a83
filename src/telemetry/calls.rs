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

use super::{
    histogram::{Histogram, HistogramReading, Sample},
    names::{CallPart, Outcome, ScopeKind},
    printable,
};

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
    /// How long each part of them took, by the part.
    parts: [Histogram; CallPart::ALL.len()],
}

/// A call that ended: how, and how long each part of it took. Made once, and counted by its route,
/// its upstream and its tool.
#[derive(Debug, Clone, Copy)]
pub struct EndedCall {
    outcome: Outcome,
    whole: Sample,
    upstream: Option<Sample>,
    gate: Sample,
}

/// A reading of the metrics of one scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallReading {
    pub scope: MetricScope,
    /// Outcomes that there were, and how often.
    pub outcomes: Vec<(Outcome, u64)>,
    /// How long each part of the calls took, in the order of [`CallPart::ALL`].
    pub parts: Vec<HistogramReading>,
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

    /// The scope with a name that does no harm on a terminal. Names that differ in nothing else are
    /// one.
    fn printable(self) -> Self {
        match self {
            Self::Tool(upstream, tool) => Self::Tool(upstream, printable::line(&tool).into_owned()),
            Self::Route(_) | Self::Upstream(_) => self,
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

impl EndedCall {
    /// A call that took so long, `upstream` of it at its upstream; none where nothing came from
    /// there.
    pub fn new(outcome: Outcome, whole: Duration, upstream: Option<Duration>) -> Self {
        let gate = whole.saturating_sub(upstream.unwrap_or_default());
        Self {
            outcome,
            whole: whole.into(),
            upstream: upstream.map(Sample::from),
            gate: gate.into(),
        }
    }
}

impl CallMetrics {
    /// Counts a call that ended.
    pub fn add(&self, call: EndedCall) {
        if let Some(count) = self.outcomes.get(call.outcome.index()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let [whole, upstream, gate] = &self.parts;
        whole.add(call.whole);
        call.upstream.into_iter().for_each(|sample| upstream.add(sample));
        gate.add(call.gate);
    }

    fn read(&self, scope: MetricScope) -> Option<CallReading> {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let outcomes = Outcome::all().zip(self.outcomes.iter().map(load));
        let outcomes: Vec<_> = outcomes.filter(|(_, count)| 0 < *count).collect();
        let parts = self.parts.iter().map(Histogram::read).collect();
        (!outcomes.is_empty()).then_some(CallReading { scope, outcomes, parts })
    }
}

impl Default for CallMetrics {
    fn default() -> Self {
        Self {
            outcomes: std::array::from_fn(|_| AtomicU64::new(0)),
            parts: std::array::from_fn(|_| Histogram::default()),
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
        let scope = scope.printable();
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
        fn each_call_is_under_its_outcome_and_each_part_of_it_in_its_histogram(
            calls in prop::collection::vec(
                (0..Outcome::COUNT, 0_u64..60_000_000, prop::option::of(0_u64..60_000_000)),
                1..200,
            ),
        ) {
            let metrics = CallMetrics::default();
            let all = Outcome::all().collect::<Vec<_>>();
            let us = Duration::from_micros;
            for (outcome, whole, upstream) in &calls {
                metrics.add(EndedCall::new(all[*outcome], us(*whole), upstream.map(us)));
            }
            let read = metrics.read(tool(1)).unwrap();
            for (at, outcome) in all.iter().enumerate() {
                let want = calls.iter().filter(|(one, ..)| *one == at).count() as u64;
                let found = read.outcomes.iter().find(|(one, _)| one == outcome);
                prop_assert_eq!(found.map_or(0, |(_, count)| *count), want);
            }
            let upstream = calls.iter().filter_map(|(.., upstream)| *upstream);
            let gate = |(_, whole, upstream): &(usize, u64, Option<u64>)| {
                whole.saturating_sub(upstream.unwrap_or_default())
            };
            for (part, count, sum) in [
                (CallPart::Whole, calls.len(), calls.iter().map(|(_, whole, _)| *whole).sum()),
                (CallPart::Upstream, upstream.clone().count(), upstream.sum()),
                (CallPart::Gate, calls.len(), calls.iter().map(gate).sum()),
            ] {
                let found = &read.parts[part as usize];
                prop_assert_eq!(found.count(), count as u64, "{:?}", part);
                prop_assert_eq!(found.sum, us(sum), "{:?}", part);
            }
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
        let ended = |outcome, took| EndedCall::new(outcome, took, None);
        registry.other(ScopeKind::Tool).add(ended(Outcome::Ok, Duration::ZERO));
        one.add(ended(Outcome::ToolError, Duration::from_secs(60)));
        let read = registry.read();
        assert_eq!(read.len(), 2, "{read:?}");
        assert_eq!(read[0].outcomes, [(Outcome::ToolError, 1)]);
        assert_eq!(read[1].scope.labels(), [("upstream", OTHER), ("tool", OTHER)]);
        drop(two);
        let turned_away = (0..=SWEEP_EVERY).filter(|_| registry.of(tool(3)).is_none()).count();
        assert!(turned_away <= SWEEP_EVERY, "the second is gone");
    }
}
