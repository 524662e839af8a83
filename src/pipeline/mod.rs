//! The way of a call: read this first.
//!
//! A request of either era becomes a [`Call`], finds what it is about, and is sent; what comes back
//! is a [`Reply`]. Between `resolve` and `send` stands what judges a call on its way: `clean` (what
//! it says), `admit` (how much), `cached`, which has the answer already, and `tries` (how well it
//! holds).

mod admit;
mod asked;
mod audited;
mod back;
mod cached;
mod carried;
mod clean;
mod context;
mod fault;
mod fit;
mod heard;
mod listen;
mod migrate;
mod notices;
mod open;
mod pages;
mod puts;
mod polling;
mod resolve;
mod resume;
mod rounds;
mod sealed;
mod sending;
mod shadow;
mod shown;
mod tasks;
mod tries;

use std::{net::IpAddr, sync::Arc};

use tokio::sync::oneshot;

use crate::{
    cache::Lookup,
    call::{Caller, Client, ListKind, TraceId, UpstreamRequest},
    mcp::{
        digest::{RequestDigest, request_digest},
        id::Id,
        message::Body,
        meta::Meta,
        method::Method,
        raw::Raw,
        splice,
        target::TargetRef,
        version::Era,
    },
    park::state::ReplicaRef,
    policy::Permit,
    session::Session,
    snapshot::RouteSnapshot,
    telemetry::Counter,
    upstream::{Clearance, Upstream},
};

pub use self::{
    back::{Back, Out},
    fault::Fault,
    listen::{Heard, Listening},
    open::{initialize, negotiate},
};
use self::{cached::Shared, context::Context, resume::Resumed};

/// Members of a request that carries on with one that a server has begun to answer (2026-07-28).
const ANSWERS: [&str; 2] = ["inputResponses", "requestState"];

/// A client's request, decoded: nothing here depends on how it came.
#[derive(Debug, Clone)]
pub struct Call {
    pub id: Id,
    pub method: Method,
    pub params: Raw,
    pub named: TargetRef,
    pub meta: Meta,
    pub caller: Caller,
    pub client: Arc<Client>,
    pub session: Option<Arc<Session>>,
    /// The client reads a stream while it waits, in which it can be asked.
    pub streams: bool,
    /// It would need a stream, and its session has too many open.
    pub streams_full: bool,
    /// Decoded `Mcp-Param-*` headers by their names in lower case; none where no header had to be
    /// sent.
    pub mirrored: Option<Vec<(String, String)>>,
    /// The address that the request came from, or that a trusted proxy says it did; none where its
    /// client has none.
    pub peer: Option<IpAddr>,
    /// The trace that its headers say it is part of.
    pub trace: Option<TraceId>,
    /// Headers that some upstream is to have.
    pub forwarded: Option<Arc<http::HeaderMap>>,
    /// Who knows the state that came with it.
    pub place: Option<ReplicaRef>,
}

/// What a call leads to.
#[derive(Debug)]
pub enum Reply {
    /// The gate's own answer.
    Answer(Body),
    /// An upstream is at work.
    Back(Box<Back>),
    /// A stream of announcements (`subscriptions/listen`).
    Listen(Box<Listening>),
}

/// The way of a call, from which each leaves with its record written, or with a [`Back`] that will
/// write it.
///
/// `at` is the one snapshot that the call is served with: its listener has loaded it.
pub async fn run(at: RouteSnapshot, call: Call) -> Result<Reply, Fault> {
    let mut context = Context::new(at, call);
    let Some(entry) = audited::begin(&context)? else {
        return way(context).await;
    };
    Arc::make_mut(&mut context).entry = Some(Arc::clone(&entry));
    audited::ended(&entry, way(context).await)
}

