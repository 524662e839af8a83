//! A call under way as it is observed: it goes with the call, is told what becomes of it, and when
//! it ends counts its metrics and hands its record to the writer.

use std::{
    num::NonZeroU32,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::time::Instant;

use crate::{
    call::{CallId, UpstreamName, clock},
    mcp::{message::Body, method::Method, raw::Raw},
    telemetry::{CallMetrics, Counter, EndedCall, Outcome, Reason},
    trace::TracedCall,
};

use super::{
    Audit, Full,
    access::AccessLine,
    record::{self, Begun, End, Open},
    room::Place,
    told::{CacheUse, Told},
    upstream_time::UpstreamTime,
    writer::Work,
};

/// A call under way, as it is observed: its metrics are counted and its record is written, where
/// the gate has a log, when it ends. Dropped before anybody said how, it says that the call was
/// cancelled. Nothing in it is locked.
pub struct Entry {
    started_at: Instant,
    method: Method,
    ended: AtomicBool,
    upstream_time: UpstreamTime,
    route: Arc<CallMetrics>,
    target: OnceLock<TargetMetrics>,
    log: Option<Box<Log>>,
    traced: Option<Box<TracedCall>>,
}

/// The metrics that count a call besides its route.
struct TargetMetrics {
    upstream: Arc<CallMetrics>,
    /// None where it is no call of a tool.
    tool: Option<Arc<CallMetrics>>,
}

/// The part of a call that somebody is to read: as a record, or as a line of the access log.
struct Log {
    open: Open,
    told: Told,
    record: Option<PendingRecord>,
    access: Option<AccessLine>,
}

/// The record of a call that is under way.
pub(super) struct PendingRecord {
    pub(super) audit: Arc<Audit>,
    /// The room that is reserved for it; none where it is not to be written.
    pub(super) reserved: Option<usize>,
}

impl Entry {
    /// Observes a call that is not recorded.
    pub fn unrecorded(method: Method, route: &Arc<CallMetrics>) -> Self {
        Self {
            started_at: Instant::now(),
            method,
            ended: AtomicBool::new(false),
            upstream_time: UpstreamTime::default(),
            route: Arc::clone(route),
            target: OnceLock::new(),
            log: None,
            traced: None,
        }
    }

    /// Tells a trace of the call, too.
    pub fn traced(mut self, traced: Option<Box<TracedCall>>) -> Self {
        self.traced = traced;
        self
    }

    /// Observes a call of which there is a line in the access log, and no record.
    pub fn logged(call: &Begun<'_>, access: AccessLine) -> Self {
        Self::begin(call, None, Some(access))
    }

    pub(super) fn begin(
        call: &Begun<'_>,
        record: Option<PendingRecord>,
        access: Option<AccessLine>,
    ) -> Self {
        let open = Open::new(call, clock::unix_micros());
        let mut entry = Self::unrecorded(open.method, call.metrics);
        entry.traced = call.traced.take();
        entry.log = Some(Box::new(Log { open, told: Told::default(), record, access }));
        entry
    }

    /// The call in the records of the gate.
    pub fn id(&self) -> Option<CallId> {
        let log = self.log.as_ref().filter(|log| log.record.is_some());
        log.map(|log| log.open.id)
    }

    /// Says what the call is about, by the names upstream.
    pub fn about(&self, upstream: &UpstreamName, target: &str) {
        self.traced.iter().for_each(|traced| traced.about(upstream));
        self.tell(|told| {
            told.target.get_or_init(|| (upstream.clone(), target.to_owned()));
        });
    }

    /// Says what counts the call besides its route.
    pub fn counted_by(&self, upstream: &Arc<CallMetrics>, tool: Option<&Arc<CallMetrics>>) {
        self.target.get_or_init(|| TargetMetrics {
            upstream: Arc::clone(upstream),
            tool: tool.map(Arc::clone),
        });
    }

    /// Says what the guard lets pass of its params.
    pub fn cleared(&self, params: &Raw) {
        self.tell(|told| {
            told.cleared.get_or_init(|| params.clone());
        });
    }

    /// Says which call it goes on with: the one that was parked, or that made the task.
    pub fn goes_on_with(&self, parent: Option<CallId>) {
        self.tell(|told| {
            parent.map(|parent| told.parent.get_or_init(|| parent));
        });
    }

    /// Says which policies decided; none where no policy says anything of it, which denies.
    pub fn judged(&self, rules: impl Iterator<Item = String>) {
        self.tell(|told| told.judged(rules));
    }

    /// Says which detectors of the guard found something, where, and what was done with it.
    pub fn guarded(&self, found: impl Iterator<Item = String>) {
        self.tell(|told| told.guarded(found));
    }

    /// Says how it was answered from memory, or that it was not.
    pub fn cached(&self, by: CacheUse) {
        self.tell(|told| told.cached(by));
    }

    /// Says that the successor of its upstream gets it.
    pub fn sent_to_successor(&self, name: &str) {
        self.tell(|told| {
            told.successor.get_or_init(|| name.to_owned());
        });
    }

    /// Says that it is about to be sent, for the first time or again.
    pub fn sending(&self) {
        self.upstream_time.sending(self.started_at.elapsed());
        self.tell(Told::sending);
    }

    /// Says how many units the limits of its route took for it.
    pub fn route_cost(&self, cost: Option<NonZeroU32>) {
        self.tell(|told| told.add_route_cost(cost));
    }

    /// Says how many units the limits of its upstream took for a send.
    pub fn upstream_cost(&self, cost: Option<NonZeroU32>) {
        self.tell(|told| told.add_upstream_cost(cost));
    }

    /// Says that something came for it from its upstream, and which replica has it.
    pub fn heard(&self, replica: impl FnOnce() -> Option<String>) {
        self.upstream_time.heard(self.started_at.elapsed());
        self.tell(|told| {
            replica().map(|replica| told.replica.get_or_init(|| replica));
        });
    }

    /// Says that the call was answered, by whomever.
    ///
    /// # Errors
    /// Where that cannot be recorded, and no call is answered unrecorded: the answer is not to be
    /// given.
    pub fn answered(&self, body: &Body) -> Result<(), Full> {
        self.succeeded(record::outcome(self.method, body), Some(record::bytes(body)))
    }

    /// Says that a stream was opened, which goes on.
    ///
    /// # Errors
    /// As [`Entry::answered`].
    pub fn opened(&self) -> Result<(), Full> {
        self.succeeded(Outcome::Ok, None)
    }

    /// Says that the call ended without an answer of its upstream's own.
    pub fn failed(&self, reason: Reason) {
        self.end(Outcome::Failed(reason), None);
    }

    fn tell(&self, tell: impl FnOnce(&Told)) {
        if let Some(log) = &self.log {
            tell(&log.told);
        }
    }

    fn record(&self) -> Option<&PendingRecord> {
        self.log.as_ref()?.record.as_ref()
    }

    fn succeeded(&self, outcome: Outcome, bytes: Option<usize>) -> Result<(), Full> {
        let refusing = self.record().filter(|record| record.audit.refuses());
        // The caller is to know that a record could not be written since the call began.
        let lost = refusing.filter(|record| record.audit.room.is_failing());
        if let Some(record) = lost.filter(|_| !self.ended.load(Ordering::Acquire)) {
            record.audit.counters.add(Counter::AuditRefused);
            self.failed(Reason::ServiceUnavailable);
            return Err(Full);
        }
        if self.end(outcome, bytes) || refusing.is_none() { Ok(()) } else { Err(Full) }
    }

    /// Ends the call, unless it has ended: the first word counts. False where its record is lost.
    fn end(&self, outcome: Outcome, bytes: Option<usize>) -> bool {
        if self.ended.swap(true, Ordering::AcqRel) {
            return true;
        }
        let took = self.started_at.elapsed();
        let upstream = self.upstream_time.total();
        let call = EndedCall::new(outcome, took, upstream);
        self.route.add(call);
        if let Some(target) = self.target.get() {
            let all = [Some(&target.upstream), target.tool.as_ref()];
            all.into_iter().flatten().for_each(|metrics| metrics.add(call));
        }
        self.traced.iter().for_each(|traced| traced.end(outcome));
        let Some(log) = &self.log else { return true };
        let end = End { outcome, took, upstream, bytes, told: &log.told };
        log.access.iter().for_each(|access| access.write(&log.open, &end));
        let Some(record) = &log.record else { return true };
        let taken = record.reserved.is_some_and(|reserved| record.write(&log.open, &end, reserved));
        if !taken {
            record.audit.counters.add(Counter::AuditDropped);
        }
        taken
    }
}

impl Audit {
    /// Begins the record of a call.
    ///
    /// # Errors
    /// Where it could not be written, and no call goes unrecorded.
    pub fn begin(
        self: &Arc<Self>,
        call: &Begun<'_>,
        access: Option<AccessLine>,
    ) -> Result<Arc<Entry>, Full> {
        let refuses = self.refuses();
        let reserved = self.room.reserve(record::bytes_max(call, self.settings.arguments));
        if refuses && reserved.is_none() {
            self.counters.add(Counter::AuditRefused);
            Entry::begin(call, None, access).failed(Reason::ServiceUnavailable);
            return Err(Full);
        }
        let record = PendingRecord { audit: Arc::clone(self), reserved };
        Ok(Arc::new(Entry::begin(call, Some(record), access)))
    }
}

impl PendingRecord {
    /// Hands the record over to the writer; false where that has ended.
    fn write(&self, open: &Open, end: &End<'_>, reserved: usize) -> bool {
        let Audit { settings, key, room, queue, .. } = &*self.audit;
        let mut place = Place::new(room, reserved);
        let text = open.record(end, settings.arguments, key, place.record_bytes_max());
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
