//! The circuit breakers of an upstream, which protect a server, and calls from it. An edit changes
//! them while the server stays as it is. Of several replicas each has the upstream's breaker for
//! itself.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    call::{ReplicaIndex, UpstreamRequest},
    config,
    resilience::{BreakerState, Circuit, CircuitStatus},
    upstream::cluster::Upstream,
};

impl Upstream {
    /// The circuit as it is now.
    pub fn circuit(&self) -> Arc<Circuit> {
        Arc::clone(&self.circuit.read())
    }

    /// Takes from its section what is no part of the server's identity: breakers that are written
    /// as before stay as they are. Of several replicas each has the upstream's breaker for itself.
    pub fn protect(&self, section: &config::Upstream) {
        let whole = section.breaker.clone().filter(|_| self.guards.is_empty());
        let next = self.circuit().next(&config::Upstream { breaker: whole, ..section.clone() });
        *self.circuit.write() = Arc::new(next);
        let own = |at| config::Upstream {
            name: format!("{} ({})", section.name, self.standing.url(at)).into(),
            tool_settings: BTreeMap::new(),
            retry: None,
            ..section.clone()
        };
        for (at, guard) in self.guards.iter().enumerate() {
            let before = Arc::clone(&guard.read());
            *guard.write() = Arc::new(before.next(&own(ReplicaIndex(at))));
        }
    }

    /// How its breakers stand; those of several replicas together are open where all are.
    pub fn look(&self) -> CircuitStatus {
        let mut look = self.circuit().status();
        let each: Vec<_> = self.guards.iter().map(|guard| guard.read().status()).collect();
        look.opened += each.iter().map(|one| one.opened).sum::<u64>();
        look.refused += each.iter().map(|one| one.refused).sum::<u64>();
        let mut standings = each.iter().filter_map(|one| one.state);
        if let Some(first) = standings.next() {
            let same = standings.all(|other| other == first);
            look.state = Some(if same { first } else { BreakerState::Closed });
        }
        look
    }

    /// How long a request may take.
    pub fn timeout(&self, ask: &UpstreamRequest) -> config::Timeout {
        self.circuit.read().timeout(ask.tool(), self.settings.config.timeout)
    }
}