#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "all other methods name a target, or are refused"
)]
async fn way(context: Arc<Context>) -> Result<Reply, Fault> {
    let call = &context.call;
    if !call.method.exists_in(call.client.era()) && !resolve::relays_tasks(&context) {
        return Err(Fault::UnknownMethod(call.method.name().into()));
    }
    // What is sent on is judged once its target is known, by all limits at once.
    if is_answered_here(call) {
        admit::here(&context).await?;
    }
    if let Some(kind) = ListKind::of(call.method) {
        return list(context, kind).await;
    }
    match call.method {
        Method::Ping => Ok(Reply::Answer(Body::Result(Raw::object()))),
        Method::Discover => Ok(Reply::Answer(open::discover(&context).await)),
        Method::SetLevel => open::set_level(&context).await,
        // Boxed: rare, and large.
        Method::Listen => Box::pin(listen::open(context)).await,
        Method::Subscribe | Method::Unsubscribe => Box::pin(subscribe(context)).await,
        Method::TasksGet | Method::TasksUpdate | Method::TasksCancel
            if call.client.era() == Era::Modern =>
        {
            match tasks::own(&context).await? {
                Some(reply) => Ok(reply),
                None => Box::pin(send(context)).await,
            }
        }
        _ => Box::pin(send(context)).await,
    }
}

/// Whether no upstream is asked, whatever it is about.
fn is_answered_here(call: &Call) -> bool {
    ListKind::of(call.method).is_some()
        || matches!(
            call.method,
            Method::Ping | Method::Discover | Method::SetLevel | Method::Listen
        )
}

/// Finds what a call is about, and sends it there.
async fn send(mut context: Arc<Context>) -> Result<Reply, Fault> {
    if context.call.streams_full {
        context.gate.counters.add(Counter::RefusedStreams);
        // Before it is sent: nothing was done, and it may be tried again.
        let text = "too many streams are open in this session (`streams_max`)";
        return Err(Fault::Limit(text.to_owned()));
    }
    if let Some(reply) = clean::linked(&context).await? {
        return Ok(reply);
    }
    let mut bound = None;
    if let Some(state) = resume::state_of(&context.call) {
        match Box::pin(resume::resume(&mut context, &state)).await? {
            Resumed::Call(place) => bound = place,
            Resumed::Reply(reply) => return Ok(reply),
        }
    }
    let (mut resolved, permit) = resolved(&mut context).await?;
    // The name may lead to another server by now, which is not to see what is not its own.
    if bound.is_some_and(|place| !migrate::leads_to(&context, &resolved, &place)) {
        admit::here(&context).await?;
        return Err(resume::used(&context));
    }
    clean::request(&context, &mut resolved).await?;
    context.record_arguments(&resolved);
    let admission = admit::route(&context, &resolved).await?;
    let clearance = Clearance::new(permit, admission);
    match cached::look(&context, &resolved) {
        Lookup::Bypass => (),
        look @ (Lookup::Hit(_) | Lookup::Stale(..) | Lookup::Join(..)) => {
            return cached::answer(context, look, resolved, clearance).await;
        }
    }
    let back = Back::send(context, resolved, clearance, &mut Shared::default()).await?;
    Ok(Reply::Back(Box::new(back)))
}

/// What a call is about. One that is about nothing counts for its route, too. A call that waits
/// here goes on with the configuration of then.
async fn resolved(
    context: &mut Arc<Context>,
) -> Result<(resolve::Resolved, Permit<Upstream>), Fault> {
    if !context.route.is_recorded() {
        Arc::make_mut(context).at.record_names().await;
    }
    let resolved = permitted(context);
    let unknown = matches!(resolved, Err(Fault::Unknown { .. } | Fault::Unlisted(_)));
    let resolved = match resolved {
        Err(_) if unknown && context.gate.is_settling(context.limits()) => {
            context.known_early(context.client()).await;
            *context = context.renewed().await;
            permitted(context)
        }
        // The configuration changed just now.
        Ok((resolved, _)) if resolved.target.upstream.is_retired() => {
            *context = context.renewed().await;
            permitted(context)
        }
        resolved => resolved,
    };
    match &resolved {
        Ok((resolved, _)) => context.record_target(resolved),
        Err(_) => admit::here(context).await?,
    }
    resolved
}

/// Finds what a call is about, has the route's policies permit it, and makes of it what is sent.
fn permitted(context: &Context) -> Result<(resolve::Resolved, Permit<Upstream>), Fault> {
    let found = resolve::find(context)?;
    // Before all else: what the caller may not know of is not to be told by any other fault.
    let permit = resolve::permit(context, &found)?;
    Ok((resolve::prepared(context, found)?, permit))
}

