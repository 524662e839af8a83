//! State that a client keeps for its next request, sealed for it.

use std::time::Duration;

use crate::{
    mcp::{digest::RequestDigest, raw::Raw, splice},
    park::{
        seconds,
        state::{ReplicaRef, StateContent},
    },
    pipeline::context::Context,
};

/// A modern server's own state, bound to this client's request: the server may not be able to tell
/// one client from another.
pub fn sealed(context: &Context, place: ReplicaRef, result: Raw) -> Raw {
    let Some(state) = splice::member(&result, "requestState") else { return result };
    let held = StateContent::Upstream(place, state);
    let state = seal(context, held, context.call.digest(), context.limits().session_age);
    splice::edit(&result, &[("requestState", Some(state.bytes()))])
}

/// A state for the client of this call and the request of this digest, good for `patience`.
pub fn seal(
    context: &Context,
    held: StateContent,
    request: RequestDigest,
    patience: Duration,
) -> Raw {
    let binding = context.binding_of(request);
    context.gate.lot.states.seal(held, binding, seconds(patience))
}
