//! The file: a table of records in `SQLite`, each with the hash of the one before in its own.

use std::{
    fmt::{self, Write as _},
    fs, io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rusqlite::{Connection, params};

use crate::config;

use super::chain::{self, APPLICATION, AuditOpenError, LAST, Link, link};

const PAGE_BYTES: u32 = 4_096;

const TABLE: &str = "CREATE TABLE records (
    seq INTEGER PRIMARY KEY, record TEXT NOT NULL, hash BLOB NOT NULL) STRICT;";
const INSERT: &str = "INSERT INTO records (seq, record, hash) VALUES (?1, ?2, ?3)";
pub const ALL: &str = "SELECT seq, record, hash FROM records ORDER BY seq";
pub const SOME: &str = "SELECT record FROM records
    WHERE (:since IS NULL OR :since <= record ->> 'at')
    AND (:caller IS NULL OR 0 < instr(record ->> 'caller', :caller))
    AND (:outcome IS NULL OR :outcome = record ->> 'outcome')
    ORDER BY seq DESC LIMIT :limit";

/// Where the chain stood when the file was begun: only of one that goes on with another's.
const BEFORE_TABLE: &str = "CREATE TABLE before (seq INTEGER NOT NULL, hash BLOB NOT NULL) STRICT";
const BEFORE_INSERT: &str = "INSERT INTO before (seq, hash) VALUES (?1, ?2)";
/// Ends of the names of files beside the log.
const LOCK: &str = ".lock";
/// Says that the log is to be put away: `tollgate audit rotate` makes it, and a gate obeys.
pub const ROTATE: &str = ".rotate";

/// The log as it is written; locked for as long as this lives.
pub struct File {
    connection: Connection,
    last: Link,
    /// None once it was moved or removed, and no other could be opened in its place.
    identity: Option<Identity>,
    lock: Lock,
}

/// Which file of the system a path leads to.
type Identity = [u64; 2];

struct Lock {
    _file: fs::File,
    identity: Option<Identity>,
}

impl File {
    /// Opens the log at this path, or makes it.
    ///
    /// # Errors
    /// Where it cannot be opened or made, is another gate's, or is no audit log.
    pub fn open(path: &Path, bytes_max: usize) -> Result<Self, AuditOpenError> {
        let lock = Lock::take(path)?;
        let (connection, last) = connect(path, bytes_max, put_away_last(path)?)?;
        Ok(Self { connection, last, identity: identity(path), lock })
    }

    /// Whether the path no longer leads to this file.
    pub fn is_moved(&self, path: &Path) -> bool {
        self.identity.is_none() || self.identity != identity(path)
    }

    /// Whether it was moved or removed, and none could be opened in its place.
    pub fn is_lost(&self) -> bool {
        self.identity.is_none()
    }

    /// Opens the file that is at the path now, or makes it: the chain goes on there.
    ///
    /// # Errors
    /// As of [`Self::open`]; nothing can be written until it succeeds.
    pub fn reopen(&mut self, path: &Path, bytes_max: usize) -> Result<(), AuditOpenError> {
        self.leave(path)?;
        if self.lock.identity != identity(&beside(path, LOCK)) {
            self.lock = Lock::take(path)?;
        }
        let (connection, last) = connect(path, bytes_max, self.last)?;
        self.connection = connection;
        self.last = last;
        self.identity = identity(path);
        Ok(())
    }

    /// Puts the file away beside itself, named for its last record, and goes on in a new one. Says
    /// where it is; none where it has no record.
    ///
    /// # Errors
    /// Where it cannot be renamed, or no other made.
    pub fn rotate(
        &mut self,
        path: &Path,
        bytes_max: usize,
    ) -> Result<Option<PathBuf>, AuditOpenError> {
        let failed = |error| AuditOpenError::Sqlite(path.to_owned(), error);
        if chain::before(&self.connection).map_err(failed)?.seq == self.last.seq {
            return Ok(None);
        }
        let away = put_away(path, self.last.seq);
        let failed = |error| AuditOpenError::File(away.clone(), error);
        if away.exists() {
            return Err(failed(io::ErrorKind::AlreadyExists.into()));
        }
        self.leave(path)?;
        let renamed = fs::rename(path, &away).map_err(failed);
        self.reopen(path, bytes_max)?;
        renamed.map(|()| Some(away))
    }

