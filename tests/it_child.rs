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
fn the_program_outlives_the_thread_that_started_it() {
    let start = || {
        let mut child = launcher(std::process::id(), &["/bin/sh", "-c", "read line; echo $line"]);
        go(&mut child);
        child
    };
    let mut child = std::thread::spawn(start).join().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"still here\n").unwrap();
    assert_eq!(line_of(&mut child), "still here");
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_launcher_ends_as_its_program_did() {
    for (script, status) in [
        ("exit 0", "exit status: 0"),
        ("exit 1", "exit status: 1"),
        ("exit 126", "exit status: 126"),
        ("exit 255", "exit status: 255"),
        ("kill -HUP $$", "signal: 1 (SIGHUP)"),
        ("kill -INT $$", "signal: 2 (SIGINT)"),
        ("kill -QUIT $$", "signal: 3 (SIGQUIT)"),
        ("kill -ABRT $$", "signal: 6 (SIGABRT)"),
        ("kill -BUS $$", "signal: 7 (SIGBUS)"),
        ("kill -KILL $$", "signal: 9 (SIGKILL)"),
        ("kill -USR1 $$", "signal: 10 (SIGUSR1)"),
        ("kill -SEGV $$", "signal: 11 (SIGSEGV)"),
        ("kill -TERM $$", "signal: 15 (SIGTERM)"),
        ("kill -PWR $$", "signal: 30 (SIGPWR)"),
        // As a shell says it: no program of Rust ends by it.
        ("kill -PIPE $$", "exit status: 141"),
    ] {
        let mut child = launcher(std::process::id(), &["/bin/sh", "-c", script]);
        go(&mut child);
        assert_eq!(child.wait().unwrap().to_string(), status, "{script}");
    }
}

#[test]
fn what_a_program_sends_to_its_group_does_not_end_its_launcher() {
    for signal in ["HUP", "INT", "QUIT", "USR1", "USR2", "ALRM", "VTALRM", "TERM", "CONT", "CHLD"] {
        // It catches the signal, sends it to its group, and goes on; the launcher must have it
        // before the program ends, which the second one and the pause see to.
        let script =
            format!("trap : {signal}; kill -{signal} 0; kill -{signal} 0; sleep 0.05; exit 5");
        let mut command = Command::new(TOLLGATE);
        command.args(["__exec", &std::process::id().to_string(), "1024", "/bin/sh", "-c", &script]);
        let mut child = piped(command.process_group(0));
        go(&mut child);
        assert_eq!(child.wait().unwrap().to_string(), "exit status: 5", "{signal}");
    }
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

/// What a daemon does: it says who it is, and stays.
const DAEMON: &str = "echo $$ >>$LIST; exec sleep 1000";

/// Ways to leave a process group, and how many daemons (`$DAEMON`) there are then.
const ESCAPES: &[(&str, usize)] = &[
    ("setsid sh -c \"$DAEMON\" & wait", 1),
    ("setsid -f sh -c \"$DAEMON\"; sleep 1000", 1),
    // Forked twice, as daemon(7) has it: its parent has ended.
    ("(setsid sh -c '(sh -c \"$DAEMON\") & exit' &); sleep 1000", 1),
    // In a group of its own, and in this session.
    ("set -m; sh -c \"$DAEMON\" & wait", 1),
    ("nohup setsid sh -c \"$DAEMON\" </dev/null >/dev/null 2>&1 & wait", 1),
    ("setsid sh -c \"trap '' TERM HUP INT QUIT; $DAEMON\" & wait", 1),
    ("setsid sh -c 'setsid sh -c \"$DAEMON\" & echo $$ >>$LIST; exec sleep 1000' & wait", 2),
    ("for i in 1 2 3 4 5 6 7 8; do setsid -f sh -c \"$DAEMON\"; done; sleep 1000", 8),
    ("setsid env -i LIST=$LIST sh -c \"cd /; umask 0; $DAEMON\" & wait", 1),
    // Whoever started it is killed outright.
    ("sh -c 'setsid sh -c \"$DAEMON\" & sleep 0.1; kill -9 $$'; sleep 1000", 1),
    // Stopped, it obeys nothing but SIGKILL.
    ("setsid sh -c 'echo $$ >>$LIST; kill -STOP $$; sleep 1000' & wait", 1),
    // Its whole group is stopped, the launcher too.
    ("setsid -f sh -c \"$DAEMON\"; sleep 0.1; kill -STOP 0", 1),
    // Started anew whenever it ends.
    ("setsid sh -c 'while :; do setsid sh -c \"$DAEMON\"; done' & wait", 1),
    // Says that it ends, and has left one before.
    ("setsid sh -c \"$DAEMON\" & trap '' TERM; exec sleep 1000", 1),
];

/// The script with what it names.
fn escape(script: &str, list: &Path) -> String {
    format!("export LIST={} DAEMON='{DAEMON}'; {script}", list.display())
}

fn escaping(script: &str, list: &Path) -> Settings {
    let args = vec!["-c".to_owned(), escape(script, list)];
    Settings { name: "daemons".to_owned(), args, ..family() }
}

/// Waits until so many daemons have said who they are.
fn daemons(list: &Path, count: usize) -> Vec<Pid> {
    let lines = || std::fs::read_to_string(list).unwrap_or_default();
    until("the daemons to start", || count <= lines().lines().count());
    lines().lines().map(pid).collect()
}

#[tokio::test]
async fn no_way_out_of_the_group_outlives_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    for (at, (script, count)) in ESCAPES.iter().enumerate() {
        let list = folder.path().join(at.to_string());
        let child = spawner().spawn(&escaping(script, &list)).await.unwrap();
        let daemons = daemons(&list, *count);
        child.process.stop(Duration::from_millis(20)).await;
        // The stop waits for them: nobody need be waited for.
        for daemon in daemons {
            assert!(is_dead(daemon), "{script}");
        }
    }
}

