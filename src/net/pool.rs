//! Connections to one server that speaks plain HTTP/1.1: no key is hashed and compared for each
//! request, as in a pool for many servers, and nothing stands between the wire and who waits.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Request, Uri, header, uri::Scheme};
use tower_service::Service as _;

use super::{
    answer::{Answer, AnswerBody},
    dial,
    http1::{Connection, HeadTemplate, Http1Error, RequestText},
    idle::IdleConnections,
    resolver::TcpConnector,
    reuse::Reuse,
};

/// A body up to this fits the system's buffers, whether the server reads it or not.
const BODY_BYTES_MAX: usize = 16 << 10;

/// The connections to one server that wait for a request.
#[derive(Debug)]
pub struct Pool {
    /// Scheme and authority of the server.
    origin: Uri,
    /// What requests to it say in `Host`.
    host: HeaderValue,
    connector: TcpConnector,
    idle: Arc<IdleConnections>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    #[error("{0}")]
    Connect(#[source] dial::Error),
    #[error("{0}")]
    Broken(#[source] Http1Error),
}

impl Pool {
    /// A pool for the server at this address; none where its requests need more than plain HTTP.
    pub fn of(uri: &Uri, connector: TcpConnector, reuse: Arc<Reuse>) -> Option<Arc<Self>> {
        if uri.scheme() != Some(&Scheme::HTTP) {
            return None;
        }
        let authority = uri.authority()?;
        // Without user information, and without the usual port.
        let host = match authority.port_u16() {
            None | Some(80) => HeaderValue::from_str(authority.host()),
            Some(port) => HeaderValue::from_str(&format!("{}:{port}", authority.host())),
        };
        let origin = Uri::builder().scheme(Scheme::HTTP).authority(authority.clone());
        let origin = origin.path_and_query("/").build().ok()?;
        let idle = IdleConnections::new(reuse);
        Some(Arc::new(Self { origin, host: host.ok()?, connector, idle }))
    }

    /// Whether requests to this address go to its server.
    pub fn is_of(&self, uri: &Uri) -> bool {
        self.origin.authority() == uri.authority() && self.origin.scheme() == uri.scheme()
    }

    /// Whether a request with this body can be sent here: one with a large body may be answered
    /// before it is read.
    pub fn takes(&self, body: &Bytes) -> bool {
        body.len() <= BODY_BYTES_MAX
    }

    /// What requests begin with that have this one's line and fields, and more fields.
    pub fn template(&self, mut request: Request<()>) -> HeadTemplate {
        self.name_host(&mut request);
        HeadTemplate::of(&request)
    }

    /// The request as it is written to this server, whatever its address says.
    pub fn text(&self, mut request: Request<Bytes>) -> RequestText {
        self.name_host(&mut request);
        RequestText::of(&request)
    }

    fn name_host<T>(&self, request: &mut Request<T>) {
        request.headers_mut().entry(header::HOST).or_insert_with(|| self.host.clone());
    }

    /// Sends a request to this server; on a connection that is not used otherwise where it is to be
    /// `fresh`.
    ///
    /// # Errors
    /// No connection can be opened, or it breaks before the head of an answer.
    pub async fn send(&self, text: &RequestText, fresh: bool) -> Result<Answer, PoolError> {
        let kept = if fresh { None } else { self.idle.take() };
        let mut connection = match kept {
            Some(connection) => connection,
            // Boxed: rare and large.
            None => Box::pin(self.connect()).await?,
        };
        let head = connection.exchange(text).await.map_err(PoolError::Broken)?;
        let idle = (!fresh).then(|| Arc::clone(&self.idle));
        Ok(AnswerBody::of_own(connection, head, idle))
    }

    async fn connect(&self) -> Result<Box<Connection>, PoolError> {
        let mut connector = self.connector.clone();
        // It is always ready.
        let stream = connector.call(self.origin.clone()).await;
        let stream = stream.map_err(|error| PoolError::Connect(error.into()))?;
        Ok(Box::new(Connection::new(stream.into_inner())))
    }
}
