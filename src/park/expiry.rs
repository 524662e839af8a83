//! Ends what waits longer than it may.

use std::time::Duration;

use tokio::{sync::Notify, time::Instant};

/// Calls `expired` for each entry whose deadline has passed, without end. `changed` is told of new
/// deadlines.
pub(super) async fn expiring(
    changed: &Notify,
    first: impl Fn() -> Option<(Instant, u128)>,
    expired: impl Fn(u128),
) {
    loop {
        let changed = changed.notified();
        let Some((until, id)) = first() else {
            changed.await;
            continue;
        };
        if until <= Instant::now() {
            expired(id);
            continue;
        }
        tokio::select! {
            // Both hold nothing: the table is looked at again.
            () = tokio::time::sleep_until(until) => (),
            () = changed => (),
        }
    }
}

/// How long a state is good for, rounded up: the table ends a call by its own clock.
pub fn seconds(patience: Duration) -> u64 {
    patience.as_secs().saturating_add(1)
}
