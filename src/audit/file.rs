//! The file: a table of records in `SQLite`, each with the hash of the one before in its own.

use std::{
    fmt, fs, io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags, named_params, params};

/// "Toll": what says that a file of `SQLite` is an audit log.
const APPLICATION: i64 = 0x546f_6c6c;
const PAGE_BYTES: u32 = 4_096;

const TABLE: &str = "CREATE TABLE records (
    seq INTEGER PRIMARY KEY, record TEXT NOT NULL, hash BLOB NOT NULL) STRICT;";
const INSERT: &str = "INSERT INTO records (seq, record, hash) VALUES (?1, ?2, ?3)";
const LAST: &str = "SELECT seq, hash FROM records ORDER BY seq DESC LIMIT 1";
const ALL: &str = "SELECT seq, record, hash FROM records ORDER BY seq";
const SOME: &str = "SELECT record FROM records
    WHERE (:since IS NULL OR :since <= record ->> 'at')
    AND (:caller IS NULL OR 0 < instr(record ->> 'caller', :caller))
    AND (:outcome IS NULL OR :outcome = record ->> 'outcome')
    ORDER BY seq DESC LIMIT :limit";

type Hash = [u8; 32];

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

/// A log that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    pub count: i64,
    /// The hash of the last record, as digits: whoever noted it once can tell that none before it
    /// was changed since.
    pub head: String,
}

/// The first record that is not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    pub seq: i64,
}

/// Which records are listed.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Not before this, as RFC 3339 with microseconds.
    pub since: Option<String>,
    /// Has this in it.
    pub caller: Option<String>,
    pub outcome: Option<String>,
    pub limit: u32,
}

/// The log as it is written; locked for as long as this lives.
pub struct File {
    connection: Connection,
    seq: i64,
    head: Hash,
    _lock: fs::File,
}

impl File {
    /// Opens the log at this path, or makes it.
    ///
    /// # Errors
    /// Where it cannot be opened or made, is another gate's, or is no audit log.
    pub fn open(path: &Path, bytes_max: usize) -> Result<Self, AuditOpenError> {
        let own = |path: &Path| {
            let mut options = fs::OpenOptions::new();
            options.create(true).truncate(false).read(true).write(true).mode(0o600).open(path)
        };
        let failed = |error| AuditOpenError::File(path.to_owned(), error);
        let mut beside = path.to_owned().into_os_string();
        beside.push(".lock");
        let lock = own(Path::new(&beside)).map_err(failed)?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => AuditOpenError::Taken(path.to_owned()),
            fs::TryLockError::Error(error) => failed(error),
        })?;
        // `SQLite` would make it readable by others.
        drop(own(path).map_err(failed)?);
        let failed = |error| AuditOpenError::Sqlite(path.to_owned(), error);
        let connection = Connection::open(path).map_err(failed)?;
        if !prepare(&connection, bytes_max).map_err(failed)? {
            return Err(AuditOpenError::Foreign(path.to_owned()));
        }
        let last = connection.query_row(LAST, [], |row| Ok((row.get(0)?, row.get(1)?)));
        let (seq, head) = match last {
            Err(rusqlite::Error::QueryReturnedNoRows) => (0, [0; 32]),
            last => last.map_err(failed)?,
        };
        Ok(Self { connection, seq, head, _lock: lock })
    }

    /// Writes these to the disk, or none of them.
    ///
    /// # Errors
    /// Where it cannot be written, or has no more room.
    pub fn append<'a>(
        &mut self,
        records: impl Iterator<Item = &'a String>,
    ) -> rusqlite::Result<()> {
        let mut seq = self.seq;
        let mut head = self.head;
        let transaction = self.connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached(INSERT)?;
            for record in records {
                seq += 1;
                let record = format!("{{\"seq\":{seq},{record}");
                head = link(&head, &record);
                insert.execute(params![seq, record, head])?;
            }
        }
        transaction.commit()?;
        (self.seq, self.head) = (seq, head);
        Ok(())
    }

    /// Bytes that it may still grow by, what is free within it counted in.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn room(&self) -> rusqlite::Result<usize> {
        let pragma =
            |name| self.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let most = pragma("max_page_count")?;
        let used = pragma("page_count")? - pragma("freelist_count")?;
        let pages = usize::try_from(most - used).unwrap_or_default();
        Ok(pages.saturating_mul(PAGE_BYTES as usize))
    }
}

