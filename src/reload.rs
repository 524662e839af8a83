//! Watches the configuration file: an edit is applied within a second; a wrong one changes nothing
//! and is logged in full.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use notify::{
    EventKind, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    config::{self, Config, Inputs, Layers, Problems},
    net::vault::Vault,
    policy::{self, Rulebook},
    snapshot::Gate,
    telemetry::Counter,
};

/// Editors write in several steps; after this much silence the file is read.
const SETTLE: Duration = Duration::from_millis(150);
/// The file is looked at this often even without an event, and read where it may have changed:
/// network file systems give none, and a folder that is replaced takes its watch with it. With
/// [`STEADY`] it is within the second that an edit may take.
const POLL: Duration = Duration::from_millis(700);
/// The content must be the same for this long: a file that is emptied, and then written, is not an
/// edit that takes policies away.
const STEADY: Duration = Duration::from_millis(250);
/// Sections that differ which one reload tells.
const CHANGES_SHOWN: usize = 50;

/// Whether nothing was changed: a file was opened, read, or closed by a reader.
fn is_reading(event: EventKind) -> bool {
    let written = AccessKind::Close(AccessMode::Write);
    matches!(event, EventKind::Access(kind) if kind != written)
}

/// Watches one file.
pub struct Reloader {
    gate: Arc<Gate>,
    vault: Arc<Vault>,
    path: PathBuf,
    layers: Layers,
    listen: Option<std::net::SocketAddr>,
    /// The address on which the gate listens until it ends, whatever an edit says.
    bound: std::net::SocketAddr,
    /// Folders besides that of the file.
    watched: BTreeSet<PathBuf>,
    /// The problems that were logged last.
    logged: Option<String>,
    /// An edit that was read and is not in force.
    pending: Option<PendingEdit>,
    /// What the configuration in force was read from.
    inputs: Inputs,
}

/// A file as it was read: a configuration, or all that is wrong with it.
type Edit = Result<Config, RefusedEdit>;

struct PendingEdit {
    read: Edit,
    /// The time since which each reading has been the same.
    since: Instant,
}

/// Why an edit is not applied.
#[derive(Clone, PartialEq)]
struct RefusedEdit {
    /// The text for the log, with the lines that are wrong.
    whole: String,
    /// The text for whoever is shown the gate's state, without lines, which may hold secrets.
    brief: String,
}

impl Reloader {
    /// `layers` and `listen` are what the command line said besides the file, and in its place.
    pub fn new(
        gate: Arc<Gate>,
        vault: Arc<Vault>,
        path: PathBuf,
        layers: Layers,
        listen: Option<std::net::SocketAddr>,
    ) -> Self {
        let bound = gate.snapshot().config.server.listen;
        Self {
            gate,
            vault,
            path,
            layers,
            listen,
            bound,
            watched: BTreeSet::new(),
            logged: None,
            pending: None,
            inputs: Inputs::default(),
        }
    }

    /// Runs for as long as the gate does. `requested` wakes it at once (SIGHUP).
    pub async fn run(mut self, mut requested: mpsc::Receiver<()>) {
        let (event_sender, mut events) = mpsc::channel(1);
        let mut watcher = self.watch(event_sender);
        if watcher.is_none() {
            let path = self.path.display();
            tracing::warn!(%path, "cannot be watched; it is looked at every {POLL:?}");
        }
        let mut next = Instant::now() + POLL;
        loop {
            tokio::select! {
                // All of these keep what they have when dropped.
                Some(()) = events.recv() => {
                    self.inputs.forget();
                    tokio::time::sleep(SETTLE).await;
                }
                Some(()) = requested.recv() => {
                    self.inputs.forget();
                    self.logged = None;
                }
                () = tokio::time::sleep_until(next) => (),
            }
            while events.try_recv().is_ok() {}
            if self.check() {
                watcher.iter_mut().for_each(|watcher| self.watch_more(watcher));
            }
            if let Some(audit) = &self.gate.audit {
                audit.look();
            }
            next = Instant::now() + if self.pending.is_some() { STEADY } else { POLL };
        }
    }

    /// The folder is watched, not the file: editors and Kubernetes put another file in its place.
    fn watch(&self, events: mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let on_event = move |event: notify::Result<notify::Event>| {
            // The gate opens and reads these files itself.
            if !event.is_ok_and(|event| is_reading(event.kind)) {
                // A single event that waits is enough.
                events.try_send(()).ok();
            }
        };
        let mut watcher = notify::recommended_watcher(on_event).ok()?;
        watcher.watch(folder, RecursiveMode::NonRecursive).ok()?;
        Some(watcher)
    }

