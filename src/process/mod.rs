//! The only spawner of processes: stdio servers, which never outlive the gate, nor what they start.
//!
//! | file | |
//! |---|---|
//! | `spawner` | starts children, one for the whole gate |
//! | `launch` | the program is found, its environment chosen; `__exec`, its launcher |
//! | `reaper` | the launcher while its program runs: it ends all that the program has started |
//! | `descendants` | all that a process has started, read from `/proc` |
//! | `child` | one running child: its end waited for, its group killed, everything reaped |
//! | `watchdog` | `__watch`, the process that kills the groups when the gate itself is killed |
//! | `stderr` | what a child says on the side |
//! | `last_words` | the line of it that says why it ended |
//! | `memory` | how much of it a group takes, and the bound on that |
//! | `cgroup` | where the kernel keeps that bound |
//!
//! A child is Tollgate's own binary, a *launcher*, which starts the program in its own group and
//! stays as its parent. `unsafe` being forbidden, what must happen in the new process before the
//! program runs (the parent-death signal) cannot be done between fork and exec; and only a parent
//! that stays learns of a program that leaves its group on purpose (`setsid`).

mod cgroup;
mod child;
mod descendants;
mod last_words;
mod launch;
mod memory;
mod reaper;
mod spawner;
mod stderr;
mod watchdog;

use std::{collections::BTreeMap, ffi::OsString, io, path::PathBuf, process::ExitCode};

use thiserror::Error;
use tokio::process::{ChildStdin, ChildStdout};

pub use self::{
    child::{Ended, Process},
    launch::{NotFound, Variable},
    spawner::Spawner,
};
use crate::{call::machine, config::Secret};

/// The first argument that makes the binary a launcher.
const EXEC_WORD: &str = "__exec";

/// The command to start.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The upstream, for the log.
    pub name: String,
    pub command: String,
    pub args: Vec<String>,
    /// Variables that are added to what is inherited, and win.
    pub env: BTreeMap<String, Secret>,
    /// The gate's own if none.
    pub cwd: Option<PathBuf>,
    /// Variables of the gate's own that it inherits although they may hold a secret.
    pub inherit: Vec<String>,
    /// Bytes of memory that it may take, with all of its group.
    pub memory: Option<u64>,
}

/// A started child. Its standard input and output are the caller's.
#[derive(Debug)]
pub struct Child {
    pub stdin: ChildStdin,
    pub stdout: ChildStdout,
    pub process: Process,
}

/// The binary's other lives: what `main` has to call first, before any runtime or thread.
/// `None` means that this is an ordinary start. `args` are those after the program's name.
pub fn entry(mut args: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    match args.next()?.to_str()? {
        EXEC_WORD => Some(launch::exec_entry(args)),
        watchdog::WORD => Some(watchdog::watch_entry()),
        reaper::DIE_WORD => Some(reaper::die_entry(args)),
        _ => None,
    }
}

/// Why a child was not started.
#[derive(Debug, Error)]
pub enum SpawnError {
    #[error(transparent)]
    NotFound(#[from] NotFound),
    #[error("{cwd}: not a folder: correct `cwd`, or make the folder", cwd = cwd.display())]
    NoFolder { cwd: PathBuf },
    #[error("{command}: cannot be started: {source}")]
    Failed { command: String, source: io::Error },
    #[error("the watchdog of child processes cannot be started: {source}")]
    Watchdog { source: io::Error },
}

impl SpawnError {
    /// Whether the machine had no room for it, which says nothing of the program.
    pub fn is_of_machine(&self) -> bool {
        match self {
            Self::Failed { source, .. } | Self::Watchdog { source } => machine::is_full(source),
            Self::NotFound(_) | Self::NoFolder { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests;
