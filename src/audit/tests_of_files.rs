//! What becomes of a log whose file is moved, removed or put away.

use std::{fs, path::Path};

use proptest::prelude::*;

use super::{
    file::File,
    tests::{begin, log, open, settings, until},
    verify::Gap,
    *,
};
use crate::telemetry::Reason;

fn record(audit: &Arc<Audit>, count: usize) {
    for at in 0..count {
        begin(audit, &format!("tool {at}")).unwrap().failed(Reason::AccessDenied);
    }
}

async fn written(counters: &Counters, count: u64) {
    until(|| counters.read()["audit_written"] == count).await;
}

fn rename(folder: &Path, from: &str, to: &str) {
    fs::rename(folder.join(from), folder.join(to)).unwrap();
}

/// Ways in which a file goes away under a gate, with what is left of its records where.
type Loss = (&'static str, fn(&Path), Option<&'static str>);
const LOSSES: &[Loss] = &[
    ("removed", |at| fs::remove_file(at.join("audit.db")).unwrap(), None),
    (
        "removed with what is beside it",
        |at| {
            for end in ["", "-wal", "-shm", ".lock", ".reserve"] {
                fs::remove_file(at.join(format!("audit.db{end}"))).unwrap();
            }
        },
        None,
    ),
    ("moved", |at| rename(at, "audit.db", "old.db"), Some("old.db")),
    (
        "moved with its journal",
        |at| {
            rename(at, "audit.db", "old.db");
            rename(at, "audit.db-wal", "old.db-wal");
            rename(at, "audit.db-shm", "old.db-shm");
        },
        Some("old.db"),
    ),
    (
        "moved, and an empty file made",
        |at| {
            rename(at, "audit.db", "old.db");
            fs::write(at.join("audit.db"), "").unwrap();
        },
        Some("old.db"),
    ),
    (
        "moved to another folder",
        |at| {
            fs::create_dir(at.join("old")).unwrap();
            rename(at, "audit.db", "old/audit.db");
        },
        Some("old/audit.db"),
    ),
    (
        "moved, its lock removed",
        |at| {
            rename(at, "audit.db", "old.db");
            fs::remove_file(at.join("audit.db.lock")).unwrap();
        },
        Some("old.db"),
    ),
    (
        "moved twice",
        |at| {
            rename(at, "audit.db", "older.db");
            rename(at, "older.db", "old.db");
        },
        Some("old.db"),
    ),
    (
        "made a link to another file",
        |at| {
            rename(at, "audit.db", "old.db");
            fs::write(at.join("new.db"), "").unwrap();
            std::os::unix::fs::symlink(at.join("new.db"), at.join("audit.db")).unwrap();
        },
        Some("old.db"),
    ),
    (
        "named as one that is put away",
        |at| rename(at, "audit.db", "audit-3.db"),
        Some("audit-3.db"),
    ),
    (
        "given a second name, and removed",
        |at| {
            fs::hard_link(at.join("audit.db"), at.join("old.db")).unwrap();
            fs::remove_file(at.join("audit.db")).unwrap();
        },
        Some("old.db"),
    ),
];

#[tokio::test]
async fn a_file_that_goes_away_is_noticed_and_the_chain_goes_on() {
    let both = LOSSES.iter().flat_map(|loss| [(loss, true), (loss, false)]);
    for ((how, lose, left), is_asked) in both {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder);
        let (audit, counters) = open(&settings);
        record(&audit, 3);
        written(&counters, 3).await;
        lose(folder.path());
        if is_asked {
            // Without a call it is found by a look.
            audit.look();
            until(|| counters.read()["audit_reopened"] == 1).await;
        }
        record(&audit, 2);
        audit.close().await;
        assert_eq!(counters.read()["audit_reopened"], 1, "{how}");
        assert_eq!(counters.read()["audit_written"], 5, "{how}");
        let new = verify(&settings.path).unwrap().unwrap();
        assert_eq!((new.after, new.count), (3, 2), "{how}: nothing is lost meanwhile");
        if let Some(left) = left {
            let old = verify(&folder.path().join(left)).unwrap().unwrap();
            assert_eq!((old.after, old.count), (0, 3), "{how}: with what its journal had");
            let whole = join(vec![new.clone(), old]).unwrap().unwrap();
            assert_eq!((whole.after, whole.count, whole.head), (0, 5, new.head), "{how}");
        }
    }
}

#[tokio::test]
async fn calls_are_refused_while_there_is_no_place_for_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(&folder);
    fs::create_dir(folder.path().join("logs")).unwrap();
    settings.path = folder.path().join("logs/audit.db");
    let (audit, counters) = open(&settings);
    record(&audit, 3);
    written(&counters, 3).await;
    rename(folder.path(), "logs", "old");
    audit.look();
    until(|| audit.fault().is_some()).await;
    assert!(begin(&audit, "a").is_err(), "nothing is let in that cannot be recorded");
    assert!(audit.fault().unwrap().contains("logs/audit.db"), "{:?}", audit.fault());
    fs::create_dir(folder.path().join("logs")).unwrap();
    until(|| begin(&audit, "b").map(|entry| entry.failed(Reason::AccessDenied)).is_ok()).await;
    assert_eq!(audit.fault(), None);
    audit.close().await;
    let old = verify(&folder.path().join("old/audit.db")).unwrap().unwrap();
    let new = verify(&settings.path).unwrap().unwrap();
    assert_eq!(join(vec![old, new]).unwrap().unwrap().count, 4);
}

