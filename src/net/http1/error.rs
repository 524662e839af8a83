//! What goes wrong on a connection.

use std::io;

/// Why there is no answer, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum Http1Error {
    /// Nothing was written.
    #[error("nothing could be sent: {0}")]
    Unsent(#[source] io::Error),
    #[error("it broke: {0}")]
    Io(#[from] io::Error),
    #[error("it was closed before an answer")]
    Closed,
    #[error("it was closed within an answer")]
    ClosedWithin,
    /// What came is of another protocol.
    #[error("the answer is not of HTTP/1")]
    NoHttp,
    /// The answer is not as HTTP/1 has it.
    #[error("the answer: {0}")]
    Answer(&'static str),
}
