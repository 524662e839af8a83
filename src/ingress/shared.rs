//! State that the requests of a listener share, and the replies that they lead to.

use std::sync::Arc;

use hyper::body::Body as _;

use crate::{call::Caller, config::Limits};

use super::{
    events::SseStreams,
    outgoing::budget::{self, SendBounds, SendBudget},
    reply::HttpReply,
    request_body::BodyBudget,
};

/// The part of the memory that request bodies may take while they are read, and the most of it:
/// that is 128 of the largest at once.
const INCOMING_PART: usize = 32;
const INCOMING_MAX: usize = 512 << 20;
/// The part of the memory that answers may take while they wait for their clients.
const UNSENT_PART: usize = 4;
/// An answer of so many bytes at most counts for nobody.
const SMALL: u64 = budget::COUNTED_MIN as u64;

/// State that all requests of a listener share.
pub struct ListenerState {
    /// The streams of the older HTTP+SSE.
    pub streams: Arc<SseStreams>,
    pub bodies: BodyBudget,
    pub budget: Arc<SendBudget>,
    /// Bytes of memory that there are.
    pub memory: usize,
}

impl ListenerState {
    /// The bounds of answers that wait to be taken.
    pub fn unsent(&self, limits: &Limits) -> SendBounds {
        SendBounds {
            connection: limits.unsent_per_connection_max,
            caller: limits.unsent_per_caller_max,
            gate: limits.unsent_bytes_max.unwrap_or(self.memory / UNSENT_PART),
        }
    }

    /// Bytes of request bodies that may be read at once.
    pub fn incoming(&self, limits: &Limits) -> usize {
        let usual = (self.memory / INCOMING_PART).min(INCOMING_MAX);
        limits.incoming_bytes_max.unwrap_or(usual)
    }

    /// A reply that counts for this caller.
    pub fn counted(&self, reply: HttpReply, caller: &Caller) -> CountedReply {
        let small = reply.body().size_hint().upper().is_some_and(|bytes| bytes <= SMALL);
        CountedReply { reply, caller: if small { 0 } else { self.budget.caller(caller) } }
    }
}

/// A reply, and the caller that a large one counts for.
pub struct CountedReply {
    pub reply: HttpReply,
    /// The caller's number in the budget; 0 where nobody called, or the reply is small.
    pub caller: u64,
}

impl From<HttpReply> for CountedReply {
    fn from(reply: HttpReply) -> Self {
        Self { reply, caller: 0 }
    }
}
