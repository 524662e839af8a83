//! Sends requests, notifications and answers to a server, queued or posted.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{
    call::{Token, event::Event},
    mcp::{
        id::Id,
        message::{self, Body},
        method::Method,
        raw::Raw,
    },
    telemetry::Counter,
    upstream::exchange::error::SendError,
};

use super::{
    EVENTS_MAX, Multiplexer, Origin, Out, call::MultiplexedCall, calls::Slot, queue::Queue,
    words::own_token,
};

impl Multiplexer {
    /// Sends a request. `params` are sent with this connection's own progress token where they have
    /// one.
    ///
    /// # Errors
    /// Where the connection has ended.
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
                // The channel has room: fewer wait than fit.
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

    /// # Errors
    /// Where the connection has ended, or the server does not take it.
    pub async fn notify(&self, method: Method, params: &Raw) -> Result<(), SendError> {
        let text = message::notification(method.name(), params).bytes().clone();
        match &self.0.out {
            Out::Queue(queue) => self.write(queue, None, text).await,
            Out::Mailbox(_) if self.is_closed() => Err(self.unavailable()),
            Out::Mailbox(mailbox) => mailbox.deliver(text).await,
        }
    }

    /// Sets the token of the caller whose connection this is. A process knows of none.
    pub fn set_token(&self, token: &Token) {
        match &self.0.out {
            Out::Queue(_) => (),
            Out::Mailbox(mailbox) => mailbox.set_token(token),
        }
    }

    /// Takes back a request that waits to be written; false where it has been, or begun to be.
    pub(super) fn withdraw(&self, id: u64) -> bool {
        match &self.0.out {
            Out::Queue(queue) => queue.withdraw(id),
            Out::Mailbox(_) => false,
        }
    }

    pub(super) async fn write(
        &self,
        queue: &Queue,
        call: Option<u64>,
        text: Bytes,
    ) -> Result<(), SendError> {
        if self.is_closed() || !queue.push(call, text).await {
            return Err(self.unavailable());
        }
        Ok(())
    }

    pub(super) fn unavailable(&self) -> SendError {
        SendError::Unavailable(self.why())
    }

    /// Says what is no request, from where nothing may wait: a server that does not take it loses
    /// it.
    pub(super) fn send_unawaited(&self, text: Bytes) {
        let said = match &self.0.out {
            Out::Queue(queue) => queue.push_aside(text),
            Out::Mailbox(mailbox) => mailbox.deliver_aside(text, &self.0.said, &self.0.tasks),
        };
        if !said {
            self.0.sink.count(Counter::NoticesDropped);
        }
    }

    pub(super) fn reply(&self, id: &Id, body: &Body) {
        self.send_unawaited(message::response(Some(id), body));
    }
}
