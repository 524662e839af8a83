//! Replies as their events come: JSON where there is only an answer, a stream of events where there
//! is more.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream::unfold;
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::Instant,
};

use crate::{
    call::{Caller, ListKind, RoutePath, tasks::Tasks},
    config::Limits,
    mcp::{message, method::Method, raw::Raw},
    pipeline::{ClientEvent, ListenEvent, ListenStream, ResponseStream},
    session::{
        Session,
        outbox::{EventId, OutboxReader, Stream},
    },
    snapshot::{Gate, Push, Route, RouteSnapshot, Subscriber},
    telemetry::{Counter, Counters},
};

use super::{
    accept::Accepts,
    conversation::Conversation,
    reply::{self, HttpReply},
    sse,
    step::{self, CallEvent},
};

/// Time after which a client whose stream broke is to come back, where the upstream does not say.
const RETRY: Duration = Duration::from_secs(1);

/// The reply to a call under way: its first event decides what kind of reply it is.
pub async fn back(
    gate: &Arc<Gate>,
    limits: &Limits,
    back: ResponseStream,
    accepts: Accepts,
) -> HttpReply {
    let mut accepts = accepts;
    let mut pending = PendingCall::new(back, gate.tasks.clone());
    let begin = Instant::now();
    let session = pending.back().call().session.as_ref();
    let age = session.and_then(|session| age(session, limits)).filter(|_| accepts != Accepts::Json);
    let patience = age.map_or(limits.keep_alive, |age| age.min(limits.keep_alive));
    loop {
        match tokio::time::timeout(patience, step::next(pending.back())).await {
            Ok(CallEvent::Final(last)) => {
                let session = pending.done().call().session.clone();
                let session = session.filter(|_| accepts == Accepts::PrefersStream);
                let streamed =
                    session.and_then(|session| single(limits, &session, &last.answer.text));
                return streamed.unwrap_or_else(|| last.answer.into_reply());
            }
            // A client that takes no stream gets the answer alone.
            Ok(CallEvent::Message(_) | CallEvent::Paused(_)) | Err(_)
                if accepts == Accepts::Json => {}
            first => match opened(pending.back(), limits) {
                ReplyStream::Modern => {
                    return modern(limits.keep_alive, pending.done(), first.ok());
                }
                ReplyStream::Legacy(session, stream) => {
                    let writer = StreamWriter::new(gate, Arc::clone(&stream), limits);
                    gate.tasks.finish(writer.run(pending.done(), first.ok()));
                    let prime = session.client.version.has_priming();
                    return legacy(&session, limits, stream.read(0), prime, begin);
                }
                // Later calls took the last stream. This one was sent, and is not given up for
                // that.
                ReplyStream::Full => {
                    gate.counters.add(Counter::RefusedStreams);
                    accepts = Accepts::Json;
                    pending.back().refuse_all_questions();
                }
            },
        }
    }
}

/// The stream that carries the events of a call.
enum ReplyStream {
    /// The body of the reply itself.
    Modern,
    Legacy(Arc<Session>, Arc<Stream>),
    Full,
}

/// Opens a stream for a call under way.
fn opened(back: &ResponseStream, limits: &Limits) -> ReplyStream {
    let Some(session) = &back.call().session else { return ReplyStream::Modern };
    match session.stream(limits.streams_max) {
        Some(stream) => ReplyStream::Legacy(Arc::clone(session), stream),
        None => ReplyStream::Full,
    }
}

/// The age at which a stream is closed whose client knows how to come back for the rest.
fn age(session: &Session, limits: &Limits) -> Option<Duration> {
    limits.stream_age.filter(|_| session.client.version.has_priming())
}

/// A stream of one answer, for a legacy client that would rather have a stream; none where it has
/// too many open.
pub fn single(limits: &Limits, session: &Arc<Session>, answer: &Bytes) -> Option<HttpReply> {
    let stream = session.stream(limits.streams_max)?;
    stream.push(answer.clone(), limits.outbox_bytes_max);
    stream.end();
    let prime = session.client.version.has_priming();
    Some(legacy(session, limits, stream.read(0), prime, Instant::now()))
}

/// Events of a modern call. The connection closed is the call cancelled: the body owns it.
fn modern(keep_alive: Duration, back: ResponseStream, first: Option<CallEvent>) -> HttpReply {
    let state = Some((back, first));
    reply::event_reply(unfold(state, move |state| async move {
        let (mut back, first) = state?;
        let step = match first {
            Some(first) => Ok(first),
            None => tokio::time::timeout(keep_alive, step::next(&mut back)).await,
        };
        match step {
            Ok(CallEvent::Message(text)) => Some((sse::event(None, &text), Some((back, None)))),
            Ok(CallEvent::Final(last)) => Some((sse::event(None, &last.answer.text), None)),
            Err(_) | Ok(CallEvent::Paused(_)) => Some((sse::keep_alive(), Some((back, None)))),
        }
    }))
}

