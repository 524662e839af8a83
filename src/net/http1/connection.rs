//! One connection: requests are written to it, and answers read from it, one after the other.

use std::{
    io,
    pin::pin,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::AsFd as _,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    error::Http1Error,
    framing::{Decoded, Framing},
    head::{self, ResponseHead},
    request::RequestText,
};

/// The bytes read at first: most answers.
const FIRST_READ_BYTES: usize = 4 << 10;
/// The rest of a body that is read for the sake of its connection.
const DRAINED_BYTES_MAX: usize = 16 << 10;

/// A connection to a server that speaks HTTP/1.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// What was read and belongs to nothing yet.
    buffer: BytesMut,
}

impl Connection {
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// Looks whether the server has closed the connection, or sent something on it that answers
    /// nothing: what would be written now is not what it waits for. tokio notes that only when its
    /// own task runs, which on a loaded machine is later than the next request.
    pub fn is_idle(&self) -> bool {
        let looked = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR | PollFlags::IN;
        let mut descriptors = [PollFd::from_borrowed_fd(self.stream.as_fd(), looked)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        // A look that fails says nothing.
        let has_something = poll(&mut descriptors, Some(&at_once)).is_ok_and(|found| found != 0);
        self.buffer.is_empty() && !has_something
    }

    /// Whether it can be used again, as far as is known without a look.
    pub fn is_clean(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Sends a request and reads the head of its answer. Dropped before that, it is of no use any
    /// more. A body that the server may not read is not sent beside its answer: it must be small
    /// enough to fit the system's buffers.
    ///
    /// # Errors
    /// What went wrong. After [`Http1Error::Unsent`] the request may be sent elsewhere.
    pub async fn exchange(&mut self, request: &RequestText) -> Result<ResponseHead, Http1Error> {
        let written = self.write(request).await;
        if let Err(Http1Error::Unsent(_)) = written {
            return Err(written.err().unwrap_or(Http1Error::Closed));
        }
        // A server may answer, and close, before it has read all.
        let head = self.read_head().await;
        match (head, written) {
            (head, Ok(())) => head,
            (Err(_), Err(broken)) => Err(broken),
            // What was not sent would be taken for the rest of this request.
            (Ok(head), Err(_)) => Ok(ResponseHead { keeps: false, ..head }),
        }
    }

    async fn write(&mut self, request: &RequestText) -> Result<(), Http1Error> {
        let RequestText { first, rest } = request;
        let written = self.stream.write(first).await.map_err(Http1Error::Unsent)?;
        if written == 0 {
            return Err(Http1Error::Unsent(io::ErrorKind::WriteZero.into()));
        }
        if let Some(left) = first.get(written..).filter(|left| !left.is_empty()) {
            self.stream.write_all(left).await?;
        }
        if !rest.is_empty() {
            self.stream.write_all(rest).await?;
        }
        Ok(())
    }

    async fn read_head(&mut self) -> Result<ResponseHead, Http1Error> {
        let mut looked = 0;
        loop {
            if let Some(head) = head::read(&mut self.buffer, &mut looked)? {
                return Ok(head);
            }
            self.buffer.reserve(FIRST_READ_BYTES);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(Http1Error::Closed);
            }
        }
    }

    /// The next piece of a body; none at its end.
    pub fn poll_body(
        &mut self,
        framing: &mut Framing,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Http1Error>>> {
        loop {
            let more = match framing.decode(&mut self.buffer) {
                Ok(Decoded::Data(data)) => return Poll::Ready(Some(Ok(data))),
                Ok(Decoded::End) => return Poll::Ready(None),
                Ok(Decoded::More(more)) => more,
                Err(error) => return Poll::Ready(Some(Err(error))),
            };
            self.buffer.reserve(more);
            // It keeps nothing between polls.
            let read = pin!(self.stream.read_buf(&mut self.buffer)).poll(context);
            match ready!(read) {
                Ok(0) => return Poll::Ready(framing.close().err().map(Err)),
                Ok(_) => (),
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }

    /// Whether the rest of a body is there already, and is short; it is given up.
    pub fn drain(&mut self, framing: &mut Framing) -> bool {
        let mut given_up = 0;
        loop {
            match framing.decode(&mut self.buffer) {
                Ok(Decoded::Data(data)) if given_up < DRAINED_BYTES_MAX => {
                    given_up += data.len();
                    continue;
                }
                Ok(Decoded::Data(_)) => return false,
                Ok(Decoded::End) => return true,
                Ok(Decoded::More(_)) => (),
                Err(_) => return false,
            }
            self.buffer.reserve(FIRST_READ_BYTES);
            if !self.stream.try_read_buf(&mut self.buffer).is_ok_and(|read| 0 < read) {
                return false;
            }
        }
    }
}
