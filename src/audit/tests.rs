//! What the chain shows, and what becomes of records that cannot be written.

use std::{path::Path, time::Duration};

use proptest::prelude::*;
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::{
    call::{CallId, Caller, Client},
    config::Recorded,
    mcp::{message::Body, method::Method, raw::Raw},
    telemetry::Reason,
};

pub fn settings(folder: &TempDir) -> config::Audit {
    config::Audit {
        path: folder.path().join("audit.db"),
        arguments: Recorded::Hash,
        when_full: WhenFull::Refuse,
        queue_max: 100,
        bytes_max: 1 << 30,
        reserve_bytes: 1 << 20,
    }
}

pub fn open(settings: &config::Audit) -> (Arc<Audit>, Arc<Counters>) {
    let counters = Arc::<Counters>::default();
    (Audit::open(settings, b"a secret", &counters, false).unwrap(), counters)
}

pub fn begin(audit: &Arc<Audit>, name: &str) -> Result<Arc<Entry>, Full> {
    begin_with(audit, name, &Raw::trusted(r#"{"name":"a","arguments":{"b":1.0,"a":2}}"#))
}

fn begin_with(audit: &Arc<Audit>, name: &str, params: &Raw) -> Result<Arc<Entry>, Full> {
    let begun = Begun {
        id: CallId::random(),
        caller: &Caller::Parent,
        client: &Arc::new(Client::fully_capable()),
        route: &"/mcp".into(),
        metrics: &Arc::default(),
        method: Method::ToolsCall,
        name: Some(name),
        params,
        peer: Some([10, 0, 0, 1].into()),
        trace: None,
        traced: std::cell::Cell::default(),
    };
    audit.begin(&begun, None)
}

/// A log of so many calls.
pub async fn log(folder: &TempDir, calls: usize) -> config::Audit {
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
async fn a_log_of_the_first_format_goes_on_in_this_one() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder);
    let mut file = file::File::open(&settings.path, settings.bytes_max).unwrap();
    let old = concat!(
        r#""at":"2026-11-24T22:19:42.604394Z","caller":"parent","protocol":"2026-07-28","#,
        r#""route":"/mcp","method":"tools/call","name":"echo","outcome":"ok","duration_us":6504}"#,
    );
    file.append([old.to_owned(), old.to_owned()].iter()).unwrap();
    drop(file);
    let before = verify(&settings.path).unwrap().unwrap();
    let proof = verify(&log(&folder, 2).await.path).unwrap().unwrap();
    assert_eq!((before.count, proof.count), (2, 4));
    let filter = Filter { outcome: Some("ok".to_owned()), limit: 10, ..Filter::default() };
    assert_eq!(list(&settings.path, &filter).unwrap().len(), 2, "it is read as before");
    let filter = Filter { limit: 1, ..Filter::default() };
    assert!(list(&settings.path, &filter).unwrap()[0].starts_with(r#"{"seq":4,"v":3,"id":""#));
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
    assert!(matches!(second, Err(AuditOpenError::Taken(_))));
    audit.close().await;
    let other = config::Audit { path: folder.path().join("other.db"), ..settings };
    let connection = Connection::open(&other.path).unwrap();
    connection.execute_batch("CREATE TABLE mine (a TEXT)").unwrap();
    let foreign = Audit::open(&other, b"a secret", &counters, false);
    assert!(matches!(foreign, Err(AuditOpenError::Foreign(_))));
    assert!(matches!(verify(&other.path), Err(AuditOpenError::Foreign(_))));
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
pub async fn until(mut done: impl FnMut() -> bool) {
    let doing = async {
        while !done() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), doing).await.expect("the writer goes on");
}

fn answer() -> Body {
    Body::Result(Raw::trusted(r#"{"content":[]}"#).into())
}

/// What the counters say: written, dropped, refused.
pub fn counted(counters: &Counters) -> [u64; 3] {
    let read = counters.read();
    ["audit_written", "audit_dropped", "audit_refused"].map(|name| read[name])
}

/// Makes every write of the file fail, or takes that back.
fn break_file(path: &Path, broken: bool) {
    let connection = Connection::open(path).unwrap();
    let sql = if broken {
        "CREATE TRIGGER broken BEFORE INSERT ON records BEGIN SELECT RAISE(ABORT, 'broken'); END"
    } else {
        "DROP TRIGGER broken"
    };
    connection.execute_batch(sql).unwrap();
}

#[tokio::test]
async fn all_that_a_full_file_lets_in_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let small = config::Audit { bytes_max: 64 << 10, ..settings(&folder) };
    let (audit, counters) = open(&small);
    let mut answered = 0;
    until(|| {
        // The queue may be full for a moment, the file for ever.
        let nothing_waits = audit.room.is_empty();
        let Ok(entry) = begin(&audit, &"x".repeat(500)) else { return nothing_waits };
        entry.answered(&answer()).unwrap();
        answered += 1;
        false
    })
    .await;
    assert_eq!(begin(&audit, &"x".repeat(500)).unwrap_err(), Full);
    audit.close().await;
    let proof = verify(&small.path).unwrap().unwrap();
    let [written, dropped, refused] = counted(&counters);
    assert_eq!((u64::try_from(proof.count).unwrap(), dropped), (written, 0));
    assert!(written == answered && 10 < written && 0 < refused, "{written} of {answered}");
    assert_eq!(counters.read()["audit_failed"], 0, "nothing was tried in vain");
}

#[tokio::test]
async fn a_full_file_drops_records_where_that_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let small =
        config::Audit { when_full: WhenFull::Drop, bytes_max: 64 << 10, ..settings(&folder) };
    let (audit, counters) = open(&small);
    until(|| {
        begin(&audit, &"x".repeat(500)).unwrap().answered(&answer()).unwrap();
        audit.room.is_failing()
    })
    .await;
    audit.close().await;
    let [written, dropped, refused] = counted(&counters);
    assert_eq!(u64::try_from(verify(&small.path).unwrap().unwrap().count).unwrap(), written);
    assert!(0 < dropped && refused == 0 && 0 < counters.read()["audit_failed"]);
    assert!(!folder.path().join("audit.db.reserve").exists(), "nothing needs to be held back");
}

#[tokio::test]
async fn it_goes_on_as_soon_as_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let small = config::Audit { bytes_max: 64 << 10, ..settings(&folder) };
    let (audit, counters) = open(&small);
    until(|| audit.room.is_empty() && begin(&audit, &"x".repeat(500)).is_err()).await;
    let room = Connection::open(&small.path).unwrap();
    until(|| {
        // The writer may be at it.
        room.execute("DELETE FROM records", []).ok();
        begin(&audit, "goes on").is_ok()
    })
    .await;
    audit.close().await;
    assert!(0 < counters.read()["audit_refused"], "it was full before");
}

#[tokio::test]
async fn calls_under_way_are_not_answered_while_nothing_can_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder);
    let (audit, counters) = open(&settings);
    let under_way: Vec<_> = (0..8).map(|_| begin(&audit, "under way").unwrap()).collect();
    break_file(&settings.path, true);
    begin(&audit, "answered before that was known").unwrap().answered(&answer()).unwrap();
    until(|| audit.room.is_failing()).await;
    assert_eq!(begin(&audit, "later").unwrap_err(), Full);
    for entry in &under_way {
        assert_eq!(entry.answered(&answer()).unwrap_err(), Full);
    }
    drop(under_way);
    break_file(&settings.path, false);
    until(|| begin(&audit, "well again").is_ok()).await;
    audit.close().await;
    let filter = Filter { limit: 100, ..Filter::default() };
    let records = list(&settings.path, &filter).unwrap();
    let with = |outcome: &str| {
        let outcome = format!("\"outcome\":\"{outcome}\"");
        records.iter().filter(|record| record.contains(&outcome)).count()
    };
    // What they did is recorded, and that nobody was told.
    assert_eq!((with("ok"), with("service_unavailable"), with("cancelled")), (1, 8, 1));
    let [written, dropped, refused] = counted(&counters);
    assert!((written, dropped) == (10, 0) && 9 <= refused, "{refused}");
    assert!(verify(&settings.path).unwrap().is_ok());
}