/// A list is a copy of ready bytes.
async fn list(mut context: Arc<Context>, kind: ListKind) -> Result<Reply, Fault> {
    #[derive(serde::Deserialize)]
    struct Params {
        cursor: Option<String>,
    }
    let params = context.call.params.read::<Params>();
    let params = params.map_err(|error| Fault::Invalid(error.to_string()))?;
    // Some servers list more for those who can be asked.
    let can_be_asked = context.client().can_be_asked();
    if can_be_asked || context.gate.is_settling(context.limits()) {
        let waited = if can_be_asked {
            context.asked_known().await
        } else {
            context.settled_early(Some(kind)).await
        };
        if waited {
            context = context.renewed().await;
        }
    }
    if !context.route.is_recorded() {
        Arc::make_mut(&mut context).at.record_names().await;
    }
    let view = context.route.seen_by(context.caller(), context.client()).await;
    let page = view.page(kind, params.cursor.as_deref(), context.client().version);
    page.map(|page| Reply::Answer(Body::Result(page)))
        .map_err(|error| Fault::Invalid(error.message))
}

/// `resources/subscribe` and `unsubscribe` (legacy). Once begun it is brought to its end, so that
/// session and upstream agree also where the client goes away meanwhile.
async fn subscribe(mut context: Arc<Context>) -> Result<Reply, Fault> {
    let (resolved, permit) = resolved(&mut context).await?;
    let clearance = Clearance::new(permit, admit::route(&context, &resolved).await?);
    let (answer_in, answer) = oneshot::channel();
    let subscribing = Arc::clone(&context);
    context.gate.tasks.finish(async move {
        // The client may be gone.
        answer_in.send(subscribed(&subscribing, &resolved, &clearance).await).ok();
    });
    // The task is dropped unfinished only where the gate itself is stopped.
    answer.await.unwrap_or(Err(Fault::Cancelled)).map(Reply::Answer)
}

async fn subscribed(
    context: &Context,
    resolved: &resolve::Resolved,
    clearance: &Clearance,
) -> Result<Body, Fault> {
    let call = &context.call;
    let (Some(session), TargetRef::Uri(uri)) = (&call.session, &call.named) else {
        return Err(Fault::Invalid("needs a session and a URI".to_owned()));
    };
    let wants = call.method == Method::Subscribe;
    if session.is_subscribed(uri) == wants {
        return Ok(Body::Result(Raw::object()));
    }
    let target = &resolved.target;
    let done = clearance.subscribe(&resolved.ask(call), &target.own).await;
    let failed = |error| resolve::failed(context, target, target.upstream.failed(error));
    let body = done.map_err(failed)?;
    if resolve::is_missing(context, target, &body) {
        return Err(resolve::unlisted(context));
    }
    match (&body, wants) {
        (Body::Error(_), _) => (),
        (Body::Result(_), true) => session.subscribe(uri),
        (Body::Result(_), false) => session.unsubscribe(uri),
    }
    Ok(fit::fit_body(body, call, Era::Legacy))
}

impl Call {
    /// What answers to its questions are bound to.
    fn digest(&self) -> RequestDigest {
        request_digest(self.method, &self.params)
    }
}

impl resolve::Resolved {
    /// Whether a server that has done it once may be asked to do it again: it changes nothing by
    /// itself, or by its tool's own word. Not with answers of the client's: they may be taken once.
    fn is_repeatable(&self, method: Method) -> bool {
        let hinted = method == Method::ToolsCall && self.target.hints.is_safe();
        let may = method.is_repeatable() || hinted;
        let answers = || ANSWERS.iter().any(|at| splice::rare_member(&self.params, at).is_some());
        may && !self.as_task && !self.wishes_task && !answers()
    }

    /// The request as the upstream gets it.
    fn ask(&self, call: &Call) -> UpstreamRequest {
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
            replica: self.target.replica.or(call.place.as_ref().and_then(|place| place.replica)),
        }
    }
}
