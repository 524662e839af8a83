//! Newline-delimited JSON: a child's stdin and stdout, or a built-in server in process.

use std::{io, sync::Arc, time::Duration};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

use crate::{
    call::tasks::Tasks,
    config::Pipe,
    mcp::message,
    upstream::{replica::inbox::EventSink, transport::read_budget::Reservation},
};

use super::{Multiplexer, Out, queue::Queue};

const READ_BYTES: usize = 64 << 10;
/// A closed process is read for so long, a little longer than it is given to end by itself.
const DRAIN: Duration = Duration::from_secs(3);
const DRAIN_BYTES: usize = 4 << 10;

/// Begins to read and write. The connection ends with either side, or with `tasks`.
pub fn open(
    reader: impl AsyncRead + Send + Unpin + 'static,
    writer: impl AsyncWrite + Send + Unpin + 'static,
    exclusive: bool,
    sink: EventSink,
    tasks: &Tasks,
    bounds: Pipe,
) -> Multiplexer {
    let queue = Arc::new(Queue::new(bounds.queue_bytes_max));
    let lines = Multiplexer::new(Out::Queue(Arc::clone(&queue)), exclusive, sink, tasks);
    let reading = lines.clone();
    tasks.finish(async move {
        let mut reader = reader;
        let why = tokio::select! {
            // A message that came after the end is for nobody.
            why = read(&reading, &mut reader) => why,
            why = reading.closed() => why,
        };
        reading.close(&why);
        // A process that writes to a pipe without a reader dies of it, with a cry in its log,
        // instead of ending as it was asked to.
        timeout(DRAIN, drain(reader)).await.ok();
    });
    lines.run("upstream pipe: write", |_| write(writer, queue, bounds.write_timeout));
    lines
}

/// Reads until there is no more, and says why that is.
async fn read<R: AsyncRead + Unpin>(lines: &Multiplexer, reader: &mut R) -> String {
    let line_bytes_max = lines.message_bytes_max();
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    let mut reservation = Reservation::default();
    loop {
        let looked = buffer.len();
        buffer.reserve(READ_BYTES);
        match reader.read_buf(&mut buffer).await {
            Ok(0) if buffer.is_empty() => return "it closed its output".to_owned(),
            Ok(0) => return "it closed its output in the middle of a line".to_owned(),
            Ok(_) => {
                // The reservation is for the first line: the others are whole at once.
                take_lines(&mut buffer, looked, |line| lines.receive(line, reservation.take()));
            }
            Err(error) => return format!("its output broke: {error}"),
        }
        if line_bytes_max < buffer.len() {
            return lines.too_large("a line");
        }
        lines.hold(&mut reservation, buffer.len()).await;
    }
}

async fn drain(mut reader: impl AsyncRead + Unpin) {
    let mut rest = vec![0; DRAIN_BYTES];
    while let Ok(1..) = reader.read(&mut rest).await {}
}

/// Takes whole lines out of the buffer, whose first `looked` bytes have no end of line.
pub fn take_lines(buffer: &mut BytesMut, mut looked: usize, mut receive: impl FnMut(&Bytes)) {
    while let Some(at) = memchr::memchr(b'\n', buffer.get(looked..).unwrap_or_default()) {
        let line = buffer.split_to(looked + at + 1).freeze();
        looked = 0;
        let text = line.trim_ascii();
        if !text.is_empty() {
            receive(&line.slice_ref(text));
        }
    }
}

/// Writes until it cannot, and says why that is.
async fn write(
    mut writer: impl AsyncWrite + Unpin,
    queue: Arc<Queue>,
    patience: Duration,
) -> String {
    loop {
        let text = message::on_one_line(queue.next().await);
        for part in [text, Bytes::from_static(b"\n")] {
            if let Err(why) = write_part(&mut writer, part, patience).await {
                return why;
            }
        }
        if queue.is_empty()
            && let Err(error) = writer.flush().await
        {
            return broken(&error);
        }
    }
}

/// A server may read slowly, and must take something within the patience.
async fn write_part<W: AsyncWrite + Unpin>(
    writer: &mut W,
    mut part: Bytes,
    patience: Duration,
) -> Result<(), String> {
    while part.has_remaining() {
        match timeout(patience, writer.write_buf(&mut part)).await {
            Ok(Ok(0)) => return Err(broken(&io::ErrorKind::WriteZero.into())),
            Ok(Ok(_)) => (),
            Ok(Err(error)) => return Err(broken(&error)),
            Err(_) => {
                return Err(format!(
                    "it read nothing of its input for {patience:?} (`write_timeout`)"
                ));
            }
        }
    }
    Ok(())
}

fn broken(error: &io::Error) -> String {
    format!("its input broke: {error}")
}
