//! A connection that several calls share: ids and progress tokens are its own.
//!
//! How whole messages come and go is the transport's affair: as lines ([`pipe`]), or as events and
//! POSTs ([`super::http`]).

mod call;
mod calls;
mod pipe;
mod queue;
mod words;

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    call::{
        Token,
        event::{Event, ServerNotification, ServerRequest},
        tasks::Tasks,
    },
    mcp::{
        compat,
        id::Id,
        lenient::{self, Damaged, Received},
        message::{self, Body, Message, Notification, Request, Response},
        method::Method,
        raw::Raw,
        version::Version,
    },
    telemetry::Counter,
    upstream::{
        exchange::error::SendError,
        replica::inbox::EventSink,
        transport::{http::Mailbox, noise::Noise, read_budget::Reservation, sse::Frame},
    },
};

#[cfg(feature = "internals")]
pub use self::pipe::take_lines;
pub use self::{
    call::MultiplexedCall,
    pipe::open,
    words::{cancellation, is_question, own_token, refusal},
};
use self::{
    calls::{Calls, Slot},
    queue::Queue,
    words::call_of,
};

/// Events of one call that wait to be read; the last place is kept for the answer.
const EVENTS_MAX: usize = 256;
/// Questions that wait for a call.
const EARLY_MAX: usize = 8;
/// Calls that were answered with what is no answer, and have not been told so yet.
const SPOILT_MAX: usize = 1_024;
/// What was said before the end has this long to be taken.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// A clone is the same connection.
#[derive(Debug, Clone)]
pub struct Multiplexer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    out: Out,
    calls: Mutex<Calls>,
    /// What is wrong with the answers of calls that have yet to be told so.
    spoilt: Mutex<HashMap<u64, String>>,
    /// Questions that came on a leased connection before there was a call.
    early_requests: Mutex<Vec<ServerRequest>>,
    ids: AtomicU64,
    /// Of one client: what the server asks belongs to its only call.
    exclusive: bool,
    version: Mutex<Version>,
    closed: CancellationToken,
    why: Mutex<String>,
    /// It was closed because a message had no end.
    too_large: AtomicBool,
    /// What it brings is held back, until there is room for a large message.
    held_back: AtomicBool,
    noise: Mutex<Noise>,
    /// The server has said something that is, or was meant to be, a message.
    spoke: AtomicBool,
    sink: EventSink,
    /// What is posted without anybody waiting for it.
    said: TaskTracker,
    tasks: Tasks,
}

/// How messages leave.
#[derive(Debug)]
pub enum Out {
    /// Written one after the other.
    Queue(Arc<Queue>),
    /// Each posted by itself.
    Mailbox(Mailbox),
}

/// On whose behalf a request is sent. What the server says without naming a call can belong to a
/// client's only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Gateway,
    Client {
        /// The params have a progress token, which must become the connection's own.
        has_token: bool,
    },
}

impl Multiplexer {
    /// One with nothing to read yet: see [`Multiplexer::run`]. It ends with `tasks`.
    pub fn new(out: Out, exclusive: bool, sink: EventSink, tasks: &Tasks) -> Self {
        Self(Arc::new(Inner {
            out,
            calls: Mutex::default(),
            spoilt: Mutex::default(),
            early_requests: Mutex::default(),
            ids: AtomicU64::new(1),
            exclusive,
            version: Mutex::new(Version::LEGACY_LATEST),
            closed: CancellationToken::new(),
            why: Mutex::default(),
            too_large: AtomicBool::new(false),
            held_back: AtomicBool::new(false),
            noise: Mutex::new(sink.noise()),
            spoke: AtomicBool::new(false),
            sink,
            said: TaskTracker::new(),
            tasks: tasks.child(),
        }))
    }

