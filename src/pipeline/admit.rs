//! How much: what the limits say of a request, before anything is done for it.

use std::sync::Arc;

use crate::{
    call::{Caller, Client},
    catalog,
    limit::{Request, Target},
    mcp::{method::Method, raw::Raw},
    policy::Permit,
    snapshot::{Gate, Route},
    upstream::Pass,
};

use super::{Call, Fault, resolve::Resolved};

/// Lets a call in that is sent on.
///
/// # Errors
/// Where a limit of its route, its upstream or its tool has not enough left.
pub async fn sent(
    gate: &Gate,
    route: &Route,
    call: &Call,
    resolved: &Resolved,
) -> Result<Pass, Fault> {
    let target = Target { upstream: resolved.target.upstream.name(), name: &resolved.target.own };
    let limits = &gate.snapshot().limits;
    // As it is sent: what the configuration puts into it costs the same as a client's own.
    let request = Request { params: &resolved.params, ..call.asked_on(route) };
    let admission = limits.admit(request, target).await.map_err(Fault::Limited)?;
    Ok(Pass { permit: resolved.permit.clone(), admission: Arc::new(admission) })
}

/// Lets a subscription in that a request for several leads to: each is sent on.
///
/// # Errors
/// As [`sent`].
pub async fn subscribed(
    gate: &Gate,
    route: &Route,
    call: &Call,
    (target, permit): (&catalog::Target, Permit),
) -> Result<Pass, Fault> {
    let request = Request { method: Method::Subscribe, ..call.asked_on(route) };
    let target = Target { upstream: target.upstream.name(), name: &target.own };
    let admission = gate.snapshot().limits.admit(request, target).await.map_err(Fault::Limited)?;
    Ok(Pass { permit, admission: Arc::new(admission) })
}

/// Lets a request in that the gate answers itself.
///
/// # Errors
/// Where a limit of its route has not enough left.
pub async fn here(gate: &Gate, route: &Route, call: &Call) -> Result<(), Fault> {
    let limits = &gate.snapshot().limits;
    limits.admit_here(call.asked_on(route)).await.map_err(Fault::Limited)
}

/// Lets a client in that opens a session.
///
/// # Errors
/// As [`here`].
pub async fn opening(
    gate: &Gate,
    route: &Route,
    caller: &Caller,
    client: &Client,
) -> Result<(), Fault> {
    let (method, route) = (Method::Initialize, &*route.settings.path);
    let request = Request { method, caller, client, route, params: &Raw::object() };
    gate.snapshot().limits.admit_here(request).await.map_err(Fault::Limited)
}

impl Call {
    fn asked_on<'a>(&'a self, route: &'a Route) -> Request<'a> {
        let (method, caller, client) = (self.method, &self.caller, &self.client);
        Request { method, caller, client, route: &route.settings.path, params: &self.params }
    }
}
