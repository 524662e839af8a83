//! Why a request over HTTP failed.

/// Why no answer came back that is of use.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// Nothing was sent: it is safe to try again.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// Nothing was sent, for a reason of the sender's own.
    #[error("{0}")]
    Unsent(String),
    /// Nothing was sent: the system gives the gate no more files or memory.
    #[error("{0}")]
    Exhausted(String),
    /// Nothing was sent: the server had closed the connection, which was used before.
    #[error("cannot send: {0}")]
    Closed(String),
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The answer is in a coding that nobody asked for and that is not known.
    #[error("its answer is in the content coding `{}`, which was not asked for", _0.escape_debug())]
    Coding(String),
    /// A redirect that is not followed, in words without what may be secret.
    #[error("{0}")]
    Redirect(String),
}