    /// Runs what reads or writes for it; the connection is closed with its end, for the reason that
    /// it gives.
    pub fn run<W>(&self, name: &'static str, work: impl FnOnce(Self) -> W)
    where
        W: Future<Output = String> + Send + 'static,
    {
        let (lines, work) = (self.clone(), work(self.clone()));
        self.0.tasks.spawn(name, async move {
            let why = work.await;
            lines.close(&why);
        });
    }

    /// Sends a request. `params` are sent with this connection's own progress token where they have
    /// one.
    pub async fn request(
        &self,
        method: Method,
        params: &Raw,
        origin: Origin,
    ) -> Result<MultiplexedCall, SendError> {
        let id = self.0.ids.fetch_add(1, Ordering::Relaxed);
        let (events_in, events) = mpsc::channel(EVENTS_MAX);
        if origin != Origin::Gateway {
            for question in self.0.early_requests.lock().drain(..) {
                // There is room: fewer wait than fit.
                events_in.try_send(Event::ServerRequest(question)).ok();
            }
        }
        self.0.calls.lock().slots.insert(id, Slot { events: events_in, origin });
        let mut call = MultiplexedCall::new(self.clone(), id, events);
        let has_token = origin == Origin::Client { has_token: true };
        let own = has_token.then(|| own_token(params, id));
        let text = message::request(&Id::number(id), method.name(), own.as_ref().unwrap_or(params));
        match &self.0.out {
            Out::Queue(queue) => {
                self.write(queue, Some(id), text).await?;
                call.queued();
            }
            Out::Mailbox(_) if self.is_closed() => return Err(self.unavailable()),
            Out::Mailbox(mailbox) => call.post(mailbox.post(text)),
        }
        Ok(call)
    }

    /// From here on it is its caller's with this token. A process knows of none.
    pub fn set_token(&self, token: &Token) {
        match &self.0.out {
            Out::Queue(_) => (),
            Out::Mailbox(mailbox) => mailbox.set_token(token),
        }
    }

    /// From here on the server is answered in the words of this version.
    pub fn agree(&self, version: Version) {
        *self.0.version.lock() = version;
    }

    pub async fn notify(&self, method: Method, params: &Raw) -> Result<(), SendError> {
        let text = message::notification(method.name(), params).bytes().clone();
        match &self.0.out {
            Out::Queue(queue) => self.write(queue, None, text).await,
            Out::Mailbox(_) if self.is_closed() => Err(self.unavailable()),
            Out::Mailbox(mailbox) => mailbox.deliver(text).await,
        }
    }

    /// Waits, not for long, until what is on its way has been taken: the cancellation of the call
    /// that ends it, for example.
    pub async fn last_words(&self) {
        self.0.said.close();
        tokio::time::timeout(LAST_WORDS, self.0.said.wait()).await.ok();
        self.0.said.reopen();
    }

    /// Ends it from our side; calls under way are told why.
    pub fn close(&self, why: &str) {
        {
            let mut said = self.0.why.lock();
            if said.is_empty() {
                why.clone_into(&mut said);
            }
        }
        self.0.closed.cancel();
        if let Out::Queue(queue) = &self.0.out {
            queue.close();
        }
        self.0.tasks.stop();
        self.0.calls.lock().slots.clear();
        self.0.early_requests.lock().clear();
    }

    /// Waits for its end, and says why it came. Calls under way have been told by then.
    pub async fn closed(&self) -> String {
        self.0.closed.cancelled().await;
        self.why()
    }

    pub fn is_closed(&self) -> bool {
        self.0.closed.is_cancelled()
    }

    /// Why it is closed; empty while it is open.
    pub fn why(&self) -> String {
        self.0.why.lock().clone()
    }

    /// Whether the server has said nothing yet, noise apart: what a launcher prints while it
    /// downloads is no answer.
    pub fn is_silent(&self) -> bool {
        !self.0.spoke.load(Ordering::Relaxed)
    }

    pub fn message_bytes_max(&self) -> usize {
        self.0.sink.answer_bytes_max()
    }

    /// Notes that `what` the server sent is larger than that; gives the reason to close.
    pub fn too_large(&self, what: &str) -> String {
        self.0.sink.count(Counter::UpstreamTooLarge);
        self.0.too_large.store(true, Ordering::Relaxed);
        format!(
            "it sent {what} of more than {} bytes (`answer_bytes_max`)",
            self.message_bytes_max()
        )
    }

    /// Notes that the server sent too much that is no message; gives the reason to close.
    pub fn noisy(&self, why: String) -> String {
        self.0.sink.noisy(why)
    }

    /// Takes one event of a stream, whose data may be a message.
    pub fn hear(&self, frame: &Frame, reserved: Option<Reservation>) {
        if frame.is_message() {
            self.receive(&frame.data, reserved);
        } else {
            self.0.sink.count(Counter::UpstreamEventsIgnored);
            self.waste(frame.data.len());
        }
    }

    /// Counts bytes that are no message; a server that sends too many is ended.
    fn waste(&self, bytes: usize) {
        let ends = self.0.noise.lock().heard(bytes, Instant::now());
        if let Some(why) = ends.filter(|_| !self.is_closed()) {
            self.close(&self.0.sink.noisy(why));
        }
    }

    /// Counts what is read of a message; waits, and the server with it, where there is no room.
    pub async fn hold(&self, reservation: &mut Reservation, held: usize) {
        let mut holding = pin!(reservation.hold(self.0.sink.reading(), held));
        if let Some(()) = holding.as_mut().now_or_never() {
            return;
        }
        self.0.held_back.store(true, Ordering::Relaxed);
        holding.await;
        self.0.held_back.store(false, Ordering::Relaxed);
    }

    /// Takes one whole message from the server, or several in an array; `reserved` is what it
    /// counts as, if it is large.
    pub fn receive(&self, text: &Bytes, mut reserved: Option<Reservation>) {
        let received = lenient::read(text);
        if self.is_silent() {
            let damaged = matches!(received, Received::Damaged(_));
            let speaks = !damaged || memchr::memmem::find(text, b"jsonrpc").is_some();
            self.0.spoke.store(speaks, Ordering::Relaxed);
        }
        match received {
            Received::Message(message) => self.take(message, &mut reserved),
            Received::Batch(all) => {
                for message in all {
                    match message {
                        Ok(message) => self.take(message, &mut reserved),
                        Err(damaged) => self.pass_over(text, &damaged),
                    }
                }
            }
            Received::Damaged(damaged) => self.pass_over(text, &damaged),
        }
    }

    fn take(&self, message: Message, reserved: &mut Option<Reservation>) {
        match message {
            Message::Response(response) => self.on_response(response, reserved),
            Message::Notification(notification) => self.on_notification(&notification),
            Message::Request(request) => self.on_request(request),
        }
    }

    /// What is no message is passed over; where it was to be the answer to a call, no other will
    /// come, and the call fails.
    fn pass_over(&self, text: &Bytes, damaged: &Damaged) {
        self.0.sink.garbage(text, &damaged.error);
        self.waste(text.len());
        let Some(id) = damaged.answers else { return };
        let calls = &mut self.0.calls.lock().slots;
        if calls.contains_key(&id) {
            let mut spoilt = self.0.spoilt.lock();
            if SPOILT_MAX <= spoilt.len() {
                spoilt.clear();
            }
            spoilt.insert(id, format!("its answer is no message: {}", damaged.error));
            // Told by the end of its events.
            calls.remove(&id);
        }
    }

    /// Takes back a request that waits to be written; false where it has been, or begun to be.
    fn withdraw(&self, id: u64) -> bool {
        match &self.0.out {
            Out::Queue(queue) => queue.withdraw(id),
            Out::Mailbox(_) => false,
        }
    }

    async fn write(&self, queue: &Queue, call: Option<u64>, text: Bytes) -> Result<(), SendError> {
        if self.is_closed() || !queue.push(call, text).await {
            return Err(self.unavailable());
        }
        Ok(())
    }

    fn unavailable(&self) -> SendError {
        SendError::Unavailable(self.why())
    }

    /// Says what is no request, from where nothing may wait: a server that does not take it loses
    /// it.
    fn send_unawaited(&self, text: Bytes) {
        let said = match &self.0.out {
            Out::Queue(queue) => queue.push_aside(text),
            Out::Mailbox(mailbox) => mailbox.deliver_aside(text, &self.0.said, &self.0.tasks),
        };
        if !said {
            self.0.sink.count(Counter::NoticesDropped);
        }
    }

    fn on_response(&self, response: Response, reserved: &mut Option<Reservation>) {
        let id = response.id.as_ref().and_then(Id::as_number);
        let Some(slot) = id.and_then(|id| self.0.calls.lock().answer(id, reserved)) else {
            self.0.sink.count(Counter::UpstreamUnexpected);
            return;
        };
        // The last place is always free: see `offer`. A caller that is gone needs no answer.
        if slot.events.try_send(Event::Answer { body: response.body, status: 200 }).is_err() {
            self.0.sink.count(Counter::NoticesDropped);
        }
    }

    fn on_notification(&self, notification: &Notification) {
        let method = Method::notification(&notification.method);
        let notice = ServerNotification {
            method,
            params: notification.params.clone(),
            whole: notification.whole.clone(),
        };
        if let Some(id) = call_of(method, &notice.params) {
            let slot = self.0.calls.lock().slots.get(&id).map(|slot| slot.events.clone());
            return self.offer(slot, Event::Notification(notice));
        }
        match method {
            Some(Method::LogMessage) => match self.sole_call() {
                Some(call) => self.offer(Some(call), Event::Notification(notice)),
                // Of several clients' calls nobody can tell which one it belongs to, nor who may
                // read it.
                None if self.is_busy() && !self.0.sink.is_of_session() => {
                    self.0.sink.count(Counter::NoticesDropped);
                }
                None => self.0.sink.notice(&notice),
            },
            _ => self.0.sink.notice(&notice),
        }
    }

    fn on_request(&self, request: Request) {
        if &*request.method == "ping" {
            return self.reply(&request.id, &Body::Result(Raw::object()));
        }
        if !is_question(&request.method) {
            return self.reply(&request.id, &refusal());
        }
        let (reply, answer) = oneshot::channel();
        let (lines, id, method, version) =
            (self.clone(), request.id.clone(), request.method.clone(), *self.0.version.lock());
        self.0.tasks.spawn("upstream lines: question", async move {
            let body = answer.await.unwrap_or_else(|_| refusal());
            let body = compat::answer(version, &method, body);
            lines.reply(&request.id, &body);
        });
        let question = ServerRequest { id, method: request.method, params: request.params, reply };
        match self.sole_call().filter(|_| self.0.exclusive) {
            Some(call) => self.offer(Some(call), Event::ServerRequest(question)),
            // Whichever of its calls it is about, the client is the same.
            None if self.0.sink.is_of_session() => self.0.sink.question(question),
            // Such as for roots right after the opening: the next call's.
            None if self.0.exclusive => self.keep_early_request(question),
            // Dropped, it is refused.
            None => (),
        }
    }

    fn keep_early_request(&self, question: ServerRequest) {
        let mut early = self.0.early_requests.lock();
        if early.len() < EARLY_MAX {
            early.push(question);
        }
    }

    fn sole_call(&self) -> Option<mpsc::Sender<Event>> {
        let calls = self.0.calls.lock();
        let mut calls = calls.slots.values().filter(|slot| slot.origin != Origin::Gateway);
        let first = calls.next()?;
        calls.next().is_none().then(|| first.events.clone())
    }

    fn is_busy(&self) -> bool {
        self.0.calls.lock().slots.values().any(|slot| slot.origin != Origin::Gateway)
    }

    fn offer(&self, call: Option<mpsc::Sender<Event>>, event: Event) {
        let room = call.filter(|call| 1 < call.capacity());
        if room.is_none_or(|call| call.try_send(event).is_err()) {
            self.0.sink.count(Counter::NoticesDropped);
        }
    }

    fn reply(&self, id: &Id, body: &Body) {
        self.send_unawaited(message::response(Some(id), body));
    }
}
