//! A connection of newline-delimited JSON: a child's stdin and stdout, or a built-in server in
//! process.
//!
//! Several calls share it: ids and progress tokens are the connection's own.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::{mpsc, oneshot},
};
use tokio_util::sync::CancellationToken;

use crate::{
    call::{
        event::{Event, Notice, Question},
        tasks::Tasks,
    },
    mcp::{
        error::{ErrorObject, METHOD_NOT_FOUND},
        id::Id,
        message::{self, Body, Message, Notification, Request, Response},
        meta::{Meta, PROGRESS_TOKEN},
        method::Method,
        raw::Raw,
        splice,
    },
    telemetry::Counter,
};

use super::{SendError, sign::Signs};

/// Events of one call that wait to be read; the last place is kept for the answer.
const EVENTS_MAX: usize = 256;
/// Messages that wait to be written; whoever has one more waits too.
const WRITES_MAX: usize = 256;
const READ_BYTES: usize = 64 << 10;

/// A clone is the same connection.
#[derive(Debug, Clone)]
pub struct Lines(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    out: mpsc::Sender<Bytes>,
    calls: Mutex<HashMap<u64, Slot>>,
    ids: AtomicU64,
    /// Leased to one call at a time: what the server says without naming a call belongs to the only
    /// one.
    exclusive: bool,
    closed: CancellationToken,
    why: Mutex<String>,
    /// It was closed because a line had no end.
    too_large: AtomicBool,
    signs: Signs,
    tasks: Tasks,
}

#[derive(Debug)]
struct Slot {
    events: mpsc::Sender<Event>,
    origin: Origin,
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

/// A call under way on such a connection.
#[derive(Debug)]
pub struct LinesCall {
    lines: Lines,
    id: u64,
    events: mpsc::Receiver<Event>,
    /// What is said where it is cancelled.
    reason: Option<String>,
}

impl Lines {
    /// Begins to read and write. The connection ends with either side, or with `tasks`.
    pub fn open(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        exclusive: bool,
        signs: Signs,
        tasks: &Tasks,
    ) -> Self {
        let (out, queue) = mpsc::channel(WRITES_MAX);
        let line_bytes_max = signs.answer_bytes_max();
        let lines = Self(Arc::new(Inner {
            out,
            calls: Mutex::default(),
            ids: AtomicU64::new(1),
            exclusive,
            closed: CancellationToken::new(),
            why: Mutex::default(),
            too_large: AtomicBool::new(false),
            signs,
            tasks: tasks.child(),
        }));
        let (reading, writing) = (lines.clone(), lines.clone());
        lines.0.tasks.spawn("upstream lines: read", async move {
            let why = reading.read(reader, line_bytes_max).await;
            reading.close(&why);
        });
        lines.0.tasks.spawn("upstream lines: write", async move {
            if let Err(error) = write(writer, queue).await {
                writing.close(&format!("its input broke: {error}"));
            }
        });
        lines
    }

    /// Sends a request. `params` are sent with this connection's own progress token where they have
    /// one.
    pub async fn request(
        &self,
        method: Method,
        params: &Raw,
        origin: Origin,
    ) -> Result<LinesCall, SendError> {
        let id = self.0.ids.fetch_add(1, Ordering::Relaxed);
        let (events_in, events) = mpsc::channel(EVENTS_MAX);
        self.0.calls.lock().insert(id, Slot { events: events_in, origin });
        let call = LinesCall { lines: self.clone(), id, events, reason: None };
        let has_token = origin == Origin::Client { has_token: true };
        let own = has_token.then(|| own_token(params, id));
        let text = message::request(&Id::number(id), method.name(), own.as_ref().unwrap_or(params));
        self.write(text).await?;
        Ok(call)
    }

