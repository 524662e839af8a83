//! An answer whose connection goes back to its pool as soon as the body is read.

use std::{
    pin::Pin,
    sync::Weak,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    client::conn::http1::SendRequest,
};

use super::pool::Pool;

/// The head of an answer, and its body as it arrives.
pub type Answer = Response<AnswerBody>;

/// The body of an answer.
#[derive(Debug)]
pub struct AnswerBody {
    body: Incoming,
    /// None where somebody else keeps the connection, or nobody.
    lease: Option<Lease>,
}

/// A connection that is to go back to its pool.
#[derive(Debug)]
pub(super) struct Lease {
    sender: SendRequest<Full<Bytes>>,
    pool: Weak<Pool>,
}

impl Lease {
    pub fn new(sender: SendRequest<Full<Bytes>>, pool: Weak<Pool>) -> Self {
        Self { sender, pool }
    }

    fn end(self, is_finished: bool) {
        if let Some(pool) = self.pool.upgrade() {
            pool.put(self.sender, is_finished);
        }
    }
}

impl AnswerBody {
    pub(super) fn new(body: Incoming, lease: Option<Lease>) -> Self {
        let mut made = Self { body, lease };
        made.note_end();
        made
    }

    /// Gives the connection back where nothing more is to come.
    fn note_end(&mut self) {
        if self.body.is_end_stream()
            && let Some(lease) = self.lease.take()
        {
            lease.end(true);
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(None) => {
                if let Some(lease) = self.lease.take() {
                    lease.end(true);
                }
            }
            // What it was read from is no connection any more.
            Poll::Ready(Some(Err(_))) => self.lease = None,
            Poll::Ready(Some(Ok(_))) => self.note_end(),
            Poll::Pending => (),
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for AnswerBody {
    /// A body that is left may have been read to its end all but for the last few bytes: its
    /// connection is good again if they are there already.
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.end(false);
        }
    }
}
