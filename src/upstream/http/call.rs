//! One request under way over HTTP: its answer whole or as a stream of events, taken up again
//! where that broke.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::{Response, body::Incoming};

use crate::{
    call::{
        clock,
        event::{Event, Notice},
    },
    mcp::{
        id::Id,
        message::{self, Body, Message},
        method::Method,
        version::Era,
    },
    telemetry::Counter,
};

use super::{
    super::{
        SendError,
        lines::cancellation,
        sse::{Decoder, Frame, TooLarge},
    },
    Http, RETRY, SESSION, Sending, is_stream, notice,
};

/// Times a stream is taken up again without an event in between, before the call counts as lost.
const RESUMES_MAX: u32 = 5;
/// The shortest pause before one is taken up again, whatever the server asks for.
const RESUME_MIN: Duration = Duration::from_millis(50);

/// No server is left alone for longer than a day, whatever it says.
const RETRY_AFTER_MAX: u64 = 24 * 60 * 60;

/// A request under way.
pub struct HttpCall {
    http: Http,
    method: Method,
    id: u64,
    state: State,
    last_event_id: Option<String>,
    retry: Duration,
    resumes: u32,
    /// The `Retry-After` of a 429 or a 503.
    retry_after: Option<Duration>,
    /// What is said where it is cancelled.
    reason: Option<String>,
}

enum State {
    Sending(Sending),
    Whole { status: StatusCode, body: Incoming, text: Vec<u8> },
    Stream { body: Incoming, decoder: Decoder },
    Resuming,
    Done,
}

impl HttpCall {
    pub(super) fn new(http: Http, method: Method, id: u64, sending: Sending) -> Self {
        let state = State::Sending(sending);
        Self {
            http,
            method,
            id,
            state,
            last_event_id: None,
            retry: RETRY,
            resumes: 0,
            retry_after: None,
            reason: None,
        }
    }

    /// The next event. Safe to drop: all progress is kept in `self`.
    pub async fn next(&mut self) -> Result<Event, SendError> {
        loop {
            if let Some(event) = self.step().await? {
                return Ok(event);
            }
        }
    }

    /// One step; often nothing is to be told of it.
    async fn step(&mut self) -> Result<Option<Event>, SendError> {
        match &mut self.state {
            State::Sending(sending) => {
                let response = sending.await.map_err(|error| self.http.broken(&error));
                self.state = State::Done;
                self.state = self.sort(response?)?;
                Ok(None)
            }
            State::Whole { status, body, text } => match body.frame().await {
                Some(Ok(frame)) => {
                    text.extend_from_slice(frame.data_ref().map_or(&[][..], |bytes| bytes));
                    self.check_size()
                }
                Some(Err(error)) => Err(SendError::Lost(error.to_string())),
                None => {
                    let (status, text) = (*status, std::mem::take(text));
                    self.state = State::Done;
                    self.whole(status, &text.into()).map(Some)
                }
            },
            State::Stream { body, decoder } => {
                match decoder.next() {
                    Ok(Some(frame)) => return self.frame(&frame),
                    Ok(None) => (),
                    Err(TooLarge) => return Err(self.http.too_large()),
                }
                match body.frame().await {
                    Some(Ok(frame)) => {
                        decoder.push(frame.data_ref().map_or(&[][..], |bytes| bytes));
                        Ok(None)
                    }
                    Some(Err(error)) if self.last_event_id.is_none() => {
                        Err(SendError::Lost(error.to_string()))
                    }
                    Some(Err(_)) | None => self.paused().map(Some),
                }
            }
            State::Resuming => {
                tokio::time::sleep(self.retry.max(RESUME_MIN)).await;
                let request = self.http.get(self.last_event_id.as_deref());
                self.state = State::Sending(self.http.send(request));
                Ok(None)
            }
            State::Done => Err(SendError::Lost("it had ended".to_owned())),
        }
    }

    fn check_size(&mut self) -> Result<Option<Event>, SendError> {
        let State::Whole { text, .. } = &self.state else { return Ok(None) };
        if text.len() <= self.http.0.signs.answer_bytes_max() {
            return Ok(None);
        }
        self.state = State::Done;
        Err(self.http.too_large())
    }

    fn sort(&mut self, response: Response<Incoming>) -> Result<State, SendError> {
        let status = response.status();
        let in_session = self.http.0.session.get().is_some();
        if status == StatusCode::NOT_FOUND && in_session {
            self.http.end("it no longer knows the session");
            return Err(SendError::SessionGone);
        }
        if let 429 | 503 = status.as_u16() {
            self.retry_after = retry_after(response.headers());
        }
        if self.method == Method::Initialize
            && let Some(session) = response.headers().get(SESSION)
        {
            self.http.0.session.get_or_init(|| session.clone());
        }
        if status.is_success() && is_stream(response.headers()) {
            let decoder = Decoder::new(self.http.0.signs.answer_bytes_max());
            return Ok(State::Stream { body: response.into_body(), decoder });
        }
        Ok(State::Whole { status, body: response.into_body(), text: Vec::new() })
    }

