//! Joins what is said of the servers behind a route: what they can do, how they are used, for how
//! long it holds.

use serde_json::{Map, Value};

use crate::{
    config::{Isolation, Names, Route, Transport},
    mcp::{raw::Raw, version::Version},
};

use super::{capabilities, listing::Listing, part::Part};

#[derive(Debug, Default, Clone)]
pub struct Servers {
    pub capabilities: Map<String, Value>,
    pub instructions: Option<String>,
    /// Whether clients of 2025-11-25 may use the server's own tasks.
    pub relays_tasks: bool,
    /// The `Implementation` of the only server behind the route, where the route adds nothing.
    pub server: Option<Raw>,
    /// The smallest `ttlMs` of all.
    pub ttl_ms: u64,
    /// Everybody may have what is said.
    pub public: bool,
}

impl Servers {
    /// Joins those of a route, as far as something of them is seen. `links` says that the gate
    /// itself keeps resources there.
    pub fn of(route: &Route, parts: &[Part], links: bool, seen: impl Fn(usize) -> bool) -> Self {
        // A list that is only for some is for no shared cache.
        let public = route.auth.is_empty();
        let mut servers = Self { ttl_ms: u64::MAX, public, ..Self::default() };
        for (at, part) in parts.iter().enumerate() {
            servers.add(part, seen(at));
        }
        servers.relays_tasks = matches!(parts, [only] if relays_tasks(only));
        if let ([only], Names::Never, true) = (parts, route.names, seen(0)) {
            servers.server = only.listing.as_ref().and_then(|listing| listing.info.clone());
        }
        if links {
            servers.capabilities.entry("resources").or_insert_with(|| Map::new().into());
        }
        servers
    }

    fn add(&mut self, part: &Part, seen: bool) {
        let Some(listing) = &part.listing else {
            (self.ttl_ms, self.public) = (0, false);
            return;
        };
        self.ttl_ms = self.ttl_ms.min(if listing.ttl_ms == u64::MAX { 0 } else { listing.ttl_ms });
        self.public &= listing.public;
        if !seen {
            return;
        }
        if let Some(text) = &listing.instructions {
            let all = self.instructions.get_or_insert_default();
            if !all.is_empty() {
                all.push_str("\n\n");
            }
            all.push_str(text);
        }
        let Some(has) = listing.capabilities.try_read::<Map<String, Value>>() else { return };
        capabilities::merge(&mut self.capabilities, &has);
        if listing.is_legacy() && has.contains_key("tools") {
            capabilities::offer_tasks(&mut self.capabilities);
        }
    }
}

/// A task lives on the connection it was begun on: it can be used where a client's session keeps
/// one of its own.
fn relays_tasks(part: &Part) -> bool {
    let config = &part.upstream.settings.config;
    let own = match (&config.transport, config.isolation) {
        (Transport::Http { .. }, _) | (Transport::Stdio { .. }, Isolation::Session) => true,
        (Transport::Stdio { .. } | Transport::Builtin { .. }, _) => false,
    };
    let latest = |listing: &Listing| listing.version == Version::V2025_11_25.as_str();
    own && part.listing.as_ref().is_some_and(|listing| latest(listing) && listing.has_tasks())
}
