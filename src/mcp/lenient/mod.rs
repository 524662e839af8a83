//! Reads what an upstream sent: strictly, and where that fails as leniently as the official SDKs.
//!
//! [`read`] is the only door, and upstreams are the only peers that it is for: what a client sends
//! is read by [`Incoming::parse`](super::message::Incoming::parse). A message that is well formed
//! costs nothing here. What is mended comes out as the strict message that the gateway knows:
//!
//! | sent | read as | who else does |
//! |---|---|---|
//! | a byte order mark before the text | nothing | TypeScript |
//! | bytes that are no UTF-8 | U+FFFD | TypeScript |
//! | `NaN`, `Infinity`, `-Infinity` | `null` | Python |
//! | an array of messages | each of them | TypeScript over HTTP, and 2025-03-26 |
//! | `"7"`, `7.0`, `7e0` as the id of an answer | `7` | TypeScript, Python in part |
//! | `"id": null` in a notification | no id | Python |
//! | an `error` that is no error object | one that says the same | nobody |
//!
//! A message without `"jsonrpc"`, a `result` of `null` and a text cut in two are refused by both:
//! the call that waits for it is to fail at once, so [`Damaged`] names that.

mod mending;
#[cfg(test)]
mod tests;

use bytes::Bytes;

use self::mending::{mended, strict};
use super::{message::Message, raw::Malformed};

pub const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Outcome of reading a text from an upstream.
#[derive(Debug)]
pub enum Received {
    Message(Message),
    /// Protocol 2025-03-26; other versions have none, and servers of them send some all the same.
    Batch(Vec<Result<Message, Damaged>>),
    Damaged(Damaged),
}

/// A text that is no message.
#[derive(Debug)]
pub struct Damaged {
    pub error: Malformed,
    /// The id of the request that it was meant to answer, where it is certain that it was.
    pub answers: Option<u64>,
}

/// Reads one text: a body, the data of an event, or a line.
pub fn read(text: &Bytes) -> Received {
    match Message::parse(text) {
        Ok(message) => Received::Message(strict(message)),
        Err(error) => mended(text, error),
    }
}

/// The text behind a byte order mark; none where there is no mark.
pub fn unmarked(text: &Bytes) -> Option<Bytes> {
    text.starts_with(BYTE_ORDER_MARK).then(|| text.slice(BYTE_ORDER_MARK.len()..))
}
