//! Sessions of legacy clients: who is talking, and what goes on in each conversation.
//!
//! A session's id is its own record, sealed ([`seal`]): a gate that was restarted, or that put the
//! session out of memory, opens the id and goes on. What cannot be carried so (open streams,
//! subscriptions) is lost with the process.

pub mod outbox;
pub mod seal;

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::{
    call::{Caller, Client, SessionKey, clock, presence::Presence},
    config::Limits,
    mcp::{id::Id, message::Body, raw::Raw, version::Version},
    telemetry::{Counter, Counters},
};

use self::{
    outbox::{EventId, Stream},
    seal::Sealer,
};

/// Ids of ended sessions that are remembered, so that a sealed id does not rise again. 16 bytes
/// each.
const ENDED_MAX: usize = 100_000;
/// Bytes of a client's own words that are carried in its session id; a request header of some
/// servers ends at 8 KiB.
const CARRIED_BYTES_MAX: usize = 3_000;
/// Where there is no room, one of so many sessions is put out of memory.
const EVICTED_PART: usize = 64;
/// Tasks of one session that are remembered; more than a client looks at at once.
const TASKS_MAX: usize = 1_000;
/// How long a stream that ended is kept for a client whose connection broke before it had read all;
/// clients come back within seconds.
const ENDED_STREAM_KEPT: Duration = Duration::from_secs(60);

/// All sessions of a gate.
#[derive(Debug)]
pub struct Sessions {
    sealer: Sealer,
    counters: Arc<Counters>,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    live: HashMap<SessionKey, Arc<Session>>,
    ended: HashSet<SessionKey>,
    ended_order: VecDeque<SessionKey>,
}

/// One conversation with a legacy client.
#[derive(Debug)]
pub struct Session {
    pub key: SessionKey,
    /// The path of the route it was opened on, and is bound to.
    pub route: String,
    pub client: Arc<Client>,
    /// Whether its client reads what is announced.
    pub presence: Arc<Presence>,
    used: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    log_level: Option<String>,
    calls: HashMap<Id, Arc<Cancellation>>,
    questions: HashMap<Id, oneshot::Sender<Body>>,
    questions_made: u64,
    streams: HashMap<u64, Arc<Stream>>,
    streams_made: u64,
    subscriptions: BTreeSet<String>,
    /// Who opened the stream of announcements.
    listener: Option<Caller>,
    /// Tasks that its server gave it, the newest last.
    tasks: VecDeque<String>,
}

/// Contents of a session id when it is opened.
#[derive(Serialize, Deserialize)]
struct Sealed {
    key: u128,
    opened: u64,
    version: String,
    capabilities: Raw,
    info: Raw,
}

/// Why a session id opens nothing; a client reads the same for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    #[error("not an id that this gate made for this route and this caller")]
    Unknown,
    #[error("the session was ended")]
    Ended,
    #[error("the session is older than `session_age`")]
    TooOld,
}

impl Sessions {
    pub fn new(secret: &[u8], counters: Arc<Counters>) -> Self {
        Self { sealer: Sealer::new(secret, "session id"), counters, table: Mutex::default() }
    }

    /// Opens a session and makes its id, which is good for this caller only, where it is known who
    /// that is. Returns also those that had to make room.
    pub fn open(
        &self,
        route: &str,
        caller: &Caller,
        client: Client,
        limits: &Limits,
    ) -> (Arc<Session>, String, Vec<Arc<Session>>) {
        let key = SessionKey(rand::random());
        let sealed = Sealed {
            key: key.0,
            opened: clock::unix_seconds(),
            version: client.version.as_str().to_owned(),
            capabilities: carried(&client.capabilities),
            info: carried(&client.info),
        };
        let id = self.sealer.seal(Raw::encode(&sealed).bytes(), &bound(route, caller));
        self.counters.add(Counter::SessionsOpened);
        let (session, evicted) = self.insert(Session::new(key, route, client), limits);
        (session, id, evicted)
    }

