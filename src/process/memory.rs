//! How much memory a child and its descendants take, and the bound on it: kept by the kernel in a
//! cgroup of their own, where the gate may make one; else the resident size of their process group
//! is read from `/proc` once a second.
//!
//! `RLIMIT_AS` is no bound for this: Node and Chrome reserve address space that they never use.
//! Pages that several processes of a group share are counted for each.

use std::{fs, sync::Arc, time::Duration};

use rustix::process::Pid;

use crate::telemetry::{Counter, Counters};

use super::{cgroup::Cgroup, descendants};

/// The pause between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// The bound on one child's memory.
#[derive(Debug)]
pub struct Memory {
    bytes_max: u64,
    counters: Arc<Counters>,
    /// The cgroup in which the kernel keeps the bound; none where that is done here.
    cgroup: Option<Cgroup>,
}

impl Memory {
    /// Bounds a child that has not begun yet, and all that it will start.
    pub fn bound(upstream: &str, leader: Pid, bytes_max: u64, counters: &Arc<Counters>) -> Self {
        let cgroup = match Cgroup::bound(leader, bytes_max) {
            Ok(cgroup) => {
                tracing::debug!(upstream, "the kernel bounds its memory, in a cgroup of its own");
                Some(cgroup)
            }
            Err(why) => {
                tracing::debug!(upstream, why, "its memory is looked at once a second");
                None
            }
        };
        Self { bytes_max, counters: Arc::clone(counters), cgroup }
    }

    /// Returns why a child ended, where the kernel has killed it for its memory.
    pub fn killed(&self) -> Option<String> {
        self.cgroup.as_ref().filter(|cgroup| cgroup.has_exceeded())?;
        self.counters.add(Counter::UpstreamMemory);
        let max = mebibytes(self.bytes_max);
        Some(format!("it needed more memory than it may have: `memory` allows {max}"))
    }

    /// Waits until the group takes more, and says how much; for ever where the kernel keeps the
    /// bound. The leader of the group is not counted where it is the gate's own launcher. Safe to
    /// drop.
    pub async fn exceeded(&self, group: Pid, is_launched: bool) -> String {
        if self.cgroup.is_some() {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(LOOK).await;
            let bytes = resident(group, is_launched);
            if self.bytes_max < bytes {
                self.counters.add(Counter::UpstreamMemory);
                let used = mebibytes(bytes);
                let max = mebibytes(self.bytes_max);
                return format!("it used {used} of memory, and `memory` allows {max}");
            }
        }
    }
}

/// Bytes of all processes of a group, and of those that have left it; 0 where there is no `/proc`.
fn resident(leader: Pid, is_launched: bool) -> u64 {
    let processes = descendants::processes();
    let left = descendants::of(leader, &processes);
    let group = leader.as_raw_pid();
    let own = processes.iter().filter(|it| it.group == group || left.contains(&it.id));
    let own = own.filter(|it| !is_launched || it.id != group);
    let statuses = own.filter_map(|it| fs::read_to_string(format!("/proc/{}/status", it.id)).ok());
    let kibibytes = statuses.filter_map(|status| kibibytes_of(&status));
    kibibytes.sum::<u64>().saturating_mul(1 << 10)
}

/// The resident size in the text of `/proc/PID/status` (`proc_pid_status(5)`).
fn kibibytes_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use rustix::process::getpgrp;

    use super::*;

    #[test]
    fn memory_is_that_of_the_group() {
        assert_eq!(kibibytes_of("Name:\tVmRSS\nVmRSS:\t    5124 kB\nRssAnon: 1 kB\n"), Some(5_124));
        assert_eq!(kibibytes_of("Name:\tkthread\n"), None);
        assert!((1 << 20) < resident(getpgrp(), false), "this test runs in some group");
    }
}
