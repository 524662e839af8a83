//! `subscriptions/listen` (2026-07-28): announcements of a route, filtered as the client asked.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::broadcast::{self, error::RecvError};

use crate::{
    call::{Action, Caller, RoutePath, UpstreamName, clock},
    catalog::Target,
    mcp::{
        document::CallArguments,
        id::Id,
        message::{self, Body},
        meta::SUBSCRIPTION_ID,
        method::Method,
        raw::Raw,
        splice,
    },
    pipeline::{
        context::Context,
        fault::Fault,
        request::{limit, policy},
        tasks::gateway,
    },
    policy::{AccessRequest, Permit},
    snapshot::{Gate, Push, Subscriber},
    telemetry::Counter,
    upstream::Upstream,
};

/// The changes that a client can ask to hear of.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Filter {
    tools_list_changed: bool,
    prompts_list_changed: bool,
    resources_list_changed: bool,
    resource_subscriptions: Vec<String>,
    /// Nothing is announced of tasks: their clients look at them.
    task_ids: Vec<String>,
}

#[derive(Deserialize)]
struct Params {
    notifications: Filter,
}

/// An open subscription; dropped, what was subscribed to upstream is given back.
pub struct ListenStream {
    gate: Arc<Gate>,
    id: Id,
    route: RoutePath,
    caller: Caller,
    filter: Filter,
    ear: Subscriber,
    pushes: broadcast::Receiver<Push>,
    /// An announcement, while it is found out whether it is for the client.
    push: Option<Push>,
    acknowledgement: Option<Bytes>,
    /// Methods of announcements that were lost because the client was slow: all lists it asked for
    /// are announced.
    missed: Vec<Method>,
    wanted: Wanted,
}

/// An event that goes to a listening client.
#[derive(Debug)]
pub enum ListenEvent {
    Message(Bytes),
    /// The gate is stopping: the last message.
    End(Body),
}

/// Resources subscribed to, by the URIs the client knows: each with the upstream's name, since a
/// reload may put another in its place, and the upstream's own URI.
struct Wanted {
    gate: Arc<Gate>,
    resources: BTreeMap<String, (UpstreamName, String)>,
}

/// Opens a subscription. It is acknowledged once everything upstream is really open.
///
/// # Errors
/// Where it asks for too much, or for what the client has not declared.
pub async fn open(mut context: Arc<Context>) -> Result<ListenStream, Fault> {
    let params = context.call.params.text().read::<Params>();
    let params = params.map_err(|error| Fault::Invalid(error.to_string()))?;
    if !context.route.is_recorded() {
        Arc::make_mut(&mut context).at.record_names().await;
    }
    let gate = &context.gate;
    let route = &context.route;
    let call = &context.call;
    let mut filter = params.notifications;
    if !filter.task_ids.is_empty() {
        gateway::check(&call.client)?;
    }
    let max = context.limits().subscriptions_max;
    if max < filter.resource_subscriptions.len() {
        gate.counters.add(Counter::RefusedSubscriptions);
        let text = format!("a subscription may name {max} resources (`subscriptions_max`)");
        return Err(Fault::Limit(text));
    }
    let pushes = route.pushes.subscribe();
    let ear = Subscriber::new(route, call.caller.clone(), Arc::clone(&call.client)).await;
    let mut wanted = Wanted { gate: Arc::clone(gate), resources: BTreeMap::new() };
    for uri in std::mem::take(&mut filter.resource_subscriptions) {
        let found = route.find_uri(&uri).filter(|target| context.can_read(target));
        let Some(target) = found else { continue };
        if !may_be_said(&context, &target, &uri) {
            continue;
        }
        // A resource that may not be read is as one that is not there.
        let Some(permit) = permit(&context, &target) else { continue };
        // A subscription that a limit refuses is not honoured; the client may ask for it later.
        let Ok(clearance) = limit::subscribed(&context, &target, permit).await else { continue };
        match clearance.want(&target.own).await {
            Ok(()) => {
                filter.resource_subscriptions.push(uri.clone());
                let own = (target.upstream.name().clone(), target.own.clone());
                wanted.resources.insert(uri, own);
            }
            Err(error) => tracing::debug!(%uri, %error, "a subscription was not taken"),
        }
    }
    let honoured = json!({ "notifications": filter.honoured() });
    let params = with_id(&Raw::encode(&honoured), &call.id);
    let text = message::notification(Method::Acknowledged.name(), &params);
    Ok(ListenStream {
        gate: Arc::clone(gate),
        id: call.id.clone(),
        route: route.settings.path.clone(),
        caller: call.caller.clone(),
        filter,
        ear,
        pushes,
        push: None,
        acknowledgement: Some(text.bytes().clone()),
        missed: Vec::new(),
        wanted,
    })
}

