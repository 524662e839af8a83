//! What a configuration was read from, told by stamps, so that it is read again only where
//! something of that has changed.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, hash_map::RandomState},
    fs::{self, Metadata},
    hash::BuildHasher as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::Instant;

/// For so long after its stamp was first seen, a file is read again all the same: it may have been
/// written once more at what its file system takes for the same moment, which may be two seconds
/// long (FAT). Where the system's clock stands does not matter, nor the server's of a network.
const SAME_STAMP: Duration = Duration::from_secs(3);
/// After so long all is read again, whatever the stamps say.
const READ_AGAIN: Duration = Duration::from_secs(60);

/// What a configuration was read from, and whether that is still the same.
#[derive(Debug, Default)]
pub struct Inputs {
    /// The hash of what each variable was, by its name: it may be a secret.
    variables: RefCell<BTreeMap<String, u64>>,
    hasher: RandomState,
    seen: Option<Seen>,
}

/// Stamps of all that a configuration is read from; equal ones were read alike.
#[derive(Debug, PartialEq, Eq)]
pub struct Stamps {
    /// None for a file that cannot be found.
    files: Vec<Option<Stamp>>,
    variables: Vec<u64>,
}

/// All by which a file can be told from the one that had its name before.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

#[derive(Debug)]
struct Seen {
    stamps: Stamps,
    /// When the stamps were seen for the first time, and when what they are of was read.
    since: Instant,
    read_at: Instant,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Inputs {
    /// The stamps as they are now, to be taken before anything is read. `files` are those that the
    /// file at `path` named when it was read last.
    pub fn stamps(
        &self,
        path: &Path,
        files: &BTreeSet<PathBuf>,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Stamps {
        let paths = std::iter::once(path).chain(files.iter().map(PathBuf::as_path));
        let files = paths.map(|path| Some(Stamp::of(&fs::metadata(path).ok()?))).collect();
        let variables = self.variables.borrow();
        let variables = variables.keys().map(|name| self.hasher.hash_one(lookup(name))).collect();
        Stamps { files, variables }
    }

    /// Whether what has these stamps was read, and long enough after they were first seen that no
    /// other content can have them.
    pub fn were_read(&self, stamps: &Stamps, now: Instant) -> bool {
        self.seen.as_ref().is_some_and(|seen| {
            seen.stamps == *stamps
                && SAME_STAMP <= seen.read_at - seen.since
                && now - seen.read_at < READ_AGAIN
        })
    }

    /// Looks a variable up while a configuration is read, and notes what it was.
    pub fn look_up(&self, name: &str, lookup: impl Fn(&str) -> Option<String>) -> Option<String> {
        let value = lookup(name);
        self.variables.borrow_mut().insert(name.to_owned(), self.hasher.hash_one(&value));
        value
    }

    /// Notes that all of it was read at this time, after these stamps had been taken.
    pub fn note(&mut self, stamps: Stamps, read_at: Instant) {
        let before = self.seen.take().filter(|seen| seen.stamps == stamps);
        let since = before.map_or(read_at, |seen| seen.since);
        self.seen = Some(Seen { stamps, since, read_at });
    }

    /// Forgets what was read: it is not what is in force.
    pub fn forget(&mut self) {
        self.seen = None;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        os::unix::fs::{PermissionsExt as _, symlink},
        time::SystemTime,
    };

    use super::*;

    /// A folder with a file, one that it names, a link to that, and a folder of policies.
    struct Files {
        folder: tempfile::TempDir,
        inputs: Inputs,
        now: Instant,
    }

    impl Files {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let this = Self { folder, inputs: Inputs::default(), now: Instant::now() };
            for name in ["routes.toml", "secret", "other"] {
                fs::write(this.path(name), "before").unwrap();
            }
            symlink("secret", this.path("link")).unwrap();
            fs::create_dir(this.path("policies")).unwrap();
            this
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn stamps(&self, variable: &str) -> Stamps {
            let files = ["link", "policies", "missing"].map(|name| self.path(name)).into();
            let value = || Some(variable.to_owned());
            self.inputs.stamps(&self.path("routes.toml"), &files, |_| value())
        }

        fn were_read(&self, variable: &str) -> bool {
            self.inputs.were_read(&self.stamps(variable), self.now)
        }

        fn read(&mut self, variable: &str) {
            let stamps = self.stamps(variable);
            self.inputs.note(stamps, self.now);
        }

        /// Reads all of it until no other content can have the stamps.
        fn settle(&mut self) {
            self.inputs.look_up("A", |_| Some("a".to_owned()));
            for _ in 0..2 {
                self.read("a");
                self.now += SAME_STAMP;
            }
        }
    }

    type Change = fn(&Files);

    /// Every way in which something may be another thing than before, none of which changes what
    /// the one before is called and how long it is.
    const CHANGES: [(&str, Change); 12] = [
        ("written over", |files| fs::write(files.path("routes.toml"), "after!").unwrap()),
        ("appended to", |files| fs::write(files.path("secret"), "before and after").unwrap()),
        ("replaced", |files| fs::rename(files.path("other"), files.path("routes.toml")).unwrap()),
        ("replaced behind a link", |files| {
            fs::rename(files.path("other"), files.path("secret")).unwrap();
        }),
        ("linked elsewhere", |files| {
            symlink("other", files.path("next")).unwrap();
            fs::rename(files.path("next"), files.path("link")).unwrap();
        }),
        ("removed", |files| fs::remove_file(files.path("secret")).unwrap()),
        ("there at last", |files| fs::write(files.path("missing"), "").unwrap()),
        ("a policy more", |files| fs::write(files.path("policies/a.cedar"), "").unwrap()),
        ("a policy more, by its name", |files| {
            fs::rename(files.path("other"), files.path("policies/b.cedar")).unwrap();
        }),
        ("as old as before", |files| {
            let path = files.path("routes.toml");
            let old = fs::metadata(&path).unwrap().modified().unwrap();
            fs::write(&path, "after!").unwrap();
            File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        }),
        ("older than before", |files| {
            let file = File::options().write(true).open(files.path("routes.toml")).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        }),
        ("not to be read", |files| {
            let none = fs::Permissions::from_mode(0o000);
            fs::set_permissions(files.path("secret"), none).unwrap();
        }),
    ];

    #[test]
    fn whatever_changes_is_read_again() {
        for (how, change) in CHANGES {
            let mut files = Files::new();
            files.settle();
            assert!(files.were_read("a"), "{how}: before");
            // The clock of a file system goes by ticks of some milliseconds.
            #[allow(clippy::disallowed_methods, reason = "no other clock is meant")]
            std::thread::sleep(Duration::from_millis(20));
            change(&files);
            assert!(!files.were_read("a"), "{how}");
        }
    }

    #[test]
    fn a_variable_that_changes_is_read_again() {
        let mut files = Files::new();
        files.settle();
        assert!(files.were_read("a"));
        assert!(!files.were_read("b"), "another value");
        files.inputs.look_up("B", |_| None);
        assert!(!files.were_read("a"), "another variable");
    }

    /// What is written twice within one tick of a coarse clock has one stamp.
    #[test]
    fn what_has_just_changed_is_read_until_its_stamp_is_its_own() {
        let mut files = Files::new();
        let begun = files.now;
        while files.now - begun < SAME_STAMP {
            assert!(!files.were_read(""), "{:?} old", files.now - begun);
            files.read("");
            files.now += Duration::from_millis(700);
        }
        // The last look was too early, this one is not.
        assert!(!files.were_read(""));
        files.read("");
        assert!(files.were_read(""));
        // Nor are stamps believed for ever.
        files.now += READ_AGAIN;
        assert!(!files.were_read(""));
        files.inputs.forget();
        files.read("");
        assert!(!files.were_read(""), "what was not in force is read");
    }
}
