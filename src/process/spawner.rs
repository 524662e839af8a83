//! Starts children.

use std::{fmt, io, path::PathBuf, process::Stdio, sync::Arc};

use rustix::process::{Pid, getpid};
use tokio::{
    io::AsyncWriteExt,
    process::Command,
    signal::unix::{SignalKind, signal},
};

use crate::{
    call::{machine, tasks::Tasks},
    telemetry::Counters,
};

use super::{
    Child, EXEC_WORD, Settings, SpawnError,
    child::{self, Group},
    launch::{self, Environment, Variable},
    memory::Memory,
    watchdog::Watchdog,
};

/// Starts children; one for the whole gate.
pub struct Spawner {
    launcher: Option<PathBuf>,
    watchdog: Option<Arc<Watchdog>>,
    environment: Environment,
    counters: Arc<Counters>,
    pub(super) tasks: Tasks,
}

impl Spawner {
    /// `launcher` is Tollgate's own binary (`/proc/self/exe`, which also survives an upgrade of the
    /// file). Without one, children are started directly and outlive a gate that is killed
    /// outright: for tests in process only. `environment` is the gate's own, of which children get
    /// what is known to be no secret and what their sections name. Each child has one of `tasks`,
    /// which ends with it.
    pub fn new(
        launcher: Option<PathBuf>,
        environment: impl IntoIterator<Item = Variable>,
        tasks: Tasks,
    ) -> Self {
        Self {
            watchdog: launcher.clone().map(|launcher| Arc::new(Watchdog::new(launcher))),
            launcher,
            environment: Environment::new(environment),
            counters: Arc::default(),
            tasks,
        }
    }

    /// Makes a spawner whose children inherit the gate's whole environment: for a command that the
    /// operator could as well have started in place of the gate.
    pub fn whole(
        launcher: Option<PathBuf>,
        environment: impl IntoIterator<Item = Variable>,
        tasks: Tasks,
    ) -> Self {
        let environment = Environment::whole(environment);
        Self { environment, ..Self::new(launcher, [], tasks) }
    }

    /// Counts in these counters.
    pub fn counting(self, counters: &Arc<Counters>) -> Self {
        Self { counters: Arc::clone(counters), ..self }
    }

    /// Starts a child.
    ///
    /// # Errors
    /// The program is not there, or could not be started. That it runs is not said: a program that
    /// cannot be executed (no interpreter) ends at once, and its standard error says why.
    pub async fn spawn(&self, settings: &Settings) -> Result<Child, SpawnError> {
        let failed = |source| failed(settings, source);
        let mut command = self.command(settings)?;
        // The signal is caught from before the start, so that an early end is not missed.
        let children = signal(SignalKind::child()).map_err(failed)?;
        let mut leader = command.spawn().map_err(failed)?;
        let id = leader.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let id = id.expect("not polled, so not reaped");
        let mut group = Group::new(id, self.watchdog.clone(), children)
            .map_err(|source| SpawnError::Watchdog { source })?;
        // The child waits for the word to begin, below, and takes the bound along.
        group.memory = settings.memory.map(|bytes_max| {
            Arc::new(Memory::bound(&settings.name, id, bytes_max, &self.counters))
        });

        let stdin = leader.stdin.take().expect("standard input was asked for");
        let stdout = leader.stdout.take().expect("standard output was asked for");
        let stderr = leader.stderr.take().expect("standard error was asked for");
        let has = |name: &str| {
            settings.env.contains_key(name) || settings.inherit.iter().any(|known| known == name)
        };
        group.remark = self.environment.remark(has);
        let (process, work) = child::watched(leader, group, stderr, settings.name.clone());
        self.tasks.finish(work);
        let mut child = Child { stdin, stdout, process };
        if self.launcher.is_some() {
            child.stdin.write_all(b"\n").await.map_err(failed)?;
        }
        Ok(child)
    }

    /// Looks whether the program and its folder are there, and starts nothing.
    ///
    /// # Errors
    /// What is not there.
    pub fn find(&self, settings: &Settings) -> Result<(), SpawnError> {
        self.command(settings).map(drop)
    }

    fn command(&self, settings: &Settings) -> Result<Command, SpawnError> {
        if let Some(cwd) = settings.cwd.as_ref().filter(|cwd| !cwd.is_dir()) {
            return Err(SpawnError::NoFolder { cwd: cwd.clone() });
        }
        // A program that is found from a relative folder would be looked for once more inside it.
        let cwd = settings.cwd.as_ref().map(std::path::absolute).transpose();
        let cwd = cwd.map_err(|source| failed(settings, source))?;
        let inherited = self.environment.of_child(&settings.inherit);
        let path = launch::search_path(&inherited, &settings.env);
        let program = launch::find_program(&settings.command, path, cwd.as_deref())?;
        let mut command = match &self.launcher {
            Some(launcher) => {
                let mut command = Command::new(launcher);
                let parent = getpid().as_raw_pid().to_string();
                let descriptors = machine::descriptors_given().unwrap_or(u64::MAX).to_string();
                command.arg(EXEC_WORD).arg(parent).arg(descriptors).arg(program);
                command
            }
            None => Command::new(program),
        };
        command
            .args(&settings.args)
            .env_clear()
            .envs(inherited.iter().map(|(name, value)| (name, value)))
            .envs(settings.env.iter().map(|(name, value)| (name, value.expose())))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        if let Some(cwd) = cwd {
            command.current_dir(cwd);
        }
        Ok(command)
    }
}

/// The environment is left out: the address of a proxy may hold a password.
impl fmt::Debug for Spawner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawner").field("launcher", &self.launcher).finish_non_exhaustive()
    }
}

fn failed(settings: &Settings, source: io::Error) -> SpawnError {
    SpawnError::Failed { command: settings.command.clone(), source }
}
