//! The ledger of names: what each name leads to is recorded before it is served, so that it leads
//! there for ever, over restarts too.
//!
//! The file in the state folder is the truth; each change reads it, changes it and writes it whole
//! under a lock, so that processes on one state folder agree, and what a command changes stays.

mod file;
mod shared;
mod sync;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;

use crate::{
    call::ListKind,
    config::{Config, Route},
    store::{Stamp, Store},
    telemetry::{Counter, Counters},
};

pub use self::shared::LedgerRecord;
use self::sync::Link;
pub use super::held_names::{HeldNames, Holder, NamedBy, Owner};
use super::{
    cell,
    held_names::RouteNames,
    naming::{Claim, Naming},
    part::{Part, extra},
};

/// Collisions that are logged at once; of more their number is said.
const LOGGED_MAX: usize = 20;
/// An upstream's names are at most this many times the most that it listed at once.
const NAMES_PER_ENTRY: usize = 2;

/// All names of a gate, on disk and in memory.
#[derive(Debug)]
pub struct Ledger {
    store: Store,
    counters: Arc<Counters>,
    state: Mutex<State>,
    /// Link to the ledger that other gates share.
    link: Mutex<Link>,
    /// Held while the file is changed.
    writing: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    book: Arc<Book>,
    /// The file that the book was read from.
    stamp: Option<Stamp>,
    /// Why no name can be recorded.
    fault: Option<String>,
}

/// All names of all routes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Book {
    routes: BTreeMap<String, RouteNames>,
    /// Address or command of each upstream, so that it is found again under another name.
    sources: BTreeMap<String, String>,
}

/// Outcome of recording names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    All,
    /// Some lead elsewhere by now: others are to be chosen.
    Refused,
    /// They could not be recorded.
    Failed,
}

/// An upstream of a route, and of which lists what is known is what it has.
#[derive(Debug)]
pub struct ListedNames<'a> {
    pub part: &'a Part,
    pub ready: Vec<ListKind>,
}

impl Ledger {
    /// Reads the file. What of it is damaged is passed over, and said; the file is kept beside.
    pub fn open(store: &Store, counters: Arc<Counters>) -> Self {
        let (store, writing) = (store.clone(), Mutex::default());
        let (state, link) = (Mutex::default(), Mutex::default());
        let ledger = Self { store, counters, state, link, writing };
        ledger.reread();
        ledger
    }

    pub fn book(&self) -> Arc<Book> {
        Arc::clone(&self.state.lock().book)
    }

    /// Why no name can be recorded; none where that works.
    pub fn fault(&self) -> Option<String> {
        let fault = self.state.lock().fault.clone();
        fault.or_else(|| self.link.lock().away.clone())
    }

    /// Reads the file again where another process changed it, and tries again what failed. True
    /// where anything is another way than before.
    pub fn reread(&self) -> bool {
        let before = {
            let state = self.state.lock();
            (state.stamp, state.fault.clone())
        };
        if before.1.is_none() && before.0 == self.store.stamp(file::NAME) {
            return false;
        }
        let book = self.book();
        let done = self.update(|_| ((), false));
        done.is_ok() && before.1.is_some() || book != self.book()
    }

    /// Takes over what the configuration says: an upstream whose section has another name now is
    /// known by what it is, and keeps its names.
    pub fn follow(&self, config: &Config) {
        self.link.lock().follow(config.limit_store.as_ref());
        let known = |name: &String| config.upstreams.iter().any(|one| one.name == *name);
        let mut sources = BTreeMap::new();
        for one in &config.upstreams {
            sources.insert(one.name.clone(), cell::source(&one.transport));
        }
        let routes: HashSet<_> = config.routes.iter().map(|route| route.path.as_str()).collect();
        let book = self.book();
        let gone = book.routes.keys().any(|path| !routes.contains(path.as_str()));
        let is_known = |(name, source): (&String, &String)| book.sources.get(name) == Some(source);
        if sources.iter().all(is_known) && !gone {
            return;
        }
        let now = crate::call::clock::unix_seconds();
        let kept = config.server.limits.names_kept;
        self.change(|book| {
            let before = book.clone();
            for (name, source) in
                sources.iter().filter(|(name, _)| !before.sources.contains_key(*name))
            {
                book.find_again(name, source, &known);
            }
            // One that is gone may come back under another name.
            book.sources.extend(sources.clone());
            let gone = book.routes.iter_mut().filter(|(path, _)| !routes.contains(path.as_str()));
            for (_, names) in gone {
                lapse(names, now, kept, &|_, _| true, &|_, _| false);
            }
            book.routes.retain(|path, names| routes.contains(path.as_str()) || !names.is_free());
            *book != before
        });
    }