/// A subscription's events.
pub fn listen(limits: &Limits, listening: ListenStream) -> HttpReply {
    let keep_alive = limits.keep_alive;
    reply::event_reply(unfold(Some(Box::new(listening)), move |state| async move {
        let mut listening = state?;
        match tokio::time::timeout(keep_alive, listening.next()).await {
            Err(_) => Some((sse::keep_alive(), Some(listening))),
            Ok(ListenEvent::Message(text)) => Some((sse::event(None, &text), Some(listening))),
            Ok(ListenEvent::End(body)) => {
                let text = message::response(Some(listening.id()), &body);
                Some((sse::event(None, &text), None))
            }
        }
    }))
}

/// The stream that GET opens: what is announced, and what upstreams say to this session. It goes on
/// after the event the client had last, or where that is none of this stream's, after the last that
/// any GET was given.
pub fn standalone(
    conversation: &Conversation,
    session: &Arc<Session>,
    last: Option<EventId>,
) -> HttpReply {
    let stream = announced(conversation, session);
    let reader = match last.filter(|last| stream.has(*last)) {
        Some(last) => stream.read(last.event),
        None => stream.read_on(),
    };
    legacy(session, conversation.at.limits(), reader, false, Instant::now())
}

/// The session's stream of what is announced, on which announcements go from now on.
pub fn announced(conversation: &Conversation, session: &Arc<Session>) -> Arc<Stream> {
    let Conversation { at: RouteSnapshot { gate, route, .. }, caller, .. } = conversation;
    let (stream, first) = session.standalone(caller);
    if first {
        // Subscribed before the client reads that it listens: it misses nothing from then on.
        let pushes = route.pushes.subscribe();
        let writer = StreamWriter::new(gate, Arc::clone(&stream), conversation.at.limits());
        let subscriber = subscriber_of(route, caller, session);
        let announcing =
            writer.announce(pushes, Arc::clone(gate), subscriber, Arc::downgrade(session));
        gate.tasks.spawn("session: announce", announcing);
    }
    if gate.is_closing() {
        stream.end();
    }
    stream
}

/// The rest of a stream that broke.
pub fn resume(
    session: &Arc<Session>,
    limits: &Limits,
    stream: &Arc<Stream>,
    after: u64,
) -> HttpReply {
    legacy(session, limits, stream.read(after), false, Instant::now())
}

/// Announces every list, for a client that was too slow to be told which.
fn everything_changed() -> Vec<Raw> {
    let kinds = [ListKind::Tools, ListKind::Prompts, ListKind::Resources];
    kinds.map(|kind| message::notification(kind.changed().name(), &Raw::object())).into()
}

/// A body that reads a session's stream, for a request that began then.
fn legacy(
    session: &Arc<Session>,
    limits: &Limits,
    reader: OutboxReader,
    prime: bool,
    begin: Instant,
) -> HttpReply {
    let keep_alive = limits.keep_alive;
    let bytes_max = limits.outbox_bytes_max;
    let until = age(session, limits).map(|age| begin + age);
    let state =
        StreamReader { session: Arc::downgrade(session), reader, prime, until, over: false };
    reply::event_reply(unfold(state, move |mut state| async move {
        if std::mem::take(&mut state.prime) {
            return Some((sse::priming(state.reader.id(0), RETRY.as_millis()), state));
        }
        if state.over {
            return None;
        }
        let silence = Instant::now() + keep_alive;
        let wake = state.until.map_or(silence, |until| until.min(silence));
        match tokio::time::timeout_at(wake, state.reader.next()).await {
            Err(_) if state.until == Some(wake) => {
                state.over = true;
                Some((sse::retry(RETRY.as_millis()), state))
            }
            Err(_) => Some((sse::keep_alive(), state)),
            Ok(Some((number, text))) => {
                Some((sse::event(Some(state.reader.id(number)), &text), state))
            }
            Ok(None) if state.reader.stream().is_ended() => {
                state.forget_beyond(bytes_max);
                None
            }
            Ok(None) => {
                state.over = true;
                Some((sse::retry(state.reader.retry().unwrap_or(RETRY).as_millis()), state))
            }
        }
    }))
}

struct StreamReader {
    session: Weak<Session>,
    reader: OutboxReader,
    prime: bool,
    /// The time at which it is closed, so that the client takes it up again.
    until: Option<Instant>,
    over: bool,
}

impl StreamReader {
    /// A stream read to its end is kept all the same: what was sent may not have arrived. One whose
    /// last event alone is larger than what may be kept is not.
    fn forget_beyond(&self, bytes_max: usize) {
        let stream = self.reader.stream();
        if let Some(session) = self.session.upgrade().filter(|_| bytes_max < stream.bytes()) {
            session.forget_stream(stream.number);
        }
    }
}

