//! How much: what the limits say of a request, before anything is done for it.

use crate::{
    call::{Caller, Client},
    catalog,
    limit::{LimitTarget, LimitedRequest, RouteAdmission},
    mcp::{method::Method, raw::Raw},
    pipeline::{context::Context, fault::Fault},
    policy::Permit,
    snapshot::RouteSnapshot,
    upstream::{Clearance, Upstream},
};

use super::resolve::Resolved;

/// Lets a call in that is sent on: what its route has to say. What its upstream has to say is asked
/// each time that it is sent there, and by nobody else.
///
/// # Errors
/// Where a limit of its route has not enough left.
pub async fn route(context: &Context, resolved: &Resolved) -> Result<RouteAdmission, Fault> {
    let target =
        LimitTarget { upstream: resolved.target.upstream.name(), name: &resolved.target.own };
    // The request counts as it is sent: what the configuration puts into it costs the same as a
    // client's own.
    let request = LimitedRequest { params: resolved.params.text(), ..context.limited() };
    let admitted = context.snapshot.limits.admit_route(request, target).await;
    let refused = |fault: &Fault| context.log_refusal(Some(target), fault);
    let admission = admitted.map_err(Fault::Limited).inspect_err(refused)?;
    context.record(|entry| entry.route_cost(admission.cost()));
    Ok(admission)
}

/// Lets a subscription in that a request for several leads to: each is sent on.
///
/// # Errors
/// Where a limit of its route, its upstream or its tool has not enough left.
pub async fn subscribed(
    context: &Context,
    target: &catalog::Target,
    permit: Permit<Upstream>,
) -> Result<Clearance, Fault> {
    let request = LimitedRequest { method: Method::Subscribe, ..context.limited() };
    let target = LimitTarget { upstream: target.upstream.name(), name: &target.own };
    let admitted = context.snapshot.limits.admit_route(request, target).await;
    let route = admitted.map_err(Fault::Limited)?;
    let admission = route.admit(request, target).await.map_err(Fault::Limited)?;
    Ok(Clearance::new(permit, route).admitted(admission))
}

/// Lets a request in that the gate answers itself.
///
/// # Errors
/// Where a limit of its route has not enough left.
pub async fn here(context: &Context) -> Result<(), Fault> {
    let admitted = context.snapshot.limits.admit_here(context.limited()).await;
    let refused = |fault: &Fault| context.log_refusal(None, fault);
    admitted.map_err(Fault::Limited).inspect_err(refused)
}

/// Lets a client in that opens a session.
///
/// # Errors
/// As [`here`].
pub async fn opening(at: &RouteSnapshot, caller: &Caller, client: &Client) -> Result<(), Fault> {
    let request = LimitedRequest {
        method: Method::Initialize,
        caller,
        client,
        route: &at.route.settings.path,
        params: &Raw::object(),
    };
    at.snapshot.limits.admit_here(request).await.map_err(Fault::Limited)
}

impl Context {
    /// The request as limits see it.
    fn limited(&self) -> LimitedRequest<'_> {
        LimitedRequest {
            method: self.call.method,
            caller: &self.call.caller,
            client: &self.call.client,
            route: self.path(),
            params: self.call.params.text(),
        }
    }
}
