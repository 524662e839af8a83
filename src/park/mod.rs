//! Calls that wait for their clients: a legacy server asked in mid-call, and a modern client
//! answers with another request.
//!
//! The exchange with the server stays open; the client holds a sealed `requestState` ([`state`])
//! that is good for one retry. Nobody need ever come back: what waits too long is ended. A client
//! that takes tasks has another way to come back to its calls ([`task`]).

pub mod state;
mod table;
pub mod task;

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use crate::{
    call::{CallId, Caller, event::ServerRequest},
    config::Limits,
    mcp::{
        error::{ErrorObject, INTERNAL_ERROR},
        message::Body,
        raw::Raw,
    },
    telemetry::{Counter, Counters},
    upstream::{Exchange, Upstream},
};

use self::{
    state::{StateContent, States},
    table::DeadlineTable,
    task::GatewayTasks,
};

/// A call whose server waits for answers.
#[derive(Debug)]
pub struct Parked {
    pub exchange: Exchange,
    pub upstream: Arc<Upstream>,
    /// The upstream's own name for what was called.
    pub own_name: String,
    /// Questions without an answer, by the keys that the client knows them by.
    pub unanswered: Vec<(String, ServerRequest)>,
    /// How many questions this call has had; keys are never used again.
    pub question_count: u32,
    /// The record of the request that it was parked by.
    pub record: Option<CallId>,
    parked_at: Instant,
    /// Until then the questions of now are to be answered, in however many retries.
    answer_deadline: Option<Instant>,
}

/// All parked calls of a gate.
#[derive(Debug)]
pub struct ParkedCalls {
    pub states: States,
    /// This very process: what it held is gone with it.
    owner: u64,
    table: Mutex<DeadlineTable<Parked>>,
    /// Calls that go on as tasks.
    pub tasks: GatewayTasks,
    changed: Notify,
    counters: Arc<Counters>,
}

/// Why a `requestState` leads nowhere. A client reads what it can do about it, and nothing of what
/// was wrong with a state that is not its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    #[error(
        "`requestState` is not one that this gateway gave for this very request: send the request \
         without it, to begin anew"
    )]
    Foreign,
    #[error(
        "the answer came too late, and the call has been ended: send the request without \
         `requestState`, to begin anew"
    )]
    Expired,
    #[error(
        "this `requestState` was used before, or its call has ended: send the request without it, \
         to begin anew"
    )]
    Used,
    #[error(
        "the gateway was restarted, and the call that waited here is lost: send the request \
         without `requestState`, to begin anew"
    )]
    Restarted,
}

/// There is no room for one more; what it says is for clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParkingFull {
    #[error("{0} calls wait for answers already, and no more may (`parked_max`)")]
    All(usize),
    #[error(
        "{0} of your calls wait for answers already, and no more may (`parked_per_caller_max`)"
    )]
    Caller(usize),
}

impl Parked {
    pub fn new(
        exchange: Exchange,
        (upstream, own): (Arc<Upstream>, String),
        open: Vec<(String, ServerRequest)>,
        asked: u32,
    ) -> Self {
        Self {
            exchange,
            upstream,
            own_name: own,
            unanswered: open,
            question_count: asked,
            record: None,
            parked_at: Instant::now(),
            answer_deadline: None,
        }
    }

    /// The time that it was parked does not count as time of the server.
    fn resumed(mut self) -> Self {
        self.exchange.postpone(self.parked_at.elapsed());
        self
    }

    /// Nobody will answer any more: the server is told so, and that the call is over.
    pub fn end(self, reason: &str) {
        for (_, question) in self.unanswered {
            // The server may have gone as well.
            question.reply.send(no_answer(&question.method, reason)).ok();
        }
        self.exchange.cancel(reason.to_owned());
    }
}

