//! One server of an upstream: kept open, and asked on whichever connection is fit.

pub mod backoff;
pub mod era;
pub mod inbox;
pub mod log_level;
pub mod open;
pub mod openings;
pub mod status;
pub mod subscriptions;
pub mod supervise;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt as _, future::join_all};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch as phases},
    time::Instant,
};

use crate::{
    call::{SessionKey, UpstreamRequest, tasks::Tasks},
    config::{self, HttpTransport, Start, Transport},
    credential::Credential,
    mcp::{message::Body, method::Method, raw::Raw, version::Era},
    net::Net,
    resilience::Attempt,
    upstream::{
        cluster::{endpoints::EndpointHealth, leader::Leader},
        connection::{
            attention::Lingering,
            callers::CallerSessions,
            open::{Connection, Peer},
            pool::{Leased, Pool},
            select::{Connected, Scope},
            session::SessionConnection,
        },
        exchange::{Exchange, error::SendError},
        proof::Clearance,
        replica::{
            backoff::Underway,
            era::{Findings, Knowledge},
            inbox::Inbox,
            status::{Status, Tally},
            subscriptions::Subscriptions,
        },
        settings::{Context, Settings},
        transport::read_budget::ReadShare,
    },
};

/// How often connections that nobody uses are looked for.
const SWEEP: Duration = Duration::from_secs(15);
pub const CLOSING: &str = "the gate closes it";

/// One server: an upstream itself, or one of several that are the same.
pub struct Replica {
    pub settings: Settings,
    pub context: Arc<Context>,
    pub phase: phases::Sender<Phase>,
    pub own: Mutex<HashMap<SessionKey, Arc<SessionConnection>>>,
    pub pool: Arc<Pool>,
    pub callers: CallerSessions,
    pub credential: Option<Credential>,
    /// How it is dialled over HTTP, or what is wrong with that.
    pub net: Result<Net, String>,
    /// What era it speaks, as far as that is known.
    pub knowledge: Knowledge,
    /// Over HTTP, HTTP+SSE is spoken: by configuration, or as found last time.
    pub sse: AtomicBool,
    /// It is modern and refused `initialize`.
    pub refuses_legacy: AtomicBool,
    pub common: Common,
    /// A call wants it that is not open.
    pub wake: Notify,
    /// It is not opened again before this.
    pub soonest: Mutex<Instant>,
    pub tally: Tally,
    /// Streams of sessions' own connections that nobody is known to need.
    pub lingering: Arc<Lingering>,
    /// One clone for each exchange under way.
    pub underway: Arc<Underway>,
    pub retired: AtomicBool,
    /// Among its like.
    pub place: usize,
    pub tasks: Tasks,
}

/// What the replicas of one upstream share.
#[derive(Debug, Clone)]
pub struct Common {
    pub standing: Arc<EndpointHealth>,
    pub wanted: Arc<Subscriptions>,
    /// What sessions without a connection of their own want to hear of, by its rank.
    pub levels: Arc<Mutex<HashMap<SessionKey, usize>>>,
    pub inbox: Arc<Inbox>,
    pub reading: Arc<ReadShare>,
    pub lead: Arc<Leader>,
    pub findings: Arc<Findings>,
    /// Clients were here that can be asked in mid-call.
    pub asked: Arc<phases::Sender<bool>>,
}

/// The connection that all share.
#[derive(Debug, Clone)]
pub enum Phase {
    Idle,
    Opening,
    Ready(Connection),
    Failed(String),
}

impl Replica {
    pub fn new(
        settings: Settings,
        context: &Arc<Context>,
        place: usize,
        common: Common,
    ) -> Arc<Self> {
        let pooled = match settings.config.transport {
            Transport::Http { .. } => settings.config.sessions_max,
            // One place is the shared process's own.
            Transport::Stdio { .. } | Transport::Builtin { .. } => {
                settings.config.processes_max.saturating_sub(1)
            }
        };
        let tasks = context.tasks.child();
        let net = match &settings.config.transport {
            Transport::Http { dial, .. } => context.net.of_upstream(dial, &config::environment),
            Transport::Stdio { .. } | Transport::Builtin { .. } => Ok(context.net.clone()),
        };
        Arc::new(Self {
            net,
            context: Arc::clone(context),
            phase: phases::Sender::new(Phase::Idle),
            own: Mutex::default(),
            pool: Pool::new(pooled, tasks.clone()),
            callers: CallerSessions::new(
                settings.config.caller_sessions_max,
                &context.counters,
                &tasks,
            ),
            credential: Credential::of(&settings.config, &context.net, &context.counters, &tasks),
            knowledge: Knowledge::new(&settings.config, &common.findings),
            sse: AtomicBool::new(settings.config.transport.over_http() == Some(HttpTransport::Sse)),
            refuses_legacy: AtomicBool::new(settings.config.era == Some(Era::Modern)),
            common,
            place,
            wake: Notify::new(),
            soonest: Mutex::new(Instant::now()),
            tally: Tally::default(),
            lingering: Arc::default(),
            underway: Arc::default(),
            retired: AtomicBool::new(false),
            tasks,
            settings,
        })
    }