    /// Watches the folders of policies and of secret files, too, as they are now.
    fn watch_more(&mut self, watcher: &mut notify::RecommendedWatcher) {
        let config = &self.gate.snapshot().config;
        for folder in config.rule_folders().union(&config.secret_folders).cloned() {
            if self.watched.contains(&folder) {
                continue;
            }
            if let Err(error) = watcher.watch(&folder, RecursiveMode::NonRecursive) {
                let folder = folder.display();
                tracing::debug!(%folder, %error, "is not watched, but looked at every {POLL:?}");
            }
            self.watched.insert(folder);
        }
    }

    /// Reads the file, and what it refers to, where something of that may have changed, and
    /// compares with what is in force. An edit counts once it was read twice. Returns whether
    /// anything was read.
    fn check(&mut self) -> bool {
        let in_force = Arc::clone(&self.gate.snapshot().config);
        // Taken before the reading: what changes meanwhile has another stamp afterwards.
        let stamps =
            self.inputs.stamps(&self.path, &in_force.files, |name| self.vault.lookup(name));
        if self.inputs.were_read(&stamps, Instant::now()) {
            return false;
        }
        let read = self.read();
        if read.as_ref().is_ok_and(|config| *in_force == *config) {
            self.inputs.note(stamps, Instant::now());
            self.pending = None;
            if self.logged.take().is_some() {
                tracing::info!("the edit that was not applied is taken back");
            }
            self.gate.refuse_edit(None);
        } else {
            self.inputs.forget();
            self.take(read);
        }
        true
    }

    /// Puts an edit in force that has been the same for long enough.
    fn take(&mut self, read: Edit) {
        let since = match self.pending.take() {
            Some(pending) if pending.read == read => pending.since,
            Some(_) | None => Instant::now(),
        };
        if since.elapsed() < STEADY {
            self.pending = Some(PendingEdit { read, since });
            return;
        }
        match read.and_then(|config| {
            Ok((policy::compile(&config).map_err(|problems| refused(&problems))?, config))
        }) {
            Ok((rules, config)) => {
                self.logged = None;
                self.gate.refuse_edit(None);
                self.apply(config, rules);
            }
            Err(refused) if self.logged.as_ref() != Some(&refused.whole) => {
                self.gate.counters.add(Counter::ReloadsRefused);
                tracing::error!("the edit is not applied, {}", refused.whole);
                self.gate.refuse_edit(Some(refused.brief));
                self.logged = Some(refused.whole);
            }
            Err(_) => (),
        }
    }

    fn read(&self) -> Edit {
        let environment = |name: &str| self.inputs.look_up(name, |name| self.vault.lookup(name));
        let read = config::load_layered(&self.path, &self.layers, &environment);
        let mut config = read.map_err(|problems| refused(&problems))?;
        let bound = self.bound;
        let opens = |route| {
            let whole = format!("it opens `{route}` to everybody who reaches {bound}");
            RefusedEdit { brief: whole.clone(), whole }
        };
        match self.listen {
            Some(_) => config.listen_on(bound).map_err(opens)?,
            // The file's value of it counts at the next start only.
            None => config.clone().listen_on(bound).map_err(opens)?,
        }
        Ok(config)
    }

    fn apply(&self, config: Config, rules: Rulebook) {
        let before = self.gate.snapshot();
        for key in needs_restart(&before.config, &config) {
            tracing::warn!("a change of `{key}` takes effect at the next start");
        }
        let changes = before.config.changes(&config);
        self.gate.apply(Arc::new(config), rules);
        self.gate.counters.add(Counter::Reloads);
        tracing::info!(path = %self.path.display(), "reloaded");
        for change in changes.iter().take(CHANGES_SHOWN) {
            tracing::info!("reloaded: {change}");
        }
        let more = changes.len().saturating_sub(CHANGES_SHOWN);
        if 0 < more {
            tracing::info!(more, "reloaded: more sections changed");
        }
    }
}

fn refused(problems: &Problems) -> RefusedEdit {
    let count = problems.len();
    let text = |text| format!("{count} problem(s):\n{text}");
    RefusedEdit { whole: text(problems.render(false)), brief: text(problems.brief()) }
}

/// Keys that are read once, by what differs.
fn needs_restart(before: &Config, after: &Config) -> Vec<&'static str> {
    let audit = before.audit != after.audit;
    let telemetry = before.telemetry != after.telemetry;
    let before = &before.server;
    let after = &after.server;
    let pairs = [
        ("audit", audit),
        ("telemetry", telemetry),
        ("server.listen", before.listen != after.listen),
        ("server.admin", before.admin != after.admin),
        ("server.tls", before.tls != after.tls),
        ("server.state", before.state != after.state),
        ("server.session_key", before.session_key != after.session_key),
        (
            "server.limits.connections_max",
            before.limits.connections_max != after.limits.connections_max,
        ),
        ("server.limits.requests_max", before.limits.requests_max != after.limits.requests_max),
    ];
    pairs.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
}
