//! Builds the view of a route: merged in a stable order, named, indexed, and serialised once.

use std::{collections::HashMap, sync::Arc};

use crate::{
    call::{ListKind, UpstreamName},
    config::Route,
    mcp::{raw::Raw, splice, version::Version},
    policy::NamedResources,
};

use super::{
    listing::{Item, Listing},
    naming::Naming,
    offer::{Decisions, Offer, OfferEntry},
    part::{Part, Target, extra},
    servers::Servers,
    unlisted::Unlisted,
};

/// A route's lists and where everything on them leads.
#[derive(Debug)]
pub struct View {
    /// The offer to callers who may see all of it.
    pub offer: Arc<Offer>,
    targets: HashMap<ListKind, HashMap<String, Arc<Target>>>,
    unlisted: Unlisted,
}

/// A view in the making.
#[derive(Debug)]
struct Merge<'a> {
    parts: &'a [Part],
    naming: &'a Naming,
    relays_tasks: bool,
    /// Whether the route has policies.
    judged: bool,
    targets: HashMap<ListKind, HashMap<String, Arc<Target>>>,
    unlisted: Unlisted,
}

impl View {
    /// Merges what the route's upstreams list, under the names that it has for everybody. `asked`
    /// adds what is listed only for clients that can be asked in mid-call; `links` says that the
    /// gate keeps resources of its own there.
    pub fn build(
        route: &Route,
        parts: &[Part],
        naming: &Arc<Naming>,
        asked: bool,
        links: bool,
    ) -> Self {
        let is_whole = parts.iter().all(|part| part.listing.is_some());
        let mut servers = Servers::of(route, parts, links, |_| true);
        // A list that depends on what a client declares is not for others.
        servers.public &= !asked;
        let mut merge = Merge {
            parts,
            naming,
            relays_tasks: servers.relays_tasks,
            judged: route.rules.is_some(),
            targets: HashMap::new(),
            unlisted: Unlisted::new(route, Arc::clone(naming), is_whole),
        };
        merge.add_readers();
        let lists = ListKind::ALL.map(|kind| merge.list(kind, asked));
        let Merge { targets, unlisted, .. } = merge;
        let offer = Arc::new(Offer::whole(lists, servers, route.page_size));
        Self { offer, targets, unlisted }
    }

    /// Offers the part of it that some callers may see, under the names that it has for everybody.
    /// `earlier` has what is known already.
    pub fn offer_to(
        &self,
        route: &Route,
        parts: &[Part],
        links: bool,
        earlier: &Decisions,
        sees: impl Fn(&Target) -> bool,
    ) -> Offer {
        let (mut offer, seen) = self.offer.seen(parts.len(), earlier, sees);
        let seen = |at: usize| seen.get(at).is_some_and(|seen| *seen);
        offer.servers = Servers { public: false, ..Servers::of(route, parts, links, seen) };
        offer
    }

    pub fn find(&self, kind: ListKind, name: &str) -> Option<&Arc<Target>> {
        self.targets.get(&kind)?.get(name)
    }

    /// Finds where a URI leads: a listed resource, else what is on no list.
    pub fn find_uri(&self, uri: &str, named: &NamedResources) -> Option<Arc<Target>> {
        let listed = self.targets.get(&ListKind::Resources);
        let target = listed.and_then(|listed| listed.get(uri));
        target.map(Arc::clone).or_else(|| self.unlisted.find(uri, listed, named))
    }

    /// The name that clients have for an upstream's entry.
    pub fn shown(&self, kind: ListKind, upstream: &UpstreamName, own: &str) -> Option<String> {
        let targets = self.targets.get(&kind)?;
        let is_it = |target: &Arc<Target>| target.own == own && target.upstream.name() == upstream;
        // The same name is by far the commonest case.
        if targets.get(own).is_some_and(is_it) {
            return Some(own.to_owned());
        }
        targets.iter().find(|(_, target)| is_it(target)).map(|(name, _)| name.clone())
    }
}

impl Merge<'_> {
    fn add_readers(&mut self) {
        for part in self.parts {
            let Some(listing) = &part.listing else { continue };
            if splice::member(&listing.capabilities, "resources").is_some() {
                self.unlisted.add_reader(part, listing);
            }
        }
    }

    fn list(&mut self, kind: ListKind, asked: bool) -> Vec<OfferEntry> {
        let parts = self.parts;
        let naming = self.naming;
        let mut entries = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            let Some(listing) = &part.listing else { continue };
            let items = listing.items(kind).iter().chain(extra(listing, kind, asked));
            entries.extend(items.filter_map(|item| {
                let shown = naming.shown(kind, part.upstream.name(), &item.key)?;
                self.add(kind, shown.name.clone(), shown.listed, item, at)
            }));
        }
        entries
    }

    /// Enters one item under its name.
    fn add(
        &mut self,
        kind: ListKind,
        name: String,
        listed: bool,
        item: &Item,
        at: usize,
    ) -> Option<OfferEntry> {
        let part = self.parts.get(at)?;
        let is_tool = kind == ListKind::Tools;
        let task =
            is_tool && part.listing.as_ref().is_some_and(|listing| listing.must_be_task(item));
        let mut target = Target::of(part, kind, item, task);
        if self.judged && kind == ListKind::Resources {
            target.besides = part.normal_objects(&item.key);
        }
        let target = Arc::new(target);
        self.unlisted.note(kind, &name, &target, part);
        let targets = self.targets.entry(kind).or_default();
        // The entry is listed twice.
        if targets.contains_key(&name) {
            return None;
        }
        let text = if name == item.key {
            item.raw.clone()
        } else {
            let name = Raw::encode(&name);
            splice::edit(&item.raw, &[(kind.key(), Some(name.bytes()))])
        };
        let text = if task && !self.relays_tasks { without_task(&text) } else { text };
        targets.insert(name, Arc::clone(&target));
        let modern = (self.relays_tasks && is_tool).then(|| without_task(&text));
        let entry = OfferEntry::new(text, listed, at, target);
        Some(match modern {
            Some(modern) => entry.with_modern(modern),
            None => entry,
        })
    }
}

/// A tool for clients that use no tasks of the server: whoever calls it need not know (see
/// `upstream::exchange`).
fn without_task(tool: &Raw) -> Raw {
    if !Listing::wants_task(tool) {
        return tool.clone();
    }
    splice::edit_within(tool, "execution", &[("taskSupport", None)])
}

/// Versions that a modern client is told of: it may take the legacy ones up by `initialize`.
pub fn supported_versions() -> Vec<&'static str> {
    Version::ALL
        .iter()
        .rev()
        .filter(|version| **version != Version::V2024_11_05)
        .map(|version| version.as_str())
        .collect()
}
