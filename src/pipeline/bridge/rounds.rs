//! Questions of a modern server in the call of a legacy client: put as requests on the call's
//! stream, and the call sent again with the answers (2026-07-28, MRTR).

use std::time::Duration;

use serde::Deserialize;
use tokio::{sync::oneshot, time::Instant};

use crate::{
    call::spans::SpanGuard,
    config::Limits,
    mcp::{
        compat,
        error::code_of,
        id::Id,
        message::{self, Body},
        method::Method,
        question::QuestionKind,
        raw::Raw,
        splice,
    },
    pipeline::{event::ClientEvent, fault::Fault},
    session::Session,
};

use super::input_required::too_many;

/// The code of a person's no, as the specification's examples have it (2025-11-25, sampling).
const USER_REJECTED: i64 = -1;
/// A server that only wants to be asked again gets a moment, longer each time.
const PAUSE: Duration = Duration::from_millis(100);

/// The questions of one round, and the answers so far.
#[derive(Debug)]
pub struct Round {
    /// The server's `requestState`, the very text of it.
    state: Option<Raw>,
    waiting: Vec<Waiting>,
    /// Members of `inputResponses`.
    answers: Vec<(String, Raw)>,
    until: Instant,
    patience: Duration,
    /// Nothing is asked: the call is only to be sent again, then.
    pause: Option<Instant>,
    /// The span of the round, until it ends.
    pub span: Option<Box<SpanGuard>>,
}

#[derive(Debug)]
struct Waiting {
    key: String,
    kind: QuestionKind,
    id: Id,
    answer: oneshot::Receiver<Body>,
}

/// The beginning of a round.
#[derive(Debug)]
pub struct StartedRound {
    pub round: Round,
    /// Requests that the client is asked.
    pub messages: Vec<ClientEvent>,
    /// Ids of pages that the client opens; it is told when they are done.
    pub pages: Vec<Id>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InputRequired {
    #[serde(default = "Raw::object")]
    input_requests: Raw,
    request_state: Option<Raw>,
}

#[derive(Deserialize)]
struct InputRequest {
    method: String,
    #[serde(default = "Raw::object")]
    params: Raw,
}

impl Round {
    /// Reads an `InputRequiredResult` and asks the client of `session` what is in it.
    ///
    /// # Errors
    /// Where it asks what this client cannot be asked.
    pub fn begin(
        result: &Raw,
        session: &Session,
        limits: &Limits,
        number: usize,
    ) -> Result<StartedRound, Fault> {
        let patience = limits.answer_timeout;
        let full = || Fault::Limit(too_many(limits));
        let garbled = || Fault::Unbridgeable("its `input_required` cannot be read".to_owned());
        let wanted: InputRequired = result.try_read().ok_or_else(garbled)?;
        if !wanted.input_requests.is_object() {
            return Err(garbled());
        }
        let mut round = Self {
            state: wanted.request_state,
            waiting: Vec::new(),
            answers: Vec::new(),
            until: Instant::now() + patience,
            patience,
            pause: None,
            span: None,
        };
        let mut messages = Vec::new();
        let mut pages = Vec::new();
        for (key, request) in splice::entries(&wanted.input_requests) {
            let InputRequest { method, params } = request.try_read().ok_or_else(garbled)?;
            let kind = QuestionKind::of(&method, &params);
            let kind =
                kind.filter(|kind| kind.is_declared(&session.client.capabilities_for_modern()));
            let kind = kind.ok_or_else(|| {
                Fault::Unbridgeable(format!(
                    "it asks for `{method}`, which the client never offered"
                ))
            })?;
            let (reply, answer) = oneshot::channel();
            let id = session.ask(reply, limits.questions_max).ok_or_else(full)?;
            let own = id.raw().as_str().trim_matches('"');
            let put = compat::question(session.client.version, &method, &params, own);
            let put = put.map_err(|reason| Fault::Unbridgeable(reason.to_string()))?;
            if kind == QuestionKind::Page {
                pages.push(id.clone());
            }
            messages.push(ClientEvent::Message(message::request(&id, &method, &put)));
            round.waiting.push(Waiting { key, kind, id, answer });
        }
        if round.waiting.is_empty() {
            let pause = PAUSE * u32::try_from(number).unwrap_or(u32::MAX);
            round.pause = Some(Instant::now() + pause);
        }
        Ok(StartedRound { round, messages, pages })
    }

    /// Waits until the client has answered everything. Safe to drop.
    ///
    /// # Errors
    /// Where it answers too late, not at all, or with an error that there is no word for.
    pub async fn answered(&mut self) -> Result<(), Fault> {
        if let Some(pause) = self.pause {
            tokio::time::sleep_until(pause).await;
        }
        while let Some(first) = self.waiting.first_mut() {
            let body = tokio::time::timeout_at(self.until, &mut first.answer).await;
            let body = body.ok().ok_or(Fault::NoAnswer(self.patience))?;
            // The session has ended.
            let body = body.ok().ok_or(Fault::Cancelled)?;
            let Waiting { key, kind, .. } = self.waiting.remove(0);
            self.answers.push((key, response(kind, body)?));
        }
        Ok(())
    }

    /// The params of the call with the answers in them.
    pub fn params(&self, params: &Raw) -> Raw {
        let responses = self.answers.iter().fold(Raw::object(), |responses, (key, answer)| {
            splice::insert(&responses, key, answer)
        });
        let responses = (!self.answers.is_empty()).then_some(responses);
        let edits = [
            ("inputResponses", responses.as_ref().map(|responses| &responses.bytes()[..])),
            ("requestState", self.state.as_ref().map(|state| &state.bytes()[..])),
        ];
        splice::edit(params, &edits)
    }

    /// Returns what a client is told of questions that nobody needs an answer to any more.
    pub fn withdrawn(&self) -> impl Iterator<Item = ClientEvent> {
        self.waiting.iter().map(|waiting| {
            let params = splice::edit(
                &Raw::object(),
                &[
                    ("requestId", Some(&waiting.id.raw().bytes()[..])),
                    ("reason", Some(&b"\"the call is over\""[..])),
                ],
            );
            let text = message::notification(Method::Cancelled.name(), &params);
            ClientEvent::Message(text.bytes().clone())
        })
    }
}

/// A client's answer as `inputResponses` has it. An elicitation has words for a no; the others have
/// none, and the call ends with the client's error.
fn response(kind: QuestionKind, body: Body) -> Result<Raw, Fault> {
    match body {
        Body::Result(result) => Ok(result.into()),
        Body::Error(error) if kind.is_elicitation() => {
            let rejected = code_of(&error) == USER_REJECTED;
            let action = if rejected { "decline" } else { "cancel" };
            Ok(Raw::trusted(format!(r#"{{"action":"{action}"}}"#)))
        }
        Body::Error(error) => Err(Fault::Answered(error)),
    }
}

/// Returns the notification that the page a client opened is done (2025-11-25, elicitation).
pub fn page_done(id: &Id) -> ClientEvent {
    let params = splice::edit(&Raw::object(), &[("elicitationId", Some(id.raw().bytes()))]);
    let text = message::notification("notifications/elicitation/complete", &params);
    ClientEvent::Message(text.bytes().clone())
}
