//! Sessions of a legacy server over HTTP, one for each caller that can be told apart: what a server
//! keeps for a session, it keeps for one caller alone.
//!
//! A legacy client has a session of its own, by which it is known. A client of 2026-07-28 has none:
//! its calls share a session upstream with those of the same caller, forwarded headers, token and
//! capabilities, and with no others.

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, OnceCell},
    time::Instant,
};

use crate::{
    call::tasks::Tasks,
    telemetry::{Counter, Counters, throttle},
    upstream::connection::{
        attention::{Attending, Attention},
        open::Connection,
    },
};

/// The divisor of the sessions that are closed at once where there is no room, so that the look at
/// all is needed once in so many times only.
const EVICTED_PART: usize = 64;

/// A digest of what tells callers apart: what a client says of itself may be long.
type Key = [u8; 32];

/// The sessions of one server, by a digest of what tells their callers apart.
#[derive(Debug)]
pub struct CallerSessions {
    upstream: String,
    sessions: Mutex<HashMap<Key, Arc<CallerSession>>>,
    sessions_max: usize,
    /// Notified when a session's last call has ended: whoever waits for room looks again.
    freed: Arc<Notify>,
    counters: Arc<Counters>,
    tasks: Tasks,
}

/// The session of one caller.
#[derive(Debug)]
struct CallerSession {
    connection: OnceCell<Connection>,
    /// Calls that are under way, or wait for it to be opened.
    calls: AtomicUsize,
    /// The end of its last call.
    used: Mutex<Instant>,
    freed: Arc<Notify>,
    /// The attention that decides when its stream of what belongs to no request is read.
    attention: Arc<Attention>,
}

/// A call on a caller's session, until this is dropped.
#[derive(Debug)]
pub struct CallerLease {
    session: Arc<CallerSession>,
    /// The session's stream is read for so long.
    _attending: Attending,
}

impl CallerSessions {
    /// Makes room for `sessions_max` sessions at `upstream`; those that are evicted are closed by
    /// `tasks`.
    pub fn new(
        upstream: &str,
        sessions_max: usize,
        counters: &Arc<Counters>,
        tasks: &Tasks,
    ) -> Self {
        Self {
            upstream: upstream.to_owned(),
            sessions: Mutex::default(),
            sessions_max,
            freed: Arc::default(),
            counters: Arc::clone(counters),
            tasks: tasks.clone(),
        }
    }

    /// Begins a call on the session of `key`, which may have to be opened yet. Waits while all have
    /// calls under way; the caller's deadline bounds that.
    pub async fn begin(&self, key: &Key) -> CallerLease {
        if let Some(lease) = self.try_begin(key) {
            return lease;
        }
        self.counters.add(Counter::CallerSessionsWaited);
        loop {
            // Registered before the look, so that an end in between is not missed.
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            if let Some(lease) = self.try_begin(key) {
                return lease;
            }
            freed.await;
        }
    }

    /// How many there are, where calls are under way on each.
    pub fn full(&self) -> Option<usize> {
        let sessions = self.sessions.lock();
        let full =
            self.sessions_max <= sessions.len() && sessions.values().all(|one| one.is_busy());
        full.then_some(self.sessions_max)
    }

    /// Closes those whose last call ended before `since`, and forgets those that have ended.
    pub async fn sweep(&self, since: Instant) {
        let stale: Vec<_> =
            self.sessions.lock().extract_if(|_, session| session.is_stale(since)).collect();
        join_all(stale.iter().map(|(_, session)| session.close("nobody used it"))).await;
    }

    /// Closes all, whatever is under way on them.
    pub async fn close(&self, why: &str) {
        let all: Vec<_> = self.sessions.lock().drain().collect();
        join_all(all.iter().map(|(_, session)| session.close(why))).await;
    }

    fn try_begin(&self, key: &Key) -> Option<CallerLease> {
        let mut sessions = self.sessions.lock();
        if let Some(session) = sessions.get(key).filter(|session| !session.has_ended()) {
            return Some(session.begin());
        }
        // A session that has ended leaves its room to its successor.
        let ended = sessions.remove(key);
        if ended.as_ref().is_some_and(|ended| ended.was_forgotten()) {
            self.counters.add(Counter::UpstreamSessionsRenewed);
        }
        if ended.is_none() && self.sessions_max <= sessions.len() && !self.make_room(&mut sessions)
        {
            return None;
        }
        let session = Arc::new(CallerSession::new(&self.freed));
        let lease = session.begin();
        sessions.insert(*key, session);
        Some(lease)
    }

    /// Closes those that were used least of late, but none with a call under way; false where all
    /// have one.
    fn make_room(&self, sessions: &mut HashMap<Key, Arc<CallerSession>>) -> bool {
        let idle = sessions.iter().filter(|(_, session)| !session.is_busy());
        let mut idle: Vec<_> = idle.map(|(key, session)| (*session.used.lock(), *key)).collect();
        idle.sort_unstable();
        idle.truncate((self.sessions_max / EVICTED_PART).max(1));
        for (_, key) in &idle {
            let Some(session) = sessions.remove(key) else { continue };
            self.counters.add(Counter::CallerSessionsEvicted);
            throttle::line(("caller sessions", &self.upstream), |more| {
                let upstream = &self.upstream;
                let max = self.sessions_max;
                tracing::info!(
                    upstream,
                    more,
                    "a caller's session at an upstream makes room for another's: there are {max} \
                     (`caller_sessions_max`)"
                );
            });
            self.tasks.finish(async move {
                session.close("another caller's session takes its place").await;
            });
        }
        !idle.is_empty()
    }
}

