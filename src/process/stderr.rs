//! Reads the standard error of a child: each line goes to the log, the last 64 KiB are kept.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::telemetry::printable::printable;

/// Bytes of standard error kept per child (DESIGN §4).
pub const KEPT_BYTES_MAX: usize = 64 * 1024;
/// A longer line is logged in pieces of this size, so that no newline costs no memory.
const LINE_BYTES_MAX: usize = 4 * 1024;

/// The last [`KEPT_BYTES_MAX`] bytes of a stream.
#[derive(Debug, Default)]
pub struct Tail {
    bytes: VecDeque<u8>,
    cut: bool,
}

impl Tail {
    pub fn push(&mut self, chunk: &[u8]) {
        let over = (self.bytes.len() + chunk.len()).saturating_sub(KEPT_BYTES_MAX);
        self.cut |= 0 < over;
        let old = over.min(self.bytes.len());
        let new = over.saturating_sub(self.bytes.len());
        self.bytes.drain(..old);
        self.bytes.extend(chunk.iter().skip(new));
    }

    /// The kept bytes as text, from the first whole line on. Not UTF-8 becomes U+FFFD.
    pub fn text(&self) -> String {
        let (front, back) = self.bytes.as_slices();
        let text = String::from_utf8_lossy(&[front, back].concat()).into_owned();
        match text.split_once('\n') {
            Some((_, rest)) if self.cut && !rest.is_empty() => rest.to_owned(),
            _ => text,
        }
    }
}

/// Reads `stream` to its end into `tail`; each line goes to the log with its `upstream`'s name.
pub async fn follow(mut stream: impl AsyncRead + Unpin, upstream: String, tail: Arc<Mutex<Tail>>) {
    let mut chunk = [0; 2048];
    let mut line = Vec::new();
    while let Ok(length @ 1..) = stream.read(&mut chunk).await {
        let read = chunk.get(..length).unwrap_or_default();
        tail.lock().push(read);
        for piece in read.split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(piece);
            if line.ends_with(b"\n") || LINE_BYTES_MAX <= line.len() {
                log(&upstream, &line);
                line.clear();
            }
        }
    }
    if !line.is_empty() {
        log(&upstream, &line);
    }
}

fn log(upstream: &str, line: &[u8]) {
    tracing::debug!(upstream, "stderr: {}", printable(String::from_utf8_lossy(line).trim_end()));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_tail_is_the_end(sizes in prop::collection::vec(0..50_000usize, 0..8)) {
            let mut tail = Tail::default();
            let mut all = Vec::new();
            for (at, size) in sizes.into_iter().enumerate() {
                let chunk = vec![b'a' + at as u8; size];
                tail.push(&chunk);
                all.extend(chunk);
            }
            let from = all.len().saturating_sub(KEPT_BYTES_MAX);
            let text = tail.text();
            prop_assert_eq!(text.as_bytes(), &all[from..]);
        }
    }

    #[test]
    fn a_cut_tail_begins_with_a_whole_line() {
        let mut tail = Tail::default();
        tail.push("lost".repeat(KEPT_BYTES_MAX).as_bytes());
        tail.push(b"half\nwhole\n");
        assert_eq!(tail.text(), "whole\n");
    }

    #[tokio::test]
    async fn a_stream_is_kept_to_its_end() {
        let tail: Arc<Mutex<Tail>> = Arc::default();
        follow(&b"one\ntwo \xff\nthree"[..], "files".to_owned(), Arc::clone(&tail)).await;
        assert_eq!(tail.lock().text(), "one\ntwo \u{fffd}\nthree");
    }
}