/// Sets how it is written; false where it is no audit log.
fn prepare(connection: &Connection, bytes_max: usize) -> rusqlite::Result<bool> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let tables = "SELECT count(*) FROM sqlite_schema";
    let fresh = connection.query_row(tables, [], |row| row.get::<_, i64>(0))? == 0;
    if !fresh && pragma("application_id")? != APPLICATION {
        return Ok(false);
    }
    if fresh {
        connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    }
    // Read while it is written. Every commit is on the disk before it is one.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    if fresh {
        connection.pragma_update(None, "application_id", APPLICATION)?;
        connection.execute_batch(TABLE)?;
    }
    let pages = i64::try_from(bytes_max).unwrap_or(i64::MAX) / i64::from(PAGE_BYTES);
    // It says what is in force now; of a file that is larger already, its size.
    connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
    Ok(true)
}

/// Reads a log, also while a gate writes it.
fn reader(path: &Path) -> Result<Connection, AuditOpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let failed = |error| AuditOpenError::Sqlite(path.to_owned(), error);
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    let id = connection.pragma_query_value(None, "application_id", |row| row.get::<_, i64>(0));
    match id.map_err(failed)? {
        APPLICATION => Ok(connection),
        _ => Err(AuditOpenError::Foreign(path.to_owned())),
    }
}

/// Reads all of a log, and proves that nothing in it was changed, taken out or put in.
///
/// # Errors
/// Where it cannot be read.
pub fn verify(path: &Path) -> Result<Result<Proof, Broken>, AuditOpenError> {
    let failed = |error| AuditOpenError::Sqlite(path.to_owned(), error);
    let connection = reader(path)?;
    let mut all = connection.prepare(ALL).map_err(failed)?;
    let mut rows = all.query([]).map_err(failed)?;
    let mut count = 0_i64;
    let mut head = [0; 32];
    while let Some(row) = rows.next().map_err(failed)? {
        let seq = count + 1;
        let read = |row: &rusqlite::Row<'_>| {
            Ok::<_, rusqlite::Error>((row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?))
        };
        let Ok((at, record, hash)): Result<(i64, String, Hash), _> = read(row) else {
            return Ok(Err(Broken { seq }));
        };
        let numbered = record.starts_with(&format!("{{\"seq\":{seq},"));
        if at != seq || !numbered || link(&head, &record) != hash {
            return Ok(Err(Broken { seq }));
        }
        (count, head) = (seq, hash);
    }
    Ok(Ok(Proof { count, head: blake3::Hash::from_bytes(head).to_hex().to_string() }))
}

/// The newest records that fit, the oldest of them first.
///
/// # Errors
/// Where the log cannot be read.
pub fn list(path: &Path, filter: &Filter) -> Result<Vec<String>, AuditOpenError> {
    let failed = |error| AuditOpenError::Sqlite(path.to_owned(), error);
    let connection = reader(path)?;
    let mut some = connection.prepare(SOME).map_err(failed)?;
    let named = named_params! {
        ":since": filter.since,
        ":caller": filter.caller,
        ":outcome": filter.outcome,
        ":limit": filter.limit,
    };
    let rows = some.query_map(named, |row| row.get(0)).map_err(failed)?;
    let mut records = rows.collect::<Result<Vec<String>, _>>().map_err(failed)?;
    records.reverse();
    Ok(records)
}

fn link(before: &Hash, record: &str) -> Hash {
    let mut hash = blake3::Hasher::new();
    hash.update(before).update(record.as_bytes());
    hash.finalize().into()
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("seq", &self.seq).finish_non_exhaustive()
    }
}
