//! One TCP connection: to the server itself, or through a proxy.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderValue, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tower_service::Service;

use super::{proxy::ProxyRoute, resolver::TcpConnector};

/// A TCP connection that is not there after this long will not come; the upstream's own deadline
/// may be longer.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The bytes that a proxy may send before a tunnel is open.
const HEAD_BYTES_MAX: usize = 8 << 10;

pub type Error = Box<dyn std::error::Error + Send + Sync>;
type Dialling = Pin<Box<dyn Future<Output = Result<Hop, Error>> + Send>>;

/// Dials directly or through whichever proxy the route has. A clone is the same one.
#[derive(Debug, Clone)]
pub struct Dialer {
    /// Connects to proxies, those too that speak TLS themselves.
    connector: HttpsConnector<TcpConnector>,
    tcp: TcpConnector,
    route: Arc<ProxyRoute>,
    /// Opens a tunnel also where the server speaks plain HTTP: a proxy forwards HTTP/1 only.
    tunnels: bool,
}

/// A connection to the next hop.
#[derive(Debug)]
pub struct Hop {
    stream: MaybeHttpsStream<TokioIo<TcpStream>>,
    /// The next hop is a proxy that forwards, and wants whole addresses.
    forwards: bool,
}

impl Dialer {
    pub fn new(
        connector: HttpsConnector<TcpConnector>,
        tcp: TcpConnector,
        route: Arc<ProxyRoute>,
        tunnels: bool,
    ) -> Self {
        Self { connector, tcp, route, tunnels }
    }
}

impl Service<Uri> for Dialer {
    type Response = Hop;
    type Error = Error;
    type Future = Dialling;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Dialling {
        let Some(proxy) = self.route.to(&to).cloned() else {
            let connecting = self.tcp.call(to);
            return Box::pin(async move {
                let stream = MaybeHttpsStream::Http(connecting.await?);
                Ok(Hop { stream, forwards: false })
            });
        };
        let forwards = to.scheme_str() != Some("https") && !self.tunnels;
        let connecting = self.connector.call(proxy.uri.clone());
        let through = async move {
            let stream = connecting.await.map_err(|error| {
                Error::from(format!("the proxy {} cannot be reached: {error}", proxy.uri))
            })?;
            if forwards {
                return Ok(Hop { stream, forwards });
            }
            let opened = tunnel(stream, &to, proxy.authorization.as_ref()).await;
            let stream =
                opened.map_err(|error| Error::from(format!("the proxy {}: {error}", proxy.uri)))?;
            Ok(Hop { stream, forwards })
        };
        Box::pin(async move {
            let late = |_| Error::from(format!("no way through a proxy in {CONNECT_TIMEOUT:?}"));
            tokio::time::timeout(CONNECT_TIMEOUT, through).await.map_err(late)?
        })
    }
}

/// Has a proxy connect to the server (RFC 9110 §9.3.6).
async fn tunnel(
    stream: MaybeHttpsStream<TokioIo<TcpStream>>,
    to: &Uri,
    authorization: Option<&HeaderValue>,
) -> Result<MaybeHttpsStream<TokioIo<TcpStream>>, String> {
    let usual = if to.scheme_str() == Some("https") { 443 } else { 80 };
    let host = to.host().unwrap_or_default();
    let authority = format!("{host}:{}", to.port_u16().unwrap_or(usual));
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n").into_bytes();
    if let Some(authorization) = authorization {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(authorization.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    let broken = |error: io::Error| format!("its connection broke: {error}");
    let mut stream = TokioIo::new(stream);
    stream.write_all(&request).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        // One at a time: what follows belongs to the server behind it.
        let byte = stream.read_u8().await.map_err(broken)?;
        head.push(byte);
        if HEAD_BYTES_MAX < head.len() {
            return Err("its answer to CONNECT has no end".to_owned());
        }
    }
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let status = line.split(' ').nth(1).unwrap_or_default();
    if line.starts_with("HTTP/1.") && status.len() == 3 && status.starts_with('2') {
        return Ok(stream.into_inner());
    }
    let line: String = line.chars().take(80).collect();
    Err(format!("it answered CONNECT with `{}`", line.escape_debug()))
}

impl Hop {
    /// The connection of TCP below.
    pub fn tcp(&self) -> &TcpStream {
        match &self.stream {
            MaybeHttpsStream::Http(tcp) => tcp.inner(),
            MaybeHttpsStream::Https(tls) => tls.inner().get_ref().0.inner().inner(),
        }
    }

    /// Whether what is on it is not within a session of TLS with a proxy.
    pub fn is_plain(&self) -> bool {
        matches!(self.stream, MaybeHttpsStream::Http(_))
    }
}

impl Connection for Hop {
    fn connected(&self) -> Connected {
        self.stream.connected().proxy(self.forwards)
    }
}

impl Read for Hop {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Write for Hop {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
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
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }
}
