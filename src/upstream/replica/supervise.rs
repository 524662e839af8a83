//! The connection that all share: opened, held, and opened again.

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    builtin,
    call::Token,
    config::{Start, Transport},
    mcp::{method::Method, raw::Raw, version::Era},
    process,
    telemetry::{Counter, throttle},
    upstream::{
        cluster::leader::LeaderGuard,
        connection::{
            channel::Channel,
            error::{OpenError, unavailable},
            open::Connection,
            owner::ConnectionOwner,
        },
        exchange::error::SendError,
        replica::{
            CLOSING, Replica,
            backoff::{Backoff, Life},
            inbox::{self, EventSink},
            openings::First,
            phase::Phase,
            subscriptions::Subscriptions,
        },
        transport::{
            http::{Endpoint, Http, events},
            multiplexed::{self, Multiplexer},
        },
    },
};

/// A session that replaces one which the server forgot is no reason to read lists more often.
const RELIST_PAUSE: Duration = Duration::from_secs(30);
/// Bytes that fit between a built-in server and the gate.
const BUILTIN_BYTES: usize = 64 << 10;
/// A call that finds its upstream down has it opened again, but no sooner than this after the last
/// time: calls by the thousand do not make more processes than one in this time.
const WAKE_PAUSE: Duration = Duration::from_millis(500);
/// The pause's part of the delays of restarts where these are longer, and its longest value.
const WAKE_SHARE: u32 = 10;
const WAKE_PAUSE_MAX: Duration = Duration::from_secs(3);
/// How long such a call waits for what comes of that.
const WAKE_PATIENCE: Duration = Duration::from_secs(5);

impl Replica {
    /// The connection that all share, as soon as it is open; an error once it is known that it is
    /// not.
    ///
    /// # Errors
    /// Where it is not open, and could not be opened just now.
    pub async fn shared(&self) -> Result<Connection, SendError> {
        if let Phase::Ready(connection) = &*self.phase.borrow()
            && !connection.is_closed()
        {
            return Ok(connection.clone());
        }
        let failed = match &*self.phase.borrow() {
            Phase::Failed(error) => Some(error.clone()),
            Phase::Idle | Phase::Opening | Phase::Ready(_) => None,
        };
        if let Some(error) = failed {
            // Boxed: rare, and large.
            return Box::pin(self.reopened(error)).await;
        }
        if matches!(*self.phase.borrow(), Phase::Idle) {
            self.wake.notify_one();
        }
        let mut phase = self.phase.subscribe();
        let known = |phase: &Phase| match phase {
            Phase::Ready(connection) => !connection.is_closed(),
            Phase::Failed(_) => true,
            Phase::Idle | Phase::Opening => false,
        };
        let phase = phase.wait_for(known).await.map(|phase| phase.clone());
        match phase {
            Ok(Phase::Ready(connection)) => Ok(connection),
            Ok(Phase::Failed(error)) => Err(error),
            Ok(Phase::Idle | Phase::Opening) | Err(_) => {
                Err(SendError::Unavailable(CLOSING.to_owned()))
            }
        }
    }

    /// A connection with nothing agreed yet.
    ///
    /// # Errors
    /// Where the program cannot be started, or the address cannot be dialled.
    pub async fn link(&self, owner: ConnectionOwner<'_>) -> Result<Channel, OpenError> {
        let config = &self.settings.config;
        match &config.transport {
            Transport::Http { .. } if self.speaks_sse() => {
                self.events(owner, config.timeout.open).await
            }
            Transport::Http { .. } => {
                let endpoint = Arc::new(self.endpoint(owner.token())?);
                let sink = self.sink(owner);
                Ok(Channel::Http(Http::new(endpoint, owner.is_call(), sink, &self.tasks)))
            }
            Transport::Stdio { command, args, env, cwd } => {
                let settings = process::Settings {
                    name: config.name.to_string(),
                    command: command.clone(),
                    args: args.clone(),
                    env: env.clone(),
                    cwd: cwd.clone(),
                    inherit: config.inherit.clone(),
                    memory: config.memory,
                };
                // Boxed: rare, and large.
                let child = Box::pin(self.context.spawner.spawn(&settings)).await;
                let child = child.map_err(|error| unspawned(&error))?;
                let sink = self.sink(owner);
                let exclusive = owner.is_one_client();
                let input = child.stdin;
                let output = child.stdout;
                let pipe = config.pipe;
                let lines = multiplexed::open(output, input, exclusive, sink, &self.tasks, pipe);
                if config.memory.is_some() {
                    self.tell_of_excess(&lines, child.process.excess());
                }
                Ok(Channel::Multiplexer(lines, Arc::new(Mutex::new(Some(child.process)))))
            }
            Transport::Builtin { server: _ } => {
                let (ours, theirs) = tokio::io::duplex(BUILTIN_BYTES);
                let serving = builtin::gateway::serve(theirs, Arc::clone(&self.context.look));
                self.tasks.spawn("upstream: built-in server", serving);
                let (reader, writer) = tokio::io::split(ours);
                let sink = self.sink(owner);
                let lines =
                    multiplexed::open(reader, writer, false, sink, &self.tasks, config.pipe);
                Ok(Channel::Multiplexer(lines, Arc::default()))
            }
        }
    }

