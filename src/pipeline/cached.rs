//! Calls that may be answered from memory: looked up, waited for, or asked on behalf of all who
//! wait; and what a call makes outdated.
//!
//! What is kept is what the server wrote. A hit is put in the client's words as any answer is, and
//! comes after everything that judges a call.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::{
    audit::CacheUse,
    cache::{self, CacheQuery, CacheSubject, CachedResult, FlightResult, Lookup},
    mcp::{message::Body, method::Method},
    snapshot::Snapshot,
    telemetry::Counter,
    upstream::{Clearance, SendError},
};

use super::{Back, Context, Fault, Out, Reply, back::Stage, resolve::Resolved, tries::Tries};

pub type Lead = cache::Leader<SendError>;
pub type Wait = cache::Follower<SendError>;
type Join = cache::JoinOutcome<SendError>;

/// What a call under way owes to others, and may have of them.
#[derive(Debug, Default)]
pub struct Shared {
    /// Others wait for its answer.
    lead: Option<Lead>,
    /// Served where the upstream fails.
    fallback: Option<CachedResult>,
    /// It waited for one that failed: the next failure is its own.
    retried: bool,
}

/// What is no longer good when this is dropped: sent or not, the call may have changed it.
#[derive(Debug)]
pub struct Outdated {
    snapshot: Arc<Snapshot>,
    subjects: Vec<CacheSubject>,
}

/// What comes of waiting for another call.
pub enum Waited {
    Landed(FlightResult<SendError>),
    /// It is to go on as a task.
    Task,
    Late,
}

/// Answers such a call: from memory where that has it, else by its upstream.
///
/// Boxed: large, and few calls go this way.
pub fn answer(
    context: Arc<Context>,
    look: Lookup<SendError>,
    resolved: Resolved,
    clearance: Clearance,
) -> BoxFuture<'static, Result<Reply, Fault>> {
    Box::pin(answered(context, look, resolved, clearance))
}

async fn answered(
    context: Arc<Context>,
    look: Lookup<SendError>,
    resolved: Resolved,
    clearance: Clearance,
) -> Result<Reply, Fault> {
    let found = match &look {
        Lookup::Bypass | Lookup::Join(..) => CacheUse::Miss,
        Lookup::Hit(_) => CacheUse::Hit,
        Lookup::Stale(..) => CacheUse::Stale,
    };
    context.record(|entry| entry.cached(found));
    let (join, fallback) = match look {
        Lookup::Bypass => {
            let back = Back::send(context, resolved, clearance, &mut Shared::default()).await?;
            return Ok(Reply::Back(Box::new(back)));
        }
        Lookup::Hit(kept) => return served(context, resolved, clearance, &kept),
        Lookup::Stale(kept, lead) => {
            if let Some(lead) = lead {
                refresh(Arc::clone(&context), resolved.clone(), clearance.clone(), lead);
            }
            return served(context, resolved, clearance, &kept);
        }
        Lookup::Join(join, fallback) => (join, fallback),
    };
    let back = match join {
        Join::Follower(wait) => {
            let shared = Shared { fallback, ..Shared::default() };
            Back::waiting(context, resolved, clearance, wait, shared)?
        }
        Join::Leader(lead) => {
            let mut shared = Shared { lead: Some(lead), fallback, retried: false };
            let again = shared.fallback.as_ref().map(|_| resolved.clone());
            let sending =
                Back::send(Arc::clone(&context), resolved, clearance.clone(), &mut shared);
            match (sending.await, again) {
                (Ok(back), _) => back,
                (Err(fault), again) => {
                    let found = shared.fell(&fault).zip(again);
                    let (kept, resolved) = found.ok_or(fault)?;
                    context.gate.counters.add(Counter::CacheStaleOnError);
                    context.record(|entry| entry.cached(CacheUse::Stale));
                    return served(context, resolved, clearance, &kept);
                }
            }
        }
    };
    Ok(Reply::Back(Box::new(back)))
}

/// What the cache says of a call that is let in.
pub fn look(context: &Context, resolved: &Resolved) -> Lookup<SendError> {
    let call = &context.call;
    let snapshot = &context.snapshot;
    let target = &resolved.target;
    let upstream = target.upstream.name();
    if resolved.as_task
        || resolved.wishes_task
        || !snapshot.cache.may_keep(call.method, upstream, &target.own)
    {
        return Lookup::Bypass;
    }
    // Of a server that another one just took the place of, nothing is kept.
    let current = snapshot.member(upstream);
    if !current.is_some_and(|current| Arc::ptr_eq(&current.upstream, &target.upstream)) {
        return Lookup::Bypass;
    }
    snapshot.cache.lookup(CacheQuery {
        method: call.method,
        upstream,
        name: &target.own,
        definition: target.definition,
        read_only: target.object.as_ref().is_some_and(|object| object.is_read_only()),
        params: &resolved.params,
        mirrored: &resolved.mirrored,
        caller: &call.caller,
        client: &call.client,
        vary: target.upstream.vary(&call.caller, call.forwarded.as_deref()),
    })
}

/// A kept result on the way back of any answer.
fn served(
    context: Arc<Context>,
    resolved: Resolved,
    clearance: Clearance,
    kept: &CachedResult,
) -> Result<Reply, Fault> {
    // As any call: its id is not to be that of one under way.
    drop(context.begin()?);
    let tries = Tries::new(&context, &resolved, clearance);
    let mut back = Back::staged(context, resolved, tries, Stage::Over);
    match back.serve(kept)? {
        Some(Out::Answer { body, .. }) => Ok(Reply::Answer(body)),
        Some(Out::Message(_) | Out::Paused(_)) => {
            Err(back.context.bug("a kept result is no answer"))
        }
        // Much, which is being judged.
        None => Ok(Reply::Back(Box::new(back))),
    }
}

