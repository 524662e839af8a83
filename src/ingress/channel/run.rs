//! A call of a channel's client, run to its end.

use bytes::Bytes;
use serde_json::json;

use crate::{
    ingress::{
        reply::{self, RequestHead},
        step::{self, CallEvent},
    },
    mcp::{message, method::Method, raw::Raw},
    pipeline::{self, Call, ListenEvent, ListenStream, Reply, ResponseStream},
    snapshot::RouteSnapshot,
};

use super::{calls::ActiveCall, client::ClientChannel};

impl ClientChannel {
    /// Runs a call to its end, and sends the answer; until that waits to be written, the call is
    /// under way.
    pub(super) async fn answer(self, at: RouteSnapshot, call: Call, mut active: ActiveCall) {
        if let Some(text) = self.run_to_end(at, call, &active).await {
            active.answered();
            self.send_answer(Some(active.id()), text).await;
        }
        drop(active);
    }

    /// Runs a call to its end: messages on the way are sent, the answer is returned. None where the
    /// client cancelled it, or is gone.
    pub(super) async fn run_to_end(
        &self,
        at: RouteSnapshot,
        call: Call,
        active: &ActiveCall,
    ) -> Option<Bytes> {
        tokio::select! {
            biased;
            // A call that is dropped is cancelled upstream.
            () = active.cancelled() => None,
            () = self.closed() => None,
            answer = self.run(at, call) => answer,
        }
    }

    async fn run(&self, at: RouteSnapshot, call: Call) -> Option<Bytes> {
        let id = call.id.clone();
        let request = call.request;
        let method = call.method;
        let version = call.client.version;
        match pipeline::run(at, call).await {
            Ok(Reply::Answer(body)) => Some(message::response(Some(&id), &body)),
            Ok(Reply::Response(back)) => self.back(back).await,
            Ok(Reply::Listen(listening)) => self.listen(*listening).await,
            Err(fault) => {
                let head = RequestHead { id: &id, request, method, version };
                Some(reply::fault(&fault, head, &self.gate().counters).text)
            }
        }
    }

    async fn back(&self, mut back: ResponseStream) -> Option<Bytes> {
        let mut can_be_asked = true;
        loop {
            let step = tokio::select! {
                // Dropped, both keep what they have.
                step = step::next(&mut back) => step,
                () = self.input_ended(), if can_be_asked => {
                    can_be_asked = false;
                    back.refuse_questions();
                    continue;
                }
            };
            match step {
                CallEvent::Message(text) => self.send(text).await,
                // A channel is not broken off: the rest comes on it.
                CallEvent::Paused(_) => (),
                CallEvent::Final(last) => return last.text(),
            }
        }
    }

    async fn listen(&self, mut listening: ListenStream) -> Option<Bytes> {
        loop {
            match listening.next().await {
                ListenEvent::Message(text) => self.send(text).await,
                ListenEvent::End(body) => {
                    let id = listening.id();
                    self.send(message::response(Some(id), &body)).await;
                    // The end of a subscription has to be said on a channel, too (2026-07-28,
                    // cancellation); whoever takes the result for it passes over this.
                    let params = Raw::encode(&json!({ "requestId": id.raw() }));
                    let cancelled = message::notification(Method::Cancelled.name(), &params);
                    return Some(cancelled.bytes().clone());
                }
            }
        }
    }
}