    /// Ends the connection of a process with the reason, where the process takes too much memory.
    fn tell_of_excess(
        &self,
        lines: &Multiplexer,
        excess: impl Future<Output = String> + Send + 'static,
    ) {
        let lines = lines.clone();
        self.tasks.spawn("upstream: memory", async move {
            tokio::select! {
                // Nothing is left to be told once it has ended.
                why = excess => lines.close(&why),
                _ = lines.closed() => (),
            }
        });
    }

    /// A connection over HTTP+SSE.
    ///
    /// # Errors
    /// Where the server speaks no HTTP+SSE, or is not reached within `patience`.
    pub async fn events(
        &self,
        owner: ConnectionOwner<'_>,
        patience: Duration,
    ) -> Result<Channel, OpenError> {
        let endpoint = self.endpoint(owner.token())?;
        let exclusive = owner.is_one_client();
        let opened = events::open(endpoint, exclusive, self.sink(owner), &self.tasks, patience);
        Ok(Channel::Multiplexer(opened.await?, Arc::default()))
    }

    /// `whose` is the caller that it is for, where it is one's alone.
    fn endpoint(&self, whose: Option<&Token>) -> Result<Endpoint, OpenError> {
        let net = self.net.clone().map_err(unavailable)?;
        let credential = self.credential.clone();
        let transport = &self.settings.config.transport;
        // A credential that says nothing of the caller is the same for all.
        let whose = whose.filter(|_| self.is_callers()).cloned();
        Endpoint::new(net, transport, credential, whose).map_err(unavailable)
    }

    fn sink(&self, owner: ConnectionOwner<'_>) -> EventSink {
        let bounds = inbox::Bounds {
            upstream: self.name().to_owned(),
            answer_bytes_max: self.settings.answer_bytes_max,
            noise_bytes_max: self.settings.config.pipe.noise_bytes_max,
            reading: Arc::clone(&self.common.reading),
        };
        let counters = Arc::clone(&self.context.counters);
        EventSink::new(Arc::clone(&self.common.inbox), owner.audience(), counters, bounds)
    }

    /// Begins to open the shared connection, or, where the upstream is lazy and `listed`, to wait
    /// for its first call; and to close connections that nobody uses.
    pub fn run(self: &Arc<Self>, listed: bool) {
        let waits = listed && self.settings.config.start == Start::Lazy;
        let first = (!waits).then(|| self.context.openings.first());
        let supervised = Arc::clone(self);
        self.tasks.spawn("upstream: supervise", async move { supervised.supervise(first).await });
        self.tasks.spawn("upstream: sweep", Arc::clone(self).sweep());
    }

