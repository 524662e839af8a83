//! All names that were given, by route.

use std::collections::BTreeMap;

use crate::{
    call::{ListKind, RoutePath, UpstreamName},
    catalog::held_names::{HeldNames, NamedBy, RouteNames},
};

use super::shared::LedgerRecord;

/// All names of all routes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Book {
    pub(super) routes: BTreeMap<RoutePath, RouteNames>,
    /// Address or command of each upstream, so that it is found again under another name.
    pub(super) sources: BTreeMap<UpstreamName, String>,
}

impl Book {
    /// The names of a route.
    pub fn route(&self, path: &str) -> RouteNames {
        self.routes.get(path).cloned().unwrap_or_default()
    }

    /// Every list of names, with its route and its kind.
    pub(super) fn lists(&self) -> impl Iterator<Item = (&RoutePath, ListKind, &HeldNames)> {
        let each = self.routes.iter();
        each.flat_map(|(route, names)| {
            ListKind::ALL.into_iter().map(move |kind| (route, kind, names.of(kind)))
        })
    }

    /// All names that other gates are to know.
    pub(super) fn entries(&self) -> impl Iterator<Item = LedgerRecord> {
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

    pub fn routes(&self) -> impl Iterator<Item = (&RoutePath, &RouteNames)> {
        self.routes.iter()
    }

    /// Gives an upstream that is new here the names of the only one that was the same, and is none
    /// of those that are known now.
    pub(super) fn find_again(
        &mut self,
        name: &UpstreamName,
        source: &str,
        known: &dyn Fn(&UpstreamName) -> bool,
    ) {
        let was = |(other, it): &(&UpstreamName, &String)| *it == source && !known(other);
        let mut found = self.sources.iter().filter(was).map(|(other, _)| other.clone());
        if let (Some(other), None) = (found.next(), found.next()) {
            tracing::info!(
                from = other.as_str(),
                to = name.as_str(),
                "the upstream keeps its names"
            );
            self.pass_on(&other, name);
        }
    }

    fn pass_on(&mut self, from: &UpstreamName, to: &UpstreamName) {
        self.sources.remove(from);
        for names in self.routes.values_mut() {
            for kind in ListKind::ALL {
                names.of_mut(kind).pass_on(from, to);
            }
        }
    }
}
