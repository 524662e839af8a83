//! Connections that are not for all: a client session's own, one leased for a call, one for
//! listing.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::sync::{OnceCell, oneshot};

use crate::{
    call::{Caller, Client, SessionKey, Token, UpstreamRequest, clock, presence::Presence},
    config::{Isolation, Transport},
    mcp::{message::Body, method::Method, raw::Raw, version::Era},
    telemetry::Counter,
    upstream::{
        connection::{
            attention::{Attending, Attention, LingeringBounds},
            callers::CallerLease,
            error::{OpenError, unavailable},
            open::Connection,
            owner::ConnectionOwner,
            pool::{ClientKey, ConnectionGuard, ConnectionRoom, Leased, PoolAnswer},
        },
        exchange::error::SendError,
        replica::{CLOSING, Replica, era::Handshake, log_level::tell_level, openings::Purpose},
    },
};

/// How long a session's first call waits for the session's own stream.
const LISTEN_PATIENCE: Duration = Duration::from_millis(300);

/// The share of sessions of which one's connection is closed where there is no room.
const EVICTED_PART: usize = 64;

/// A client session's own connection.
#[derive(Debug, Default)]
pub struct SessionConnection {
    pub connection: OnceCell<Connection>,
    room: Mutex<Option<ConnectionRoom>>,
    pub used: AtomicU64,
    pub subscribed: Mutex<BTreeSet<String>>,
    /// The log level that the session wished for last.
    pub level: Mutex<Option<String>>,
    attention: Arc<Attention>,
}

impl SessionConnection {
    pub fn note(&self, uri: &str, wants: bool) {
        let mut subscribed = self.subscribed.lock();
        if wants {
            subscribed.insert(uri.to_owned());
        } else {
            subscribed.remove(uri);
        }
    }

    /// Makes an entry without a connection, which subscribes anew when it gets one.
    pub fn successor(&self) -> Self {
        let used = AtomicU64::new(self.used.load(Ordering::Relaxed));
        let subscribed = Mutex::new(self.subscribed.lock().clone());
        let level = Mutex::new(self.level.lock().clone());
        Self { used, subscribed, level, ..Self::default() }
    }

    /// Whether nobody has used it for `idle`, and nothing is to be heard on it.
    pub fn is_stale(&self, idle: Duration) -> bool {
        if self.attention.is_busy() {
            return false;
        }
        let unused = clock::unix_seconds().saturating_sub(self.used.load(Ordering::Relaxed));
        idle.as_secs() < unused && self.subscribed.lock().is_empty()
    }

    pub async fn close(self: Arc<Self>) {
        if let Some(connection) = self.connection.get() {
            connection.close(CLOSING).await;
        }
        drop(self.room.lock().take());
    }
}

/// A connection for listing what only some clients may use.
#[derive(Debug)]
pub enum ListingConnection {
    Leased(Leased),
    /// The guard ends it.
    Own {
        connection: Connection,
        _guard: ConnectionGuard,
    },
}

impl ListingConnection {
    /// # Errors
    /// Where the server does not answer.
    pub async fn ask(&self, method: Method, params: &Raw) -> Result<Body, SendError> {
        self.connection().ask(method, params, None).await?.answer().await
    }

    /// Ends it: a process that is only good for listing is not kept.
    pub async fn close(self) {
        self.connection().close_wholly(CLOSING).await;
    }

    fn connection(&self) -> Connection {
        match self {
            Self::Leased(leased) => leased.connection().expect("leased with a connection"),
            Self::Own { connection, .. } => connection.clone(),
        }
    }
}

impl Replica {
    /// A session's own connection, where it has been opened.
    pub fn session_connection(&self, key: SessionKey) -> Option<Connection> {
        self.own.lock().get(&key).and_then(|own| own.connection.get().cloned())
    }

    /// Takes over the subscriptions of legacy sessions from a replica that this one replaces.
    pub fn inherit_sessions(&self, predecessor: &Self) {
        let theirs = predecessor.own.lock();
        let successors = theirs.iter().filter(|(_, own)| !own.subscribed.lock().is_empty());
        let successors = successors.map(|(key, own)| (*key, Arc::new(own.successor())));
        self.own.lock().extend(successors);
    }

    /// Takes out what a session subscribed to here: it is subscribed to elsewhere from now on.
    pub fn take_subscribed(&self, key: SessionKey) -> BTreeSet<String> {
        let own = self.own.lock().get(&key).map(Arc::clone);
        own.map(|own| std::mem::take(&mut *own.subscribed.lock())).unwrap_or_default()
    }

    /// A session's connection subscribes to these when it is opened.
    pub fn subscribes_anew(&self, key: SessionKey, uris: BTreeSet<String>) {
        let mut all = self.own.lock();
        let subscribed = Mutex::new(uris);
        let fresh = Arc::new(SessionConnection { subscribed, ..SessionConnection::default() });
        if let Some(before) = all.insert(key, fresh) {
            self.tasks.finish(before.close());
        }
    }