    /// The session of an id, put back into memory where it is not there. Returns also those that
    /// had to make room.
    pub fn find(
        &self,
        route: &str,
        caller: &Caller,
        id: &str,
        limits: &Limits,
    ) -> Result<(Arc<Session>, Vec<Arc<Session>>), SessionError> {
        let text = self.sealer.open(id, &bound(route, caller)).ok_or(SessionError::Unknown)?;
        let sealed: Sealed = serde_json::from_slice(&text).ok().ok_or(SessionError::Unknown)?;
        let key = SessionKey(sealed.key);
        let now = clock::unix_seconds();
        {
            let table = self.table.lock();
            if table.ended.contains(&key) {
                return Err(SessionError::Ended);
            }
            if limits.session_age.as_secs() < now.saturating_sub(sealed.opened) {
                return Err(SessionError::TooOld);
            }
            if let Some(session) = table.live.get(&key) {
                session.used.store(now, Ordering::Relaxed);
                return Ok((Arc::clone(session), Vec::new()));
            }
        }
        let version = Version::find(&sealed.version).ok_or(SessionError::Unknown)?;
        let client = Client { version, capabilities: sealed.capabilities, info: sealed.info };
        self.counters.add(Counter::SessionsRevived);
        Ok(self.insert(Session::new(key, route, client), limits))
    }

    /// Ends a session for good: its id opens nothing any more.
    pub fn end(&self, session: &Session) {
        let mut table = self.table.lock();
        table.live.remove(&session.key);
        if table.ended.insert(session.key) {
            table.ended_order.push_back(session.key);
        }
        if ENDED_MAX < table.ended_order.len()
            && let Some(oldest) = table.ended_order.pop_front()
        {
            table.ended.remove(&oldest);
        }
        drop(table);
        session.close();
    }

    /// Puts sessions out of memory that were not used for `session_idle` (their ids stay good), and
    /// forgets streams that ended a while ago.
    pub fn sweep(&self, limits: &Limits) -> Vec<Arc<Session>> {
        let now = clock::unix_seconds();
        let mut table = self.table.lock();
        let idle = |session: &Session| {
            !session.is_busy() && limits.session_idle.as_secs() < now.saturating_sub(session.used())
        };
        let gone: Vec<_> = table.live.extract_if(|_, session| idle(session)).collect();
        table.live.values().for_each(|session| session.forget_streams(ENDED_STREAM_KEPT));
        drop(table);
        gone.iter().for_each(|(_, session)| session.close());
        gone.into_iter().map(|(_, session)| session).collect()
    }

    /// The gate is closing: streams that only wait for announcements end.
    pub fn hush(&self) {
        let all: Vec<_> = self.table.lock().live.values().map(Arc::clone).collect();
        for stream in all.iter().filter_map(|session| session.listening()) {
            stream.end();
        }
    }

    pub fn get(&self, key: SessionKey) -> Option<Arc<Session>> {
        self.table.lock().live.get(&key).map(Arc::clone)
    }

    /// Two that race to revive the same session get the same one.
    fn insert(&self, session: Session, limits: &Limits) -> (Arc<Session>, Vec<Arc<Session>>) {
        let mut table = self.table.lock();
        let mut evicted = Vec::new();
        if limits.sessions_max <= table.live.len() && !table.live.contains_key(&session.key) {
            evicted = table.make_room(limits.sessions_max);
        }
        let session =
            Arc::clone(table.live.entry(session.key).or_insert_with(|| Arc::new(session)));
        drop(table);
        for evicted in &evicted {
            self.counters.add(Counter::SessionsEvicted);
            evicted.close();
        }
        (session, evicted)
    }
}

impl Table {
    /// Takes out those unused for longest, several at once, so that the look at all of them is
    /// needed once in so many sessions only. One that is busy goes where all are, and alone.
    fn make_room(&mut self, sessions_max: usize) -> Vec<Arc<Session>> {
        let excess = (self.live.len() + 1).saturating_sub(sessions_max);
        let count = excess.max(sessions_max / EVICTED_PART);
        let mut all: Vec<_> = self
            .live
            .values()
            .map(|session| (session.is_busy(), session.used(), session.key.0))
            .collect();
        if count < all.len() {
            all.select_nth_unstable(count);
            all.truncate(count);
        }
        all.sort_unstable();
        let idle = all.iter().filter(|(busy, ..)| !busy).count();
        let gone = all.into_iter().take(idle.max(excess));
        gone.filter_map(|(_, _, key)| self.live.remove(&SessionKey(key))).collect()
    }
}

