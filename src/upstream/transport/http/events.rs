//! HTTP+SSE as a client, the transport of 2024-11-05: one stream brings all that the server says,
//! and names the address that takes all that it is told.
//!
//! The stream is the session: with its end the connection is lost.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method as Verb, Uri, header};
use hyper::Response;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::{
    call::{Token, tasks::Tasks},
    net::Content,
    upstream::{
        connection::error::OpenError,
        exchange::error::SendError,
        replica::inbox::EventSink,
        transport::{
            multiplexed::{Multiplexer, Out},
            read_budget::Reservation,
            sse::{Decoder, StreamError},
        },
    },
};

use super::{
    EVENTS, Endpoint, JSON, NOTIFICATION_TIMEOUT,
    address::resolve,
    endpoint::{HeaderKind, How, RequestTemplate, broken},
    head::challenge,
    is_stream,
};

/// Answers, pings and cancellations that are posted at once; those beyond are dropped and counted.
const ASIDES_MAX: usize = 256;
/// Bytes that are read of the answer to a POST, so that its TCP connection can be used again.
/// Servers say `Accepted`, or nothing.
const DRAINED_BYTES_MAX: usize = 16 << 10;
/// The time that the rest of such an answer is waited for.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(250);

/// Characters that are shown of an endpoint that is refused.
const SHOWN_CHARS: usize = 200;

/// The address where a server is told things: each message is a POST of its own. A clone is the
/// same one.
#[derive(Debug, Clone)]
pub struct Mailbox {
    endpoint: Arc<Endpoint>,
    uri: Uri,
    asides: Arc<Semaphore>,
}

/// A POST under way, until it is known whether it was taken.
pub type Posting = Pin<Box<dyn Future<Output = Result<(), SendError>> + Send>>;

/// Opens a stream whose server names its endpoint within `patience`, and begins to read.
///
/// # Errors
/// [`OpenError::NoStream`] where the server speaks no HTTP+SSE, as far as can be seen.
pub async fn open(
    endpoint: Endpoint,
    exclusive: bool,
    sink: EventSink,
    tasks: &Tasks,
    patience: Duration,
) -> Result<Multiplexer, OpenError> {
    let mut decoder = Decoder::new(sink.answer_bytes_max()).bounded(sink.noise());
    let begun = tokio::time::timeout(patience, begin(&endpoint, &mut decoder)).await;
    let (body, named) = begun.unwrap_or_else(|_| {
        Err(OpenError::NoStream(format!("no `endpoint` event came within {patience:?}")))
    })?;
    let uri = resolve(&endpoint.uri, &named)
        .ok_or_else(|| OpenError::Endpoint(named.chars().take(SHOWN_CHARS).collect()))?;
    let asides = Arc::new(Semaphore::new(ASIDES_MAX));
    let mailbox = Mailbox { endpoint: Arc::new(endpoint), uri, asides };
    let lines = Multiplexer::new(Out::Mailbox(mailbox), exclusive, sink, tasks);
    lines.run("upstream events: read", |lines| read(lines, body, decoder));
    Ok(lines)
}

/// Asks for the stream, and reads what it names as the endpoint.
async fn begin(endpoint: &Endpoint, decoder: &mut Decoder) -> Result<(Content, String), OpenError> {
    let mut request = RequestTemplate::new(Verb::GET, Bytes::new(), HeaderKind::Bare);
    request.set(header::ACCEPT, EVENTS);
    // Boxed: large.
    let response = Box::pin(endpoint.send(request, how(true))).await.map_err(broken)?;
    let mut body = stream(endpoint, response)?;
    let none = |why: &str| OpenError::NoStream(why.to_owned());
    loop {
        let frame = decoder.next().map_err(|error| match error {
            StreamError::TooLarge => none("its first event is too large"),
            StreamError::Noisy(why) => OpenError::NoStream(why),
        })?;
        match frame.map(|frame| (frame.event, frame.data)) {
            // A comment, or nothing but an id.
            Some((_, data)) if data.is_empty() => continue,
            Some((Some(event), data)) if event == "endpoint" => {
                return Ok((body, String::from_utf8_lossy(&data).into_owned()));
            }
            Some(_) => return Err(none("its first event is no `endpoint`")),
            None => (),
        }
        match body.next().await {
            Some(Ok(bytes)) => decoder.push(&bytes),
            Some(Err(_)) | None => return Err(none("its stream ended before an `endpoint` event")),
        }
    }
}

