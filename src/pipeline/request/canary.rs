//! A call to an upstream that has a successor on trial: which of them gets it, and what becomes of
//! it where the successor fails.

use std::sync::Arc;

use tokio::time::Instant;

use crate::{
    call::{Caller, event::Event},
    catalog::Target,
    mcp::{message::Body, method::Method},
    park::state::ReplicaRef,
    pipeline::{call::Call, context::Context},
    resilience::{Cause, affinity, canary::CanaryState},
    snapshot::ActiveCanary,
    telemetry::{Counter, Counters},
    upstream::{Clearance, SendError, failure},
};

use super::resolve::{self, Resolved};

/// A call and what it is sent with: to its own upstream, or to a successor.
pub struct Selected {
    pub request: Resolved,
    pub clearance: Clearance,
    /// None where it goes to its own upstream.
    pub canary: Option<Box<CanaryCall>>,
}

/// A call that is with a successor on trial, and what it takes to send it to its own upstream.
#[derive(Debug)]
pub struct CanaryCall {
    trial: Arc<CanaryState>,
    since: Instant,
    /// The call as its own upstream gets it.
    stable: Resolved,
    /// The clearance for its own upstream.
    clearance: Clearance,
    counters: Arc<Counters>,
}

/// The judgement of an event on a successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CanaryVerdict {
    /// Nothing yet.
    Open,
    Well,
    Failed,
}

/// Whether a state of this place belongs to what a name stands for now: its upstream, or that one's
/// successor.
pub fn leads_to(context: &Context, now: &Resolved, place: &ReplicaRef) -> bool {
    let upstream = now.target.upstream.name();
    let canary = || context.snapshot.migration(upstream).and_then(|found| found.canary.as_ref());
    place.upstream == *upstream
        || canary().is_some_and(|it| *it.successor.upstream().name() == place.upstream)
}

/// Selects who gets a call: its own upstream, or that one's successor on trial.
pub fn select(context: &Context, request: Resolved, clearance: Clearance) -> Selected {
    let migration = context.snapshot.migration(request.target.upstream.name());
    let canary = migration.and_then(|migration| migration.canary.as_ref());
    let canary = canary.filter(|canary| is_selected(canary, &context.call, &request));
    let stable = Selected { request, clearance, canary: None };
    match canary {
        Some(canary) => at_successor(context, canary, stable),
        None => stable,
    }
}

/// The call as the successor gets it, where that has such a tool and can take the call.
fn at_successor(context: &Context, canary: &ActiveCanary, stable: Selected) -> Selected {
    let call = &context.call;
    let counters = &context.gate.counters;
    let Some(mirrors) = canary.successor.tool(&stable.request.target.own) else { return stable };
    counters.add(Counter::CanaryCalls);
    let upstream = canary.successor.upstream();
    let target = Target {
        upstream: Arc::clone(upstream),
        mirrors: mirrors.clone(),
        replica: None,
        ..(*stable.request.target).clone()
    };
    let agrees = resolve::check_mirrored(&target, call).is_ok();
    let fits = agrees && upstream.peer().is_some();
    let there = stable.clearance.at_successor(&canary.successor.succession);
    let mut canary_call = Box::new(CanaryCall {
        trial: Arc::clone(&canary.state),
        since: Instant::now(),
        stable: stable.request,
        clearance: stable.clearance,
        counters: Arc::clone(counters),
    });
    let Some(clearance) = there.ok().filter(|_| fits) else {
        canary_call.record(true);
        return canary_call.fall_back();
    };
    let mut request = Resolved { target: Arc::new(target), ..canary_call.stable.clone() };
    request.mirror(call);
    context.record(|entry| entry.sent_to_successor(upstream.name()));
    Selected { request, clearance, canary: Some(canary_call) }
}

/// Whether the successor gets a call. One that began at one of the two goes on there. A caller
/// always has the same one; an address may be many callers', and has sessions in its place.
fn is_selected(canary: &ActiveCanary, call: &Call, resolved: &Resolved) -> bool {
    if let Some(place) = &call.place {
        return place.upstream == *canary.successor.upstream().name();
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

impl CanaryCall {
    /// Records what an event says of the successor.
    pub fn hear(&mut self, event: &Result<Event, SendError>, untouched: bool) -> CanaryVerdict {
        let failed = match event {
            Ok(Event::Notification(_) | Event::ServerRequest(_) | Event::Resumable { .. }) => {
                return CanaryVerdict::Open;
            }
            Ok(Event::Answer { body, status }) => {
                let failed = counts_against_successor(failure(body, *status));
                self.record(failed || self.trial.settings.back.tool_errors && is_tool_error(body));
                failed
            }
            // The call is sent once more, to the same upstream.
            Err(SendError::SessionGone) if untouched => return CanaryVerdict::Open,
            Err(error) => {
                let failed = counts_against_successor(error.cause());
                self.record(failed);
                failed
            }
        };
        if failed { CanaryVerdict::Failed } else { CanaryVerdict::Well }
    }

    /// Records how the call went there, and rolls the trial back where that was too much.
    pub fn record(&mut self, failed: bool) {
        if failed {
            self.counters.add(Counter::CanaryFailures);
        }
        let Some(why) = self.trial.record(failed, self.since.elapsed()) else { return };
        self.counters.add(Counter::CanariesBack);
        let upstream = self.stable.target.upstream.name();
        let successor = &self.trial.settings.upstream;
        let upstream = upstream.as_str();
        let successor = successor.as_str();
        tracing::error!(upstream, successor, why, "this successor gets nothing any more");
    }

    /// The call for its own upstream, in place of the successor.
    pub fn fall_back(self) -> Selected {
        self.counters.add(Counter::CanaryFallbacks);
        Selected { request: self.stable, clearance: self.clearance, canary: None }
    }
}

/// Whether a failure speaks against a successor: its overload does, too.
fn counts_against_successor(cause: Option<Cause>) -> bool {
    cause.is_some()
}

fn is_tool_error(body: &Body) -> bool {
    let Body::Result(result) = body else { return false };
    result.is_error()
}
