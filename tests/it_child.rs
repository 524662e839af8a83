//! Children under the real binary: its launcher, its watchdog, and a gate that is killed outright.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test that starts processes")]

mod common;

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, getpid, kill_process, kill_process_group, set_child_subreaper};
use tollgate::process::{Settings, Spawner};

use self::common::{is_dead, until};

const TOLLGATE: &str = env!("CARGO_BIN_EXE_tollgate");
/// A shell that has a grandchild, whose number it says.
const FAMILY: &str = "sleep 1000 & echo $!; wait";

fn piped(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn line_of(child: &mut Child) -> String {
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

fn pid(text: &str) -> Pid {
    Pid::from_raw(text.parse().unwrap()).unwrap()
}

fn launcher(parent: u32, program: &[&str]) -> Child {
    let parent = parent.to_string();
    piped(Command::new(TOLLGATE).args(["__exec", &parent, "1024"]).args(program))
}

fn go(child: &mut Child) {
    child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
}

#[test]
fn the_program_runs_when_told_and_reads_the_rest() {
    let mut child = launcher(std::process::id(), &["/bin/cat", "-n"]);
    child.stdin.as_mut().unwrap().write_all(b"\nfirst\n").unwrap();
    let answer = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&answer.stdout).trim(), "1\tfirst");
}

#[test]
fn the_program_does_not_run_untold_or_for_another_parent() {
    let untold = launcher(std::process::id(), &["/bin/echo", "ran"]).wait_with_output().unwrap();
    assert_eq!((untold.status.code(), untold.stdout.as_slice()), (Some(126), &b""[..]));

    let mut other = launcher(1, &["/bin/echo", "ran"]);
    // It may have ended already.
    drop(other.stdin.take().unwrap().write_all(b"\n"));
    let other = other.wait_with_output().unwrap();
    assert_eq!((other.status.code(), other.stdout.as_slice()), (Some(126), &b""[..]));
}

#[test]
fn the_program_dies_with_the_thread_that_started_it() {
    let start = || {
        let mut child =
            launcher(std::process::id(), &["/bin/sh", "-c", "echo up; exec sleep 1000"]);
        go(&mut child);
        assert_eq!(line_of(&mut child), "up");
        child
    };
    let mut child = std::thread::spawn(start).join().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
}

#[test]
fn what_cannot_be_executed_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("server");
    std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut child = launcher(std::process::id(), &[script.to_str().unwrap()]);
    go(&mut child);
    let answer = child.wait_with_output().unwrap();
    assert_eq!(answer.status.code(), Some(126));
    let said = String::from_utf8_lossy(&answer.stderr);
    assert!(said.contains("the interpreter that its first line names"), "{said}");
}

#[test]
fn the_watchdog_kills_what_is_left_on_its_list() {
    let start = || {
        let mut child = piped(Command::new("sh").args(["-c", FAMILY]).process_group(0));
        let grandchild = pid(&line_of(&mut child));
        (child, grandchild)
    };
    let ((mut listed, grandchild), (mut removed, survivor)) = (start(), start());
    let mut watchdog = piped(Command::new(TOLLGATE).arg("__watch"));
    let (first, second) = (listed.id(), removed.id());
    let list = format!("+{first}\n+{second}\n-{second}\n");
    watchdog.stdin.as_mut().unwrap().write_all(list.as_bytes()).unwrap();

    drop(watchdog.stdin.take());
    assert!(watchdog.wait().unwrap().success());
    assert_eq!(listed.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
    until("the grandchild to die", || is_dead(grandchild));

    assert!(!is_dead(survivor), "it was taken off the list");
    kill_process_group(pid(&second.to_string()), Signal::KILL).unwrap();
    removed.wait().unwrap();
}

fn spawner() -> Spawner {
    Spawner::new(Some(TOLLGATE.into()), std::env::vars_os(), Default::default())
}

fn family() -> Settings {
    Settings {
        name: "family".to_owned(),
        command: "sh".to_owned(),
        args: vec!["-c".to_owned(), FAMILY.to_owned()],
        env: BTreeMap::new(),
        cwd: None,
        inherit: Vec::new(),
        memory: None,
    }
}

#[tokio::test]
async fn a_gate_that_is_the_first_process_reaps_orphans() {
    use tokio::io::AsyncBufReadExt;

    // What the first process of a container is by birth.
    set_child_subreaper(Some(getpid())).unwrap();
    let child = spawner().spawn(&family()).await.unwrap();
    let mut lines = tokio::io::BufReader::new(child.stdout).lines();
    let grandchild = lines.next_line().await.unwrap().unwrap();
    child.process.stop(Duration::ZERO).await;
    assert!(!Path::new(&format!("/proc/{grandchild}")).exists(), "a zombie is left");
}

/// Not a test of its own: the gate that the tests below start in a process of its own, and kill. It
/// says the numbers of its child, of its grandchild, and of its watchdog.
#[tokio::test]
async fn stand_in() {
    use tokio::io::AsyncBufReadExt;

    if std::env::var_os("STAND_IN").is_none() {
        return;
    }
    let spawner = spawner();
    let mut input = tokio::io::BufReader::new(tokio::io::stdin()).lines();
    loop {
        let child = spawner.spawn(&family()).await.unwrap();
        let mut lines = tokio::io::BufReader::new(child.stdout).lines();
        let grandchild = lines.next_line().await.unwrap().unwrap();
        // On standard error, because the harness speaks on standard output.
        std::io::stderr()
            .write_all(format!("family {} {grandchild}\n", child.process.id()).as_bytes())
            .unwrap();
        let word = input.next_line().await.unwrap();
        match word.as_deref() {
            Some("more") => drop(tokio::spawn(async move { child.process.wait().await })),
            _ => break,
        }
    }
}

/// The signals that a process catches, the first one as the lowest bit.
fn caught(id: Pid) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", id.as_raw_pid())).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap()
}