impl Session {
    fn new(key: SessionKey, route: &str, client: Client) -> Self {
        Self {
            key,
            route: route.to_owned(),
            client: Arc::new(client),
            presence: Arc::default(),
            used: AtomicU64::new(clock::unix_seconds()),
            state: Mutex::default(),
        }
    }

    pub fn log_level(&self) -> Option<String> {
        self.state.lock().log_level.clone()
    }

    pub fn set_log_level(&self, level: &str) {
        self.state.lock().log_level = Some(level.to_owned());
    }

    /// Notes a call under way; the token is cancelled when the client says so. An id already in use
    /// is refused.
    pub fn begin(self: &Arc<Self>, id: &Id) -> Option<SessionRequest> {
        let mut state = self.state.lock();
        if state.calls.contains_key(id) {
            return None;
        }
        let cancellation = Arc::<Cancellation>::default();
        state.calls.insert(id.clone(), Arc::clone(&cancellation));
        Some(SessionRequest { session: Arc::clone(self), id: id.clone(), cancellation })
    }

    /// Cancels a call under way; false where there is none.
    pub fn cancel(&self, id: &Id, reason: Option<String>) -> bool {
        self.state.lock().calls.get(id).map(|call| call.cancel(reason)).is_some()
    }

    /// Notes a question to the client and makes its id, which is never used again. None where
    /// `questions_max` wait for an answer already; dropped then, the reply is a refusal.
    pub fn ask(&self, reply: oneshot::Sender<Body>, questions_max: usize) -> Option<Id> {
        let mut state = self.state.lock();
        state.questions.retain(|_, reply| !reply.is_closed());
        if questions_max <= state.questions.len() {
            return None;
        }
        state.questions_made += 1;
        let id =
            Id::string(&format!("tollgate-{:08x}-{}", rand::random::<u32>(), state.questions_made));
        state.questions.insert(id.clone(), reply);
        Some(id)
    }

    /// Whether an answer is still waited for.
    pub fn is_asked(&self, id: &Id) -> bool {
        self.state.lock().questions.get(id).is_some_and(|reply| !reply.is_closed())
    }

    /// Forgets a question; false where it was answered, or never asked.
    pub fn withdraw(&self, id: &Id) -> bool {
        self.state.lock().questions.remove(id).is_some()
    }

    /// Hands the client's answer to whoever asked; false where nobody did.
    pub fn answer(&self, id: &Id, body: Body) -> bool {
        let reply = self.state.lock().questions.remove(id);
        reply.is_some_and(|reply| reply.send(body).is_ok())
    }

    /// The client can answer no more: what it was asked is refused.
    pub fn refuse_questions(&self) {
        self.state.lock().questions.clear();
    }

    /// Whether there is room for one more stream: an ended one makes room.
    pub fn has_room_for_stream(&self, streams_max: usize) -> bool {
        let state = self.state.lock();
        state.streams.len() < streams_max || state.streams.values().any(|one| one.is_ended())
    }

    /// A new stream, for which the one that ended first makes room; none where `streams_max` are
    /// open.
    pub fn stream(&self, streams_max: usize) -> Option<Arc<Stream>> {
        let mut state = self.state.lock();
        while streams_max <= state.streams.len() {
            let ended = state
                .streams
                .values()
                .filter_map(|stream| Some((stream.ended_at()?, stream.number)));
            let (_, first) = ended.min()?;
            state.streams.remove(&first);
        }
        state.streams_made += 1;
        let stream = Stream::new(state.streams_made);
        state.streams.insert(stream.number, Arc::clone(&stream));
        Some(stream)
    }

    /// The stream that this caller's GET opens, and whether it was made now: there was none, or it
    /// had ended.
    pub fn standalone(&self, caller: &Caller) -> (Arc<Stream>, bool) {
        let mut state = self.state.lock();
        state.listener = Some(caller.clone());
        if let Some(stream) = state.streams.get(&0).filter(|stream| !stream.is_ended()) {
            return (Arc::clone(stream), false);
        }
        let stream = Stream::announced(Arc::clone(&self.presence));
        state.streams.insert(0, Arc::clone(&stream));
        (stream, true)
    }

