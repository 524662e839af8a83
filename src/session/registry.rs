//! All sessions of a gate: opened, found again by their sealed ids, and put out of memory.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{
    call::{Caller, Client, SessionKey, clock},
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

/// Where there is no room, one of so many sessions is put out of memory.
const EVICTED_PART: usize = 64;

/// How long a stream that ended is kept for a client whose connection broke before it had read all;
/// clients come back within seconds.
const ENDED_STREAM_KEPT: Duration = Duration::from_secs(60);

/// All sessions of a gate.
#[derive(Debug)]
pub struct Sessions {
    pub(super) sealer: Sealer,
    pub(super) counters: Arc<Counters>,
    pub(super) table: Mutex<Table>,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) live: HashMap<SessionKey, Arc<Session>>,
    pub(super) ended: HashSet<SessionKey>,
    pub(super) ended_order: VecDeque<SessionKey>,
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
