//! The whole gate as a process: built, bound, run, drained.

pub(crate) mod checked;
pub(crate) mod descriptors;
pub(crate) mod names;
pub(crate) mod offline;
#[cfg(feature = "pingora")]
mod pingora;
mod process;
mod secrets;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket},
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    admin::Desk,
    audit::{self, Audit},
    call::{Caller, machine, tasks::Tasks},
    config::{self, Config, Layers, Problems},
    ingress::{
        listen::Front,
        stdio::{self, ChannelSettings},
        tls::Certificates,
    },
    kit::report::{Look, Report},
    net::{Net, vault::Vault},
    park::ParkedCalls,
    policy::{self, Rulebook},
    process::Spawner,
    reload::Reloader,
    session::{Sessions, seal::Sealer},
    snapshot,
    store::Store,
    telemetry::{Counters, throttle},
    upstream::{Context, Openings, ReadBudget},
};

#[cfg(feature = "pingora")]
pub use self::pingora::serve;
#[cfg(not(feature = "pingora"))]
pub use self::process::serve;
pub use self::process::{runtime, serve_stdio};
pub use crate::net::vault::Access as VaultAccess;

/// How often sessions that nobody uses are looked for, and buckets that are full again.
const SWEEP: Duration = Duration::from_secs(30);
/// What ends after the calls has this long: processes above all, which are asked before they are
/// killed.
const END: Duration = Duration::from_secs(2);
/// Connections of operators that wait to be accepted.
const ADMIN_BACKLOG: u32 = 64;
/// The file in the state folder that holds the key.
const KEY_FILE: &str = "session.key";

/// What a gate is started with.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Empty: there is no file, and `layers` are all there is.
    pub config: PathBuf,
    /// What the command line says over and under the file.
    pub layers: Layers,
    /// In place of the file's `listen`.
    pub listen: Option<SocketAddr>,
    /// Whether edits of the file are applied.
    pub watch: bool,
    /// Tollgate's own binary, through which children are started; without it they are started
    /// directly, and outlive a gate that is killed outright.
    pub launcher: Option<PathBuf>,
    /// Whether children inherit the whole environment, not only what every program needs.
    pub whole_environment: bool,
    /// Whether [`serve`] takes the listening socket over from the gate that runs on the same state
    /// folder; only a build with the feature `pingora` can.
    pub upgrade: bool,
    /// Where `vault:` secrets are; without it as the environment says.
    pub vault: Option<VaultAccess>,
}

/// Why a gate did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0}")]
    Config(Problems),
    #[error("the state folder {folder}: {error}", folder = .folder.display())]
    State { folder: PathBuf, error: std::io::Error },
    #[error("{0}")]
    Audit(#[from] audit::OpenError),
    #[error("`session_key` has fewer than {} bytes", Sealer::SECRET_BYTES_MIN)]
    Key,
    #[error("cannot listen on {address}: {error}")]
    Listen { address: SocketAddr, error: std::io::Error },
    #[error(
        "everybody who reaches {address} could use `{route}`: give it `auth`, or say that it is \
         meant so: auth = \"none\""
    )]
    Open { address: SocketAddr, route: String },
    #[error("{0}")]
    Tls(String),
    #[error("the configuration has no route `{route}`; it has {known}")]
    Route { route: String, known: String },
    /// The one server that all is about.
    #[error("the server cannot be opened: {0}")]
    Server(String),
    #[error("the ledger of names cannot be changed: {0}")]
    Names(std::io::Error),
    #[error("cannot take over from the gate that runs: {0}")]
    Upgrade(String),
    #[error("the system gives no thread or no signal: {0}")]
    Process(#[from] std::io::Error),
}

/// A gate that listens.
#[derive(Debug)]
pub struct Gate {
    core: Core,
    address: SocketAddr,
    admin: Option<SocketAddr>,
}

/// A gate, whatever doors it has.
#[derive(Debug)]
struct Core {
    inner: Arc<snapshot::Gate>,
    stop: CancellationToken,
    /// The doors: ended before the gate itself is.
    doors: Tasks,
    reload: mpsc::Sender<()>,
}

/// A channel that is served; see [`Gate::serve_channel`].
#[derive(Debug)]
pub struct Served(oneshot::Receiver<()>);

/// Reads, binds, begins to open the upstreams, and serves; returns as soon as it listens.
pub async fn start(options: Options) -> Result<Gate, StartError> {
    let plan = Plan::new(options).await?;
    let listener = plan.bind().await?;
    plan.start(listener)
}

/// What a gate is built from, read and checked: all that it still needs is a socket.
struct Plan {
    options: Options,
    config: Arc<Config>,
    rules: Rulebook,
    tls: Option<Arc<Certificates>>,
    store: Store,
    secret: Vec<u8>,
    vault: Arc<Vault>,
    audit: Option<Arc<Audit>>,
    counters: Arc<Counters>,
}

