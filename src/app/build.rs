//! A gate built from its configuration, and started.

use std::{
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket},
    sync::mpsc,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    admin::AdminServer,
    audit::{Audit, AuditOpenError, CallerKey},
    builtin::report::{Report, ReportSource},
    call::{machine, tasks::Tasks},
    config::{self, Config},
    ingress::{listen::Listener, tls::ServerCertificates},
    net::{Net, vault::Vault},
    park::ParkedCalls,
    policy::{self, Rulebook},
    process::Spawner,
    reload::Reloader,
    session::{Sessions, seal::Sealer},
    snapshot,
    store::StateFolder,
    telemetry::{Counters, throttle},
    trace::{Exporter, TraceSettings, Tracer},
    upstream::{Openings, ReadBudget, UpstreamContext},
};

use super::{
    descriptors,
    error::StartError,
    gate::{Core, RunningGate},
    options::Options,
    secrets,
};

/// The pause between two searches for sessions that nobody uses and buckets that are full again.
const SWEEP: Duration = Duration::from_secs(30);
/// Connections of operators that wait to be accepted.
const ADMIN_BACKLOG: u32 = 64;
/// How long a gate waits for the audit log of the one before it: longer than that takes to end by
/// default (`drain`, 10 s, and 2 s).
const AUDIT_PATIENCE: Duration = Duration::from_secs(30);
/// The pause between two looks whether it is free.
const AUDIT_PAUSE: Duration = Duration::from_millis(100);
/// The file in the state folder that holds the key.
const KEY_FILE: &str = "session.key";

/// Reads, binds, begins to open the upstreams, and serves; returns as soon as it listens.
///
/// # Errors
/// The configuration is wrong, or something that it names cannot be opened or bound.
pub async fn start(options: Options) -> Result<RunningGate, StartError> {
    let plan = Plan::new(options).await?;
    let listener = plan.bind().await?;
    plan.start(listener)
}

/// The parts that a gate is built from, read and checked: all that it still needs is a socket.
pub(super) struct Plan {
    pub options: Options,
    pub config: Arc<Config>,
    rules: Rulebook,
    tls: Option<Arc<ServerCertificates>>,
    store: StateFolder,
    secret: Vec<u8>,
    vault: Arc<Vault>,
    audit: Option<Arc<Audit>>,
    counters: Arc<Counters>,
}

impl Plan {
    /// Reads and checks all that a gate is built from, and opens its files.
    ///
    /// # Errors
    /// Something of it is wrong, or cannot be opened.
    pub async fn new(options: Options) -> Result<Self, StartError> {
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
        let tls = config.server.tls.as_ref().map(ServerCertificates::read).transpose();
        let tls = tls.map_err(StartError::Tls)?;
        let folder = &config.server.state;
        let failed = |error| StartError::State { folder: folder.clone(), error };
        let store = StateFolder::open(folder).map_err(failed)?;
        store.check_owner(KEY_FILE).map_err(failed)?;
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
        let audit = match &config.audit {
            Some(settings) => {
                Some(open_audit(settings, &secret, &counters, options.upgrade).await?)
            }
            None => None,
        };
        Ok(Self { options, config, rules, tls, store, secret, vault, audit, counters })
    }

    /// Binds the socket on which clients are accepted.
    ///
    /// # Errors
    /// The address is taken, or not of this machine.
    pub async fn bind(&self) -> Result<TcpListener, StartError> {
        let address = self.config.server.listen;
        TcpListener::bind(address).await.map_err(|error| StartError::Listen { address, error })
    }

    /// Builds the gate, and begins to serve on this socket and on the operators'.
    ///
    /// # Errors
    /// The operators' address cannot be bound.
    pub fn start(mut self, listener: TcpListener) -> Result<RunningGate, StartError> {
        let address = self.config.server.listen;
        let address =
            listener.local_addr().map_err(|error| StartError::Listen { address, error })?;
        let tls = self.tls.take();
        let for_operators = self.bind_admin()?;
        let admin = for_operators.as_ref().and_then(|listener| listener.local_addr().ok());
        let core = self.start_core();
        if let Some(tls) = &tls {
            let following = Arc::clone(tls).follow(Arc::clone(&core.inner.counters));
            core.inner.tasks.spawn("tls: certificates", following);
        }
        if let Some(listener) = for_operators {
            let server = AdminServer::new(Arc::clone(&core.inner), listener);
            core.listeners.spawn("admin", server.run(core.stop.clone()));
        }
        let listener = Listener::new(Arc::clone(&core.inner), listener, tls);
        let stopping = core.stop.clone();
        core.listeners.finish(listener.run(async move { stopping.cancelled().await }));
        Ok(RunningGate { core, address, admin })
    }

    /// Binds the operators' socket, where they have one. It is shared, so that a gate that takes
    /// over can open it while the old one ends.
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

