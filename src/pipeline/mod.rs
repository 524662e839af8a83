//! The way of a call, both ways on one screen: read this first.
//!
//! A request of either era becomes a [`Call`], and [`run`] leads it through the stages of
//! [`request`] to the upstream that it is about. What comes back goes through the links of
//! [`response`], read event by event by whoever serves the client.

mod bridge;
mod call;
mod context;
mod event;
mod fault;
mod local;
mod reply;
mod request;
mod response;
mod tasks;

use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::{
    audit::Full, call::spans::Stage, snapshot::RouteSnapshot, telemetry::Counter,
    upstream::Clearance,
};

pub use self::{
    call::Call,
    event::ClientEvent,
    fault::Fault,
    local::{
        handshake::{initialize, negotiate},
        subscriptions::{ListenEvent, ListenStream},
    },
    reply::Reply,
    response::ResponseStream,
};
use self::{
    context::Context,
    request::{
        audit, cache, canary, guard, limit,
        resolve::{self, Permitted},
        resume::{self, Resumed},
        settle::settled,
    },
};

/// The way of a call, from which each leaves with its record written, or with a [`ResponseStream`]
/// that will write it.
///
/// `at` is the one snapshot that the call is served with: its listener has loaded it.
///
/// Boxed, and its type erased: the way is large and deep, and whoever serves a call is neither.
///
/// # Errors
/// What the client is told in place of an answer.
pub fn run(at: RouteSnapshot, call: Call) -> BoxFuture<'static, Result<Reply, Fault>> {
    Box::pin(recorded(Context::new(at, call)))
}

async fn recorded(mut context: Arc<Context>) -> Result<Reply, Fault> {
    audit::trace(&mut context);
    let Some(entry) = audit::begin(&context)? else {
        return answer(context).await;
    };
    Arc::make_mut(&mut context).entry = Some(Arc::clone(&entry));
    let reply = answer(context).await;
    let recorded = match &reply {
        Ok(Reply::Answer(body)) => entry.answered(body),
        Ok(Reply::Listen(_)) => entry.opened(),
        // The response records its own end.
        Ok(Reply::Response(_)) => Ok(()),
        Err(fault) => {
            entry.failed(fault.reason());
            Ok(())
        }
    };
    recorded.map_err(|Full| Fault::UnrecordedAnswer)?;
    reply
}

async fn answer(mut context: Arc<Context>) -> Result<Reply, Fault> {
    let call = &context.call;
    if !call.method.exists_in(call.client.era()) && !resolve::relays_tasks(&context) {
        return Err(Fault::UnknownMethod(call.method.name().into()));
    }
    match local::answer(&mut context).await? {
        Some(reply) => Ok(reply),
        // Boxed: large, and what is local would wait in it.
        None => Box::pin(forward(context)).await,
    }
}

/// Forwards a call to the upstream that it is about.
async fn forward(mut context: Arc<Context>) -> Result<Reply, Fault> {
    if context.call.streams_full {
        context.gate.counters.add(Counter::RefusedStreams);
        // Before it is sent: nothing was done, and it may be tried again.
        let text = "too many streams are open in this session (`streams_max`)";
        return Err(Fault::Limit(text.to_owned()));
    }
    let mut bound = None;
    if let Some(state) = resume::state_of(&context.call) {
        match Box::pin(resume::resume(&mut context, &state)).await? {
            Resumed::Call(place) => bound = place,
            Resumed::Answer(body) => return Ok(Reply::Answer(body)),
            Resumed::Parked(unparked) => {
                return Ok(Reply::Response(ResponseStream::resume(context, *unparked)));
            }
        }
    }
    let stage = context.stage(Stage::Policy);
    let Permitted { mut request, permit } = settled(&mut context).await?;
    drop(stage);
    // The name may lead to another server by now, which is not to see what is not its own.
    if bound.is_some_and(|place| !canary::leads_to(&context, &request, &place)) {
        limit::here(&context).await?;
        return Err(resume::used(&context));
    }
    let stage = context.stage(Stage::Arguments);
    guard::check(&context, &mut request).await?;
    drop(stage);
    context.record_arguments(&request);
    let stage = context.stage(Stage::RouteLimits);
    let admission = limit::route(&context, &request).await?;
    drop(stage);
    let clearance = Clearance::new(permit, admission);
    let found = cache::look(&context, &request);
    let mut response = ResponseStream::new(context, request, clearance, found)?;
    response.send().await?;
    Ok(Reply::Response(response))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of what a call holds while it waits, in bytes.
    fn size<A, F: Future>(_: impl Fn(A) -> F) -> usize {
        size_of::<F>()
    }

    /// Each waiting call has its future, its response and what its transport keeps; what is moved
    /// about is the response until it is boxed. Rare states are boxed, so that these stay small.
    #[test]
    fn what_a_call_holds_while_it_waits_is_bounded() {
        let way_in = size(recorded);
        let way_back = size::<&'static mut ResponseStream, _>(ResponseStream::next);
        let response = size_of::<response::chain::ResponseChain>();
        assert!(way_in <= 4_096, "the way in holds {way_in} bytes");
        assert!(way_back <= 2_048, "the way back holds {way_back} bytes");
        assert!(response <= 2_048, "a response has {response} bytes");
        assert!(size_of::<ResponseStream>() <= 64);
    }
}
