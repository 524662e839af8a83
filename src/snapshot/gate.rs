//! The gate: the snapshot of now, and what outlives all of them.

#[cfg(debug_assertions)]
use std::sync::atomic::{AtomicU64, Ordering};
use std::{collections::HashMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    audit::{Audit, CallerKey},
    auth::AuthorityRegistry,
    cache::Cache,
    call::tasks::Tasks,
    catalog::{Change, Ledger},
    config::Config,
    guard::{Guards, Linked, ReadableLinks, Schemas},
    limit::Limits,
    park::ParkedCalls,
    session::{Session, Sessions},
    store::StateFolder,
    telemetry::Counters,
    trace::Tracer,
    upstream::UpstreamContext,
};

use super::{
    certificates::CertificateWatch, current::Snapshot, offers::Offers, push, route::Route,
};

/// Changes that wait to be worked on; an upstream's keeper with one more waits.
const CHANGES_MAX: usize = 1_024;

/// A route at one moment, with the snapshot that it belongs to: what a request is served with from
/// its beginning to its end, whatever is configured meanwhile.
#[derive(Debug, Clone)]
pub struct RouteSnapshot {
    pub gate: Arc<Gate>,
    pub snapshot: Arc<Snapshot>,
    pub route: Arc<Route>,
}

/// The gate: the snapshot of now, and what outlives all of them.
pub struct Gate {
    pub(super) current: ArcSwap<Snapshot>,
    /// The lock that is held while a snapshot is built, so that none is lost to another.
    pub(super) building: Mutex<()>,
    pub sessions: Sessions,
    /// Calls that wait for their clients.
    pub lot: ParkedCalls,
    pub schemas: Arc<Schemas>,
    /// Results that are too large, kept for their callers.
    pub linked: Linked,
    /// Links that callers were given by upstreams.
    pub links: ReadableLinks,
    /// The audit log that calls are recorded in; none: nowhere.
    pub audit: Option<Arc<Audit>>,
    /// The tracer of calls; none: there are no traces.
    pub tracer: Option<Arc<Tracer>>,
    /// The key of callers' digests in the access log.
    pub caller_key: CallerKey,
    pub counters: Arc<Counters>,
    pub tasks: Tasks,
    pub(super) context: Arc<UpstreamContext>,
    pub(super) offers: Arc<Offers>,
    pub(super) store: StateFolder,
    pub(super) names: Ledger,
    /// The lock that is held while names are recorded.
    pub(super) naming: tokio::sync::Mutex<()>,
    pub(super) changes: mpsc::Sender<Change>,
    /// The signal that another configuration is in force.
    pub(super) applied: watch::Sender<()>,
    pub(super) started: Instant,
    closing: CancellationToken,
    pub(super) edit_refused: Mutex<Option<String>>,
    pub(super) certificates: CertificateWatch,
    /// How often the snapshot was loaded, for the test that counts this.
    #[cfg(debug_assertions)]
    loads: AtomicU64,
}

/// Where calls are written down.
pub struct CallLogs {
    pub audit: Option<Arc<Audit>>,
    pub tracer: Option<Arc<Tracer>>,
    pub caller_key: CallerKey,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("uptime", &self.uptime()).finish_non_exhaustive()
    }
}

impl Gate {
    /// A gate with nothing in it; [`Gate::apply`] fills it. The receiver is for [`Gate::follow`].
    pub fn new(
        config: Arc<Config>,
        context: Arc<UpstreamContext>,
        store: StateFolder,
        sessions: Sessions,
        lot: ParkedCalls,
        logs: CallLogs,
    ) -> (Arc<Self>, mpsc::Receiver<Change>) {
        let (changes, inbox) = mpsc::channel(CHANGES_MAX);
        let limits = Limits::new(Arc::clone(&context.counters), context.tasks.clone());
        let routes = HashMap::new();
        let authorities = AuthorityRegistry::default();
        let members = Vec::new();
        let limits = Arc::new(limits);
        let rules = Arc::default();
        let guards = Guards::new(Arc::clone(&context.counters)).into();
        let counters = || Arc::clone(&context.counters);
        let schemas = Arc::new(Schemas::new(&config.server.limits, counters()));
        let linked = Linked::new(counters());
        let cache = Cache::new(counters());
        let views_max = config.server.limits.views_bytes_max;
        let offers = Offers::new(views_max, context.tasks.clone(), counters());
        let empty = Snapshot {
            config,
            rules,
            routes,
            authorities,
            limits,
            guards,
            cache,
            members,
            migrations: HashMap::new(),
        };
        let gate = Self {
            current: ArcSwap::from_pointee(empty),
            building: Mutex::new(()),
            sessions,
            lot,
            schemas,
            linked,
            links: ReadableLinks::new(counters()),
            audit: logs.audit,
            tracer: logs.tracer,
            caller_key: logs.caller_key,
            counters: Arc::clone(&context.counters),
            tasks: context.tasks.clone(),
            offers,
            names: Ledger::open(&store, Arc::clone(&context.counters)),
            naming: tokio::sync::Mutex::default(),
            context,
            store,
            changes,
            applied: watch::Sender::new(()),
            started: Instant::now(),
            closing: CancellationToken::new(),
            edit_refused: Mutex::default(),
            certificates: CertificateWatch::default(),
            #[cfg(debug_assertions)]
            loads: AtomicU64::new(0),
        };
        (Arc::new(gate), inbox)
    }

