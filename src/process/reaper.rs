//! The launcher while its program runs: the parent of all that the program leaves behind, whatever
//! session or group it went to, and the end of that.
//!
//! A process whose parent has ended becomes a child of its nearest ancestor that is a *subreaper*
//! (`PR_SET_CHILD_SUBREAPER(2const)`). The launcher is one, so that no daemon that the program
//! makes, by `setsid` and two forks, leaves the tree below the launcher.

use std::{ffi::OsString, fs::File, io, os::unix::process::CommandExt, process::ExitCode};

use rustix::{
    event::{Timespec, poll},
    io::Errno,
    process::{
        Pid, Resource, Rlimit, Signal, WaitOptions, WaitStatus, getpid, getppid, kill_process,
        set_child_subreaper, setrlimit, wait,
    },
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{Signal as Signals, SignalKind, signal},
};

use super::descendants;

/// The first argument that makes the binary end by a signal.
pub const DIE_WORD: &str = "__die";
/// The signal that the gate sends to a launcher that is to end all that it has started: no program
/// sends it to its own group, which the launcher is in.
pub const END_SIGNAL: Signal = Signal::POWER;
/// Signals that a program may send to its group, or somebody at a terminal, and that are not for
/// the launcher.
const IGNORED: [Signal; 7] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::ALARM,
    Signal::VTALARM,
];
/// How often it is looked for what is killed and not gone yet, with pauses that double from 1 ms:
/// two seconds in all. What is left then belongs to another user, or hangs in the kernel.
const LOOKS: u32 = 11;
/// The number that shells add to the number of a signal for an exit code.
const SIGNAL_CODE: i32 = 128;

/// The launcher before its program has begun.
#[derive(Debug)]
pub struct Reaper {
    gate: Pid,
    runtime: Runtime,
    children: Signals,
    /// The signal of the parent's end, which a supervisor may also send to all processes.
    orphaned: Signals,
    end: Signals,
}

impl Reaper {
    /// Catches signals from here on; `gate` is the parent of this process.
    ///
    /// # Errors
    /// The kernel refused, for which it has no reason but a lack of descriptors.
    pub fn new(gate: Pid) -> io::Result<Self> {
        set_child_subreaper(Some(getpid()))?;
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let inside = runtime.enter();
        let listen = |which: Signal| signal(SignalKind::from_raw(which.as_raw()));
        for ignored in IGNORED {
            // A signal stays caught when the stream of it is dropped.
            drop(listen(ignored)?);
        }
        let children = listen(Signal::CHILD)?;
        let orphaned = listen(Signal::TERM)?;
        let end = listen(END_SIGNAL)?;
        drop(inside);
        Ok(Self { gate, runtime, children, orphaned, end })
    }

    /// Waits until the program has ended, the gate says so, or the gate itself has ended. Then
    /// kills all that is left, and ends as the program did.
    pub fn watch(self, program: u32) -> ExitCode {
        // An end of a pipe that is held here would hide that the program has closed its own.
        release_pipes().ok();
        let Self { gate, runtime, mut children, mut orphaned, mut end } = self;
        let mut family = Family { program: program.cast_signed(), status: None };
        runtime.block_on(async {
            // The parent-death signal comes with the end of the *thread* that started this process,
            // so that it counts only once there is another parent.
            while family.reap() && family.status.is_none() && getppid() == Some(gate) {
                // Each only says that something has come since; nothing is lost by dropping it.
                tokio::select! {
                    _ = children.recv() => (),
                    _ = orphaned.recv() => (),
                    _ = end.recv() => return,
                }
            }
        });
        family.kill();
        match family.status {
            Some(status) => end_as(status),
            None => die_of(Signal::KILL.as_raw()),
        }
    }
}

/// The program and all that it has started.
#[derive(Debug)]
struct Family {
    program: i32,
    /// How the program ended, once it is reaped.
    status: Option<WaitStatus>,
}

impl Family {
    /// Reaps what has ended; false if nobody is left.
    fn reap(&mut self) -> bool {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((id, status))) if id.as_raw_pid() == self.program => {
                    self.status = Some(status);
                }
                Ok(Some(_)) | Err(Errno::INTR) => (),
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    /// Kills until nobody is left: what was started while it was looked is found by the next look.
    fn kill(&mut self) {
        for look in 0..LOOKS {
            if !self.reap() {
                return;
            }
            let mut all = descendants::of(getpid(), &descendants::processes());
            // All there is to go by without `/proc`; while it is not reaped, the number is its own.
            all.extend(self.status.is_none().then_some(self.program));
            for id in all.into_iter().filter_map(Pid::from_raw) {
                // The process may have ended, or belong to another user.
                kill_process(id, Signal::KILL).ok();
            }
            let pause = Timespec { tv_sec: 0, tv_nsec: 1_000_000 << look.min(9) };
            poll(&mut [], Some(&pause)).ok();
        }
        self.reap();
    }
}

fn release_pipes() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    Ok(())
}

/// Ends this process as another one did, so that its parent reads the same status.
fn end_as(status: WaitStatus) -> ExitCode {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => exit_code(code),
        (None, Some(signal)) => die_of(signal),
        (None, None) => exit_code(SIGNAL_CODE),
    }
}

/// Becomes a process that has no handlers of signals yet, and ends by this one.
fn die_of(number: i32) -> ExitCode {
    #[allow(clippy::disallowed_methods, reason = "does not start a process: it becomes another")]
    let mut itself = std::process::Command::new("/proc/self/exe");
    // The call only returns if it failed.
    drop(itself.arg(DIE_WORD).arg(number.to_string()).env_clear().exec());
    exit_code(SIGNAL_CODE + number)
}

/// `tollgate __die NUMBER`: ends by that signal, or with the exit code that shells have for it,
/// where it does not end a process: std ignores SIGPIPE.
pub fn die_entry(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let number = args.next().and_then(|number| number.to_str()?.parse().ok()).unwrap_or_default();
    // The core, if any, is the program's.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).ok();
    // The first of some is taken by a handler of std's, which then makes way.
    for _ in 0..2 {
        Signal::from_named_raw(number).and_then(|signal| kill_process(getpid(), signal).ok());
    }
    exit_code(SIGNAL_CODE + number)
}

fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(u8::MAX))
}
