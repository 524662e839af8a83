//! Reads what this machine gives the process: memory, and descriptors of files.

use std::{
    fs::{self, File},
    io,
    path::Path,
    sync::OnceLock,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The memory assumed where the system does not say how much there is.
const MEMORY_UNKNOWN: usize = 2 << 30;
/// The folder where groups of processes have their bounds (cgroups(7), version 2).
const CGROUPS: &str = "/sys/fs/cgroup";
/// The bound of version 1, as seen from within a container.
const CGROUP_1: &str = "/sys/fs/cgroup/memory/memory.limit_in_bytes";

/// The soft bound on descriptors as this process was given it.
static GIVEN: OnceLock<Option<u64>> = OnceLock::new();

/// Bytes of memory that there are for this process: those of the machine, or of its cgroup where
/// that has fewer.
pub fn memory() -> usize {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let bound = |file: &Path| fs::read_to_string(file).ok()?.trim().parse::<usize>().ok();
    let path = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let folder = Path::new(CGROUPS).join(path);
    let folders = folder.ancestors().take_while(|folder| folder.starts_with(CGROUPS));
    let groups = folders.filter_map(|folder| bound(&folder.join("memory.max")));
    let all = machine.into_iter().chain(groups).chain(bound(Path::new(CGROUP_1)));
    all.min().unwrap_or(MEMORY_UNKNOWN)
}

/// `MemTotal` of `/proc/meminfo`.
fn total(text: &str) -> Option<usize> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1 << 10)
}

/// Has as many descriptors as the system allows; the soft bound is often 1,024 only so that
/// programs that use `select` do not fail.
pub fn raise_descriptors() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    GIVEN.get_or_init(|| current);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::debug!(%error, "the bound on open files stays as it is");
    }
}

/// How many descriptors there may be; none where that is not bounded.
pub fn descriptors() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// How many there might be before [`raise_descriptors`]: what a child is to have.
pub fn descriptors_given() -> Option<u64> {
    GIVEN.get().copied().flatten()
}

/// Gives this process its soft bound back, before it becomes another program; `u64::MAX` is none.
pub fn lower_descriptors(to: u64) {
    if to == u64::MAX {
        return;
    }
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = Some(maximum.map_or(to, |maximum| maximum.min(to)));
    // A program that finds more descriptors than it expects works all the same, but for few.
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).ok();
}

/// Whether something failed since there are no more descriptors, of this process or of the machine.
pub fn is_exhausted(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
    matches!(code, Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE))
}

/// Whether a process could not be started since this process, or the machine, has no room for it:
/// no descriptors, processes or memory. That is no fault of the program.
pub fn is_full(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    is_exhausted(error) || matches!(code, Some(Errno::AGAIN | Errno::NOMEM))
}

/// Descriptors that are kept open for the time when there are no others.
#[derive(Debug)]
pub struct DescriptorReserve {
    kept: Vec<File>,
    count: usize,
}

impl DescriptorReserve {
    pub fn take(count: usize) -> Self {
        let mut reserve = Self { kept: Vec::new(), count };
        reserve.refill();
        reserve
    }

    /// Gives one up for what is to be opened next; false where none is left.
    pub fn release(&mut self) -> bool {
        self.kept.pop().is_some()
    }

    /// Has as many again as it was made with, as far as there are any.
    pub fn refill(&mut self) {
        while self.kept.len() < self.count
            && let Ok(file) = File::open("/dev/null")
        {
            self.kept.push(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_a_machine_is_read() {
        let text = "MemTotal:       32768 kB\nMemFree:  1 kB\n";
        assert_eq!(total(text), Some(32 << 20));
        for text in ["", "MemTotal: x kB", "MemTotal: 5", "Total: 5 kB"] {
            assert_eq!(total(text), None, "{text}");
        }
        assert!((1 << 20) < memory());
    }

    #[test]
    fn a_reserve_is_given_up_and_filled_again() {
        let mut reserve = DescriptorReserve::take(2);
        assert_eq!([(); 3].map(|()| reserve.release()), [true, true, false]);
        reserve.refill();
        assert_eq!([(); 3].map(|()| reserve.release()), [true, true, false]);
    }

    #[test]
    fn want_of_descriptors_is_told_from_other_trouble() {
        for (errno, want) in [
            (rustix::io::Errno::MFILE, true),
            (rustix::io::Errno::NFILE, true),
            (rustix::io::Errno::CONNREFUSED, false),
        ] {
            assert_eq!(is_exhausted(&errno.into()), want, "{errno}");
        }
        assert!(!is_exhausted(&io::Error::other("x")));
    }
}