/// Whether a server may hear of a URI, which is the client's own words.
fn may_be_said(context: &Context, target: &Target, uri: &str) -> bool {
    let guard = context.snapshot.guards.of(context.path(), target.upstream.name(), None);
    let params = Raw::encode(&json!({ "uri": uri }));
    guard.admit(&params, &CallArguments::none(), None, &context.gate.schemas).is_ok()
}

fn permit(context: &Context, target: &Target) -> Option<Permit<Upstream>> {
    if !policy::can_be_heard(context, target) {
        return None;
    }
    let call = &context.call;
    let caller = &call.caller;
    let client = &call.client;
    let now = clock::unix_seconds();
    let action = Action::Read;
    let arguments = &CallArguments::none();
    let asked = |object| AccessRequest { caller, client, action, object, arguments, now };
    context
        .route
        .judge
        .permit(&target.upstream, target.judged(context.route.judge.resources()), asked, |_| ())
        .ok()
}

impl ListenStream {
    /// Returns what the client hears next. Safe to drop.
    pub async fn next(&mut self) -> ListenEvent {
        if let Some(text) = self.acknowledgement.take() {
            return ListenEvent::Message(text);
        }
        loop {
            if let Some(method) = self.missed.pop() {
                return self.message(method, &Raw::object());
            }
            let push = tokio::select! {
                // A receiver keeps its place when dropped.
                push = next_push(&mut self.push, &mut self.pushes) => push,
                () = self.gate.closing() => return self.end(),
                () = self.gate.wait_for_revocation(&self.route, &self.caller) => {
                    self.gate.log_revocation(&self.route, &self.caller);
                    return self.end();
                }
            };
            let is_heard = match &push {
                Ok(push) => self.ear.wants(&self.gate, push).await,
                Err(_) => true,
            };
            self.push = None;
            match push {
                Ok(_) if !is_heard => (),
                Ok(Push::Changed { method, .. }) if self.filter.wants(method) => {
                    return self.message(method, &Raw::object());
                }
                Ok(Push::Updated { uri, params, .. })
                    if self.wanted.resources.contains_key(&uri) =>
                {
                    return self.message(Method::ResourceUpdated, &params);
                }
                Ok(_) => (),
                Err(RecvError::Lagged(_)) => self.missed = self.filter.lists(),
                Err(RecvError::Closed) => return self.end(),
            }
        }
    }

    pub fn id(&self) -> &Id {
        &self.id
    }

    fn message(&self, method: Method, params: &Raw) -> ListenEvent {
        let text = message::notification(method.name(), &with_id(params, &self.id));
        ListenEvent::Message(text.bytes().clone())
    }

    fn end(&self) -> ListenEvent {
        let result = with_id(&Raw::trusted(r#"{"resultType":"complete"}"#), &self.id);
        ListenEvent::End(Body::Result(result.into()))
    }
}

impl std::fmt::Debug for ListenStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ListenStream")
            .field("id", &self.id)
            .field("filter", &self.filter)
            .finish_non_exhaustive()
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        let snapshot = self.gate.snapshot();
        for (upstream, own) in self.resources.values() {
            if let Some(member) = snapshot.member(upstream) {
                member.upstream.unwant(own);
            }
        }
    }
}

impl Filter {
    fn wants(&self, method: Method) -> bool {
        self.lists().contains(&method)
    }

    fn lists(&self) -> Vec<Method> {
        let asked = [
            (self.tools_list_changed, Method::ToolsListChanged),
            (self.prompts_list_changed, Method::PromptsListChanged),
            (self.resources_list_changed, Method::ResourcesListChanged),
        ];
        asked.into_iter().filter_map(|(asked, method)| asked.then_some(method)).collect()
    }

    /// Returns what is acknowledged: only what was asked for and will be sent.
    fn honoured(&self) -> serde_json::Value {
        let mut all = serde_json::Map::new();
        for (asked, key) in [
            (self.tools_list_changed, "toolsListChanged"),
            (self.prompts_list_changed, "promptsListChanged"),
            (self.resources_list_changed, "resourcesListChanged"),
        ] {
            if asked {
                all.insert(key.to_owned(), true.into());
            }
        }
        if !self.resource_subscriptions.is_empty() {
            all.insert(
                "resourceSubscriptions".to_owned(),
                self.resource_subscriptions.clone().into(),
            );
        }
        all.into()
    }
}

/// The push that was begun with, else the next; it is begun with then.
async fn next_push(
    begun: &mut Option<Push>,
    pushes: &mut broadcast::Receiver<Push>,
) -> Result<Push, RecvError> {
    if begun.is_none() {
        *begun = Some(pushes.recv().await?);
    }
    begun.clone().ok_or(RecvError::Closed)
}

fn with_id(params: &Raw, id: &Id) -> Raw {
    splice::edit_within(params, "_meta", &[(SUBSCRIPTION_ID, Some(id.raw().bytes()))])
}
