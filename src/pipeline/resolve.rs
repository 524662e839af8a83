//! Which target a call is about: an upstream, and its own name for the thing.

use std::sync::Arc;

use crate::{
    call::{Action, ListKind, clock},
    catalog::{FoundBy, Target},
    guard::Guard,
    mcp::{
        document::CallArguments,
        error::{INVALID_PARAMS, RESOURCE_NOT_FOUND, code_of},
        message::Body,
        method::Method,
        mirror::MirroredArgument,
        raw::Raw,
        splice,
        target::TargetRef,
        version::Era,
    },
    policy::{AccessRequest, Denial, Permit, Verdict},
    upstream::{SendError, Upstream},
};

use super::{Call, Context, Fault};

/// A call whose target is found.
#[derive(Debug, Clone)]
pub struct Resolved {
    pub target: Arc<Target>,
    /// What its arguments are held to, and all that comes back.
    pub guard: Guard,
    /// The client's params, with the upstream's own name in them.
    pub params: Raw,
    /// What `Mcp-Name` is to say.
    pub name: Option<String>,
    /// `Mcp-Param-*` headers.
    pub mirrored: Vec<(String, String)>,
    /// It is sent as a task, of which the client is to know nothing.
    pub as_task: bool,
    /// It is sent as a task at the client's own wish (2025-11-25).
    pub wishes_task: bool,
    /// The arguments of what is called, for all that judge them; let go once they are judged.
    pub arguments: Option<Arc<CallArguments>>,
}

/// What a call leads to, before anybody has said that it may.
#[derive(Debug)]
pub struct Unjudged {
    target: Arc<Target>,
    /// The client's params, with what the configuration puts into them: policies judge what is
    /// sent.
    filled: Raw,
    /// The arguments of what is called, for all that judge them.
    arguments: Option<Arc<CallArguments>>,
}

/// Finds what a call is about.
///
/// # Errors
/// Where there is no such thing, as far as the route knows.
pub fn find(context: &Context) -> Result<Unjudged, Fault> {
    let target = find_target(context)?;
    let params = &context.call.params;
    let filled = match context.tool(&target) {
        Some(tool) => context.snapshot.guards.filled(target.upstream.name(), tool, params),
        None => params.clone(),
    };
    let has_arguments = matches!(context.call.method, Method::ToolsCall | Method::PromptsGet);
    let arguments = has_arguments.then(|| Arc::new(CallArguments::of(&filled)));
    Ok(Unjudged { target, filled, arguments })
}

/// Makes of what was found, and is permitted, what is sent.
///
/// # Errors
/// Where the call's headers do not say what its arguments say.
pub fn prepared(context: &Context, found: Unjudged) -> Result<Resolved, Fault> {
    let Unjudged { target, filled, arguments } = found;
    let call = &context.call;
    let (upstream, tool) = (target.upstream.name(), context.tool(&target));
    let guard = context.snapshot.guards.of(context.path(), upstream, tool);
    let guard = guard.recorded_in(context.entry.as_ref());
    check_mirrored(&target, call)?;
    let mirrored = mirrored(&target, call, &filled);
    let params = renamed(call, &target, &filled);
    let bare = without_wish(call, &params);
    let wishes_task = bare.is_some() && relays_tasks(context);
    let params = bare.filter(|_| !wishes_task).unwrap_or(params);
    let name = call.named.header().map(|_| target.own.clone());
    let as_task = target.task && !wishes_task;
    Ok(Resolved { target, guard, params, name, mirrored, as_task, wishes_task, arguments })
}

/// Whether a request is about tasks that a legacy client may use.
pub fn relays_tasks(context: &Context) -> bool {
    let call = &context.call;
    let may = matches!(
        call.method,
        Method::ToolsCall | Method::TasksGet | Method::TasksResult | Method::TasksCancel
    );
    may && call.session.is_some()
        && context.route.view(&call.client).offer.tasks(call.client.version).is_some()
}

fn find_target(context: &Context) -> Result<Arc<Target>, Fault> {
    let call = &context.call;
    let view = context.route.view(&call.client);
    let found = match &call.named {
        TargetRef::Name(name) if call.method == Method::PromptsGet => {
            view.find(ListKind::Prompts, name).cloned()
        }
        TargetRef::Name(name) => view.find(ListKind::Tools, name).cloned(),
        TargetRef::Uri(uri) => view.find_uri(uri),
        TargetRef::PromptReference(name) => view.find(ListKind::Prompts, name).cloned(),
        TargetRef::TemplateReference(uri) => {
            let found =
                view.find(ListKind::Templates, uri).or_else(|| view.find(ListKind::Resources, uri));
            found.cloned()
        }
        TargetRef::Task(id) => find_task(context, id),
        TargetRef::Nothing => None,
    };
    found.ok_or_else(|| unlisted(context))
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

/// Whether a caller must not learn whether there is such a resource.
pub fn is_veiled(context: &Context, target: &Target) -> bool {
    let reads = matches!(context.call.method, Method::ResourcesRead | Method::Subscribe);
    reads && !context.route.judge.is_open() && target.found != FoundBy::Listed
}

/// What an upstream's failure is to the caller.
pub fn failed(context: &Context, target: &Target, error: SendError) -> Fault {
    if let SendError::Limited(refusal) = error {
        return Fault::Limited(refusal);
    }
    if is_veiled(context, target) {
        let upstream = target.upstream.name();
        tracing::debug!(upstream, %error, "told as a resource that is not there");
        return unlisted(context);
    }
    Fault::Upstream { method: context.call.method, error }
}

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
    let (caller, client, now) = (&call.caller, &call.client, clock::unix_seconds());
    let none = CallArguments::none();
    let arguments = found.arguments.as_deref().unwrap_or(&none);
    let asked = |object| AccessRequest { caller, client, action, object, arguments, now };
    let told = |verdict: &Verdict| {
        context.record(|entry| entry.judged(verdict.rules.iter().map(ToString::to_string)));
    };
    judge.permit(&target.upstream, target.judged(), asked, told).map_err(|refusal| match refusal {
        Denial::Unseen => unlisted(context),
        Denial::Denied => Fault::Denied,
        Denial::StepUp(demanded) => Fault::StepUp(demanded),
    })
}

