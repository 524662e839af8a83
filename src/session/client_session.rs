//! A conversation with a legacy client, and its requests under way.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::{
    call::{Caller, Client, RoutePath, SessionKey, clock, presence::Presence},
    mcp::{id::Id, message::Body},
};

use super::outbox::{EventId, Stream};

/// Tasks of one session that are remembered; more than a client looks at at once.
const TASKS_MAX: usize = 1_000;
/// Calls of a session from elsewhere that are remembered once they have ended here.
const ENDED_MAX: usize = 64;
/// How ids of questions begin; behind it is what tells apart who asked, and a number.
const QUESTION: &str = "tollgate-";

/// A conversation with a legacy client.
#[derive(Debug)]
pub struct Session {
    pub key: SessionKey,
    /// The path of the route it was opened on, and is bound to.
    pub route: RoutePath,
    pub client: Arc<Client>,
    /// Whether its client reads what is announced.
    pub presence: Arc<Presence>,
    /// Whether it was opened elsewhere, by another gate or by this one before it was restarted:
    /// what is not known of it here may be known there.
    is_from_elsewhere: bool,
    /// The number in the ids of questions that are asked here, and in no others.
    tag: u32,
    /// Its id, once a request has come with it.
    pub(super) id: OnceLock<Arc<str>>,
    pub(super) used: AtomicU64,
    pub(super) state: Mutex<SessionState>,
}

#[derive(Debug, Default)]
pub(super) struct SessionState {
    log_level: Option<String>,
    calls: HashMap<Id, Arc<Cancellation>>,
    questions: HashMap<Id, oneshot::Sender<Body>>,
    questions_made: u64,
    /// Calls that ended here, the newest last, of a session from elsewhere.
    ended: VecDeque<Id>,
    pub(super) streams: HashMap<u64, Arc<Stream>>,
    streams_made: u64,
    subscriptions: BTreeSet<String>,
    /// The caller that opened the stream of announcements.
    listener: Option<Caller>,
    /// Tasks that its server gave it, the newest last.
    tasks: VecDeque<String>,
}

impl Session {
    pub(super) fn new(key: SessionKey, route: &RoutePath, client: Client) -> Self {
        Self {
            key,
            route: route.clone(),
            client: Arc::new(client),
            presence: Arc::default(),
            is_from_elsewhere: false,
            tag: rand::random(),
            id: OnceLock::new(),
            used: AtomicU64::new(clock::unix_seconds()),
            state: Mutex::default(),
        }
    }

    /// Notes that it was opened elsewhere.
    pub(super) fn opened_elsewhere(self) -> Self {
        Self { is_from_elsewhere: true, ..self }
    }

    /// Whether a question of this id was asked elsewhere: by another gate that has the same
    /// session, or by this one before it was restarted.
    pub fn is_asked_elsewhere(&self, id: &Id) -> bool {
        let text = id.raw().as_str().trim_matches('"');
        let tag = text.strip_prefix(QUESTION).and_then(|rest| rest.split_once('-'));
        tag.and_then(|(tag, _)| u32::from_str_radix(tag, 16).ok())
            .is_some_and(|tag| tag != self.tag)
    }

    /// Whether a call of this id that is not under way here may be so elsewhere.
    pub fn may_run_elsewhere(&self, id: &Id) -> bool {
        let state = self.state.lock();
        self.is_from_elsewhere && !state.calls.contains_key(id) && !state.ended.contains(id)
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
        let id = Id::string(&format!("{QUESTION}{:08x}-{}", self.tag, state.questions_made));
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

    /// Returns who opened that stream last: what is announced there is for them.
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

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// A call is under way, or a client reads a stream.
    pub(super) fn is_busy(&self) -> bool {
        let state = self.state.lock();
        !state.calls.is_empty() || state.streams.values().any(|stream| stream.is_read())
    }

    /// Forgets streams that ended longer ago than this.
    pub(super) fn forget_streams(&self, kept: Duration) {
        let ended = |stream: &Stream| stream.ended_at().is_some_and(|ended| kept < ended.elapsed());
        self.state.lock().streams.retain(|_, stream| !ended(stream));
    }

    /// Cancels what is under way and ends all streams.
    pub(super) fn close(&self) {
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
        let mut state = self.session.state.lock();
        state.calls.remove(&self.id);
        if self.session.is_from_elsewhere {
            if state.ended.len() == ENDED_MAX {
                state.ended.pop_front();
            }
            state.ended.push_back(self.id.clone());
        }
    }
}
