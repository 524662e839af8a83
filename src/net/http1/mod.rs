//! HTTP/1.1 of our own towards upstreams, for the plain case: a request of which all bytes are
//! there, and an answer with a length, in chunks, or to the end of its connection (RFC 9112). It is
//! read by the task that waits for it: no task of the connection's own, no channel between the two.
//!
//! Requests are ours; what comes from a server is read as strictly as by hyper, and bounded.

mod connection;
mod error;
mod framing;
mod head;
mod request;
#[cfg(any(test, feature = "internals"))]
pub mod whole;

pub use self::{
    connection::Connection,
    error::Http1Error,
    framing::Framing,
    head::ResponseHead,
    request::{HeadTemplate, RequestText, RequestWriter},
};

#[cfg(test)]
mod tests;