    /// Closes the file with all that was written: what is in its journal is found by its path only.
    /// Another file at the path would take that journal's place.
    ///
    /// # Errors
    /// Where somebody reads the file for long: it is left as it is, to be tried again.
    fn leave(&mut self, path: &Path) -> Result<(), AuditOpenError> {
        if self.identity.is_none() {
            return Ok(());
        }
        let failed = |error| AuditOpenError::Sqlite(path.to_owned(), error);
        let is_busy = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0).map(|busy| busy != 0);
        match self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], is_busy) {
            Ok(false) => (),
            Ok(true) => {
                let why = "somebody reads it, so that its last records cannot be put into it yet";
                let busy = io::Error::new(io::ErrorKind::ResourceBusy, why);
                return Err(AuditOpenError::File(path.to_owned(), busy));
            }
            Err(error) => {
                tracing::error!(%error, "the audit log that was moved may lack its last records");
            }
        }
        self.connection = Connection::open_in_memory().map_err(failed)?;
        self.identity = None;
        Ok(())
    }

    /// The number of its last record.
    pub fn last(&self) -> i64 {
        self.last.seq
    }

    /// Writes these to the disk, or none of them.
    ///
    /// # Errors
    /// Where it cannot be written, or has no more room.
    pub fn append<'a>(
        &mut self,
        records: impl Iterator<Item = &'a String>,
    ) -> rusqlite::Result<()> {
        let Link { mut seq, mut hash } = self.last;
        let transaction = self.connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached(INSERT)?;
            let mut whole = String::new();
            for record in records {
                seq += 1;
                whole.clear();
                write!(whole, "{{\"seq\":{seq},").ok();
                whole.push_str(record);
                hash = link(&hash, &whole);
                insert.execute(params![seq, whole, hash])?;
            }
        }
        transaction.commit()?;
        self.last = Link { seq, hash };
        Ok(())
    }

    /// Bytes that it may still grow by, what is free within it counted in.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn room(&self) -> rusqlite::Result<usize> {
        if self.identity.is_none() {
            return Ok(0);
        }
        let pragma =
            |name| self.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let most = pragma("max_page_count")?;
        let used = pragma("page_count")? - pragma("freelist_count")?;
        let pages = usize::try_from(most - used).unwrap_or_default();
        Ok(pages.saturating_mul(PAGE_BYTES as usize))
    }
}

/// Sets how it is written; false where it is no audit log.
fn prepare(connection: &mut Connection, bytes_max: usize, before: Link) -> rusqlite::Result<bool> {
    let tables = "SELECT count(*) FROM sqlite_schema";
    let fresh = connection.query_row(tables, [], |row| row.get::<_, i64>(0))? == 0;
    let application =
        connection.pragma_query_value(None, "application_id", |row| row.get::<_, i64>(0))?;
    if !fresh && application != APPLICATION {
        return Ok(false);
    }
    if fresh {
        connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    }
    // Other processes read it while it is written. Every commit is on the disk before it is one.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    if fresh {
        connection.pragma_update(None, "application_id", APPLICATION)?;
        let transaction = connection.transaction()?;
        transaction.execute_batch(TABLE)?;
        if before != Link::default() {
            transaction.execute_batch(BEFORE_TABLE)?;
            transaction.execute(BEFORE_INSERT, params![before.seq, before.hash])?;
        }
        transaction.commit()?;
    }
    let pages = i64::try_from(bytes_max).unwrap_or(i64::MAX) / i64::from(PAGE_BYTES);
    // The pragma says what is in force now; of a file that is larger already, its size.
    connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
    Ok(true)
}

