//! Finds what a call is about, and whether it may: once the lists that it could stand on are known.

use std::sync::Arc;

use crate::pipeline::{context::Context, fault::Fault};

use super::{
    limit, policy,
    resolve::{self, Permitted},
};

/// Finds what a call is about, once the lists that it could stand on are known. One that is about
/// nothing counts for its route, too. A call that waits here goes on with the configuration of
/// then.
///
/// # Errors
/// Where there is no such thing, or the caller may not: what it is told instead.
pub async fn settled(context: &mut Arc<Context>) -> Result<Permitted, Fault> {
    if !context.route.is_recorded() {
        Arc::make_mut(context).at.record_names().await;
    }
    let found = permitted(context);
    let unknown = matches!(found, Err(Fault::Unknown { .. } | Fault::Unlisted(_)));
    let found = match found {
        Err(_) if unknown && context.gate.is_settling(context.limits()) => {
            context.known_early(context.client()).await;
            *context = context.renewed().await;
            permitted(context)
        }
        // The configuration changed just now.
        Ok(call) if call.request.target.upstream.is_retired() => {
            *context = context.renewed().await;
            permitted(context)
        }
        found => found,
    };
    match &found {
        Ok(call) => context.record_target(&call.request),
        Err(_) => limit::here(context).await?,
    }
    found
}

/// Finds what a call is about, has the route's policies permit it, and makes of it what is sent.
fn permitted(context: &Context) -> Result<Permitted, Fault> {
    let found = resolve::find(context)?;
    // Before all else: what the caller may not know of is not to be told by any other fault.
    let permit = policy::permit(context, &found)?;
    let request = resolve::prepare(context, found)?;
    Ok(Permitted { request, permit })
}
