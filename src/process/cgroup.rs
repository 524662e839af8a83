//! The bound on one child's memory, kept by the kernel: a cgroup (version 2) of its own below the
//! gate's, where the gate may make one.
//!
//! A cgroup with processes of its own cannot have bounded ones below it (cgroups(7), "no internal
//! processes"): the gate moves to a leaf first. It does so only where its cgroup was handed to it
//! (`Delegate=` of systemd), or is the root of a namespace of its own: elsewhere, other processes
//! may be in it, and systemd does not expect it to change.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::process::Pid;

/// The folders where cgroups of version 2 are (cgroups(7)); beside those of version 1, or alone.
const ROOTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// The leaf that the gate itself moves to.
const OWN_LEAF: &str = "tollgate";
/// How the names of children's cgroups begin.
const PREFIX: &str = "tollgate-child-";
/// The attributes that systemd sets on a cgroup that it hands over (systemd.resource-control(5),
/// `Delegate=`).
const DELEGATED: [&str; 2] = ["user.delegate", "trusted.delegate"];

/// The folder below which children have their cgroups, or why there is none; found out once.
static PARENT: OnceLock<Result<PathBuf, String>> = OnceLock::new();

/// The cgroup of one child and its descendants. Dropped, what is left in it is killed, and it is
/// removed.
#[derive(Debug)]
pub struct Cgroup {
    folder: PathBuf,
}

impl Cgroup {
    /// Makes a cgroup with this bound and moves a process there that has not begun yet.
    ///
    /// # Errors
    /// Why the kernel cannot be asked to keep the bound; the process is where it was.
    pub fn bound(leader: Pid, bytes_max: u64) -> Result<Self, String> {
        let parent = PARENT.get_or_init(|| {
            let own = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
            parent(&ROOTS.map(Path::new), &own)
        });
        let parent = parent.as_ref().map_err(Clone::clone)?;
        Self::make(parent, leader, bytes_max, |_| ()).map_err(|error| error.to_string())
    }

    /// `made` is told of the new folder, which the kernel fills with files.
    fn make(
        parent: &Path,
        leader: Pid,
        bytes_max: u64,
        made: impl FnOnce(&Path),
    ) -> io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        let folder = parent.join(name);
        fs::create_dir(&folder)?;
        made(&folder);
        // The folder is removed where anything fails from here on.
        let cgroup = Self { folder };
        cgroup.write("memory.max", &bytes_max.to_string())?;
        // Absent where there is no swap, or an old kernel.
        cgroup.write("memory.swap.max", "0").ok();
        cgroup.write("memory.oom.group", "1").ok();
        cgroup.write("cgroup.procs", &leader.as_raw_pid().to_string())?;
        Ok(cgroup)
    }

    /// Whether the kernel killed a process of it for its memory.
    pub fn has_exceeded(&self) -> bool {
        let events = fs::read_to_string(self.folder.join("memory.events")).unwrap_or_default();
        let killed = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
        killed.is_some_and(|count| count.trim() != "0")
    }

    /// Writes a file that the kernel has made.
    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        write(&self.folder.join(name), text)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The kernel also kills what left the process group. Absent before Linux 5.14.
        self.write("cgroup.kill", "1").ok();
        if let Err(error) = fs::remove_dir(&self.folder) {
            // Killed, and not reaped yet: it is tried again with the next child.
            let folder = self.folder.display();
            tracing::debug!(%folder, %error, "a cgroup is left for now");
        }
    }
}

/// Finds the folder below which the process may make cgroups with bounds, of which `own` tells
/// (`/proc/self/cgroup`), and prepares it.
fn parent(roots: &[&Path], own: &str) -> Result<PathBuf, String> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"));
    let path = path.ok_or("this process is in no cgroup of version 2")?;
    let root = roots.iter().find(|root| root.join("cgroup.controllers").is_file());
    let root = root.ok_or("no cgroups of version 2 are mounted")?;
    let folder = root.join(path);
    if folder.file_name().is_some_and(|name| name == OWN_LEAF)
        && let Some(above) = folder.parent()
        && has_memory(above, "cgroup.subtree_control")
    {
        // The process was moved by a gate whose place this one takes.
        sweep(above);
        return Ok(above.to_owned());
    }
    if !has_memory(&folder, "cgroup.controllers") {
        return Err("the controller `memory` is not handed to its cgroup".to_owned());
    }
    if !path.is_empty() && !DELEGATED.iter().any(|mark| is_marked(&folder, mark)) {
        return Err("its cgroup is not handed over (`Delegate=`)".to_owned());
    }
    prepare(&folder).map_err(|error| format!("its cgroup cannot be divided: {error}"))?;
    sweep(&folder);
    Ok(folder)
}