    /// Builds the gate and starts all of it but its listeners.
    pub fn start_core(mut self) -> Core {
        let rules = std::mem::take(&mut self.rules);
        let gate = self.build(rules);
        let Self { options, vault, .. } = self;
        let (reload, requested) = mpsc::channel(1);
        if options.watch {
            let keeping = secrets::keep(Arc::clone(&gate), Arc::clone(&vault));
            gate.tasks.spawn("secrets of Vault", keeping);
            let Options { config, layers, listen, .. } = options;
            let reloader = Reloader::new(Arc::clone(&gate), vault, config, layers, listen);
            gate.tasks.spawn("reload", reloader.run(requested));
        }
        Core { inner: gate, stop: CancellationToken::new(), listeners: Tasks::default(), reload }
    }

    fn build(&self, rules: Rulebook) -> Arc<snapshot::Gate> {
        let Self { options, config, store, secret, counters, .. } = self;
        let tasks = Tasks::default();
        let itself = Arc::new(OnceLock::new());
        let openings = Openings::new(config.server.limits.openings_max, Arc::clone(counters));
        let context = UpstreamContext {
            net: Net::new(),
            store: store.clone(),
            openings,
            reading: ReadBudget::new(machine::memory(), Arc::clone(counters)),
            spawner: spawner(options, tasks.clone()).counting(counters),
            counters: Arc::clone(counters),
            look: report_source(&itself),
            tasks,
        };
        let logs = snapshot::CallLogs {
            audit: self.audit.clone(),
            tracer: tracer(&config.telemetry, &context),
            caller_key: CallerKey::new(secret),
        };
        let sessions = Sessions::new(secret, Arc::clone(counters));
        let lot = ParkedCalls::new(secret, Arc::clone(counters));
        let (gate, changes) = snapshot::Gate::new(
            Arc::clone(config),
            Arc::new(context),
            store.clone(),
            sessions,
            lot,
            logs,
        );
        // The first and only time.
        itself.set(Arc::downgrade(&gate)).ok();
        gate.apply(Arc::clone(config), rules);
        gate.tasks.spawn("gate: follow", Arc::clone(&gate).follow(changes));
        gate.tasks.spawn("gate: sweep", sweep(Arc::clone(&gate)));
        gate.tasks.spawn("gate: names", Arc::clone(&gate).follow_names());
        let parking = Arc::clone(&gate);
        gate.tasks.spawn("gate: parked calls", async move { parking.lot.expire().await });
        gate
    }
}

/// Opens the audit log. Where a gate that ends has the file still, waits for that: it drains before
/// it lets go of it.
async fn open_audit(
    settings: &config::Audit,
    secret: &[u8],
    counters: &Arc<Counters>,
    upgrade: bool,
) -> Result<Arc<Audit>, AuditOpenError> {
    let deadline = Instant::now() + AUDIT_PATIENCE;
    let mut opened = Audit::open(settings, secret, counters, upgrade);
    if let Err(error @ AuditOpenError::Taken(_)) = &opened {
        tracing::warn!(%error, "waiting until it ends, {AUDIT_PATIENCE:?} at most");
    }
    while matches!(opened, Err(AuditOpenError::Taken(_))) && Instant::now() < deadline {
        tokio::time::sleep(AUDIT_PAUSE).await;
        opened = Audit::open(settings, secret, counters, upgrade);
    }
    opened
}

/// Starts the export of traces; none where there are none. A gate without traces is better than
/// none.
fn tracer(settings: &config::Telemetry, context: &UpstreamContext) -> Option<Arc<Tracer>> {
    let settings = TraceSettings::of(settings, &config::environment)?;
    match Exporter::start(&settings, context.net.clone(), &context.counters) {
        Ok((tracer, exporter)) => {
            let tasks = context.tasks.clone();
            context.tasks.finish(exporter.run(tasks));
            Some(tracer)
        }
        Err(error) => {
            tracing::error!(%error, "there are no traces (`endpoint` of `[telemetry]`)");
            None
        }
    }
}

fn spawner(options: &Options, tasks: Tasks) -> Spawner {
    let launcher = options.launcher.clone();
    let environment = std::env::vars_os();
    if options.whole_environment {
        return Spawner::whole(launcher, environment, tasks);
    }
    Spawner::new(launcher, environment, tasks)
}

/// Lets the built-in server report on the gate that it is a part of.
fn report_source(gate: &Arc<OnceLock<Weak<snapshot::Gate>>>) -> ReportSource {
    let gate = Arc::clone(gate);
    Arc::new(move || {
        let gate = gate.get().and_then(Weak::upgrade);
        gate.map_or_else(
            || Report { version: env!("CARGO_PKG_VERSION").to_owned(), ..Report::default() },
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
