//! A client on a channel: what it sends is acted on in its order, what it is to read is queued.

use std::{net::IpAddr, sync::Arc};

use bytes::Bytes;
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{
    call::{Caller, RoutePath},
    ingress::{
        conversation::{Conversation, MessageAction, OpenedSession},
        decode::Unread,
        reply::{self, Rejection, RequestHead},
        stream,
    },
    mcp::{
        id::Id,
        message::{self, Incoming, Message, Request},
        method::Method,
    },
    pipeline::{Call, Fault},
    session::{Session, outbox::OutboxReader},
    snapshot::{Gate, RouteSnapshot, Snapshot},
    telemetry::Counter,
};

use super::{
    calls::{ActiveCall, ActiveCalls},
    queue::{self, QueueFull},
};

/// The route that a channel leads to, and its caller.
pub struct ChannelSettings {
    pub gate: Arc<Gate>,
    /// The path of the route.
    pub route: RoutePath,
    pub caller: Caller,
    /// The address that it was opened from; none of a pipe.
    pub peer: Option<IpAddr>,
    /// Whether the modern era can come on it, too.
    pub takes_modern: bool,
}

/// A client on a channel. A clone is the same one.
#[derive(Clone)]
pub struct ClientChannel(Arc<Inner>);

struct Inner {
    settings: ChannelSettings,
    queue: queue::Sender,
    calls: ActiveCalls,
    session: Mutex<Option<ChannelSession>>,
    /// The client sends nothing more: it can be asked nothing.
    input_ended: CancellationToken,
    closed: CancellationToken,
}

/// The session of a legacy client.
struct ChannelSession {
    session: Arc<Session>,
    /// Announcements, until the client is ready to read them.
    announcements: Option<OutboxReader>,
}

/// The messages that are to be written, in their order. Whoever holds it holds the channel: it
/// closes the channel when it is dropped.
pub struct WriteQueue {
    channel: ClientChannel,
    messages: queue::Receiver,
    is_closing: bool,
}

impl ClientChannel {
    pub fn open(settings: ChannelSettings) -> (Self, WriteQueue) {
        let bytes_max = settings.gate.snapshot().config.server.limits.channel_bytes_max;
        let (sender, messages) = queue::queue(bytes_max);
        let channel = Self(Arc::new(Inner {
            settings,
            queue: sender,
            calls: ActiveCalls::default(),
            session: Mutex::default(),
            input_ended: CancellationToken::new(),
            closed: CancellationToken::new(),
        }));
        (channel.clone(), WriteQueue { channel, messages, is_closing: false })
    }

    /// Acts on what the client sent; waits where it reads its answers too slowly. A call is only
    /// begun; `initialize` is answered before the next message is looked at, as clients that send
    /// several at once expect.
    pub async fn receive(&self, incoming: Incoming) {
        let Some(at) = self.route() else { return };
        let Inner { settings, .. } = &*self.0;
        let caller = settings.caller.clone();
        let takes_modern = settings.takes_modern;
        let peer = settings.peer;
        let conversation = Conversation { at, caller, peer, request: None, takes_modern };
        match incoming {
            Incoming::One(message) => {
                let session = || self.session().ok_or(Rejection::NotOpened);
                let action = conversation.message(None, message, session);
                self.act(&conversation, action).await;
            }
            Incoming::Batch(messages) => self.batch(&conversation, messages).await,
        }
    }

    /// Answers that a message could not be read.
    pub async fn reject(&self, unread: &Unread) {
        let counters = &self.gate().counters;
        self.send(reply::rejected(&unread.rejection, unread.id.as_ref(), counters).text).await;
    }

    /// The client sends nothing more. Calls under way may end, within `drain`.
    pub async fn finish(&self) {
        self.0.input_ended.cancel();
        let session = self.session();
        if let Some(session) = session {
            session.refuse_questions();
        }
        if !self.gate().is_closing() {
            self.0.calls.end_listening();
        }
        let patience = self.snapshot().config.server.limits.drain;
        if tokio::time::timeout(patience, self.0.calls.ended()).await.is_err() {
            tracing::warn!("calls under way did not end within {patience:?} (`drain`)");
        }
    }

    /// Ends it: calls under way are cancelled, and the session is over.
    pub fn close(&self) {
        self.0.closed.cancel();
        let opened = self.0.session.lock().take();
        if let Some(opened) = opened {
            self.end(opened.session);
        }
    }

    /// Waits until it is closed.
    pub async fn closed(&self) {
        self.0.closed.cancelled().await;
    }

    /// Waits until the client sends nothing more.
    pub(super) async fn input_ended(&self) {
        self.0.input_ended.cancelled().await;
    }

    pub fn gate(&self) -> &Arc<Gate> {
        &self.0.settings.gate
    }