    /// Begins to open it, or, where it is lazy, to wait for its first call. One of which nothing is
    /// `listed` is opened anyway: nobody could call it.
    pub fn start(self: &Arc<Self>, listed: bool) {
        let (supervised, swept) = (Arc::clone(self), Arc::clone(self));
        let waits = listed && self.settings.config.start == Start::Lazy;
        let first = (!waits).then(|| self.context.openings.first());
        self.tasks.spawn("upstream: supervise", async move { supervised.supervise(first).await });
        self.tasks.spawn("upstream: sweep", async move { swept.sweep().await });
    }

    /// Takes over what clients wanted of the one that it replaces: subscriptions and log levels.
    pub fn inherit(&self, predecessor: &Self) {
        // Its section was edited: what made its predecessor die of the probe may be mended.
        self.knowledge.distrust();
        self.common.wanted.inherit(&predecessor.common.wanted);
        self.common.levels.lock().extend(predecessor.common.levels.lock().iter());
        let theirs = predecessor.own.lock();
        let successors = theirs.iter().filter(|(_, own)| !own.subscribed.lock().is_empty());
        let successors = successors.map(|(key, own)| (*key, Arc::new(own.successor())));
        self.own.lock().extend(successors);
    }

    pub fn name(&self) -> &str {
        &self.settings.config.name
    }

    /// Sends a client's request, which is permitted, let in, and let through by the breakers. What
    /// becomes of the attempt is known with the exchange's end. Nothing was sent where it fails.
    pub async fn send(
        &self,
        ask: &UpstreamRequest,
        timeout: config::Timeout,
        clearance: &Clearance,
        attempt: Attempt,
    ) -> Result<Exchange, SendError> {
        self.tally.call();
        self.check_caller(ask)?;
        // From here on, so that a retirement waits for those that still look for a connection.
        let underway = Arc::clone(&self.underway);
        let patience = self.settings.config.timeout.open;
        let found = tokio::time::timeout(patience, self.connection_for(ask)).await;
        let Connected { connection, mut leased, hold } = match found {
            Ok(Ok(connected)) => connected,
            // It is being opened again, and no call is waited for: that is breaker enough.
            Ok(Err(error)) => return Err(self.failed(error)),
            Err(_) => return Err(self.failed(self.unready(patience, attempt))),
        };
        // Now that nothing else stands between the request and the server: what is not sent counts
        // in no limit, and a limit that refuses gives the breaker its probe back.
        let admission = clearance.admit(ask).await.inspect_err(|_| {
            // The connection was not used, and is as good as before.
            leased.iter_mut().for_each(Leased::settle);
        })?;
        match connection.call(ask, leased).await {
            Ok(exchange) => {
                let exchange = exchange.keeping(hold).counted(underway).within(timeout);
                Ok(exchange.cleared(admission, attempt))
            }
            Err(error) => {
                if error.is_unsent() {
                    admission.give_back();
                }
                Err(self.failed(error))
            }
        }
    }

    /// Asks for the gateway's own sake, on the shared connection; once more where its session had
    /// gone.
    pub async fn ask(&self, method: Method, params: &Raw) -> Result<Body, SendError> {
        match self.ask_shared(method, params).boxed().await {
            Err(SendError::SessionGone) => self.ask_shared(method, params).boxed().await,
            answer => answer,
        }
    }

    async fn ask_shared(&self, method: Method, params: &Raw) -> Result<Body, SendError> {
        let connection = self.shared().await?;
        connection.ask(method, params, None).await?.answer().await
    }

    /// Whether it is on its way out: another one of its name may have taken its place.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// Notes a failure that was seen by whoever read the exchange.
    pub fn failed(&self, error: SendError) -> SendError {
        self.tally.failed(&error.to_string());
        error
    }

    /// What was agreed with it; none before it was open once.
    pub fn peer(&self) -> Option<Arc<Peer>> {
        match &*self.phase.borrow() {
            Phase::Ready(connection) => Some(Arc::clone(&connection.peer)),
            Phase::Idle | Phase::Opening | Phase::Failed(_) => None,
        }
    }

    /// Waits until the first opening has succeeded or failed; a lazy one that nobody called counts.
    pub async fn settled(&self) {
        if self.settings.config.start == Start::Lazy {
            return;
        }
        let mut phase = self.phase.subscribe();
        let settled =
            phase.wait_for(|phase| matches!(phase, Phase::Ready(_) | Phase::Failed(_))).await;
        drop(settled);
    }