    /// Who opened that stream last: what is announced there is for them.
    pub fn listener(&self) -> Option<Caller> {
        self.state.lock().listener.clone()
    }

    /// The stream that GET opened, if there is one and it has not ended.
    pub fn listening(&self) -> Option<Arc<Stream>> {
        self.state.lock().streams.get(&0).filter(|stream| !stream.is_ended()).map(Arc::clone)
    }

    /// The stream that an event is of.
    pub fn find_stream(&self, id: EventId) -> Option<Arc<Stream>> {
        let state = self.state.lock();
        state.streams.get(&id.stream).filter(|stream| stream.has(id)).map(Arc::clone)
    }

    pub fn forget_stream(&self, number: u64) {
        self.state.lock().streams.remove(&number);
    }

    pub fn subscribe(&self, uri: &str) {
        self.state.lock().subscriptions.insert(uri.to_owned());
    }

    pub fn unsubscribe(&self, uri: &str) {
        self.state.lock().subscriptions.remove(uri);
    }

    pub fn is_subscribed(&self, uri: &str) -> bool {
        self.state.lock().subscriptions.contains(uri)
    }

    pub fn subscriptions(&self) -> Vec<String> {
        self.state.lock().subscriptions.iter().cloned().collect()
    }

    /// Notes a task that the server gave for a call of this session (2025-11-25): only here its id
    /// means anything.
    pub fn note_task(&self, id: String) {
        let mut state = self.state.lock();
        if state.tasks.len() == TASKS_MAX {
            state.tasks.pop_front();
        }
        state.tasks.push_back(id);
    }

    pub fn has_task(&self, id: &str) -> bool {
        self.state.lock().tasks.iter().any(|task| task == id)
    }

    fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// A call is under way, or a client reads a stream.
    fn is_busy(&self) -> bool {
        let state = self.state.lock();
        !state.calls.is_empty() || state.streams.values().any(|stream| stream.is_read())
    }

    /// Forgets streams that ended longer ago than this.
    fn forget_streams(&self, kept: Duration) {
        let ended = |stream: &Stream| stream.ended_at().is_some_and(|ended| kept < ended.elapsed());
        self.state.lock().streams.retain(|_, stream| !ended(stream));
    }

    /// Cancels what is under way and ends all streams.
    fn close(&self) {
        let mut state = self.state.lock();
        state.calls.drain().for_each(|(_, call)| call.cancel(None));
        state.streams.drain().for_each(|(_, stream)| stream.end());
        state.questions.clear();
    }
}

/// A call under way in a session; forgotten when this is dropped.
#[derive(Debug)]
pub struct SessionRequest {
    session: Arc<Session>,
    id: Id,
    cancellation: Arc<Cancellation>,
}

/// Whether a call was cancelled, and why.
#[derive(Debug, Default)]
struct Cancellation {
    token: CancellationToken,
    reason: Mutex<Option<String>>,
}

impl Cancellation {
    fn cancel(&self, reason: Option<String>) {
        *self.reason.lock() = reason;
        self.token.cancel();
    }
}

impl SessionRequest {
    /// Waits until the client cancels it; what it says about that.
    pub fn cancelled(&self) -> impl Future<Output = Option<String>> + use<> {
        let cancellation = Arc::clone(&self.cancellation);
        async move {
            cancellation.token.cancelled().await;
            cancellation.reason.lock().clone()
        }
    }
}

impl Drop for SessionRequest {
    fn drop(&mut self) {
        self.session.state.lock().calls.remove(&self.id);
    }
}

/// Text that an id is bound to. A path has no space. An address is no identity: a client may move.
fn bound(route: &str, caller: &Caller) -> String {
    match caller {
        Caller::Known(_) => format!("{route} {caller}"),
        Caller::Address(_) | Caller::Parent => route.to_owned(),
    }
}

/// A client's object as its id carries it; one too large is cut to nothing, and declares nothing
/// after a restart.
fn carried(object: &Raw) -> Raw {
    if object.bytes().len() <= CARRIED_BYTES_MAX { object.clone() } else { Raw::object() }
}

#[cfg(test)]
mod tests;
