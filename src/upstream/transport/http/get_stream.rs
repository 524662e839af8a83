//! Messages outside of requests: the stream that GET opens (legacy), and questions of the server.

use std::time::Duration;

use hyper::Response;
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot,
};

use crate::{
    call::event::{Event, ServerNotification, ServerRequest},
    mcp::{
        compat,
        id::Id,
        lenient::{self, Received},
        message::{self, Body, Message},
        method::Method,
        raw::Raw,
    },
    net::Content,
    telemetry::{Counter, throttle},
    upstream::transport::{
        multiplexed::{is_question, refusal},
        read_budget::Reservation,
        sse::{Decoder, Frame, StreamError},
    },
};

use super::{Http, RETRY, is_stream, notice};

/// The longest pause before a stream that brings nothing is asked for again.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Events beside a call's own stream that wait to be read.
const ASIDE_MAX: usize = 64;
/// Questions that wait for a call, such as for roots right after the opening.
const EARLY_MAX: usize = 8;

/// The way of what is said beside the only call's own stream.
#[derive(Debug, Default)]
pub(super) struct SideChannel {
    call: Option<mpsc::Sender<Event>>,
    early: Vec<ServerRequest>,
}

/// The place where a stream is to be taken up again, and the time.
struct Place {
    last_event_id: Option<String>,
    retry: Duration,
    /// Times it was asked for since the last event.
    fruitless: u32,
}

impl Place {
    /// The pause that the server asks for, but at least [`RETRY`], doubled each time that brought
    /// nothing.
    fn pause(&self) -> Duration {
        let pause = self.retry.max(RETRY);
        let factor = 1_u32.checked_shl(self.fruitless).unwrap_or(u32::MAX);
        pause.saturating_mul(factor).min(PAUSE_MAX.max(pause))
    }
}

impl Http {
    /// Reads the session's own stream (GET) until the server has none or the connection is closed.
    /// `answered` is told when the first request for it was answered, whatever the answer. Dropped,
    /// it is taken up the next time after the last event that was read.
    pub async fn listen(&self, answered: oneshot::Sender<()>) {
        let Some(reads) = self.0.expected.read() else {
            // Another reads it: nothing of it is to be waited for here.
            drop(answered);
            self.closed().await;
            return;
        };
        let mut answered = Some(answered);
        let last_event_id = self.0.heard.lock().clone();
        let mut place = Place { last_event_id, retry: RETRY, fruitless: 0 };
        while !self.is_closed() {
            let response = self.send(self.get(place.last_event_id.as_deref())).await;
            if let Some(answered) = answered.take() {
                // Nobody need be waiting.
                answered.send(()).ok();
            }
            let followed = match response {
                // 405: it has none; anything else is seen by the next request.
                Ok(response) if !is_events(&response) => {
                    return reads.ends();
                }
                Ok(response) => {
                    reads.begins();
                    self.follow(response.into_body(), &mut place).await
                }
                Err(_) => Ok(()),
            };
            if let Err(error) = followed {
                reads.ends();
                return self.given_up(error);
            }
            tokio::time::sleep(place.pause()).await;
            place.fruitless = place.fruitless.saturating_add(1);
        }
    }

    /// Claims for the only call what comes beside its own stream; nothing on a connection that
    /// several share.
    pub fn claim(&self) -> Option<mpsc::Receiver<Event>> {
        if !self.0.exclusive {
            return None;
        }
        let (call, events) = mpsc::channel(ASIDE_MAX);
        let mut aside = self.0.aside.lock();
        for question in aside.early.drain(..) {
            // The channel has room: fewer wait than fit.
            call.try_send(Event::ServerRequest(question)).ok();
        }
        aside.call = Some(call);
        Some(events)
    }

    /// Passes a question on that came on no call's stream. On a leased connection it is the only
    /// call's, or the next one's; else the session's.
    fn ask_aside(&self, question: ServerRequest) {
        if !self.0.exclusive {
            return self.0.sink.question(question);
        }
        let mut aside = self.0.aside.lock();
        let question = match &aside.call {
            Some(call) if !call.is_closed() => {
                match call.try_send(Event::ServerRequest(question)) {
                    // Dropped, it is refused.
                    Ok(()) | Err(TrySendError::Full(_)) => return,
                    Err(TrySendError::Closed(Event::ServerRequest(question))) => question,
                    Err(TrySendError::Closed(_)) => return,
                }
            }
            _ => question,
        };
        if aside.early.len() < EARLY_MAX {
            aside.early.push(question);
        }
    }