    /// Notes what the upstreams of a route list now, and what they no longer do.
    pub fn observe(&self, route: &Route, listed: &[ListedNames<'_>], kept: Duration) {
        let book = self.book();
        let Some(names) = book.routes.get(&route.path) else { return };
        let now = crate::call::clock::unix_seconds();
        let mut next = names.clone();
        let seen = observe(&mut next, listed, (now, kept));
        if next == *names {
            return;
        }
        self.counters.add_many(Counter::NamesLapsed, seen.lapsed.len());
        seen.log(&route.path);
        self.link.lock().mark(&route.path, names, &next);
        self.change(|book| {
            let names = book.routes.entry(route.path.clone()).or_default();
            observe(names, listed, (now, kept));
            true
        });
    }

    /// Records names in the state folder before they are served.
    fn claim_here(&self, route: &str, naming: &Naming) -> Claimed {
        let now = crate::call::clock::unix_seconds();
        let claimed = self.update(|book| {
            let names = book.routes.entry(route.to_owned()).or_default();
            let mut taken = Taken::default();
            for claim in &naming.claims {
                taken.take(names, claim, now);
            }
            (taken, true)
        });
        match claimed {
            Ok(taken) => {
                self.report(route, naming, &taken);
                if taken.refused { Claimed::Refused } else { Claimed::All }
            }
            Err(error) => {
                self.counters.add(Counter::NamesUnrecorded);
                tracing::error!(
                    route,
                    %error,
                    "names cannot be recorded in the state folder: new ones are served with their \
                     upstream's prefix until they can"
                );
                Claimed::Failed
            }
        }
    }

    /// Changes a route's names of one kind by hand.
    ///
    /// # Errors
    /// Where the file cannot be read or written.
    pub fn edit<T>(
        &self,
        route: &str,
        kind: ListKind,
        change: impl FnOnce(&mut HeldNames) -> T,
    ) -> io::Result<T> {
        self.update(|book| {
            let names = book.routes.entry(route.to_owned()).or_default();
            (change(names.of_mut(kind)), true)
        })
    }

    /// Says once what a name that is new is, and whose it was.
    fn report(&self, route: &str, naming: &Naming, taken: &Taken<'_>) {
        for (claim, before) in &taken.moved {
            let Owner { upstream, own } = &claim.owner;
            self.counters.add(Counter::NamesMoved);
            tracing::warn!(
                route,
                name = claim.name,
                "the name was of `{}` of `{}`, and leads to `{own}` of `{upstream}` from now on",
                before.own,
                before.upstream,
            );
        }
        let new = naming
            .collisions
            .iter()
            .filter(|one| taken.new.contains(&(one.kind, one.name.as_str())));
        let mut count = 0_usize;
        for one in new {
            count += 1;
            if count <= LOGGED_MAX {
                let Owner { upstream, own } = &one.owner;
                tracing::warn!(route, upstream, own, shown = one.name, "{}", one.why);
            }
        }
        self.counters.add_many(Counter::NamesChanged, count);
        if LOGGED_MAX < count {
            let more = count - LOGGED_MAX;
            tracing::warn!(route, more, "more entries have another name: `tollgate names`");
        }
    }

    /// Changes the book where nothing hangs on it: what fails is tried again with the next claim.
    fn change(&self, change: impl FnOnce(&mut Book) -> bool) {
        if let Err(error) = self.update(|book| ((), change(book))) {
            tracing::warn!(%error, "the ledger of names is not on disk");
        }
    }

    /// Changes the newest book, and writes it where `change` says that it did.
    fn update<T>(&self, change: impl FnOnce(&mut Book) -> (T, bool)) -> io::Result<T> {
        let _turn = self.writing.lock();
        let done = self.update_file(change);
        let mut state = self.state.lock();
        match done {
            Ok((done, book, stamp)) => {
                *state = State { book: Arc::new(book), stamp, fault: None };
                Ok(done)
            }
            Err(error) => {
                state.fault = Some(error.to_string());
                Err(error)
            }
        }
    }

    fn update_file<T>(
        &self,
        change: impl FnOnce(&mut Book) -> (T, bool),
    ) -> io::Result<(T, Book, Option<Stamp>)> {
        let _lock = self.store.lock(file::LOCK)?;
        let (known, stamp) = {
            let state = self.state.lock();
            (Arc::clone(&state.book), state.stamp)
        };
        let mut found = self.store.stamp(file::NAME);
        let mut book = match found {
            Some(_) if found == stamp => (*known).clone(),
            Some(_) => file::read(&self.store, &self.counters)?,
            // It was taken away: what is known is as good.
            None => (*known).clone(),
        };
        let (done, changed) = change(&mut book);
        if changed || self.state.lock().fault.is_some() {
            file::write(&self.store, &book)?;
            found = self.store.stamp(file::NAME);
        }
        Ok((done, book, found))
    }
}

impl Book {
    /// The names of a route.
    pub fn route(&self, path: &str) -> RouteNames {
        self.routes.get(path).cloned().unwrap_or_default()
    }