fn stream(endpoint: &Endpoint, response: Response<Content>) -> Result<Content, OpenError> {
    let status = response.status();
    if !status.is_success() {
        let challenge = challenge(response.headers());
        let reason = endpoint.reason(status.as_u16(), &challenge, &[]);
        let said = format!("it answered GET with HTTP status {status}{reason}");
        return Err(OpenError::NoStream(said));
    }
    if !is_stream(response.headers()) {
        return Err(OpenError::NoStream("it answered GET with no stream of events".to_owned()));
    }
    Ok(response.into_body())
}

/// Reads until the stream ends, and says why that was.
async fn read(lines: Multiplexer, mut body: Content, mut decoder: Decoder) -> String {
    let mut reservation = Reservation::default();
    loop {
        match decoder.next() {
            Ok(Some(frame)) => {
                if !frame.data.is_empty() {
                    lines.hear(&frame, reservation.take());
                }
                continue;
            }
            Ok(None) => (),
            Err(StreamError::TooLarge) => return lines.too_large("an event"),
            Err(StreamError::Noisy(why)) => return lines.noisy(why),
        }
        lines.hold(&mut reservation, decoder.held()).await;
        match body.next().await {
            Some(Ok(bytes)) => decoder.push(&bytes),
            Some(Err(error)) => return format!("its stream broke: {error}"),
            None => return "it closed its stream".to_owned(),
        }
    }
}

impl Mailbox {
    /// Sets the token of the caller in whose name the server is told things.
    pub fn set_token(&self, token: &Token) {
        self.endpoint.set_token(token);
    }

    /// Posts a message; nothing is sent before it is polled.
    pub fn post(&self, text: Bytes) -> Posting {
        let endpoint = Arc::clone(&self.endpoint);
        let request = RequestTemplate::new(Verb::POST, text, HeaderKind::Bare);
        let mut request = request.to(self.uri.clone());
        request.set(header::CONTENT_TYPE, JSON);
        Box::pin(async move {
            let response = endpoint.send(request, how(false)).await;
            let response = response.map_err(broken)?;
            let status = response.status();
            if !status.is_success() {
                let challenge = challenge(response.headers());
                return Err(endpoint.refusal(status.as_u16(), &challenge, &[]));
            }
            // An answer that goes on for longer is not waited for.
            tokio::time::timeout(DRAIN_TIMEOUT, drain(response.into_body())).await.ok();
            Ok(())
        })
    }

    /// Posts what is no request, and waits until it is taken.
    ///
    /// # Errors
    /// Where the server does not take it.
    pub async fn deliver(&self, text: Bytes) -> Result<(), SendError> {
        let posted = tokio::time::timeout(NOTIFICATION_TIMEOUT, self.post(text)).await;
        posted.unwrap_or(Err(SendError::Idle(NOTIFICATION_TIMEOUT)))
    }

    /// Posts it without waiting; false where too many are under way.
    pub fn deliver_aside(&self, text: Bytes, said: &TaskTracker, tasks: &Tasks) -> bool {
        let Ok(place) = Arc::clone(&self.asides).try_acquire_owned() else { return false };
        let mailbox = self.clone();
        let posting = said.track_future(async move {
            if let Err(error) = mailbox.deliver(text).await {
                tracing::debug!(%error, "a message was not taken");
            }
            drop(place);
        });
        tasks.spawn("upstream events: post", posting);
        true
    }
}

/// The stream is the session; nothing here is in the name of another caller than the endpoint's.
fn how(repeatable: bool) -> How {
    How { whose: None, repeatable, in_session: true, spans: None }
}

async fn drain(mut body: Content) {
    let mut read = 0;
    while read < DRAINED_BYTES_MAX
        && let Some(Ok(bytes)) = body.next().await
    {
        read += bytes.len();
    }
}
