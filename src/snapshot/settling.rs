//! Patience at the very first start: what is not known of a server yet may be so in no time.

use std::sync::Arc;

use tokio::time::Instant;

use crate::{
    call::{Client, ListKind},
    config::Limits,
};

use super::{Gate, RouteSnapshot};

impl Gate {
    /// Whether the gate has just started, so that more may be known in no time.
    pub fn is_settling(&self, limits: &Limits) -> bool {
        self.uptime() < limits.settle
    }
}

impl RouteSnapshot {
    /// The bounds of its configuration.
    pub fn limits(&self) -> &Limits {
        &self.snapshot.config.server.limits
    }

    /// Goes over to the configuration of now, where that still has the route. Only what waited may
    /// do so: everything else is served with the snapshot that it began with.
    pub fn renew(&mut self) {
        self.snapshot = self.gate.snapshot();
        if let Some(now) = self.snapshot.routes.get(&self.route.settings.path) {
            self.route = Arc::clone(now);
        }
    }

    /// Waits a moment at the very first start: until something is known of each server, or of this
    /// list. True where there was anything to wait for, so that more may be known now.
    pub async fn settled_early(&self, list: Option<ListKind>) -> bool {
        let deadline = self.gate.started + self.limits().settle;
        if deadline <= Instant::now() {
            return false;
        }
        for member in &self.route.members {
            let known = async {
                match list {
                    Some(kind) => member.lists(kind).await,
                    None if member.catalog.is_shown() => (),
                    None => member.settled().await,
                }
            };
            if tokio::time::timeout_at(deadline, known).await.is_err() {
                break;
            }
        }
        true
    }

    /// Waits a moment at the very first start for a name that is on no list yet: also for what is
    /// listed only for clients that can be asked, where the client is one.
    pub async fn known_early(&self, client: &Client) {
        if client.can_be_asked() {
            self.asked_known().await;
            return;
        }
        let deadline = self.gate.started + self.limits().settle;
        for member in &self.route.members {
            if tokio::time::timeout_at(deadline, member.settled()).await.is_err() {
                return;
            }
        }
    }

    /// Waits a moment for a client that can be asked in mid-call: what is listed only for such
    /// clients may not be known before the first of them comes. True where there was anything to
    /// wait for.
    pub async fn asked_known(&self) -> bool {
        let settle = self.limits().settle;
        let begun = Instant::now();
        let settling = begun < self.gate.started + settle;
        let deadline = if settling { self.gate.started } else { begun } + settle;
        let mut waited = settling;
        for member in &self.route.members {
            member.upstream.expect_asked();
            let is_open = member.upstream.peer().is_some() && !member.catalog.is_whole();
            if !settling && !is_open {
                continue;
            }
            waited = true;
            if tokio::time::timeout_at(deadline, member.known()).await.is_err() {
                break;
            }
        }
        waited
    }
}
