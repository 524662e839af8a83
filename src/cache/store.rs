//! The store that keeps results, within so many bytes, and the flights that bring them.
//!
//! A hit takes no lock that all share. Whoever brings a result, or takes some away, holds the desk:
//! so nothing that began before a change is kept after it.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, OnceLock},
    time::Duration,
};

use moka::{Expiry, notification::RemovalCause, sync};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::{
    config,
    telemetry::{Counter, Counters},
};

use super::{
    flight::Flight,
    key::CacheKey,
    result::{CacheSubject, CachedResult},
};

/// Bytes that an entry costs besides its text and its names: the key three times, the index, moka's
/// own.
const ENTRY_BYTES: usize = 320;

/// All results of a gate.
#[derive(Debug)]
pub struct Store<F> {
    settings: config::Cache,
    entries: sync::Cache<CacheKey, Arc<Entry>>,
    index: Mutex<Index<F>>,
    /// Entries that moka evicted and that are still in the index. Held for a moment only, also
    /// under the lock of the index.
    evicted: Arc<Mutex<Evicted>>,
    /// Places of refreshes under way.
    refreshes: Arc<Semaphore>,
    /// The one that took over what this one had: calls that began before it still change things.
    next: OnceLock<Arc<Self>>,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct Entry {
    result: CachedResult,
    subject: Arc<CacheSubject>,
}

#[derive(Debug)]
pub(super) struct Index<F> {
    flights: HashMap<CacheKey, Arc<Flight<F>>>,
    by_subject: HashMap<Arc<CacheSubject>, HashSet<CacheKey>>,
}

/// Entries that moka evicted.
type Evicted = Vec<(CacheKey, Arc<CacheSubject>)>;

/// Each entry has a time of its own.
struct Retention;

#[allow(clippy::disallowed_types, reason = "moka has the system's clock; readers look themselves")]
impl Expiry<CacheKey, Arc<Entry>> for Retention {
    fn expire_after_create(
        &self,
        _: &CacheKey,
        entry: &Arc<Entry>,
        _: std::time::Instant,
    ) -> Option<Duration> {
        Some(entry.result.retention)
    }

    fn expire_after_update(
        &self,
        _: &CacheKey,
        entry: &Arc<Entry>,
        _: std::time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.result.retention)
    }
}

impl<F: Clone> Store<F> {
    pub fn new(settings: &config::Cache, counters: &Arc<Counters>) -> Self {
        let gone: Arc<Mutex<Evicted>> = Arc::default();
        let put_out = Arc::clone(&gone);
        let counts = Arc::clone(counters);
        let entries = sync::Cache::builder()
            .max_capacity(settings.bytes_max as u64)
            .weigher(|_, entry: &Arc<Entry>| u32::try_from(entry.bytes()).unwrap_or(u32::MAX))
            .expire_after(Retention)
            .eviction_listener(move |key: Arc<CacheKey>, entry: Arc<Entry>, cause| match cause {
                RemovalCause::Size | RemovalCause::Expired => {
                    if cause == RemovalCause::Size {
                        counts.add(Counter::CacheEvicted);
                    }
                    put_out.lock().push((*key, Arc::clone(&entry.subject)));
                }
                // The store itself removed it, under the index's lock.
                RemovalCause::Explicit | RemovalCause::Replaced => (),
            })
            .build();
        Self {
            settings: *settings,
            entries,
            index: Mutex::new(Index { flights: HashMap::new(), by_subject: HashMap::new() }),
            evicted: gone,
            refreshes: Arc::new(Semaphore::new(settings.refreshes_max)),
            next: OnceLock::new(),
            counters: Arc::clone(counters),
        }
    }

    /// Makes a store of these settings, with what this one has.
    pub fn moved_to(&self, settings: &config::Cache) -> Arc<Self> {
        let next = Arc::new(Self::new(settings, &self.counters));
        // The lock is held throughout, so that whatever is forgotten is so before the move, or in
        // both.
        let _desk = self.index.lock();
        for (key, entry) in &self.entries {
            let mut desk = next.index.lock();
            desk.by_subject.entry(Arc::clone(&entry.subject)).or_default().insert(*key);
            next.entries.insert(*key, entry);
        }
        // A configuration is followed by one other.
        self.next.set(Arc::clone(&next)).ok();
        next
    }

