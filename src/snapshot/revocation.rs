//! Whether a caller who was let in may still be here, for what outlives one request.

use std::time::Duration;

use crate::{
    call::{Caller, RoutePath, clock},
    telemetry::Counter,
};

use super::Gate;

/// A proof that ends at a second has ended this much after it.
const ROUNDED: Duration = Duration::from_millis(50);

impl Gate {
    /// Waits until this caller may no longer use the route: its key was taken away, its token or
    /// its certificate has expired, or the route takes its kind no more. Never, where nobody had to
    /// prove who they are. Safe to drop.
    pub async fn wait_for_revocation(&self, route: &RoutePath, caller: &Caller) {
        let Caller::Known(known) = caller else { return std::future::pending().await };
        let mut applied = self.applied.subscribe();
        while self.is_still_allowed(route, caller) {
            let ends = known.expires.map(|until| {
                Duration::from_secs(until.saturating_sub(clock::unix_seconds())) + ROUNDED
            });
            let ended = async {
                match ends {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // Both say only that it is time to look again.
                () = ended => (),
                changed = applied.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Notes that a stream ends for that reason.
    pub fn log_revocation(&self, route: &RoutePath, caller: &Caller) {
        self.counters.add(Counter::StreamsRevoked);
        tracing::info!(
            route = route.as_str(),
            caller = caller.name(),
            "a caller may no longer be here: its stream ends"
        );
    }

    /// Whether a caller who was let in may still be here.
    pub fn is_still_allowed(&self, route: &RoutePath, caller: &Caller) -> bool {
        let Caller::Known(known) = caller else { return true };
        let snapshot = self.snapshot();
        // What becomes of a route that is gone is not for its door to say.
        snapshot.routes.get(route).is_none_or(|route| route.auth.still_valid(known))
    }
}