    /// Keeps the shared connection open: exponential delays, from new after each that held or
    /// served a call. `first` is its first opening, where the gate waits for that.
    async fn supervise(self: Arc<Self>, mut first: Option<First>) {
        if let Some(problem) = &self.settings.config.problem {
            self.tally.failed(problem);
            self.tally.clock.lost(false);
            self.warn_of_loss(problem, None);
            self.phase.send_replace(Phase::Failed(SendError::Unavailable(problem.clone())));
            return;
        }
        if first.is_none() {
            self.wake.notified().await;
        }
        let mut backoff = Backoff::new(self.settings.config.restart);
        // Its lists are read with the first connection at once.
        let mut relist_at = Instant::now();
        loop {
            self.tally.clock.tries();
            self.phase.send_replace(Phase::Opening);
            let opened = Box::pin(self.open_shared()).await;
            drop(first.take());
            let mut is_of_machine = false;
            let (why, life, renews) = match opened {
                Ok(connection) => {
                    let (why, life) = self.live(&connection, &mut relist_at).await;
                    let renews = self.renews(&connection, &mut backoff, life).await;
                    (why, Some(life), renews)
                }
                Err(error) => {
                    is_of_machine = error.is_unready();
                    (error.to_string(), None, false)
                }
            };
            if renews {
                continue;
            }
            relist_at = Instant::now();
            // An upstream that is retired was closed on purpose.
            let last_words = self.tally.take_last_words().or_else(|| self.noise_of(life));
            let is_news = self.tally.lost(&why, last_words.clone());
            if is_news && !self.common.is_retired() {
                self.warn_of_loss(&why, last_words.as_deref());
            }
            let delay = if is_of_machine { backoff.first() } else { backoff.lost(life) };
            let delay = jittered(delay);
            if !delay.is_zero() {
                // Who called before knows of it by the phase.
                self.wake.notified().now_or_never();
                let soonest = (delay / WAKE_SHARE).clamp(WAKE_PAUSE, WAKE_PAUSE_MAX).min(delay);
                *self.soonest.lock() = Instant::now() + soonest;
                self.tally.clock.waits(delay);
                self.phase.send_replace(Phase::Failed(unopened(why, is_of_machine)));
                self.pause(delay, soonest).await;
            }
        }
    }

    /// Returns what a server sent in place of an answer that would have opened it.
    fn noise_of(&self, life: Option<Life>) -> Option<String> {
        let noise = self.common.inbox.last_noise().filter(|_| life.is_none());
        noise.map(|noise| noise.text)
    }

    fn warn_of_loss(&self, why: &str, last_words: Option<&str>) {
        throttle::line(("not open", self.name(), self.place), |more| {
            tracing::warn!(upstream = self.name(), error = %why, last_words, more, "not open");
        });
    }

    /// Serves the connection until it is lost; says why that was, and how it had fared.
    async fn live(&self, connection: &Connection, relist_at: &mut Instant) -> (String, Life) {
        let opened = Instant::now();
        self.underway.take_answered();
        let why = Box::pin(self.serve_connection(connection.clone(), relist_at)).await;
        let life = Life { held: opened.elapsed(), served: self.underway.take_answered() };
        (why, life)
    }

    /// Whether another session is to be opened in place of one that the server forgot: at once
    /// where anything was answered well in that. Calls wait meanwhile, since the server is well.
    async fn renews(&self, lost: &Connection, backoff: &mut Backoff, life: Life) -> bool {
        let Some(proven) = lost.lost_session() else { return false };
        self.context.counters.add(Counter::UpstreamSessionsRenewed);
        tracing::debug!(upstream = self.name(), "another session is opened");
        if !proven {
            self.phase.send_replace(Phase::Opening);
            tokio::time::sleep(jittered(backoff.lost(Some(life)))).await;
        }
        true
    }

    /// Waits until it is to be opened again: after `delay`, or `soonest` where it is called.
    async fn pause(&self, delay: Duration, soonest: Duration) {
        let called = async {
            tokio::time::sleep(soonest).await;
            self.wake.notified().await;
        };
        tokio::select! {
            // A call that came at the same moment finds it opening.
            () = tokio::time::sleep(delay) => (),
            () = called => (),
        }
    }