    /// A body of JSON. A status that says failure may still carry a JSON-RPC error: that is the
    /// answer then. Not where the upstream wants other credentials: those are the gate's, and a
    /// client that is told so would look for an authorization server of the gate.
    fn whole(&self, status: StatusCode, text: &Bytes) -> Result<Event, SendError> {
        if let 401 | 403 | 407 = status.as_u16() {
            return Err(SendError::Status(status.as_u16()));
        }
        match Message::parse(text) {
            Ok(Message::Response(response)) => {
                let ours = response.id.as_ref().is_none_or(|id| id.as_number() == Some(self.id));
                if ours && (status.is_success() || matches!(response.body, Body::Error(_))) {
                    return Ok(Event::Answer { body: response.body, status: status.as_u16() });
                }
                Err(SendError::Garbage("an answer to another request".to_owned()))
            }
            _ if !status.is_success() => Err(match self.retry_after {
                Some(wait) => SendError::Busy(status.as_u16(), wait),
                None => SendError::Status(status.as_u16()),
            }),
            Ok(_) => Err(SendError::Garbage("a body that answers nothing".to_owned())),
            Err(error) => {
                self.http.0.signs.garbage(text, &error);
                Err(SendError::Garbage(error.to_string()))
            }
        }
    }

    fn frame(&mut self, frame: &Frame) -> Result<Option<Event>, SendError> {
        self.retry = frame.retry_ms.map_or(self.retry, Duration::from_millis);
        if frame.id.is_some() {
            self.last_event_id.clone_from(&frame.id);
        }
        if frame.data.is_empty() {
            return Ok(None);
        }
        self.resumes = 0;
        match Message::parse(&frame.data) {
            Ok(Message::Response(response)) => {
                if response.id.as_ref().and_then(Id::as_number) != Some(self.id) {
                    self.http.0.signs.count(Counter::UpstreamUnexpected);
                    return Ok(None);
                }
                self.state = State::Done;
                Ok(Some(Event::Answer { body: response.body, status: 200 }))
            }
            Ok(Message::Notification(notification)) => Ok(self.said(notice(&notification))),
            Ok(Message::Request(request)) => Ok(self.http.question(request).map(Event::Question)),
            Err(error) => {
                self.http.0.signs.garbage(&frame.data, &error);
                Err(SendError::Garbage(error.to_string()))
            }
        }
    }

    /// What is said on a call's stream is the call's, but for what every subscriber is to hear,
    /// where the connection is no session's own.
    fn said(&self, notice: Notice) -> Option<Event> {
        let announces = matches!(
            notice.method,
            Some(
                Method::ResourceUpdated
                    | Method::ToolsListChanged
                    | Method::PromptsListChanged
                    | Method::ResourcesListChanged
            )
        );
        let legacy = self.http.version().era() == Era::Legacy;
        if announces && legacy && !self.http.0.signs.is_of_session() {
            self.http.0.signs.notice(&notice);
            return None;
        }
        Some(Event::Notice(notice))
    }

    /// The stream ended before the answer: taken up again where the server gave event ids (legacy).
    fn paused(&mut self) -> Result<Event, SendError> {
        let resumable = self.last_event_id.is_some() && self.http.version().era() == Era::Legacy;
        if !resumable || RESUMES_MAX <= self.resumes {
            self.state = State::Done;
            return Err(SendError::Lost("it closed the stream before the answer".to_owned()));
        }
        self.resumes += 1;
        self.state = State::Resuming;
        Ok(Event::Paused { retry: self.retry })
    }

    /// How long the server asks to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    pub fn give_reason(&mut self, reason: String) {
        self.reason = Some(reason);
    }
}

/// When a server wants to be asked again (RFC 9110, 10.2.3): in so many seconds, or at a time.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = text.parse().ok().or_else(|| {
        let at = u64::try_from(jiff::fmt::rfc2822::parse(text).ok()?.timestamp().as_second());
        Some(at.ok()?.saturating_sub(clock::unix_seconds()))
    });
    seconds.map(|seconds: u64| Duration::from_secs(seconds.min(RETRY_AFTER_MAX)))
}

impl Http {
    fn too_large(&self) -> SendError {
        self.0.signs.count(Counter::UpstreamTooLarge);
        SendError::TooLarge(self.0.signs.answer_bytes_max())
    }
}

impl Drop for HttpCall {
    /// Modern: closing the stream is the cancellation. Legacy: it must be said.
    fn drop(&mut self) {
        let begun = !matches!(self.state, State::Done);
        let says = self.http.version().era() == Era::Legacy && self.method != Method::Initialize;
        if !begun || !says || self.http.is_closed() {
            return;
        }
        let params = cancellation(self.id, self.reason.as_deref());
        let text = message::notification(Method::Cancelled.name(), &params).bytes().clone();
        let http = self.http.clone();
        let said = self.http.0.said.track_future(async move {
            if let Err(error) = http.post_aside(text).await {
                tracing::debug!(%error, "a cancellation was not taken");
            }
        });
        self.http.0.tasks.spawn("upstream http: cancel", said);
    }
}

impl fmt::Debug for HttpCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpCall")
            .field("method", &self.method)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
