//! A call to an upstream that has a successor on trial: which of them gets it, and what becomes of
//! it where the successor fails.

use std::sync::Arc;

use tokio::time::Instant;

use crate::{
    call::{Caller, event::Event},
    catalog::Target,
    mcp::{message::Body, method::Method, result},
    park::state::ReplicaRef,
    resilience::{Cause, affinity, canary::CanaryState},
    snapshot::ActiveCanary,
    telemetry::{Counter, Counters},
    upstream::{Clearance, Exchange, SendError, failure},
};

use super::{
    Back, Call, Context,
    resolve::{self, Resolved},
    tries::Tries,
};

/// What is kept of a call that a successor has.
#[derive(Debug)]
pub struct OnTrial {
    trial: Arc<CanaryState>,
    since: Instant,
    /// The call as its own upstream gets it.
    stable: Resolved,
    /// What its own upstream takes it with.
    clearance: Clearance,
    counters: Arc<Counters>,
}

/// Whether a state of this place belongs to what a name stands for now: its upstream, or that one's
/// successor.
pub fn leads_to(context: &Context, now: &Resolved, place: &ReplicaRef) -> bool {
    let upstream = now.target.upstream.name();
    let canary = || context.snapshot.migration(upstream).and_then(|found| found.canary.as_ref());
    place.upstream == upstream
        || canary().is_some_and(|it| it.successor.upstream().name() == place.upstream)
}

/// A call, and how it is sent: to its own upstream, or to a successor.
pub struct Turned {
    pub resolved: Resolved,
    pub tries: Arc<Tries>,
    /// None where it goes to its own upstream.
    pub trial: Option<Box<OnTrial>>,
}

/// The call as the successor gets it, where that is to have it.
pub fn turned(context: &Context, resolved: Resolved, clearance: Clearance) -> Turned {
    let call = &context.call;
    let counters = &context.gate.counters;
    let migration = context.snapshot.migration(resolved.target.upstream.name());
    let canary = migration.and_then(|migration| migration.canary.as_ref());
    let Some(canary) = canary.filter(|canary| is_for(canary, call, &resolved)) else {
        return Turned::stable(context, resolved, clearance);
    };
    let Some(mirrors) = canary.successor.tool(&resolved.target.own) else {
        return Turned::stable(context, resolved, clearance);
    };
    counters.add(Counter::CanaryCalls);
    let upstream = canary.successor.upstream();
    let target = Target {
        upstream: Arc::clone(upstream),
        mirrors: mirrors.clone(),
        replica: None,
        ..(*resolved.target).clone()
    };
    let agrees = resolve::check_mirrored(&target, call).is_ok();
    let fits = agrees && upstream.peer().is_some();
    let there = clearance.at_successor(&canary.successor.succession);
    let mut on_trial = Box::new(OnTrial {
        trial: Arc::clone(&canary.state),
        since: Instant::now(),
        stable: resolved,
        clearance,
        counters: Arc::clone(counters),
    });
    let Some(there) = there.ok().filter(|_| fits) else {
        on_trial.note(true);
        counters.add(Counter::CanaryFallbacks);
        let OnTrial { stable, clearance, .. } = *on_trial;
        return Turned::stable(context, stable, clearance);
    };
    let mut turned = Resolved { target: Arc::new(target), ..on_trial.stable.clone() };
    turned.mirror(call);
    context.record(|entry| entry.sent_to_successor(upstream.name()));
    let tries = Tries::new(context, &turned, there);
    Turned { resolved: turned, tries, trial: Some(on_trial) }
}

impl Turned {
    fn stable(context: &Context, resolved: Resolved, clearance: Clearance) -> Self {
        let tries = Tries::new(context, &resolved, clearance);
        Self { resolved, tries, trial: None }
    }

    /// Sends it; where the successor cannot take it, to its own upstream.
    ///
    /// # Errors
    /// Why that could not, either.
    pub async fn send(&mut self, context: &Context) -> Result<Exchange, SendError> {
        // Boxed: it stays for as long as the sending does, which is large.
        let ask = Box::new(self.resolved.ask(&context.call));
        let failed = match self.tries.send(&ask).await {
            Ok(exchange) => return Ok(exchange),
            // A limit's refusal is no fault of the successor's.
            Err(error @ SendError::Limited(_)) => return Err(error),
            Err(error) => error,
        };
        let Some(mut trial) = self.trial.take() else { return Err(failed) };
        trial.note(true);
        let OnTrial { stable, clearance, counters, .. } = *trial;
        counters.add(Counter::CanaryFallbacks);
        *self = Self::stable(context, stable, clearance);
        let ask = self.resolved.ask(&context.call);
        // Boxed: rare, and large.
        Box::pin(self.tries.send(&ask)).await
    }
}

/// What has begun at one of the two goes on there. A caller always has the same one; an address may
/// be many callers', and has sessions in its place.
fn is_for(canary: &ActiveCanary, call: &Call, resolved: &Resolved) -> bool {
    if let Some(place) = &call.place {
        return place.upstream == canary.successor.upstream().name();
    }
    let key = || match (&call.caller, &call.session) {
        (Caller::Address(_), Some(session)) => session.key.number(),
        (caller, _) => affinity::stable_hash(&caller.to_string()),
    };
    call.method == Method::ToolsCall
        && !resolved.as_task
        && !resolved.wishes_task
        && canary.state.selects(key())
}

impl Back {
    /// Notes how a call on trial goes; true where it begins anew at its own upstream, since
    /// nothing came of it so far and it may.
    pub(super) fn falls_back(&mut self, event: &Result<Event, SendError>, fresh: bool) -> bool {
        let Some(trial) = &mut self.trial else { return false };
        let failed = match event {
            Ok(Event::Notification(_) | Event::ServerRequest(_) | Event::Resumable { .. }) => {
                return false;
            }
            Ok(Event::Answer { body, status }) => {
                let failed = counts_against_successor(failure(body, *status));
                trial.note(failed || trial.trial.settings.back.tool_errors && is_tool_error(body));
                failed
            }
            // It is sent once more, to the same one.
            Err(SendError::SessionGone) if fresh => return false,
            Err(error) => {
                let failed = counts_against_successor(error.cause());
                trial.note(failed);
                failed
            }
        };
        let Some(trial) = self.trial.take() else { return false };
        let unsent = event.as_ref().is_err_and(SendError::is_unsent);
        let may = fresh && failed && self.context.call.place.is_none();
        if !may || !(unsent || self.resolved.is_repeatable(self.context.call.method)) {
            return false;
        }
        let OnTrial { stable, clearance, counters, .. } = *trial;
        counters.add(Counter::CanaryFallbacks);
        self.resolved = stable;
        self.upstream = Arc::clone(&self.resolved.target.upstream);
        self.replica = None;
        self.tries = Tries::new(&self.context, &self.resolved, clearance);
        self.send_again(self.resolved.ask(&self.context.call));
        true
    }
}

impl OnTrial {
    fn note(&mut self, failed: bool) {
        if failed {
            self.counters.add(Counter::CanaryFailures);
        }
        let Some(why) = self.trial.record(failed, self.since.elapsed()) else { return };
        self.counters.add(Counter::CanariesBack);
        let upstream = self.stable.target.upstream.name();
        let successor = &self.trial.settings.upstream;
        tracing::error!(upstream, successor, why, "this successor gets nothing any more");
    }
}

/// Whether it speaks against a successor: that it has too much to do, too.
fn counts_against_successor(cause: Option<Cause>) -> bool {
    cause.is_some()
}

fn is_tool_error(body: &Body) -> bool {
    let Body::Result(result) = body else { return false };
    result::is_error(result)
}
