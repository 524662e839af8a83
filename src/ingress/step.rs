//! The events of a call under way as texts for its client, the same for every transport.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    mcp::message,
    pipeline::{ClientEvent, Fault, ResponseStream},
};

use super::reply::{self, Answer, RequestHead};

/// An event of a call, as its client is sent it.
pub enum CallEvent {
    /// A notification or a question, whole.
    Message(Bytes),
    /// The client is to come back for the rest after this long, where its stream can be broken off.
    Paused(Duration),
    Final(FinalAnswer),
}

/// The end of a call.
pub struct FinalAnswer {
    pub answer: Answer,
    is_cancelled: bool,
}

impl FinalAnswer {
    /// The response where there are other messages besides: none to a client that cancelled.
    pub fn text(self) -> Option<Bytes> {
        (!self.is_cancelled).then_some(self.answer.text)
    }
}

/// Waits for the next event; after the final one there is none. Safe to drop.
pub async fn next(back: &mut ResponseStream) -> CallEvent {
    let out = back.next().await;
    let call = back.call();
    let version = call.client.version;
    match out {
        Ok(ClientEvent::Message(text)) => CallEvent::Message(text),
        Ok(ClientEvent::Paused(retry)) => CallEvent::Paused(retry),
        Ok(ClientEvent::Answer { body, status }) => {
            let text = message::response(Some(&call.id), &body);
            let status = reply::status(status, &body, version.era());
            let answer = Answer { status, text, retry_after: None };
            CallEvent::Final(FinalAnswer { answer, is_cancelled: false })
        }
        Err(fault) => {
            let id = &call.id;
            let method = call.method;
            let request = RequestHead { id, request: call.request, method, version };
            let answer = reply::fault(&fault, request, back.counters());
            CallEvent::Final(FinalAnswer {
                answer,
                is_cancelled: matches!(fault, Fault::Cancelled),
            })
        }
    }
}
