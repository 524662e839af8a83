//! A reserve of room on the disk, held back in a file of its own: once the disk is full, it is
//! given up for the records of the calls under way.

use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// The bytes below which a reserve is not worth a file.
const BYTES_MIN: usize = 64 << 10;

/// A file of zeros; it goes away with this.
#[derive(Debug)]
pub struct DiskReserve {
    path: PathBuf,
    wanted: usize,
    held: usize,
}

impl DiskReserve {
    /// Holds nothing yet. `beside` is the log, `wanted` how many bytes are to be held for it.
    pub fn new(beside: &Path, wanted: usize) -> Self {
        let mut path = beside.to_owned().into_os_string();
        path.push(".reserve");
        Self { path: path.into(), wanted, held: 0 }
    }

    /// Bytes that are held.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Takes what is wanted from the disk, or the half, and so on: where that has less, something
    /// of it is left for others.
    ///
    /// # Errors
    /// Where there is no room for the least, or the file cannot be made.
    pub fn hold(&mut self) -> io::Result<()> {
        let mut bytes = self.wanted;
        while self.held == 0 && 0 < self.wanted {
            match allocate(&self.path, bytes) {
                Ok(()) => self.held = bytes,
                Err(_) if BYTES_MIN < bytes => bytes /= 2,
                Err(error) => {
                    self.release();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Gives it back to the disk.
    pub fn release(&mut self) {
        self.held = 0;
        // Nothing is lost where it cannot be removed, or was not there.
        fs::remove_file(&self.path).ok();
    }
}

impl Drop for DiskReserve {
    fn drop(&mut self) {
        self.release();
    }
}

/// Makes the file of so many bytes, for which the disk has room from then on.
fn allocate(path: &Path, bytes: usize) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let file = options.create(true).truncate(true).write(true).mode(0o600).open(path)?;
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    #[cfg(target_os = "linux")]
    match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
        Err(rustix::io::Errno::OPNOTSUPP) => (),
        allocated => return Ok(allocated?),
    }
    // Written, since a hole would hold nothing.
    io::copy(&mut io::Read::take(io::repeat(0), bytes), &mut &file).map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn it_takes_room_from_the_disk_and_gives_it_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut reserve = DiskReserve::new(&folder.path().join("audit.db"), 1 << 20);
        let file = folder.path().join("audit.db.reserve");
        for _ in 0..2 {
            reserve.hold().unwrap();
            let about = fs::metadata(&file).unwrap();
            assert_eq!(
                (about.len(), about.mode() & 0o777, reserve.held()),
                (1 << 20, 0o600, 1 << 20)
            );
            assert!(1 << 20 <= about.blocks() * 512, "a hole holds nothing");
            reserve.release();
            assert!(!file.exists() && reserve.held() == 0);
        }
        reserve.hold().unwrap();
        drop(reserve);
        assert!(!file.exists());
    }

    #[test]
    fn nothing_that_cannot_be_made_is_held() {
        let folder = tempfile::tempdir().unwrap();
        let mut nowhere = DiskReserve::new(&folder.path().join("no/audit.db"), 1 << 20);
        assert!(nowhere.hold().is_err() && nowhere.held() == 0);
        let mut none = DiskReserve::new(&folder.path().join("audit.db"), 0);
        assert!(none.hold().is_ok() && none.held() == 0);
        assert!(!folder.path().join("audit.db.reserve").exists());
    }
}