    /// Every list of names, with its route and its kind.
    fn lists(&self) -> impl Iterator<Item = (&String, ListKind, &HeldNames)> {
        let each = self.routes.iter();
        each.flat_map(|(route, names)| {
            ListKind::ALL.into_iter().map(move |kind| (route, kind, names.of(kind)))
        })
    }

    /// All names that other gates are to know.
    fn entries(&self) -> impl Iterator<Item = LedgerRecord> {
        let each = self.lists().flat_map(|(route, kind, held)| {
            held.iter().map(move |(name, holder)| (route, kind, name, holder))
        });
        let each = each.filter(|(.., holder)| holder.by != NamedBy::Spare);
        each.map(|(route, kind, name, holder)| LedgerRecord {
            route: route.clone(),
            kind,
            name: name.clone(),
            holder: holder.clone(),
        })
    }

    pub fn routes(&self) -> impl Iterator<Item = (&String, &RouteNames)> {
        self.routes.iter()
    }

    /// Gives an upstream that is new here the names of the only one that was the same, and is none
    /// of those that are known now.
    fn find_again(&mut self, name: &str, source: &str, known: &dyn Fn(&String) -> bool) {
        let was = |(other, it): &(&String, &String)| *it == source && !known(other);
        let mut found = self.sources.iter().filter(was).map(|(other, _)| other.clone());
        if let (Some(other), None) = (found.next(), found.next()) {
            tracing::info!(from = other, to = name, "the upstream keeps its names");
            self.pass_on(&other, name);
        }
    }

