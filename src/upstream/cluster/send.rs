//! Sends a request to one of the replicas, and to another where nothing could be sent there.

use std::{pin::Pin, sync::Arc};

use tokio::time::Instant;

use crate::{
    call::{ReplicaId, ReplicaIndex, UpstreamRequest},
    resilience::Attempt,
    telemetry::Counter,
    upstream::{
        cluster::{Upstream, failover::Failover},
        exchange::{Exchange, error::SendError},
        proof::Clearance,
    },
};

/// The future of a request, boxed: the futures of its callers nest too deeply otherwise.
type Sending<'a> = Pin<Box<dyn Future<Output = Result<Exchange, SendError>> + Send + 'a>>;

impl Upstream {
    /// Sends a client's request, which is permitted, let in, and let through by the breakers. What
    /// becomes of the attempt is known with the exchange's end.
    ///
    /// # Errors
    /// Nothing was sent then: the clearance is for another upstream, there is no connection for it,
    /// at none of several replicas, or a limit of the upstream refuses it.
    pub(in crate::upstream) async fn send(
        self: &Arc<Self>,
        ask: &UpstreamRequest,
        clearance: &Clearance,
        attempt: Attempt,
    ) -> Result<Exchange, SendError> {
        clearance.check(self)?;
        if let [only] = &*self.replicas {
            return only.dispatch(ask, self.timeout(ask), clearance, attempt).await;
        }
        let sending: Sending<'_> = Box::pin(self.send_to_any(ask, clearance, attempt));
        sending.await
    }

    async fn send_to_any(
        self: &Arc<Self>,
        ask: &UpstreamRequest,
        clearance: &Clearance,
        attempt: Attempt,
    ) -> Result<Exchange, SendError> {
        self.spare_for_slow.deposit();
        self.spare_for_lost.deposit();
        let mut attempt = Some(attempt);
        let mut tried = Vec::new();
        let mut last = SendError::Unavailable("no replica is open".to_owned());
        if self.choose(ask, &tried).is_none() {
            self.opened().await?;
        }
        while let Some(at) = self.choose(ask, &tried) {
            if !tried.is_empty() {
                self.count(Counter::ReplicaFailovers);
            }
            tried.push(at);
            let attempt = match attempt.take() {
                Some(attempt) => attempt,
                None => self.circuit().attempt(ask.subject())?,
            };
            last = match self.send_to(at, ask, clearance, attempt).await {
                Ok(exchange) => {
                    // Work of a session counts where it was done.
                    let hedge = ask.hedge.filter(|_| ask.safe && !self.is_homed(ask));
                    let failover = Failover::new(ask, clearance, tried, hedge);
                    return Ok(exchange.with(failover));
                }
                // A second replica is no way around a limit of the upstream.
                Err(error @ SendError::Limited(_)) => return Err(error),
                // Nothing was sent.
                Err(error) => error,
            };
        }
        Err(last)
    }

    /// Sends a request to one of several replicas.
    ///
    /// # Errors
    /// As [`Upstream::send`], of this replica.
    pub(in crate::upstream) async fn send_to(
        &self,
        at: ReplicaIndex,
        ask: &UpstreamRequest,
        clearance: &Clearance,
        attempt: Attempt,
    ) -> Result<Exchange, SendError> {
        clearance.check(self)?;
        let found = self.replicas.get(at.0).zip(self.ids.get(at.0)).zip(self.guards.get(at.0));
        let ((replica, id), guard) = found.expect("only places of replicas are chosen");
        let guard = Arc::clone(&guard.read());
        let attempt = attempt.at(guard.attempt(ask.subject())?);
        self.settle_home(at, ask);
        let picked = self.standing.begin(at);
        match replica.dispatch(ask, self.timeout(ask), clearance, attempt).await {
            Ok(exchange) => Ok(exchange.sent_to(*id, picked)),
            // A refusal of the gate itself says nothing of the replica.
            Err(error) => {
                if error.cause().is_some() {
                    picked.failed();
                }
                Err(error)
            }
        }
    }

    /// Chooses the open replica that is to get a request which the replicas of `tried` had; none
    /// where there is no other. Where something speaks against each, the least bad gets it all the
    /// same.
    pub fn choose(&self, ask: &UpstreamRequest, tried: &[ReplicaIndex]) -> Option<ReplicaIndex> {
        let now = Instant::now();
        let is_open = |at: &ReplicaIndex| {
            !tried.contains(at) && self.replicas.get(at.0).is_some_and(|it| it.is_open())
        };
        let open: Vec<_> = self.indexes().filter(is_open).collect();
        let fit: Vec<_> = open.iter().copied().filter(|at| self.is_fit(*at, now)).collect();
        let candidates = if fit.is_empty() { open } else { fit };
        let known = ask.replica.and_then(|id| self.index_of(id));
        if let Some(known) = known.filter(|at| candidates.contains(at)) {
            return Some(known);
        }
        if let Some(key) = ask.session.filter(|_| self.keeps_sessions_at(&candidates)) {
            return self.home(key, &candidates);
        }
        self.standing.pick(&candidates, now)
    }

    /// The indexes of all replicas.
    pub fn indexes(&self) -> impl Iterator<Item = ReplicaIndex> + use<> {
        (0..self.replicas.len()).map(ReplicaIndex)
    }

    /// Finds a replica by the hash of its address.
    pub fn index_of(&self, id: ReplicaId) -> Option<ReplicaIndex> {
        self.ids.iter().position(|known| *known == id).map(ReplicaIndex)
    }

    /// Whether nothing speaks against a replica: its deeds, its probes, its breaker.
    fn is_fit(&self, at: ReplicaIndex, now: Instant) -> bool {
        self.standing.is_fit(at, now) && !self.is_tripped(at)
    }

    pub fn is_tripped(&self, at: ReplicaIndex) -> bool {
        self.guards.get(at.0).is_some_and(|guard| guard.read().is_open())
    }

    /// Whether a safe call that is slow, or failed, may be sent once more.
    pub fn may_send_twice(&self) -> bool {
        self.spare_for_slow.withdraw()
    }

    /// Whether a safe call may be sent once more whose replica went away.
    pub fn may_send_lost(&self) -> bool {
        self.spare_for_lost.withdraw()
    }

    pub fn count(&self, counter: Counter) {
        self.counters.add(counter);
    }

    /// Notes a failure that was seen by whoever read the exchange.
    pub fn failed(&self, error: SendError) -> SendError {
        let calls = self.replicas.iter().map(|replica| replica.tally.calls()).sum();
        self.tally.failed_after(&error, calls);
        error
    }
}
