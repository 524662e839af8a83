//! How a replica's connections end: those that nobody uses, one session's, and all of them.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::{
    call::SessionKey,
    upstream::{
        connection::session::SessionConnection,
        exchange::error::SendError,
        replica::{CLOSING, Replica, phase::Phase},
    },
};

/// How often connections that nobody uses are looked for.
const SWEEP: Duration = Duration::from_secs(15);
/// How often it is looked whether the last call under way has ended.
const DRAIN_POLL: Duration = Duration::from_millis(20);

impl Replica {
    /// Ends a session's own connection. Returns what was subscribed to there.
    pub async fn close_session(&self, key: SessionKey) -> BTreeSet<String> {
        let Some(own) = self.own.lock().remove(&key) else { return BTreeSet::new() };
        let subscribed = std::mem::take(&mut *own.subscribed.lock());
        own.close().await;
        subscribed
    }

    /// Waits for the calls under way, `patience` at most, then ends every connection.
    pub async fn drain(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        while 1 < Arc::strong_count(&self.underway) && Instant::now() < deadline {
            tokio::time::sleep(DRAIN_POLL).await;
        }
        let own: Vec<_> = self.own.lock().drain().map(|(_, own)| own).collect();
        let shared = match self
            .phase
            .send_replace(Phase::Failed(SendError::Unavailable(CLOSING.to_owned())))
        {
            Phase::Ready(connection) => Some(connection),
            Phase::Idle | Phase::Opening | Phase::Failed(_) => None,
        };
        let idle = self.pool.sweep(Duration::ZERO);
        // The tasks stop first, so that nothing is opened again.
        self.tasks.stop();
        let shared = shared.iter().map(|shared| shared.close(CLOSING));
        let own = own.into_iter().map(SessionConnection::close);
        let idle = idle.into_iter().map(|idle| idle.close(CLOSING));
        let callers = self.callers.close(CLOSING);
        tokio::join!(join_all(shared), join_all(own), join_all(idle), callers);
    }

    /// Closes, as long as the replica is there, the connections that nobody uses.
    pub async fn sweep(self: Arc<Self>) {
        let idle = self.settings.config.idle;
        let callers_idle = self.settings.config.caller_sessions_idle;
        loop {
            tokio::time::sleep(SWEEP.min(idle).min(callers_idle)).await;
            if let Some(since) = Instant::now().checked_sub(callers_idle) {
                self.callers.sweep(since).await;
            }
            let gone = self.pool.sweep(idle);
            join_all(gone.into_iter().map(|gone| gone.close("nobody used it"))).await;
            let gone: Vec<_> = self.own.lock().extract_if(|_, own| own.is_stale(idle)).collect();
            join_all(gone.into_iter().map(|(_, own)| own.close())).await;
        }
    }
}