    /// Says why the last edit of the configuration is not in force; nothing where it is.
    pub fn refuse_edit(&self, why: Option<String>) {
        *self.edit_refused.lock() = why;
    }

    /// The snapshot of now. Listeners and `reload` load it, and nothing on the way of a call does:
    /// a call is served with the one that its listener loaded (`tests/tidy.rs` counts the callers).
    pub fn snapshot(&self) -> Arc<Snapshot> {
        #[cfg(debug_assertions)]
        self.loads.fetch_add(1, Ordering::Relaxed);
        self.current.load_full()
    }

    /// How often the snapshot was loaded.
    #[cfg(debug_assertions)]
    pub fn snapshot_loads(&self) -> u64 {
        self.loads.load(Ordering::Relaxed)
    }

    /// The route of this path as it is now.
    pub fn route_at(self: &Arc<Self>, path: &str) -> Option<RouteSnapshot> {
        let snapshot = self.snapshot();
        let route = Arc::clone(snapshot.routes.get(path)?);
        Some(RouteSnapshot { gate: Arc::clone(self), snapshot, route })
    }

    /// Works on what the keepers of all upstreams find, for as long as the gate runs.
    pub async fn follow(self: Arc<Self>, mut inbox: mpsc::Receiver<Change>) {
        while let Some(change) = inbox.recv().await {
            match change {
                Change::Listed { upstream } => {
                    let gate = Arc::clone(&self);
                    // Thousands of entries are no work for a thread that calls wait for.
                    self.tasks.blocking(move || gate.relist(&upstream)).await;
                }
                Change::Notice { upstream, session, notice } => {
                    let snapshot = self.snapshot();
                    snapshot.heard(&upstream, &notice);
                    push::notice(&snapshot, &self.sessions, &upstream, session, &notice);
                }
                Change::Question { session, question } => {
                    push::question(
                        &self.snapshot(),
                        &self.sessions,
                        &self.counters,
                        session,
                        question,
                    );
                }
            }
        }
    }

    /// Waits until every eager upstream has been opened or has failed once.
    pub async fn settled(&self) {
        let snapshot = self.snapshot();
        for member in &snapshot.members {
            member.settled().await;
        }
    }

    /// Discards what was only inferred of servers' eras: an operator asked to look again.
    pub fn doubt_inferred_eras(&self) {
        for member in &self.snapshot().members {
            member.upstream.doubt_inferred_era();
        }
    }

    /// Waits until, moreover, all that they list is known.
    pub async fn listed(&self) {
        self.settled().await;
        for member in &self.snapshot().members {
            member.known().await;
        }
    }

    /// A session is over, or out of memory: its own connections upstream end, and what it
    /// subscribed to.
    pub fn forget_session(&self, session: Arc<Session>) {
        let snapshot = self.snapshot();
        self.tasks.finish(async move { snapshot.forget_session(&session).await });
    }

    /// Stops announcements: streams that wait for announcements end.
    pub fn begin_closing(&self) {
        self.closing.cancel();
        self.sessions.hush();
    }

    /// Waits until the gate begins to close.
    pub async fn closing(&self) {
        self.closing.cancelled().await;
    }

    pub fn is_closing(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// Retires every upstream; calls under way have `patience`.
    pub async fn close(&self, patience: Duration) {
        let snapshot = self.snapshot();
        let retiring = snapshot.members.iter().map(|member| member.upstream.retire(patience));
        futures_util::future::join_all(retiring).await;
    }

    /// How long it has been running.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }
}
