//! The connection that all share: opened, held, and opened again.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    call::{Client, SessionKey},
    config::{Start, Transport},
    kit,
    mcp::version::Version,
};

use super::{
    CLOSING, Phase, SendError, Upstream,
    backoff::Backoff,
    child,
    http::{Endpoint, Http},
    lines::Lines,
    open::{Connection, Link, OpenError},
    sign::Signs,
};

/// What fits between a built-in server and the gate.
const BUILTIN_BYTES: usize = 64 << 10;

impl Upstream {
    /// The connection that all share, as soon as it is open; an error once it is known that it is
    /// not.
    pub(super) async fn shared(&self) -> Result<Connection, SendError> {
        if let Phase::Ready(connection) = &*self.phase.borrow()
            && !connection.is_closed()
        {
            return Ok(connection.clone());
        }
        self.wake.notify_one();
        let mut phase = self.phase.subscribe();
        let known = |phase: &Phase| match phase {
            Phase::Ready(connection) => !connection.is_closed(),
            Phase::Failed(_) => true,
            Phase::Idle | Phase::Opening => false,
        };
        let phase = phase.wait_for(known).await.map(|phase| phase.clone());
        match phase {
            Ok(Phase::Ready(connection)) => Ok(connection),
            Ok(Phase::Failed(why)) => Err(SendError::Unavailable(why)),
            Ok(Phase::Idle | Phase::Opening) | Err(_) => {
                Err(SendError::Unavailable(CLOSING.to_owned()))
            }
        }
    }

    /// A connection with nothing agreed yet.
    pub(super) async fn link(
        &self,
        session: Option<SessionKey>,
        exclusive: bool,
    ) -> Result<Link, OpenError> {
        let unavailable = |why: String| OpenError::Send(SendError::Unavailable(why));
        let counters = Arc::clone(&self.context.counters);
        let signs =
            Signs::new(Arc::clone(&self.inbox), session, counters, self.settings.answer_bytes_max);
        // A server that lists more for the one client of a leased connection has not changed for
        // the others.
        let signs = if exclusive { signs.without_changes() } else { signs };
        let config = &self.settings.config;
        match &config.transport {
            Transport::Http { url, headers, h2c } => {
                let endpoint = Endpoint::new(self.context.net.clone(), url, headers, *h2c);
                let endpoint = endpoint.map_err(unavailable)?;
                Ok(Link::Http(Http::new(Arc::new(endpoint), exclusive, signs, &self.tasks)))
            }
            Transport::Stdio { command, args, env, cwd } => {
                let settings = child::Settings {
                    name: config.name.clone(),
                    command: command.clone(),
                    args: args.clone(),
                    env: env.clone(),
                    cwd: cwd.clone(),
                };
                let child = self.context.spawner.spawn(&settings).await;
                let child = child.map_err(|error| unavailable(error.to_string()))?;
                let exclusive = exclusive || session.is_some();
                let lines = Lines::open(child.stdout, child.stdin, exclusive, signs, &self.tasks);
                Ok(Link::Lines(lines, Arc::new(Mutex::new(Some(child.process)))))
            }
            Transport::Builtin { kit: _ } => {
                let (ours, theirs) = tokio::io::duplex(BUILTIN_BYTES);
                let serving = kit::gate::serve(theirs, Arc::clone(&self.context.look));
                self.tasks.spawn("upstream: built-in server", serving);
                let (reader, writer) = tokio::io::split(ours);
                let lines = Lines::open(reader, writer, false, signs, &self.tasks);
                Ok(Link::Lines(lines, Arc::default()))
            }
        }
    }

    /// Keeps the shared connection open: exponential delays, from new after each that held.
    pub(super) async fn supervise(self: Arc<Self>, listed: bool) {
        if let Some(problem) = &self.settings.config.problem {
            self.tally.failed(problem);
            self.phase.send_replace(Phase::Failed(problem.clone()));
            return;
        }
        if listed && self.settings.config.start == Start::Lazy {
            self.wake.notified().await;
        }
        let mut backoff = Backoff::new(self.settings.config.restart);
        loop {
            self.phase.send_replace(Phase::Opening);
            let (why, held) = match self.open_shared().await {
                Ok(connection) => {
                    let opened = Instant::now();
                    (self.hold(connection).await, Some(opened.elapsed()))
                }
                Err(error) => {
                    *self.era.lock() = None;
                    (error.to_string(), None)
                }
            };
            if self.tally.lost(&why) {
                tracing::warn!(upstream = self.name(), error = %why, "not open");
            }
            let delay = backoff.lost(held);
            if !delay.is_zero() {
                self.phase.send_replace(Phase::Failed(why));
            }
            tokio::time::sleep(jittered(delay)).await;
        }
    }

    async fn open_shared(&self) -> Result<Connection, OpenError> {
        let timeout = self.settings.config.timeout;
        let known = *self.era.lock();
        let client = Client::gateway(Version::LEGACY_LATEST);
        let link = self.link(None, false).await?;
        let opening = Connection::open(link.clone(), &client, known, timeout, true);
        let opened = match tokio::time::timeout(timeout.open, opening).await {
            Ok(opened) => opened,
            Err(_) => {
                let why = format!("it did not answer within {:?} (`timeout.open`)", timeout.open);
                Err(OpenError::Send(SendError::Unavailable(why)))
            }
        };
        match opened {
            Ok(connection) => {
                *self.era.lock() = Some(connection.peer.version.era());
                // It may be another server by now.
                self.refuses_legacy.store(false, Ordering::Relaxed);
                Ok(connection)
            }
            Err(error) => {
                let why = link.end(&error.to_string()).await;
                Err(OpenError::Send(SendError::Unavailable(why)))
            }
        }
    }

    /// Serves the connection until it is lost, and says why that was.
    async fn hold(&self, connection: Connection) -> String {
        let peer = &connection.peer;
        tracing::info!(upstream = self.name(), version = %peer.version, "open");
        self.wanted.forgotten();
        self.phase.send_replace(Phase::Ready(connection.clone()));
        self.inbox.opened();
        let counters = Arc::clone(&self.context.counters);
        let signs =
            Signs::new(Arc::clone(&self.inbox), None, counters, self.settings.answer_bytes_max);
        let watching = async {
            if let Err(error) = self.tell_lowest(&connection).await {
                tracing::debug!(upstream = self.name(), %error, "a log level was not taken");
            }
            self.wanted.keep(&connection, &signs).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            // What was wanted is told to the next connection anew.
            () = watching => String::new(),
            why = connection.closed() => why,
        }
    }
}

/// Between half of it and all of it, so that upstreams lost together do not come back together.
fn jittered(delay: Duration) -> Duration {
    delay.mul_f64(rand::random_range(0.5..=1.0))
}
