//! A call under way on a connection that several share.

use std::{fmt, sync::atomic::Ordering, time::Duration};

use tokio::sync::mpsc;

use crate::{
    call::event::Event,
    mcp::{message, method::Method},
    upstream::{
        exchange::error::SendError,
        transport::{
            http::{NOTIFICATION_TIMEOUT, Posting},
            read_budget::Reservation,
        },
    },
};

use super::{Multiplexer, cancellation};

/// How long a cancellation waits for its request to be taken. Some servers take it only when they
/// have answered it.
const ORDER_PATIENCE: Duration = Duration::from_secs(1);

/// A call under way on such a connection.
pub struct MultiplexedCall {
    lines: Multiplexer,
    id: u64,
    /// The request itself, until it is known to be taken; where each is posted.
    posting: Option<Posting>,
    events: mpsc::Receiver<Event>,
    /// The request is on its way, or in the queue.
    begun: bool,
    /// The reason that the server is given where it is cancelled.
    reason: Option<String>,
    /// Whether the server is told nothing where it is given up.
    quiet: bool,
}

impl MultiplexedCall {
    pub(super) fn new(lines: Multiplexer, id: u64, events: mpsc::Receiver<Event>) -> Self {
        Self { lines, id, posting: None, events, begun: false, reason: None, quiet: false }
    }

    pub(super) fn post(&mut self, posting: Posting) {
        self.posting = Some(posting);
        self.begun = true;
    }

    pub(super) fn queued(&mut self) {
        self.begun = true;
    }

    /// The next event. Safe to drop: what was received stays, and so does the request's own POST.
    ///
    /// # Errors
    /// Where the connection has ended, or the answer is no message.
    pub async fn next(&mut self) -> Result<Event, SendError> {
        let event = loop {
            let Some(posting) = &mut self.posting else { break self.events.recv().await };
            tokio::select! {
                // The server's events come first: what it says counts, however it takes the
                // request.
                biased;
                // Both stay where they are when dropped.
                event = self.events.recv() => break event,
                posted = posting => {
                    self.posting = None;
                    posted.map_err(|error| self.not_taken(error))?;
                }
            }
        };
        event.ok_or_else(|| {
            let lines = &self.lines.0;
            if let Some(why) = lines.spoilt.lock().remove(&self.id) {
                return SendError::Garbage(why);
            }
            if lines.too_large.load(Ordering::Relaxed) {
                return SendError::TooLarge(lines.sink.answer_bytes_max());
            }
            if self.lines.withdraw(self.id) {
                self.begun = false;
                return SendError::Unavailable(self.lines.why());
            }
            SendError::Lost(self.lines.why())
        })
    }

    /// Whether nothing comes from its server because there is no room for a large message.
    pub fn is_held_back(&self) -> bool {
        self.lines.0.held_back.load(Ordering::Relaxed)
    }

    /// Takes the bytes that its answer counts as, if that is large.
    pub fn take_reservation(&self) -> Option<Reservation> {
        self.lines.0.calls.lock().take_reservation(self.id)
    }

    pub fn give_reason(&mut self, reason: String) {
        self.reason = Some(reason);
    }

    /// Tells the server nothing where the call is given up: before a handshake is answered a server
    /// need not know any notification.
    pub fn quiet(self) -> Self {
        let mut quiet = self;
        quiet.quiet = true;
        quiet
    }

    /// The request was refused, or did not arrive: then there is nothing to cancel.
    fn not_taken(&self, error: SendError) -> SendError {
        if !matches!(error, SendError::Lost(_)) {
            self.lines.0.calls.lock().forget(self.id);
        }
        // The server, or its session, may be gone without a sign on the stream. Other calls under
        // way there find out for themselves.
        let gone = matches!(error, SendError::Unavailable(_) | SendError::Status(404, _));
        if gone && !self.lines.is_busy() {
            self.lines.close(&error.to_string());
        }
        error
    }
}

impl Drop for MultiplexedCall {
    fn drop(&mut self) {
        let answered = !self.lines.0.calls.lock().forget(self.id);
        // A request that was not sent need not be cancelled.
        if !self.begun || !answered && self.lines.withdraw(self.id) {
            return;
        }
        let cancel = (!answered && !self.quiet).then(|| {
            let params = cancellation(self.id, self.reason.as_deref());
            message::notification(Method::Cancelled.name(), &params).bytes().clone()
        });
        let posting = self.posting.take().filter(|_| !self.lines.is_closed());
        let Some(posting) = posting else {
            // Nothing to say of a call that was answered, or whose connection is closed.
            return cancel.into_iter().for_each(|text| self.lines.send_unawaited(text));
        };
        let lines = self.lines.clone();
        let patience = if answered { NOTIFICATION_TIMEOUT } else { ORDER_PATIENCE };
        // A cancellation comes after its request; and a POST given up costs its TCP connection.
        let ending = self.lines.0.said.track_future(async move {
            tokio::time::timeout(patience, posting).await.ok();
            cancel.into_iter().for_each(|text| lines.send_unawaited(text));
        });
        self.lines.0.tasks.spawn("upstream lines: end a call", ending);
    }
}

impl fmt::Debug for MultiplexedCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MultiplexedCall").field("id", &self.id).finish_non_exhaustive()
    }
}
