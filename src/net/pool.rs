//! Idle HTTP/1.1 connections to one server, without TLS and proxies: no key is hashed and compared
//! for each request, as in a pool for many servers.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Uri, header, uri::Scheme};
use http_body_util::Full;
use hyper::{
    Request,
    client::conn::http1::{self, SendRequest},
    rt::Executor as _,
};
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use tokio::time::Instant;
use tower_service::Service as _;

use super::{
    answer::{Answer, AnswerBody, Lease},
    live::LiveConnector,
};

/// Idle connections are given up a little before common servers do (Node and uvicorn: 5 s): a
/// request that meets the end of its connection is lost, and nobody knows what became of it.
pub const POOL_IDLE: Duration = Duration::from_secs(4);

/// The connections to one server that wait for a request.
#[derive(Debug)]
pub struct Pool {
    /// Scheme and authority of the server.
    origin: Uri,
    /// What requests to it say in `Host`.
    host: HeaderValue,
    connector: LiveConnector,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The one that was used last is at the end: the others come of age.
    idle: Vec<Idle>,
    /// Whether a task is about that closes what is idle for too long.
    is_swept: bool,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<Full<Bytes>>,
    since: Instant,
    /// Its last answer was read to the end, so that it is ready or about to be.
    is_finished: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    #[error(transparent)]
    Connect(super::dial::Error),
    /// Nothing was sent: the connection had ended before.
    #[error("{0}")]
    Unsent(#[source] hyper::Error),
    #[error("{0}")]
    Broken(#[source] hyper::Error),
}

impl Pool {
    /// A pool for the server at this address; none where its requests need more than plain HTTP.
    pub fn of(uri: &Uri, connector: LiveConnector) -> Option<Arc<Self>> {
        if uri.scheme() != Some(&Scheme::HTTP) {
            return None;
        }
        let authority = uri.authority()?;
        // Without user information; the port as it is written, but for the usual one.
        let host = match authority.port_u16() {
            None | Some(80) => HeaderValue::from_str(authority.host()),
            Some(port) => HeaderValue::from_str(&format!("{}:{port}", authority.host())),
        };
        let origin = Uri::builder().scheme(Scheme::HTTP).authority(authority.clone());
        let origin = origin.path_and_query("/").build().ok()?;
        let state = Mutex::default();
        Some(Arc::new(Self { origin, host: host.ok()?, connector, state }))
    }

    /// Whether requests to this address go to its server.
    pub fn is_of(&self, uri: &Uri) -> bool {
        self.origin.authority() == uri.authority() && self.origin.scheme() == uri.scheme()
    }

    /// Sends a request to this server, whatever its address says; on a connection that is not used
    /// otherwise where it is to be `fresh`.
    pub async fn send(
        self: &Arc<Self>,
        mut request: Request<Full<Bytes>>,
        fresh: bool,
    ) -> Result<Answer, PoolError> {
        // The form that servers are asked in (RFC 9112 §3.2.1).
        if let Some(path) = request.uri().path_and_query() {
            *request.uri_mut() = path.clone().into();
        }
        request.headers_mut().entry(header::HOST).or_insert_with(|| self.host.clone());
        let kept = if fresh { None } else { self.take().await };
        let mut sender = match kept {
            Some(sender) => sender,
            // Boxed: rare and large.
            None => Box::pin(self.connect()).await?,
        };
        let sent = sender.try_send_request(request).await;
        let response = sent.map_err(|mut failed| match failed.take_message() {
            Some(_unsent) => PoolError::Unsent(failed.into_error()),
            None => PoolError::Broken(failed.into_error()),
        })?;
        let lease = (!fresh).then(|| Lease::new(sender, Arc::downgrade(self)));
        Ok(response.map(|body| AnswerBody::new(body, lease)))
    }

    /// Takes the connection that was used last and is still good.
    async fn take(&self) -> Option<SendRequest<Full<Bytes>>> {
        loop {
            let mut idle = self.state.lock().take()?;
            if idle.sender.is_ready() || idle.sender.ready().await.is_ok() {
                return Some(idle.sender);
            }
        }
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, PoolError> {
        let mut connector = self.connector.clone();
        // It is always ready.
        let stream = connector.call(self.origin.clone()).await.map_err(PoolError::Connect)?;
        let made = Box::pin(http1::handshake(stream)).await;
        let (sender, connection) = made.map_err(PoolError::Unsent)?;
        // It ends with its sender, and tells that of what goes wrong.
        TokioExecutor::new().execute(async move {
            connection.await.ok();
        });
        Ok(sender)
    }

    /// Keeps a connection for the next request.
    pub(super) fn put(self: &Arc<Self>, sender: SendRequest<Full<Bytes>>, is_finished: bool) {
        if sender.is_closed() {
            return;
        }
        let since = Instant::now();
        let mut state = self.state.lock();
        state.idle.push(Idle { sender, since, is_finished });
        if std::mem::replace(&mut state.is_swept, true) {
            return;
        }
        drop(state);
        TokioExecutor::new().execute(sweep(Arc::downgrade(self)));
    }
}

impl State {
    fn take(&mut self) -> Option<Idle> {
        let oldest = Instant::now().checked_sub(POOL_IDLE);
        while let Some(at) = self.idle.iter().rposition(Idle::is_usable) {
            let idle = self.idle.swap_remove(at);
            if oldest.is_none_or(|oldest| oldest <= idle.since) && !idle.sender.is_closed() {
                return Some(idle);
            }
        }
        None
    }
}

impl Idle {
    /// One whose answer was left before its end may take long to be ready, or never be.
    fn is_usable(&self) -> bool {
        self.is_finished || self.sender.is_ready()
    }
}

/// Closes connections that are idle for too long, until there are none.
async fn sweep(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(POOL_IDLE).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut state = pool.state.lock();
        state.idle.retain(|idle| idle.since.elapsed() < POOL_IDLE && !idle.sender.is_closed());
        if state.idle.is_empty() {
            state.is_swept = false;
            return;
        }
    }
}
