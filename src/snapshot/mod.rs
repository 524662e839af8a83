//! The whole gate behind one `Arc`: immutable, built whole from the configuration and the snapshot
//! before, swapped whole.
//!
//! Everything that outlives a reload (upstreams, catalogs, sessions, counters) has its own `Arc`
//! inside and moves over by name, as long as its own section of the configuration stays the same.

mod subscriber;
mod upstream_entry;
mod migration;
mod names;
mod offers;
mod push;
mod report;
mod route;
mod settling;
mod revocation;

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
    audit::Audit,
    auth::{AuthContext, AuthorityRegistry},
    cache::{Cache, CacheSubject, SubjectKind},
    call::{event::ServerNotification, tasks::Tasks},
    catalog::{self, Change, Filters, Ledger, cell::CatalogCell},
    config::Config,
    guard::{Guards, Linked, Schemas},
    limit::Limits,
    mcp::{method::Method, splice},
    park::ParkedCalls,
    policy::{PolicyBounds, Rulebook},
    session::{Session, Sessions},
    store::Store,
    telemetry::Counters,
    upstream::{Context, SendError, Settings, Upstream},
};

pub use self::{
    migration::{ActiveCanary, Migration},
    push::Push,
    route::Route,
    subscriber::Subscriber,
    upstream_entry::{UpstreamEntry, offline},
};
use self::{
    offers::Offers,
    route::Ground,
    upstream_entry::{contains, split_identity},
};

/// Changes that wait to be worked on; an upstream's keeper with one more waits.
const CHANGES_MAX: usize = 1_024;

/// How often a keeper's work is looked at by those who wait for it.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Everything a call needs, for one moment.
#[derive(Debug)]
pub struct Snapshot {
    pub config: Arc<Config>,
    rules: Arc<Rulebook>,
    pub routes: HashMap<String, Arc<Route>>,
    authorities: AuthorityRegistry,
    pub limits: Arc<Limits>,
    pub guards: Arc<Guards>,
    pub cache: Cache<SendError>,
    members: Vec<UpstreamEntry>,
    /// Successors, by the upstreams that have one.
    migrations: HashMap<String, Arc<Migration>>,
}

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
    current: ArcSwap<Snapshot>,
    /// Held while a snapshot is built, so that none is lost to another.
    building: Mutex<()>,
    pub sessions: Sessions,
    /// Calls that wait for their clients.
    pub lot: ParkedCalls,
    pub schemas: Arc<Schemas>,
    /// Results that are too large, kept for their callers.
    pub linked: Linked,
    /// Where calls are recorded; none: nowhere.
    pub audit: Option<Arc<Audit>>,
    pub counters: Arc<Counters>,
    pub tasks: Tasks,
    context: Arc<Context>,
    offers: Arc<Offers>,
    store: Store,
    names: Ledger,
    /// Held while names are recorded.
    naming: tokio::sync::Mutex<()>,
    changes: mpsc::Sender<Change>,
    /// Told whenever another configuration is in force.
    applied: watch::Sender<()>,
    started: Instant,
    closing: CancellationToken,
    edit_refused: Mutex<Option<String>>,
    /// How often the snapshot was loaded, for the test that counts this.
    #[cfg(debug_assertions)]
    loads: AtomicU64,
}

