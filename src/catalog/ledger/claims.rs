//! Takes names into a route's book, and lets old ones lapse.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use crate::{
    call::{ListKind, RoutePath, UpstreamName},
    catalog::{
        held_names::{Holder, NamedBy, Owner, RouteNames},
        naming::Claim,
        part::{Part, extra},
    },
};

/// An upstream's names are at most this many times the most that it listed at once.
pub(super) const NAMES_PER_ENTRY: usize = 2;
/// Collisions that are logged at once; of more their number is said.
pub(super) const LOGGED_MAX: usize = 20;

/// Outcome of claims.
#[derive(Debug, Default)]
pub(super) struct Taken<'a> {
    pub(super) new: HashSet<(ListKind, &'a str)>,
    pub(super) moved: Vec<(&'a Claim, Owner)>,
    pub(super) refused: bool,
}

impl<'a> Taken<'a> {
    pub(super) fn take(&mut self, names: &mut RouteNames, claim: &'a Claim, now: u64) {
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
pub(super) struct Seen {
    /// Free from now on.
    pub(super) lapsed: Vec<String>,
    /// Forgotten, since their upstream has too many.
    dropped: Vec<(UpstreamName, Vec<String>)>,
}

impl Seen {
    pub(super) fn log(&self, route: &RoutePath) {
        let count = self.lapsed.len();
        if count != 0 {
            let names: Vec<_> = self.lapsed.iter().take(LOGGED_MAX).collect();
            let route = route.as_str();
            tracing::info!(route, count, ?names, "names are free: nobody has listed them for long");
        }
        for (upstream, dropped) in &self.dropped {
            let count = dropped.len();
            let names = dropped.iter().take(LOGGED_MAX);
            let names: Vec<_> = names.collect();
            tracing::warn!(
                route = route.as_str(),
                upstream = upstream.as_str(),
                count,
                ?names,
                "names that it listed once are kept for it no longer: it had too many"
            );
        }
    }
}

/// Notes what is listed.
pub(super) fn observe(
    names: &mut RouteNames,
    listed: &[ListedNames<'_>],
    now: u64,
    kept: Duration,
) -> Seen {
    let mut seen = Seen::default();
    let is_gone = |kind: ListKind, upstream: &UpstreamName| {
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
        all.contains(&(kind, &owner.upstream, owner.own.as_str()))
    });
    seen
}

/// Marks what is not listed, and frees what has not been for too long; gives the names of that.
pub(super) fn lapse(
    names: &mut RouteNames,
    now: u64,
    kept: Duration,
    is_gone: &dyn Fn(ListKind, &UpstreamName) -> bool,
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

/// An upstream of a route, and of which lists what is known is what it has.
#[derive(Debug)]
pub struct ListedNames<'a> {
    pub part: &'a Part,
    pub ready: Vec<ListKind>,
}

/// Outcome of recording names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    All,
    /// Some lead elsewhere by now: others are to be chosen.
    Refused,
    /// The claims could not be recorded.
    Failed,
}
