//! How much memory a child and its descendants take, and the bound on it: kept by the kernel in a
//! cgroup of their own, where the gate may make one; else the resident size of their process group
//! is read from `/proc` once a second.
//!
//! `RLIMIT_AS` is no bound for this: Node and Chrome reserve address space that they never use.
//! Pages that several processes of a group share are counted for each.

use std::{fs, sync::Arc, time::Duration};

use rustix::process::Pid;

use crate::telemetry::{Counter, Counters};

use super::cgroup::Cgroup;

/// Between two looks.
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
    /// bound. Safe to drop.
    pub async fn exceeded(&self, group: Pid) -> String {
        if self.cgroup.is_some() {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(LOOK).await;
            let bytes = resident(group);
            if self.bytes_max < bytes {
                self.counters.add(Counter::UpstreamMemory);
                let used = mebibytes(bytes);
                let max = mebibytes(self.bytes_max);
                return format!("it used {used} of memory, and `memory` allows {max}");
            }
        }
    }
}

/// Bytes of all processes of a group; 0 where there is no `/proc`.
fn resident(group: Pid) -> u64 {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbered = processes.filter(|entry| {
        entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit)
    });
    let kibibytes = numbered.filter_map(|entry| {
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        if !is_of(&stat, group.as_raw_pid()) {
            return None;
        }
        kibibytes_of(&fs::read_to_string(entry.path().join("status")).ok()?)
    });
    kibibytes.sum::<u64>().saturating_mul(1 << 10)
}

/// Whether the text of `/proc/PID/stat` (`proc_pid_stat(5)`) is that of a process of this group.
fn is_of(stat: &str, group: i32) -> bool {
    // A program's name is in parentheses, and may have any of its own. After it: state, parent,
    // group.
    let after = stat.rsplit_once(')').map(|(_, after)| after);
    let of = after.and_then(|after| after.split_ascii_whitespace().nth(2)?.parse().ok());
    of == Some(group)
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
    fn memory_is_that_of_the_group_whatever_the_program_is_called() {
        for name in ["sh", "a b", "a) S 1 9 (", ")"] {
            let stat = format!("7 ({name}) S 1 42 3 4 5");
            assert!(is_of(&stat, 42) && !is_of(&stat, 43), "{name}");
        }
        for broken in ["", "7", "7 (sh", "7 (sh) S", "7 (sh) S 1 x"] {
            assert!(!is_of(broken, 42), "{broken}");
        }
        assert_eq!(kibibytes_of("Name:\tVmRSS\nVmRSS:\t    5124 kB\nRssAnon: 1 kB\n"), Some(5_124));
        assert_eq!(kibibytes_of("Name:\tkthread\n"), None);
        assert!((1 << 20) < resident(getpgrp()), "this test runs in some group");
    }
}