    /// The configuration of now: loaded for each message, and for nothing that comes of it later.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.gate().snapshot()
    }

    /// Waits for room in the queue; what comes after the end is dropped.
    pub(super) async fn send(&self, text: Bytes) {
        self.0.queue.send(text).await;
    }

    /// Sends the response to a request, or where its client has too many bytes to read already,
    /// that it was dropped.
    pub(super) async fn send_answer(&self, id: Option<&Id>, text: Bytes) {
        if self.0.queue.send_answer(text).await == Err(QueueFull) {
            let rejection = reply::rejected(&Rejection::ChannelBytes, id, &self.gate().counters);
            self.send(rejection.text).await;
        }
    }

    async fn act(&self, conversation: &Conversation, action: MessageAction) {
        match action {
            MessageAction::Run(call) => self.start(&conversation.at, call).await,
            MessageAction::Initialize(request) => self.initialize(conversation, &request).await,
            MessageAction::Answer(answer) => self.send(answer.text).await,
            MessageAction::Cancel(id) => self.0.calls.cancel(&id),
            MessageAction::Announce => self.announce(),
            MessageAction::Accept => (),
        }
    }

    async fn start(&self, at: &RouteSnapshot, call: Call) {
        match self.begin(at, &call) {
            Err(text) => self.send(text).await,
            Ok(active) => {
                let running = self.clone().answer(at.clone(), call, active);
                self.gate().tasks.spawn("channel: call", running);
            }
        }
    }

    /// A batch (2025-03-26): all at once, answered with an array in their order.
    async fn batch(&self, conversation: &Conversation, messages: Vec<Message>) {
        let session = match conversation.batch(self.session().ok_or(Rejection::NotOpened)) {
            Ok(session) => session,
            Err(answer) => return self.send(answer.text).await,
        };
        let mut answers = Vec::new();
        for message in messages {
            match conversation.legacy(&session, message) {
                MessageAction::Run(call) => {
                    let begun = self.begin(&conversation.at, &call);
                    answers.push(begun.map(|active| (active, call)));
                }
                MessageAction::Answer(answer) => answers.push(Err(answer.text)),
                action @ (MessageAction::Initialize(_)
                | MessageAction::Cancel(_)
                | MessageAction::Announce
                | MessageAction::Accept) => self.act(conversation, action).await,
            }
        }
        if answers.is_empty() {
            return;
        }
        let channel = self.clone();
        let at = conversation.at.clone();
        self.gate().tasks.spawn("channel: batch", async move {
            let each = answers.into_iter().map(async |begun| match begun {
                Ok((active, call)) => channel.run_to_end(at.clone(), call, &active).await,
                Err(text) => Some(text),
            });
            let answers: Vec<_> = join_all(each).await.into_iter().flatten().collect();
            if let Some(text) = message::array(&answers) {
                channel.send_answer(None, text).await;
            }
        });
    }

    /// Counts a call among those under way, or refuses it.
    fn begin(&self, at: &RouteSnapshot, call: &Call) -> Result<ActiveCall, Bytes> {
        if call.session.is_some() && call.method != Method::Ping {
            // A client that asks is ready, whether it said so or not.
            self.announce();
        }
        let listens = call.method == Method::Listen;
        let begun = self.0.calls.begin(&call.id, listens, at.limits().channel_calls_max);
        begun.map_err(|fault| {
            if matches!(fault, Fault::Limit(_)) {
                self.gate().counters.add(Counter::RefusedCalls);
            }
            let version = call.client.version;
            let id = &call.id;
            let request = call.request;
            let head = RequestHead { id, request, method: Method::Ping, version };
            reply::fault(&fault, head, &self.gate().counters).text
        })
    }

    async fn initialize(&self, conversation: &Conversation, request: &Request) {
        match conversation.initialize(request).await {
            Ok(OpenedSession { session, text, .. }) => {
                // Nothing is awaited between: what was opened is kept.
                self.keep(session, conversation);
                self.send(text).await;
            }
            Err(answer) => self.send(answer.text).await,
        }
    }

    /// Keeps a session just opened. A client that opens another one begins anew.
    fn keep(&self, session: Arc<Session>, conversation: &Conversation) {
        let announced = stream::announced(conversation, &session);
        let opened = ChannelSession { session, announcements: Some(announced.read_on()) };
        let earlier = self.0.session.lock().replace(opened);
        if let Some(earlier) = earlier {
            self.end(earlier.session);
        }
        if self.0.closed.is_cancelled() {
            self.close();
        }
    }

    fn end(&self, session: Arc<Session>) {
        self.gate().sessions.end(&session);
        self.gate().forget_session(session);
    }

    /// Sends announcements to the client from now on.
    fn announce(&self) {
        let mut opened = self.0.session.lock();
        let Some(opened) = &mut *opened else { return };
        let Some(reader) = opened.announcements.take() else { return };
        let forwarding = self.clone().forward(reader, Arc::clone(&opened.session));
        self.gate().tasks.spawn("channel: announce", forwarding);
    }

    /// Sends the events of a session's stream, for as long as it lasts.
    async fn forward(self, mut reader: OutboxReader, session: Arc<Session>) {
        loop {
            let event = tokio::select! {
                // Nobody would read what is lost then.
                () = self.closed() => return,
                event = reader.next() => event,
            };
            let Some((_, text)) = event else { break };
            self.send(text).await;
        }
        let is_ours = self.session().is_some_and(|now| Arc::ptr_eq(&now, &session));
        if is_ours && !self.gate().is_closing() {
            tracing::warn!("a client's session had to make room, or its route is gone");
            self.close();
        }
    }

    fn session(&self) -> Option<Arc<Session>> {
        self.0.session.lock().as_ref().map(|opened| Arc::clone(&opened.session))
    }

    /// The route as it is now; without it the channel leads nowhere.
    fn route(&self) -> Option<RouteSnapshot> {
        let route = self.gate().route_at(&self.0.settings.route);
        if route.is_none() {
            tracing::warn!(route = self.0.settings.route.as_str(), "this route is gone");
            self.close();
        }
        route
    }
}

impl WriteQueue {
    /// The message to be written next; none once the channel is closed and all is written.
    pub async fn next(&mut self) -> Option<Bytes> {
        if !self.is_closing {
            tokio::select! {
                // Dropped, both keep what they have.
                text = self.messages.next() => return text,
                () = self.channel.closed() => (),
            }
            self.is_closing = true;
            self.messages.close();
        }
        self.messages.next().await
    }

    /// Tells whether nothing waits just now.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}

impl Drop for WriteQueue {
    fn drop(&mut self) {
        self.channel.close();
    }
}
