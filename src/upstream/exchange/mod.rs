//! A request under way: its events, its deadlines, and its end.

pub mod ending;
pub mod error;
mod events;
pub mod server_reason;
pub mod task;

use std::sync::Arc;

use tokio::{sync::mpsc, time::Instant};

use crate::{
    call::ReplicaId,
    call::{event::Event, spans::SpanGuard},
    config::Timeout,
    limit::Admission,
    mcp::{raw::Raw, version::Era},
    resilience::{Attempt, Continuation},
    upstream::{
        cluster::{endpoints::InFlight, failover::Failover},
        connection::{open::Connection, pool::Leased, select::Hold},
        exchange::task::Watch,
        replica::backoff::Underway,
        transport::{http::HttpCall, multiplexed::MultiplexedCall},
    },
};

/// A request under way. Dropped before its answer, it is cancelled upstream.
#[derive(Debug)]
pub struct Exchange {
    source: Source,
    /// Events beside the request's own stream, on a connection that is leased for it.
    aside: Option<mpsc::Receiver<Event>>,
    /// The era spoken to the upstream.
    pub era: Era,
    timeout: Timeout,
    idle_at: Instant,
    total_at: Instant,
    /// A client was asked and may need until then: the server waits, and is not idle.
    answer_by: Option<Instant>,
    /// The client's own progress token, where another one was sent.
    token: Option<Raw>,
    /// A task that the answer to come is of; it holds the lease then.
    watch: Option<Box<Watch>>,
    /// The lease, which goes back to its pool when this is dropped, after `source`.
    leased: Option<Leased>,
    /// The connection that it was sent on, where it may lead to a task.
    connection: Option<Box<Connection>>,
    /// The replica that it was sent to, of several.
    pub replica: Option<ReplicaId>,
    /// The replica's load and health, which hear of it.
    picked: Option<InFlight>,
    /// The failover, for where that replica fails it or is slow.
    pub failover: Option<Box<Failover>>,
    /// When it was sent.
    since: Instant,
    /// A person was asked, or the server works on a task: it is not slow.
    unhurried: bool,
    /// The attempt, until it is known how it went.
    attempt: Option<Attempt>,
    /// The proof that a breaker let it through.
    let_through: Option<Continuation>,
    /// The places that it holds at the upstream.
    admission: Option<Admission>,
    /// The session that it is sent in is kept until this ends.
    _hold: Option<Hold>,
    /// The replica's count of what is under way.
    underway: Option<Arc<Underway>>,
    /// The span of the request, until it ends.
    span: Option<Box<SpanGuard>>,
}

/// The bare request, by transport.
#[derive(Debug)]
pub enum Source {
    Multiplexer(MultiplexedCall),
    Http(Box<HttpCall>),
}

impl Exchange {
    pub fn new(source: Source, era: Era, timeout: Timeout) -> Self {
        let now = Instant::now();
        let idle_at = now + timeout.idle;
        let total_at = now + timeout.total;
        Self {
            source,
            aside: None,
            era,
            timeout,
            idle_at,
            total_at,
            answer_by: None,
            token: None,
            watch: None,
            leased: None,
            connection: None,
            replica: None,
            picked: None,
            failover: None,
            since: now,
            unhurried: false,
            attempt: None,
            let_through: None,
            admission: None,
            _hold: None,
            underway: None,
            span: None,
        }
    }

    /// `token` is put back into progress notifications.
    pub fn restoring(self, token: Option<Raw>) -> Self {
        Self { token, ..self }
    }

    pub fn hearing(self, aside: Option<mpsc::Receiver<Event>>) -> Self {
        Self { aside, ..self }
    }

    pub fn holding(self, leased: Option<Leased>) -> Self {
        Self { leased, ..self }
    }

    pub fn keeping(self, hold: Option<Hold>) -> Self {
        Self { _hold: hold, ..self }
    }

    pub fn over(self, connection: Connection) -> Self {
        Self { connection: Some(Box::new(connection)), ..self }
    }

    /// Sets other deadlines than its connection's, from when it was sent.
    pub fn within(mut self, timeout: Timeout) -> Self {
        (self.idle_at, self.total_at) = (self.since + timeout.idle, self.since + timeout.total);
        self.timeout = timeout;
        self
    }

    pub fn sent_to(self, replica: ReplicaId, picked: InFlight) -> Self {
        Self { replica: Some(replica), picked: Some(picked), ..self }
    }

    pub fn with(self, failover: Failover) -> Self {
        Self { failover: Some(Box::new(failover)), ..self }
    }
}