/// Fills a stream of a session, whether a client reads it now or later.
struct StreamWriter {
    stream: Arc<Stream>,
    bytes_max: usize,
    counters: Arc<Counters>,
}

impl StreamWriter {
    fn new(gate: &Gate, stream: Arc<Stream>, limits: &Limits) -> Self {
        let counters = Arc::clone(&gate.counters);
        Self { stream, bytes_max: limits.outbox_bytes_max, counters }
    }

    /// Carries a legacy call's events.
    async fn run(self, mut back: ResponseStream, mut first: Option<CallEvent>) {
        loop {
            let step = match first.take() {
                Some(first) => first,
                None => step::next(&mut back).await,
            };
            match step {
                CallEvent::Message(text) => self.push(text),
                CallEvent::Paused(retry) => self.stream.pause(retry),
                CallEvent::Final(last) => {
                    last.text().into_iter().for_each(|text| self.push(text));
                    return self.stream.end();
                }
            }
        }
    }

    /// Passes announcements on for as long as the stream lives; it ends with the route.
    async fn announce(
        self,
        mut pushes: broadcast::Receiver<Push>,
        gate: Arc<Gate>,
        subscriber: impl Future<Output = Subscriber>,
        session: Weak<Session>,
    ) {
        let mut subscriber = subscriber.await;
        loop {
            let Some(listener) = listener(&session) else { return };
            let push = tokio::select! {
                // A receiver keeps its place when dropped.
                push = pushes.recv() => push,
                () = self.stream.ended() => return,
                () = wait_for_revocation(&gate, subscriber.route(), listener.as_ref()) => {
                    // A client that came with another proof meanwhile listens on by that.
                    match self::listener(&session).flatten() {
                        Some(caller) if !gate.is_still_allowed(subscriber.route(), &caller) => {
                            gate.log_revocation(subscriber.route(), &caller);
                            return self.stream.end();
                        }
                        Some(_) | None => continue,
                    }
                }
            };
            let Some(session) = session.upgrade() else { return };
            subscriber.set_caller(session.listener());
            let texts = match push {
                // Not for its caller to know.
                Ok(push) if !subscriber.wants(&gate, &push).await => Vec::new(),
                Ok(Push::Changed { method, .. }) => {
                    vec![message::notification(method.name(), &Raw::object())]
                }
                // A session with a connection of its own is told there.
                Ok(Push::Updated { upstream, uri, params })
                    if session.is_subscribed(&uri) && !upstream.has_own(session.key) =>
                {
                    vec![message::notification(Method::ResourceUpdated.name(), &params)]
                }
                Ok(Push::Updated { .. }) => Vec::new(),
                Err(RecvError::Lagged(_)) => everything_changed(),
                Err(RecvError::Closed) => return self.stream.end(),
            };
            for text in texts {
                self.push(text.bytes().clone());
            }
        }
    }

    fn push(&self, text: Bytes) {
        for _ in 0..self.stream.push(text, self.bytes_max) {
            self.counters.add(Counter::OutboxDropped);
        }
    }
}

/// The subscriber of a session's client to the announcements of a route.
fn subscriber_of(
    route: &Arc<Route>,
    caller: &Caller,
    session: &Session,
) -> impl Future<Output = Subscriber> + use<> {
    let route = Arc::clone(route);
    let caller = caller.clone();
    let client = Arc::clone(&session.client);
    async move { Subscriber::new(&route, caller, client).await }
}

/// The caller who reads a session's stream; none where the session is gone.
fn listener(session: &Weak<Session>) -> Option<Option<Caller>> {
    session.upgrade().map(|session| session.listener())
}

/// Waits until the caller who reads a stream may do so no more.
async fn wait_for_revocation(gate: &Gate, route: &RoutePath, listener: Option<&Caller>) {
    match listener {
        Some(caller) => gate.wait_for_revocation(route, caller).await,
        None => std::future::pending().await,
    }
}

/// A call whose reply has not begun. A legacy client that goes away has not cancelled it
/// (2025-11-25, transports): dropped then, it is brought to its end in the background.
struct PendingCall {
    back: Option<ResponseStream>,
    tasks: Tasks,
}

impl PendingCall {
    fn new(back: ResponseStream, tasks: Tasks) -> Self {
        Self { back: Some(back), tasks }
    }

    fn back(&mut self) -> &mut ResponseStream {
        self.back.as_mut().expect("taken only by `done`, which ends this")
    }

    fn done(mut self) -> ResponseStream {
        self.back.take().expect("taken once: this consumes it")
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        let Some(mut back) = self.back.take().filter(|back| back.call().session.is_some()) else {
            return;
        };
        back.refuse_questions();
        self.tasks.finish(async move {
            while let Ok(ClientEvent::Message(_) | ClientEvent::Paused(_)) = back.next().await {}
        });
    }
}