/// Asks anew in the background, with what the call was let in by.
fn refresh(mut context: Arc<Context>, resolved: Resolved, clearance: Clearance, lead: Lead) {
    let tasks = context.gate.tasks.clone();
    // It is no call of its own, and leaves no record.
    Arc::make_mut(&mut context).entry = None;
    let ask = resolved.ask(&context.call);
    let tries = Tries::new(&context, &resolved, clearance);
    let mut back = Back::staged(context, resolved, tries, Stage::Over);
    back.shared.lead = Some(lead);
    back.refuse_questions();
    back.send_again(ask);
    tasks.spawn("cache: refresh", async move {
        while let Ok(Out::Message(_) | Out::Paused(_)) = back.next().await {}
    });
}

/// Waits for the flight; until the call is to become a task, or is late.
pub async fn waited(wait: &mut Wait, task_at: Option<Instant>, late_at: Instant) -> Waited {
    let until = task_at.map_or(late_at, |task_at| task_at.min(late_at));
    match tokio::time::timeout_at(until, wait.result()).await {
        Ok(landing) => Waited::Landed(landing),
        Err(_) if task_at == Some(until) => Waited::Task,
        Err(_) => Waited::Late,
    }
}

impl Shared {
    /// The call is over: its answer is kept if it may be, and is given to those who wait.
    fn ended(&mut self, kept: Option<CachedResult>) {
        match (self.lead.take(), kept) {
            (Some(lead), Some(kept)) => lead.complete(kept),
            (Some(lead), None) => lead.complete_private(),
            (None, _) => (),
        }
    }

    /// Something was asked, or a task was given: the answer is this call's own.
    pub fn spoil(&mut self) {
        self.ended(None);
        self.fallback = None;
    }

    /// The call failed; what may be served all the same.
    fn fell(&mut self, fault: &Fault) -> Option<CachedResult> {
        let Fault::Upstream { error, .. } = fault else { return None };
        if let Some(lead) = self.lead.take() {
            lead.fail(error.clone());
        }
        self.fallback.take()
    }
}

impl Outdated {
    /// What a call makes outdated; none where that is nothing.
    pub fn by(context: &Context, resolved: &Resolved) -> Option<Self> {
        let target = &resolved.target;
        if context.call.method != Method::ToolsCall {
            return None;
        }
        let snapshot = &context.snapshot;
        let subjects = snapshot.cache.invalidated_by(target.upstream.name(), &target.own);
        (!subjects.is_empty()).then(|| Self { snapshot: Arc::clone(snapshot), subjects })
    }
}

impl Drop for Outdated {
    fn drop(&mut self) {
        for subject in &self.subjects {
            self.snapshot.cache.forget_one(subject);
        }
    }
}

impl Back {
    /// A call that waits for another one that asks the same.
    fn waiting(
        context: Arc<Context>,
        resolved: Resolved,
        clearance: Clearance,
        wait: Wait,
        shared: Shared,
    ) -> Result<Self, Fault> {
        let underway = context.begin()?;
        let tries = Tries::new(&context, &resolved, clearance);
        let mut back = Self::staged(context, resolved, tries, Stage::Waiting(wait));
        back.underway = underway;
        back.shared = shared;
        Ok(back)
    }

    pub(super) fn waited(&mut self, waited: Waited) -> Result<Option<Out>, Fault> {
        let total = self.tries.timeout.total;
        let landing = match waited {
            Waited::Landed(landing) => landing,
            Waited::Task => return self.due(),
            Waited::Late => return Err(self.fault(SendError::Total(total))),
        };
        let Stage::Waiting(wait) = std::mem::replace(&mut self.stage, Stage::Over) else {
            return Err(self.context.bug("nothing was waited for"));
        };
        match landing {
            FlightResult::Cached(kept) => {
                self.context.record(|entry| entry.cached(CacheUse::Joined));
                return self.serve(&kept);
            }
            FlightResult::Failed(error) if self.shared.retried => return Err(self.fault(error)),
            FlightResult::Failed(_) => self.shared.retried = true,
            // It asks for itself, as all who waited do.
            FlightResult::Private => {
                self.send_again(self.resolved.ask(&self.context.call));
                return Ok(None);
            }
            FlightResult::Abandoned => (),
        }
        match wait.rejoin() {
            Join::Follower(wait) => self.stage = Stage::Waiting(wait),
            Join::Leader(lead) => {
                self.shared.lead = Some(lead);
                self.send_again(self.resolved.ask(&self.context.call));
            }
        }
        Ok(None)
    }

    /// A kept result, as if its server had said it now.
    fn serve(&mut self, kept: &CachedResult) -> Result<Option<Out>, Fault> {
        self.era = kept.era;
        self.answer(Body::Result(kept.served()), 200)
    }

    /// What the upstream said, before anything is done to it: kept where it may be, and given to
    /// all who wait for it.
    pub(super) fn share(&mut self, body: &Body) {
        let Some(lead) = &self.shared.lead else { return };
        let kept = match body {
            Body::Result(result) => {
                self.context.snapshot.cache.cacheable(lead.subject(), result, self.era)
            }
            Body::Error(_) => None,
        };
        self.shared.fallback = None;
        self.shared.ended(kept);
    }

    /// The call failed: those who wait are told, and what is still good for that is served.
    /// None where that is being judged first.
    pub(super) fn fell(&mut self, fault: Fault) -> Result<Option<Out>, Fault> {
        let Some(kept) = self.shared.fell(&fault) else { return Err(fault) };
        self.context.gate.counters.add(Counter::CacheStaleOnError);
        self.context.record(|entry| entry.cached(CacheUse::Stale));
        self.stage = Stage::Over;
        self.serve(&kept)
    }
}
