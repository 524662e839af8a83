//! The guard's checks of a request, before anything is sent.

use std::sync::Arc;

use crate::{
    guard::{GuardRefusal, ToolSchemas},
    limit::LimitTarget,
    mcp::{document::CallArguments, method::Method, raw::Raw},
    pipeline::{context::Context, fault::Fault},
};

use super::resolve::{Resolved, Unjudged};

/// Judges what is sent on, and cleans it.
///
/// # Errors
/// Where its arguments are not what the tool takes, are too large, or have what must not pass.
pub async fn check(context: &Context, resolved: &mut Resolved) -> Result<(), Fault> {
    let call = &context.call;
    let tool = resolved.target.tool.as_ref().filter(|_| call.method == Method::ToolsCall);
    let made = || Arc::new(CallArguments::of(&resolved.params));
    let arguments = resolved.arguments.clone().unwrap_or_else(made);
    let judged = if resolved.guard.takes_long(resolved.params.text()) {
        // Boxed: rare.
        Box::pin(judged_aside(context, resolved, tool, arguments)).await
    } else {
        let tool = tool.map(|tool| &**tool);
        resolved.guard.admit(resolved.params.text(), &arguments, tool, &context.gate.schemas)
    };
    resolved.arguments = None;
    let refused = |fault: &Fault| {
        let target = &resolved.target;
        let target = LimitTarget { upstream: target.upstream.name(), name: &target.own };
        context.log_refusal(Some(target), fault);
    };
    let params = judged.map_err(Fault::Guard).inspect_err(refused)?;
    if params != *resolved.params.text() {
        resolved.params = params.into();
        resolved.mirror(call);
    }
    Ok(())
}

/// Returns what is wrong, by the tool's schema, with arguments that policies cannot read; none
/// where nothing is, or where they are too large to be looked at once more.
pub fn misfit(context: &Context, found: &Unjudged) -> Option<GuardRefusal> {
    let target = &found.target;
    let tool = target.tool.as_ref().filter(|_| context.call.method == Method::ToolsCall)?;
    let guards = &context.snapshot.guards;
    let guard = guards.of(context.path(), target.upstream.name(), Some(&target.own));
    guard.misfit(found.arguments.as_ref()?, tool, &context.gate.schemas)
}

/// Judges what is large on a thread beside those that serve.
async fn judged_aside(
    context: &Context,
    resolved: &Resolved,
    tool: Option<&Arc<ToolSchemas>>,
    arguments: Arc<CallArguments>,
) -> Result<Raw, GuardRefusal> {
    let guard = resolved.guard.clone();
    let params = resolved.params.text().clone();
    let tool = tool.cloned();
    let schemas = Arc::clone(&context.gate.schemas);
    let judging = move || guard.admit(&params, &arguments, tool.as_deref(), &schemas);
    let judged = context.gate.schemas.workers().run(judging).await;
    judged.unwrap_or_else(|| Err(resolved.guard.late()))
}
