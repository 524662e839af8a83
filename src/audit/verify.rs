//! Proves logs: each file's own chain, and that of the files of one log.

use std::path::{Path, PathBuf};

use rusqlite::named_params;

use super::{
    chain::{AuditOpenError, Hash, Link, before, link, reader},
    file::{ALL, SOME, siblings},
};

/// A file that is whole in itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The last record of the file before; 0 where there is none.
    pub after: i64,
    /// The hash of that one, as digits.
    pub after_head: String,
    /// Records of this file.
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

/// A place at which the files of a log do not go on from one to the next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Gap {
    #[error(
        "records {from} to {to} are in none of these files, which have what is before and after"
    )]
    Missing { from: i64, to: i64 },
    #[error("record {seq} and those after it are in two of these files, and not the same")]
    Twice { seq: i64 },
    #[error("record {seq} does not go on with the one before: the files are not of one log")]
    Foreign { seq: i64 },
}

/// Reads all of a file, and proves that nothing in it was changed, taken out or put in.
///
/// # Errors
/// Where it cannot be read.
pub fn verify(path: &Path) -> Result<Result<Proof, Broken>, AuditOpenError> {
    let failed = |error| AuditOpenError::Sqlite(path.to_owned(), error);
    let connection = reader(path)?;
    let Ok(after) = before(&connection) else { return Ok(Err(Broken { seq: 1 })) };
    let mut all = connection.prepare(ALL).map_err(failed)?;
    let mut rows = all.query([]).map_err(failed)?;
    let mut last = after;
    while let Some(row) = rows.next().map_err(failed)? {
        let seq = last.seq.saturating_add(1);
        let read = |row: &rusqlite::Row<'_>| {
            Ok::<_, rusqlite::Error>((row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?))
        };
        let Ok((at, record, hash)): Result<(i64, String, Hash), _> = read(row) else {
            return Ok(Err(Broken { seq }));
        };
        let numbered = record.starts_with(&format!("{{\"seq\":{seq},"));
        if at != seq || !numbered || link(&last.hash, &record) != hash {
            return Ok(Err(Broken { seq }));
        }
        last = Link { seq, hash };
    }
    Ok(Ok(Proof {
        after: after.seq,
        after_head: digits(after.hash),
        count: last.seq - after.seq,
        head: digits(last.hash),
    }))
}

fn digits(hash: Hash) -> String {
    blake3::Hash::from_bytes(hash).to_hex().to_string()
}

/// Proves that files, in whatever order, are parts of one log with nothing left out between them;
/// says what they have together. A file may be there twice.
///
/// # Errors
/// The first place at which they do not go on.
pub fn join(mut proofs: Vec<Proof>) -> Result<Option<Proof>, Gap> {
    proofs.sort_by_key(|proof| (proof.after, proof.count));
    proofs.dedup();
    let mut whole: Option<Proof> = None;
    for part in proofs {
        let Some(before) = &mut whole else {
            whole = Some(part);
            continue;
        };
        let last = before.after + before.count;
        if last < part.after {
            return Err(Gap::Missing { from: last + 1, to: part.after });
        }
        if part.after < last {
            return Err(Gap::Twice { seq: part.after + 1 });
        }
        if part.after_head != before.head {
            return Err(Gap::Foreign { seq: part.after + 1 });
        }
        before.count += part.count;
        before.head = part.head;
    }
    Ok(whole)
}

/// The files of a log that is written at this path: those that were put away beside it, and the one
/// that is written.
pub fn files(path: &Path) -> Vec<PathBuf> {
    let mut all = siblings(path);
    all.push(path.to_owned());
    all
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