#[tokio::test]
async fn what_was_answered_waits_for_a_writer_that_is_held_up() {
    let folder = tempfile::tempdir().unwrap();
    let settings = config::Audit { queue_max: 16, ..settings(&folder) };
    let (audit, counters) = open(&settings);
    let held = Connection::open(&settings.path).unwrap();
    held.execute_batch("BEGIN IMMEDIATE").unwrap();
    let answered = (0..100)
        .filter(|_| begin(&audit, "a").is_ok_and(|entry| entry.answered(&answer()).is_ok()))
        .count();
    assert_eq!(answered, 16, "as many as there is room for");
    held.execute_batch("COMMIT").unwrap();
    audit.close().await;
    assert_eq!(counted(&counters), [16, 0, 84]);
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

#[tokio::test]
async fn who_comes_after_the_end_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let (audit, counters) = open(&settings(&folder));
    let late = begin(&audit, "late").unwrap();
    audit.close().await;
    assert_eq!(late.answered(&answer()).unwrap_err(), Full);
    assert_eq!(counted(&counters), [0, 1, 0]);
}

/// What a test does to a log, one after the other.
#[derive(Debug, Clone)]
enum Step {
    Begin(Call),
    /// Ends one of those under way.
    End(prop::sample::Index),
    Break,
    Mend,
    Wait,
}