impl Plan {
    async fn new(options: Options) -> Result<Self, StartError> {
        // Boxed: once, and large.
        let (config, vault) = Box::pin(secrets::load(&options)).await?;
        machine::raise_descriptors();
        if let Some(shortage) = descriptors::shortage(&config) {
            tracing::warn!("{shortage}");
        }
        let rules = policy::compile(&config).map_err(StartError::Config)?;
        for advice in config::advice(&config) {
            tracing::warn!("{advice}");
        }
        let tls = config.server.tls.as_ref().map(Certificates::read).transpose();
        let tls = tls.map_err(StartError::Tls)?;
        let folder = &config.server.state;
        let failed = |error| StartError::State { folder: folder.clone(), error };
        let store = Store::open(folder).map_err(failed)?;
        let secret = match &config.server.session_key {
            Some(secret) => secret.expose().as_bytes().to_vec(),
            None => store
                .read_or_make(KEY_FILE, || rand::random::<[u8; 32]>().to_vec())
                .map_err(failed)?,
        };
        if secret.len() < Sealer::SECRET_BYTES_MIN {
            return Err(StartError::Key);
        }
        let counters = Arc::<Counters>::default();
        let open = |settings| Audit::open(settings, &secret, &counters, options.upgrade);
        let audit = config.audit.as_ref().map(open).transpose()?;
        Ok(Self { options, config, rules, tls, store, secret, vault, audit, counters })
    }

    async fn bind(&self) -> Result<TcpListener, StartError> {
        let address = self.config.server.listen;
        TcpListener::bind(address).await.map_err(|error| StartError::Listen { address, error })
    }

    fn start(mut self, listener: TcpListener) -> Result<Gate, StartError> {
        let address = self.config.server.listen;
        let address =
            listener.local_addr().map_err(|error| StartError::Listen { address, error })?;
        let tls = self.tls.take();
        let desk = self.bind_admin()?;
        let admin = desk.as_ref().and_then(|listener| listener.local_addr().ok());
        let core = self.start_core();
        if let Some(tls) = &tls {
            let following = Arc::clone(tls).follow(Arc::clone(&core.inner.counters));
            core.inner.tasks.spawn("tls: certificates", following);
        }
        if let Some(listener) = desk {
            let desk = Desk::new(Arc::clone(&core.inner), listener);
            core.doors.spawn("admin", desk.run(core.stop.clone()));
        }
        let front = Front::new(Arc::clone(&core.inner), listener, tls);
        let stopping = core.stop.clone();
        core.doors.finish(front.run(async move { stopping.cancelled().await }));
        Ok(Gate { core, address, admin })
    }

    /// The operators' door, where there is one. Shared, so that a gate that takes over can open it
    /// while the old one ends.
    fn bind_admin(&self) -> Result<Option<TcpListener>, StartError> {
        let Some(address) = self.config.server.admin else { return Ok(None) };
        let bound = || {
            let socket = match address.is_ipv4() {
                true => TcpSocket::new_v4()?,
                false => TcpSocket::new_v6()?,
            };
            socket.set_reuseaddr(true)?;
            socket.set_reuseport(cfg!(feature = "pingora"))?;
            socket.bind(address)?;
            socket.listen(ADMIN_BACKLOG)
        };
        bound().map(Some).map_err(|error| StartError::Listen { address, error })
    }

    /// Starts all but the doors.
    fn start_core(self) -> Core {
        let Self { options, config, rules, tls: _, store, secret, vault, audit, counters } = self;
        let gate = build(&options, (config, rules), store, &secret, (audit, counters));
        let (reload, asked) = mpsc::channel(1);
        if options.watch {
            let (file, layers) = (&options.config, options.layers);
            let keeping = secrets::keep(Arc::clone(&gate), Arc::clone(&vault));
            gate.tasks.spawn("secrets of Vault", keeping);
            let both = (Arc::clone(&gate), vault);
            let reloader = Reloader::new(both, file, layers, options.listen);
            gate.tasks.spawn("reload", reloader.run(asked));
        }
        Core { inner: gate, stop: CancellationToken::new(), doors: Tasks::default(), reload }
    }
}

impl Gate {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where operators are served.
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

    /// What may be looked at while the gate runs.
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
    ) -> Result<Served, StartError> {
        self.core.serve_channel(reader, writer, route)
    }

    /// Takes no more connections, lets calls end (`drain` at most), then ends every upstream; all
    /// together takes `drain` and 2 s at most.
    pub async fn stop(self) {
        self.core.stop().await;
    }
}

impl Core {
    fn viewer(&self) -> Viewer {
        Viewer(Arc::clone(&self.inner))
    }

    fn reload(&self) {
        // One request that waits is enough.
        self.reload.try_send(()).ok();
    }

