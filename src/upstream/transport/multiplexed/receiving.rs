//! Reads messages from a server, each for the call that it names, or for the clients.

use std::{pin::pin, sync::atomic::Ordering};

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{
    call::event::{Event, ServerNotification, ServerRequest},
    mcp::{
        compat,
        id::Id,
        lenient::{self, Damaged, Received},
        message::{Body, Message, Notification, Request, Response},
        method::Method,
        raw::Raw,
    },
    telemetry::Counter,
    upstream::transport::{read_budget::Reservation, sse::Frame},
};

use super::{
    EARLY_MAX, Multiplexer, Origin, SPOILT_MAX,
    words::{call_of, is_question, refusal},
};

impl Multiplexer {
    /// Takes one event of a stream, whose data may be a message.
    pub fn hear(&self, frame: &Frame, reserved: Option<Reservation>) {
        if frame.is_message() {
            self.receive(&frame.data, reserved);
        } else {
            self.0.sink.count(Counter::UpstreamEventsIgnored);
            self.waste(frame.data.len());
        }
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

    /// Counts bytes that are no message; a server that sends too many is ended.
    pub(super) fn waste(&self, bytes: usize) {
        let ends = self.0.noise.lock().heard(bytes, Instant::now());
        if let Some(why) = ends.filter(|_| !self.is_closed()) {
            self.close(&self.0.sink.noisy(why));
        }
    }

    pub(super) fn take(&self, message: Message, reserved: &mut Option<Reservation>) {
        match message {
            Message::Response(response) => self.on_response(response, reserved),
            Message::Notification(notification) => self.on_notification(&notification),
            Message::Request(request) => self.on_request(request),
        }
    }

    /// Passes over what is no message; where it was to be the answer to a call, no other will come,
    /// and the call fails.
    pub(super) fn pass_over(&self, text: &Bytes, damaged: &Damaged) {
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
            // The call is told by the end of its events.
            calls.remove(&id);
        }
    }

    pub(super) fn on_response(&self, response: Response, reserved: &mut Option<Reservation>) {
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

    pub(super) fn on_notification(&self, notification: &Notification) {
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
                // Nobody can tell with several clients' calls which one it belongs to, nor who may
                // read it.
                None if self.is_busy() && !self.0.sink.is_of_session() => {
                    self.0.sink.count(Counter::NoticesDropped);
                }
                None => self.0.sink.notice(&notice),
            },
            _ => self.0.sink.notice(&notice),
        }
    }

    pub(super) fn on_request(&self, request: Request) {
        if &*request.method == "ping" {
            return self.reply(&request.id, &Body::Result(Raw::object().into()));
        }
        if !is_question(&request.method) {
            return self.reply(&request.id, &refusal());
        }
        let (reply, answer) = oneshot::channel();
        let lines = self.clone();
        let id = request.id.clone();
        let method = request.method.clone();
        let version = *self.0.version.lock();
        self.0.tasks.spawn("upstream lines: question", async move {
            let body = answer.await.unwrap_or_else(|_| refusal());
            let body = compat::answer(version, &method, body);
            lines.reply(&request.id, &body);
        });
        let params = request.params.into();
        let question = ServerRequest { id, method: request.method, params, reply };
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

    pub(super) fn keep_early_request(&self, question: ServerRequest) {
        let mut early = self.0.early_requests.lock();
        if early.len() < EARLY_MAX {
            early.push(question);
        }
    }

    pub(super) fn sole_call(&self) -> Option<mpsc::Sender<Event>> {
        let calls = self.0.calls.lock();
        let mut calls = calls.slots.values().filter(|slot| slot.origin != Origin::Gateway);
        let first = calls.next()?;
        calls.next().is_none().then(|| first.events.clone())
    }

    pub(super) fn is_busy(&self) -> bool {
        self.0.calls.lock().slots.values().any(|slot| slot.origin != Origin::Gateway)
    }

    pub(super) fn offer(&self, call: Option<mpsc::Sender<Event>>, event: Event) {
        let room = call.filter(|call| 1 < call.capacity());
        if room.is_none_or(|call| call.try_send(event).is_err()) {
            self.0.sink.count(Counter::NoticesDropped);
        }
    }
}
