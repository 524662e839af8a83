//! A running child: watched by one task, which alone signals its group and reaps it.
//!
//! The order is what makes this safe: a group is killed while its leader is at most a zombie, so
//! that its number cannot have passed to somebody else, and only then is the leader reaped. Before
//! that its launcher, which is the leader, has killed what has left the group.

use std::{io, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid,
};
use tokio::{
    process::ChildStderr,
    signal::unix::Signal as Signals,
    sync::{oneshot, watch},
    time::{Instant, sleep, timeout},
};

use super::{
    last_words,
    memory::Memory,
    reaper::END_SIGNAL,
    stderr::{Tail, follow},
    watchdog::Watchdog,
};

/// The pause before a group that takes too much memory is killed: in this time whoever waits for it
/// is told why, and not only that it has ended.
const EXCESS_MOMENT: Duration = Duration::from_millis(50);
/// How long a launcher may take to kill all that it has started: longer than it tries to.
const LAUNCHER_MAX: Duration = Duration::from_secs(3);
/// The pause between two times that it is told so.
const LAUNCHER_STEP: Duration = Duration::from_millis(50);
/// How long a killed group may take to be reaped, before its task stops looking.
const REAP_MAX: Duration = Duration::from_secs(5);
/// The pause between two looks at a killed group.
const REAP_STEP: Duration = Duration::from_millis(5);
/// How long the rest of a killed group's standard error may take.
const STDERR_MAX: Duration = Duration::from_millis(500);

/// A child with all its descendants in one process group. Dropping it kills the group at once.
#[derive(Debug)]
pub struct Process {
    id: u32,
    stderr: Arc<Mutex<Tail>>,
    stop: oneshot::Sender<Duration>,
    ended: watch::Receiver<Option<String>>,
    excess: watch::Receiver<Option<String>>,
}

impl Process {
    /// Waits until it takes more memory than it may, and says how much; it is killed a moment
    /// later. Never ready where it does not.
    pub fn excess(&self) -> impl Future<Output = String> + Send + 'static {
        let mut excess = self.excess.clone();
        async move {
            let found = excess.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
            match found {
                Some(why) => why,
                None => std::future::pending().await,
            }
        }
    }

    /// The number of the leader, which is the group's as well.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The last 64 KiB of its standard error, also after it ended.
    pub fn stderr_tail(&self) -> String {
        self.stderr.lock().text()
    }

    /// Waits until it has ended and is reaped, its group killed, and its standard error read; says
    /// how it ended (`exit status: 1`, `signal: 9 (SIGKILL)`). Dropping the future changes nothing.
    pub async fn wait(&self) -> String {
        ended(self.ended.clone()).await
    }

    /// Ends it as [`Process::stop`] does, and tells what it said last.
    pub async fn end(self, grace: Duration) -> Ended {
        let stderr = Arc::clone(&self.stderr);
        let status = self.stop(grace).await;
        let last_words = last_words::best(&stderr.lock().text());
        Ended { status, last_words }
    }

    /// Ends it as the specification says: the caller has dropped its standard input; it has `grace`
    /// to end by itself, `grace` again after a SIGTERM to its group, then the group is killed.
    /// Returns as [`Process::wait`] does. Dropping the future does not stop the stopping.
    pub async fn stop(self, grace: Duration) -> String {
        // Refused only if it is ending already.
        self.stop.send(grace).ok();
        ended(self.ended).await
    }
}

/// How a process ended.
#[derive(Debug)]
pub struct Ended {
    /// Such as `exit status: 1`, or `signal: 9 (SIGKILL)`.
    pub status: String,
    /// The line of its standard error that says best why.
    pub last_words: Option<String>,
}

async fn ended(mut ended: watch::Receiver<Option<String>>) -> String {
    match ended.wait_for(Option::is_some).await {
        Ok(text) => text.clone().unwrap_or_default(),
        Err(_) => "killed with the gate".to_owned(),
    }
}

/// A process group that is alive; dropping it kills it, also when the runtime ends.
#[derive(Debug)]
pub struct Group {
    id: Pid,
    /// The watchdog; without one there is no launcher either: the leader is the program itself.
    watchdog: Option<Arc<Watchdog>>,
    /// Its launcher has ended, or had its time: what is left may be killed, the launcher too.
    is_given_up: bool,
    children: Signals,
    /// A remark to add where its leader fails.
    pub remark: Option<String>,
    /// The bound on its memory; with more it is killed.
    pub memory: Option<Arc<Memory>>,
}

impl Group {
    /// The group that `leader` leads. `children` has to be from before the leader's start.
    ///
    /// # Errors
    /// The watchdog does not run. The group is killed.
    pub fn new(
        leader: Pid,
        watchdog: Option<Arc<Watchdog>>,
        children: Signals,
    ) -> io::Result<Self> {
        let group =
            Self { id: leader, watchdog, is_given_up: false, children, remark: None, memory: None };
        group.watchdog.as_ref().map_or(Ok(()), |watchdog| watchdog.add(leader))?;
        Ok(group)
    }

    fn signal(&self, signal: Signal) {
        if let Err(error) = kill_process_group(self.id, signal) {
            tracing::debug!(group = self.id.as_raw_pid(), %error, "not signalled");
        }
    }

