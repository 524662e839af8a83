//! The result of a call.

use crate::mcp::message::Body;

use super::{local::subscriptions::ListenStream, response::ResponseStream};

/// The result of a call.
#[derive(Debug)]
pub enum Reply {
    /// The gate's own answer.
    Answer(Body),
    /// An upstream is at work.
    Response(ResponseStream),
    /// A stream of announcements (`subscriptions/listen`).
    Listen(Box<ListenStream>),
}