/// Moves this process to a leaf, and lets cgroups beside that have bounds.
fn prepare(folder: &Path) -> io::Result<()> {
    if has_memory(folder, "cgroup.subtree_control") {
        return Ok(());
    }
    let leaf = folder.join(OWN_LEAF);
    match fs::create_dir(&leaf) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => (),
    }
    // 0 is whoever writes it.
    let moved = write(&leaf.join("cgroup.procs"), "0")
        .and_then(|()| write(&folder.join("cgroup.subtree_control"), "+memory"));
    if moved.is_err() {
        write(&folder.join("cgroup.procs"), "0").ok();
        fs::remove_dir(&leaf).ok();
    }
    moved
}

/// Removes what gates left behind that were killed: only what is empty can be removed.
fn sweep(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries {
        if entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            fs::remove_dir(entry.path()).ok();
        }
    }
}

fn has_memory(folder: &Path, file: &str) -> bool {
    let controllers = fs::read_to_string(folder.join(file)).unwrap_or_default();
    controllers.split_ascii_whitespace().any(|name| name == "memory")
}

fn is_marked(folder: &Path, mark: &str) -> bool {
    let mut value = [0_u8; 8];
    let length = rustix::fs::getxattr(folder, mark, &mut value[..]);
    length.is_ok_and(|length| value.get(..length) == Some(b"1"))
}

