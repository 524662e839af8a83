//! Getting to know each other: `initialize`, `server/discover`.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;

use crate::{
    call::{Caller, Client},
    catalog::{Offer, supported_versions},
    mcp::{
        compat,
        message::Body,
        raw::Raw,
        splice,
        version::{Era, Version},
    },
    pipeline::{context::Context, fault::Fault, request::limit},
    session::Session,
    snapshot::RouteSnapshot,
};

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
///
/// # Errors
/// Where they are no params of `initialize`.
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
    limit::opening(&at, caller, &client).await?;
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
    Ok((session, id, Body::Result(result.into())))
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
    Body::Result(splice::edit(&result, &[("_meta", Some(meta.as_bytes()))]).into())
}

/// Adds what the upstreams say about their use, where they say anything.
fn with_instructions(result: &Raw, view: &Offer) -> Raw {
    let text = view.instructions().map(|text| Raw::encode(&text));
    match text {
        Some(text) => splice::edit(result, &[("instructions", Some(text.bytes()))]),
        None => result.clone(),
    }
}
