//! A call that is sent again: on a session opened anew, with a client's answers, or because it
//! failed and may be repeated.

use std::{pin::Pin, sync::Arc, time::Duration};

use crate::{
    call::UpstreamRequest,
    mcp::message::Body,
    resilience::Cause,
    telemetry::Counter,
    upstream::{Exchange, SendError},
};

use super::{Back, Fault, back::Stage};

/// A call on its way for another time. Kept from one poll to the next: a server that takes long to
/// open is not opened anew each time that somebody looks.
pub(super) struct Sending(
    pub(super) Pin<Box<dyn Future<Output = Result<Exchange, SendError>> + Send>>,
);

impl std::fmt::Debug for Sending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sending(…)")
    }
}

impl Back {
    /// What became of a call that failed: the failure, or another attempt where nothing came yet.
    pub(super) fn fails_or_repeats(&mut self, error: SendError, fresh: bool) -> Result<(), Fault> {
        let error = self.upstream.failed(error);
        if error.cause() == Some(Cause::Timeout) {
            self.context.gate.counters.add(Counter::UpstreamTimeouts);
            self.cancel(Some(error.to_string()));
        }
        // Asked only where it may be: a retry that is allowed has been counted.
        let wait = if fresh { self.tries.after(&error) } else { None };
        let Some(wait) = wait else { return Err(self.fault(error)) };
        self.repeat(wait);
        Ok(())
    }

    /// Whether the call is sent again, having been answered so.
    pub(super) fn repeats_after(&mut self, answer: (&Body, u16)) -> bool {
        let Stage::Underway(exchange) = &self.stage else { return false };
        let wait = self.tries.after_answer(answer, exchange.retry_after());
        wait.is_some_and(|wait| {
            self.repeat(wait);
            true
        })
    }

    /// Begins to send it once more, as if for the first time.
    fn repeat(&mut self, wait: Duration) {
        let tries = Arc::clone(&self.tries);
        let ask = self.resolved.ask(&self.context.call);
        let sending = async move {
            tokio::time::sleep(wait).await;
            tries.send(&ask).await
        };
        self.replace_exchange(sending);
        self.fresh = true;
    }

    /// Begins to send it once more: on a session opened anew, or with a client's answers.
    pub(super) fn send_again(&mut self, ask: UpstreamRequest) {
        let tries = Arc::clone(&self.tries);
        let ask = UpstreamRequest { replica: self.replica, ..ask };
        let sent = self.sent.clone();
        self.replace_exchange(async move {
            match sent {
                Some(sent) => tries.carry_on(&ask, &sent).await,
                None => tries.send(&ask).await,
            }
        });
    }

    /// The exchange of before is dropped, and its places with it, before the next one begins.
    fn replace_exchange(
        &mut self,
        sending: impl Future<Output = Result<Exchange, SendError>> + Send + 'static,
    ) {
        self.stage = Stage::Again(Sending(Box::pin(sending)));
    }
}
