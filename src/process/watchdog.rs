//! The process that outlives the gate by a moment: it kills the groups that the gate left behind.
//!
//! The parent-death signal reaches a child's launcher, which ends all that it has started; but the
//! launcher may be killed itself. So the gate starts its own binary once more as a watchdog and
//! tells it each group over a pipe: `+PGID` when one is started, `-PGID` when it is gone. However
//! the gate ends, `kill -9` included, the kernel closes the pipe. The watchdog waits for the
//! launchers that still are on its list, and then kills what is left of their groups.

use std::{
    collections::HashSet,
    io::{self, BufRead},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
};

use parking_lot::Mutex;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open, setsid},
};
use tokio::signal::unix::{SignalKind, signal};

/// The first argument that makes the binary a watchdog.
pub const WORD: &str = "__watch";
/// How long launchers may take once the gate has ended, as long as while it runs.
const LAUNCHERS_MAX_MS: i64 = 3_000;
/// The pause between two looks at them.
const LOOK_MS: i64 = 10;

/// The gate's end of the pipe. The process is started by the first group, and once more by the next
/// one if it died.
#[derive(Debug)]
pub struct Watchdog {
    launcher: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    groups: HashSet<Pid>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    process: tokio::process::Child,
    pipe: OwnedFd,
}

impl Watchdog {
    /// `launcher` is Tollgate's own binary.
    pub fn new(launcher: PathBuf) -> Self {
        Self { launcher, state: Mutex::default() }
    }

    /// Hands a group to the watchdog. From when this returns `Ok`, `group` does not outlive the
    /// gate.
    ///
    /// # Errors
    /// Where the watchdog cannot be started, or told.
    pub fn add(&self, group: Pid) -> io::Result<()> {
        let mut state = self.state.lock();
        state.groups.insert(group);
        if state.tell('+', group) {
            return Ok(());
        }
        let started = start(&self.launcher).and_then(|running| {
            let all: String = state.groups.iter().map(|group| line('+', *group)).collect();
            rustix::io::write(&running.pipe, all.as_bytes())?;
            Ok(running)
        });
        match started {
            Ok(running) => state.running = Some(running),
            Err(error) => {
                // Its number may be another group's by the time that there is a watchdog.
                state.groups.remove(&group);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Takes a group back. Call this while the number still is the group's, that is before its
    /// leader is reaped.
    pub fn remove(&self, group: Pid) {
        let mut state = self.state.lock();
        state.groups.remove(&group);
        state.tell('-', group);
    }
}

impl State {
    /// Whether a watchdog runs and was told. One that cannot be told is given up.
    fn tell(&mut self, sign: char, group: Pid) -> bool {
        let Some(running) = &mut self.running else { return false };
        // A line is shorter than PIPE_BUF: the pipe takes it whole or not at all.
        if rustix::io::write(&running.pipe, line(sign, group).as_bytes()).is_ok() {
            return true;
        }
        // Killed before its pipe is closed, else it would do its work while the gate lives.
        if let Err(error) = running.process.start_kill() {
            tracing::debug!(%error, "the watchdog was gone already");
        }
        self.running = None;
        false
    }
}

fn line(sign: char, group: Pid) -> String {
    format!("{sign}{}\n", group.as_raw_pid())
}

fn start(launcher: &Path) -> io::Result<Running> {
    let mut process = tokio::process::Command::new(launcher)
        .arg(WORD)
        .env_clear()
        .current_dir("/") // holds no folder that somebody wants to unmount
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0) // not reached by a terminal's Ctrl-C
        .spawn()?;
    let pipe = process.stdin.take().expect("standard input was asked for").into_owned_fd()?;
    // A watchdog that does not read must not block a worker: the write fails and it is replaced.
    rustix::io::ioctl_fionbio(&pipe, true)?;
    Ok(Running { process, pipe })
}

/// `tollgate __watch`: reads `+PGID` and `-PGID` lines until standard input ends, which it does
/// when the gate is gone, then kills the groups that are left.
pub fn watch_entry() -> ExitCode {
    // Ends in an error when it is a session's leader already, which is as good.
    setsid().ok();
    // Signals meant for the gate (a supervisor may send them to all its processes) do not end it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let _inside = runtime.as_ref().ok().map(tokio::runtime::Runtime::enter);
    let _caught = runtime.as_ref().ok().map(|_| {
        [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal)
    });
    let mut groups = HashSet::new();
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        note(&mut groups, &line);
    }
    wait_for_launchers(&groups);
    for group in groups {
        // The group may be gone by itself.
        kill_process_group(group, Signal::KILL).ok();
    }
    ExitCode::SUCCESS
}

/// Waits until the leaders of these groups have ended, for as long as they may take.
fn wait_for_launchers(groups: &HashSet<Pid>) {
    let open = |group: &Pid| Some((*group, pidfd_open(*group, PidfdFlags::empty()).ok()?));
    let mut leaders: Vec<(Pid, OwnedFd)> = groups.iter().filter_map(open).collect();
    let mut left = LAUNCHERS_MAX_MS;
    while !leaders.is_empty() && 0 < left {
        for (leader, _) in &leaders {
            // A program may stop its whole group, as shells stop a job, at any time.
            kill_process(*leader, Signal::CONT).ok();
        }
        left -= LOOK_MS;
        let pause = Timespec { tv_sec: 0, tv_nsec: LOOK_MS * 1_000_000 };
        poll(&mut [], Some(&pause)).ok();
        leaders.retain(|(_, process)| {
            let mut ended = [PollFd::new(process, PollFlags::IN)];
            poll(&mut ended, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) == Ok(0)
        });
    }
}

fn note(groups: &mut HashSet<Pid>, line: &str) {
    // The numbers 0 and 1 would mean, as groups to kill, "my own" and "everybody".
    let group = |text: &str| Pid::from_raw(text.parse().ok().filter(|number| 1 < *number)?);
    if let Some(group) = line.strip_prefix('+').and_then(group) {
        groups.insert(group);
    } else if let Some(group) = line.strip_prefix('-').and_then(group) {
        groups.remove(&group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_the_list() {
        let mut groups = HashSet::new();
        for line in ["+12", "+7", "-12", "+1", "+0", "+-5", "", "+x", "-99"] {
            note(&mut groups, line);
        }
        assert_eq!(groups.into_iter().map(Pid::as_raw_pid).collect::<Vec<_>>(), [7]);
    }
}
