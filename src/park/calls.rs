//! All calls of a gate that wait for their clients, each until its deadline.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use crate::{
    call::{CallId, Caller, event::ServerRequest},
    config::Limits,
    telemetry::{Counter, Counters},
    upstream::{Exchange, Upstream},
};

use super::{
    error::StateError,
    expiry::expiring,
    state::{StateContent, States},
    table::{self, DeadlineTable},
    task::GatewayTasks,
    unanswered::no_answer,
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
    /// The time until which the questions of now are to be answered, in however many retries.
    answer_deadline: Option<Instant>,
}

/// All parked calls of a gate.
#[derive(Debug)]
pub struct ParkedCalls {
    pub states: States,
    /// The number of this very process: what it held is gone with it.
    owner: u64,
    table: Mutex<DeadlineTable<Parked>>,
    /// Calls that go on as tasks.
    pub tasks: GatewayTasks,
    changed: Notify,
    counters: Arc<Counters>,
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
        upstream: Arc<Upstream>,
        own_name: String,
        unanswered: Vec<(String, ServerRequest)>,
        question_count: u32,
    ) -> Self {
        Self {
            exchange,
            upstream,
            own_name,
            unanswered,
            question_count,
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
    ///
    /// # Errors
    /// Fails where the state is of no parked call, of another gateway process, or was used before.
    pub fn take(&self, held: &StateContent) -> Result<Parked, StateError> {
        let StateContent::Call { owner, id } = *held else { return Err(StateError::Foreign) };
        if owner != self.owner {
            return Err(StateError::Elsewhere);
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
