//! Tells a caller the same of what is not there and of what it may not see.

use crate::{
    call::ListKind,
    catalog::{FoundBy, Target},
    mcp::{
        error::{INVALID_PARAMS, RESOURCE_NOT_FOUND, code_of},
        message::Body,
        method::Method,
        target::TargetRef,
    },
    pipeline::{call::Call, context::Context, fault::Fault},
    upstream::SendError,
};

/// Whether a caller must not learn whether there is such a resource.
pub fn is_veiled(context: &Context, target: &Target) -> bool {
    let reads = matches!(context.call.method, Method::ResourcesRead | Method::Subscribe);
    reads && !context.route.judge.is_open() && target.found != FoundBy::Listed
}

/// The answer about what is not there, or is not for this caller to see.
pub fn unknown(call: &Call) -> Fault {
    let (kind, name) = match &call.named {
        TargetRef::Name(name) if call.method == Method::PromptsGet => ("prompt", name),
        TargetRef::Name(name) => ("tool", name),
        TargetRef::Uri(uri) => ("resource", uri),
        TargetRef::PromptReference(name) => ("prompt", name),
        TargetRef::TemplateReference(uri) => ("resource template", uri),
        TargetRef::Task(id) => ("task", id),
        TargetRef::Nothing => return Fault::UnknownMethod(call.method.name().into()),
    };
    Fault::Unknown { kind, name: name.clone() }
}

/// The answer about what is on no list that the caller may see. While a list that it could stand on
/// cannot be read, a model is not told that there is no such thing. That says nothing of the name:
/// one that is hidden and one that nobody has read alike.
pub fn unlisted(context: &Context) -> Fault {
    let call = &context.call;
    let kinds: &[ListKind] = match &call.named {
        TargetRef::Name(_) if call.method == Method::PromptsGet => &[ListKind::Prompts],
        TargetRef::Name(_) => &[ListKind::Tools],
        TargetRef::PromptReference(_) => &[ListKind::Prompts],
        TargetRef::Uri(_) | TargetRef::TemplateReference(_) => {
            &[ListKind::Resources, ListKind::Templates]
        }
        TargetRef::Task(_) | TargetRef::Nothing => &[],
    };
    let fault = unknown(call);
    if let Fault::Unknown { kind, .. } = fault
        && context.route.misses(&call.caller, kinds)
    {
        return Fault::Unlisted(kind);
    }
    fault
}

/// Whether this answer says that a resource is not there. Where policies hide some, all that are
/// not there must read alike, whoever says so, and of what is on no list nobody is told why.
pub fn is_missing(context: &Context, target: &Target, body: &Body) -> bool {
    let Body::Error(error) = body else { return false };
    let codes = [RESOURCE_NOT_FOUND, INVALID_PARAMS];
    is_veiled(context, target)
        || context.call.method == Method::ResourcesRead
            && !context.route.judge.is_open()
            && codes.contains(&code_of(error))
}

/// Returns what an upstream's failure is to the caller.
pub fn failed(context: &Context, target: &Target, error: SendError) -> Fault {
    if let SendError::Limited(refusal) = error {
        return Fault::Limited(refusal);
    }
    if is_veiled(context, target) {
        let upstream = target.upstream.name().as_str();
        tracing::debug!(upstream, %error, "told as a resource that is not there");
        return unlisted(context);
    }
    Fault::Upstream { method: context.call.method, error }
}
