//! The ledger that a gate holds: records names in memory and on disk.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;

use crate::{
    call::{ListKind, RoutePath, UpstreamName},
    catalog::{
        cell,
        held_names::{HeldNames, Owner},
        naming::Naming,
    },
    config::{Config, Route},
    store::{Stamp, StateFolder},
    telemetry::{Counter, Counters},
};

use super::{
    book::Book,
    claims::{Claimed, LOGGED_MAX, ListedNames, Taken, lapse, observe},
    file,
    link::Link,
};

/// All names of a gate, on disk and in memory.
#[derive(Debug)]
pub struct Ledger {
    store: StateFolder,
    pub(super) counters: Arc<Counters>,
    state: Mutex<State>,
    /// Link to the ledger that other gates share.
    pub(super) link: Mutex<Link>,
    /// The lock that is held while the file is changed.
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

impl Ledger {
    /// Reads the file. What of it is damaged is passed over, and said; the file is kept beside.
    pub fn open(store: &StateFolder, counters: Arc<Counters>) -> Self {
        let store = store.clone();
        let writing = Mutex::default();
        let state = Mutex::default();
        let link = Mutex::default();
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
        let known = |name: &UpstreamName| config.upstreams.iter().any(|one| one.name == *name);
        let mut sources = BTreeMap::new();
        for one in &config.upstreams {
            sources.insert(one.name.clone(), cell::source(&one.transport));
        }
        let routes: HashSet<_> = config.routes.iter().map(|route| route.path.as_str()).collect();
        let book = self.book();
        let gone = book.routes.keys().any(|path| !routes.contains(path.as_str()));
        let is_known =
            |(name, source): (&UpstreamName, &String)| book.sources.get(name) == Some(source);
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
            // A source that is gone may come back under another name.
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
        let seen = observe(&mut next, listed, now, kept);
        if next == *names {
            return;
        }
        self.counters.add_many(Counter::NamesLapsed, seen.lapsed.len());
        seen.log(&route.path);
        self.link.lock().mark(&route.path, names, &next);
        self.change(|book| {
            let names = book.routes.entry(route.path.clone()).or_default();
            observe(names, listed, now, kept);
            true
        });
    }

    /// Records names in the state folder before they are served.
    pub(super) fn claim_here(&self, route: &RoutePath, naming: &Naming) -> Claimed {
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
                    route = route.as_str(),
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
        route: &RoutePath,
        kind: ListKind,
        change: impl FnOnce(&mut HeldNames) -> T,
    ) -> io::Result<T> {
        self.update(|book| {
            let names = book.routes.entry(route.to_owned()).or_default();
            (change(names.of_mut(kind)), true)
        })
    }

    /// Says once what a name that is new is, and whose it was.
    fn report(&self, route: &RoutePath, naming: &Naming, taken: &Taken<'_>) {
        for (claim, before) in &taken.moved {
            let Owner { upstream, own } = &claim.owner;
            self.counters.add(Counter::NamesMoved);
            tracing::warn!(
                route = route.as_str(),
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
                let route = route.as_str();
                let upstream = upstream.as_str();
                tracing::warn!(route, upstream, own, shown = one.name, "{}", one.why);
            }
        }
        self.counters.add_many(Counter::NamesChanged, count);
        if LOGGED_MAX < count {
            let more = count - LOGGED_MAX;
            let route = route.as_str();
            tracing::warn!(route, more, "more entries have another name: `tollgate names`");
        }
    }

    /// Changes the book where nothing hangs on it: what fails is tried again with the next claim.
    pub(super) fn change(&self, change: impl FnOnce(&mut Book) -> bool) {
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
            // The file was taken away: what is known is as good.
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
