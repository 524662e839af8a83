//! How an upstream fares, all of its replicas together.

use std::sync::Arc;

use tokio::time::Instant;

use crate::{
    builtin::report::UpstreamKind,
    call::ReplicaId,
    telemetry::{CallMetrics, MetricScope},
    upstream::{
        cluster::Upstream,
        connection::peer::Peer,
        replica::{
            status::{ConnectionState, ReplicaStatus, Status},
            times::ConnectionTimes,
        },
    },
};

impl Upstream {
    /// Returns the metrics of one of its tools, by its own name.
    pub fn metrics_of_tool(&self, own: &str) -> Arc<CallMetrics> {
        self.counters.calls_of(MetricScope::Tool(self.name().clone(), own.to_owned()))
    }

    /// The address of a replica, without what may be secret in it.
    pub fn replica_url(&self, id: ReplicaId) -> Option<String> {
        Some(self.standing.url(self.index_of(id)?))
    }

    /// Returns what was agreed with the server; none while no replica is open.
    pub fn peer(&self) -> Option<Arc<Peer>> {
        self.leader().phase.borrow().peer()
    }

    /// How it is reached, as far as that is known.
    pub fn kind(&self) -> UpstreamKind {
        self.leader().transport_kind()
    }

    /// Sums up the replicas: the best state that one has, and the sums of what was counted.
    pub fn status(&self) -> Status {
        let each: Vec<_> = self.replicas.iter().map(|replica| replica.report()).collect();
        let mut status = self.leader().report();
        let states = || each.iter().map(|one| one.state);
        for state in [
            ConnectionState::Failed,
            ConnectionState::Idle,
            ConnectionState::Opening,
            ConnectionState::Ready,
        ] {
            status.state = states().find(|one| *one == state).unwrap_or(status.state);
        }
        let like = each.iter().filter(|one| one.state == status.state).map(|one| one.times);
        status.times = like.reduce(ConnectionTimes::joined).unwrap_or(status.times);
        let opened = self.replicas.iter().filter_map(|replica| replica.tally.opened_at()).max();
        status.calls = each.iter().map(|one| one.calls).sum();
        let own = self.tally.status_of_calls(status.calls, opened);
        status.last_error = own.last_error.or(status.last_error);
        status.last_error =
            status.last_error.or_else(|| each.iter().find_map(|one| one.last_error.clone()));
        status.last_words =
            status.last_words.or_else(|| each.iter().find_map(|one| one.last_words.clone()));
        status.failures = own.failures + each.iter().map(|one| one.failures).sum::<u64>();
        status.restarts = each.iter().map(|one| one.restarts).sum();
        status.processes = each.iter().map(|one| one.processes).sum();
        let now = Instant::now();
        let several = self.indexes().zip(each).filter(|_| 1 < self.replicas.len());
        status.replicas = several
            .map(|(at, one)| ReplicaStatus {
                url: self.standing.url(at),
                state: one.state,
                ejected: self.standing.is_ejected(at, now),
                ill: self.standing.is_unhealthy(at),
                tripped: self.is_tripped(at),
                in_flight: self.standing.in_flight(at),
                calls: one.calls,
            })
            .collect();
        status
    }
}