/// A call of a name and arguments of so many bytes, or of bytes that take six in JSON.
#[derive(Debug, Clone)]
struct Call {
    name: usize,
    arguments: usize,
    escaped: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let size = || prop_oneof![4 => 0_usize..100, 2 => 100_usize..5_000, 1 => 5_000_usize..90_000];
    let call = (size(), size(), any::<bool>())
        .prop_map(|(name, arguments, escaped)| Step::Begin(Call { name, arguments, escaped }));
    prop_oneof![
        10 => call,
        8 => any::<prop::sample::Index>().prop_map(Step::End),
        1 => Just(Step::Break),
        1 => Just(Step::Mend),
        1 => Just(Step::Wait),
    ]
}

fn log_settings() -> impl Strategy<Value = (usize, usize, usize, Recorded)> {
    let recorded = prop::sample::select(vec![Recorded::Whole, Recorded::Hash, Recorded::None]);
    (16_usize..60, (64_usize << 10)..(2 << 20), (1_usize << 20)..(4 << 20), recorded)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever is asked of a log of whatever size, and however its file fails meanwhile: all that
    /// is answered is recorded, once it can be written, and nothing else is said to be.
    #[test]
    fn what_is_answered_is_recorded(
        steps in prop::collection::vec(step(), 1..300),
        (queue_max, bytes_max, reserve_bytes, arguments) in log_settings(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let settings =
            config::Audit { queue_max, bytes_max, reserve_bytes, arguments, ..settings(&folder) };
        let (audit, counters) = open(&settings);
        let (mut under_way, mut begun, mut answered, mut refused) = (Vec::new(), 0, 0, 0);
        let mut broken = false;
        for step in steps {
            match step {
                Step::Begin(call) => {
                    let letter = if call.escaped { "\u{1}" } else { "x" };
                    let (name, text) = (letter.repeat(call.name), letter.repeat(call.arguments));
                    let params = Raw::encode(&serde_json::json!({ "arguments": { "text": text } }));
                    if let Ok(entry) = begin_with(&audit, &name, &params) {
                        entry.about(&"upstream".into(), &name);
                        entry.cleared(&params);
                        under_way.push(entry);
                        begun += 1;
                    }
                }
                Step::End(at) if !under_way.is_empty() => {
                    let entry = under_way.swap_remove(at.index(under_way.len()));
                    match entry.answered(&answer()) {
                        Ok(()) => answered += 1,
                        Err(Full) => refused += 1,
                    }
                }
                Step::Break | Step::Mend if broken != matches!(step, Step::Break) => {
                    broken = !broken;
                    break_file(&settings.path, broken);
                }
                Step::Wait => std::thread::park_timeout(Duration::from_millis(15)),
                Step::End(_) | Step::Break | Step::Mend => (),
            }
        }
        let cancelled = under_way.len();
        drop(under_way);
        if broken {
            break_file(&settings.path, false);
        }
        runtime.block_on(audit.close());
        let filter = Filter { limit: 1_000, ..Filter::default() };
        let records = list(&settings.path, &filter).unwrap();
        let with = |outcome: &str| {
            let outcome = format!("\"outcome\":\"{outcome}\"");
            records.iter().filter(|record| record.contains(&outcome)).count()
        };
        prop_assert_eq!(
            (with("ok"), with("service_unavailable"), with("cancelled")),
            (answered, refused, cancelled)
        );
        prop_assert_eq!(records.len(), begun);
        prop_assert_eq!(counters.read()["audit_dropped"], 0);
        prop_assert!(verify(&settings.path).unwrap().is_ok());
    }
}
