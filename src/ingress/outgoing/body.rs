//! The body of an answer, which hands large pieces over bit by bit and counts them.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    ingress::{connections::ActiveRequest, reply::HttpBody},
    telemetry::{Counters, Raised},
};

use super::{
    budget::{self, Delivery, Exceeded, Recipient, SendBudget, SendReservation},
    stall::StreamProgress,
};

/// The most of a large answer that is handed over at once.
const PIECE_MAX: usize = 64 << 10;

/// The body of an answer, which counts as a request under way until it is dropped.
pub struct OutgoingBody {
    body: HttpBody,
    /// The part of a large piece of the body that is still to be handed over.
    rest: Bytes,
    /// The bytes that the body counts as, where its size was known beforehand.
    reserved: Option<SendReservation>,
    delivery: Option<Arc<Delivery>>,
    to: Recipient,
    budget: Arc<SendBudget>,
    _permit: Option<OwnedSemaphorePermit>,
    _active: ActiveRequest,
    _stream: Option<Raised<Arc<Counters>>>,
}

/// Bytes of an answer, which tell when they are taken.
#[derive(Debug)]
pub struct Piece {
    bytes: Bytes,
    /// None for a small answer.
    delivery: Option<Arc<Delivery>>,
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        if let Some(delivery) = &self.delivery {
            delivery.took(count);
        }
    }
}

/// Guards that an answer holds for as long as it is under way.
pub struct RequestGuards {
    /// None for an answer that says that there was no room for its request.
    pub permit: Option<OwnedSemaphorePermit>,
    pub active: ActiveRequest,
    /// Counts an answer that is a stream.
    pub stream: Option<Raised<Arc<Counters>>>,
}

impl OutgoingBody {
    /// `reserved` is of the whole body, where its size is known beforehand and large.
    pub fn new(
        body: HttpBody,
        reserved: Option<SendReservation>,
        to: Recipient,
        budget: Arc<SendBudget>,
        guards: RequestGuards,
    ) -> Self {
        let RequestGuards { permit, active, stream } = guards;
        Self {
            body,
            rest: Bytes::new(),
            reserved,
            delivery: None,
            to,
            budget,
            _permit: permit,
            _active: active,
            _stream: stream,
        }
    }

    /// Begins with a large piece of the body.
    fn begin(&mut self, data: Bytes) -> Result<(), Exceeded> {
        let reserved = match self.reserved.take() {
            Some(reserved) => reserved,
            None => self.budget.admit(data.len(), &self.to)?,
        };
        self.delivery = Some(Arc::clone(reserved.delivery()));
        self.rest = reserved.hold(data);
        Ok(())
    }

    fn next_piece(&mut self) -> Piece {
        let bytes = self.rest.split_to(PIECE_MAX.min(self.rest.len()));
        Piece { bytes, delivery: self.delivery.clone() }
    }

    /// Tells whether a stream of HTTP/2 has not taken yet what it was given last. Its end is not
    /// said before: nobody would see then that it stands still.
    fn is_being_taken(&self, context: Option<&Context<'_>>) -> bool {
        let delivery = self.delivery.as_ref().filter(|_| self.to.http2);
        delivery.is_some_and(|delivery| !delivery.is_taken(context))
    }
}

impl Body for OutgoingBody {
    type Data = Piece;
    type Error = Exceeded;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, Exceeded>>> {
        let this = &mut *self;
        if this.rest.is_empty() {
            let polled = Pin::new(&mut this.body).poll_frame(context);
            if polled.is_pending() {
                StreamProgress::nothing();
            }
            let frame = match ready!(polled) {
                Some(Ok(frame)) => frame,
                Some(Err(never)) => match never {},
                None if this.is_being_taken(Some(context)) => return Poll::Pending,
                None => return Poll::Ready(None),
            };
            let data = match frame.into_data() {
                Ok(data) if budget::COUNTED_MIN < data.len() => data,
                Ok(data) => {
                    StreamProgress::given(None);
                    let piece = Piece { bytes: data, delivery: None };
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                Err(other) => {
                    return Poll::Ready(
                        other.into_trailers().ok().map(|trailers| Ok(Frame::trailers(trailers))),
                    );
                }
            };
            if let Err(exceeded) = this.begin(data) {
                return Poll::Ready(Some(Err(exceeded)));
            }
        }
        let piece = this.next_piece();
        StreamProgress::given(this.delivery.as_ref());
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream() && !self.is_being_taken(None)
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let mut hint = self.body.size_hint();
        if rest != 0 {
            if let Some(upper) = hint.upper() {
                hint.set_upper(upper + rest);
            }
            hint.set_lower(hint.lower() + rest);
        }
        hint
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