    pub async fn notify(&self, method: Method, params: &Raw) -> Result<(), SendError> {
        self.write(message::notification(method.name(), params).bytes().clone()).await
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
        self.0.tasks.stop();
        self.0.calls.lock().clear();
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

    async fn write(&self, text: Bytes) -> Result<(), SendError> {
        if self.is_closed() || self.0.out.send(text).await.is_err() {
            return Err(SendError::Unavailable(self.why()));
        }
        Ok(())
    }

    async fn read(&self, mut reader: impl AsyncRead + Unpin, line_bytes_max: usize) -> String {
        let mut buffer = BytesMut::with_capacity(READ_BYTES);
        loop {
            let looked = buffer.len();
            buffer.reserve(READ_BYTES);
            match reader.read_buf(&mut buffer).await {
                Ok(0) if buffer.is_empty() => return "it closed its output".to_owned(),
                Ok(0) => return "it closed its output in the middle of a line".to_owned(),
                Ok(_) => self.take_lines(&mut buffer, looked),
                Err(error) => return format!("its output broke: {error}"),
            }
            if line_bytes_max < buffer.len() {
                self.0.signs.count(Counter::UpstreamTooLarge);
                self.0.too_large.store(true, Ordering::Relaxed);
                return format!(
                    "it sent a line of more than {line_bytes_max} bytes (`answer_bytes_max`)"
                );
            }
        }
    }

    /// Takes whole lines out of the buffer, whose first `looked` bytes have no end of line.
    fn take_lines(&self, buffer: &mut BytesMut, mut looked: usize) {
        while let Some(at) = memchr::memchr(b'\n', buffer.get(looked..).unwrap_or_default()) {
            let line = buffer.split_to(looked + at + 1).freeze();
            looked = 0;
            let text = line.trim_ascii();
            if !text.is_empty() {
                self.receive(&line.slice_ref(text));
            }
        }
    }

    fn receive(&self, line: &Bytes) {
        match Message::parse(line) {
            Ok(Message::Response(response)) => self.on_response(response),
            Ok(Message::Notification(notification)) => self.on_notification(&notification),
            Ok(Message::Request(request)) => self.on_request(request),
            Err(error) => self.0.signs.garbage(line, &error),
        }
    }

    fn on_response(&self, response: Response) {
        let id = response.id.as_ref().and_then(Id::as_number);
        let Some(slot) = id.and_then(|id| self.0.calls.lock().remove(&id)) else {
            self.0.signs.count(Counter::UpstreamUnexpected);
            return;
        };
        // The last place is always free: see `offer`. A caller that is gone needs no answer.
        if slot.events.try_send(Event::Answer { body: response.body, status: 200 }).is_err() {
            self.0.signs.count(Counter::NoticesDropped);
        }
    }

    fn on_notification(&self, notification: &Notification) {
        let method = Method::notification(&notification.method);
        let notice = Notice {
            method,
            params: notification.params.clone(),
            whole: notification.whole.clone(),
        };
        if let Some(id) = call_of(method, &notice.params) {
            let slot = self.0.calls.lock().get(&id).map(|slot| slot.events.clone());
            return self.offer(slot, Event::Notice(notice));
        }
        match method {
            Some(Method::LogMessage) => match self.sole_call() {
                Some(call) => self.offer(Some(call), Event::Notice(notice)),
                // Of several calls under way nobody can tell which one it belongs to, nor who may
                // read it.
                None if self.is_busy() => self.0.signs.count(Counter::NoticesDropped),
                None => self.0.signs.notice(&notice),
            },
            _ => self.0.signs.notice(&notice),
        }
    }

    fn on_request(&self, request: Request) {
        if &*request.method == "ping" {
            return self.reply(&request.id, &Body::Result(Raw::object()));
        }
        if !is_question(&request.method) {
            return self.reply(&request.id, &refusal());
        }
        let call = self.sole_call().filter(|_| self.0.exclusive);
        let (reply, answer) = oneshot::channel();
        let lines = self.clone();
        let id = request.id.clone();
        self.0.tasks.spawn("upstream lines: question", async move {
            let body = answer.await.unwrap_or_else(|_| refusal());
            lines.reply(&request.id, &body);
        });
        let question = Question { id, method: request.method, params: request.params, reply };
        if let Some(call) = call {
            self.offer(Some(call), Event::Question(question));
        }
    }

    fn sole_call(&self) -> Option<mpsc::Sender<Event>> {
        let calls = self.0.calls.lock();
        let mut calls = calls.values().filter(|slot| slot.origin != Origin::Gateway);
        let first = calls.next()?;
        calls.next().is_none().then(|| first.events.clone())
    }

    fn is_busy(&self) -> bool {
        self.0.calls.lock().values().any(|slot| slot.origin != Origin::Gateway)
    }

    fn offer(&self, call: Option<mpsc::Sender<Event>>, event: Event) {
        let room = call.filter(|call| 1 < call.capacity());
        if room.is_none_or(|call| call.try_send(event).is_err()) {
            self.0.signs.count(Counter::NoticesDropped);
        }
    }

    /// From where nothing may wait; a server that does not read its input loses it.
    fn reply(&self, id: &Id, body: &Body) {
        if self.0.out.try_send(message::response(Some(id), body)).is_err() {
            self.0.signs.count(Counter::NoticesDropped);
        }
    }
}

impl LinesCall {
    pub async fn next(&mut self) -> Result<Event, SendError> {
        self.events.recv().await.ok_or_else(|| {
            let lines = &self.lines.0;
            if lines.too_large.load(Ordering::Relaxed) {
                return SendError::TooLarge(lines.signs.answer_bytes_max());
            }
            SendError::Lost(self.lines.why())
        })
    }

