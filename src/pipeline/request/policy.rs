//! Whether the caller may: what the policies of the route say of a call.

use crate::{
    call::{Action, clock},
    catalog::{FoundBy, Target},
    mcp::{document::CallArguments, method::Method},
    pipeline::{context::Context, fault::Fault, request::resolve::Unjudged},
    policy::{AccessRequest, Denial, Permit, Verdict},
    upstream::Upstream,
};

use super::{guard, visibility::unlisted};

/// Permits the call, where the caller may do this with what was found.
///
/// # Errors
/// What the caller is told instead.
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "all other methods that name a target are about tasks"
)]
pub fn permit(context: &Context, found: &Unjudged) -> Result<Permit<Upstream>, Fault> {
    let target = &found.target;
    let call = &context.call;
    let judge = &context.route.judge;
    let action = match call.method {
        Method::ToolsCall => Action::Call,
        Method::PromptsGet => Action::Get,
        Method::ResourcesRead | Method::Subscribe | Method::Unsubscribe => Action::Read,
        Method::Complete => Action::Complete,
        _ => return Ok(judge.permit_begun(&target.upstream)),
    };
    if call.method == Method::Subscribe && !can_be_heard(context, target) {
        return Err(unlisted(context));
    }
    let caller = &call.caller;
    let client = &call.client;
    let now = clock::unix_seconds();
    let none = CallArguments::none();
    let arguments = found.arguments.as_deref().unwrap_or(&none);
    let asked = |object| AccessRequest { caller, client, action, object, arguments, now };
    let told = |verdict: &Verdict| {
        context.record(|entry| entry.judged(verdict.rules.iter().map(ToString::to_string)));
    };
    let judged = target.judged(judge.resources());
    judge.permit(&target.upstream, judged, asked, told).map_err(|refusal| match refusal {
        Denial::Unseen => unlisted(context),
        Denial::Denied => Fault::Denied,
        // The schema's objection helps a model more than that it may not.
        Denial::Misfit => guard::misfit(context, found).map_or(Fault::Denied, Fault::Guard),
        Denial::StepUp(demanded) => Fault::StepUp(demanded),
    })
}

/// Whether changes of a resource can be heard of: one that nothing leads to may be there or not,
/// and no server is asked which.
pub fn can_be_heard(context: &Context, target: &Target) -> bool {
    context.route.judge.is_open() || target.found != FoundBy::Guess
}
