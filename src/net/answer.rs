//! An answer whose connection goes back to its pool as soon as the body is read.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Response;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::{
    http1::{Connection, Framing, ResponseHead},
    idle::IdleConnections,
};

/// The head of an answer, and its body as it arrives.
pub type Answer = Response<AnswerBody>;

/// The body of an answer.
#[derive(Debug)]
pub struct AnswerBody(Source);

/// What reads it.
#[derive(Debug)]
enum Source {
    Hyper(Incoming),
    /// None at its end, or where it broke.
    Own(Option<OwnBody>),
}

/// A body on a connection of our own.
#[derive(Debug)]
struct OwnBody {
    connection: Box<Connection>,
    framing: Framing,
    /// Where the connection goes back to; none where it is used once.
    idle: Option<Arc<IdleConnections>>,
}

impl AnswerBody {
    pub(super) fn of_hyper(body: Incoming) -> Self {
        Self(Source::Hyper(body))
    }

    /// The answer whose head came on this connection.
    pub(super) fn of_own(
        connection: Box<Connection>,
        head: ResponseHead,
        idle: Option<Arc<IdleConnections>>,
    ) -> Answer {
        let idle = idle.filter(|_| head.keeps);
        let body = OwnBody { connection, framing: head.framing, idle };
        head.response.map(|()| Self(Source::Own(body.unless_ended())))
    }
}

impl OwnBody {
    fn unless_ended(self) -> Option<Self> {
        if self.framing.has_ended() {
            self.give_back();
            return None;
        }
        Some(self)
    }

    fn give_back(self) {
        // What came behind the answer was not asked for.
        if let Some(idle) = self.idle
            && self.connection.is_clean()
        {
            idle.put(self.connection);
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let source = match &mut self.0 {
            Source::Hyper(body) => {
                let polled = Pin::new(body).poll_frame(context);
                return polled.map(|frame| frame.map(|frame| frame.map_err(io::Error::other)));
            }
            Source::Own(source) => source,
        };
        let Some(body) = source else { return Poll::Ready(None) };
        let polled = body.connection.poll_body(&mut body.framing, context);
        match polled {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                *source = source.take().and_then(OwnBody::unless_ended);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Ok(data))) => {
                // Waits for no more than what ends the body.
                if body.framing.has_ended() {
                    *source = source.take().and_then(OwnBody::unless_ended);
                }
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Poll::Ready(Some(Err(error))) => {
                *source = None;
                Poll::Ready(Some(Err(io::Error::other(error))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Hyper(body) => body.is_end_stream(),
            Source::Own(source) => source.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Hyper(body) => body.size_hint(),
            Source::Own(None) => SizeHint::with_exact(0),
            Source::Own(Some(body)) => match body.framing {
                Framing::Length { left, .. } => SizeHint::with_exact(left),
                Framing::Chunked(_) | Framing::Close | Framing::Ended => SizeHint::default(),
            },
        }
    }
}

impl Drop for AnswerBody {
    /// A body that is left may have come to its end all but for the last few bytes: its connection
    /// is good again if they are there already.
    fn drop(&mut self) {
        if let Source::Own(source) = &mut self.0
            && let Some(mut body) = source.take()
            && body.idle.is_some()
            && body.connection.drain(&mut body.framing)
        {
            body.give_back();
        }
    }
}
