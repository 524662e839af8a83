//! Getting to know each other: `initialize`, `server/discover`, `logging/setLevel`.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::oneshot;

use crate::{
    call::{Caller, Client},
    catalog::{Offer, supported_versions},
    mcp::{
        compat,
        level::{self, LEVELS},
        message::Body,
        raw::Raw,
        splice,
        version::{Era, Version},
    },
    session::Session,
    snapshot::RouteSnapshot,
    upstream::Upstream,
};

use super::{Context, Fault, Reply, admit};

/// How long a client waits for servers of its own to take its log level.
const LEVEL_PATIENCE: Duration = Duration::from_millis(300);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Initialize {
    protocol_version: String,
    #[serde(default = "Raw::object")]
    capabilities: Raw,
    #[serde(default = "Raw::object")]
    client_info: Raw,
}

/// The client that params of `initialize` describe, at the version that both sides then speak: the
/// one asked for where it is known, else our latest (lifecycle: version negotiation). What it
/// declares beyond that version it is not asked.
pub fn negotiate(params: &Raw) -> Result<Client, Fault> {
    let asked: Initialize = params.read().map_err(|error| Fault::Invalid(error.to_string()))?;
    let known =
        Version::find(&asked.protocol_version).filter(|version| version.era() == Era::Legacy);
    let version = known.unwrap_or(Version::LEGACY_LATEST);
    let capabilities = compat::client_capabilities(version, &asked.capabilities);
    Ok(Client { version, capabilities, info: asked.client_info })
}

/// Opens a session for a legacy client: its id, and the answer.
///
/// # Errors
/// Where a limit of the route has not enough left.
pub async fn initialize(
    mut at: RouteSnapshot,
    caller: &Caller,
    client: Client,
) -> Result<(Arc<Session>, String, Body), Fault> {
    admit::opening(&at, caller, &client).await?;
    if client.can_be_asked() {
        // Its first list comes soon.
        at.route.members.iter().for_each(|member| member.upstream.expect_asked());
    }
    if at.settled_early(None).await {
        at.renew();
    }
    let version = client.version;
    let sessions = &at.gate.sessions;
    let opened = sessions.open(&at.route.settings.path, caller, client, at.limits());
    let (session, id, evicted) = opened;
    for evicted in evicted {
        at.gate.forget_session(evicted);
    }
    let view = at.route.most_seen_by(caller).await;
    let result = json!({
        "protocolVersion": version.as_str(),
        "capabilities": view.capabilities(version),
        "serverInfo": compat::info(version, &view.server_info()),
    });
    let tasks = view.tasks(version);
    let edits = [("tasks", tasks.as_ref().map(|tasks| &tasks.bytes()[..]))];
    let result = splice::edit_within(&Raw::encode(&result), "capabilities", &edits);
    let result = with_instructions(&result, &view);
    Ok((session, id, Body::Result(result)))
}

/// `server/discover`: what the upstreams behind the route have together.
pub async fn discover(context: &Context) -> Body {
    let mut at = context.at.clone();
    if at.settled_early(None).await {
        at.renew();
    }
    let view = at.route.most_seen_by(context.caller()).await;
    let (ttl_ms, scope) = view.cache_hints();
    let meta = view.server_meta();
    let result = json!({
        "resultType": "complete",
        "supportedVersions": supported_versions(),
        "capabilities": view.capabilities(Version::MODERN),
        "ttlMs": ttl_ms,
        "cacheScope": scope,
    });
    let result = with_instructions(&Raw::encode(&result), &view);
    Body::Result(splice::edit(&result, &[("_meta", Some(meta.as_bytes()))]))
}

/// What the upstreams say about their use, where they say anything.
fn with_instructions(result: &Raw, view: &Offer) -> Raw {
    let text = view.instructions().map(|text| Raw::encode(&text));
    match text {
        Some(text) => splice::edit(result, &[("instructions", Some(text.bytes()))]),
        None => result.clone(),
    }
}

/// `logging/setLevel`: kept in the session, and told to all upstreams at once. Where the session
/// has a connection of its own, what the client sends next must not overtake it there: the answer
/// waits for those, a moment at most, and for no other.
pub async fn set_level(context: &Context) -> Result<Reply, Fault> {
    let call = &context.call;
    #[derive(Deserialize)]
    struct Params {
        level: String,
    }
    let params: Params = call.params.read().map_err(|error| Fault::Invalid(error.to_string()))?;
    if level::rank(&params.level).is_none() {
        return Err(Fault::Invalid(format!("`level` must be one of {}", LEVELS.join(", "))));
    }
    let session = call.session.as_ref().ok_or(Fault::Invalid("needs a session".to_owned()))?;
    session.set_log_level(&params.level);
    let session = Arc::clone(session);
    let members = context.snapshot.all_behind(&context.route);
    let (own, shared): (Vec<_>, Vec<_>) =
        members.into_iter().partition(|upstream| upstream.has_own(session.key));
    let (told_in, told) = oneshot::channel();
    context.gate.tasks.spawn("session: set level", async move {
        // Of two levels set in a row the last one counts.
        let Some(level) = session.log_level() else { return };
        let tell = |upstream: &'_ Arc<Upstream>| {
            let (upstream, level, key) = (Arc::clone(upstream), level.clone(), session.key);
            async move { upstream.set_level(key, &level).await }
        };
        let at_own = async {
            join_all(own.iter().map(tell)).await;
            // The client waits no more where this fails.
            told_in.send(()).ok();
        };
        tokio::join!(at_own, join_all(shared.iter().map(tell)));
    });
    tokio::time::timeout(LEVEL_PATIENCE, told).await.ok();
    Ok(Reply::Answer(Body::Result(Raw::object())))
}
