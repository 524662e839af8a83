//! The last good listing of an upstream: in memory, and on disk for the next start.

use std::{collections::HashSet, hash::BuildHasher as _, sync::Arc};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use crate::{
    call::ListKind,
    config::{self, Transport},
    store::StateFolder,
};

use super::{
    listing::Listing,
    reading::{ListBounds, Remark},
};

/// Remarks of one list that are remembered as told, besides those of the last reading: 8 B each. A
/// server whose list changes between some states is written of once.
const TOLD_MAX: usize = 1_000;

/// The catalog of one upstream.
#[derive(Debug)]
pub struct CatalogCell {
    file: String,
    /// Command or address that the listing is of: another one is another server.
    source: String,
    store: StateFolder,
    kept: Mutex<Kept>,
    bounds: watch::Sender<ListBounds>,
}

#[derive(Debug, Default)]
struct Kept {
    listing: Option<Arc<Listing>>,
    /// Whether it came from disk, or from a predecessor: something is known of every list.
    inherited: bool,
    since: Since,
    /// Counts what was put here, and up to where the routes show it.
    version: u64,
    published: u64,
    /// Whether the entries only for clients that can be asked are known as well, or cannot be.
    whole: bool,
    /// The lists in the order of [`ListKind::ALL`].
    lists: [List; ListKind::ALL.len()],
}

/// Progress of the upstream's lists since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Since {
    #[default]
    Nothing,
    /// Something, but nothing that the upstream itself said.
    Settled,
    /// Lists that the upstream sent itself.
    Confirmed,
}

/// How one list stands.
#[derive(Debug, Default)]
struct List {
    state: ListState,
    remarks: Vec<Remark>,
    /// Hashes of remarks that the operator was told, also of readings before the last one.
    told: HashSet<u64>,
}

/// Outcome of the last reading of one list since the start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ListState {
    /// None has ended yet.
    #[default]
    Unread,
    Read,
    /// The beginning was read; a bound left out the rest.
    Cut(String),
    /// The last good entries are served, if there are any.
    Failed(String),
}

