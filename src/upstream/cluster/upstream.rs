//! An upstream as everybody else knows it: one server, or several replicas of it, one of which gets
//! each request.
//!
//! A single server costs nothing here. Of several replicas one leads: its lists are the upstream's,
//! and what clients subscribed to is asked of it; when it is lost, another does. A legacy client's
//! session stays with a replica for as long as that is fit. All else goes to whichever has less to
//! do.

use std::{
    collections::{BTreeSet, HashMap},
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::future::{join_all, select_ok};
use parking_lot::{Mutex, RwLock};
use tokio::time::{Instant, timeout};

use crate::{
    builtin::report::UpstreamKind,
    call::{SessionKey, UpstreamRequest, tasks::Tasks},
    config::{Health, Start, Transport},
    mcp::{message::Body, method::Method, raw::Raw},
    resilience::{Attempt, Circuit, affinity, hedge_budget::HedgeBudget},
    telemetry::{Counter, Counters},
    upstream::{
        cluster::{endpoints::EndpointHealth, failover::Failover, leader::Leader},
        connection::{open::Peer, session::ListingConnection},
        exchange::{Exchange, error::SendError},
        proof::Clearance,
        replica::{
            Common, Replica,
            era::Findings,
            inbox::{Inbox, ListChange, ServerMessage},
            status::{ReplicaStatus, State, Status, Tally},
            subscriptions::Subscriptions,
        },
        settings::{Context, Settings},
    },
};

/// A server behind the gate.
pub struct Upstream {
    pub settings: Settings,
    /// One at least.
    pub replicas: Vec<Arc<Replica>>,
    /// What names each of them in what clients keep.
    pub ids: Vec<u64>,
    /// Where legacy sessions are, of several replicas.
    pub homes: Mutex<HashMap<SessionKey, usize>>,
    pub standing: Arc<EndpointHealth>,
    pub spare_for_slow: HedgeBudget,
    pub spare_for_lost: HedgeBudget,
    pub common: Common,
    /// Its breakers, and what else may change while it stays as it is.
    pub circuit: RwLock<Arc<Circuit>>,
    /// Each replica's own breaker, where there are several.
    pub guards: Vec<RwLock<Arc<Circuit>>>,
    pub counters: Arc<Counters>,
    pub context: Arc<Context>,
    pub tally: Tally,
    pub tasks: Tasks,
}

/// Of a type that ends here: what waits for it is deep enough.
type Sending<'a> = Pin<Box<dyn Future<Output = Result<Exchange, SendError>> + Send + 'a>>;

impl Upstream {
    pub fn new(settings: Settings, context: &Arc<Context>) -> Arc<Self> {
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
            standing: Arc::clone(&standing),
            wanted: Arc::new(Subscriptions::new(config.timeout.open)),
            levels: Arc::default(),
            inbox: Inbox::new(),
            reading: context.reading.share(),
            lead: Leader::new(),
        };
        let replicas = if urls.is_empty() {
            vec![Replica::new(settings.clone(), context, 0, common.clone())]
        } else {
            let each = urls.iter().enumerate();
            let each = each.map(|(at, url)| {
                Replica::new(settings.of_replica(url), context, at, common.clone())
            });
            each.collect()
        };
        let circuit = || RwLock::new(Arc::new(Circuit::new(Arc::clone(&counters))));
        Arc::new(Self {
            circuit: circuit(),
            guards: urls.iter().map(|_| circuit()).collect(),
            replicas,
            ids: urls.iter().map(|url| affinity::stable_hash(url)).collect(),
            homes: Mutex::default(),
            standing,
            spare_for_slow: HedgeBudget::for_slow(),
            spare_for_lost: HedgeBudget::for_lost(),
            common,
            counters: Arc::clone(&counters),
            context: Arc::clone(context),
            tally: Tally::default(),
            tasks: context.tasks.child(),
            settings,
        })
    }

    /// The address of the replica of this number, without what may be secret in it.
    pub fn replica_url(&self, number: u64) -> Option<String> {
        let at = self.ids.iter().position(|id| *id == number)?;
        Some(self.standing.url(at))
    }

    /// Headers of clients' requests that it is to have, in lower case.
    pub fn forwards(&self) -> &[String] {
        match &self.settings.config.transport {
            Transport::Http { forward_headers, .. } => forward_headers,
            Transport::Stdio { .. } | Transport::Builtin { .. } => &[],
        }
    }

    /// Begins to open it, or, where it is lazy, to wait for its first call. One of which nothing is
    /// `listed` is opened anyway: nobody could call it.
    pub fn start(self: &Arc<Self>, listed: bool) {
        for replica in &self.replicas {
            replica.start(listed);
        }
        let Some(health) = self.settings.config.replicas.health else { return };
        for at in 0..self.replicas.len() {
            let itself = Arc::clone(self);
            let probing = async move { itself.probe(at, health).await };
            self.tasks.spawn("upstream: probe", probing);
        }
    }

    /// Takes over what clients wanted of the one that it replaces: subscriptions and log levels.
    pub fn inherit(&self, predecessor: &Self) {
        // Of several replicas any can have it: a session is moved to where its next call goes.
        for theirs in &predecessor.replicas {
            self.first().inherit(theirs);
        }
    }

    pub fn name(&self) -> &str {
        &self.settings.config.name
    }

    /// Sends a client's request, which is permitted, let in, and let through by the breakers. What
    /// becomes of the attempt is known with the exchange's end. Nothing was sent where it fails: of
    /// several replicas all were tried then.
    pub async fn send(
        self: &Arc<Self>,
        ask: &UpstreamRequest,
        clearance: &Clearance,
        attempt: Attempt,
    ) -> Result<Exchange, SendError> {
        if let [only] = &*self.replicas {
            return only.send(ask, self.timeout(ask), clearance, attempt).await;
        }
        let sending: Sending<'_> = Box::pin(self.send_to_any(ask, clearance, attempt));
        sending.await
    }

    pub async fn send_to_any(
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
                    // What a session has done counts where it was done.
                    let hedge = ask.hedge.filter(|_| ask.safe && !self.is_homed(ask));
                    let failover = Failover::new(ask, clearance, tried, hedge);
                    return Ok(exchange.with(failover));
                }
                // Another replica is no way around a limit of the upstream.
                Err(error @ SendError::Limited(_)) => return Err(error),
                // Nothing was sent.
                Err(error) => error,
            };
        }
        Err(last)
    }

    /// Sends it to one of several replicas.
    pub async fn send_to(
        &self,
        at: usize,
        ask: &UpstreamRequest,
        clearance: &Clearance,
        attempt: Attempt,
    ) -> Result<Exchange, SendError> {
        let found = self.replicas.get(at).zip(self.ids.get(at)).zip(self.guards.get(at));
        let ((replica, id), guard) = found.expect("only places of replicas are chosen");
        let guard = Arc::clone(&guard.read());
        let attempt = attempt.at(guard.attempt(ask.subject())?);
        self.settle_home(at, ask);
        let picked = self.standing.begin(at);
        match replica.send(ask, self.timeout(ask), clearance, attempt).await {
            Ok(exchange) => Ok(exchange.sent_to(*id, picked)),
            // What the gate itself refuses says nothing of the replica.
            Err(error) => {
                if error.cause().is_some() {
                    picked.failed();
                }
                Err(error)
            }
        }
    }

    /// Which open replica is to get a request that these had; none where there is no other. Where
    /// something speaks against each, the least bad gets it all the same.
    pub fn choose(&self, ask: &UpstreamRequest, tried: &[usize]) -> Option<usize> {
        let now = Instant::now();
        let is_open = |at: &usize| {
            !tried.contains(at) && self.replicas.get(*at).is_some_and(|it| it.is_open())
        };
        let open: Vec<usize> = (0..self.replicas.len()).filter(is_open).collect();
        let fit: Vec<usize> = open.iter().copied().filter(|at| self.is_fit(*at, now)).collect();
        let candidates = if fit.is_empty() { open } else { fit };
        let known = ask.replica.and_then(|id| self.ids.iter().position(|it| *it == id));
        if let Some(known) = known.filter(|at| candidates.contains(at)) {
            return Some(known);
        }
        if let Some(key) = ask.session.filter(|_| self.keeps_sessions(&candidates)) {
            return self.home(key, &candidates);
        }
        self.standing.pick(&candidates, now)
    }

    /// Whether nothing speaks against a replica: its deeds, its probes, its breaker.
    pub fn is_fit(&self, at: usize, now: Instant) -> bool {
        self.standing.is_fit(at, now) && !self.is_tripped(at)
    }

    pub fn is_tripped(&self, at: usize) -> bool {
        self.guards.get(at).is_some_and(|guard| guard.read().is_open())
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

    /// Asks for the gateway's own sake, on a connection that all share.
    pub async fn ask(&self, method: Method, params: &Raw) -> Result<Body, SendError> {
        self.leader().ask(method, params).await
    }

    /// Whether it is on its way out: another one of its name may have taken its place.
    pub fn is_retired(&self) -> bool {
        self.first().is_retired()
    }

    /// Notes a failure that was seen by whoever read the exchange.
    pub fn failed(&self, error: SendError) -> SendError {
        self.tally.failed(&error.to_string());
        error
    }

    /// What was agreed with it; none while no replica is open.
    pub fn peer(&self) -> Option<Arc<Peer>> {
        self.leader().peer()
    }

    /// The next sign that its lists changed; for one reader.
    pub async fn next_list_change(&self) -> ListChange {
        self.common.inbox.next_list_change().await
    }

    /// What it says to clients outside of calls; for one reader.
    pub async fn next_server_message(&self) -> Option<ServerMessage> {
        self.common.inbox.next_server_message().await
    }

    /// Waits until a replica was opened, or all have failed once; a lazy one that nobody called
    /// counts.
    pub async fn settled(&self) {
        if self.settings.config.start == Start::Lazy {
            return;
        }
        let each = self.replicas.iter().map(|replica| {
            Box::pin(async move {
                replica.settled().await;
                replica.peer().ok_or(())
            })
        });
        drop(select_ok(each).await);
    }

    /// A connection opened as for a client that can be asked anything.
    pub async fn asking(&self) -> Result<Option<ListingConnection>, SendError> {
        // Boxed: rare, and large.
        Box::pin(self.leader().asking()).await
    }

    /// Subscribes for a legacy client, or ends that: on its own connection where it has one, else
    /// on the one that all share.
    pub async fn subscribe(&self, ask: &UpstreamRequest, uri: &str) -> Result<Body, SendError> {
        if let [only] = &*self.replicas {
            return only.subscribe(ask, uri).await;
        }
        self.opened().await?;
        let closed = || SendError::Unavailable("no replica is open".to_owned());
        let at = self.choose(ask, &[]).ok_or_else(closed)?;
        self.settle_home(at, ask);
        self.replicas.get(at).ok_or_else(closed)?.subscribe(ask, uri).await
    }

    /// Whether a session has a connection of its own here.
    pub fn has_own(&self, key: SessionKey) -> bool {
        self.replicas.iter().any(|replica| replica.has_own(key))
    }

    /// Hears of `uri` on the shared connection from now on. Dropped or failed, it changes nothing.
    pub async fn want(&self, uri: &str) -> Result<(), SendError> {
        self.leader().want(uri).await
    }

    /// Undoes one [`Upstream::want`].
    pub fn unwant(&self, uri: &str) {
        self.common.wanted.remove(uri);
    }

    /// Passes on what a legacy client says outside of calls, to its own connection if it has one.
    pub async fn notify(&self, key: SessionKey, method: Method, params: &Raw) {
        join_all(self.replicas.iter().map(|replica| replica.notify(key, method, params))).await;
    }

    /// What a legacy client wants to hear of: told to its own connection if it has one, else the
    /// most that any client wants is told to the shared ones.
    pub async fn set_level(&self, key: SessionKey, level: &str) {
        let has_own = self.has_own(key);
        let told = self.replicas.iter().filter(|replica| !has_own || replica.has_own(key));
        join_all(told.map(|replica| replica.set_level(key, level))).await;
    }

    /// The client's session is over: its own connections end, and what it subscribed to there,
    /// which is returned.
    pub async fn end_session(&self, key: SessionKey) -> BTreeSet<String> {
        self.homes.lock().remove(&key);
        let ends = self.replicas.iter().map(|replica| replica.end_session(key));
        join_all(ends).await.into_iter().flatten().collect()
    }

    /// Waits for the calls under way, `patience` at most, then ends every connection.
    pub async fn retire(&self, patience: Duration) {
        join_all(self.replicas.iter().map(|replica| replica.retire(patience))).await;
        self.tasks.stop();
    }

    /// How it is reached, as far as that is known.
    pub fn kind(&self) -> UpstreamKind {
        self.leader().kind()
    }

    pub fn status(&self) -> Status {
        let each: Vec<_> = self.replicas.iter().map(|replica| replica.status()).collect();
        let mut status = self.leader().status();
        let states = || each.iter().map(|one| one.state);
        for state in [State::Failed, State::Idle, State::Opening, State::Ready] {
            status.state = states().find(|one| *one == state).unwrap_or(status.state);
        }
        let own = self.tally.status_of_calls();
        status.last_error = own.last_error.or(status.last_error);
        status.last_error =
            status.last_error.or_else(|| each.iter().find_map(|one| one.last_error.clone()));
        status.calls = each.iter().map(|one| one.calls).sum();
        status.failures = own.failures + each.iter().map(|one| one.failures).sum::<u64>();
        status.restarts = each.iter().map(|one| one.restarts).sum();
        status.processes = each.iter().map(|one| one.processes).sum();
        let now = Instant::now();
        let several = each.into_iter().enumerate().filter(|_| 1 < self.replicas.len());
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

    pub fn first(&self) -> &Arc<Replica> {
        self.replicas.first().expect("it is made with one at least")
    }

    /// The one that leads, or any that is open, or any.
    pub fn leader(&self) -> &Arc<Replica> {
        let leads = self.replicas.get(self.common.lead.place.load(Ordering::Relaxed));
        let open = || self.replicas.iter().find(|replica| replica.is_open());
        leads.filter(|it| it.is_open()).or_else(open).unwrap_or_else(|| self.first())
    }

    /// Waits until a replica is open; lazy ones are opened. An error once none can be.
    pub async fn opened(&self) -> Result<(), SendError> {
        let each = self.replicas.iter().map(|replica| Box::pin(replica.shared()));
        let patience = self.settings.config.timeout.open;
        let late = || format!("no replica was open within {patience:?} (`timeout.open`)");
        let opened = timeout(patience, select_ok(each)).await.map(|opened| opened.map(drop));
        opened.unwrap_or_else(|_| Err(SendError::Unavailable(late())))
    }

    /// Whether a legacy client's session has a connection of its own at a replica.
    pub fn keeps_sessions(&self, candidates: &[usize]) -> bool {
        let mut them = candidates.iter().filter_map(|at| self.replicas.get(*at));
        matches!(self.settings.config.transport, Transport::Http { .. })
            && them.any(|replica| replica.keeps_sessions())
    }

    /// Whether it is of a session that stays with one replica.
    pub fn is_homed(&self, ask: &UpstreamRequest) -> bool {
        let all: Vec<_> = (0..self.replicas.len()).collect();
        ask.session.is_some() && self.keeps_sessions(&all)
    }

    /// Where a session is, or is to be now.
    pub fn home(&self, key: SessionKey, candidates: &[usize]) -> Option<usize> {
        let known = self.homes.lock().get(&key).copied();
        if let Some(known) = known.filter(|at| candidates.contains(at)) {
            return Some(known);
        }
        let nodes = candidates.iter().filter_map(|at| Some((*at, *self.ids.get(*at)?)));
        affinity::rendezvous(key.number(), nodes)
    }

    /// From now on a session is here. What it subscribed to elsewhere is subscribed to here with
    /// its next call.
    pub fn settle_home(&self, at: usize, ask: &UpstreamRequest) {
        let Some(key) = ask.session else { return };
        let before = self.homes.lock().insert(key, at);
        if before == Some(at) {
            return;
        }
        let others = self.replicas.iter().enumerate().filter(|(other, _)| *other != at);
        let left: BTreeSet<String> =
            others.flat_map(|(_, replica)| replica.take_subscribed(key)).collect();
        if let Some(replica) = self.replicas.get(at).filter(|_| !left.is_empty()) {
            replica.subscribes_anew(key, left);
        }
    }

    pub async fn probe(&self, at: usize, health: Health) {
        let Some(replica) = self.replicas.get(at) else { return };
        loop {
            // Not all at once.
            tokio::time::sleep(health.every.mul_f64(rand::random_range(0.9..=1.1))).await;
            if let Some(well) = replica.probe(health.timeout).await {
                self.standing.probed(at, well);
            }
        }
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").field("name", &self.name()).finish_non_exhaustive()
    }
}