    fn serve_channel(
        &self,
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        route: &str,
    ) -> Result<Served, StartError> {
        let route = self.route(Some(route))?;
        let gate = Arc::clone(&self.inner);
        let caller = Caller::Parent;
        let settings = ChannelSettings { gate, route, caller, peer: None, takes_modern: true };
        let stopping = self.stop.clone();
        let (ended, has_ended) = oneshot::channel();
        self.doors.finish(async move {
            stdio::serve(settings, reader, writer, stopping.cancelled()).await;
            // Nobody has to wait.
            ended.send(()).ok();
        });
        Ok(Served(has_ended))
    }

    /// The route of this path, or the first.
    fn route(&self, path: Option<&str>) -> Result<String, StartError> {
        let snapshot = self.inner.snapshot();
        let mut routes = snapshot.config.routes.iter().map(|route| route.path.as_str());
        let Some(path) = path else { return Ok(routes.next().unwrap_or_default().to_owned()) };
        if routes.clone().any(|known| known == path) {
            return Ok(path.to_owned());
        }
        let known = routes.collect::<Vec<_>>().join(", ");
        Err(StartError::Route { route: path.to_owned(), known })
    }

    async fn stop(self) {
        let drain = self.inner.snapshot().config.server.limits.drain;
        let deadline = Instant::now() + drain;
        self.inner.begin_closing();
        self.stop.cancel();
        let doors = self.doors.drained(drain + END).await;
        if !shut(&self.inner, deadline).await || !doors {
            tracing::warn!("not everything ended within {drain:?} (`drain`)");
        }
    }
}

impl Served {
    /// Waits until its client is gone, or the gate.
    pub async fn ended(self) {
        // Dropped unsaid, it has ended, too.
        self.0.await.ok();
    }
}

/// A look at a running gate.
#[derive(Debug, Clone)]
pub struct Viewer(Arc<snapshot::Gate>);

impl Viewer {
    pub fn report(&self) -> Report {
        self.0.report()
    }

    /// How often the snapshot was loaded: for the test that holds a call to one.
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

fn build(
    options: &Options,
    (config, rules): (Arc<Config>, Rulebook),
    store: Store,
    secret: &[u8],
    (audit, counters): (Option<Arc<Audit>>, Arc<Counters>),
) -> Arc<snapshot::Gate> {
    let tasks = Tasks::default();
    let itself = Arc::new(OnceLock::new());
    let openings = Openings::new(config.server.limits.openings_max, Arc::clone(&counters));
    let context = Context {
        net: Net::new(),
        store: store.clone(),
        openings,
        reading: ReadBudget::new(machine::memory(), Arc::clone(&counters)),
        spawner: spawner(options, tasks.clone()).counting(&counters),
        counters: Arc::clone(&counters),
        look: look(&itself),
        tasks,
    };
    let sessions = Sessions::new(secret, Arc::clone(&counters));
    let lot = ParkedCalls::new(secret, counters);
    let (gate, changes) =
        snapshot::Gate::new(Arc::clone(&config), Arc::new(context), store, (sessions, lot), audit);
    // The first and only time.
    itself.set(Arc::downgrade(&gate)).ok();
    gate.apply(config, rules);
    gate.tasks.spawn("gate: follow", Arc::clone(&gate).follow(changes));
    gate.tasks.spawn("gate: sweep", sweep(Arc::clone(&gate)));
    gate.tasks.spawn("gate: names", Arc::clone(&gate).follow_names());
    let parking = Arc::clone(&gate);
    gate.tasks.spawn("gate: parked calls", async move { parking.lot.expire().await });
    gate
}

fn spawner(options: &Options, tasks: Tasks) -> Spawner {
    let (launcher, environment) = (options.launcher.clone(), std::env::vars_os());
    if options.whole_environment {
        return Spawner::whole(launcher, environment, tasks);
    }
    Spawner::new(launcher, environment, tasks)
}

/// The built-in server looks at the gate it is part of.
fn look(gate: &Arc<OnceLock<Weak<snapshot::Gate>>>) -> Look {
    let gate = Arc::clone(gate);
    Arc::new(move || {
        let gate = gate.get().and_then(Weak::upgrade);
        gate.map_or_else(
            || Report {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                uptime_seconds: 0,
                routes: Vec::new(),
                upstreams: Vec::new(),
                counters: std::collections::BTreeMap::new(),
                degraded: Vec::new(),
                edit_refused: None,
            },
            |gate| gate.report(),
        )
    })
}

async fn sweep(gate: Arc<snapshot::Gate>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let snapshot = gate.snapshot();
        snapshot.limits.sweep();
        gate.linked.sweep();
        throttle::flush();
        let limits = snapshot.config.server.limits.clone();
        for session in gate.sessions.sweep(&limits) {
            gate.forget_session(session);
        }
    }
}