    pub fn settings(&self) -> &config::Cache {
        &self.settings
    }

    pub fn refreshes(&self) -> &Arc<Semaphore> {
        &self.refreshes
    }

    pub fn get(&self, key: &CacheKey) -> Option<CachedResult> {
        self.entries.get(key).map(|entry| entry.result.clone())
    }

    /// The flight of this key: the one under way, or else this one from now on.
    pub(super) fn join_or_lead(&self, key: CacheKey, flight: &Arc<Flight<F>>) -> Arc<Flight<F>> {
        let mut desk = self.index.lock();
        Arc::clone(desk.flights.entry(key).or_insert_with(|| Arc::clone(flight)))
    }

    /// Keeps what a flight brought, unless its subject changed since it began.
    pub(super) fn put(&self, key: CacheKey, kept: &CachedResult, flight: &Flight<F>) {
        if self.settings.entry_bytes_max < kept.result.bytes().len() {
            return self.counters.add(Counter::CacheTooLarge);
        }
        let subject = Arc::clone(&flight.subject);
        let kept = kept.clone();
        let mut desk = self.index.lock();
        if flight.is_invalidated() {
            return;
        }
        self.drop_evicted(&mut desk);
        desk.by_subject.entry(Arc::clone(&subject)).or_default().insert(key);
        self.entries.insert(key, Arc::new(Entry { result: kept, subject }));
    }

    /// A flight is over.
    pub(super) fn finish(&self, key: CacheKey, flight: &Arc<Flight<F>>) {
        let mut desk = self.index.lock();
        if desk.flights.get(&key).is_some_and(|current| Arc::ptr_eq(current, flight)) {
            desk.flights.remove(&key);
        }
    }

    /// Takes away all that is kept of these subjects; what is under way is not kept either, and
    /// nobody joins it any more. Gives how many results there were.
    pub fn forget(&self, is_of: impl Fn(&CacheSubject) -> bool) -> usize {
        let mut desk = self.index.lock();
        self.drop_evicted(&mut desk);
        let gone: Vec<_> = desk.by_subject.extract_if(|subject, _| is_of(subject)).collect();
        self.remove(&mut desk, gone.into_iter().flat_map(|(_, keys)| keys), is_of)
    }

    /// Takes away what is kept of one subject, here and where it was moved to.
    pub fn forget_one(&self, gone: &CacheSubject) -> usize {
        let mut desk = self.index.lock();
        self.drop_evicted(&mut desk);
        let keys = desk.by_subject.remove(gone).unwrap_or_default();
        let count = self.remove(&mut desk, keys.into_iter(), |subject| subject == gone);
        drop(desk);
        count + self.next.get().map_or(0, |next| next.forget_one(gone))
    }

    fn remove(
        &self,
        desk: &mut Index<F>,
        keys: impl Iterator<Item = CacheKey>,
        is_of: impl Fn(&CacheSubject) -> bool,
    ) -> usize {
        let count = keys.filter(|key| self.entries.remove(key).is_some()).count();
        for (_, flight) in desk.flights.extract_if(|_, flight| is_of(&flight.subject)) {
            flight.invalidate();
        }
        (0..count).for_each(|_| self.counters.add(Counter::CacheInvalidated));
        count
    }

    /// How many results there are, and how many bytes they take.
    pub fn size(&self) -> (u64, u64) {
        self.entries.run_pending_tasks();
        (self.entries.entry_count(), self.entries.weighted_size())
    }

    /// Takes out of the index what was put out; what came back meanwhile stays.
    fn drop_evicted(&self, desk: &mut Index<F>) {
        let gone = std::mem::take(&mut *self.evicted.lock());
        for (key, subject) in gone {
            if self.entries.contains_key(&key) {
                continue;
            }
            let Some(keys) = desk.by_subject.get_mut(&subject) else { continue };
            keys.remove(&key);
            if keys.is_empty() {
                desk.by_subject.remove(&subject);
            }
        }
    }
}

impl Entry {
    fn bytes(&self) -> usize {
        let names = self.subject.upstream.len() + self.subject.name.len();
        self.result.result.bytes().len() + names + ENTRY_BYTES
    }
}
