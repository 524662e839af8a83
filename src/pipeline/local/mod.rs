//! Requests that the gate answers itself, asking upstreams only where it must.

pub mod handshake;
pub mod linked;
pub mod lists;
pub mod log_level;
pub mod resource_subscriptions;
pub mod subscriptions;

use std::sync::Arc;

use crate::{
    call::ListKind,
    mcp::{message::Body, method::Method, raw::Raw, version::Era},
    pipeline::{
        context::Context,
        fault::Fault,
        reply::Reply,
        request::{limit, settle::settled},
        tasks::gateway,
    },
};

/// The gate's own answer to a call; none where it is to be forwarded.
///
/// # Errors
/// What the client is told in place of an answer.
#[allow(clippy::wildcard_enum_match_arm, reason = "all other methods are forwarded")]
pub async fn answer(context: &mut Arc<Context>) -> Result<Option<Reply>, Fault> {
    // A request that is sent on is judged once its target is known, by all limits at once.
    if context.call.is_answered_here() {
        limit::here(context).await?;
    }
    if let Some(kind) = ListKind::of(context.call.method) {
        let page = lists::list(Arc::clone(context), kind).await?;
        return Ok(Some(Reply::Answer(page)));
    }
    let body = match context.call.method {
        Method::Ping => Body::Result(Raw::object().into()),
        Method::Discover => handshake::discover(context).await,
        Method::SetLevel => log_level::set_level(context).await?,
        // Boxed: rare, and large.
        Method::Listen => {
            let listening = Box::pin(subscriptions::open(Arc::clone(context))).await?;
            return Ok(Some(Reply::Listen(Box::new(listening))));
        }
        Method::Subscribe | Method::Unsubscribe => {
            let permitted = Box::pin(settled(context)).await?;
            let subscribed = resource_subscriptions::subscribe(Arc::clone(context), permitted);
            Box::pin(subscribed).await?
        }
        Method::TasksGet | Method::TasksUpdate | Method::TasksCancel
            if context.client().era() == Era::Modern =>
        {
            return Ok(gateway::own(context).await?.map(Reply::Answer));
        }
        Method::ResourcesRead => return Ok(linked::read(context).await?.map(Reply::Answer)),
        _ => return Ok(None),
    };
    Ok(Some(Reply::Answer(body)))
}
