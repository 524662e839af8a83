//! All sessions of a gate: opened, found again by their sealed ids, and put out of memory.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{
    call::{Caller, Client, RoutePath, SessionKey, clock},
    config::Limits,
    mcp::{raw::Raw, version::Version},
    telemetry::{Counter, Counters},
};

use super::{client_session::Session, seal::Sealer};

/// Ids of ended sessions that are remembered, so that a sealed id does not rise again. 16 bytes
/// each.
const ENDED_MAX: usize = 100_000;

/// Bytes of a client's own words that are carried in its session id; a request header of some
/// servers ends at 8 KiB.
const CARRIED_BYTES_MAX: usize = 3_000;

/// The divisor of the sessions that are put out of memory where there is no room.
const EVICTED_PART: usize = 64;

/// How long a stream that ended is kept for a client whose connection broke before it had read all;
/// clients come back within seconds.
const ENDED_STREAM_KEPT: Duration = Duration::from_secs(60);

/// All sessions of a gate.
#[derive(Debug)]
pub struct Sessions {
    pub(super) sealer: Sealer,
    pub(super) counters: Arc<Counters>,
    pub(super) table: Mutex<SessionTable>,
}

#[derive(Debug, Default)]
pub(super) struct SessionTable {
    pub(super) live: HashMap<SessionKey, Arc<Session>>,
    /// Ids of live sessions that were opened before: to open a seal is most of what a session
    /// costs a request.
    opened: HashMap<Arc<str>, OpenedId>,
    pub(super) ended: HashSet<SessionKey>,
    pub(super) ended_order: VecDeque<SessionKey>,
}

/// The content that the id of a live session was found to hold.
#[derive(Debug)]
struct OpenedId {
    key: SessionKey,
    opened: u64,
    /// The binding that the id is good for, and which must be given again: see [`bound`].
    bound: Box<str>,
}

/// Contents of a session id when it is opened.
#[derive(Serialize, Deserialize)]
pub(super) struct Sealed {
    pub(super) key: u128,
    pub(super) opened: u64,
    pub(super) version: String,
    pub(super) capabilities: Raw,
    pub(super) info: Raw,
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
        route: &RoutePath,
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
    ///
    /// # Errors
    /// Fails where the id was not sealed for this route and caller, or its session was ended or is
    /// too old.
    pub fn find(
        &self,
        route: &RoutePath,
        caller: &Caller,
        id: &str,
        limits: &Limits,
    ) -> Result<(Arc<Session>, Vec<Arc<Session>>), SessionError> {
        let bound = bound(route, caller);
        let now = clock::unix_seconds();
        if let Some(session) = self.table.lock().live_session(id, &bound, now, limits)? {
            return Ok((session, Vec::new()));
        }
        let text = self.sealer.open(id, &bound).ok_or(SessionError::Unknown)?;
        let sealed: Sealed = serde_json::from_slice(&text).ok().ok_or(SessionError::Unknown)?;
        let key = SessionKey(sealed.key);
        if self.table.lock().ended.contains(&key) {
            return Err(SessionError::Ended);
        }
        if is_too_old(sealed.opened, now, limits) {
            return Err(SessionError::TooOld);
        }
        let version = Version::find(&sealed.version).ok_or(SessionError::Unknown)?;
        let opened = OpenedId { key, opened: sealed.opened, bound: bound.into() };
        let mut table = self.table.lock();
        if let Some(session) = table.live.get(&key).map(Arc::clone) {
            session.used.store(now, Ordering::Relaxed);
            table.remember(id, opened, &session);
            return Ok((session, Vec::new()));
        }
        drop(table);
        let client = Client { version, capabilities: sealed.capabilities, info: sealed.info };
        self.counters.add(Counter::SessionsRevived);
        Ok(self.insert(Session::new(key, route, client).opened_elsewhere(), limits))
    }

    /// Ends a session for good: its id opens nothing any more.
    pub fn end(&self, session: &Session) {
        let mut table = self.table.lock();
        table.live.remove(&session.key);
        table.forget(session);
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
        gone.iter().for_each(|(_, session)| table.forget(session));
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

    /// Returns how many sessions are in memory.
    pub fn count(&self) -> usize {
        self.table.lock().live.len()
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
            evicted.iter().for_each(|session| table.forget(session));
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

impl SessionTable {
    /// The live session of an id that was opened before, for the same route and caller.
    fn live_session(
        &self,
        id: &str,
        bound: &str,
        now: u64,
        limits: &Limits,
    ) -> Result<Option<Arc<Session>>, SessionError> {
        let Some(known) = self.opened.get(id).filter(|known| *known.bound == *bound) else {
            return Ok(None);
        };
        if is_too_old(known.opened, now, limits) {
            return Err(SessionError::TooOld);
        }
        let session = self.live.get(&known.key);
        Ok(session.map(|session| {
            session.used.store(now, Ordering::Relaxed);
            Arc::clone(session)
        }))
    }

    /// Remembers what the id of a live session holds.
    fn remember(&mut self, id: &str, opened: OpenedId, session: &Session) {
        let id = session.id.get_or_init(|| id.into());
        self.opened.insert(Arc::clone(id), opened);
    }

    /// Forgets the id of a session that is not live any more.
    fn forget(&mut self, session: &Session) {
        if let Some(id) = session.id.get() {
            self.opened.remove(id);
        }
    }

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

#[cfg(test)]
impl SessionTable {
    pub(super) fn forget_all(&mut self) {
        self.opened.clear();
    }

    pub(super) fn opened_count(&self) -> usize {
        self.opened.len()
    }
}

/// Whether a session that was opened then has reached its greatest age.
fn is_too_old(opened: u64, now: u64, limits: &Limits) -> bool {
    limits.session_age.as_secs() < now.saturating_sub(opened)
}

/// Text that an id is bound to. A path has no space. An address is no identity: a client may move.
pub(super) fn bound<'a>(route: &'a RoutePath, caller: &Caller) -> Cow<'a, str> {
    match caller {
        Caller::Known(_) => Cow::Owned(format!("{route} {caller}")),
        Caller::Address(_) | Caller::Parent => Cow::Borrowed(route),
    }
}

/// A client's object as its id carries it; one too large is cut to nothing, and declares nothing
/// after a restart.
fn carried(object: &Raw) -> Raw {
    if object.bytes().len() <= CARRIED_BYTES_MAX { object.clone() } else { Raw::object() }
}