struct Gate {
    process: Child,
    said: BufReader<std::process::ChildStderr>,
}

impl Gate {
    fn start() -> Self {
        let itself = std::env::current_exe().unwrap();
        let arguments = ["--exact", "stand_in", "--nocapture"];
        let mut process = piped(Command::new(itself).args(arguments).env("STAND_IN", "1"));
        let said = BufReader::new(process.stderr.take().unwrap());
        Self { process, said }
    }

    /// The next family's child and grandchild.
    fn family(&mut self) -> [Pid; 2] {
        let mut line = String::new();
        while !line.starts_with("family ") {
            line.clear();
            assert_ne!(self.said.read_line(&mut line).unwrap(), 0, "the stand-in ended");
        }
        let mut numbers = line.split_whitespace().skip(1).map(pid);
        [numbers.next().unwrap(), numbers.next().unwrap()]
    }

    fn more(&mut self) -> [Pid; 2] {
        self.process.stdin.as_mut().unwrap().write_all(b"more\n").unwrap();
        self.family()
    }

    fn watchdog(&self) -> Pid {
        let found = std::cell::Cell::new(None);
        until("the watchdog to start", || {
            found.set(self.watchdog_now());
            found.get().is_some()
        });
        found.get().expect("waited for")
    }

    /// The gate's child that is its watchdog. Threads and children come and go while it is sought,
    /// and one that is about to become a program has no command line.
    fn watchdog_now(&self) -> Option<Pid> {
        let gate = self.process.id();
        let threads = std::fs::read_dir(format!("/proc/{gate}/task")).unwrap().flatten();
        let children = threads.map(|thread| thread.path().join("children"));
        let children: String = children.flat_map(std::fs::read_to_string).collect();
        let is_watchdog = |id: &&str| {
            let line = std::fs::read(format!("/proc/{id}/cmdline"));
            line.is_ok_and(|line| line.ends_with(b"\0__watch\0"))
        };
        children.split_whitespace().find(is_watchdog).map(pid)
    }

    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[test]
fn a_gate_killed_outright_leaves_nobody() {
    let mut gate = Gate::start();
    let [child, grandchild] = gate.family();
    let watchdog = gate.watchdog();
    gate.kill();
    until("the child to die", || is_dead(child));
    until("the grandchild to die", || is_dead(grandchild));
    until("the watchdog to die", || is_dead(watchdog));
}

#[test]
fn a_signal_to_everybody_does_not_disarm() {
    let mut gate = Gate::start();
    let [_, grandchild] = gate.family();
    let watchdog = gate.watchdog();
    // SIGHUP, SIGINT and SIGTERM as bits of its caught signals, once it has come so far.
    until("the watchdog to catch signals", || caught(watchdog) & 0x4003 == 0x4003);
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        kill_process(watchdog, signal).unwrap();
    }
    gate.kill();
    until("the grandchild to die", || is_dead(grandchild));
}

#[test]
fn a_lost_watchdog_is_replaced_by_the_next_start() {
    let mut gate = Gate::start();
    let [_, first] = gate.family();
    let lost = gate.watchdog();
    kill_process(lost, Signal::KILL).unwrap();
    until("the lost watchdog to die", || is_dead(lost));
    let [_, second] = gate.more();
    assert_ne!(gate.watchdog(), lost);
    gate.kill();
    until("the first grandchild to die", || is_dead(first));
    until("the second grandchild to die", || is_dead(second));
}

#[test]
fn a_gate_that_ends_in_order_leaves_nobody() {
    let mut gate = Gate::start();
    let [child, grandchild] = gate.family();
    let watchdog = gate.watchdog();
    drop(gate.process.stdin.take());
    assert!(gate.process.wait().unwrap().success());
    until("the child to die", || is_dead(child));
    until("the grandchild to die", || is_dead(grandchild));
    until("the watchdog to die", || is_dead(watchdog));
}
