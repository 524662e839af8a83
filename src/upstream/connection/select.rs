//! Chooses the connection that a request takes: the one that all share, the client session's own,
//! or one that is leased for it.

use std::sync::atomic::Ordering;

use crate::{
    call::{Caller, SessionKey, UpstreamRequest},
    config::{Isolation, Transport},
    credential::Credential,
    mcp::{splice, version::Era},
    upstream::{
        connection::{
            attention::Attending, callers::CallerLease, error::OpenError, open::Connection,
            pool::Leased,
        },
        exchange::error::SendError,
        replica::Replica,
    },
};

/// The kind of connection that a request takes.
#[derive(Debug)]
pub enum Scope {
    Shared,
    Session(SessionKey),
    /// The session of a caller whose client has none.
    Caller,
    Pooled,
}

/// The connection that a request takes, and what it holds of it.
#[derive(Debug)]
pub struct Connected {
    pub connection: Connection,
    pub leased: Option<Leased>,
    pub hold: Option<Hold>,
}

/// The guard that keeps a session open for the length of a call.
#[derive(Debug)]
pub enum Hold {
    /// The stream of a client session's own is read for so long.
    Session(#[allow(dead_code, reason = "held, not read")] Attending),
    /// The session of a caller is not closed for so long.
    Caller(#[allow(dead_code, reason = "held, not read")] CallerLease),
}

impl Connected {
    fn shared(connection: Connection) -> Self {
        Self { connection, leased: None, hold: None }
    }

    fn held(connection: Connection, hold: Hold) -> Self {
        Self { connection, leased: None, hold: Some(hold) }
    }
}

impl Replica {
    /// # Errors
    /// Where there is none and none can be opened: nothing was sent.
    pub async fn connection_for(&self, ask: &UpstreamRequest) -> Result<Connected, SendError> {
        let (scope, shared) = self.scope(ask).await?;
        // Boxed: opening is rare, and large.
        let found = match scope {
            Scope::Shared => return Ok(Connected::shared(shared)),
            Scope::Session(key) => {
                let own = Box::pin(self.own(key, ask)).await;
                own.map(|(connection, attending)| {
                    Connected::held(connection, Hold::Session(attending))
                })
            }
            Scope::Caller => {
                let opened = Box::pin(self.callers_session(ask)).await;
                return opened
                    .map_err(|error| unavailable_to_caller(&error))
                    .map(|(connection, lease)| Connected::held(connection, Hold::Caller(lease)));
            }
            Scope::Pooled => Box::pin(self.leased(ask)).await.map(|leased| {
                let connection = leased.connection().expect("leased with a connection");
                Connected { leased: Some(leased), ..Connected::shared(connection) }
            }),
        };
        match found {
            Ok(found) => Ok(found),
            // A modern server may as well end where it is told what it does not know.
            Err(error)
                if (error.is_refusal() || error.is_end())
                    && shared.peer.version.era() == Era::Modern =>
            {
                tracing::info!(upstream = self.name(), %error, "it takes modern clients only");
                self.refuses_legacy.store(true, Ordering::Relaxed);
                Ok(Connected::shared(shared))
            }
            Err(OpenError::Send(error @ SendError::Unready(_))) => Err(error),
            Err(error) => Err(SendError::Unavailable(error.to_string())),
        }
    }

    /// # Errors
    /// Where the shared connection is not open.
    pub async fn scope(&self, ask: &UpstreamRequest) -> Result<(Scope, Connection), SendError> {
        let shared = self.shared().await?;
        // A modern server may take legacy clients too, whether it says so or not: one attempt
        // tells.
        let takes_legacy = shared.peer.version.era() == Era::Legacy
            || !self.refuses_legacy.load(Ordering::Relaxed);
        let Some(key) = ask.session.filter(|_| takes_legacy) else {
            let scope = self.scope_without_session(ask, &shared);
            return Ok((scope, shared));
        };
        let scope = match (&self.settings.config.transport, self.settings.config.isolation) {
            (Transport::Builtin { .. }, _) | (Transport::Stdio { .. }, Isolation::Shared) => {
                Scope::Shared
            }
            (Transport::Http { .. }, _) | (Transport::Stdio { .. }, Isolation::Session) => {
                Scope::Session(key)
            }
            // A modern process asks in its answers: all can share it.
            (Transport::Stdio { .. }, Isolation::Auto)
                if ask.client.can_be_asked() && shared.peer.version.era() == Era::Legacy =>
            {
                Scope::Pooled
            }
            (Transport::Stdio { .. }, Isolation::Auto) => Scope::Shared,
        };
        Ok((scope, shared))
    }

    /// A modern client has no session: where a legacy server may ask in mid-call, or is to log for
    /// this request alone, the call has a connection for itself. What else the server keeps for a
    /// session over HTTP, it keeps for one caller.
    fn scope_without_session(&self, ask: &UpstreamRequest, shared: &Connection) -> Scope {
        let peer = &shared.peer;
        if peer.version.era() == Era::Modern {
            return Scope::Shared;
        }
        let asks = ask.method.may_require_input() && ask.client.can_be_asked();
        let logs =
            ask.log_level.is_some() && splice::member(&peer.capabilities, "logging").is_some();
        match (&self.settings.config.transport, self.settings.config.isolation) {
            (Transport::Builtin { .. }, _) | (Transport::Stdio { .. }, Isolation::Shared) => {
                Scope::Shared
            }
            (Transport::Stdio { .. } | Transport::Http { .. }, _) if asks || logs => Scope::Pooled,
            (Transport::Stdio { .. }, Isolation::Auto) => Scope::Shared,
            // Every other client has a process of its own: what is left is that of whoever started
            // the gate.
            (Transport::Stdio { .. }, Isolation::Session) if ask.caller == Caller::Parent => {
                Scope::Shared
            }
            (Transport::Stdio { .. }, Isolation::Session) => Scope::Pooled,
            (Transport::Http { .. }, _) if self.is_callers() || self.varies(ask) => Scope::Caller,
            (Transport::Http { .. }, Isolation::Shared) => Scope::Shared,
            // A server that cannot tell conversations apart keeps nothing for one of them.
            (Transport::Http { .. }, _) if !shared.keeps_session() => Scope::Shared,
            (Transport::Http { .. }, Isolation::Auto | Isolation::Session) => Scope::Caller,
        }
    }

    /// Whether it is shown who the caller is: no session of its is then shared by two.
    pub fn is_callers(&self) -> bool {
        self.credential.as_ref().is_some_and(Credential::is_callers)
    }

    /// Refuses a caller without a token where the server is shown callers' tokens: the request
    /// would be taken for the gateway's own.
    ///
    /// # Errors
    /// Where the server is shown its callers and this one has no token.
    pub fn check_caller(&self, ask: &UpstreamRequest) -> Result<(), SendError> {
        if !self.is_callers() || ask.caller.token().is_some() {
            return Ok(());
        }
        Err(self.tally.failure(SendError::Unavailable("its caller has no token for it".to_owned())))
    }
}

/// Why a caller has no session there, and what may be done about it.
fn unavailable_to_caller(error: &OpenError) -> SendError {
    if let OpenError::Send(error @ SendError::Unready(_)) = error {
        return error.clone();
    }
    let mut why = error.to_string();
    if error.is_refusal() {
        why.push_str(
            "; where it has no second session, `isolation = \"shared\"` has callers share the \
             gateway's",
        );
    }
    SendError::Unavailable(why)
}
