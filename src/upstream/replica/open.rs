//! Opens the connection that all share: in its turn, by the handshake that fits what is known, and
//! once more where the probe of the era itself was what ended it.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::time::Instant;

use crate::{
    call::{Client, clock},
    config::{HttpTransport, Transport},
    mcp::version::{Era, Version},
    telemetry::Counter,
    upstream::{
        connection::{
            channel::{Channel, EndReason},
            error::{OpenError, unavailable},
            handshake::PROBE_TIMEOUT,
            open::{Connection, Opened},
            owner::ConnectionOwner,
        },
        exchange::error::SendError,
        replica::{
            Replica,
            era::{Handshake, Manner},
            openings::{Purpose, Turn},
        },
    },
};

/// Why an opening failed, and what that says of the era.
struct Failure {
    error: OpenError,
    manner: Manner,
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        Self { error, manner: Manner::Otherwise }
    }
}

impl Replica {
    /// Waits until it may be opened; what is no process takes no turn: it costs next to nothing.
    pub async fn turn(&self, purpose: Purpose) -> Turn {
        match self.settings.config.transport {
            Transport::Stdio { .. } => self.context.openings.turn(self.name(), purpose).await,
            Transport::Http { .. } | Transport::Builtin { .. } => Turn::none(),
        }
    }

    /// Opens the connection that all share. Its time begins when it is its turn.
    ///
    /// # Errors
    /// Where the server is not reached, or nothing is agreed with it in time.
    pub async fn open_shared(&self) -> Result<Connection, OpenError> {
        let turn = self.turn(Purpose::Upstream).await;
        let connection = turn.spend(Box::pin(self.open_now())).await?;
        // The server may be another one by now.
        let modern = self.knowledge.fixed() == Some(Era::Modern);
        self.refuses_legacy.store(modern, Ordering::Relaxed);
        Ok(connection)
    }

    async fn open_now(&self) -> Result<Connection, OpenError> {
        let now = clock::unix_seconds();
        if self.speaks_sse() {
            let opened = self.attempt(Handshake::Initialize, self.settings.config.timeout.open);
            return opened.await.map(|opened| opened.connection).map_err(|failure| {
                self.forget_sse();
                failure.error
            });
        }
        let begun = Instant::now();
        let handshake = self.knowledge.handshake(now);
        let patience = self.knowledge.patience(self.settings.config.timeout.open);
        let failure = match self.attempt(handshake, patience).await {
            Ok(opened) => return Ok(self.learn(opened, handshake, begun.elapsed())),
            Err(failure) => failure,
        };
        if self.dies_of_probe(handshake, &failure, now) {
            let why = &failure.error;
            self.context.counters.add(Counter::LegacyFallbacks);
            return match self.attempt(Handshake::Initialize, patience).await {
                Ok(opened) => {
                    // Of one that ends all the same, it is no news at each try.
                    tracing::info!(upstream = self.name(), %why, "started again without the probe");
                    self.knowledge.found(Era::Legacy, true, clock::unix_seconds());
                    Ok(opened.connection)
                }
                Err(failure) => Err(self.fail(handshake, failure)),
            };
        }
        if self.may_speak_sse(&failure.error) {
            let error = failure.error;
            let connection = self.open_older(error, begun + patience).await?;
            self.knowledge.opened();
            return Ok(connection);
        }
        Err(self.fail(handshake, failure))
    }

    /// Whether a process ended before anything was agreed, which a legacy one may do that meets a
    /// request before `initialize`.
    fn dies_of_probe(&self, handshake: Handshake, failure: &Failure, now: u64) -> bool {
        let is_process = matches!(self.settings.config.transport, Transport::Stdio { .. });
        is_process
            && handshake == Handshake::Probe
            && failure.manner == Manner::Ended
            && self.knowledge.may_be_legacy(now)
    }

    /// Notes which era was found, where that is news.
    fn learn(&self, opened: Opened, handshake: Handshake, took: Duration) -> Connection {
        let Opened { connection, inferred } = opened;
        let era = connection.peer.version.era();
        let now = clock::unix_seconds();
        let news = match (handshake, era) {
            // A silent process that is now quick was kept by the probe; one that is slow, was slow.
            (Handshake::InitializeFirst, Era::Legacy) => {
                let known = self.knowledge.era(now) == Some(Era::Legacy);
                !known && took < self.settings.config.timeout.open
            }
            _ => true,
        };
        if news {
            self.knowledge.found(era, inferred, now);
        } else {
            self.knowledge.opened();
        }
        connection
    }

