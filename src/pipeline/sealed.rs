//! What a client keeps for its next request, sealed for it.

use std::time::Duration;

use crate::{
    mcp::{raw::Raw, splice},
    park::state::{ReplicaRef, StateContent},
};

use super::Back;

impl Back {
    /// A modern server's own state, bound to this client's request: the server may not be able to
    /// tell one client from another.
    pub(super) fn sealed(&self, result: Raw) -> Raw {
        let Some(state) = splice::member(&result, "requestState") else { return result };
        let age = self.context.limits().session_age;
        let request = self.context.call.digest();
        let held = StateContent::Upstream(self.place(), state);
        let state = self.state(held, request, age);
        splice::edit(&result, &[("requestState", Some(state.bytes()))])
    }

    /// Who knows what the server gave this call.
    pub(super) fn place(&self) -> ReplicaRef {
        ReplicaRef { upstream: self.upstream.name().to_owned(), replica: self.replica }
    }

    pub(super) fn state(&self, held: StateContent, request: [u8; 16], patience: Duration) -> Raw {
        let bearer = self.context.bearer_of(request);
        self.context.gate.lot.states.seal(held, bearer, crate::park::seconds(patience))
    }
}
