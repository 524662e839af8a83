//! Events as text (WHATWG HTML §9.2).

use bytes::{Bytes, BytesMut};

/// An event with a message; a message of several lines becomes several `data` lines.
pub fn event(id: Option<(u64, u64)>, message: &[u8]) -> Bytes {
    let mut text = BytesMut::with_capacity(message.len() + 48);
    text.extend_from_slice(b"event: message\n");
    if let Some((stream, number)) = id {
        text.extend_from_slice(format!("id: {stream}-{number}\n").as_bytes());
    }
    for line in message.split(|byte| *byte == b'\n') {
        text.extend_from_slice(b"data: ");
        // JSON has a raw carriage return only between tokens, where it means nothing.
        text.extend(line.iter().filter(|byte| **byte != b'\r'));
        text.extend_from_slice(b"\n");
    }
    text.extend_from_slice(b"\n");
    text.freeze()
}

/// The event that gives a client an id to come back with (SEP-1699).
pub fn priming(stream: u64, retry_ms: u128) -> Bytes {
    format!("id: {stream}-0\nretry: {retry_ms}\ndata: \n\n").into()
}

/// When a client whose connection is closed on purpose is to come back.
pub fn retry(retry_ms: u128) -> Bytes {
    format!("retry: {retry_ms}\n\n").into()
}

/// Silence broken, so that nobody in between closes the stream.
pub fn keep_alive() -> Bytes {
    Bytes::from_static(b": keep-alive\n\n")
}

/// Stream and number of an event id of ours.
pub fn parse_id(id: &str) -> Option<(u64, u64)> {
    let (stream, number) = id.split_once('-')?;
    Some((stream.parse().ok()?, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_data_lines() {
        let want = b"event: message\nid: 3-7\ndata: {\"a\":\ndata: 1}\n\n";
        assert_eq!(&event(Some((3, 7)), b"{\"a\":\r\n1}")[..], want);
        assert_eq!(parse_id("3-7"), Some((3, 7)));
        assert_eq!(parse_id("3"), None);
    }
}