    /// Subscribes for a legacy client, or ends that: on its own connection where it has one, else
    /// on the shared one.
    pub async fn subscribe(&self, ask: &UpstreamRequest, uri: &str) -> Result<Body, SendError> {
        let wants = ask.method == Method::Subscribe;
        self.check_caller(ask)?;
        if let (Scope::Session(key), _) = self.scope(ask).await? {
            let body = match self.ask_own(key, ask).boxed().await {
                // It was not processed: once more, in another one.
                Err(SendError::SessionGone) => self.ask_own(key, ask).boxed().await,
                asked => asked,
            };
            let body = body?;
            if let Some(own) = self.own.lock().get(&key) {
                own.note(uri, wants);
            }
            return Ok(body);
        }
        if wants {
            self.want(uri).await?;
        } else {
            self.unwant(uri);
        }
        Ok(Body::Result(Raw::object()))
    }

    /// Asks on a session's own connection as the gate's own: what the server logs meanwhile is for
    /// the session's stream.
    async fn ask_own(&self, key: SessionKey, ask: &UpstreamRequest) -> Result<Body, SendError> {
        let found = Box::pin(self.own(key, ask)).await;
        let (connection, _attending) =
            found.map_err(|error| SendError::Unavailable(error.to_string()))?;
        connection.ask(ask.method, &ask.params, None).await?.answer().await
    }

    /// Whether a session has a connection of its own here.
    pub fn has_own(&self, key: SessionKey) -> bool {
        self.own.lock().get(&key).is_some_and(|own| own.connection.initialized())
    }

    /// Hears of `uri` on the shared connection from now on. Dropped or failed, it changes nothing.
    pub async fn want(&self, uri: &str) -> Result<(), SendError> {
        self.shared().await?;
        self.common.wanted.add(uri).await
    }

    /// Undoes one `want`.
    pub fn unwant(&self, uri: &str) {
        self.common.wanted.remove(uri);
    }

    /// Passes on what a legacy client says outside of calls, to its own connection if it has one.
    pub async fn notify(&self, key: SessionKey, method: Method, params: &Raw) {
        let own = self.own.lock().get(&key).map(Arc::clone);
        let Some(connection) = own.and_then(|own| own.connection.get().cloned()) else { return };
        if let Err(error) = connection.notify(method, params).await {
            tracing::debug!(upstream = self.name(), %error, "a notification was not taken");
        }
    }

    /// The client's session is over: its own connection ends, and what it subscribed to there,
    /// which is returned.
    pub async fn end_session(&self, key: SessionKey) -> BTreeSet<String> {
        self.common.levels.lock().remove(&key);
        let Some(own) = self.own.lock().remove(&key) else { return BTreeSet::new() };
        let subscribed = std::mem::take(&mut *own.subscribed.lock());
        own.close().await;
        subscribed
    }

    /// Waits for the calls under way, `patience` at most, then ends every connection.
    pub async fn retire(&self, patience: Duration) {
        self.retired.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + patience;
        while 1 < Arc::strong_count(&self.underway) && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let own: Vec<_> = self.own.lock().drain().map(|(_, own)| own).collect();
        let shared = match self.phase.send_replace(Phase::Failed(CLOSING.to_owned())) {
            Phase::Ready(connection) => Some(connection),
            Phase::Idle | Phase::Opening | Phase::Failed(_) => None,
        };
        let idle = self.pool.sweep(Duration::ZERO);
        // First, so that nothing is opened again.
        self.tasks.stop();
        let shared = shared.iter().map(|shared| shared.close(CLOSING));
        let own = own.into_iter().map(SessionConnection::close);
        let idle = idle.into_iter().map(|idle| idle.close(CLOSING));
        let callers = self.callers.close(CLOSING);
        tokio::join!(join_all(shared), join_all(own), join_all(idle), callers);
    }

    pub fn status(&self) -> Status {
        self.tally.status(&self.phase.borrow(), &self.common.inbox, self.processes())
    }

    /// The key that bounds its leased connections.
    pub fn places(&self) -> &'static str {
        match self.settings.config.transport {
            Transport::Http { .. } => "sessions_max",
            Transport::Stdio { .. } | Transport::Builtin { .. } => "processes_max",
        }
    }

    fn processes(&self) -> usize {
        if !matches!(self.settings.config.transport, Transport::Stdio { .. }) {
            return 0;
        }
        let shared = usize::from(matches!(*self.phase.borrow(), Phase::Ready(_)));
        shared + self.pool.open_count()
    }

    async fn sweep(self: Arc<Self>) {
        let idle = self.settings.config.idle;
        let callers_idle = self.settings.config.caller_sessions_idle;
        loop {
            tokio::time::sleep(SWEEP.min(idle).min(callers_idle)).await;
            if let Some(since) = Instant::now().checked_sub(callers_idle) {
                self.callers.sweep(since).await;
            }
            let gone = self.pool.sweep(idle);
            join_all(gone.into_iter().map(|gone| gone.close("nobody used it"))).await;
            let gone: Vec<_> = self.own.lock().extract_if(|_, own| own.is_stale(idle)).collect();
            join_all(gone.into_iter().map(|(_, own)| own.close())).await;
        }
    }
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica").field("name", &self.name()).finish_non_exhaustive()
    }
}