    fn pass_on(&mut self, from: &str, to: &str) {
        self.sources.remove(from);
        for names in self.routes.values_mut() {
            for kind in ListKind::ALL {
                names.of_mut(kind).pass_on(from, to);
            }
        }
    }
}

/// Outcome of claims.
#[derive(Debug, Default)]
struct Taken<'a> {
    new: HashSet<(ListKind, &'a str)>,
    moved: Vec<(&'a Claim, Owner)>,
    refused: bool,
}

impl<'a> Taken<'a> {
    fn take(&mut self, names: &mut RouteNames, claim: &'a Claim, now: u64) {
        let held = names.of_mut(claim.kind);
        let by_word = matches!(claim.by, NamedBy::Config | NamedBy::Pin);
        let is_own = |holder: &&Holder| holder.owner == claim.owner;
        if held.get(&claim.name).is_some_and(|holder| !is_own(&holder)) && !by_word {
            self.refused = true;
            return;
        }
        let holder = |since| Holder {
            owner: claim.owner.clone(),
            by: claim.by,
            since,
            unlisted: None,
            free: false,
        };
        let since = held.get(&claim.name).filter(is_own).map_or(now, |holder| holder.since);
        match held.put(&claim.name, holder(since)) {
            Some(before) if before.owner == claim.owner => (),
            before => {
                self.new.insert((claim.kind, claim.name.as_str()));
                self.moved.extend(before.map(|before| (claim, before.owner)));
            }
        }
    }
}

/// Changes to names because of what is listed.
#[derive(Debug, Default)]
struct Seen {
    /// Free from now on.
    lapsed: Vec<String>,
    /// Forgotten, since their upstream has too many.
    dropped: Vec<(String, Vec<String>)>,
}

impl Seen {
    fn log(&self, route: &str) {
        let count = self.lapsed.len();
        if count != 0 {
            let names: Vec<_> = self.lapsed.iter().take(LOGGED_MAX).collect();
            tracing::info!(route, count, ?names, "names are free: nobody has listed them for long");
        }
        for (upstream, dropped) in &self.dropped {
            let (count, names) = (dropped.len(), dropped.iter().take(LOGGED_MAX));
            let names: Vec<_> = names.collect();
            tracing::warn!(
                route,
                upstream,
                count,
                ?names,
                "names that it listed once are kept for it no longer: it had too many"
            );
        }
    }
}

/// Notes what is listed.
fn observe(
    names: &mut RouteNames,
    listed: &[ListedNames<'_>],
    (now, kept): (u64, Duration),
) -> Seen {
    let mut seen = Seen::default();
    let is_gone = |kind: ListKind, upstream: &str| {
        let found = listed.iter().find(|it| it.part.upstream.name() == upstream);
        found.is_none_or(|it| it.ready.contains(&kind) && it.part.listing.is_some())
    };
    let mut all = HashSet::new();
    for it in listed {
        let Some(listing) = &it.part.listing else { continue };
        let upstream = it.part.upstream.name();
        for kind in ListKind::ALL {
            let items = listing.items(kind).iter().chain(extra(listing, kind, true));
            all.extend(items.map(|item| (kind, upstream, item.key.as_str())));
        }
    }
    for kind in ListKind::ALL {
        let mut counts = HashMap::<_, usize>::new();
        for (_, upstream, _) in all.iter().filter(|(other, ..)| *other == kind) {
            *counts.entry(*upstream).or_default() += 1;
        }
        for (upstream, count) in counts {
            let dropped = names.of_mut(kind).bound(upstream, count, NAMES_PER_ENTRY, &|own| {
                all.contains(&(kind, upstream, own))
            });
            if !dropped.is_empty() {
                seen.dropped.push((upstream.to_owned(), dropped));
            }
        }
    }
    seen.lapsed = lapse(names, now, kept, &is_gone, &|kind, owner| {
        all.contains(&(kind, owner.upstream.as_str(), owner.own.as_str()))
    });
    seen
}

/// Marks what is not listed, and frees what has not been for too long; gives the names of that.
fn lapse(
    names: &mut RouteNames,
    now: u64,
    kept: Duration,
    is_gone: &dyn Fn(ListKind, &str) -> bool,
    is_listed: &dyn Fn(ListKind, &Owner) -> bool,
) -> Vec<String> {
    let mut lapsed = Vec::new();
    for kind in ListKind::ALL {
        for (name, holder) in names.of_mut(kind).iter_mut() {
            if is_listed(kind, &holder.owner) {
                holder.unlisted = None;
            } else if is_gone(kind, &holder.owner.upstream) && holder.lapses(now, kept) {
                lapsed.push(name.clone());
            }
        }
    }
    lapsed
}

#[cfg(test)]
mod tests;