    /// Opens what `Upstream::asking` promises, at this replica.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub async fn open_for_listing(&self) -> Result<Option<ListingConnection>, SendError> {
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
        let client = Arc::new(Client::fully_capable());
        let opened = match config.transport {
            Transport::Stdio { .. } => {
                let digest = Sha256::digest("the gateway itself").into();
                let key = ClientKey { digest, private: false };
                let leased = self.pooled(key, &client, None, None, Purpose::Upstream).await;
                leased.map(ListingConnection::Leased)
            }
            Transport::Http { .. } | Transport::Builtin { .. } => {
                let purpose = Purpose::Upstream;
                let opened =
                    self.open_guarded(&client, ConnectionOwner::Call(None), None, purpose).await;
                opened
                    .map(|(connection, guard)| ListingConnection::Own { connection, _guard: guard })
            }
        };
        opened.map(Some).map_err(|error| SendError::Unavailable(error.to_string()))
    }

    /// The session's own connection, opened by the first call; in place of one that was lost, a new
    /// one. It is listened to for as long as what comes with it.
    ///
    /// # Errors
    /// Where it cannot be opened, or the server takes no subscription anew.
    pub async fn own(
        &self,
        key: SessionKey,
        ask: &UpstreamRequest,
    ) -> Result<(Connection, Attending), OpenError> {
        let (own, attending) = {
            let mut all = self.own.lock();
            let max = self.settings.config.client_sessions_max;
            if max <= all.len() && !all.contains_key(&key) {
                self.make_room(&mut all, max);
            }
            let own = all.entry(key).or_default();
            if own.connection.get().is_some_and(Connection::is_closed) {
                let subscribed = Mutex::new(std::mem::take(&mut *own.subscribed.lock()));
                let fresh =
                    Arc::new(SessionConnection { subscribed, ..SessionConnection::default() });
                let lost = std::mem::replace(own, fresh);
                self.tasks.finish(lost.close());
            }
            // Begun while nobody else can take it out.
            (Arc::clone(own), own.attention.begin())
        };
        own.used.store(clock::unix_seconds(), Ordering::Relaxed);
        let connection =
            own.connection.get_or_try_init(|| Box::pin(self.open_own(key, &own, ask))).await?;
        own.attention.heard(LISTEN_PATIENCE).await;
        Ok((connection.clone(), attending))
    }

    /// Closes the connections that were used least of late, several at once, so that the look at
    /// all is needed once in so many only. Their sessions go on: the next call opens another one.
    /// What was subscribed to is known on, and subscribed to anew then.
    fn make_room(&self, all: &mut HashMap<SessionKey, Arc<SessionConnection>>, max: usize) {
        let count = (all.len() + 1).saturating_sub(max).max(max / EVICTED_PART);
        let mut idle: Vec<_> = all
            .iter()
            .filter(|(_, own)| !own.attention.is_busy())
            .map(|(key, own)| {
                let listens = !own.subscribed.lock().is_empty();
                (listens, own.used.load(Ordering::Relaxed), key.0)
            })
            .collect();
        idle.sort_unstable();
        for (listens, _, key) in idle.into_iter().take(count) {
            let Some(own) = all.remove(&SessionKey(key)) else { continue };
            self.context.counters.add(Counter::UpstreamSessionsEvicted);
            if listens {
                all.insert(SessionKey(key), Arc::new(own.successor()));
            }
            self.tasks.finish(own.close());
        }
    }

    async fn open_own(
        &self,
        key: SessionKey,
        own: &SessionConnection,
        ask: &UpstreamRequest,
    ) -> Result<Connection, OpenError> {
        let room = match self.settings.config.transport {
            Transport::Stdio { .. } => self.pool.room().await,
            Transport::Http { .. } | Transport::Builtin { .. } => None,
        };
        let owner = ConnectionOwner::Session(key, ask.caller.token());
        let opened = self.open_guarded(&ask.client, owner, room, Purpose::Call);
        let (connection, guard) = opened.await?;
        let wished = || own.level.lock().clone().or_else(|| ask.log_level.clone());
        let level = wished();
        if let Some(level) = &level {
            tell_level(&connection, level).await?;
        }
        let subscribed: Vec<_> = own.subscribed.lock().iter().cloned().collect();
        for uri in subscribed {
            let params = Raw::encode(&serde_json::json!({ "uri": uri }));
            connection.ask(Method::Subscribe, &params, None).await?.answer().await?;
        }
        self.attend(&connection, &own.attention, ask.presence.clone());
        own.attention.heard(LISTEN_PATIENCE).await;
        // The client set another level meanwhile.
        if let Some(latest) = wished().filter(|latest| level.as_ref() != Some(latest)) {
            tell_level(&connection, &latest).await?;
        }
        *own.room.lock() = guard.release();
        Ok(connection)
    }

    /// Reads a session's stream of what belongs to no request, as long as somebody may need that.
    fn attend(
        &self,
        connection: &Connection,
        attention: &Arc<Attention>,
        presence: Option<Arc<Presence>>,
    ) {
        let config = &self.settings.config;
        let bounds =
            LingeringBounds { after: config.listen_after, streams_max: config.listens_max };
        let others = Arc::clone(&self.lingering);
        let following = Arc::clone(attention).follow(connection.clone(), presence, others, bounds);
        self.tasks.spawn("upstream: listen for a session", following);
    }

    /// Reads the stream of what belongs to no request. What a server asks there is lost where it is
    /// not open yet; but some servers never answer the request for it.
    async fn listen_on(&self, connection: &Connection) {
        let listening = connection.clone();
        let (answered, known) = oneshot::channel();
        self.tasks.spawn("upstream: listen beside calls", async move {
            listening.listen_aside(answered).await;
        });
        tokio::time::timeout(LISTEN_PATIENCE, known).await.ok();
    }

    /// A connection for one call: of this caller, these forwarded headers and this token only,
    /// opened with exactly what its client can be asked.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub async fn leased(&self, ask: &UpstreamRequest) -> Result<Leased, OpenError> {
        let client = client_of(ask);
        let level = ask.log_level.as_deref();
        // The key is of one client for certain: a session, or whoever started the gate.
        let private = ask.session.is_some() || ask.caller == Caller::Parent;
        let digest = self.client_digest(ask, &client, level);
        let key = ClientKey { digest, private };
        self.pooled(key, &client, ask.caller.token(), level, Purpose::Call).await
    }

    async fn pooled(
        &self,
        key: ClientKey,
        client: &Client,
        whose: Option<&Token>,
        level: Option<&str>,
        purpose: Purpose,
    ) -> Result<Leased, OpenError> {
        match self.pool.find(&key).await {
            PoolAnswer::Idle(leased) => Ok(leased),
            PoolAnswer::Room(room) => {
                // Boxed: opening is rare, and large.
                let opened =
                    self.open_guarded(client, ConnectionOwner::Call(whose), Some(room), purpose);
                let (connection, guard) = Box::pin(opened).await?;
                if let Some(level) = level {
                    tell_level(&connection, level).await?;
                }
                if client.can_be_asked() {
                    self.listen_on(&connection).await;
                }
                let room = guard.release().expect("opened in a room");
                Ok(self.pool.lend(key, connection, room))
            }
        }
    }

    /// The session of a caller whose client has none, opened by the first call; in place of one
    /// that was lost, a new one.
    ///
    /// # Errors
    /// Where it cannot be opened.
    pub async fn callers_session(
        &self,
        ask: &UpstreamRequest,
    ) -> Result<(Connection, CallerLease), OpenError> {
        let client = client_of(ask);
        let lease = self.callers.begin(&self.client_digest(ask, &client, None)).await;
        let opening = || async {
            let owner = ConnectionOwner::Caller(ask.caller.token());
            let opened = self.open_guarded(&client, owner, None, Purpose::Call);
            let (connection, guard) = Box::pin(opened).await?;
            self.context.counters.add(Counter::CallerSessionsOpened);
            // Some servers answer there, and say there that a call changed their lists.
            self.attend(&connection, lease.attention(), None);
            guard.release();
            Ok::<_, OpenError>(connection)
        };
        let connection = lease.connection().get_or_try_init(opening).await?.clone();
        lease.attention().heard(LISTEN_PATIENCE).await;
        Ok((connection, lease))
    }

    /// Opens one for a legacy client. Whatever then fails, or is given up in the middle, the guard
    /// leaves neither a process nor a session behind.
    async fn open_guarded(
        &self,
        client: &Client,
        owner: ConnectionOwner<'_>,
        room: Option<ConnectionRoom>,
        purpose: Purpose,
    ) -> Result<(Connection, ConnectionGuard), OpenError> {
        let turn = self.turn(purpose).await;
        let opening = self.open_guarded_now(client, owner, room);
        // Its type is erased: it is rare, large, and deep below all that waits for a connection.
        turn.spend(opening).boxed().await
    }

    async fn open_guarded_now(
        &self,
        client: &Client,
        owner: ConnectionOwner<'_>,
        room: Option<ConnectionRoom>,
    ) -> Result<(Connection, ConnectionGuard), OpenError> {
        let link = self.link(owner).await?;
        let guard = ConnectionGuard::new(link.clone(), room, &self.tasks);
        let timeout = self.settings.config.timeout;
        let opening = Connection::open(link, client, Handshake::Initialize, timeout, owner);
        let late = || {
            let open = timeout.open;
            unavailable(format!("it did not answer within {open:?} (`timeout.open`)"))
        };
        let opened = tokio::time::timeout(timeout.open, opening).await;
        let opened = opened.unwrap_or_else(|_| Err(late()))?;
        Ok((opened.connection, guard))
    }
}

/// The client of a request as a legacy server is shown it.
fn client_of(ask: &UpstreamRequest) -> Client {
    Client {
        capabilities: ask.client.capabilities_for_legacy(),
        version: ask.client.version,
        info: ask.client.info_or_default(),
    }
}
