//! The retry of a request that was answered with `input_required` (2026-07-28, MRTR): its state is
//! opened, and leads to a parked call, to the upstream's own state, or to nothing but a new call.

use std::sync::Arc;

use crate::{
    mcp::{index::Param, message::Body, raw::Raw, splice, version::Era},
    park::{
        Parked, StateError,
        state::{ReplicaRef, StateContent},
    },
    pipeline::{
        bridge::{input_required, url_elicitation},
        call::Call,
        context::Context,
        fault::Fault,
    },
    telemetry::Counter,
    upstream::Clearance,
};

use super::{
    canary, guard, limit, policy,
    resolve::{self, Resolved},
    visibility,
};

/// The result of a retry.
pub enum Resumed {
    /// A call like any other; with an upstream's own state, for that upstream only.
    Call(Option<ReplicaRef>),
    /// A call that was parked, and has all of its answers.
    Parked(Box<Unparked>),
    /// The client is to answer what it left open.
    Answer(Body),
}

/// A parked call that goes on, for the retry that brought its answers.
pub struct Unparked {
    pub parked: Parked,
    /// The request that the retry is about: the same as before.
    pub request: Resolved,
    pub clearance: Clearance,
}

/// Finds what the state of a request stands for.
///
/// # Errors
/// Where the state is not this caller's for this very request, or is used up.
pub async fn resume(context: &mut Arc<Context>, state: &Raw) -> Result<Resumed, Fault> {
    let resumed = opened(context, state).await;
    if let Err(Fault::State(error)) = &resumed {
        limit::here(context).await?;
        context.gate.counters.add(Counter::RefusedStates);
        tracing::debug!(?error, "a request state was refused");
    }
    resumed
}

async fn opened(context: &mut Arc<Context>, state: &Raw) -> Result<Resumed, Fault> {
    let text: String = state.try_read().ok_or(StateError::Foreign)?;
    match context.gate.lot.states.open(&text, context.binding())? {
        StateContent::Upstream(place, own) => {
            let call = &mut Arc::make_mut(context).call;
            call.params = call.params.with(Param::RequestState, own.bytes());
            call.place = Some(place.clone());
            Ok(Resumed::Call(Some(place)))
        }
        StateContent::Anew
            if url_elicitation::are_opened(&input_required::responses(&context.call.params)) =>
        {
            let gone = [Param::InputResponses, Param::RequestState].map(|it| (it.name(), None));
            let call = &mut Arc::make_mut(context).call;
            call.params = splice::edit(call.params.text(), &gone).into();
            Ok(Resumed::Call(None))
        }
        StateContent::Anew => Err(Fault::Declined),
        held @ StateContent::Call { .. } => unpark(context, &held).await,
    }
}

/// Gives a parked call its answers, and goes on with it. It gave its places back when it was
/// parked: the retry is a request like any other.
async fn unpark(context: &Arc<Context>, held: &StateContent) -> Result<Resumed, Fault> {
    // The target is found first: a retry that is wrong in itself, or comes too soon, costs the call
    // nothing.
    let found = resolve::find(context)?;
    let permit = policy::permit(context, &found)?;
    let mut request = resolve::prepare(context, found)?;
    context.record_target(&request);
    guard::check(context, &mut request).await?;
    context.record_arguments(&request);
    let clearance = Clearance::new(permit, limit::route(context, &request).await?);
    let upstream_request = request.to_upstream(&context.call);
    let admission = clearance.admit(&upstream_request).await;
    let admission =
        admission.map_err(|error| visibility::failed(context, &request.target, error))?;
    let mut parked = context.gate.lot.take(held)?;
    context.record(|entry| entry.goes_on_with(parked.record));
    context.record(|entry| entry.upstream_cost(admission.cost()));
    // The name may lead elsewhere by now: what is permitted there is no permit for this.
    let target = &request.target;
    let place = ReplicaRef { upstream: parked.upstream.name().clone(), replica: None };
    if parked.own_name != target.own || !canary::leads_to(context, &request, &place) {
        parked.end("its name leads elsewhere now");
        return Err(StateError::Used.into());
    }
    let responses = input_required::responses(&request.params);
    parked.unanswered = input_required::answer(parked.unanswered, &responses);
    if parked.unanswered.is_empty() {
        parked.exchange.admitted(admission);
        return Ok(Resumed::Parked(Box::new(Unparked { parked, request, clearance })));
    }
    // Missing answers are asked for again; what was answered stays answered.
    let asked = input_required::park(context, parked);
    asked.map(|result| Resumed::Answer(Body::Result(result.into())))
}

/// A state that is no longer good for what its request leads to.
pub fn used(context: &Context) -> Fault {
    context.gate.counters.add(Counter::RefusedStates);
    StateError::Used.into()
}

/// The state of a request, where there can be one.
pub fn state_of(call: &Call) -> Option<Raw> {
    if call.client.era() == Era::Legacy || !call.method.may_require_input() {
        return None;
    }
    call.params.member(Param::RequestState)
}
