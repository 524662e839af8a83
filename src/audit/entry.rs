//! The record of one call while it is under way: it goes with the call, is told what becomes of it,
//! and is handed to the writer when it ends.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::time::Instant;

use crate::{
    call::CallId,
    config::WhenFull,
    mcp::{message::Body, raw::Raw},
    telemetry::{Counter, Reason},
};

use super::{
    Audit, Full,
    record::{self, End, Open},
    room::Place,
    told::{CacheUse, Told},
    writer::Work,
};

/// The record of one call, written when it ends; dropped before anybody said how, it says that the
/// call was cancelled. Nothing in it is locked.
pub struct Entry {
    audit: Arc<Audit>,
    since: Instant,
    open: Open,
    told: Told,
    /// Room that is reserved for it; none where it is not to be written.
    reserved: Option<usize>,
    ended: AtomicBool,
}

impl Entry {
    pub(super) fn new(audit: Arc<Audit>, open: Open, reserved: Option<usize>) -> Self {
        Self {
            audit,
            since: Instant::now(),
            open,
            told: Told::default(),
            reserved,
            ended: AtomicBool::new(false),
        }
    }

    /// The call in the records of the gate.
    pub fn id(&self) -> CallId {
        self.open.id
    }

    /// Says what the call is about, by the names upstream.
    pub fn about(&self, upstream: &str, target: &str) {
        self.told.target.get_or_init(|| (upstream.to_owned(), target.to_owned()));
    }

    /// Says what the guard lets pass of its params.
    pub fn cleared(&self, params: &Raw) {
        self.told.cleared.get_or_init(|| params.clone());
    }

    /// Says which call it goes on with: the one that was parked, or that made the task.
    pub fn goes_on_with(&self, parent: Option<CallId>) {
        if let Some(parent) = parent {
            self.told.parent.get_or_init(|| parent);
        }
    }

    /// Says which policies decided; none where no policy says anything of it, which denies.
    pub fn judged(&self, rules: impl Iterator<Item = String>) {
        self.told.judged(rules);
    }

    /// Says which detectors of the guard found something, where, and what was done with it.
    pub fn guarded(&self, found: impl Iterator<Item = String>) {
        self.told.guarded(found);
    }

    /// Says how it was answered from memory, or that it was not.
    pub fn cached(&self, by: CacheUse) {
        self.told.cached(by);
    }

    /// Says that the successor of its upstream gets it.
    pub fn sent_to_successor(&self, name: &str) {
        self.told.successor.get_or_init(|| name.to_owned());
    }

    /// Says that it is about to be sent, for the first time or again.
    pub fn sending(&self) {
        self.told.sending(self.since.elapsed());
    }

    /// Says how many units the limits of its route took for it.
    pub fn route_cost(&self, cost: Option<NonZeroU32>) {
        self.told.add_route_cost(cost);
    }

    /// Says how many units the limits of its upstream took for a send.
    pub fn upstream_cost(&self, cost: Option<NonZeroU32>) {
        self.told.add_upstream_cost(cost);
    }

    /// Says that something came for it from its upstream, of which this replica has it.
    pub fn heard(&self, replica: Option<String>) {
        self.told.heard(self.since.elapsed());
        if let Some(replica) = replica {
            self.told.replica.get_or_init(|| replica);
        }
    }

    /// Says that the call was answered, by whomever.
    ///
    /// # Errors
    /// Where that cannot be recorded, and no call is answered unrecorded: the answer is not to be
    /// given.
    pub fn answered(&self, body: &Body) -> Result<(), Full> {
        self.succeeded(|open| record::outcome(open.method, body), Some(record::bytes(body)))
    }

    /// Says that a stream was opened, which goes on.
    ///
    /// # Errors
    /// As [`Entry::answered`].
    pub fn opened(&self) -> Result<(), Full> {
        self.succeeded(|_| record::OK, None)
    }

    /// Says that the call ended without an answer of its upstream's own.
    pub fn failed(&self, reason: Reason) {
        self.end(reason.name(), None);
    }

    fn succeeded(
        &self,
        outcome: impl FnOnce(&Open) -> &'static str,
        bytes: Option<usize>,
    ) -> Result<(), Full> {
        // What could not be written since the call began is to be known to whoever asked for it.
        let refuses = self.audit.settings.when_full == WhenFull::Refuse;
        if refuses && self.audit.room.is_failing() && !self.ended.load(Ordering::Acquire) {
            self.audit.counters.add(Counter::AuditRefused);
            self.failed(Reason::ServiceUnavailable);
            return Err(Full);
        }
        if self.end(outcome(&self.open), bytes) || !refuses { Ok(()) } else { Err(Full) }
    }

    /// Ends the record, unless it has ended: the first word counts. False where it is lost.
    fn end(&self, outcome: &'static str, bytes: Option<usize>) -> bool {
        if self.ended.swap(true, Ordering::AcqRel) {
            return true;
        }
        let end = End { outcome, took: self.since.elapsed(), bytes, told: &self.told };
        let taken = self.reserved.is_some_and(|reserved| self.hand_over(&end, reserved));
        if !taken {
            self.audit.counters.add(Counter::AuditDropped);
        }
        taken
    }

    fn hand_over(&self, end: &End<'_>, reserved: usize) -> bool {
        let Audit { settings, key, room, queue, .. } = &*self.audit;
        let mut place = Place::new(room, reserved);
        let text = self.open.record(end, settings.arguments, key, place.record_bytes_max());
        place.shrink(text.len());
        // The queue has a slot for each place; it is closed where the gate ends.
        queue.try_send(Work::Record(text, place)).is_ok()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.failed(Reason::Cancelled);
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").finish_non_exhaustive()
    }
}
