//! Small files in the state folder, written whole or not at all.

use std::{
    fs::{File, Permissions},
    io::{self, Write as _},
    os::unix::fs::{
        DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
    },
    path::{Path, PathBuf},
};

/// The state folder; only its owner may look inside.
#[derive(Debug, Clone)]
pub struct StateFolder {
    folder: PathBuf,
}

/// A state of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    file: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl StateFolder {
    /// Opens the folder, and makes it where it is missing.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(folder: &Path) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Holds the folder, and a file in it if it is there, to belong to nobody else: who may write
    /// there can put in a key of sessions or a catalog of their own. A folder that others may look
    /// into is closed to them.
    ///
    /// # Errors
    /// Others may write the folder, or read or write the file, or either is somebody else's.
    pub fn check_owner(&self, name: &str) -> io::Result<()> {
        let folder = std::fs::metadata(&self.folder)?;
        let shown = self.folder.display();
        let own = rustix::process::geteuid().as_raw();
        let refused = |text: String| Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        if folder.uid() != own || folder.mode() & 0o022 != 0 {
            return refused(format!(
                "others may write there, or it is another user's: `chown {own} {shown} && chmod \
                 700 {shown}`, or name a folder within it as `state`, which is made then"
            ));
        }
        if folder.mode() & 0o077 != 0 {
            std::fs::set_permissions(&self.folder, Permissions::from_mode(0o700))?;
        }
        let path = self.folder.join(name);
        let shown = path.display();
        match std::fs::symlink_metadata(&path) {
            Ok(file) if file.uid() != own || file.mode() & 0o077 != 0 && file.is_file() => {
                refused(format!(
                    "others may read or write {shown}, or it is another user's: delete it, and a \
                     new one is made; sessions end then"
                ))
            }
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The bytes of a file; none where there is no such file.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match std::fs::read(self.folder.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a file that only its owner may read: a neighbour first, then renamed over it.
    ///
    /// # Errors
    /// The file cannot be written whole.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let beside = self.write_beside(name, bytes)?;
        std::fs::rename(&beside, self.folder.join(name))?;
        // Its new name outlives a loss of power only once the folder is written, too.
        File::open(&self.folder)?.sync_all()
    }

    /// The bytes of a file that is made by `make` the first time, also where two processes race for
    /// it.
    ///
    /// # Errors
    /// The file can be neither read nor made.
    pub fn read_or_make(&self, name: &str, make: impl FnOnce() -> Vec<u8>) -> io::Result<Vec<u8>> {
        if let Some(bytes) = self.read(name)? {
            return Ok(bytes);
        }
        let bytes = make();
        let beside = self.write_beside(name, &bytes)?;
        // Fails where the file is there by now; whoever reads it finds it whole.
        let linked = std::fs::hard_link(&beside, self.folder.join(name));
        std::fs::remove_file(&beside)?;
        match linked {
            Ok(()) => Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.read(name)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
            }
            Err(error) => Err(error),
        }
    }

    /// Tells one state of a file from another; none where there is no such file.
    pub fn stamp(&self, name: &str) -> Option<Stamp> {
        let known = std::fs::metadata(self.folder.join(name)).ok()?;
        Some(Stamp {
            file: known.ino(),
            bytes: known.len(),
            changed: (known.mtime(), known.mtime_nsec()),
        })
    }

    /// Waits for a lock that one process at a time has; it ends with what is given.
    ///
    /// # Errors
    /// The file of the lock cannot be opened, or the system has no locks.
    pub fn lock(&self, name: &str) -> io::Result<File> {
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600);
        let file = file.open(self.folder.join(name))?;
        file.lock()?;
        Ok(file)
    }

    /// Keeps a file, if there is one, under a second name, also once the first is written anew.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn keep_earlier(&self, name: &str, earlier: &str) -> io::Result<()> {
        let earlier = self.folder.join(earlier);
        match std::fs::remove_file(&earlier) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => (),
        }
        match std::fs::hard_link(self.folder.join(name), earlier) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Puts a file aside for people to look at; gives its new name.
    ///
    /// # Errors
    /// The file is not there, or the folder cannot be written.
    pub fn put_aside(&self, name: &str) -> io::Result<String> {
        let aside = format!("{name}.damaged-{:016x}", rand::random::<u64>());
        std::fs::rename(self.folder.join(name), self.folder.join(&aside))?;
        Ok(aside)
    }

    /// Writes the whole of it to a file of its own.
    fn write_beside(&self, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
        let beside = self.folder.join(format!(".{name}.{:016x}", rand::random::<u64>()));
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&beside)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        if written.is_err() {
            // A file that is half written is of no use to anybody.
            std::fs::remove_file(&beside).ok();
        }
        written.map(|()| beside)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn of_many_that_make_a_file_one_does_and_all_read_it_whole() {
        let folder = tempfile::tempdir().unwrap();
        let store = StateFolder::open(folder.path()).unwrap();
        let made = std::thread::scope(|scope| {
            let make = |at: u8| store.read_or_make("key", || vec![at; 1 << 16]).unwrap();
            let all: Vec<_> = (0..8).map(|at| scope.spawn(move || make(at))).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
        });
        let kept = store.read("key").unwrap().unwrap();
        assert_eq!(kept.len(), 1 << 16);
        assert!(made.iter().all(|made| *made == kept));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn files_are_the_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let store = StateFolder::open(&folder.path().join("state")).unwrap();
        assert_eq!(store.read("key").unwrap(), None);
        assert_eq!(store.read_or_make("key", || vec![1]).unwrap(), [1]);
        assert_eq!(store.read_or_make("key", || vec![2]).unwrap(), [1]);
        store.write("key", &[3]).unwrap();
        assert_eq!(store.read("key").unwrap().unwrap(), [3]);
        let mode = |name: &str| {
            let path = store.folder.join(name);
            std::fs::metadata(path).unwrap().permissions().mode() & 0o777
        };
        assert_eq!((mode("key"), mode("")), (0o600, 0o700));
    }
}
