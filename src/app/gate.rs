//! A gate that runs: what can be asked of it, and how it ends.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    builtin::report::Report,
    call::{Caller, RoutePath, tasks::Tasks},
    ingress::stdio::{self, ChannelSettings},
    snapshot,
};

use super::error::StartError;

/// Time to end what is left after the calls: processes above all, which are asked before they are
/// killed.
const END: Duration = Duration::from_secs(2);

/// Time in which calls that `drain` cuts off are answered: a part of [`END`].
const ANSWERS: Duration = Duration::from_secs(1);

/// A gate that listens.
#[derive(Debug)]
pub struct RunningGate {
    pub(super) core: Core,
    pub(super) address: SocketAddr,
    pub(super) admin: Option<SocketAddr>,
}

/// A gate, whatever listeners it has.
#[derive(Debug)]
pub(super) struct Core {
    pub inner: Arc<snapshot::Gate>,
    pub stop: CancellationToken,
    /// Listeners and channels: ended before the gate itself is.
    pub listeners: Tasks,
    pub reload: mpsc::Sender<()>,
}

/// A channel that is served; see [`RunningGate::serve_channel`].
#[derive(Debug)]
pub struct ServedChannel(oneshot::Receiver<()>);

impl RunningGate {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address on which operators are served.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Waits until every eager upstream has been opened, or has failed, once, and all that they
    /// list is known.
    pub async fn settled(&self) {
        self.core.inner.listed().await;
    }

    pub fn is_tls(&self) -> bool {
        self.core.inner.snapshot().config.server.tls.is_some()
    }

    /// A handle that reads how the gate stands while it runs.
    pub fn viewer(&self) -> Viewer {
        self.core.viewer()
    }

    /// Reads the file again now (SIGHUP).
    pub fn reload(&self) {
        self.core.reload();
    }

    /// Serves one more client, whose messages are lines of a pair of streams, on a route; ends when
    /// the client closes its side, or with the gate.
    ///
    /// # Errors
    /// Where there is no such route.
    pub fn serve_channel(
        &self,
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        route: &str,
    ) -> Result<ServedChannel, StartError> {
        self.core.serve_channel(reader, writer, route)
    }

    /// Takes no more connections, lets calls end (`drain` at most), then ends every upstream; all
    /// together takes `drain` and 2 s at most.
    pub async fn stop(self) {
        self.core.stop().await;
    }
}

impl Core {
    pub fn viewer(&self) -> Viewer {
        Viewer(Arc::clone(&self.inner))
    }

    pub fn reload(&self) {
        self.inner.doubt_inferred_eras();
        // A single request that waits is enough.
        self.reload.try_send(()).ok();
    }

    /// Serves a client on a pair of streams; see [`RunningGate::serve_channel`].
    ///
    /// # Errors
    /// There is no such route.
    pub fn serve_channel(
        &self,
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        route: &str,
    ) -> Result<ServedChannel, StartError> {
        let route = self.route(Some(route))?;
        let gate = Arc::clone(&self.inner);
        let caller = Caller::Parent;
        let settings = ChannelSettings { gate, route, caller, peer: None, takes_modern: true };
        let stopping = self.stop.clone();
        let (ended, has_ended) = oneshot::channel();
        self.listeners.finish(async move {
            stdio::serve(settings, reader, writer, stopping.cancelled()).await;
            // Nobody has to wait.
            ended.send(()).ok();
        });
        Ok(ServedChannel(has_ended))
    }

    /// The route of this path, or the first.
    ///
    /// # Errors
    /// There is no such route.
    pub fn route(&self, path: Option<&str>) -> Result<RoutePath, StartError> {
        let snapshot = self.inner.snapshot();
        let mut routes = snapshot.config.routes.iter().map(|route| &route.path);
        let Some(path) = path else { return Ok(routes.next().cloned().unwrap_or_default()) };
        if let Some(known) = routes.clone().find(|known| **known == path) {
            return Ok(known.clone());
        }
        let known = routes.map(RoutePath::as_str).collect::<Vec<_>>().join(", ");
        Err(StartError::Route { route: path.to_owned(), known })
    }

    pub async fn stop(self) {
        let drain = self.inner.snapshot().config.server.limits.drain;
        let deadline = Instant::now() + drain;
        self.inner.begin_closing();
        self.stop.cancel();
        let mut listeners = self.listeners.drained(drain).await;
        if !listeners {
            // Calls that last longer end with their upstreams, and their clients are told so.
            self.inner.lot.clear();
            let closing = tokio::time::timeout(ANSWERS, self.inner.close(Duration::ZERO));
            (listeners, _) = tokio::join!(self.listeners.drained(ANSWERS), closing);
        }
        if !shut(&self.inner, deadline).await || !listeners {
            tracing::warn!("not everything ended within {drain:?} (`drain`)");
        }
    }
}

impl ServedChannel {
    /// Waits until its client is gone, or the gate.
    pub async fn ended(self) {
        // The sender has ended, too, where it is dropped.
        self.0.await.ok();
    }
}

/// Reads how a running gate stands.
#[derive(Debug, Clone)]
pub struct Viewer(Arc<snapshot::Gate>);

impl Viewer {
    pub fn report(&self) -> Report {
        self.0.report()
    }

    /// The count of loads of the snapshot, for the test that holds a call to one.
    #[cfg(debug_assertions)]
    #[doc(hidden)]
    pub fn snapshot_loads(&self) -> u64 {
        self.0.snapshot_loads()
    }

    /// Waits until every eager upstream has been opened, or has failed, once.
    pub async fn settled(&self) {
        self.0.settled().await;
    }

    /// Waits until an upstream has been opened.
    ///
    /// # Errors
    /// Where it has failed instead: why.
    pub async fn opened(&self, upstream: &str) -> Result<(), StartError> {
        self.settled().await;
        let report = self.report();
        let one = report.upstreams.into_iter().find(|one| one.name == upstream);
        match one {
            Some(one) if one.era.is_some() => Ok(()),
            one => Err(StartError::Server(
                one.and_then(|one| one.last_error).unwrap_or_else(|| "it ended".to_owned()),
            )),
        }
    }
}

/// Ends every upstream, calls under way at the deadline, and every task of a gate; true where all
/// has ended within [`END`] after it.
async fn shut(gate: &Arc<snapshot::Gate>, deadline: Instant) -> bool {
    let last = deadline + END;
    gate.lot.clear();
    let closing = gate.close(deadline.saturating_duration_since(Instant::now()));
    let closed = tokio::time::timeout_at(last, closing).await.is_ok();
    gate.tasks.stop();
    let drained = gate.tasks.drained(last.saturating_duration_since(Instant::now())).await;
    // After all that may be recorded.
    if let Some(audit) = &gate.audit {
        audit.close().await;
    }
    drained && closed
}