#[tokio::test]
async fn daemons_end_with_the_program_that_left_them() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list");
    let script = "setsid -f sh -c \"$DAEMON\"; read line; exit 3";
    let mut child = spawner().spawn(&escaping(script, &list)).await.unwrap();
    let daemons = daemons(&list, 1);
    tokio::io::AsyncWriteExt::write_all(&mut child.stdin, b"end\n").await.unwrap();
    assert_eq!(child.process.wait().await, "exit status: 3");
    assert!(is_dead(daemons[0]));
}

/// Not a test of its own: a gate whose programs all try to leave it.
#[tokio::test]
async fn stand_in_with_daemons() {
    use tokio::io::AsyncReadExt;

    let Some(folder) = std::env::var_os("STAND_IN_WITH_DAEMONS") else { return };
    let folder = Path::new(&folder);
    let spawner = spawner();
    let mut children = Vec::new();
    for (at, (script, _)) in ESCAPES.iter().enumerate() {
        let list = folder.join(at.to_string());
        children.push(spawner.spawn(&escaping(script, &list)).await.unwrap());
    }
    // One that was started by a thread that is no more.
    let list = folder.join("thread");
    let start = move || {
        let script = escape("setsid sh -c \"$DAEMON\" & wait", &list);
        let mut child = launcher(std::process::id(), &["/bin/sh", "-c", &script]);
        go(&mut child);
        child
    };
    let mut started = std::thread::spawn(start).join().unwrap();
    tokio::io::stdin().read_to_end(&mut Vec::new()).await.unwrap();
    assert_eq!(started.try_wait().unwrap(), None, "it ended with its thread");
}

#[test]
fn no_way_out_of_the_group_outlives_a_gate() {
    for is_killed in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let arguments = ["--exact", "stand_in_with_daemons", "--nocapture"];
        let mut command = Command::new(std::env::current_exe().unwrap());
        let mut gate = piped(command.args(arguments).env("STAND_IN_WITH_DAEMONS", folder.path()));
        let at = |name: String| folder.path().join(name);
        let counts = ESCAPES.iter().map(|(_, count)| *count).enumerate();
        let mut all: Vec<_> =
            counts.flat_map(|(place, count)| daemons(&at(place.to_string()), count)).collect();
        all.extend(daemons(&at("thread".to_owned()), 1));
        if is_killed {
            gate.kill().unwrap();
        } else {
            drop(gate.stdin.take());
        }
        gate.wait().unwrap();
        for daemon in all {
            until("the daemon to die", || is_dead(daemon));
        }
    }
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
