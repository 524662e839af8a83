//! MCP on a pair of streams, one message a line: standard input and output, where a client started
//! the gate.

use std::{io, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::{mcp::message, telemetry::Counter};

use super::{
    channel::{ClientChannel, WriteQueue},
    decode,
    reply::Rejection,
};

pub use super::channel::ChannelSettings;

const READ_BYTES: usize = 64 << 10;
/// A client that does not read has this long for what was said to it last.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Serves one client until it closes its side, or until `stop` is done; then what is under way may
/// end, `drain` at most.
pub async fn serve(
    settings: ChannelSettings,
    reader: impl AsyncRead + Unpin,
    writer: impl AsyncWrite + Unpin,
    stop: impl Future<Output = ()>,
) {
    let (channel, mut queue) = ClientChannel::open(settings);
    let mut writing = std::pin::pin!(write(writer, &mut queue));
    let reading = async {
        tokio::select! {
            // A line that was not yet taken is not begun.
            () = read(reader, &channel) => (),
            () = stop => (),
        }
        channel.finish().await;
    };
    tokio::select! {
        // A client that does not take what is said to it is gone: so is all that it asked for.
        broken = &mut writing => return left(broken),
        () = reading => (),
    }
    channel.close();
    match tokio::time::timeout(LAST_WORDS, writing).await {
        Ok(broken) => left(broken),
        Err(_) => tracing::debug!("the client did not read to the end"),
    }
}

fn left(written: io::Result<()>) {
    if let Err(error) = written {
        tracing::debug!(%error, "the client is gone");
    }
}

async fn write(mut writer: impl AsyncWrite + Unpin, queue: &mut WriteQueue) -> io::Result<()> {
    while let Some(text) = queue.next().await {
        writer.write_all(&message::on_one_line(text)).await?;
        writer.write_all(b"\n").await?;
        if queue.is_empty() {
            writer.flush().await?;
        }
    }
    writer.flush().await
}

/// Reads lines to the end.
async fn read(mut reader: impl AsyncRead + Unpin, channel: &ClientChannel) {
    let mut lines = Lines::default();
    loop {
        lines.buffer.reserve(READ_BYTES);
        let read = reader.read_buf(&mut lines.buffer).await;
        if let Err(error) = &read {
            tracing::debug!(%error, "the client is gone");
        }
        let bytes_max = channel.snapshot().config.server.limits.body_bytes_max;
        while let Some(line) = lines.next(bytes_max) {
            take(channel, line).await;
        }
        if matches!(read, Ok(0) | Err(_)) {
            break;
        }
    }
    // A last line may have no end.
    if let Some(line) = lines.rest() {
        take(channel, Line::Whole(line)).await;
    }
}

async fn take(channel: &ClientChannel, line: Line) {
    let snapshot = channel.snapshot();
    let limits = &snapshot.config.server.limits;
    let counters = &channel.gate().counters;
    counters.add(Counter::Requests);
    let taken = match line {
        Line::TooLong => Err(Rejection::BodyTooLarge(limits.body_bytes_max).into()),
        Line::Whole(text) => decode::parse(&text, limits, counters),
    };
    match taken {
        Ok(incoming) => channel.receive(incoming).await,
        Err(unread) => channel.reject(&unread).await,
    }
}

/// Bytes that were read and are not yet taken.
#[derive(Default)]
struct Lines {
    buffer: BytesMut,
    /// The count of bytes at its beginning that are known to have no end of line.
    looked: usize,
    /// The rest of a line that was too long.
    skips: bool,
}

#[derive(Debug, PartialEq)]
enum Line {
    Whole(Bytes),
    TooLong,
}

impl Lines {
    /// The next line that says something.
    fn next(&mut self, bytes_max: usize) -> Option<Line> {
        loop {
            let fresh = self.buffer.get(self.looked..).unwrap_or_default();
            let Some(at) = memchr::memchr(b'\n', fresh) else {
                self.looked = self.buffer.len();
                return self.too_long(bytes_max);
            };
            let line = self.buffer.split_to(self.looked + at + 1).freeze();
            self.looked = 0;
            let text = line.trim_ascii();
            if std::mem::take(&mut self.skips) || text.is_empty() {
                continue;
            }
            if bytes_max < text.len() {
                return Some(Line::TooLong);
            }
            return Some(Line::Whole(line.slice_ref(text)));
        }
    }

    /// Refuses a line once that has no end yet and is already too long, and keeps nothing of it.
    fn too_long(&mut self, bytes_max: usize) -> Option<Line> {
        if !self.skips && self.buffer.len() <= bytes_max {
            return None;
        }
        self.buffer.clear();
        self.looked = 0;
        (!std::mem::replace(&mut self.skips, true)).then_some(Line::TooLong)
    }

    fn rest(&mut self) -> Option<Bytes> {
        let rest = self.buffer.split().freeze();
        let text = rest.trim_ascii();
        (!self.skips && !text.is_empty()).then(|| rest.slice_ref(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_whatever_pieces_they_come_in() {
        let text = b"one\r\n\n  two  \nmuch too long a line\nthree\n0123456789\nlast";
        let whole = |text: &'static str| Line::Whole(text.into());
        for size in 1..=text.len() {
            let mut lines = Lines::default();
            let mut got = Vec::new();
            for piece in text.chunks(size) {
                lines.buffer.extend_from_slice(piece);
                got.extend(std::iter::from_fn(|| lines.next(10)));
            }
            got.extend(lines.rest().map(Line::Whole));
            let want = [
                whole("one"),
                whole("two"),
                Line::TooLong,
                whole("three"),
                whole("0123456789"),
                whole("last"),
            ];
            assert_eq!(got, want, "in pieces of {size}");
        }
    }
}