    fn fail(&self, handshake: Handshake, failure: Failure) -> OpenError {
        self.knowledge.failed(handshake, failure.manner, clock::unix_seconds());
        let open = self.settings.config.timeout.open;
        let next = self.knowledge.patience(open);
        if failure.manner != Manner::Silent {
            return failure.error;
        }
        unavailable(format!(
            "{}; it lives and has said nothing, so that it has {next:?} the next time",
            failure.error
        ))
    }

    /// Opens a link and agrees with the server on it, within `patience`; what fails is ended.
    async fn attempt(&self, handshake: Handshake, patience: Duration) -> Result<Opened, Failure> {
        let deadline = Instant::now() + patience;
        let link = self.link(ConnectionOwner::Everyone).await?;
        self.agree(link, handshake, deadline, patience).await
    }

    async fn agree(
        &self,
        link: Channel,
        handshake: Handshake,
        deadline: Instant,
        patience: Duration,
    ) -> Result<Opened, Failure> {
        let timeout = self.settings.config.timeout;
        let client = Client::gateway(Version::LEGACY_LATEST);
        let opening =
            Connection::open(link.clone(), &client, handshake, timeout, ConnectionOwner::Everyone);
        let opened = tokio::time::timeout_at(deadline, Box::pin(opening)).await;
        let (error, manner) = match opened {
            Ok(Ok(opened)) => return Ok(opened),
            Ok(Err(error)) if link.has_ended() || error.is_end() => (error, Manner::Ended),
            Ok(Err(error)) if error.is_refusal() => (error, Manner::Refused),
            Ok(Err(error)) => (error, Manner::Otherwise),
            Err(_) => {
                let silent = link.is_silent_process();
                let manner = if silent { Manner::Silent } else { Manner::Otherwise };
                let key = "`timeout.open`";
                let error = format!("it did not answer within {patience:?} ({key})");
                (unavailable(error), manner)
            }
        };
        let error = self.unanswered(&error).unwrap_or(error);
        let said = error.to_string();
        let EndReason { why, last_words } = link.end(&said).await;
        self.tally.keep_last_words(last_words);
        let error = if why == said { error } else { unavailable(why) };
        Err(Failure { error, manner })
    }

    /// What it most likely means that a server over HTTP closes the connection in place of an
    /// answer, as many that speak TLS do; none of other errors.
    fn unanswered(&self, error: &OpenError) -> Option<OpenError> {
        let Transport::Http { url, .. } = &self.settings.config.transport else { return None };
        let OpenError::Send(SendError::Lost(why)) = error else { return None };
        let is_plain = url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http:"));
        // What came may have said so already.
        let is_hinted = why.contains("`https:`");
        let hint =
            if is_plain && !is_hinted { ": does this port speak TLS (`https:`)?" } else { "" };
        Some(unavailable(format!("it broke off in place of an answer{hint} ({why})")))
    }

    /// Looks for HTTP+SSE where Streamable HTTP was `refused`; that is the error, where there is
    /// neither.
    async fn open_older(
        &self,
        refused: OpenError,
        deadline: Instant,
    ) -> Result<Connection, OpenError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let link = match self.events(ConnectionOwner::Everyone, left.min(PROBE_TIMEOUT)).await {
            Ok(link) => link,
            Err(OpenError::NoStream(why)) => {
                tracing::debug!(upstream = self.name(), why, "it speaks no HTTP+SSE either");
                return Err(refused);
            }
            Err(error) => return Err(error),
        };
        let opened = self.agree(link, Handshake::Initialize, deadline, left).await;
        let connection = opened.map_err(|failure| failure.error)?.connection;
        self.sse.store(true, Ordering::Relaxed);
        Ok(connection)
    }

    fn may_speak_sse(&self, error: &OpenError) -> bool {
        let auto = self.settings.config.transport.over_http() == Some(HttpTransport::Auto);
        let modern = self.knowledge.fixed() == Some(Era::Modern);
        auto && !modern && !self.speaks_sse() && error.leaves_sse()
    }

    /// Streamable HTTP is looked for again, unless HTTP+SSE is all that the configuration allows.
    fn forget_sse(&self) {
        let transport = self.settings.config.transport.over_http();
        self.sse.store(transport == Some(HttpTransport::Sse), Ordering::Relaxed);
    }
}
