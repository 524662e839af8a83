//! Events that go to a client during a call.

use std::time::Duration;

use bytes::Bytes;

use crate::mcp::message::Body;

/// An event that a client is told during a call.
#[derive(Debug)]
pub enum ClientEvent {
    /// A notification or a request, whole.
    Message(Bytes),
    /// The end.
    Answer { body: Body, status: u16 },
    /// The client is to come back for the rest after this long (legacy).
    Paused(Duration),
}
