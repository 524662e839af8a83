//! The whole gate as a process: built, bound, run, drained.

#[cfg(feature = "pingora")]
mod pingora;
mod process;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::{
    call::tasks::Tasks,
    config::{self, Config, Problems},
    ingress::listen::{self, Front},
    kit::report::{Look, Report},
    net::Net,
    park::Lot,
    reload::Reloader,
    session::{Sessions, seal::Sealer},
    snapshot,
    store::Store,
    telemetry::Counters,
    upstream::{Context, child::Spawner},
};

#[cfg(feature = "pingora")]
pub use self::pingora::serve;
pub use self::process::runtime;
#[cfg(not(feature = "pingora"))]
pub use self::process::serve;

/// How often sessions that nobody uses are looked for.
const SWEEP: Duration = Duration::from_secs(30);
/// What ends after the calls has this long: processes above all, which are asked before they are
/// killed.
const END: Duration = Duration::from_secs(2);
/// The file in the state folder that holds the key.
const KEY_FILE: &str = "session.key";

/// What a gate is started with.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub config: PathBuf,
    /// In place of the file's `listen`.
    pub listen: Option<SocketAddr>,
    /// Whether edits of the file are applied.
    pub watch: bool,
    /// Tollgate's own binary, through which children are started; without it they are started
    /// directly, and outlive a gate that is killed outright.
    pub launcher: Option<PathBuf>,
    /// Whether [`serve`] takes the listening socket over from the gate that runs on the same state
    /// folder; only a build with the feature `pingora` can.
    pub upgrade: bool,
}

/// Why a gate did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0}")]
    Config(Problems),
    #[error("the state folder {folder}: {error}", folder = .folder.display())]
    State { folder: PathBuf, error: std::io::Error },
    #[error("`session_key` has fewer than {} bytes", Sealer::SECRET_BYTES_MIN)]
    Key,
    #[error("cannot listen on {address}: {error}")]
    Listen { address: SocketAddr, error: std::io::Error },
    #[error("{0}")]
    Tls(String),
    #[error("cannot take over from the gate that runs: {0}")]
    Upgrade(String),
    #[error("the system gives no thread or no signal: {0}")]
    Process(#[from] std::io::Error),
}

/// A gate that serves.
#[derive(Debug)]
pub struct Gate {
    inner: Arc<snapshot::Gate>,
    address: SocketAddr,
    stop: CancellationToken,
    /// Told when the front has ended.
    front: oneshot::Receiver<()>,
    reload: mpsc::Sender<()>,
}

/// Reads, binds, begins to open the upstreams, and serves; returns as soon as it listens.
pub async fn start(options: Options) -> Result<Gate, StartError> {
    let plan = Plan::new(options)?;
    let listener = plan.bind().await?;
    plan.start(listener)
}

/// What a gate is built from, read and checked: all that it still needs is a socket.
struct Plan {
    options: Options,
    config: Arc<Config>,
    tls: Option<TlsAcceptor>,
    store: Store,
    secret: Vec<u8>,
}

impl Plan {
    fn new(options: Options) -> Result<Self, StartError> {
        let config = load(&options)?;
        let tls =
            config.server.tls.as_ref().map(listen::tls).transpose().map_err(StartError::Tls)?;
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
        Ok(Self { options, config, tls, store, secret })
    }

    async fn bind(&self) -> Result<TcpListener, StartError> {
        let address = self.config.server.listen;
        TcpListener::bind(address).await.map_err(|error| StartError::Listen { address, error })
    }