    /// Has the launcher kill all that it has started, then kills what is left of the group.
    async fn end(mut self) {
        let until = Instant::now() + LAUNCHER_MAX;
        while self.watchdog.is_some() && !self.is_given_up {
            // The launcher is told once more while the child goes on: the program may stop its
            // whole group at any time.
            self.tell_launcher();
            let ended = timeout(LAUNCHER_STEP, self.leader_ended()).await.is_ok();
            self.is_given_up = ended || until < Instant::now();
        }
    }

    fn tell_launcher(&self) {
        for signal in [END_SIGNAL, Signal::CONT] {
            if let Err(error) = kill_process(self.id, signal) {
                tracing::debug!(launcher = self.id.as_raw_pid(), %error, "not signalled");
            }
        }
    }

    /// Waits until the leader has ended, and does not reap it. Safe to drop.
    async fn leader_ended(&mut self) {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        while let Ok(None) = waitid(WaitId::Pid(self.id), options) {
            if self.children.recv().await.is_none() {
                return;
            }
        }
    }

    /// The leader ended by itself, was stopped as `stop` asks, or the [`Process`] was dropped; or
    /// the group takes too much memory, which is said.
    async fn done(
        &mut self,
        stop: oneshot::Receiver<Duration>,
        excess: watch::Sender<Option<String>>,
    ) -> Option<String> {
        let memory = self.memory.clone();
        let id = self.id;
        let is_launched = self.watchdog.is_some();
        let exceeded = async {
            match &memory {
                Some(memory) => memory.exceeded(id, is_launched).await,
                None => std::future::pending().await,
            }
        };
        let grace = tokio::select! {
            // Looks again when polled again; nothing is lost by dropping it.
            () = self.leader_ended() => return None,
            // Looks again when polled again.
            why = exceeded => {
                excess.send_replace(Some(why.clone()));
                sleep(EXCESS_MOMENT).await;
                return Some(why);
            }
            // Holds no more than the one message.
            grace = stop => match grace {
                Ok(grace) => grace,
                Err(_) => return None,
            },
        };
        if timeout(grace, self.leader_ended()).await.is_err() {
            self.signal(Signal::TERM);
            // The group is killed next either way.
            timeout(grace, self.leader_ended()).await.ok();
        }
        None
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.watchdog.is_some() && !self.is_given_up {
            // The runtime ends: there is no time to wait for the launcher. It ends by itself, and
            // what it leaves the watchdog kills when the gate has ended.
            self.tell_launcher();
            return;
        }
        self.signal(Signal::KILL);
        if let Some(watchdog) = &self.watchdog {
            watchdog.remove(self.id);
        }
    }
}

/// The handle of a child, and the work of watching it, which goes on until nothing is left to do.
pub fn watched(
    mut leader: tokio::process::Child,
    mut group: Group,
    stderr: ChildStderr,
    upstream: String,
) -> (Process, impl Future<Output = ()>) {
    let (stop, stopped) = oneshot::channel();
    let (tell, ended) = watch::channel(None);
    let (tell_excess, excess) = watch::channel(None);
    let tail: Arc<Mutex<Tail>> = Arc::default();
    let id = group.id;
    let number = id.as_raw_pid().unsigned_abs();
    let process = Process { id: number, stderr: Arc::clone(&tail), stop, ended, excess };
    let end = async move {
        let memory = group.memory.clone();
        let why = group.done(stopped, tell_excess).await;
        let remark = group.remark.take();
        group.end().await;
        let status = leader.wait().await;
        reap_orphans(id).await;
        let why = why.or_else(|| memory.as_ref()?.killed());
        // Its cgroup can go: nothing is left in it.
        drop(memory);
        let failed = status.as_ref().is_ok_and(|status| status.code().is_some_and(|it| it != 0));
        let status =
            status.map_or_else(|error| format!("lost: {error}"), |status| status.to_string());
        let status = match remark.filter(|_| failed) {
            Some(remark) => format!("{status}; {remark}"),
            None => status,
        };
        why.map_or(status.clone(), |why| format!("{why}; {status}"))
    };
    let work = async move {
        let read = follow(stderr, upstream, tail);
        tokio::pin!(read, end);
        let text = tokio::select! {
            // Neither is dropped: each is polled on below.
            () = &mut read => end.await,
            text = &mut end => {
                // Its last words may not have been read; who left the group may hold it open.
                timeout(STDERR_MAX, read).await.ok();
                text
            }
        };
        tell.send_replace(Some(text));
    };
    (process, work)
}

/// Reaps what is left of a killed group. Orphans are the first process's business, which in a
/// container the gate may be itself; elsewhere there is nothing to reap and this returns at once.
async fn reap_orphans(group: Pid) {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let until = Instant::now() + REAP_MAX;
    while let Ok(reaped) = waitid(WaitId::Pgid(Some(group)), options) {
        if until < Instant::now() {
            tracing::warn!(group = group.as_raw_pid(), "killed, but still there");
            return;
        }
        if reaped.is_none() {
            sleep(REAP_STEP).await;
        }
    }
}
