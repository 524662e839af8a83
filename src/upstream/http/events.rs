//! HTTP+SSE as a client, the transport of 2024-11-05: one stream brings all that the server says,
//! and names the address that takes all that it is told.
//!
//! The stream is the session: with its end the connection is lost.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method as Verb, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{Response, body::Incoming};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::{
    call::{Token, tasks::Tasks},
    net::NetError,
};

use super::{
    super::{
        SendError,
        lines::{Lines, Out},
        open::OpenError,
        sign::Signs,
        sse::{Decoder, TooLarge},
    },
    ASIDE_TIMEOUT, EVENTS, Endpoint, JSON, is_stream,
};

/// Answers, pings and cancellations that are posted at once; those beyond are dropped and counted.
const ASIDES_MAX: usize = 256;
/// What is read of the answer to a POST, so that its TCP connection can be used again. Servers say
/// `Accepted`, or nothing.
const DRAINED_BYTES_MAX: usize = 16 << 10;
/// And how long is waited for that.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(250);

/// What is shown of an endpoint that is refused.
const SHOWN_CHARS: usize = 200;

/// Where a server is told things: each message is a POST of its own. A clone is the same one.
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
    signs: Signs,
    tasks: &Tasks,
    patience: Duration,
) -> Result<Lines, OpenError> {
    let mut decoder = Decoder::new(signs.answer_bytes_max());
    let begun = tokio::time::timeout(patience, begin(&endpoint, &mut decoder)).await;
    let (body, named) = begun.unwrap_or_else(|_| {
        Err(OpenError::NoStream(format!("no `endpoint` event came within {patience:?}")))
    })?;
    let uri = resolve(&endpoint.uri, &named)
        .ok_or_else(|| OpenError::Endpoint(named.chars().take(SHOWN_CHARS).collect()))?;
    let asides = Arc::new(Semaphore::new(ASIDES_MAX));
    let mailbox = Mailbox { endpoint: Arc::new(endpoint), uri, asides };
    let lines = Lines::new(Out::Mailbox(mailbox), exclusive, signs, tasks);
    lines.run("upstream events: read", |lines| read(lines, body, decoder));
    Ok(lines)
}

/// Asks for the stream, and reads what it names as the endpoint.
async fn begin(
    endpoint: &Endpoint,
    decoder: &mut Decoder,
) -> Result<(Incoming, String), OpenError> {
    let mut request = endpoint.request(Verb::GET, endpoint.uri.clone(), Full::default());
    request.headers_mut().insert(header::ACCEPT, EVENTS);
    let response = endpoint.send(request, None).await.map_err(|error| broken(&error))?;
    let mut body = stream(response)?;
    let none = |why: &str| OpenError::NoStream(why.to_owned());
    loop {
        let frame = decoder.next().map_err(|TooLarge| none("its first event is too large"))?;
        match frame.map(|frame| (frame.event, frame.data)) {
            // A comment, or nothing but an id.
            Some((_, data)) if data.is_empty() => continue,
            Some((Some(event), data)) if event == "endpoint" => {
                return Ok((body, String::from_utf8_lossy(&data).into_owned()));
            }
            Some(_) => return Err(none("its first event is no `endpoint`")),
            None => (),
        }
        match body.frame().await {
            Some(Ok(frame)) => decoder.push(frame.data_ref().map_or(&[][..], |bytes| bytes)),
            Some(Err(_)) | None => return Err(none("its stream ended before an `endpoint` event")),
        }
    }
}

fn stream(response: Response<Incoming>) -> Result<Incoming, OpenError> {
    let status = response.status();
    if !status.is_success() {
        return Err(OpenError::NoStream(format!("it answered GET with HTTP status {status}")));
    }
    if !is_stream(response.headers()) {
        return Err(OpenError::NoStream("it answered GET with no stream of events".to_owned()));
    }
    Ok(response.into_body())
}

/// Reads until the stream ends, and says why that was.
async fn read(lines: Lines, mut body: Incoming, mut decoder: Decoder) -> String {
    loop {
        match decoder.next() {
            Ok(Some(frame)) => {
                let is_message = frame.event.is_none_or(|event| event == "message");
                if is_message && !frame.data.is_empty() {
                    lines.receive(&frame.data);
                }
                continue;
            }
            Ok(None) => (),
            Err(TooLarge) => return lines.too_large("an event"),
        }
        match body.frame().await {
            Some(Ok(frame)) => decoder.push(frame.data_ref().map_or(&[][..], |bytes| bytes)),
            Some(Err(error)) => return format!("its stream broke: {error}"),
            None => return "it closed its stream".to_owned(),
        }
    }
}

impl Mailbox {
    /// From here on it is told things in the name of its caller, with this token.
    pub fn belongs_to(&self, token: &Token) {
        self.endpoint.belongs_to(token);
    }

