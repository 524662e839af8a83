//! `logging/setLevel`.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use serde::Deserialize;
use tokio::sync::oneshot;

use crate::{
    mcp::{
        level::{self, LEVELS},
        message::Body,
        raw::Raw,
    },
    pipeline::{context::Context, fault::Fault},
    upstream::Upstream,
};

/// How long a client waits for servers of its own to take its log level.
const LEVEL_PATIENCE: Duration = Duration::from_millis(300);

/// `logging/setLevel`: kept in the session, and told to all upstreams at once. Where the session
/// has a connection of its own, what the client sends next must not overtake it there: the answer
/// waits for those, a moment at most, and for no other.
///
/// # Errors
/// Where there is no such level, or no session.
pub async fn set_level(context: &Context) -> Result<Body, Fault> {
    let call = &context.call;
    #[derive(Deserialize)]
    struct Params {
        level: String,
    }
    let params: Params =
        call.params.text().read().map_err(|error| Fault::Invalid(error.to_string()))?;
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
        // The last one of two levels set in a row counts.
        let Some(level) = session.log_level() else { return };
        let tell = |upstream: &'_ Arc<Upstream>| {
            let upstream = Arc::clone(upstream);
            let level = level.clone();
            let key = session.key;
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
    Ok(Body::Result(Raw::object().into()))
}