    /// A notification that came on no call's stream: a log message on a leased connection is the
    /// only call's.
    fn notice_aside(&self, notice: ServerNotification) {
        let notice = if notice.method == Some(Method::Progress) {
            let Some(ours) = self.0.expected.progress(&notice) else {
                return self.0.sink.count(Counter::NoticesDropped);
            };
            ours
        } else {
            notice
        };
        let call = self.0.aside.lock().call.clone().filter(|_| self.0.exclusive);
        match (notice.method, call) {
            (Some(Method::LogMessage | Method::Progress | Method::Cancelled), Some(call)) => {
                if call.try_send(Event::Notification(notice)).is_err() {
                    self.0.sink.count(Counter::NoticesDropped);
                }
            }
            _ => self.0.sink.notice(&notice),
        }
    }

    /// Reads one stream to its end.
    async fn follow(&self, mut body: Content, place: &mut Place) -> Result<(), StreamError> {
        let sink = &self.0.sink;
        let mut decoder = Decoder::new(sink.answer_bytes_max()).bounded(sink.noise());
        let mut reservation = Reservation::default();
        while let Some(Ok(bytes)) = body.next().await {
            decoder.push(&bytes);
            while let Some(frame) = decoder.next()? {
                place.fruitless = 0;
                place.retry = frame.retry_ms.map_or(place.retry, Duration::from_millis);
                place.last_event_id = frame.id.clone().or(place.last_event_id.take());
                self.0.heard.lock().clone_from(&place.last_event_id);
                decoder.waste(self.unasked(&frame))?;
            }
            reservation.hold(sink.reading(), decoder.held()).await;
        }
        Ok(())
    }

    /// A stream beside calls is read no more until the connection is opened anew.
    fn given_up(&self, error: StreamError) {
        match error {
            StreamError::TooLarge => self.0.sink.count(Counter::UpstreamTooLarge),
            StreamError::Noisy(why) => {
                let error = self.0.sink.noisy(why);
                let upstream = self.0.sink.upstream();
                throttle::line(("noise beside calls", upstream), |more| {
                    tracing::warn!(upstream, %error, more, "its stream beside calls is given up");
                });
            }
        }
    }

    /// Takes one event; gives how many bytes of it are no message.
    fn unasked(&self, frame: &Frame) -> usize {
        let bytes = frame.data.len();
        if bytes == 0 {
            return 0;
        }
        if !frame.is_message() {
            self.0.sink.count(Counter::UpstreamEventsIgnored);
            return bytes;
        }
        let messages = match lenient::read(&frame.data) {
            Received::Message(message) => vec![Ok(message)],
            Received::Batch(messages) => messages,
            Received::Damaged(damaged) => vec![Err(damaged)],
        };
        let mut wasted = 0;
        for message in messages {
            match message {
                Ok(message) => self.told_aside(message),
                Err(damaged) => {
                    self.0.sink.garbage(&frame.data, &damaged.error);
                    wasted = bytes;
                }
            }
        }
        wasted
    }

    fn told_aside(&self, message: Message) {
        match message {
            Message::Notification(notification) => {
                self.notice_aside(notice(&notification));
            }
            Message::Request(request) => {
                if let Some(question) = self.question(request) {
                    self.ask_aside(question);
                }
            }
            Message::Response(response) => {
                let id = response.id.as_ref().and_then(Id::as_number);
                if !id.is_some_and(|id| self.0.expected.answered(id, response.body)) {
                    self.0.sink.count(Counter::UpstreamUnexpected);
                }
            }
        }
    }

    /// A request from the server, where it may be passed on: a ping is answered here, anything else
    /// that no client is asked is refused.
    pub(super) fn question(&self, request: message::Request) -> Option<ServerRequest> {
        let (reply, answer) = oneshot::channel();
        let http = self.clone();
        let is_ping = &*request.method == "ping";
        let id = request.id.clone();
        let own = request.id;
        let method = request.method.clone();
        let answering = self.0.said.track_future(async move {
            let unanswered =
                || if is_ping { Body::Result(Raw::object().into()) } else { refusal() };
            let body = answer.await.unwrap_or_else(|_| unanswered());
            let body = compat::answer(http.version(), &method, body);
            if let Err(error) = http.post_notification(message::response(Some(&own), &body)).await {
                tracing::debug!(%error, "an answer was not taken");
            }
        });
        self.0.tasks.spawn("upstream http: question", answering);
        // Dropped, it is not answered.
        let passed_on = is_question(&request.method);
        passed_on.then_some(ServerRequest {
            id,
            method: request.method,
            params: request.params.into(),
            reply,
        })
    }
}

fn is_events(response: &Response<Content>) -> bool {
    response.status().is_success() && is_stream(response.headers())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_brings_nothing_is_asked_for_ever_later() {
        let paused = |retry, fruitless| {
            let retry = Duration::from_millis(retry);
            Place { last_event_id: None, retry, fruitless }.pause().as_millis()
        };
        assert_eq!(
            [0, 1, 5, 6, 40].map(|times| paused(0, times)),
            [1, 2, 32, 60, 60].map(|s| s * 1_000)
        );
        assert_eq!([0, 1, 9].map(|times| paused(90_000, times)), [90_000; 3], "as it was told");
    }
}