/// Writes a file that is there already: the kernel makes those of cgroups.
fn write(file: &Path, text: &str) -> io::Result<()> {
    fs::OpenOptions::new().write(true).open(file)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use rustix::process::getpid;
    use tempfile::TempDir;

    use super::*;

    /// A folder as the kernel would fill it.
    fn filled(folder: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(folder).unwrap();
        for (name, text) in files {
            fs::write(folder.join(name), text).unwrap();
        }
    }

    fn child(folder: &Path) {
        let files = ["memory.max", "memory.swap.max", "memory.oom.group", "cgroup.procs"];
        filled(folder, &files.map(|name| (name, "")));
    }

    fn text(folder: &Path, file: &str) -> String {
        fs::read_to_string(folder.join(file)).unwrap()
    }

    #[test]
    fn a_child_has_its_bound_before_it_is_moved_and_an_end() {
        let root = TempDir::new().unwrap();
        let made = |bytes| Cgroup::make(root.path(), getpid(), bytes, child).unwrap();
        for bytes in [1, 4096, 1 << 20, 128 << 20, 1 << 40, u64::MAX] {
            let cgroup = made(bytes);
            assert_eq!(text(&cgroup.folder, "memory.max"), bytes.to_string());
            assert_eq!(text(&cgroup.folder, "memory.swap.max"), "0");
            assert_eq!(text(&cgroup.folder, "memory.oom.group"), "1");
            assert_eq!(text(&cgroup.folder, "cgroup.procs"), getpid().as_raw_pid().to_string());
        }
        for (events, exceeded) in [
            ("", false),
            ("low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\n", false),
            ("low 0\nhigh 0\nmax 9\noom 1\noom_kill 0\noom_group_kill 0\n", false),
            ("low 0\nhigh 0\nmax 9\noom 1\noom_kill 1\noom_group_kill 1\n", true),
            ("oom_kill 12\n", true),
        ] {
            let cgroup = made(1 << 20);
            assert!(!cgroup.has_exceeded(), "before there is any event");
            fs::write(cgroup.folder.join("memory.events"), events).unwrap();
            assert_eq!(cgroup.has_exceeded(), exceeded, "{events}");
        }
        // What a file system that is no cgroup's has, or a controller that is not there.
        for missing in ["memory.max", "cgroup.procs"] {
            let before = fs::read_dir(root.path()).unwrap().count();
            let made = Cgroup::make(root.path(), getpid(), 1, |folder| {
                child(folder);
                fs::remove_file(folder.join(missing)).unwrap();
            });
            assert!(made.is_err(), "{missing}");
            assert_eq!(fs::read_dir(root.path()).unwrap().count(), before + 1);
        }
        // A folder of the kernel's is empty to whoever removes it.
        for _ in 0..2 {
            let before = fs::read_dir(root.path()).unwrap().count();
            assert!(Cgroup::make(root.path(), getpid(), 1, |_| ()).is_err());
            assert_eq!(fs::read_dir(root.path()).unwrap().count(), before, "it is removed");
        }
    }

    #[test]
    fn only_what_is_handed_over_is_divided() {
        let both = "cpu memory pids\n";
        let service = "0::/system.slice/gate.service\n";
        let version_1 = "4:memory:/x\n3:cpu:/\n";
        // In a container: the root of a namespace of its own.
        for (controllers, subtree, own, found) in [
            (Some(both), "", "0::/\n", true),
            (Some(both), "memory\n", "0::/\n", true),
            (Some(both), "cpu memory\n", "0::/\n", true),
            (Some("cpu pids\n"), "", "0::/\n", false),
            (Some(""), "", "0::/\n", false),
            (None, "", "0::/\n", false),
            (Some(both), "", version_1, false),
            (Some(both), "", "", false),
            // Not marked as handed over, whatever it could do.
            (Some(both), "", service, false),
            (Some(both), "memory\n", service, false),
        ] {
            let root = TempDir::new().unwrap();
            let path = own.trim().strip_prefix("0::/").unwrap_or_default();
            let folder = root.path().join(path);
            let files = [("cgroup.subtree_control", subtree), ("cgroup.procs", "")];
            filled(&folder, &files);
            filled(&folder.join(OWN_LEAF), &[("cgroup.procs", "")]);
            for place in [root.path(), &folder] {
                controllers.iter().for_each(|all| filled(place, &[("cgroup.controllers", all)]));
            }
            fs::create_dir(folder.join(format!("{PREFIX}7-1"))).unwrap();
            let parent = parent(&[root.path()], own);
            let case = format!("{controllers:?} {subtree:?} {own:?}: {parent:?}");
            assert_eq!(parent.is_ok(), found, "{case}");
            let left = folder.join(format!("{PREFIX}7-1")).exists();
            assert_eq!(left, !found, "{case}: what a gate left behind");
            let moved = text(&folder.join(OWN_LEAF), "cgroup.procs") == "0";
            assert_eq!(moved, found && !subtree.contains("memory"), "{case}");
        }
    }

    #[test]
    fn a_gate_that_was_moved_by_the_one_before_it_needs_nothing_more() {
        let root = TempDir::new().unwrap();
        let own = "0::/x/tollgate\n";
        filled(root.path(), &[("cgroup.controllers", "memory")]);
        filled(&root.path().join("x/tollgate"), &[("cgroup.procs", "")]);
        filled(&root.path().join("x"), &[("cgroup.subtree_control", "memory pids")]);
        assert_eq!(parent(&[root.path()], own), Ok(root.path().join("x")));
        filled(&root.path().join("x"), &[("cgroup.subtree_control", "pids")]);
        assert!(parent(&[root.path()], own).is_err(), "its leaf has no controller");
    }

    /// With a real kernel, where it hands a cgroup over to this process.
    #[test]
    #[allow(clippy::print_stderr, reason = "says why nothing is tried")]
    fn the_kernel_keeps_the_bound_where_it_is_asked_to() {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let parent = match parent(&ROOTS.map(Path::new), &own) {
            Ok(parent) => parent,
            Err(why) => return eprintln!("not tried on this machine: {why}"),
        };
        #[allow(clippy::disallowed_methods, reason = "the peer, not the gate, is this process")]
        let mut peer = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let id = Pid::from_raw(peer.id().cast_signed()).unwrap();
        let cgroup = Cgroup::make(&parent, id, 64 << 20, |_| ()).unwrap();
        let folder = cgroup.folder.clone();
        assert_eq!(text(&folder, "memory.max").trim(), (64 << 20).to_string());
        assert_eq!(text(&folder, "cgroup.procs").trim(), peer.id().to_string());
        peer.kill().unwrap();
        peer.wait().unwrap();
        drop(cgroup);
        assert!(!folder.exists());
    }
}
