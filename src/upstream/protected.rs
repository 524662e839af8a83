//! What protects a server, and calls from it: its circuit, which an edit changes while the server
//! stays as it is.

use std::{sync::Arc, time::Duration};

use crate::{
    call::Ask,
    config,
    resilience::{Attempt, Cause, Circuit, Ending},
};

use super::{SendError, Upstream};

impl Upstream {
    /// What protects it, and calls from it, as it is now.
    pub fn circuit(&self) -> Arc<Circuit> {
        Arc::clone(&self.circuit.read())
    }

    /// Takes from its section what is no part of the server's identity: breakers that are written
    /// as before stay as they are.
    pub fn protect(&self, section: &config::Upstream) {
        let next = self.circuit().next(section);
        *self.circuit.write() = Arc::new(next);
    }

    /// How long a request may take.
    pub fn timeout(&self, ask: &Ask) -> config::Timeout {
        self.circuit.read().timeout(ask.tool(), self.settings.config.timeout)
    }

    /// There was no connection for a request in time. That all places are taken is the gate's own
    /// bound, and no failure of the server.
    pub(super) fn unready(&self, patience: Duration, attempt: Attempt) -> SendError {
        let why = match self.pool.full().filter(|_| self.peer().is_some()) {
            Some(count) => format!("all of its {count} places are taken (`{}`)", self.places()),
            None => {
                attempt.end(Ending::Failed(Cause::Timeout), None);
                "it was not open".to_owned()
            }
        };
        SendError::Unready(format!("{why} within {patience:?} (`timeout.open`)"))
    }
}
