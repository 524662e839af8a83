//! Finds the target that a call is about: an upstream, and its own name for the thing.

use std::sync::Arc;

use crate::{
    call::{Action, ListKind, ObjectKind, UpstreamRequest, clock},
    catalog::Target,
    guard::Guard,
    mcp::{
        document::CallArguments, index::Param, meta::RELATED_TASK, method::Method,
        mirror::MirroredArgument, params::Params, raw::Raw, result::ResultBody, splice,
        target::TargetRef, version::Era,
    },
    pipeline::{call::Call, context::Context, fault::Fault},
    policy::{AccessRequest, Object, Permit},
    upstream::Upstream,
};

use super::visibility::unlisted;

/// Members of a request that carries on with one that a server has begun to answer (2026-07-28).
const ANSWERS: [Param; 2] = [Param::InputResponses, Param::RequestState];

/// A call whose target is found.
#[derive(Debug, Clone)]
pub struct Resolved {
    pub target: Arc<Target>,
    /// The checks of its arguments, and of all that comes back.
    pub guard: Guard,
    /// The client's params, with the upstream's own name in them.
    pub params: Params,
    /// The value of `Mcp-Name`.
    pub name: Option<String>,
    /// `Mcp-Param-*` headers.
    pub mirrored: Vec<(String, String)>,
    /// The call is sent as a task, of which the client is to know nothing.
    pub as_task: bool,
    /// The call is sent as a task at the client's own wish (2025-11-25).
    pub wishes_task: bool,
    /// The arguments of what is called, for all that judge them; let go once they are judged.
    pub arguments: Option<Arc<CallArguments>>,
}

/// A call that the policies of its route permit.
#[derive(Debug)]
pub struct Permitted {
    pub request: Resolved,
    pub permit: Permit<Upstream>,
}

/// The target that a call leads to, before anybody has said that it may.
#[derive(Debug)]
pub struct Unjudged {
    pub target: Arc<Target>,
    /// The client's params, with what the configuration puts into them: policies judge what is
    /// sent.
    filled: Params,
    /// The arguments of what is called, for all that judge them.
    pub arguments: Option<Arc<CallArguments>>,
}