    /// Opens the connection again for a call that found it failed with `error`, unless that was
    /// tried just now.
    async fn reopened(&self, error: SendError) -> Result<Connection, SendError> {
        let mut phase = self.phase.subscribe();
        if let Phase::Ready(connection) = &*phase.borrow_and_update() {
            return Ok(connection.clone());
        }
        self.wake.notify_one();
        let is_tried = Instant::now() < *self.soonest.lock();
        if is_tried || self.common.is_retired() || self.settings.config.problem.is_some() {
            return Err(error);
        }
        let tried = async {
            while phase.changed().await.is_ok() {
                match &*phase.borrow_and_update() {
                    Phase::Ready(connection) => return Ok(connection.clone()),
                    Phase::Failed(error) => return Err(error.clone()),
                    Phase::Idle | Phase::Opening => (),
                }
            }
            Err(SendError::Unavailable(CLOSING.to_owned()))
        };
        // The upstream goes on being opened for those who call later.
        tokio::time::timeout(WAKE_PATIENCE, tried).await.unwrap_or(Err(error))
    }

    /// Serves the connection until it is lost, and says why that was. Its lists are read anew no
    /// earlier than at `relist_at`, which is put off with each reading: sessions may be short.
    async fn serve_connection(&self, connection: Connection, relist_at: &mut Instant) -> String {
        let peer = &connection.peer;
        let kind = self.transport_kind().word();
        let version = peer.version;
        tracing::info!(upstream = self.name(), kind, %version, "open");
        let leads = self.common.lead.try_take(self.place);
        if leads.is_some() {
            self.common.wanted.forgotten();
        }
        self.common.standing.opened(self.place);
        self.tally.opened();
        self.phase.send_replace(Phase::Ready(connection.clone()));
        let sink = self.sink(ConnectionOwner::Everyone);
        let watching = async {
            if let Err(error) = self.tell_lowest(&connection).await {
                tracing::debug!(upstream = self.name(), %error, "a log level was not taken");
            }
            let _leads = match leads {
                Some(leads) => leads,
                None => Box::pin(self.stand_by(&connection, &sink)).await,
            };
            let relisting = async {
                tokio::time::sleep_until(*relist_at).await;
                self.common.inbox.opened();
                *relist_at = Instant::now() + RELIST_PAUSE;
            };
            tokio::join!(relisting, self.common.wanted.keep(&connection, &sink));
            std::future::pending::<()>().await;
        };
        let ended = tokio::select! {
            // Subscriptions are told to the next connection anew.
            () = watching => return String::new(),
            ended = connection.closed() => ended,
        };
        self.tally.keep_last_words(ended.last_words);
        ended.why
    }
}

impl Replica {
    /// Waits until the replica that leads is lost; until then only changes of lists are heard here.
    async fn stand_by(&self, connection: &Connection, sink: &EventSink) -> LeaderGuard {
        let none = Subscriptions::new(self.settings.config.timeout.open);
        let listening = async {
            none.keep(connection, sink).await;
            std::future::pending::<Infallible>().await
        };
        let leads = tokio::select! {
            // Nobody asked to hear what is lost here.
            leads = self.common.lead.take(self.place) => leads,
            never = listening => match never {},
        };
        self.common.wanted.forgotten();
        leads
    }

    /// Whether it answers; none where it is not open.
    pub async fn answers_probe(&self, patience: Duration) -> Option<bool> {
        let Phase::Ready(connection) = self.phase.borrow().clone() else { return None };
        let method = match connection.peer.version.era() {
            Era::Modern => Method::Discover,
            Era::Legacy => Method::Ping,
        };
        let asked = async { connection.ask(method, &Raw::object(), None).await?.answer().await };
        let answered = tokio::time::timeout(patience, asked).await;
        Some(answered.is_ok_and(|answer| answer.err().is_none_or(|error| error.cause().is_none())))
    }
}

/// Tells calls why the connection is not open; a machine without room for a process is no failure
/// of the server.
fn unopened(why: String, is_of_machine: bool) -> SendError {
    if is_of_machine { SendError::Unready(why) } else { SendError::Unavailable(why) }
}

/// Why there is no process; that the machine has no room for one is not the server's fault.
fn unspawned(error: &process::SpawnError) -> OpenError {
    if !error.is_of_machine() {
        return unavailable(error.to_string());
    }
    OpenError::Send(SendError::Unready(format!("this gateway has no room for it: {error}")))
}

/// Returns between half of a delay and all of it, so that upstreams lost together do not come back
/// together.
fn jittered(delay: Duration) -> Duration {
    delay.mul_f64(rand::random_range(0.5..=1.0))
}
