//! Connections that are not for all: a client session's own, one leased for a call, one for
//! listing.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, oneshot};

use crate::{
    call::{Ask, Client, SessionKey, clock},
    config::{Isolation, Transport},
    mcp::{message::Body, method::Method, raw::Raw, version::Era},
};

use super::{
    CLOSING, SendError, Upstream,
    open::{Connection, OpenError},
    pool::{Found, Leased},
    tell_level,
};

/// How long a session's first call waits for the session's own stream.
const LISTEN_PATIENCE: Duration = Duration::from_millis(300);

/// A client session's own connection.
#[derive(Debug, Default)]
pub(super) struct Own {
    pub(super) connection: OnceCell<Connection>,
    room: Mutex<Option<OwnedSemaphorePermit>>,
    pub(super) used: AtomicU64,
    pub(super) subscribed: Mutex<BTreeSet<String>>,
}

impl Own {
    pub(super) fn note(&self, uri: &str, wants: bool) {
        let mut subscribed = self.subscribed.lock();
        if wants {
            subscribed.insert(uri.to_owned());
        } else {
            subscribed.remove(uri);
        }
    }

    /// Nobody used it for `idle`, and nothing is to be heard on it.
    pub(super) fn is_stale(&self, idle: Duration) -> bool {
        let unused = clock::unix_seconds().saturating_sub(self.used.load(Ordering::Relaxed));
        idle.as_secs() < unused && self.subscribed.lock().is_empty()
    }
}

/// A connection for listing what only some clients may use.
#[derive(Debug)]
pub enum Asking {
    Leased(Leased),
    Own(Connection),
}

impl Asking {
    pub async fn ask(&self, method: Method, params: &Raw) -> Result<Body, SendError> {
        let connection = match self {
            Self::Leased(leased) => leased.connection().expect("leased with a connection"),
            Self::Own(connection) => connection.clone(),
        };
        connection.ask(method, params, None).await?.answer().await
    }

    /// Ends it: a process that is only good for listing is not kept.
    pub async fn close(self) {
        let connection = match &self {
            Self::Leased(leased) => leased.connection().expect("leased with a connection"),
            Self::Own(connection) => connection.clone(),
        };
        connection.close(CLOSING).await;
    }
}

impl Upstream {
    /// A connection opened as for a client that can be asked anything: some servers list more for
    /// one (legacy). None where every client shares one process anyway, or where one connection
    /// lists all there is.
    pub async fn asking(&self) -> Result<Option<Asking>, SendError> {
        let shared = self.shared().await?;
        let config = &self.settings.config;
        let shares = match &config.transport {
            Transport::Builtin { .. } => true,
            Transport::Stdio { .. } => config.isolation == Isolation::Shared,
            Transport::Http { .. } => false,
        };
        if shares || shared.peer.version.era() == Era::Modern {
            return Ok(None);
        }
        let client = Arc::new(Client::asked());
        let opened = match config.transport {
            Transport::Stdio { .. } => self.pooled(&client).await.map(Asking::Leased),
            Transport::Http { .. } | Transport::Builtin { .. } => {
                self.asking_http(&client).await.map(Asking::Own)
            }
        };
        opened.map(Some).map_err(|error| SendError::Unavailable(error.to_string()))
    }

    /// The session's own connection, opened by the first call; in place of one that was lost, a new
    /// one.
    pub(super) async fn own(&self, key: SessionKey, ask: &Ask) -> Result<Connection, OpenError> {
        let own = {
            let mut all = self.own.lock();
            let own = all.entry(key).or_default();
            if own.connection.get().is_some_and(Connection::is_closed) {
                let subscribed = Mutex::new(std::mem::take(&mut *own.subscribed.lock()));
                *own = Arc::new(Own { subscribed, ..Own::default() });
            }
            Arc::clone(own)
        };
        own.used.store(clock::unix_seconds(), Ordering::Relaxed);
        let connection =
            own.connection.get_or_try_init(async || self.open_own(key, &own, ask).await).await?;
        Ok(connection.clone())
    }

    async fn open_own(
        &self,
        key: SessionKey,
        own: &Own,
        ask: &Ask,
    ) -> Result<Connection, OpenError> {
        if matches!(self.settings.config.transport, Transport::Stdio { .. }) {
            *own.room.lock() = self.pool.room().await;
        }
        let link = self.link(Some(key), false).await?;
        let timeout = self.settings.config.timeout;
        let connection =
            Connection::open(link, &ask.client, Some(Era::Legacy), timeout, false).await?;
        if let Some(level) = &ask.log_level {
            tell_level(&connection, level).await?;
        }
        let subscribed: Vec<_> = own.subscribed.lock().iter().cloned().collect();
        for uri in subscribed {
            let params = Raw::encode(&serde_json::json!({ "uri": uri }));
            connection.ask(Method::Subscribe, &params, None).await?.answer().await?;
        }
        let listening = connection.clone();
        let (answered, known) = oneshot::channel();
        self.tasks.spawn("upstream: listen for a session", async move {
            listening.listen_aside(answered).await;
        });
        // What a server asks outside of a call's stream is lost where that other stream is not open
        // yet; but some servers never answer the request for it.
        tokio::time::timeout(LISTEN_PATIENCE, known).await.ok();
        Ok(connection)
    }

    /// A connection opened with exactly the client's capabilities, for one call.
    pub(super) async fn pooled(&self, client: &Client) -> Result<Leased, OpenError> {
        let key = format!("{} {}", client.version, client.capabilities.as_str());
        match self.pool.find(&key).await {
            Found::Idle(leased) => Ok(leased),
            Found::Room(room, gone) => {
                if let Some(gone) = gone {
                    gone.close("another client's process takes its place").await;
                }
                let link = self.link(None, true).await?;
                let timeout = self.settings.config.timeout;
                let connection =
                    Connection::open(link, client, Some(Era::Legacy), timeout, false).await?;
                let ended = connection.clone();
                self.tasks.spawn("upstream: await a pooled process", async move {
                    ended.closed().await;
                });
                Ok(self.pool.lend(key, connection, room))
            }
        }
    }

    async fn asking_http(&self, client: &Client) -> Result<Connection, OpenError> {
        let link = self.link(None, true).await?;
        Connection::open(link, client, Some(Era::Legacy), self.settings.config.timeout, false).await
    }
}
