//! What the process of the gate uses of the machine, as the kernel counts it (proc(5)).

use std::{fs, time::Duration};

use super::machine;

/// Ticks in a second of the kernel's figures for user space (`USER_HZ`, the same on all machines
/// that the gate is built for).
const TICKS: u64 = 100;
/// Places in `/proc/self/stat` behind the name of the program: time in user mode, time in the
/// kernel, and the start since boot, all in ticks.
const USER_AT: usize = 11;
const SYSTEM_AT: usize = 12;
const STARTED_AT: usize = 19;

/// What this process uses. A figure that cannot be read is 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessUsage {
    /// Processor time, of the user and of the system.
    pub cpu: Duration,
    /// When it started, since 1970.
    pub started: Duration,
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    pub threads: u64,
    pub open_descriptors: u64,
    /// How many there may be; none where that is not bounded.
    pub descriptors_max: Option<u64>,
}

impl ProcessUsage {
    /// Reads what it is now.
    pub fn now() -> Self {
        let read = |file| fs::read_to_string(file).unwrap_or_default();
        let mut usage = Self::parse(&read("/proc/self/stat"), &read("/proc/self/status"));
        let boot = read("/proc/stat");
        let boot = boot.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
        usage.started += Duration::from_secs(boot.unwrap_or_default());
        // The folder is open itself while it is read.
        let open = fs::read_dir("/proc/self/fd").map_or(0, |all| all.count().saturating_sub(1));
        usage.open_descriptors = open as u64;
        usage.descriptors_max = machine::descriptors();
        usage
    }

    /// Reads `/proc/self/stat` and `/proc/self/status`; `started` is since boot.
    fn parse(stat: &str, status: &str) -> Self {
        // The name of the program stands in parentheses, and may have spaces and some of its own.
        let stat = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks = |at| stat.split_ascii_whitespace().nth(at)?.parse::<u64>().ok();
        let time = |at| Duration::from_millis(ticks(at).unwrap_or_default() * 1_000 / TICKS);
        let value = |name| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line?.strip_prefix(':')?.split_ascii_whitespace().next()?.parse::<u64>().ok()
        };
        let kib = |name| value(name).unwrap_or_default().saturating_mul(1 << 10);
        Self {
            cpu: time(USER_AT) + time(SYSTEM_AT),
            started: time(STARTED_AT),
            resident_bytes: kib("VmRSS"),
            virtual_bytes: kib("VmSize"),
            threads: value("Threads").unwrap_or_default(),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_behind_a_name_of_any_kind() {
        let stat = "7 (a) R 9) (b) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 6 0 1234 9 8";
        let status = "Name:\tx\nVmSize:\t    2048 kB\nVmRSS:\t 4 kB\nThreads:\t6\n";
        let usage = ProcessUsage::parse(stat, status);
        assert_eq!(usage.cpu, Duration::from_secs(3));
        assert_eq!(usage.started, Duration::from_millis(12_340));
        assert_eq!((usage.virtual_bytes, usage.resident_bytes, usage.threads), (2 << 20, 4_096, 6));
        for odd in ["", ")", "7 (a) S x", "7 (a"] {
            assert_eq!(ProcessUsage::parse(odd, odd), ProcessUsage::default(), "{odd}");
        }
    }

    #[test]
    fn this_process_uses_something() {
        let usage = ProcessUsage::now();
        assert!(0 < usage.resident_bytes && usage.resident_bytes <= usage.virtual_bytes);
        assert!(0 < usage.threads && 0 < usage.open_descriptors, "{usage:?}");
        let now = Duration::from_secs(crate::call::clock::unix_seconds());
        assert!(usage.started <= now + Duration::from_secs(1), "{usage:?}");
    }
}
