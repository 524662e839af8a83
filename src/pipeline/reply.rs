//! What a call leads to.

use crate::mcp::message::Body;

use super::{local::subscriptions::ListenStream, response::ResponseStream};

/// What a call leads to.
#[derive(Debug)]
pub enum Reply {
    /// The gate's own answer.
    Answer(Body),
    /// An upstream is at work.
    Response(ResponseStream),
    /// A stream of announcements (`subscriptions/listen`).
    Listen(Box<ListenStream>),
}