impl ParkedCalls {
    pub fn new(secret: &[u8], counters: Arc<Counters>) -> Self {
        let owner = rand::random();
        Self {
            states: States::new(secret),
            owner,
            table: Mutex::default(),
            tasks: GatewayTasks::new(owner, Arc::clone(&counters)),
            changed: Notify::new(),
            counters,
        }
    }

    /// Parks a call for `answer_timeout`: what its state stands for.
    ///
    /// # Errors
    /// Where there is no room; the call is ended then.
    pub fn park(
        &self,
        mut parked: Parked,
        caller: &Caller,
        limits: &Limits,
    ) -> Result<StateContent, ParkingFull> {
        let id = rand::random();
        let mut table = self.table.lock();
        let room = table.room(caller, limits.parked_max, limits.parked_per_caller_max);
        if let Err(full) = room {
            drop(table);
            self.counters.add(Counter::RefusedParked);
            parked.end("too many calls wait for answers");
            return Err(full.into());
        }
        let now = Instant::now();
        let until = *parked.answer_deadline.get_or_insert(now + limits.answer_timeout);
        parked.parked_at = now;
        table.insert(id, caller, until, parked);
        drop(table);
        self.counters.add(Counter::Parked);
        self.changed.notify_one();
        Ok(StateContent::Call { owner: self.owner, id })
    }

    /// Takes a call out, for the one retry that its state is good for.
    pub fn take(&self, held: &StateContent) -> Result<Parked, StateError> {
        let StateContent::Call { owner, id } = *held else { return Err(StateError::Foreign) };
        if owner != self.owner {
            return Err(StateError::Restarted);
        }
        let parked = self.table.lock().remove(id).ok_or(StateError::Used)?;
        Ok(parked.resumed())
    }

    /// How many calls are parked.
    pub fn count(&self) -> usize {
        self.table.lock().len()
    }

    /// Ends what has waited too long, and forgets what was kept long enough, for as long as the
    /// gate runs.
    pub async fn expire(&self) {
        let parked =
            expiring(&self.changed, || self.table.lock().next_deadline(), |id| self.expired(id));
        tokio::join!(parked, self.tasks.expire());
    }

    fn expired(&self, id: u128) {
        let parked = self.table.lock().remove(id);
        let Some(parked) = parked else { return };
        self.counters.add(Counter::ParkedExpired);
        parked.end("the client did not answer in time");
    }

    /// The gate is going: nobody can come back any more.
    pub fn clear(&self) {
        let table = std::mem::take(&mut *self.table.lock());
        for parked in table.into_values() {
            parked.end("the gateway is stopping");
        }
        self.tasks.clear();
    }
}

impl From<table::TableFull> for ParkingFull {
    fn from(full: table::TableFull) -> Self {
        match full {
            table::TableFull::All(count) => Self::All(count),
            table::TableFull::Caller(count) => Self::Caller(count),
        }
    }
}

/// Calls `expired` for each entry whose deadline has passed, without end. `changed` is told of new
/// deadlines.
async fn expiring(
    changed: &Notify,
    first: impl Fn() -> Option<(Instant, u128)>,
    expired: impl Fn(u128),
) {
    loop {
        let changed = changed.notified();
        let Some((until, id)) = first() else {
            changed.await;
            continue;
        };
        if until <= Instant::now() {
            expired(id);
            continue;
        }
        tokio::select! {
            // Both hold nothing: the table is looked at again.
            () = tokio::time::sleep_until(until) => (),
            () = changed => (),
        }
    }
}

/// The answer that a server gets in place of the client's: an elicitation has a word for it, the
/// other questions have none but an error.
pub fn no_answer(method: &str, reason: &str) -> Body {
    match method {
        "elicitation/create" => Body::Result(Raw::trusted(r#"{"action":"cancel"}"#)),
        _ => Body::Error(ErrorObject::new(INTERNAL_ERROR, reason).raw()),
    }
}

/// How long a state is good for, rounded up: the table ends a call by its own clock.
pub fn seconds(patience: Duration) -> u64 {
    patience.as_secs().saturating_add(1)
}
