//! Connections that look, before a request is written, whether the server has closed them, and that
//! tell of a server that closes them after each answer.
//!
//! A server may close an idle connection at any moment (RFC 9112 §9.3.1). What is written then is
//! never read, but looks as if it had been lost in the middle: hyper notes the end of an idle
//! connection only when its task runs, which on a loaded machine is later than the next request.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{Connected, Connection};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::AsFd,
};
use tokio::time::Instant;
use tower_service::Service;

use super::{
    dial::{Dialer, Error, Hop},
    reuse::Reuse,
};

/// What says that a connection has ended.
const ENDS: PollFlags = PollFlags::RDHUP.union(PollFlags::HUP).union(PollFlags::ERR);
/// Later reads of a connection are not timed: a server that kept it so long keeps others, too.
const TIMED_READS: u8 = 4;

type Connecting<S> = Pin<Box<dyn Future<Output = Result<S, Error>> + Send>>;

/// Makes such connections. A clone is the same one.
#[derive(Debug, Clone)]
pub struct LiveConnector {
    connector: HttpsConnector<Dialer>,
    reuse: Arc<Reuse>,
}

/// A connection, checked before each request that follows an answer.
#[derive(Debug)]
pub struct Live {
    stream: MaybeHttpsStream<Hop>,
    /// Whether nothing was written since the connection was opened, or since the last bytes came.
    /// Over HTTP/2, where requests are under way all the time, it means nothing.
    is_idle: bool,
    /// Several requests are on it at once.
    is_h2: bool,
    reuse: Arc<Reuse>,
    /// How many of its first reads were timed, and when the last of them was.
    timed_reads: u8,
    last_read: Instant,
}

/// The server had closed the connection before anything of a request was written to it.
#[derive(Debug, thiserror::Error)]
#[error("the server had closed the connection before")]
pub struct ClosedBefore;

impl LiveConnector {
    /// What its connections find out about the server is noted in `reuse`.
    pub fn new(connector: HttpsConnector<Dialer>, reuse: Arc<Reuse>) -> Self {
        Self { connector, reuse }
    }
}

impl Live {
    /// Fails where the server has closed the connection, or sent something on it that answers
    /// nothing: what would be written now is not what it waits for.
    fn check(&mut self) -> io::Result<()> {
        if self.is_h2 || !std::mem::take(&mut self.is_idle) {
            return Ok(());
        }
        // Within TLS, there may be messages that belong to no answer.
        let is_plain = matches!(self.stream, MaybeHttpsStream::Http(_)) && self.hop().is_plain();
        let looked = if is_plain { ENDS | PollFlags::IN } else { ENDS };
        if self.has_ended(looked) {
            self.note_end();
            return Err(io::Error::new(io::ErrorKind::NotConnected, ClosedBefore));
        }
        Ok(())
    }

    /// Bytes came, or the end. Where the server ends connections after its answers, a request might
    /// meet the end of the next one: none is to be used twice.
    fn note_read(&mut self) {
        let was_idle = std::mem::replace(&mut self.is_idle, true);
        if self.is_h2 || TIMED_READS <= self.timed_reads {
            return;
        }
        // The end comes where nothing was asked since the last bytes.
        if was_idle && self.has_ended(ENDS) {
            self.note_end();
            return;
        }
        self.timed_reads += 1;
        self.last_read = Instant::now();
    }

    fn note_end(&self) {
        let timed = (1..TIMED_READS).contains(&self.timed_reads);
        if timed && self.last_read.elapsed() < Reuse::CLOSED_AFTER_ANSWER {
            self.reuse.distrust();
        }
    }

    fn hop(&self) -> &Hop {
        match &self.stream {
            MaybeHttpsStream::Http(hop) => hop,
            MaybeHttpsStream::Https(tls) => tls.inner().get_ref().0.inner(),
        }
    }

    /// Looks whether any of that happened to the connection. A look that fails says nothing.
    fn has_ended(&self, looked: PollFlags) -> bool {
        let mut descriptors = [PollFd::from_borrowed_fd(self.hop().tcp().as_fd(), looked)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut descriptors, Some(&at_once)).is_ok_and(|found| found != 0)
    }
}

impl Service<Uri> for LiveConnector {
    type Response = Live;
    type Error = Error;
    type Future = Connecting<Live>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.connector.poll_ready(context)
    }

    fn call(&mut self, to: Uri) -> Connecting<Live> {
        let connecting = self.connector.call(to);
        let reuse = Arc::clone(&self.reuse);
        Box::pin(async move {
            let stream = connecting.await?;
            let is_h2 = stream.connected().is_negotiated_h2();
            let last_read = Instant::now();
            Ok(Live { stream, is_idle: true, is_h2, reuse, timed_reads: 0, last_read })
        })
    }
}

impl Connection for Live {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}

impl Read for Live {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            self.note_read();
        }
        read
    }
}

impl Write for Live {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }
}