impl ListState {
    fn trouble(&self) -> Option<&str> {
        match self {
            Self::Unread | Self::Read => None,
            Self::Cut(why) | Self::Failed(why) => Some(why),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct File {
    source: String,
    listing: Listing,
}

impl CatalogCell {
    /// Takes what is on disk, else what its predecessor of the same name has; a file that cannot
    /// be read is passed over.
    pub fn open(
        upstream: &config::Upstream,
        store: &StateFolder,
        predecessor: Option<&Self>,
        bounds: ListBounds,
    ) -> Arc<Self> {
        let file = format!("catalog-{}.json", upstream.name);
        let source = source(&upstream.transport);
        let read = store.read(&file).ok().flatten();
        let read = read.and_then(|bytes| serde_json::from_slice::<File>(&bytes).ok());
        let listing = read.filter(|file| file.source == source);
        let listing = listing.map(|file| Arc::new(file.listing.restored(bounds)));
        let listing = listing.or_else(|| predecessor.and_then(Self::listing));
        let kept = Kept { inherited: listing.is_some(), listing, ..Kept::default() };
        let bounds = watch::Sender::new(bounds);
        Arc::new(Self { file, source, store: store.clone(), kept: Mutex::new(kept), bounds })
    }

    pub fn listing(&self) -> Option<Arc<Listing>> {
        self.kept.lock().listing.clone()
    }

    /// Whether the upstream itself said so since the start.
    pub fn is_confirmed(&self) -> bool {
        self.kept.lock().since == Since::Confirmed
    }

    /// How often something new was put here: to be asked before the routes are built.
    pub fn version(&self) -> u64 {
        self.kept.lock().version
    }

    /// The routes show what was here at that version.
    pub fn published(&self, version: u64) {
        self.kept.lock().published = version;
    }

    /// Whether something is here, and the routes show it.
    pub fn is_shown(&self) -> bool {
        let kept = self.kept.lock();
        kept.listing.is_some() && kept.version == kept.published
    }

    /// Whether its lists, as far as they came in time, were read since the start and are shown.
    pub fn is_settled(&self) -> bool {
        let kept = self.kept.lock();
        kept.since != Since::Nothing && kept.version == kept.published
    }

    /// Whether what this list has is shown: as it was read, or failed to be, or from before.
    pub fn knows(&self, kind: ListKind) -> bool {
        let kept = self.kept.lock();
        let read = kept.list(kind).is_some_and(|list| list.state != ListState::Unread);
        kept.version == kept.published && (read || kept.inherited)
    }

    /// Whether this list may have entries that nobody here knows of: it was never read, or the last
    /// reading failed.
    pub fn misses(&self, kind: ListKind) -> bool {
        let kept = self.kept.lock();
        match kept.list(kind).map(|list| &list.state) {
            Some(ListState::Unread) => !kept.inherited,
            Some(ListState::Failed(_)) => true,
            Some(ListState::Read | ListState::Cut(_)) | None => false,
        }
    }

    /// Nothing more will be learned before something changes.
    pub fn finish(&self) {
        self.kept.lock().whole = true;
    }

    pub fn is_whole(&self) -> bool {
        let kept = self.kept.lock();
        kept.whole && kept.version == kept.published
    }

    /// Why lists are not as the upstream has them, by their methods.
    pub fn troubles(&self) -> Vec<(&'static str, String)> {
        let kept = self.kept.lock();
        let each = ListKind::ALL.into_iter().zip(&kept.lists);
        let each = each.filter_map(|(kind, list)| {
            Some((kind.method().name(), list.state.trouble()?.to_owned()))
        });
        each.collect()
    }

    /// All troubles in one line; none where all is well.
    pub fn error(&self) -> Option<String> {
        let each = self.troubles().into_iter().map(|(method, why)| format!("`{method}`: {why}"));
        let all: Vec<_> = each.collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// Faults of single entries.
    pub fn remarks(&self) -> Vec<(ListKind, Remark)> {
        let kept = self.kept.lock();
        let each = ListKind::ALL.into_iter().zip(&kept.lists);
        let each = each.flat_map(|(kind, list)| list.remarks.iter().map(move |one| (kind, one)));
        each.map(|(kind, one)| (kind, one.clone())).collect()
    }

    /// Notes how a list stands. Returns what it was before, and those of the remarks that were told
    /// by none of the readings that are remembered; those on a list that failed are not changed.
    pub fn note(
        &self,
        kind: ListKind,
        state: ListState,
        remarks: Vec<Remark>,
    ) -> (ListState, Vec<Remark>) {
        let mut kept = self.kept.lock();
        let Some(list) = kept.lists.get_mut(kind as usize) else { return Default::default() };
        let failed = matches!(state, ListState::Failed(_));
        let before = std::mem::replace(&mut list.state, state);
        if failed {
            return (before, Vec::new());
        }
        let news = list.untold(&remarks);
        list.remarks = remarks;
        (before, news)
    }

    /// How much is kept.
    pub fn bounds(&self) -> ListBounds {
        *self.bounds.borrow()
    }

    /// Sets how much is kept; where that is another, the lists are read anew.
    pub fn set_bounds(&self, bounds: ListBounds) {
        self.bounds.send_if_modified(|now| std::mem::replace(now, bounds) != bounds);
    }

    /// Tells when the bounds are others.
    pub fn watch_bounds(&self) -> watch::Receiver<ListBounds> {
        self.bounds.subscribe()
    }

    /// Keeps a new listing; on disk too where it differs. `confirmed` says that the upstream itself
    /// gave some of it. True where it differs, or is the first since the start.
    pub fn put(&self, listing: Listing, confirmed: bool) -> bool {
        let listing = {
            let mut kept = self.kept.lock();
            let differs = kept.listing.as_deref() != Some(&listing);
            let since = if confirmed { Since::Confirmed } else { Since::Settled };
            let news = differs || kept.since < since;
            kept.since = kept.since.max(since);
            kept.version += u64::from(news);
            if !differs {
                // An equal listing stays the same object: nothing needs to be built anew of it.
                return news;
            }
            let listing = Arc::new(listing);
            kept.listing = Some(Arc::clone(&listing));
            listing
        };
        let file = File { source: self.source.clone(), listing: (*listing).clone() };
        let text = serde_json::to_vec(&file).unwrap_or_default();
        if let Err(error) = self.store.write(&self.file, &text) {
            tracing::warn!(file = self.file, %error, "the catalog is not on disk");
        }
        true
    }
}

impl List {
    /// Returns those of these remarks that are new; they count as told from now on.
    fn untold(&mut self, remarks: &[Remark]) -> Vec<Remark> {
        let hasher = self.told.hasher().clone();
        let hash = |one: &Remark| hasher.hash_one(one);
        if TOLD_MAX <= self.told.len() {
            let current: HashSet<u64> = self.remarks.iter().map(hash).collect();
            self.told.retain(|one| current.contains(one));
        }
        remarks.iter().filter(|one| self.told.insert(hash(one))).cloned().collect()
    }
}

impl Kept {
    fn list(&self, kind: ListKind) -> Option<&List> {
        self.lists.get(kind as usize)
    }
}

/// Returns the transport without its secrets: they change without the server being another.
pub fn source(transport: &Transport) -> String {
    let text = match transport {
        Transport::Stdio { command, args, cwd, .. } => format!("{command} {args:?} {cwd:?}"),
        Transport::Http { url, .. } => url.clone(),
        Transport::Builtin { server } => server.clone(),
    };
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn remark(number: usize) -> Remark {
        let entry = format!("tool{number}");
        Remark { entry, what: "its schema cannot be read".to_owned(), left_out: true }
    }

    proptest! {
        /// However a list changes among a few states, each fault is told once, and again only when
        /// very many others came in between; what is remembered is bounded.
        #[test]
        fn each_fault_of_an_entry_is_told_once(
            readings in prop::collection::vec(
                prop::collection::btree_set(0..40_usize, 0..12),
                1..40,
            ),
        ) {
            let mut list = List::default();
            let mut told = std::collections::BTreeSet::new();
            for reading in readings {
                let remarks: Vec<_> = reading.iter().copied().map(remark).collect();
                let news = list.untold(&remarks);
                list.remarks = remarks;
                let fresh: Vec<_> = reading.difference(&told).copied().map(remark).collect();
                prop_assert_eq!(news, fresh);
                told.extend(reading);
            }
        }
    }

    #[test]
    fn what_is_remembered_as_told_is_bounded_and_holds_the_last_reading() {
        let mut list = List::default();
        for begin in (0..50_000).step_by(700) {
            let remarks: Vec<_> = (begin..begin + 700).map(remark).collect();
            assert_eq!(list.untold(&remarks).len(), 700);
            list.remarks.clone_from(&remarks);
            assert!(list.untold(&remarks).is_empty(), "the same reading once more");
            assert!(list.told.len() <= TOLD_MAX + 700);
        }
    }
}
