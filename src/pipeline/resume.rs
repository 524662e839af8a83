//! The retry of a request that was answered with `input_required` (2026-07-28, MRTR): its state is
//! opened, and leads to a parked call, to the upstream's own state, or to nothing but a new call.

use std::sync::Arc;

use crate::{
    mcp::{message::Body, raw::Raw, splice, version::Era},
    park::{
        StateError,
        state::{ReplicaRef, StateContent},
    },
    telemetry::Counter,
    upstream::Clearance,
};

use super::{Back, Call, Context, Fault, Reply, admit, asked, clean, migrate, pages, resolve};

/// What a retry leads to.
pub enum Resumed {
    /// It is sent as any other call; with an upstream's own state, to that upstream only.
    Call(Option<ReplicaRef>),
    Reply(Reply),
}

/// Finds what the state of a request stands for.
///
/// # Errors
/// Where the state is not this caller's for this very request, or is used up.
pub async fn resume(context: &mut Arc<Context>, state: &Raw) -> Result<Resumed, Fault> {
    let resumed = opened(context, state).await;
    if let Err(Fault::State(error)) = &resumed {
        admit::here(context).await?;
        context.gate.counters.add(Counter::RefusedStates);
        tracing::debug!(?error, "a request state was refused");
    }
    resumed
}

async fn opened(context: &mut Arc<Context>, state: &Raw) -> Result<Resumed, Fault> {
    let text: String = state.try_read().ok_or(StateError::Foreign)?;
    match context.gate.lot.states.open(&text, context.bearer())? {
        StateContent::Upstream(place, own) => {
            let call = &mut Arc::make_mut(context).call;
            call.params = splice::edit(&call.params, &[("requestState", Some(own.bytes()))]);
            call.place = Some(place.clone());
            Ok(Resumed::Call(Some(place)))
        }
        StateContent::Anew if pages::are_opened(&responses(&context.call.params)) => {
            let gone = [("inputResponses", None), ("requestState", None)];
            let call = &mut Arc::make_mut(context).call;
            call.params = splice::edit(&call.params, &gone);
            Ok(Resumed::Call(None))
        }
        StateContent::Anew => Err(Fault::Declined),
        held @ StateContent::Call { .. } => taken_up(context, &held).await.map(Resumed::Reply),
    }
}

/// Gives a parked call its answers, and goes on with it. It gave its places back when it was
/// parked: the retry is a request like any other.
async fn taken_up(context: &Arc<Context>, held: &StateContent) -> Result<Reply, Fault> {
    // First: a retry that is wrong in itself, or comes too soon, costs the call nothing.
    let (mut resolved, permit) = super::permitted(context)?;
    context.record_target(&resolved);
    clean::request(context, &mut resolved).await?;
    context.record_arguments(&resolved);
    let clearance = Clearance::new(permit, admit::route(context, &resolved).await?);
    let ask = resolved.ask(&context.call);
    let admission = clearance.admit(&ask).await;
    let admission = admission.map_err(|error| resolve::failed(context, &resolved.target, error))?;
    let mut parked = context.gate.lot.take(held)?;
    context.record(|entry| entry.goes_on_with(parked.record));
    context.record(|entry| entry.upstream_cost(admission.cost()));
    // The name may lead elsewhere by now: what is permitted there is no permit for this.
    let target = &resolved.target;
    let place = ReplicaRef { upstream: parked.upstream.name().to_owned(), replica: None };
    if parked.own_name != target.own || !migrate::leads_to(context, &resolved, &place) {
        parked.end("its name leads elsewhere now");
        return Err(StateError::Used.into());
    }
    parked.unanswered = asked::answer(parked.unanswered, &responses(&resolved.params));
    if parked.unanswered.is_empty() {
        parked.exchange.admitted(admission);
        let back = Back::resume(Arc::clone(context), resolved, parked, clearance);
        return Ok(Reply::Back(Box::new(back)));
    }
    // What is missing is asked for again; what was answered stays answered.
    asked::park(context, parked).map(|result| Reply::Answer(Body::Result(result)))
}

/// A state that is no longer good for what its request leads to.
pub fn used(context: &Context) -> Fault {
    context.gate.counters.add(Counter::RefusedStates);
    StateError::Used.into()
}

/// What the client answered; an empty object where it answered nothing.
pub fn responses(params: &Raw) -> Raw {
    let responses = splice::member(params, "inputResponses").filter(Raw::is_object);
    responses.unwrap_or_else(Raw::object)
}

/// The state of a request. Read only where there can be one: most requests have none, and need not
/// be walked for it.
pub fn state_of(call: &Call) -> Option<Raw> {
    if call.client.era() == Era::Legacy || !call.method.may_require_input() {
        return None;
    }
    splice::rare_member(&call.params, "requestState")
}
