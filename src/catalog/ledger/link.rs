//! The state of the ledger that gates share, as far as this gate knows it.

use std::sync::Arc;

use crate::{
    call::{ListKind, RoutePath},
    catalog::held_names::RouteNames,
    config::LimitStore,
};

use super::shared::{LedgerRecord, SharedLedger};

/// State of the ledger that gates share, as far as it is known.
#[derive(Debug, Default)]
pub struct Link {
    pub(super) shared: Option<Arc<SharedLedger>>,
    /// The state of it that the book has; none: it has none of it yet.
    pub(super) version: Option<String>,
    /// Names whose own holders changed here.
    pub(super) marks: Vec<LedgerRecord>,
    /// Why it is out of reach.
    pub away: Option<String>,
}

impl Link {
    /// Goes over to another store, or to none.
    pub fn follow(&mut self, store: Option<&LimitStore>) {
        if self.shared.as_ref().map(|shared| shared.settings()) != store {
            let shared = store.cloned().map(SharedLedger::new);
            *self = Self { shared, ..Self::default() };
        }
    }

    /// Notes what changed of a route's names, but not whose they are.
    pub fn mark(&mut self, route: &RoutePath, before: &RouteNames, now: &RouteNames) {
        if self.shared.is_none() {
            return;
        }
        for kind in ListKind::ALL {
            let known = before.of(kind);
            let other = now.of(kind).iter().filter(|(name, it)| known.any(name) != Some(it));
            self.marks.extend(other.map(|(name, holder)| {
                let route = route.to_owned();
                let name = name.clone();
                let holder = holder.clone();
                LedgerRecord { route, kind, name, holder }
            }));
        }
    }
}