    /// Posts a message; nothing is sent before it is polled.
    pub fn post(&self, text: Bytes) -> Posting {
        let endpoint = Arc::clone(&self.endpoint);
        let mut request = endpoint.request(Verb::POST, self.uri.clone(), Full::new(text));
        request.headers_mut().insert(header::CONTENT_TYPE, JSON);
        Box::pin(async move {
            let response = endpoint.send(request, None).await;
            let response = response.map_err(|error| broken(&error))?;
            let status = response.status();
            if !status.is_success() {
                return Err(SendError::Status(status.as_u16()));
            }
            // What goes on for longer is not waited for.
            tokio::time::timeout(DRAIN_TIMEOUT, drain(response.into_body())).await.ok();
            Ok(())
        })
    }

    /// Posts what is no request, and waits until it is taken.
    pub async fn deliver(&self, text: Bytes) -> Result<(), SendError> {
        let posted = tokio::time::timeout(ASIDE_TIMEOUT, self.post(text)).await;
        posted.unwrap_or(Err(SendError::Idle(ASIDE_TIMEOUT)))
    }

    /// The same without waiting; false where too many are under way.
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

async fn drain(mut body: Incoming) {
    let mut read = 0;
    while read < DRAINED_BYTES_MAX
        && let Some(Ok(frame)) = body.frame().await
    {
        read += frame.data_ref().map_or(0, Bytes::len);
    }
}

fn broken(error: &NetError) -> SendError {
    match error {
        NetError::Connect(_) | NetError::Unsent(_) => SendError::Unavailable(error.to_string()),
        NetError::Broken(_) => SendError::Lost(error.to_string()),
    }
}

/// The address that `reference` names, seen from `base` (RFC 3986, 5.2). None where it is none, or
/// of another origin: what is sent to this server is for no other.
fn resolve(base: &Uri, reference: &str) -> Option<Uri> {
    let reference = reference.trim().split('#').next()?;
    let scheme = reference.split_once("://").filter(|(scheme, _)| !scheme.contains(['/', '?']));
    let absolute = match scheme {
        Some(_) => Some(reference.to_owned()),
        None if reference.starts_with("//") => Some(format!("{}:{reference}", base.scheme_str()?)),
        None => None,
    };
    let target = match absolute {
        Some(absolute) => {
            let uri: Uri = absolute.parse().ok()?;
            (origin(&uri)? == origin(base)?).then(|| uri.path_and_query().cloned())??.to_string()
        }
        None if reference.starts_with('/') => reference.to_owned(),
        None if reference.starts_with('?') => format!("{}{reference}", base.path()),
        None => {
            let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{folder}/{reference}")
        }
    };
    let (path, query) = target.split_once('?').map_or((&*target, None), |(p, q)| (p, Some(q)));
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let parts = Uri::builder().scheme(base.scheme()?.clone()).authority(base.authority()?.clone());
    parts.path_and_query(without_dots(path) + &query).build().ok()
}

fn origin(uri: &Uri) -> Option<(String, String, u16)> {
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let usual = if scheme == "https" { 443 } else { 80 };
    Some((scheme, uri.host()?.to_ascii_lowercase(), uri.port_u16().unwrap_or(usual)))
}

/// A path without `.` and `..` (RFC 3986, 5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => (),
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    if path.ends_with("/.") || path.ends_with("/..") {
        kept.push("");
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(reference: &str) -> Option<String> {
        let base = "http://Example.com:80/mcp/sse?a=b".parse().expect("an address");
        resolve(&base, reference).map(|uri| uri.to_string())
    }

    #[test]
    fn an_endpoint_is_seen_from_the_address_of_the_stream() {
        for (reference, path) in [
            ("/messages/?session_id=1", "/messages/?session_id=1"),
            ("messages?s=a/../b", "/mcp/messages?s=a/../b"),
            ("./x", "/mcp/x"),
            ("../messages", "/messages"),
            ("../../..", "/"),
            ("a/..", "/mcp/"),
            ("?s=1", "/mcp/sse?s=1"),
            ("/x?to=http://elsewhere/", "/x?to=http://elsewhere/"),
            ("http://example.com/x", "/x"),
            ("HTTP://user@EXAMPLE.com:80", "/"),
            ("//example.com/x#y", "/x"),
        ] {
            let want = format!("http://Example.com:80{path}");
            assert_eq!(resolved(reference), Some(want), "{reference}");
        }
    }

    #[test]
    fn what_is_of_another_origin_is_no_endpoint() {
        for reference in [
            "http://example.com:8080/x",
            "https://example.com/x",
            "https://example.com:80/x",
            "http://example.com.evil/x",
            "http://example.com@evil/x",
            "//evil/x",
            "ftp://example.com/x",
            "http://",
            "/a b",
        ] {
            assert_eq!(resolved(reference), None, "{reference}");
        }
    }
}
