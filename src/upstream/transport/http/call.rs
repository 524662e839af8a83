//! A request under way over HTTP: its answer whole or as a stream of events, taken up again where
//! that broke.

use std::{collections::VecDeque, fmt, pin::pin, sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use hyper::Response;

use crate::{
    call::event::{Event, ServerNotification},
    mcp::{
        lenient::{self, Damaged, Received},
        message::{self, Body, Message, Response as Answer},
        method::Method,
        raw::Raw,
        version::Era,
    },
    net::Content,
    telemetry::Counter,
    upstream::{
        exchange::error::SendError,
        transport::{
            multiplexed::cancellation,
            read_budget::Reservation,
            sse::{Decoder, Frame, StreamError},
        },
    },
};

use super::{
    Http, RETRY, SESSION, Sending,
    answer_text::AnswerText,
    expected::{Awaited, with_token},
    gone, head, is_stream, notice,
};

/// Times a stream is taken up again without an event in between, before the call counts as lost.
const RESUMES_MAX: u32 = 5;
/// The shortest pause before one is taken up again, whatever the server asks for.
const RESUME_MIN: Duration = Duration::from_millis(50);

/// A request under way.
pub struct HttpCall {
    http: Http,
    method: Method,
    id: u64,
    /// The params as they were sent, for the progress token in them.
    params: Raw,
    state: State,
    /// Events that came with the last one, where one brought several messages.
    queue: VecDeque<Event>,
    /// The first error without an id on the request's own stream. It can be about this request
    /// only, and answers it unless a response with the id comes, for which the SDKs' clients wait.
    nameless: Option<Body>,
    last_event_id: Option<String>,
    retry: Duration,
    resumes: u32,
    /// The `Retry-After` of a 429 or a 503.
    retry_after: Option<Duration>,
    /// The text of a refusal in `WWW-Authenticate`; empty where it says nothing, and for answers.
    challenge: String,
    /// The reason that the server is given where it is cancelled.
    reason: Option<String>,
    /// The head of an answer came.
    begun: bool,
    /// The bytes that a large answer counts as, also until it is passed on.
    reservation: Reservation,
}

enum State {
    Sending(Sending),
    Whole {
        status: StatusCode,
        body: Content,
        text: AnswerText,
    },
    Stream {
        body: Content,
        decoder: Decoder,
    },
    /// The server took the request, and answers on the session's own stream.
    Elsewhere(Awaited),
    Resuming,
    Done,
}

impl HttpCall {
    pub(super) fn new(http: Http, method: Method, id: u64, params: &Raw, sending: Sending) -> Self {
        http.0.expected.begin(id, params);
        Self {
            http,
            method,
            id,
            params: params.clone(),
            state: State::Sending(sending),
            queue: VecDeque::new(),
            last_event_id: None,
            nameless: None,
            retry: RETRY,
            resumes: 0,
            retry_after: None,
            challenge: String::new(),
            reason: None,
            begun: false,
            reservation: Reservation::default(),
        }
    }

    /// The next event. Safe to drop: all progress is kept in `self`.
    ///
    /// # Errors
    /// Where the answer is lost, too large or no message.
    pub async fn next(&mut self) -> Result<Event, SendError> {
        let http = self.http.clone();
        http.unless_cut(pin!(self.advance())).await
    }

    async fn advance(&mut self) -> Result<Event, SendError> {
        loop {
            if let Some(event) = self.step().await? {
                return Ok(event);
            }
        }
    }

    /// Makes one step; often there is no event in it.
    async fn step(&mut self) -> Result<Option<Event>, SendError> {
        if let Some(event) = self.queue.pop_front() {
            return Ok(Some(event));
        }
        match &mut self.state {
            State::Sending(sending) => {
                let response = sending.await.map_err(|error| self.http.broken(error));
                self.state = State::Done;
                self.state = self.sort(response?)?;
                Ok(None)
            }
            State::Whole { status, body, text } => {
                let sink = &self.http.0.sink;
                self.reservation.hold(sink.reading(), text.held()).await;
                match body.next().await {
                    Some(Ok(bytes)) => {
                        text.push(&bytes, body.remaining(), sink.answer_bytes_max());
                        self.check_size()
                    }
                    Some(Err(error)) => Err(SendError::Lost(error)),
                    None => {
                        let status = *status;
                        let text = std::mem::take(text);
                        self.state = State::Done;
                        self.whole(status, &text.into())
                    }
                }
            }
            State::Stream { body, decoder } => {
                match decoder.next() {
                    Ok(Some(frame)) => return self.frame(&frame),
                    Ok(None) => (),
                    Err(error) => return Err(self.http.unread(error)),
                }
                self.reservation.hold(self.http.0.sink.reading(), decoder.held()).await;
                match body.next().await {
                    Some(Ok(bytes)) => {
                        decoder.push(&bytes);
                        Ok(None)
                    }
                    Some(Err(error)) if self.last_event_id.is_none() => Err(SendError::Lost(error)),
                    Some(Err(_)) | None => self.paused().map(Some),
                }
            }
            State::Elsewhere(awaited) => {
                let body = awaited.body(&self.http).await?;
                self.answer(body, 200).map(Some)
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
        if text.len() <= self.http.0.sink.answer_bytes_max() {
            return Ok(None);
        }
        self.state = State::Done;
        Err(self.http.too_large())
    }

    fn sort(&mut self, response: Response<Content>) -> Result<State, SendError> {
        self.begun = true;
        let status = response.status();
        if status == StatusCode::NOT_FOUND && self.is_in_session() {
            return Err(self.session_gone());
        }
        if let 429 | 503 = status.as_u16() {
            self.retry_after = head::retry_after(response.headers());
        }
        if status.is_client_error() {
            self.challenge = head::challenge(response.headers());
        }
        if self.method == Method::Initialize
            && let Some(session) = response.headers().get(SESSION)
        {
            self.http.0.session.get_or_init(|| session.clone());
        }
        if status.is_success() && is_stream(response.headers()) {
            let sink = &self.http.0.sink;
            let decoder = Decoder::new(sink.answer_bytes_max()).bounded(sink.noise());
            return Ok(State::Stream { body: response.into_body(), decoder });
        }
        Ok(State::Whole { status, body: response.into_body(), text: AnswerText::default() })
    }

    /// Whether the request named a session.
    fn is_in_session(&self) -> bool {
        self.method != Method::Initialize && self.http.0.session.get().is_some()
    }

    fn session_gone(&mut self) -> SendError {
        self.state = State::Done;
        self.http.forgotten();
        SendError::SessionGone
    }

    /// A body of JSON. A status that says failure may still carry a JSON-RPC error: that is the
    /// answer then. Not where the upstream wants other credentials: those are the gate's, and a
    /// client that is told so would look for an authorization server of the gate.
    fn whole(&mut self, status: StatusCode, text: &Bytes) -> Result<Option<Event>, SendError> {
        let code = status.as_u16();
        if status.is_client_error() && self.is_in_session() && gone::refuses(code, text) {
            return Err(self.session_gone());
        }
        if let 401 | 403 | 407 = code {
            return Err(self.refusal(code, text));
        }
        match lenient::read(text) {
            Received::Message(Message::Response(answer)) => {
                let ours = answer.id.as_ref().is_none_or(|id| id.as_number() == Some(self.id));
                if ours && (status.is_success() || matches!(answer.body, Body::Error(_))) {
                    return self.answer(answer.body, code).map(Some);
                }
                Err(SendError::Garbage("an answer to another request".to_owned()))
            }
            Received::Batch(all) if status.is_success() => {
                let event = self.batch(all)?;
                let nothing = || SendError::Garbage("an array without an answer".to_owned());
                let answers =
                    matches!(self.queue.back().or(event.as_ref()), Some(Event::Answer { .. }));
                if answers { Ok(event) } else { Err(nothing()) }
            }
            _ if !status.is_success() => Err(match self.retry_after {
                Some(wait) => SendError::Busy(code, wait),
                None => self.refusal(code, text),
            }),
            _ if status == StatusCode::ACCEPTED && self.http.may_answer_aside() => {
                self.state = State::Elsewhere(self.http.await_aside(self.id));
                Ok(None)
            }
            Received::Message(_) | Received::Batch(_) => {
                Err(SendError::Garbage("a body that answers nothing".to_owned()))
            }
            Received::Damaged(damaged) => {
                self.http.0.sink.garbage(text, &damaged.error);
                Err(self.http.0.endpoint.garbage(text, &damaged.error.to_string()))
            }
        }
    }

    fn refusal(&self, status: u16, body: &[u8]) -> SendError {
        self.http.0.endpoint.refusal(status, &self.challenge, body)
    }

    fn frame(&mut self, frame: &Frame) -> Result<Option<Event>, SendError> {
        self.retry = frame.retry_ms.map_or(self.retry, Duration::from_millis);
        if frame.id.is_some() {
            self.last_event_id.clone_from(&frame.id);
        }
        if frame.data.is_empty() {
            return Ok(None);
        }
        if !frame.is_message() {
            self.http.0.sink.count(Counter::UpstreamEventsIgnored);
            return self.waste(frame).map(|()| None);
        }
        self.resumes = 0;
        match lenient::read(&frame.data) {
            Received::Message(message) => self.message(message),
            Received::Batch(all) => {
                if all.iter().any(Result::is_err) {
                    self.waste(frame)?;
                }
                self.batch(all)
            }
            Received::Damaged(damaged) => {
                self.http.0.sink.garbage(&frame.data, &damaged.error);
                self.pass_over(&damaged)?;
                self.waste(frame).map(|()| None)
            }
        }
    }

    /// Counts an event that is no message.
    fn waste(&mut self, frame: &Frame) -> Result<(), SendError> {
        let State::Stream { decoder, .. } = &mut self.state else { return Ok(()) };
        decoder.waste(frame.data.len()).map_err(|error| self.http.unread(error))
    }

    fn message(&mut self, message: Message) -> Result<Option<Event>, SendError> {
        match message {
            Message::Response(answer) if self.is_answered_by(&answer) => {
                self.answer(answer.body, 200).map(Some)
            }
            Message::Response(Answer { id: None, body: body @ Body::Error(_) }) => {
                self.nameless.get_or_insert(body);
                Ok(None)
            }
            Message::Response(_) => {
                self.http.0.sink.count(Counter::UpstreamUnexpected);
                Ok(None)
            }
            Message::Notification(notification) => Ok(self.said(notice(&notification))),
            Message::Request(request) => Ok(self.http.question(request).map(Event::ServerRequest)),
        }
    }

    fn is_answered_by(&self, answer: &Answer) -> bool {
        answer.id.as_ref().is_some_and(|id| id.as_number() == Some(self.id))
    }

    /// Several messages at once; the answer comes last.
    fn batch(&mut self, all: Vec<Result<Message, Damaged>>) -> Result<Option<Event>, SendError> {
        let mut last = None;
        for message in all {
            let event = match message {
                Ok(message) => self.message(message)?,
                Err(damaged) => {
                    self.http.0.sink.garbage(b"an entry of an array", &damaged.error);
                    self.pass_over(&damaged)?;
                    None
                }
            };
            match event {
                Some(answer @ Event::Answer { .. }) => last = Some(answer),
                Some(event) => self.queue.push_back(event),
                None => (),
            }
        }
        self.queue.extend(last);
        Ok(self.queue.pop_front())
    }

    /// Passes over what is no message, unless it was to be the answer.
    fn pass_over(&mut self, damaged: &Damaged) -> Result<(), SendError> {
        if damaged.answers != Some(self.id) {
            return Ok(());
        }
        self.state = State::Done;
        Err(SendError::Garbage(format!("its answer is no message: {}", damaged.error)))
    }

    /// The answer, unless it says that the session is gone. A session in which nothing went well
    /// so far may be as good as any, and the error one of the request's own: it is passed on, and
    /// the next request opens another.
    fn answer(&mut self, body: Body, status: u16) -> Result<Event, SendError> {
        self.state = State::Done;
        let proven = &self.http.0.proven;
        match &body {
            Body::Error(error) if self.is_in_session() && gone::is_said_by(error) => {
                if proven.load(Ordering::Relaxed) {
                    return Err(self.session_gone());
                }
                self.http.forgotten();
            }
            Body::Result(_) if self.method != Method::Initialize => {
                proven.store(true, Ordering::Relaxed);
            }
            Body::Result(_) | Body::Error(_) => (),
        }
        Ok(Event::Answer { body, status })
    }

    /// Sorts a notification on a call's stream: it is the call's, but for what every subscriber is
    /// to hear, where the connection is no session's own.
    fn said(&self, notice: ServerNotification) -> Option<Event> {
        if notice.method == Some(Method::Progress) && !self.method.name().starts_with("tasks/") {
            let ours = with_token(notice, &self.params);
            if ours.is_none() {
                self.http.0.sink.count(Counter::NoticesDropped);
            }
            return ours.map(Event::Notification);
        }
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
        if announces && legacy && !self.http.0.sink.is_of_session() {
            self.http.0.sink.notice(&notice);
            return None;
        }
        Some(Event::Notification(notice))
    }

    /// The stream ended before the answer: taken up again where the server gave event ids (legacy).
    fn paused(&mut self) -> Result<Event, SendError> {
        if let Some(error) = self.nameless.take() {
            return self.answer(error, 200);
        }
        let resumable = self.last_event_id.is_some() && self.http.version().era() == Era::Legacy;
        if !resumable || RESUMES_MAX <= self.resumes {
            self.state = State::Done;
            return Err(SendError::Lost("it closed the stream before the answer".to_owned()));
        }
        self.resumes += 1;
        self.state = State::Resuming;
        Ok(Event::Resumable { retry: self.retry })
    }

    /// How long the server asks to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Whether the server has begun to answer.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// Takes the bytes that its answer counts as, if that is large.
    pub fn take_reservation(&mut self) -> Option<Reservation> {
        self.reservation.take()
    }

    /// Whether it waits for room for its answer.
    pub fn is_held_back(&self) -> bool {
        self.reservation.waits()
    }

    pub fn give_reason(&mut self, reason: String) {
        self.reason = Some(reason);
    }
}

impl Http {
    /// Why a stream is given up.
    fn unread(&self, error: StreamError) -> SendError {
        match error {
            StreamError::TooLarge => self.too_large(),
            StreamError::Noisy(why) => SendError::Garbage(self.0.sink.noisy(why)),
        }
    }

    fn too_large(&self) -> SendError {
        self.0.sink.count(Counter::UpstreamTooLarge);
        SendError::TooLarge(self.0.sink.answer_bytes_max())
    }
}

impl Drop for HttpCall {
    /// Modern: closing the stream is the cancellation. Legacy: it must be said.
    fn drop(&mut self) {
        self.http.0.expected.end(self.id, &self.params);
        let begun = !matches!(self.state, State::Done);
        let says = self.http.version().era() == Era::Legacy && self.method != Method::Initialize;
        if !begun || !says || self.http.is_closed() {
            return;
        }
        let params = cancellation(self.id, self.reason.as_deref());
        let text = message::notification(Method::Cancelled.name(), &params).bytes().clone();
        let http = self.http.clone();
        let said = self.http.0.said.track_future(async move {
            if let Err(error) = http.post_notification(text).await {
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
