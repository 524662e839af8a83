//! Events as text (WHATWG HTML §9.2).

use bytes::{Bytes, BytesMut};

use crate::session::outbox::EventId;

/// An event with a message; a message of several lines becomes several `data` lines.
pub fn event(id: Option<EventId>, message: &[u8]) -> Bytes {
    let mut text = BytesMut::with_capacity(message.len() + 48);
    text.extend_from_slice(b"event: message\n");
    if let Some(id) = id {
        text.extend_from_slice(format!("id: {id}\n").as_bytes());
    }
    text.extend_from_slice(b"data: ");
    let mut rest = message;
    while let Some((part, end, after)) = split(rest) {
        text.extend_from_slice(part);
        // JSON has a raw carriage return only between tokens, where it means nothing.
        text.extend_from_slice(if end == b'\n' { b"\ndata: " } else { b"" });
        rest = after;
    }
    text.extend_from_slice(rest);
    text.extend_from_slice(b"\n\n");
    text.freeze()
}

/// Splits at the first end of a line: the part before it, that byte, and the part after it.
fn split(text: &[u8]) -> Option<(&[u8], u8, &[u8])> {
    let (part, rest) = text.split_at(memchr::memchr2(b'\n', b'\r', text)?);
    let (end, after) = rest.split_first()?;
    Some((part, *end, after))
}

/// The event that says where to post (2024-11-05).
pub fn endpoint(uri: &str) -> Bytes {
    format!("event: endpoint\ndata: {uri}\n\n").into()
}

/// The event that gives a client an id to come back with (SEP-1699).
pub fn priming(id: EventId, retry_ms: u128) -> Bytes {
    format!("id: {id}\nretry: {retry_ms}\ndata: \n\n").into()
}

/// The event that says when a client whose connection is closed on purpose is to come back.
pub fn retry(retry_ms: u128) -> Bytes {
    format!("retry: {retry_ms}\n\n").into()
}

/// Silence broken, so that nobody in between closes the stream.
pub fn keep_alive() -> Bytes {
    Bytes::from_static(b": keep-alive\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_data_lines() {
        let id = EventId { epoch: 0xAB, stream: 3, event: 7 };
        let want = b"event: message\nid: ab-3-7\ndata: {\"a\":\ndata: 1}\n\n";
        assert_eq!(&event(Some(id), b"{\"a\":\r\n1}")[..], want);
    }
}
