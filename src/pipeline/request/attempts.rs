//! The attempts at a request: it is sent where the breakers of its upstream let it through, and
//! sent again where that is safe.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    audit::Entry,
    call::UpstreamRequest,
    config::Timeout,
    mcp::{message::Body, method::Method},
    pipeline::context::Context,
    resilience::{Cause, Circuit, FailedAttempt},
    upstream::{Clearance, Exchange, SendError, Sent, failure},
};

use super::resolve::Resolved;

/// The attempts at one request.
#[derive(Debug)]
pub struct Attempts {
    /// The clearance that it is sent with.
    pub clearance: Clearance,
    circuit: Arc<Circuit>,
    method: Method,
    /// Whether a server that has done it once may be asked to do it again.
    repeatable: bool,
    /// How long each may take, and all together.
    pub timeout: Timeout,
    deadline: Instant,
    retries: AtomicU32,
    /// Whether it was sent at all: what is answered from memory gives no budget.
    sent: AtomicBool,
    /// The record of the call, which is told of each send.
    entry: Option<Arc<Entry>>,
}

impl Attempts {
    pub fn new(context: &Context, resolved: &Resolved, clearance: Clearance) -> Arc<Self> {
        let method = context.call.method;
        let upstream = clearance.upstream();
        let circuit = upstream.circuit();
        let tool = Some(&*resolved.target.own).filter(|_| method == Method::ToolsCall);
        let timeout = circuit.timeout(tool, upstream.settings.config.timeout);
        Arc::new(Self {
            clearance,
            circuit,
            method,
            repeatable: resolved.is_repeatable(method),
            timeout,
            deadline: Instant::now() + timeout.total,
            retries: AtomicU32::new(0),
            sent: AtomicBool::new(false),
            entry: context.entry.clone(),
        })
    }

    /// Sends the request, again and again while nothing could be sent and that is allowed.
    ///
    /// # Errors
    /// Where a breaker refuses it, or there is no connection for it.
    pub async fn send(&self, upstream_request: &UpstreamRequest) -> Result<Exchange, SendError> {
        if !self.sent.swap(true, Ordering::Relaxed) {
            self.circuit.count_request();
        }
        loop {
            let attempt = self.circuit.attempt(upstream_request.subject())?;
            self.record(Entry::sending);
            match self.clearance.send(upstream_request, attempt).await {
                Ok(exchange) => {
                    self.record(|entry| entry.upstream_cost(exchange.cost()));
                    return Ok(exchange.until(self.deadline));
                }
                Err(error) => match self.backoff_after(&error) {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => return Err(error),
                },
            }
        }
    }

    fn record(&self, tell: impl FnOnce(&Entry)) {
        if let Some(entry) = &self.entry {
            tell(entry);
        }
    }

    /// Continues a request that was let through and answered in part: with a client's answers.
    ///
    /// # Errors
    /// Where there is no connection for it.
    pub async fn continue_call(
        &self,
        upstream_request: &UpstreamRequest,
        sent: &Sent,
    ) -> Result<Exchange, SendError> {
        self.clearance.carry_on(upstream_request, sent).await
    }

    /// After how long a request is sent again that failed before anything came back; none where it
    /// is not.
    pub fn backoff_after(&self, error: &SendError) -> Option<Duration> {
        let may = error.is_unsent() || self.repeatable;
        self.next_backoff(error.cause()?, error.retry_after(), may)
    }

    /// After how long a request is sent again whose only event is this answer; none where it is
    /// not.
    pub fn backoff_after_answer(
        &self,
        body: &Body,
        status: u16,
        retry_after: Option<Duration>,
    ) -> Option<Duration> {
        self.next_backoff(failure(body, status)?, retry_after, self.repeatable)
    }

    fn next_backoff(&self, cause: Cause, wait: Option<Duration>, may: bool) -> Option<Duration> {
        if !may {
            return None;
        }
        let attempts = 1 + self.retries.load(Ordering::Relaxed);
        let left = self.deadline.saturating_duration_since(Instant::now());
        let failed = FailedAttempt { cause, wait };
        let wait = self.circuit.retry_delay(failed, attempts, left)?;
        self.retries.fetch_add(1, Ordering::Relaxed);
        let upstream = self.clearance.upstream().name();
        let method = self.method.name();
        tracing::debug!(
            upstream = upstream.as_str(),
            method,
            ?cause,
            ?wait,
            attempts,
            "to be sent again"
        );
        Some(wait)
    }
}
