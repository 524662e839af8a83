//! How the replicas of one upstream stand: what each has to do, and whether it is to get calls.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    call::event::Event,
    call::{ReplicaIndex, UpstreamName},
    config::Replicas,
    resilience::{
        Cause,
        balance::{self, Load},
        ejection::Ejections,
        health::Probes,
    },
    telemetry::{Counter, Counters},
    upstream::exchange::{ending::failure, error::SendError},
};

/// The health and load of all replicas, by their index.
#[derive(Debug)]
pub struct EndpointHealth {
    upstream: UpstreamName,
    settings: Replicas,
    loads: Vec<Load>,
    probes: Vec<Probes>,
    ejections: Ejections,
    counters: Arc<Counters>,
}

/// A call that a replica was picked for; it counts as under way there until this is dropped.
#[derive(Debug)]
pub struct InFlight {
    standing: Arc<EndpointHealth>,
    at: ReplicaIndex,
    since: Instant,
    heard: bool,
}

impl EndpointHealth {
    pub fn new(upstream: &UpstreamName, settings: &Replicas, counters: Arc<Counters>) -> Arc<Self> {
        let count = settings.urls.len().max(1);
        let now = Instant::now();
        Arc::new(Self {
            upstream: upstream.clone(),
            settings: settings.clone(),
            loads: (0..count).map(|_| Load::new(now)).collect(),
            probes: (0..count).map(|_| Probes::default()).collect(),
            ejections: Ejections::new(settings.ejection, count, now),
            counters,
        })
    }

    /// Whether nothing speaks against a replica.
    pub fn is_fit(&self, at: ReplicaIndex, now: Instant) -> bool {
        !self.is_ejected(at, now) && !self.is_unhealthy(at)
    }

    pub fn is_ejected(&self, at: ReplicaIndex, now: Instant) -> bool {
        self.ejections.is_ejected(at.0, now)
    }

    /// Whether a replica's probes say that it is unhealthy.
    pub fn is_unhealthy(&self, at: ReplicaIndex) -> bool {
        self.probes.get(at.0).is_some_and(Probes::is_unhealthy)
    }

    pub fn in_flight(&self, at: ReplicaIndex) -> u32 {
        self.loads.get(at.0).map_or(0, Load::in_flight)
    }

    /// The better of two of the candidates; none where there are none.
    pub fn pick(&self, candidates: &[ReplicaIndex], now: Instant) -> Option<ReplicaIndex> {
        let cost = |at: ReplicaIndex| self.loads.get(at.0).map_or(f64::MAX, |load| load.cost(now));
        balance::pick(candidates, rand::random(), cost)
    }

    pub fn begin(self: &Arc<Self>, at: ReplicaIndex) -> InFlight {
        self.counters.add(Counter::ReplicaPicks);
        self.loads.iter().skip(at.0).take(1).for_each(Load::begin);
        InFlight { standing: Arc::clone(self), at, since: Instant::now(), heard: false }
    }

    /// A replica was opened anew.
    pub fn opened(&self, at: ReplicaIndex) {
        self.loads.iter().skip(at.0).take(1).for_each(Load::forgive);
    }

    /// Records what a probe of a replica found.
    pub fn probed(&self, at: ReplicaIndex, well: bool) {
        let (Some(health), Some(probes)) = (&self.settings.health, self.probes.get(at.0)) else {
            return;
        };
        if !well {
            self.counters.add(Counter::ProbesFailed);
        }
        if probes.record(health, well) {
            let url = self.url(at);
            let word = if well { "well again" } else { "ill" };
            tracing::warn!(
                upstream = self.upstream.as_str(),
                url,
                "by its probes this replica is {word}"
            );
        }
    }

    fn note(&self, at: ReplicaIndex, good: bool, now: Instant) {
        for (out, long) in self.ejections.record(at.0, good, now) {
            self.counters.add(Counter::ReplicaEjections);
            let url = self.url(ReplicaIndex(out));
            tracing::warn!(
                upstream = self.upstream.as_str(),
                url,
                ?long,
                "this replica is ejected"
            );
        }
    }

    /// The address of a replica without what may be secret: a password, a query.
    pub fn url(&self, at: ReplicaIndex) -> String {
        let url = self.settings.urls.get(at.0).map_or("", String::as_str);
        let url = url.split(['?', '#']).next().unwrap_or_default();
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let host = authority.rsplit('@').next().unwrap_or_default();
        format!("{scheme}://{host}/{path}")
    }
}

impl InFlight {
    /// Notes what came of it.
    pub fn hear(&mut self, event: &Result<Event, SendError>) {
        let (good, ends) = match event {
            // The gate's own bounds, or a session that is opened anew: it was not asked at all.
            Err(
                SendError::Unready(_)
                | SendError::Refused(_)
                | SendError::Limited(_)
                | SendError::SessionGone,
            ) => {
                self.heard = true;
                return;
            }
            Ok(Event::Answer { body, status }) => {
                (!counts_against_replica(failure(body, *status)), true)
            }
            Ok(Event::Notification(_) | Event::ServerRequest(_) | Event::Resumable { .. }) => {
                (true, false)
            }
            Err(error) if counts_against_replica(error.cause()) => (false, true),
            Err(_) => (true, false),
        };
        self.observe(!good);
        if ends {
            self.standing.note(self.at, good, Instant::now());
        }
    }

    /// Records that the request could not be sent to the replica.
    pub fn failed(mut self) {
        self.observe(true);
        self.standing.note(self.at, false, Instant::now());
    }

    /// The first sign counts: a call may take long for its own reasons.
    fn observe(&mut self, failed: bool) {
        if !std::mem::replace(&mut self.heard, true) {
            self.observed(failed);
        }
    }

    fn observed(&self, failed: bool) {
        let (took, now): (Duration, _) = (self.since.elapsed(), Instant::now());
        if let Some(load) = self.standing.loads.get(self.at.0) {
            load.observe(took, failed, now);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let Some(load) = self.standing.loads.get(self.at.0) else { return };
        // The call was given up before it showed a sign: the replica is at least so slow.
        if !self.heard {
            load.abandoned(self.since.elapsed(), Instant::now());
        }
        load.end();
    }
}

/// Whether it speaks against a replica: that it has too much to do, its load says.
fn counts_against_replica(cause: Option<Cause>) -> bool {
    cause.is_some_and(|cause| cause != Cause::TooManyRequests)
}