    fn start(self, listener: TcpListener) -> Result<Gate, StartError> {
        let Self { options, config, tls, store, secret } = self;
        let address = config.server.listen;
        let address =
            listener.local_addr().map_err(|error| StartError::Listen { address, error })?;
        let gate = build(&options, config, store, &secret);
        let stop = CancellationToken::new();
        let (reload, asked) = mpsc::channel(1);
        if options.watch {
            let reloader = Reloader::new(Arc::clone(&gate), &options.config, options.listen);
            gate.tasks.spawn("reload", reloader.run(asked));
        }
        let front = Front::new(Arc::clone(&gate), listener, tls);
        let (stopping, (ended, front_ended)) = (stop.clone(), oneshot::channel());
        gate.tasks.finish(async move {
            front.run(async move { stopping.cancelled().await }).await;
            // Nobody waits where the gate was dropped.
            ended.send(()).ok();
        });
        Ok(Gate { inner: gate, address, stop, front: front_ended, reload })
    }
}

impl Gate {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until every eager upstream has been opened, or has failed, once, and all that they
    /// list is known.
    pub async fn settled(&self) {
        self.inner.listed().await;
    }

    pub fn is_tls(&self) -> bool {
        self.inner.snapshot().config.server.tls.is_some()
    }

    /// What may be looked at while the gate runs.
    pub fn viewer(&self) -> Viewer {
        Viewer(Arc::clone(&self.inner))
    }

    /// Reads the file again now (SIGHUP).
    pub fn reload(&self) {
        // One request that waits is enough.
        self.reload.try_send(()).ok();
    }

    /// Takes no more connections, lets calls end (`drain` at most), then ends every upstream; all
    /// together takes `drain` and 2 s at most.
    pub async fn stop(self) {
        let drain = self.inner.snapshot().config.server.limits.drain;
        let deadline = Instant::now() + drain;
        self.inner.begin_closing();
        self.stop.cancel();
        if self.front.await.is_err() {
            tracing::error!("the front had ended before");
        }
        if !shut(&self.inner, deadline).await {
            tracing::warn!("not everything ended within {drain:?} (`drain`)");
        }
    }
}

/// A look at a running gate.
#[derive(Debug, Clone)]
pub struct Viewer(Arc<snapshot::Gate>);

impl Viewer {
    pub fn report(&self) -> Report {
        self.0.report()
    }

    /// Waits until every eager upstream has been opened, or has failed, once.
    pub async fn settled(&self) {
        self.0.settled().await;
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
    gate.tasks.drained(last.saturating_duration_since(Instant::now())).await && closed
}

fn load(options: &Options) -> Result<Arc<Config>, StartError> {
    let mut config =
        config::load(&options.config, &config::environment).map_err(StartError::Config)?;
    if let Some(listen) = options.listen {
        config.server.listen = listen;
    }
    Ok(Arc::new(config))
}

fn build(
    options: &Options,
    config: Arc<Config>,
    store: Store,
    secret: &[u8],
) -> Arc<snapshot::Gate> {
    let counters = Arc::<Counters>::default();
    let tasks = Tasks::default();
    let itself = Arc::new(OnceLock::new());
    let context = Context {
        net: Net::new(),
        spawner: Spawner::new(options.launcher.clone(), std::env::vars_os(), tasks.clone()),
        counters: Arc::clone(&counters),
        look: look(&itself),
        tasks,
    };
    let sessions = Sessions::new(secret, Arc::clone(&counters));
    let lot = Lot::new(secret, counters);
    let (gate, changes) =
        snapshot::Gate::new(Arc::clone(&config), Arc::new(context), store, sessions, lot);
    // The first and only time.
    itself.set(Arc::downgrade(&gate)).ok();
    gate.apply(config);
    gate.tasks.spawn("gate: follow", Arc::clone(&gate).follow(changes));
    gate.tasks.spawn("gate: sweep", sweep(Arc::clone(&gate)));
    let parking = Arc::clone(&gate);
    gate.tasks.spawn("gate: parked calls", async move { parking.lot.expire().await });
    gate
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
            },
            |gate| gate.report(),
        )
    })
}

async fn sweep(gate: Arc<snapshot::Gate>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let limits = gate.snapshot().config.server.limits.clone();
        for session in gate.sessions.sweep(&limits) {
            gate.forget_session(session);
        }
    }
}