/// Finds what a call is about.
///
/// # Errors
/// Where there is no such thing, as far as the route knows.
pub fn find(context: &Context) -> Result<Unjudged, Fault> {
    let target = find_target(context).inspect_err(|_| missed(context))?;
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
pub fn prepare(context: &Context, found: Unjudged) -> Result<Resolved, Fault> {
    let Unjudged { target, filled, arguments } = found;
    let call = &context.call;
    let upstream = target.upstream.name();
    let tool = context.tool(&target);
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

/// Takes the time for a name that nothing has that one takes which the caller does not see.
fn missed(context: &Context) {
    let (TargetRef::Name(name), Some(member)) =
        (&context.call.named, context.route.members.first())
    else {
        return;
    };
    let is_prompt = context.call.method == Method::PromptsGet;
    let kind = if is_prompt { ObjectKind::Prompt } else { ObjectKind::Tool };
    let object = &Object::new(kind, member.upstream.name(), "", None, Vec::new());
    let call = &context.call;
    let caller = &call.caller;
    let client = &call.client;
    let now = clock::unix_seconds();
    let action = Action::List;
    let arguments = &CallArguments::none();
    let asked = AccessRequest { caller, client, action, object, arguments, now };
    context.route.judge.miss(&asked, name);
}

fn find_target(context: &Context) -> Result<Arc<Target>, Fault> {
    let call = &context.call;
    let view = context.route.view(&call.client);
    let found = match &call.named {
        TargetRef::Name(name) if call.method == Method::PromptsGet => {
            view.find(ListKind::Prompts, name).cloned()
        }
        TargetRef::Name(name) => view.find(ListKind::Tools, name).cloned(),
        TargetRef::Uri(uri) => {
            let found = view.find_uri(uri, context.route.judge.resources());
            found.filter(|target| context.can_read(target))
        }
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
fn without_wish(call: &Call, params: &Params) -> Option<Params> {
    let may = call.method == Method::ToolsCall && call.client.era() == Era::Legacy;
    let wishes = may && params.has(Param::Task);
    wishes.then(|| splice::edit(params.text(), &[(Param::Task.name(), None)]).into())
}

fn renamed(call: &Call, target: &Target, params: &Params) -> Params {
    let set = |name, shown: &str| {
        if shown == target.own {
            return params.clone();
        }
        params.with(name, Raw::encode(&target.own).bytes())
    };
    let set_within = |key| {
        let own = Raw::encode(&target.own);
        let edit: &[(&str, _)] = &[(key, Some(&own.bytes()[..]))];
        splice::edit_within(params.text(), Param::Reference.name(), edit).into()
    };
    match &call.named {
        TargetRef::Nothing => params.clone(),
        TargetRef::Name(shown) => set(Param::Name, shown),
        TargetRef::Uri(shown) => set(Param::Uri, shown),
        TargetRef::Task(shown) => set(Param::TaskId, shown),
        TargetRef::PromptReference(_) => set_within("name"),
        TargetRef::TemplateReference(_) => set_within("uri"),
    }
}

impl Context {
    /// The upstream's own name of the tool that the call is of; none where it is of no tool.
    fn tool<'a>(&self, target: &'a Target) -> Option<&'a str> {
        (self.call.method == Method::ToolsCall).then_some(target.own.as_str())
    }
}

impl Resolved {
    /// Whether a server that has done it once may be asked to do it again: it changes nothing by
    /// itself, or by its tool's own hint. A request with a client's answers may be taken once only.
    pub fn is_repeatable(&self, method: Method) -> bool {
        let hinted = method == Method::ToolsCall && self.target.hints.is_safe();
        let may = method.is_repeatable() || hinted;
        let answers = || ANSWERS.iter().any(|name| self.params.has(*name));
        may && !self.as_task && !self.wishes_task && !answers()
    }

    /// The request as the upstream gets it.
    pub fn to_upstream(&self, call: &Call) -> UpstreamRequest {
        UpstreamRequest {
            method: call.method,
            params: self.params.clone(),
            name: self.name.clone(),
            mirrored: self.mirrored.clone(),
            caller: call.caller.clone(),
            client: Arc::clone(&call.client),
            session: call.session.as_ref().map(|session| session.key),
            presence: call.session.as_ref().map(|session| Arc::clone(&session.presence)),
            streams: call.streams,
            forwarded: call.forwarded.clone(),
            as_task: self.as_task,
            log_level: match &call.session {
                Some(session) => session.log_level(),
                None => call.meta.log_level.clone(),
            },
            safe: self.is_repeatable(call.method),
            hedge: self.target.hedge,
            spans: call.spans.clone(),
            replica: self.target.replica.or(call.place.as_ref().and_then(|place| place.replica)),
        }
    }

    /// Takes the mark of a task off a result, where the client knows of none.
    pub fn without_task_of(&self, result: ResultBody) -> ResultBody {
        if self.as_task { self.without_task(result.into()).into() } else { result }
    }

    /// Takes the mark of a task off what the server says, where the client knows of none.
    pub fn without_task(&self, object: Raw) -> Raw {
        if !self.as_task || !object.is_object() {
            return object;
        }
        splice::edit_within(&object, "_meta", &[(RELATED_TASK, None)])
    }

    /// Headers that mirror arguments say what these are now.
    pub fn mirror(&mut self, call: &Call) {
        self.mirrored = mirrored(&self.target, call, &self.params);
    }
}

/// Holds the headers that mirror arguments to what the body says (2026-07-28); a legacy client
/// sends none.
///
/// # Errors
/// Fails where a header is missing, or says something else than its argument.
pub fn check_mirrored(target: &Target, call: &Call) -> Result<(), Fault> {
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
fn mirrored(target: &Target, call: &Call, params: &Params) -> Vec<(String, String)> {
    let values = values(target, call, params);
    let is_known = |name: &String| values.iter().any(|value| value.header == *name);
    let headers = call.mirrored.iter().flatten();
    let mut all: Vec<_> = headers.filter(|(name, _)| !is_known(name)).cloned().collect();
    all.extend(values.into_iter().filter_map(|value| Some((value.header, value.text?))));
    all
}

fn values(target: &Target, call: &Call, params: &Params) -> Vec<MirroredArgument> {
    if target.mirrors.is_empty() || call.method != Method::ToolsCall {
        return Vec::new();
    }
    let arguments = params.member(Param::Arguments).filter(Raw::is_object);
    target.mirrors.values(&arguments.unwrap_or_else(Raw::object))
}