impl Gate {
    /// A gate with nothing in it; [`Gate::apply`] fills it. The receiver is for [`Gate::follow`].
    pub fn new(
        config: Arc<Config>,
        context: Arc<Context>,
        store: Store,
        (sessions, lot): (Sessions, ParkedCalls),
        audit: Option<Arc<Audit>>,
    ) -> (Arc<Self>, mpsc::Receiver<Change>) {
        let (changes, inbox) = mpsc::channel(CHANGES_MAX);
        let limits = Limits::new(Arc::clone(&context.counters), context.tasks.clone());
        let routes = HashMap::new();
        let (authorities, members, limits) =
            (AuthorityRegistry::default(), Vec::new(), Arc::new(limits));
        let (rules, guards) = (Arc::default(), Guards::new(Arc::clone(&context.counters)).into());
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
            audit,
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

    /// Goes over to a configuration and its policies: unchanged upstreams stay as they are, others
    /// are opened or retired.
    pub fn apply(&self, config: Arc<Config>, rules: Rulebook) {
        let building = self.building.lock();
        let earlier = self.snapshot();
        let limits = &config.server.limits;
        self.context.openings.resize(limits.openings_max);
        self.context.reading.set(limits.incoming_answers_bytes_max);
        let names: Vec<_> = config.upstreams.iter().map(|one| one.name.as_str()).collect();
        self.schemas.apply(limits, &names);
        let members: Vec<_> = config
            .upstreams
            .iter()
            .map(|section| {
                let (config, filters) = split_identity(section);
                let settings = Settings { config, answer_bytes_max: limits.answer_bytes_max };
                let same = |member: &&UpstreamEntry| member.upstream.settings == settings;
                let bounds = catalog::ListBounds::of(limits);
                let member = match earlier.members.iter().find(same) {
                    Some(member) => UpstreamEntry { filters, ..member.clone() },
                    None => self.member(settings, bounds, filters, &earlier),
                };
                member.catalog.set_bounds(bounds);
                member.upstream.protect(section);
                member
            })
            .collect();
        let gone: Vec<_> =
            earlier.members.iter().filter(|member| !contains(&members, member)).cloned().collect();
        let drain = limits.drain;
        self.counters.set_call_metrics_max(limits.call_metrics_max);
        self.offers.set_bytes_max(limits.views_bytes_max);
        self.publish(&earlier, (config, Arc::new(rules)), members, false);
        drop(building);
        self.applied.send_replace(());
        for member in gone {
            self.tasks.finish(async move {
                member.upstream.retire(drain).await;
                member.tasks.stop();
            });
        }
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

    /// From now on nothing is announced any more: streams that wait for announcements end.
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

    fn member(
        &self,
        settings: Settings,
        bounds: catalog::ListBounds,
        filters: Arc<Filters>,
        earlier: &Snapshot,
    ) -> UpstreamEntry {
        let predecessor = earlier.member(&settings.config.name);
        let shelf = predecessor.map(|member| &*member.catalog);
        let shelf = CatalogCell::open(&settings.config, &self.store, shelf, bounds);
        let upstream = Upstream::new(settings, &self.context);
        if let Some(predecessor) = predecessor {
            upstream.inherit(&predecessor.upstream);
        }
        let tasks = self.tasks.child();
        upstream.start(shelf.listing().is_some());
        let keeping = catalog::keep(
            Arc::clone(&upstream),
            Arc::clone(&shelf),
            Arc::clone(&self.counters),
            Arc::clone(&self.schemas),
            self.changes.clone(),
        );
        tasks.spawn("catalog: keep", keeping);
        UpstreamEntry { upstream, catalog: shelf, tasks, filters }
    }

    fn means(&self) -> AuthContext {
        AuthContext {
            net: self.context.net.clone(),
            tasks: self.tasks.clone(),
            counters: Arc::clone(&self.counters),
        }
    }

    fn relist(&self, upstream: &str) {
        let _building = self.building.lock();
        let earlier = self.snapshot();
        let shelf =
            earlier.member(upstream).map(|member| (&member.catalog, member.catalog.version()));
        let same = (Arc::clone(&earlier.config), Arc::clone(&earlier.rules));
        self.publish(&earlier, same, earlier.members.clone(), true);
        if let Some((shelf, version)) = shelf {
            shelf.published(version);
        }
    }

    /// Builds the next snapshot, swaps it in, and announces what changed. `relisted` says that all
    /// but lists is what it was.
    fn publish(
        &self,
        earlier: &Snapshot,
        (config, rules): (Arc<Config>, Arc<Rulebook>),
        members: Vec<UpstreamEntry>,
        relisted: bool,
    ) {
        let authorities = AuthorityRegistry::build(&config, &earlier.authorities, &self.means());
        let guards = match relisted {
            true => Arc::clone(&earlier.guards),
            false => Arc::new(earlier.guards.next(&config)),
        };
        self.names.follow(&config);
        let ground = Ground {
            guards: &guards,
            members: &members,
            offers: &self.offers,
            counters: &self.counters,
            bounds: PolicyBounds::of(&config.server.limits),
            relisted,
            ledger: &self.names,
            kept: config.server.limits.names_kept,
        };
        let mut routes = HashMap::new();
        let mut announced = Vec::new();
        for settings in &config.routes {
            let before = earlier.routes.get(&settings.path);
            let policies = rules.of(&settings.path).map(Arc::clone);
            let door = authorities.route_auth(settings, &self.counters);
            let route = Arc::new(Route::build(settings, door, policies, ground, before));
            route.report_left_out(before.map(Arc::as_ref), &self.counters);
            for push in route.changes(before.map(Arc::as_ref)) {
                announced.push((Arc::clone(&route), push));
            }
            routes.insert(settings.path.clone(), route);
        }
        let limits = earlier.limits.next(&config);
        let migrations = migration::build(&config, &members, &earlier.migrations);
        let is_same = |name: &str| {
            let member = members.iter().find(|member| member.upstream.name() == name);
            member.is_some_and(|member| contains(&earlier.members, member))
        };
        let cache = earlier.cache.next(&config, is_same);
        let next = Snapshot {
            config,
            rules,
            routes,
            authorities,
            limits,
            guards,
            cache,
            members,
            migrations,
        };
        self.current.store(Arc::new(next));
        for (route, push) in announced {
            // Nobody listening is no error.
            route.pushes.send(push).ok();
        }
    }
}

impl Snapshot {
    pub fn member(&self, upstream: &str) -> Option<&UpstreamEntry> {
        self.members.iter().find(|member| member.upstream.name() == upstream)
    }

    /// The successors of an upstream; none where it has none.
    pub fn migration(&self, upstream: &str) -> Option<&Arc<Migration>> {
        if self.migrations.is_empty() { None } else { self.migrations.get(upstream) }
    }

    /// Forgets a resource that is another one now, if that is what its upstream says.
    pub fn heard(&self, upstream: &str, notice: &ServerNotification) {
        if notice.method != Some(Method::ResourceUpdated) {
            return;
        }
        let uri = splice::member(&notice.params, "uri").and_then(|uri| uri.try_read::<Box<str>>());
        if let Some(name) = uri {
            let subject =
                CacheSubject { kind: SubjectKind::Resource, upstream: upstream.into(), name };
            self.cache.forget_one(&subject);
        }
    }

    async fn forget_session(&self, session: &Session) {
        let mut elsewhere = session.subscriptions();
        for member in &self.members {
            let own = member.upstream.end_session(session.key).await;
            elsewhere.retain(|uri| !own.contains(uri));
        }
        let Some(route) = self.routes.get(&session.route) else { return };
        for uri in elsewhere {
            let Some(target) = route.largest_view().find_uri(&uri) else { continue };
            target.upstream.unwant(&target.own);
        }
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("uptime", &self.uptime()).finish_non_exhaustive()
    }
}