/// Opens the database, and finds where its chain stands: a new one goes on from `before`.
fn connect(
    path: &Path,
    bytes_max: usize,
    before: Link,
) -> Result<(Connection, Link), AuditOpenError> {
    // `SQLite` would make it readable by others.
    drop(own(path).map_err(|error| AuditOpenError::File(path.to_owned(), error))?);
    let failed = |error| AuditOpenError::Sqlite(path.to_owned(), error);
    let mut connection = Connection::open(path).map_err(failed)?;
    if !prepare(&mut connection, bytes_max, before).map_err(failed)? {
        return Err(AuditOpenError::Foreign(path.to_owned()));
    }
    let last = match connection.query_row(LAST, [], Link::read) {
        Err(rusqlite::Error::QueryReturnedNoRows) => chain::before(&connection),
        last => last,
    };
    Ok((connection, last.map_err(failed)?))
}

/// Opens a file of the gate's own, readable by nobody else.
fn own(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true).mode(0o600).open(path)
}

/// The file beside the log that has this at the end of its name.
pub fn beside(path: &Path, end: &str) -> PathBuf {
    let mut beside = path.to_owned().into_os_string();
    beside.push(end);
    beside.into()
}

/// The name of a log that is put away after this record: `audit-42.db`.
fn put_away(path: &Path, seq: i64) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{seq}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

/// The files that were put away beside a log, the oldest first.
pub fn siblings(path: &Path) -> Vec<PathBuf> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let entries = fs::read_dir(folder.unwrap_or(Path::new("."))).into_iter().flatten().flatten();
    let seq = |entry: fs::DirEntry| {
        let name = entry.path();
        let seq = name.file_stem()?.to_str()?.rsplit_once('-')?.1.parse::<i64>().ok()?;
        let own = put_away(path, seq);
        (own.file_name() == name.file_name()).then_some((seq, own))
    };
    let mut found: Vec<_> = entries.filter_map(seq).collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

/// Where the chain stands in the file that was put away last: for a gate that ended before there
/// was another.
///
/// # Errors
/// Where that cannot be read, and there is no other: the chain would begin anew.
fn put_away_last(path: &Path) -> Result<Link, AuditOpenError> {
    for away in siblings(path).into_iter().rev() {
        match chain::last(&away) {
            Ok(link) if put_away(path, link.seq) == away => return Ok(link),
            // Another gate's log, whose name only looks like it.
            Ok(_) => (),
            Err(error) if !path.exists() => return Err(error),
            Err(_) => break,
        }
    }
    Ok(Link::default())
}

fn identity(path: &Path) -> Option<Identity> {
    fs::metadata(path).ok().map(|meta| [meta.dev(), meta.ino()])
}

impl Lock {
    fn take(path: &Path) -> Result<Self, AuditOpenError> {
        let failed = |error| AuditOpenError::File(path.to_owned(), error);
        let at = beside(path, LOCK);
        let file = own(&at).map_err(failed)?;
        file.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => AuditOpenError::Taken(path.to_owned()),
            fs::TryLockError::Error(error) => failed(error),
        })?;
        Ok(Self { _file: file, identity: identity(&at) })
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("seq", &self.last.seq).finish_non_exhaustive()
    }
}

/// Puts the log at this path away, named for its last record, where no gate writes it; a new one
/// goes on with its chain. None where it has no record.
///
/// # Errors
/// Where a gate writes it ([`AuditOpenError::Taken`]), or it cannot be done.
pub fn rotate(settings: &config::Audit) -> Result<Option<PathBuf>, AuditOpenError> {
    let mut file = File::open(&settings.path, settings.bytes_max)?;
    file.rotate(&settings.path, settings.bytes_max)
}
