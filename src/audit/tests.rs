//! What the chain shows, and what becomes of records that cannot be written.

use std::{path::Path, time::Duration};

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::config::Recorded;

fn settings(folder: &TempDir) -> config::Audit {
    config::Audit {
        path: folder.path().join("audit.db"),
        arguments: Recorded::Hash,
        when_full: WhenFull::Refuse,
        queue_max: 100,
        bytes_max: 1 << 30,
    }
}

fn open(settings: &config::Audit) -> (Arc<Audit>, Arc<Counters>) {
    let counters = Arc::<Counters>::default();
    (Audit::open(settings, b"a secret", &counters, false).unwrap(), counters)
}

fn begin(audit: &Arc<Audit>, name: &str) -> Result<Arc<Entry>, Full> {
    let begun = Begun {
        caller: &Caller::Parent,
        client: &Arc::new(Client::asked()),
        route: "/mcp",
        method: Method::ToolsCall,
        name: Some(name),
        params: &Raw::trusted(r#"{"name":"a","arguments":{"b":1.0,"a":2}}"#),
    };
    audit.begin(&begun)
}

/// A log of so many calls.
async fn log(folder: &TempDir, calls: usize) -> config::Audit {
    let settings = settings(folder);
    let (audit, counters) = open(&settings);
    for at in 0..calls {
        begin(&audit, &format!("tool {at}")).unwrap().failed(Reason::AccessDenied);
    }
    audit.close().await;
    assert_eq!(counters.read()["audit_written"], u64::try_from(calls).unwrap());
    settings
}

fn change(path: &Path, sql: &str) {
    assert!(0 < Connection::open(path).unwrap().execute(sql, []).unwrap(), "{sql}");
}

#[tokio::test]
async fn a_chain_goes_on_after_a_restart_and_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let first = verify(&log(&folder, 3).await.path).unwrap().unwrap();
    let second = verify(&log(&folder, 2).await.path).unwrap().unwrap();
    assert_eq!((first.count, second.count), (3, 5));
    assert_ne!(first.head, second.head);
}

#[tokio::test]
async fn whatever_is_changed_is_found() {
    for (sql, seq) in [
        ("UPDATE records SET record = replace(record, 'tool 3', 'tool 4') WHERE seq = 4", 4),
        ("UPDATE records SET hash = zeroblob(32) WHERE seq = 2", 2),
        ("UPDATE records SET hash = zeroblob(5) WHERE seq = 2", 2),
        ("DELETE FROM records WHERE seq = 1", 1),
        ("DELETE FROM records WHERE seq = 3", 3),
        ("UPDATE records SET seq = CASE seq WHEN 5 THEN 9 ELSE seq END WHERE seq = 5", 5),
        ("INSERT INTO records SELECT 7, record, hash FROM records WHERE seq = 6", 7),
        (
            "UPDATE records SET record = (SELECT record FROM records WHERE seq = 1), hash = (SELECT
                hash FROM records WHERE seq = 1) WHERE seq = 2",
            2,
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let settings = log(&folder, 6).await;
        change(&settings.path, sql);
        assert_eq!(verify(&settings.path).unwrap(), Err(Broken { seq }), "{sql}");
    }
}

#[tokio::test]
async fn a_log_has_one_gate_and_a_file_that_is_none_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder);
    let (audit, counters) = open(&settings);
    let second = Audit::open(&settings, b"another", &counters, false);
    assert!(matches!(second, Err(OpenError::Taken(_))));
    audit.close().await;
    let other = config::Audit { path: folder.path().join("other.db"), ..settings };
    let connection = Connection::open(&other.path).unwrap();
    connection.execute_batch("CREATE TABLE mine (a TEXT)").unwrap();
    let foreign = Audit::open(&other, b"a secret", &counters, false);
    assert!(matches!(foreign, Err(OpenError::Foreign(_))));
    assert!(matches!(verify(&other.path), Err(OpenError::Foreign(_))));
}

#[tokio::test]
async fn the_same_arguments_have_the_same_digest_and_only_with_the_key() {
    let digest = async |secret: &[u8]| {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder);
        let audit = Audit::open(&settings, secret, &Arc::default(), false).unwrap();
        drop(begin(&audit, "a").unwrap());
        audit.close().await;
        let filter = Filter { limit: 1, ..Filter::default() };
        let records = list(&settings.path, &filter).unwrap();
        let record: serde_json::Value = serde_json::from_str(&records[0]).unwrap();
        assert_eq!((&record["outcome"], &record["seq"]), (&"cancelled".into(), &1.into()));
        record["arguments_hash"].as_str().unwrap().to_owned()
    };
    let one = digest(b"one").await;
    assert_eq!((digest(b"one").await == one, digest(b"other").await == one), (true, false));
}

/// Waits until the writer has come so far.
async fn until(mut done: impl FnMut() -> bool) {
    let doing = async {
        while !done() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), doing).await.expect("the writer goes on");
}

/// Calls until the file is full: 64 KiB are so soon.
async fn fill(audit: &Arc<Audit>) {
    until(|| {
        // Refused where the queue is full.
        drop(begin(audit, &"x".repeat(500)));
        audit.is_stuck()
    })
    .await;
}

#[tokio::test]
async fn a_full_file_refuses_calls_or_drops_records() {
    for when_full in [WhenFull::Refuse, WhenFull::Drop] {
        let folder = tempfile::tempdir().unwrap();
        let small = config::Audit { when_full, bytes_max: 64 << 10, ..settings(&folder) };
        let (audit, counters) = open(&small);
        fill(&audit).await;
        let refused = begin(&audit, "one more").is_err();
        assert_eq!(refused, when_full == WhenFull::Refuse);
        assert_eq!(counters.read()["audit_refused"] >= 1, refused);
        audit.close().await;
        let read = counters.read();
        let proof = verify(&small.path).unwrap().unwrap();
        assert_eq!(u64::try_from(proof.count).unwrap(), read["audit_written"]);
        assert!(0 < read["audit_dropped"] && 0 < read["audit_failed"], "{read:?}");
    }
}

#[tokio::test]
async fn it_goes_on_as_soon_as_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let small = config::Audit { bytes_max: 64 << 10, ..settings(&folder) };
    let (audit, counters) = open(&small);
    fill(&audit).await;
    let room = Connection::open(&small.path).unwrap();
    until(|| {
        // The writer may be at it.
        room.execute("DELETE FROM records", []).ok();
        begin(&audit, "goes on").is_ok()
    })
    .await;
    audit.close().await;
    let read = counters.read();
    assert!(0 < read["audit_refused"], "it was full before");
}

#[tokio::test]
async fn a_queue_has_room_for_so_many_calls_under_way() {
    let folder = tempfile::tempdir().unwrap();
    let (audit, counters) = open(&config::Audit { queue_max: 16, ..settings(&folder) });
    let under_way: Vec<_> = (0..16).map(|_| begin(&audit, "a").unwrap()).collect();
    assert_eq!(begin(&audit, "a").unwrap_err(), Full);
    drop(under_way);
    audit.close().await;
    assert_eq!(counters.read()["audit_written"], 16);
}