impl CallerSession {
    fn new(freed: &Arc<Notify>) -> Self {
        Self {
            connection: OnceCell::new(),
            calls: AtomicUsize::new(0),
            used: Mutex::new(Instant::now()),
            freed: Arc::clone(freed),
            attention: Arc::default(),
        }
    }

    /// Begins a call. Only under the lock of all sessions: none is closed in between.
    fn begin(self: &Arc<Self>) -> CallerLease {
        self.calls.fetch_add(1, Ordering::Relaxed);
        CallerLease { session: Arc::clone(self), _attending: self.attention.begin() }
    }

    fn is_busy(&self) -> bool {
        self.calls.load(Ordering::Relaxed) != 0
    }

    fn has_ended(&self) -> bool {
        self.connection.get().is_some_and(Connection::is_closed)
    }

    /// Whether it ended because the server no longer knew it.
    fn was_forgotten(&self) -> bool {
        self.connection.get().is_some_and(|connection| connection.lost_session().is_some())
    }

    fn is_stale(&self, since: Instant) -> bool {
        !self.is_busy() && (self.has_ended() || *self.used.lock() < since)
    }

    async fn close(&self, why: &str) {
        if let Some(connection) = self.connection.get() {
            connection.close(why).await;
        }
    }
}

impl CallerLease {
    /// Returns the session's connection, once it has been opened.
    pub fn connection(&self) -> &OnceCell<Connection> {
        &self.session.connection
    }

    /// Returns what decides when the session's stream is read.
    pub fn attention(&self) -> &Arc<Attention> {
        &self.session.attention
    }
}

impl Drop for CallerLease {
    fn drop(&mut self) {
        *self.session.used.lock() = Instant::now();
        if self.session.calls.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.session.freed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use futures_util::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    fn sessions(max: usize) -> CallerSessions {
        CallerSessions::new("git", max, &Arc::default(), &Tasks::default())
    }

    fn count(sessions: &CallerSessions, counter: Counter) -> u64 {
        sessions.counters.read()[counter.name()]
    }

    #[tokio::test]
    async fn who_finds_all_sessions_busy_waits_for_the_first_that_is_not() {
        let sessions = sessions(2);
        let first = sessions.begin(&[1; 32]).await;
        let second = sessions.begin(&[2; 32]).await;
        assert_eq!(sessions.full(), Some(2));
        let mut third = pin!(sessions.begin(&[3; 32]));
        assert!(third.as_mut().now_or_never().is_none());
        let again = sessions.begin(&[1; 32]).await;
        drop(first);
        assert!(third.as_mut().now_or_never().is_none(), "another call is on that session");
        drop(again);
        let third = third.now_or_never().expect("there is room");
        assert_eq!(count(&sessions, Counter::CallerSessionsEvicted), 1);
        assert_eq!(count(&sessions, Counter::CallerSessionsWaited), 1);
        drop((second, third));
        assert_eq!(sessions.full(), None);
    }

    #[tokio::test]
    async fn sessions_that_nobody_uses_go_and_those_with_calls_stay() {
        let sessions = sessions(5);
        let keys = || sessions.sessions.lock().keys().map(|key| key[0]).collect::<BTreeSet<_>>();
        let busy = sessions.begin(&[1; 32]).await;
        drop(sessions.begin(&[2; 32]).await);
        let since = Instant::now();
        drop(sessions.begin(&[3; 32]).await);
        sessions.sweep(since).await;
        assert_eq!(keys(), [1, 3].into());
        drop(busy);
        sessions.sweep(since).await;
        assert_eq!(keys(), [1, 3].into(), "its call has just ended");
        sessions.sweep(Instant::now()).await;
        assert_eq!(keys(), BTreeSet::new());
    }

    proptest! {
        /// Calls of many callers come and go: there are never more sessions than may be, none with
        /// a call is closed, and the one that makes room is the one unused for longest.
        #[test]
        fn the_least_recently_used_session_makes_room(
            max in 1_usize..5,
            steps in prop::collection::vec((0_u8..8, any::<bool>()), 1..60),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap();
            runtime.block_on(async {
                let sessions = sessions(max);
                let mut held: Vec<(u8, CallerLease)> = Vec::new();
                // The reference: callers by the end of their last call, those of now last.
                let mut order: Vec<u8> = Vec::new();
                for (caller, ends) in steps {
                    if ends {
                        if let Some(at) = held.iter().position(|(other, _)| *other == caller) {
                            held.swap_remove(at);
                            order.retain(|other| *other != caller);
                            order.push(caller);
                        }
                        continue;
                    }
                    let is_busy = |other: &u8| held.iter().any(|(busy, _)| busy == other);
                    let fits = order.contains(&caller) || order.len() < max;
                    let victim = order.iter().position(|other| !is_busy(other));
                    let begun = sessions.begin(&[caller; 32]).now_or_never();
                    assert_eq!(begun.is_some(), fits || victim.is_some());
                    let Some(lease) = begun else { continue };
                    if !fits && let Some(victim) = victim {
                        order.remove(victim);
                    }
                    if !order.contains(&caller) {
                        order.push(caller);
                    }
                    held.push((caller, lease));
                    let open: BTreeSet<u8> =
                        sessions.sessions.lock().keys().map(|key| key[0]).collect();
                    assert_eq!(&open, &order.iter().copied().collect());
                    assert!(open.len() <= max);
                }
            });
        }
    }
}
