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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const MIB: usize = 1 << 20;
    const GIB: usize = 1 << 30;

    fn with(memory: usize) -> ListenerState {
        let none = SendBounds { connection: 0, caller: 0, gate: 0 };
        ListenerState {
            streams: Arc::default(),
            bodies: BodyBudget::default(),
            budget: SendBudget::new(none, Arc::default()),
            memory,
        }
    }

    #[test]
    fn bounds_that_nobody_wrote_are_parts_of_the_memory() {
        let limits = Limits::default();
        for (memory, unsent, incoming) in [
            (256 * MIB, 64 * MIB, 8 * MIB),
            (512 * MIB, 128 * MIB, 16 * MIB),
            (GIB, 256 * MIB, 32 * MIB),
            (2 * GIB, 512 * MIB, 64 * MIB),
            (3 * GIB, 768 * MIB, 96 * MIB),
            (4 * GIB, GIB, 128 * MIB),
            (8 * GIB, 2 * GIB, 256 * MIB),
            (16 * GIB, 4 * GIB, 512 * MIB),
            (32 * GIB, 8 * GIB, 512 * MIB),
            (256 * GIB, 64 * GIB, 512 * MIB),
        ] {
            let state = with(memory);
            let bounds = state.unsent(&limits);
            assert_eq!((bounds.connection, bounds.caller), (64 * MIB, 256 * MIB));
            assert_eq!(bounds.gate, unsent, "a quarter of {memory}");
            assert_eq!(state.incoming(&limits), incoming, "of {memory}");
        }
    }

    #[test]
    fn bounds_that_are_written_are_those() {
        let limits = Limits {
            unsent_bytes_max: Some(7),
            unsent_per_caller_max: 6,
            unsent_per_connection_max: 5,
            incoming_bytes_max: Some(8),
            ..Limits::default()
        };
        for memory in [0, MIB, GIB, 64 * GIB] {
            let state = with(memory);
            let bounds = state.unsent(&limits);
            assert_eq!((bounds.connection, bounds.caller, bounds.gate), (5, 6, 7));
            assert_eq!(state.incoming(&limits), 8);
        }
    }
}
