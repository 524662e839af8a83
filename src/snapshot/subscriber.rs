//! Filters a route's announcements for one client: only what its caller may see, and only where
//! that changed.

use std::sync::Arc;

use crate::{
    call::{Caller, Client, ListKind, RoutePath},
    catalog::Offer,
};

use super::{Gate, Push, Route};

/// A client that listens to a route.
#[derive(Debug)]
pub struct Subscriber {
    route: RoutePath,
    caller: Caller,
    client: Arc<Client>,
    /// Its lists as it was told of them last, in the order of [`ListKind::ALL`].
    lists: [[u8; 32]; ListKind::ALL.len()],
}

impl Subscriber {
    /// Hears of what changes after what this route shows.
    pub async fn new(route: &Arc<Route>, caller: Caller, client: Arc<Client>) -> Self {
        let offer = route.seen_by(&caller, &client).await;
        let lists = ListKind::ALL.map(|kind| offer.fingerprint(kind));
        Self { route: route.settings.path.clone(), caller, client, lists }
    }

    /// The path of its route.
    pub fn route(&self) -> &RoutePath {
        &self.route
    }

    /// Listens for another caller, or for the same with other grants.
    pub fn set_caller(&mut self, caller: Option<Caller>) {
        self.caller = caller.unwrap_or(self.caller.clone());
    }

    /// Whether an announcement is for it. Safe to drop: asked again, it answers the same.
    pub async fn wants(&mut self, gate: &Gate, push: &Push) -> bool {
        let snapshot = gate.snapshot();
        // Nothing is announced of a route that is gone.
        let Some(route) = snapshot.routes.get(&self.route) else { return false };
        match push {
            Push::Updated { uri, .. } => route.lets_read(&self.caller, &self.client, uri),
            Push::Changed { method } => {
                let offer = route.seen_by(&self.caller, &self.client).await;
                let kinds = ListKind::ALL.into_iter().filter(|kind| kind.changed() == *method);
                // Each is noted, whatever came of the one before.
                0 < kinds.filter(|kind| self.take(&offer, *kind)).count()
            }
        }
    }

    /// Notes how a list is now; true where it is another.
    fn take(&mut self, offer: &Offer, kind: ListKind) -> bool {
        let now = offer.fingerprint(kind);
        let told = self.lists.get_mut(kind as usize);
        told.is_some_and(|told| std::mem::replace(told, now) != now)
    }
}
