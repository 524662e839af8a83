//! Children with real small programs, started directly.

use std::time::Duration;

use rustix::process::{Pid, test_kill_process};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    time::{sleep, timeout},
};

use crate::call::tasks::Tasks;

use super::*;

/// Far longer than anything here takes; only a defect waits for it.
const LONG: Duration = Duration::from_secs(60);

fn spawner() -> Spawner {
    Spawner::new(None, std::env::vars_os(), Tasks::default())
}

fn shell(script: &str) -> Settings {
    Settings {
        name: "files".to_owned(),
        command: "sh".to_owned(),
        args: vec!["-c".to_owned(), script.to_owned()],
        env: BTreeMap::new(),
        cwd: None,
        inherit: Vec::new(),
        memory: None,
    }
}

async fn first_line(stdout: ChildStdout) -> String {
    let mut lines = BufReader::new(stdout).lines();
    lines.next_line().await.unwrap().unwrap()
}

fn pid(text: &str) -> Pid {
    Pid::from_raw(text.parse().unwrap()).unwrap()
}

/// Waits until the process is dead; reaping an orphan is somebody else's business.
async fn gone(id: Pid) {
    let stat = format!("/proc/{}/stat", id.as_raw_pid());
    let gone = async {
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, gone).await.expect("the process is still there");
}

#[tokio::test]
async fn an_end_is_told_with_all_of_stderr() {
    let child = spawner().spawn(&shell("echo first >&2; echo last >&2; exit 3")).await.unwrap();
    assert_eq!(child.process.wait().await, "exit status: 3");
    assert_eq!(child.process.stderr_tail(), "first\nlast\n");
    assert_eq!(child.process.wait().await, "exit status: 3");
}

#[tokio::test]
async fn stderr_is_bounded() {
    let script = "yes 0123456789 | head -c 1000000 >&2; echo end >&2";
    let child = spawner().spawn(&shell(script)).await.unwrap();
    child.process.wait().await;
    let tail = child.process.stderr_tail();
    assert!(tail.len() <= stderr::KEPT_BYTES_MAX, "{}", tail.len());
    assert!(stderr::KEPT_BYTES_MAX - 20 < tail.len(), "{}", tail.len());
    assert!(tail.starts_with("0123456789\n") && tail.ends_with("end\n"));
}

#[tokio::test]
async fn a_leader_that_ends_takes_its_group_along() {
    let child = spawner().spawn(&shell("sleep 1000 & echo $!")).await.unwrap();
    let grandchild = pid(&first_line(child.stdout).await);
    assert_eq!(child.process.wait().await, "exit status: 0");
    gone(grandchild).await;
}

#[tokio::test]
async fn stopping_begins_with_the_end_of_stdin() {
    let child = spawner().spawn(&shell("cat; echo bye >&2")).await.unwrap();
    let Child { stdin, stdout: _stdout, process } = child;
    drop(stdin);
    assert_eq!(process.stop(LONG).await, "exit status: 0");
}

#[tokio::test]
async fn stopping_goes_on_with_a_signal_to_the_group() {
    let script = "trap 'exit 7' TERM; sleep 1000 & echo $!; wait";
    let Child { stdin: _open, stdout, process } = spawner().spawn(&shell(script)).await.unwrap();
    let grandchild = pid(&first_line(stdout).await);
    let stopped = timeout(LONG, async {
        // The first grace passes; within the second it obeys.
        process.stop(Duration::from_secs(1)).await
    });
    assert_eq!(stopped.await.unwrap(), "exit status: 7");
    gone(grandchild).await;
}

#[tokio::test]
async fn stopping_ends_with_a_kill() {
    let script = "trap '' TERM; sleep 1000 & echo $!; while :; do wait; done";
    let Child { stdin: _open, stdout, process } = spawner().spawn(&shell(script)).await.unwrap();
    let grandchild = pid(&first_line(stdout).await);
    assert_eq!(process.stop(Duration::from_millis(20)).await, "signal: 9 (SIGKILL)");
    gone(grandchild).await;
}

#[tokio::test]
async fn dropping_kills_the_group_and_leaves_no_zombie() {
    let spawner = spawner();
    let child = spawner.spawn(&shell("sleep 1000 & echo $!; wait")).await.unwrap();
    let Child { stdin: _open, stdout, process } = child;
    let grandchild = pid(&first_line(stdout).await);
    let leader = pid(&process.id().to_string());
    drop(process);
    assert!(spawner.tasks.drained(LONG).await, "a task goes on");
    assert!(test_kill_process(leader).is_err(), "the leader was not reaped");
    gone(grandchild).await;
}

#[test]
fn the_end_of_the_runtime_kills_the_group() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (child, grandchild) = runtime.block_on(async {
        let script = "sleep 1000 & echo $!; wait";
        let Child { stdin, stdout, process } = spawner().spawn(&shell(script)).await.unwrap();
        let grandchild = pid(&first_line(stdout).await);
        ((stdin, process), grandchild)
    });
    drop(runtime);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(gone(grandchild));
    assert_eq!(runtime.block_on(child.1.wait()), "killed with the gate");
}

#[tokio::test]
async fn a_child_has_its_environment_and_folder() {
    let folder = tempfile::tempdir().unwrap();
    let own = [("PATH", "/usr/bin:/bin"), ("VAULT_KEY", "secret"), ("LANG", "C")];
    let own = own.map(|(name, value)| (name.into(), value.into()));
    let spawner = Spawner::new(None, own, Tasks::default());
    let mut settings = shell("echo $LANG,$VAULT_KEY,$MINE,$(pwd -P)");
    settings.env = BTreeMap::from([("MINE".to_owned(), Secret::new("mine".to_owned()))]);
    settings.cwd = Some(folder.path().to_path_buf());
    let child = spawner.spawn(&settings).await.unwrap();
    let folder = folder.path().canonicalize().unwrap();
    assert_eq!(first_line(child.stdout).await, format!("C,,mine,{}", folder.display()));
}

#[tokio::test]
async fn what_is_not_there_is_told() {
    let absent = Settings { command: "no-such-program".to_owned(), ..shell("") };
    let error = spawner().spawn(&absent).await.unwrap_err().to_string();
    assert!(error.starts_with("no-such-program: not found in PATH ("), "{error}");

    let absent = Settings { cwd: Some("/no/such".into()), ..shell("") };
    let error = spawner().spawn(&absent).await.unwrap_err().to_string();
    assert_eq!(error, "/no/such: not a folder: correct `cwd`, or make the folder");
}

/// Whatever the system says for want of room: no program is to blame for it.
#[test]
fn what_the_machine_has_no_room_for_is_no_fault_of_the_program() {
    use rustix::io::Errno;
    let rows = [
        (Errno::MFILE, true),
        (Errno::NFILE, true),
        (Errno::AGAIN, true),
        (Errno::NOMEM, true),
        (Errno::NOENT, false),
        (Errno::ACCESS, false),
        (Errno::NOEXEC, false),
        (Errno::PERM, false),
        (Errno::TOOBIG, false),
        (Errno::ISDIR, false),
        (Errno::IO, false),
    ];
    for (errno, is_of_machine) in rows {
        let source = || io::Error::from(errno);
        let failed = SpawnError::Failed { command: "x".to_owned(), source: source() };
        let watchdog = SpawnError::Watchdog { source: source() };
        assert_eq!([failed, watchdog].map(|it| it.is_of_machine()), [is_of_machine; 2], "{errno}");
    }
    assert!(!SpawnError::NoFolder { cwd: PathBuf::new() }.is_of_machine());
}
