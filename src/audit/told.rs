//! Findings about a call on its way, until its record is written.

use std::{
    collections::BTreeSet,
    num::NonZeroU32,
    sync::{
        OnceLock,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use crate::{
    call::{CallId, UpstreamName},
    mcp::raw::Raw,
};

/// Names of policies and of detectors that one record has.
const NAMES_MAX: usize = 16;

/// How a call was answered from memory, or was not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheUse {
    /// Answered from memory.
    Hit,
    /// Answered from memory, where that is no longer fresh.
    Stale,
    /// Answered by the answer of another call that asked the same at the same time.
    Joined,
    /// Answered by its upstream.
    Miss,
}

/// Findings about a call on its way: each is set once or counted up, so that nobody waits.
#[derive(Debug, Default)]
pub struct Told {
    /// The upstream, and its own name for what the call is about.
    pub target: OnceLock<(UpstreamName, String)>,
    /// The params as the guard lets them pass.
    pub cleared: OnceLock<Raw>,
    /// The record of the call that this one goes on with.
    pub parent: OnceLock<CallId>,
    pub policies: OnceLock<Vec<String>>,
    /// Filled where something is found, which is rare.
    guards: OnceLock<Mutex<BTreeSet<String>>>,
    pub successor: OnceLock<String>,
    pub replica: OnceLock<String>,
    caches: AtomicU32,
    attempts: AtomicU32,
    route_cost: AtomicU64,
    upstream_cost: AtomicU64,
}

impl CacheUse {
    const ALL: [Self; 4] = [Self::Hit, Self::Stale, Self::Joined, Self::Miss];

    pub fn word(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Joined => "joined",
            Self::Miss => "miss",
        }
    }
}

impl Told {
    /// Notes the policies that decided, of all objects that were judged.
    pub fn judged(&self, rules: impl Iterator<Item = String>) {
        self.policies.get_or_init(|| rules.take(NAMES_MAX).collect());
    }

    /// Notes which detectors found something, where, and what was done with it.
    pub fn guarded(&self, found: impl Iterator<Item = String>) {
        let mut all = self.guards.get_or_init(Mutex::default).lock();
        let room = NAMES_MAX.saturating_sub(all.len());
        all.extend(found.take(room));
    }

    pub fn guards(&self) -> Option<Vec<String>> {
        self.guards.get().map(|guards| guards.lock().iter().cloned().collect())
    }

    /// Notes how it was answered; the last word counts.
    pub fn cached(&self, by: CacheUse) {
        self.caches.store(by as u32 + 1, Ordering::Relaxed);
    }

    pub fn cache(&self) -> Option<CacheUse> {
        let at = self.caches.load(Ordering::Relaxed).checked_sub(1)?;
        CacheUse::ALL.into_iter().find(|by| *by as u32 == at)
    }

    /// Notes that it is about to be sent.
    pub fn sending(&self) {
        self.attempts.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was sent.
    pub fn attempts(&self) -> Option<u32> {
        Some(self.attempts.load(Ordering::Relaxed)).filter(|sent| 0 < *sent)
    }

    pub fn add_route_cost(&self, cost: Option<NonZeroU32>) {
        add(&self.route_cost, cost);
    }

    pub fn add_upstream_cost(&self, cost: Option<NonZeroU32>) {
        add(&self.upstream_cost, cost);
    }

    pub fn route_cost(&self) -> Option<u64> {
        Some(self.route_cost.load(Ordering::Relaxed)).filter(|cost| 0 < *cost)
    }

    pub fn upstream_cost(&self) -> Option<u64> {
        Some(self.upstream_cost.load(Ordering::Relaxed)).filter(|cost| 0 < *cost)
    }
}

fn add(to: &AtomicU64, cost: Option<NonZeroU32>) {
    if let Some(cost) = cost {
        to.fetch_add(cost.get().into(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_the_last_word_of_a_cache_counts() {
        let told = Told::default();
        assert_eq!((told.guards(), told.cache()), (None, None));
        for at in 0..100 {
            told.guarded([format!("custom:{at:03} flag results")].into_iter());
        }
        told.judged((0..100).map(|at| at.to_string()));
        told.judged(["too late".to_owned()].into_iter());
        assert_eq!(told.guards().unwrap().len(), NAMES_MAX);
        assert_eq!(told.policies.get().unwrap().len(), NAMES_MAX);
        for by in CacheUse::ALL {
            told.cached(by);
            assert_eq!(told.cache(), Some(by));
        }
    }
}