/// Whether changes of a resource can be heard of: one that nothing leads to may be there or not,
/// and no server is asked which.
pub fn can_be_heard(context: &Context, target: &Target) -> bool {
    context.route.judge.is_open() || target.found != FoundBy::Guess
}

/// A legacy server's task is the session's that was given it; a modern server's has an id that is
/// sealed for its caller. Neither server can tell whose a task is.
fn find_task(context: &Context, id: &str) -> Option<Arc<Target>> {
    let route = &context.route;
    let Some(session) = &context.call.session else {
        let states = &context.gate.lot.states;
        let (place, own) = states.open_upstream_task(id, context.path(), context.caller())?;
        let upstream = context.snapshot.behind(route, &place.upstream)?;
        return Some(Arc::new(Target::of_task(&upstream, &own, place.replica)));
    };
    // Relayed on a route of one server only.
    let member = route.members.first().filter(|_| !route.is_merged())?;
    session.has_task(id).then(|| Arc::new(Target::of_task(&member.upstream, id, None)))
}

/// The params without a legacy client's wish for a task; none where it has none. Where it is
/// offered no tasks, the wish is not the server's to hear (2025-11-25, tasks: task support and
/// handling).
fn without_wish(call: &Call, params: &Raw) -> Option<Raw> {
    let has = |word: &[u8]| memchr::memmem::find(params.bytes(), word).is_some();
    let may = call.method == Method::ToolsCall && call.client.era() == Era::Legacy;
    // Read only where there can be one; a name may be written with escapes.
    if !may || !(has(b"\"task\"") || has(b"\\u")) {
        return None;
    }
    splice::member(params, "task").map(|_| splice::edit(params, &[("task", None)]))
}

fn renamed(call: &Call, target: &Target, params: &Raw) -> Raw {
    let own = Raw::encode(&target.own);
    let set = |key, shown: &str| {
        if shown == target.own {
            return params.clone();
        }
        splice::edit(params, &[(key, Some(own.bytes()))])
    };
    match &call.named {
        TargetRef::Nothing => params.clone(),
        TargetRef::Name(shown) => set("name", shown),
        TargetRef::Uri(shown) => set("uri", shown),
        TargetRef::Task(shown) => set("taskId", shown),
        TargetRef::PromptReference(_) => {
            splice::edit_within(params, "ref", &[("name", Some(own.bytes()))])
        }
        TargetRef::TemplateReference(_) => {
            splice::edit_within(params, "ref", &[("uri", Some(own.bytes()))])
        }
    }
}

impl Context {
    /// The upstream's own name of the tool that the call is of; none where it is of no tool.
    fn tool<'a>(&self, target: &'a Target) -> Option<&'a str> {
        (self.call.method == Method::ToolsCall).then_some(target.own.as_str())
    }
}

impl Resolved {
    /// Headers that mirror arguments say what these are now.
    pub(super) fn mirror(&mut self, call: &Call) {
        self.mirrored = mirrored(&self.target, call, &self.params);
    }
}

/// Headers that mirror arguments must say what the body says (2026-07-28); a legacy client sends
/// none.
pub(super) fn check_mirrored(target: &Target, call: &Call) -> Result<(), Fault> {
    let Some(headers) = call.mirrored.as_ref().filter(|_| call.client.era() == Era::Modern) else {
        return Ok(());
    };
    for value in values(target, call, &call.params) {
        let header = headers.iter().find(|(name, _)| *name == value.header);
        if !value.agrees(header.map(|(_, text)| text.as_str())) {
            let text = format!("header `{}` does not say what the argument says", value.header);
            return Err(Fault::Header(text));
        }
    }
    Ok(())
}

/// Headers for these params. What is not recognised is forwarded as it is (2026-07-28, transports:
/// intermediaries).
fn mirrored(target: &Target, call: &Call, params: &Raw) -> Vec<(String, String)> {
    let values = values(target, call, params);
    let is_known = |name: &String| values.iter().any(|value| value.header == *name);
    let headers = call.mirrored.iter().flatten();
    let mut all: Vec<_> = headers.filter(|(name, _)| !is_known(name)).cloned().collect();
    all.extend(values.into_iter().filter_map(|value| Some((value.header, value.text?))));
    all
}

fn values(target: &Target, call: &Call, params: &Raw) -> Vec<MirroredArgument> {
    if target.mirrors.is_empty() || call.method != Method::ToolsCall {
        return Vec::new();
    }
    let arguments = splice::member(params, "arguments").filter(Raw::is_object);
    target.mirrors.values(&arguments.unwrap_or_else(Raw::object))
}
