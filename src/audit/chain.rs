//! What says where a chain stands: at the end of a file, and before its first record.

use std::{
    io,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags};

/// "Toll": what says that a file of `SQLite` is an audit log.
pub const APPLICATION: i64 = 0x546f_6c6c;
pub const LAST: &str = "SELECT seq, hash FROM records ORDER BY seq DESC LIMIT 1";
const BEFORE: &str = "SELECT seq, hash FROM before";
const BEFORE_IS_THERE: &str = "SELECT count(*) FROM sqlite_schema WHERE name = 'before'";

pub type Hash = [u8; 32];

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum AuditOpenError {
    #[error("the audit log {path}: {error}", path = .0.display(), error = .1)]
    File(PathBuf, io::Error),
    #[error("the audit log {path}: {error}", path = .0.display(), error = .1)]
    Sqlite(PathBuf, rusqlite::Error),
    #[error(
        "the audit log {} is another gate's: give each its own (`path` of `[audit]`)",
        .0.display()
    )]
    Taken(PathBuf),
    #[error("{} is no audit log: name another file (`path` of `[audit]`)", .0.display())]
    Foreign(PathBuf),
    #[error("no thread writes the audit log: {0}")]
    Thread(String),
}

/// Where a chain stands: its last record, and the hash of that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Link {
    pub seq: i64,
    pub hash: Hash,
}

impl Link {
    /// # Errors
    /// Where the row is none.
    pub fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { seq: row.get(0)?, hash: row.get(1)? })
    }
}

pub fn link(before: &Hash, record: &str) -> Hash {
    let mut hash = blake3::Hasher::new();
    hash.update(before).update(record.as_bytes());
    hash.finalize().into()
}

/// Opens a log for reading, also while a gate writes it.
///
/// # Errors
/// Where it cannot be opened, or is no audit log.
pub fn reader(path: &Path) -> Result<Connection, AuditOpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let failed = |error| AuditOpenError::Sqlite(path.to_owned(), error);
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    let id = connection.pragma_query_value(None, "application_id", |row| row.get::<_, i64>(0));
    match id.map_err(failed)? {
        APPLICATION => Ok(connection),
        _ => Err(AuditOpenError::Foreign(path.to_owned())),
    }
}

/// Reads where the chain stood when this file was begun.
///
/// # Errors
/// Where the file cannot be read.
pub fn before(connection: &Connection) -> rusqlite::Result<Link> {
    let there = connection.query_row(BEFORE_IS_THERE, [], |row| row.get::<_, i64>(0))?;
    if there == 0 {
        return Ok(Link::default());
    }
    match connection.query_row(BEFORE, [], Link::read) {
        Err(rusqlite::Error::QueryReturnedNoRows) => Ok(Link::default()),
        link => link,
    }
}

/// Reads where the chain stands at the end of a file, and proves nothing.
///
/// # Errors
/// Where the file cannot be read.
pub fn last(path: &Path) -> Result<Link, AuditOpenError> {
    let failed = |error| AuditOpenError::Sqlite(path.to_owned(), error);
    let connection = reader(path)?;
    match connection.query_row(LAST, [], Link::read) {
        Err(rusqlite::Error::QueryReturnedNoRows) => before(&connection),
        last => last,
    }
    .map_err(failed)
}