#[tokio::test]
async fn another_log_in_its_place_goes_on_with_its_own_chain() {
    let [folder, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let theirs = log(&other, 7).await;
    let settings = settings(&folder);
    let (audit, counters) = open(&settings);
    record(&audit, 3);
    written(&counters, 3).await;
    rename(folder.path(), "audit.db", "old.db");
    fs::copy(&theirs.path, &settings.path).unwrap();
    record(&audit, 2);
    audit.close().await;
    let new = verify(&settings.path).unwrap().unwrap();
    assert_eq!((new.after, new.count), (0, 9));
    let old = verify(&folder.path().join("old.db")).unwrap().unwrap();
    assert_eq!(join(vec![old, new]), Err(Gap::Twice { seq: 1 }), "these are two logs");
}

#[tokio::test]
async fn a_log_is_put_away_by_the_gate_that_writes_it_or_without_one() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder);
    assert_eq!(rotate(&settings).unwrap(), None, "there is no record yet");
    let (audit, counters) = open(&settings);
    for round in 1..=3 {
        assert!(matches!(rotate(&settings), Err(AuditOpenError::Taken(_))));
        record(&audit, 4);
        written(&counters, round * 4).await;
        let asked = beside(&settings.path, ROTATE);
        fs::write(&asked, "").unwrap();
        audit.look();
        until(|| !asked.exists()).await;
        let away = folder.path().join(format!("audit-{}.db", round * 4));
        assert_eq!(verify(&away).unwrap().unwrap().count, 4);
    }
    record(&audit, 1);
    audit.close().await;
    let away = folder.path().join("audit-13.db");
    assert_eq!(rotate(&settings).unwrap(), Some(away.clone()));
    assert_eq!(rotate(&settings).unwrap(), None, "there is none since");
    // A gate that ended before it had made the next.
    fs::remove_file(&settings.path).unwrap();
    log(&folder, 2).await;
    let all = files(&settings.path);
    assert_eq!(all.len(), 5);
    let proofs: Vec<_> = all.iter().map(|file| verify(file).unwrap().unwrap()).collect();
    let whole = join(proofs).unwrap().unwrap();
    assert_eq!((whole.after, whole.count), (0, 15));
}

#[tokio::test]
async fn a_changed_beginning_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let settings = log(&folder, 4).await;
    rotate(&settings).unwrap();
    log(&folder, 2).await;
    for sql in [
        "UPDATE before SET hash = zeroblob(32)",
        "UPDATE before SET hash = zeroblob(5)",
        "UPDATE before SET seq = 3",
        "UPDATE before SET seq = 9223372036854775807",
        "DELETE FROM before",
    ] {
        let copy = folder.path().join("copy.db");
        fs::copy(&settings.path, &copy).unwrap();
        let changed = rusqlite::Connection::open(&copy).unwrap();
        assert_eq!(changed.execute(sql, []).unwrap(), 1);
        drop(changed);
        assert!(verify(&copy).unwrap().is_err(), "{sql}");
    }
}

proptest! {
    /// A chain cut into files, given in some order, some of them twice and one left out.
    #[test]
    fn files_of_one_log_are_joined_in_any_order(
        counts in prop::collection::vec(1..5_i64, 1..8),
        order in any::<prop::sample::Index>(),
        left_out in prop::option::of(any::<prop::sample::Index>()),
        twice in any::<prop::sample::Index>(),
    ) {
        let head = |at: i64| format!("head of {at}");
        let mut after = 0;
        let mut parts = Vec::new();
        for count in counts {
            let last = after + count;
            parts.push(Proof { after, after_head: head(after), count, head: head(last) });
            after = last;
        }
        let total = after;
        parts.push(parts[twice.index(parts.len())].clone());
        let gone = left_out.map(|index| parts[index.index(parts.len())].clone());
        parts.retain(|part| Some(part) != gone.as_ref());
        let length = parts.len();
        parts.rotate_left(order.index(length.max(1)).min(length));
        let joined = join(parts.clone());
        let is_whole = gone.is_none();
        match gone.filter(|gone| 0 < gone.count) {
            Some(gone) if 0 < gone.after && gone.after + gone.count < total => {
                let from = gone.after + 1;
                prop_assert_eq!(joined, Err(Gap::Missing { from, to: gone.after + gone.count }));
            }
            Some(gone) => {
                let whole = joined.unwrap();
                let count = whole.as_ref().map_or(0, |whole| whole.count);
                prop_assert_eq!(count, total - gone.count);
            }
            None => {
                let whole = joined.unwrap();
                prop_assert_eq!(whole.as_ref().map_or(0, |whole| whole.count), total);
            }
        }
        // One of another log among them.
        let mut later = parts.iter_mut().filter(|part| 0 < part.after);
        if is_whole && let Some(part) = later.next() {
            part.after_head.push('x');
            prop_assert!(join(parts).is_err());
        }
    }
}

/// What is in the journal while somebody reads the file would be lost with it.
#[test]
fn a_log_that_is_read_meanwhile_is_put_away_later_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.db");
    let mut file = File::open(&path, 1 << 20).unwrap();
    let records = |count: usize| vec!["\"x\":1}".to_owned(); count];
    file.append(records(3).iter()).unwrap();
    let reader = rusqlite::Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM records").unwrap();
    file.append(records(4).iter()).unwrap();
    assert!(file.rotate(&path, 1 << 20).is_err(), "its last records are not in it yet");
    assert!(!file.is_moved(&path), "it goes on");
    file.append(records(5).iter()).unwrap();
    drop(reader);
    let away = file.rotate(&path, 1 << 20).unwrap().unwrap();
    file.append(records(2).iter()).unwrap();
    let proofs = [away, path].map(|path| verify(&path).unwrap().unwrap());
    assert_eq!(proofs.each_ref().map(|proof| proof.count), [12, 2]);
    assert_eq!(join(proofs.to_vec()).unwrap().unwrap().count, 14);
}
