//! Which target a call is about: an upstream, and its own name for the thing.

use std::sync::Arc;

use crate::{
    call::{Action, ListKind, clock},
    catalog::Target,
    mcp::{
        error::{INVALID_PARAMS, RESOURCE_NOT_FOUND},
        head::Named,
        message::Body,
        method::Method,
        mirror::{Mirrored, Mirrors},
        raw::Raw,
        splice,
        version::Era,
    },
    policy::{Asked, Permit, Refusal},
    snapshot::{Gate, Route},
};

use super::{Call, Fault, fit};

/// A call whose target is found.
#[derive(Debug, Clone)]
pub struct Resolved {
    pub target: Arc<Target>,
    pub permit: Permit,
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
}

pub fn resolve(gate: &Gate, route: &Route, call: &Call) -> Result<Resolved, Fault> {
    let target = find(gate, route, call)?;
    // First: what the caller may not know of is not to be told by any other fault.
    let permit = permit(route, call, &target)?;
    let mirrored = check_mirrored(&target, call)?;
    let params = renamed(call, &target);
    let bare = without_wish(call, &params);
    let wishes_task = bare.is_some() && relays_tasks(route, call);
    let params = bare.filter(|_| !wishes_task).unwrap_or(params);
    let name = call.named.header().map(|_| target.own.clone());
    let as_task = target.task && !wishes_task;
    Ok(Resolved { target, permit, params, name, mirrored, as_task, wishes_task })
}

/// Whether a request is about tasks that a legacy client may use.
pub fn relays_tasks(route: &Route, call: &Call) -> bool {
    let may = matches!(
        call.method,
        Method::ToolsCall | Method::TasksGet | Method::TasksResult | Method::TasksCancel
    );
    may && call.session.is_some() && route.view(&call.client).tasks(call.client.version).is_some()
}

fn find(gate: &Gate, route: &Route, call: &Call) -> Result<Arc<Target>, Fault> {
    let view = route.view(&call.client);
    let found = match &call.named {
        Named::Name(name) if call.method == Method::PromptsGet => {
            view.find(ListKind::Prompts, name).cloned()
        }
        Named::Name(name) => view.find(ListKind::Tools, name).cloned(),
        Named::Uri(uri) => view.find_uri(uri),
        Named::PromptReference(name) => view.find(ListKind::Prompts, name).cloned(),
        Named::TemplateReference(uri) => {
            let found =
                view.find(ListKind::Templates, uri).or_else(|| view.find(ListKind::Resources, uri));
            found.cloned()
        }
        Named::Task(id) => find_task(gate, route, call, id),
        Named::Nothing => None,
    };
    found.ok_or_else(|| unknown(call))
}

/// The answer about what is not there, or is not for this caller to see.
pub fn unknown(call: &Call) -> Fault {
    let (kind, name) = match &call.named {
        Named::Name(name) if call.method == Method::PromptsGet => ("prompt", name),
        Named::Name(name) => ("tool", name),
        Named::Uri(uri) => ("resource", uri),
        Named::PromptReference(name) => ("prompt", name),
        Named::TemplateReference(uri) => ("resource template", uri),
        Named::Task(id) => ("task", id),
        Named::Nothing => return Fault::UnknownMethod(call.method.name().into()),
    };
    Fault::Unknown { kind, name: name.clone() }
}

/// Whether a server does not know a resource. Where policies hide some, all that are not there must
/// read alike, whoever says so.
pub fn is_missing(route: &Route, call: &Call, body: &Body) -> bool {
    let Body::Error(error) = body else { return false };
    let codes = [RESOURCE_NOT_FOUND, INVALID_PARAMS];
    call.method == Method::ResourcesRead
        && !route.judge.is_open()
        && codes.contains(&fit::code_of(error))
}