    pub fn give_reason(&mut self, reason: String) {
        self.reason = Some(reason);
    }
}

impl Drop for LinesCall {
    fn drop(&mut self) {
        if self.lines.0.calls.lock().remove(&self.id).is_none() {
            return; // answered, or the connection is closed
        }
        let params = cancellation(self.id, self.reason.as_deref());
        let text = message::notification(Method::Cancelled.name(), &params);
        if self.lines.0.out.try_send(text.bytes().clone()).is_err() {
            self.lines.0.signs.count(Counter::NoticesDropped);
        }
    }
}

/// The call a notification names: by its progress token, or by its subscription.
fn call_of(method: Option<Method>, params: &Raw) -> Option<u64> {
    if method == Some(Method::Progress) {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Params {
            progress_token: u64,
        }
        return params.try_read::<Params>().map(|params| params.progress_token);
    }
    let subscription = Meta::of(params).ok()?.subscription_id?;
    subscription.as_str().trim_matches('"').parse().ok()
}

/// The params with a progress token of the connection's own.
pub(super) fn own_token(params: &Raw, id: u64) -> Raw {
    let token = id.to_string();
    splice::edit_within(params, "_meta", &[(PROGRESS_TOKEN, Some(token.as_bytes()))])
}

/// The params of `notifications/cancelled`.
pub(super) fn cancellation(id: u64, reason: Option<&str>) -> Raw {
    let reason = reason.unwrap_or("the client is gone");
    Raw::encode(&serde_json::json!({ "requestId": id, "reason": reason }))
}

/// What a server may ask a client (legacy). Nothing else is passed on.
pub(super) fn is_question(method: &str) -> bool {
    ["sampling/createMessage", "elicitation/create", "roots/list"].contains(&method)
}

/// The answer to what no client is asked, or can answer.
pub(super) fn refusal() -> Body {
    let text = "no client stands behind this request that could answer it";
    Body::Error(ErrorObject::new(METHOD_NOT_FOUND, text).raw())
}

async fn write(
    mut writer: impl AsyncWrite + Unpin,
    mut queue: mpsc::Receiver<Bytes>,
) -> std::io::Result<()> {
    while let Some(text) = queue.recv().await {
        writer.write_all(&text).await?;
        writer.write_all(b"\n").await?;
        if queue.is_empty() {
            writer.flush().await?;
        }
    }
    Ok(())
}
