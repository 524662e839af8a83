//! Sends one request on whichever connection of a replica fits it.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt as _;

use crate::{
    call::{
        SessionKey, UpstreamRequest,
        spans::{SentRequest, SpanGuard, Stage},
    },
    config::{self, Transport},
    mcp::{message::Body, method::Method, raw::Raw},
    resilience::{Attempt, AttemptOutcome, Cause},
    upstream::{
        connection::{open::Connection, pool::Leased, select::Connected},
        exchange::{Exchange, error::SendError},
        proof::Clearance,
        replica::Replica,
    },
};

impl Replica {
    /// Sends a client's request. What becomes of the attempt is known with the exchange's end.
    ///
    /// # Errors
    /// Nothing was sent then: there is no connection for it in time, or a limit refuses it.
    pub async fn dispatch(
        &self,
        ask: &UpstreamRequest,
        timeout: config::Timeout,
        clearance: &Clearance,
        attempt: Attempt,
    ) -> Result<Exchange, SendError> {
        self.tally.call();
        self.check_caller(ask)?;
        // The call counts as under way from here on, so that a retirement waits for those that
        // still look for a connection.
        let underway = Arc::clone(&self.underway);
        let patience = self.settings.config.timeout.open;
        let stage = ask.stage(Stage::Connection);
        let found = tokio::time::timeout(patience, self.connection_for(ask)).await;
        drop(stage);
        let Connected { connection, mut leased, hold } = match found {
            Ok(Ok(connected)) => connected,
            // The upstream is being opened again, and no call is waited for: that is breaker
            // enough.
            Ok(Err(error)) => return Err(self.tally.failure(error)),
            Err(_) => return Err(self.tally.failure(self.unready(patience, attempt))),
        };
        // The admission is taken now that nothing else stands between the request and the server:
        // what is not sent counts in no limit, and a limit that refuses gives the breaker its probe
        // back.
        let stage = ask.stage(Stage::UpstreamLimits);
        let admission = clearance.admit(ask).await.inspect_err(|_| {
            // The connection was not used, and is as good as before.
            leased.iter_mut().for_each(Leased::settle);
        })?;
        drop(stage);
        let span = self.span_of(ask, &connection);
        match connection.call(ask, span).await {
            Ok(exchange) => {
                let exchange = exchange.holding(leased).keeping(hold).counted(underway);
                Ok(exchange.within(timeout).cleared(admission, attempt))
            }
            Err(error) => {
                if error.is_unsent() {
                    admission.give_back();
                }
                Err(self.tally.failure(error))
            }
        }
    }

    /// Begins the span of a request that is sent now; none where its call is not traced.
    fn span_of(&self, ask: &UpstreamRequest, connection: &Connection) -> Option<SpanGuard> {
        ask.spans.as_ref()?.send(|| SentRequest {
            method: ask.method,
            name: ask.name.clone(),
            upstream: self.settings.config.name.clone(),
            version: connection.peer.version.as_str(),
            transport: connection.network_transport(),
        })
    }

    /// Asks for the gateway's own sake, on the connection that all share.
    ///
    /// # Errors
    /// Where it is not open, or the server does not answer.
    pub async fn ask_shared(&self, method: Method, params: &Raw) -> Result<Body, SendError> {
        let connection = self.shared().await?;
        connection.ask(method, params, None).await?.answer().await
    }

    /// Subscribes on a session's own connection, or ends that, and keeps it in mind for the
    /// connection that takes this one's place.
    ///
    /// # Errors
    /// Where the connection cannot be opened, or the server does not answer.
    pub async fn subscribe_in_session(
        &self,
        key: SessionKey,
        ask: &UpstreamRequest,
        uri: &str,
    ) -> Result<Body, SendError> {
        let body = match self.ask_own(key, ask).boxed().await {
            // The request was not processed: it is sent once more, in another session.
            Err(SendError::SessionGone) => self.ask_own(key, ask).boxed().await,
            asked => asked,
        };
        let body = body?;
        if let Some(own) = self.own.lock().get(&key) {
            own.note(uri, ask.method == Method::Subscribe);
        }
        Ok(body)
    }

    /// Asks on a session's own connection as the gate's own: what the server logs meanwhile is for
    /// the session's stream.
    async fn ask_own(&self, key: SessionKey, ask: &UpstreamRequest) -> Result<Body, SendError> {
        let found = Box::pin(self.own(key, ask)).await;
        let (connection, _attending) =
            found.map_err(|error| SendError::Unavailable(error.to_string()))?;
        connection.ask(ask.method, ask.params.text(), None).await?.answer().await
    }

    /// Why there was no connection for a request in time. That all places are taken is the gate's
    /// own bound, and no failure of the server.
    fn unready(&self, patience: Duration, attempt: Attempt) -> SendError {
        let leased_key = match self.settings.config.transport {
            Transport::Http { .. } => "sessions_max",
            Transport::Stdio { .. } | Transport::Builtin { .. } => "processes_max",
        };
        let leased = || self.pool.full().map(|count| (count, leased_key));
        let callers = || self.callers.full().map(|count| (count, "caller_sessions_max"));
        let is_open = self.phase.borrow().peer().is_some();
        let why = match is_open.then(|| leased().or_else(callers)).flatten() {
            Some((count, key)) => format!("all of its {count} places are taken (`{key}`)"),
            None => {
                attempt.end(AttemptOutcome::Failed(Cause::Timeout), None);
                "it was not open".to_owned()
            }
        };
        SendError::Unready(format!("{why} within {patience:?} (`timeout.open`)"))
    }
}
