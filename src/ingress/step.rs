//! What a call under way says to its client, step by step: the same texts for every way they go.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    mcp::message,
    pipeline::{ClientEvent, Fault, ResponseStream},
};

use super::reply::{self, Answer, RequestHead};

/// One thing that a client is told.
pub enum Step {
    /// A notification or a question, whole.
    Message(Bytes),
    /// It is to come back for the rest after this long, where its stream can be broken off.
    Paused(Duration),
    Last(Last),
}

/// The end of a call.
pub struct Last {
    pub answer: Answer,
    is_cancelled: bool,
}

impl Last {
    /// The response where there are other messages besides: none to a client that cancelled.
    pub fn text(self) -> Option<Bytes> {
        (!self.is_cancelled).then_some(self.answer.text)
    }
}

/// Waits for the next step; after the last there is none. Safe to drop.
pub async fn next(back: &mut ResponseStream) -> Step {
    let out = back.next().await;
    let call = back.call();
    let version = call.client.version;
    match out {
        Ok(ClientEvent::Message(text)) => Step::Message(text),
        Ok(ClientEvent::Paused(retry)) => Step::Paused(retry),
        Ok(ClientEvent::Answer { body, status }) => {
            let text = message::response(Some(&call.id), &body);
            let status = reply::status(status, &body, version.era());
            let answer = Answer { status, text, retry_after: None };
            Step::Last(Last { answer, is_cancelled: false })
        }
        Err(fault) => {
            let request = RequestHead { id: &call.id, method: call.method, version };
            let answer = reply::fault(&fault, request, back.counters());
            Step::Last(Last { answer, is_cancelled: matches!(fault, Fault::Cancelled) })
        }
    }
}
