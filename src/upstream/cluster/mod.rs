//! An upstream as everybody else knows it: one server, or several replicas of it, one of which gets
//! each request.
//!
//! A single server costs nothing here. One of several replicas leads: its lists are the upstream's,
//! and what clients subscribed to is asked of it; when it is lost, another does. A legacy client's
//! session stays with a replica for as long as that is fit. All else goes to whichever has less to
//! do.

mod circuit;
pub mod endpoints;
pub mod failover;
pub mod leader;
mod lifecycle;
mod send;
mod sessions;
mod status;

use std::{collections::HashMap, sync::Arc};

use parking_lot::{Mutex, RwLock};

use self::{endpoints::EndpointHealth, leader::Leader};
use crate::{
    call::{ReplicaId, ReplicaIndex, SessionKey, UpstreamName, tasks::Tasks},
    config::Transport,
    resilience::{Circuit, affinity, hedge_budget::HedgeBudget},
    telemetry::{CallMetrics, Counters, MetricScope},
    upstream::{
        replica::{
            Replica, common::Common, era::Findings, inbox::Inbox, status::Tally,
            subscriptions::Subscriptions,
        },
        settings::{Settings, UpstreamContext},
    },
};

/// A server behind the gate.
pub struct Upstream {
    pub settings: Settings,
    /// Never empty.
    pub replicas: Vec<Arc<Replica>>,
    /// Hashes of the replicas' addresses, which name them in what clients keep.
    pub ids: Vec<ReplicaId>,
    /// The replica of each legacy session, where there are several.
    pub homes: Mutex<HashMap<SessionKey, ReplicaIndex>>,
    pub standing: Arc<EndpointHealth>,
    pub spare_for_slow: HedgeBudget,
    pub spare_for_lost: HedgeBudget,
    pub common: Common,
    /// The breakers, and what else may change while the upstream stays as it is.
    pub circuit: RwLock<Arc<Circuit>>,
    /// The replicas' own breakers, where there are several replicas.
    pub guards: Vec<RwLock<Arc<Circuit>>>,
    pub counters: Arc<Counters>,
    /// Counts its calls.
    pub metrics: Arc<CallMetrics>,
    pub context: Arc<UpstreamContext>,
    pub tally: Tally,
    pub tasks: Tasks,
}

impl Upstream {
    pub fn new(settings: Settings, context: &Arc<UpstreamContext>) -> Arc<Self> {
        let config = &settings.config;
        let counters = Arc::clone(&context.counters);
        let standing = EndpointHealth::new(&config.name, &config.replicas, Arc::clone(&counters));
        let urls = &config.replicas.urls;
        let each: Vec<_> =
            urls.iter().map(|url| settings.of_replica(url).config.transport).collect();
        let servers = if each.is_empty() { std::slice::from_ref(&config.transport) } else { &each };
        let findings = Findings::new(&config.name, &context.store, servers);
        let common = Common {
            findings,
            asked: Arc::default(),
            retired: Arc::default(),
            standing: Arc::clone(&standing),
            wanted: Arc::new(Subscriptions::new(config.timeout.open)),
            levels: Arc::default(),
            inbox: Inbox::new(&config.name),
            reading: context.reading.share(),
            lead: Leader::new(),
        };
        let replicas = if urls.is_empty() {
            vec![Replica::new(settings.clone(), context, ReplicaIndex(0), common.clone())]
        } else {
            let each = urls.iter().enumerate();
            let each = each.map(|(at, url)| {
                Replica::new(settings.of_replica(url), context, ReplicaIndex(at), common.clone())
            });
            each.collect()
        };
        let circuit = || RwLock::new(Arc::new(Circuit::new(Arc::clone(&counters))));
        Arc::new(Self {
            circuit: circuit(),
            guards: urls.iter().map(|_| circuit()).collect(),
            replicas,
            ids: urls.iter().map(|url| ReplicaId(affinity::stable_hash(url))).collect(),
            homes: Mutex::default(),
            standing,
            spare_for_slow: HedgeBudget::for_slow(),
            spare_for_lost: HedgeBudget::for_lost(),
            common,
            metrics: counters.calls_of(MetricScope::Upstream(settings.config.name.clone())),
            counters: Arc::clone(&counters),
            context: Arc::clone(context),
            tally: Tally::default(),
            tasks: context.tasks.child(),
            settings,
        })
    }

    /// Headers of clients' requests that it is to have, in lower case.
    pub fn forwards(&self) -> &[String] {
        match &self.settings.config.transport {
            Transport::Http { forward_headers, .. } => forward_headers,
            Transport::Stdio { .. } | Transport::Builtin { .. } => &[],
        }
    }

    pub fn name(&self) -> &UpstreamName {
        &self.settings.config.name
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").field("name", &self.name()).finish_non_exhaustive()
    }
}
