//! `resources/subscribe` and `resources/unsubscribe` (legacy).

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::{
    mcp::{message::Body, method::Method, raw::Raw, target::TargetRef, version::Era},
    pipeline::{
        context::Context,
        fault::Fault,
        request::{
            guard, limit,
            resolve::{Permitted, Resolved},
            visibility,
        },
        response::translate,
    },
    upstream::Clearance,
};

/// `resources/subscribe` and `unsubscribe` (legacy). Once begun it is brought to its end, so that
/// session and upstream agree also where the client goes away meanwhile.
///
/// # Errors
/// Where a limit refuses it, there is no connection for it, or nothing of the kind is there.
pub async fn subscribe(context: Arc<Context>, permitted: Permitted) -> Result<Body, Fault> {
    let Permitted { mut request, permit } = permitted;
    guard::check(&context, &mut request).await?;
    let clearance = Clearance::new(permit, limit::route(&context, &request).await?);
    let (answer_in, answer) = oneshot::channel();
    let subscribing = Arc::clone(&context);
    context.gate.tasks.finish(async move {
        // The client may be gone.
        answer_in.send(subscribed(&subscribing, &request, &clearance).await).ok();
    });
    // The task is dropped unfinished only where the gate itself is stopped.
    answer.await.unwrap_or(Err(Fault::Cancelled))
}

async fn subscribed(
    context: &Context,
    request: &Resolved,
    clearance: &Clearance,
) -> Result<Body, Fault> {
    let call = &context.call;
    let (Some(session), TargetRef::Uri(uri)) = (&call.session, &call.named) else {
        return Err(Fault::Invalid("needs a session and a URI".to_owned()));
    };
    let wants = call.method == Method::Subscribe;
    if session.is_subscribed(uri) == wants {
        return Ok(Body::Result(Raw::object().into()));
    }
    let target = &request.target;
    let done = clearance.subscribe(&request.to_upstream(call), &target.own).await;
    let failed = |error| visibility::failed(context, target, target.upstream.failed(error));
    let body = done.map_err(failed)?;
    if visibility::is_missing(context, target, &body) {
        return Err(visibility::unlisted(context));
    }
    match (&body, wants) {
        (Body::Error(_), _) => (),
        (Body::Result(_), true) => session.subscribe(uri),
        (Body::Result(_), false) => session.unsubscribe(uri),
    }
    Ok(translate::translate(call, body, Era::Legacy))
}