/// Whether the caller may do this with the target.
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "all other methods that name a target are about tasks"
)]
fn permit(route: &Route, call: &Call, target: &Target) -> Result<Permit, Fault> {
    let action = match call.method {
        Method::ToolsCall => Action::Call,
        Method::PromptsGet => Action::Get,
        Method::ResourcesRead | Method::Subscribe | Method::Unsubscribe => Action::Read,
        Method::Complete => Action::Complete,
        _ => return Ok(route.judge.permit_task()),
    };
    let object = target.object.as_ref().ok_or_else(|| unknown(call))?;
    let (caller, client, now) = (&call.caller, &call.client, clock::unix_seconds());
    let asked = Asked { caller, client, action, object, params: &call.params, now };
    route.judge.permit(&asked).map_err(|refusal| match refusal {
        Refusal::Unseen => unknown(call),
        Refusal::Denied => Fault::Denied,
    })
}

/// A legacy server's task is the session's that was given it; a modern server's has an id that is
/// sealed for its caller. Neither server can tell whose a task is.
fn find_task(gate: &Gate, route: &Route, call: &Call, id: &str) -> Option<Arc<Target>> {
    let target = |upstream, own: &str| {
        let (own, mirrors) = (own.to_owned(), Mirrors::default());
        Some(Arc::new(Target { upstream, own, mirrors, task: false, object: None, definition: 0 }))
    };
    let Some(session) = &call.session else {
        let (path, states) = (&route.settings.path, &gate.lot.states);
        let (upstream, own) = states.open_theirs(id, path, &call.caller)?;
        return target(Arc::clone(&route.member(&upstream)?.upstream), &own);
    };
    // Relayed on a route of one server only.
    let member = route.members.first().filter(|_| !route.is_merged())?;
    if session.has_task(id) { target(Arc::clone(&member.upstream), id) } else { None }
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

fn renamed(call: &Call, target: &Target) -> Raw {
    let own = Raw::encode(&target.own);
    let set = |key, shown: &str| {
        if shown == target.own {
            return call.params.clone();
        }
        splice::edit(&call.params, &[(key, Some(own.bytes()))])
    };
    match &call.named {
        Named::Nothing => call.params.clone(),
        Named::Name(shown) => set("name", shown),
        Named::Uri(shown) => set("uri", shown),
        Named::Task(shown) => set("taskId", shown),
        Named::PromptReference(_) => {
            splice::edit_within(&call.params, "ref", &[("name", Some(own.bytes()))])
        }
        Named::TemplateReference(_) => {
            splice::edit_within(&call.params, "ref", &[("uri", Some(own.bytes()))])
        }
    }
}

/// Headers that mirror arguments must say what the body says (2026-07-28); a legacy client sends
/// none.
fn check_mirrored(target: &Target, call: &Call) -> Result<Vec<(String, String)>, Fault> {
    // What is not recognised is forwarded as it is (2026-07-28, transports: intermediaries).
    let unknown = |known: &[Mirrored]| {
        let headers = call.mirrored.clone().unwrap_or_default().into_iter();
        headers
            .filter(|(name, _)| known.iter().all(|value| value.header != *name))
            .collect::<Vec<_>>()
    };
    if target.mirrors.is_empty() || call.method != Method::ToolsCall {
        return Ok(unknown(&[]));
    }
    let arguments = splice::member(&call.params, "arguments").filter(Raw::is_object);
    let values = target.mirrors.values(&arguments.unwrap_or_else(Raw::object));
    if let Some(headers) = call.mirrored.as_ref().filter(|_| call.client.era() == Era::Modern) {
        for value in &values {
            let header = headers.iter().find(|(name, _)| *name == value.header);
            if !value.agrees(header.map(|(_, text)| text.as_str())) {
                let text = format!("header `{}` does not say what the argument says", value.header);
                return Err(Fault::Header(text));
            }
        }
    }
    let mut mirrored = unknown(&values);
    mirrored.extend(values.into_iter().filter_map(|value| Some((value.header, value.text?))));
    Ok(mirrored)
}
