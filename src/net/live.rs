//! Connections that look, before a request is written, whether the server has closed them.
//!
//! A server may close an idle connection at any moment (RFC 9112 §9.3.1). What is written then is
//! never read, but looks as if it had been lost in the middle: hyper notes the end of an idle
//! connection only when its task runs, which on a loaded machine is later than the next request.

use std::{
    io,
    pin::Pin,
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
use tower_service::Service;

use super::dial::{Dialer, Error, Hop};

type Connecting<S> = Pin<Box<dyn Future<Output = Result<S, Error>> + Send>>;

/// Makes such connections. A clone is the same one.
#[derive(Debug, Clone)]
pub struct LiveConnector(pub HttpsConnector<Dialer>);

/// A connection, checked before each request that follows an answer.
#[derive(Debug)]
pub struct Live {
    stream: MaybeHttpsStream<Hop>,
    /// Whether nothing was written since the connection was opened, or since the last bytes came.
    /// Over HTTP/2, where requests are under way all the time, it means nothing.
    is_idle: bool,
    /// Several requests are on it at once.
    is_h2: bool,
}

/// The server had closed the connection before anything of a request was written to it.
#[derive(Debug, thiserror::Error)]
#[error("the server had closed the connection before")]
pub struct ClosedBefore;

impl Live {
    /// Fails where the server has closed the connection, or sent something on it that answers
    /// nothing: what would be written now is not what it waits for.
    fn check(&mut self) -> io::Result<()> {
        if self.is_h2 || !std::mem::take(&mut self.is_idle) {
            return Ok(());
        }
        let (hop, is_plain) = match &self.stream {
            MaybeHttpsStream::Http(hop) => (hop, true),
            // Below, there may be messages of TLS that belong to no answer.
            MaybeHttpsStream::Https(tls) => (tls.inner().get_ref().0.inner(), false),
        };
        let ends = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
        let looked = if is_plain && hop.is_plain() { ends | PollFlags::IN } else { ends };
        let mut descriptors = [PollFd::from_borrowed_fd(hop.tcp().as_fd(), looked)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        // A look that fails says nothing.
        let has_ended = poll(&mut descriptors, Some(&at_once)).is_ok_and(|found| found != 0);
        if has_ended {
            return Err(io::Error::new(io::ErrorKind::NotConnected, ClosedBefore));
        }
        Ok(())
    }
}

impl Service<Uri> for LiveConnector {
    type Response = Live;
    type Error = Error;
    type Future = Connecting<Live>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, to: Uri) -> Connecting<Live> {
        let connecting = self.0.call(to);
        Box::pin(async move {
            let stream = connecting.await?;
            let is_h2 = stream.connected().is_negotiated_h2();
            Ok(Live { stream, is_idle: true, is_h2 })
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
            self.is_idle = true;
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
