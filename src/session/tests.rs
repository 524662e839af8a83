//! Sessions as their users see them.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use proptest::prelude::*;
use tokio::sync::oneshot;

use crate::{
    call::{Caller, Client, Identity, RoutePath, SessionKey, clock},
    config::Limits,
    mcp::{id::Id, message::Body, raw::Raw, version::Version},
};

use super::{
    registry::{Sealed, SessionError, bound},
    *,
};

fn limits() -> Limits {
    Limits { sessions_max: 2, ..Limits::default() }
}

fn client() -> Client {
    let capabilities = Raw::trusted(r#"{"roots":{}}"#);
    Client { capabilities, ..Client::gateway(Version::V2025_06_18) }
}

fn sessions(secret: u8) -> Sessions {
    Sessions::new(&[secret; 32], Arc::default())
}

fn keys(sessions: &[Arc<Session>]) -> Vec<SessionKey> {
    sessions.iter().map(|session| session.key).collect()
}

#[test]
fn an_id_revives_its_session_in_another_process() {
    let (_, id, _) = sessions(1).open(&"/mcp".into(), &Caller::Parent, client(), &limits());
    let (session, _) = sessions(1).find(&"/mcp".into(), &Caller::Parent, &id, &limits()).unwrap();
    assert_eq!(session.client.version, Version::V2025_06_18);
    assert_eq!(session.client.capabilities.as_str(), r#"{"roots":{}}"#);
    assert!(session.client.can_be_asked());
}

#[test]
fn an_id_is_good_for_its_own_gate_and_route() {
    let (_, id, _) = sessions(1).open(&"/mcp".into(), &Caller::Parent, client(), &limits());
    let find = |secret, route: &str| {
        sessions(secret).find(&route.into(), &Caller::Parent, &id, &limits()).unwrap_err()
    };
    assert_eq!(find(2, "/mcp"), SessionError::Unknown);
    assert_eq!(find(1, "/other"), SessionError::Unknown);
}

#[test]
fn an_ended_session_does_not_rise_again() {
    let sessions = sessions(1);
    let (session, id, _) = sessions.open(&"/mcp".into(), &Caller::Parent, client(), &limits());
    sessions.end(&session);
    assert_eq!(
        sessions.find(&"/mcp".into(), &Caller::Parent, &id, &limits()).unwrap_err(),
        SessionError::Ended
    );
}

#[test]
fn an_old_session_is_refused() {
    let sessions = sessions(1);
    let sealed = Sealed {
        key: 7,
        opened: clock::unix_seconds() - 100,
        version: "2025-11-25".to_owned(),
        capabilities: Raw::object(),
        info: Raw::object(),
    };
    let id = sessions.sealer.seal(Raw::encode(&sealed).bytes(), "/mcp");
    let age = |seconds| Limits { session_age: Duration::from_secs(seconds), ..limits() };
    assert!(sessions.find(&"/mcp".into(), &Caller::Parent, &id, &age(200)).is_ok());
    assert_eq!(
        sessions.find(&"/mcp".into(), &Caller::Parent, &id, &age(50)).unwrap_err(),
        SessionError::TooOld
    );
}

#[test]
fn the_oldest_idle_session_makes_room_and_comes_back() {
    let sessions = sessions(1);
    let (first, id, _) = sessions.open(&"/mcp".into(), &Caller::Parent, client(), &limits());
    first.used.store(1, Ordering::Relaxed);
    sessions.open(&"/mcp".into(), &Caller::Parent, client(), &limits());
    let (_, _, evicted) = sessions.open(&"/mcp".into(), &Caller::Parent, client(), &limits());
    assert_eq!(keys(&evicted), [first.key]);
    assert_eq!(sessions.table.lock().live.len(), 2);
    let (again, evicted) = sessions.find(&"/mcp".into(), &Caller::Parent, &id, &limits()).unwrap();
    assert_eq!((again.key, evicted.len()), (first.key, 1));
}

#[test]
fn those_idle_longest_make_room_several_at_once() {
    let limits = Limits { sessions_max: 200, ..limits() };
    let sessions = sessions(1);
    let open = || sessions.open(&"/mcp".into(), &Caller::Parent, client(), &limits);
    let all: Vec<_> = (0..200).map(|_| open().0).collect();
    for (at, session) in (1..).zip(&all) {
        session.used.store(at, Ordering::Relaxed);
    }
    let underway = all[1].begin(&Id::number(1)).unwrap();
    let mut evicted = keys(&open().2);
    evicted.sort_by_key(|key| all.iter().position(|session| session.key == *key));
    assert_eq!(evicted, [all[0].key, all[2].key, all[3].key], "200 / 64");
    assert!(open().2.is_empty() && open().2.is_empty() && !open().2.is_empty());
    drop(underway);
}

#[test]
fn where_all_are_busy_one_makes_room() {
    let limits = Limits { sessions_max: 200, ..limits() };
    let sessions = sessions(1);
    let open = || sessions.open(&"/mcp".into(), &Caller::Parent, client(), &limits);
    let busy: Vec<_> = (0..200).map(|_| open().0.begin(&Id::number(1)).unwrap()).collect();
    assert_eq!(open().2.len(), 1);
    drop(busy);
}

#[test]
fn an_idle_session_leaves_memory_and_a_busy_one_stays() {
    let sessions = sessions(1);
    let (idle, _, _) = sessions.open(&"/mcp".into(), &Caller::Parent, client(), &limits());
    let (busy, _, _) = sessions.open(&"/mcp".into(), &Caller::Parent, client(), &limits());
    let underway = busy.begin(&Id::number(1)).unwrap();
    idle.used.store(1, Ordering::Relaxed);
    busy.used.store(1, Ordering::Relaxed);
    let swept = || keys(&sessions.sweep(&limits()));
    assert_eq!(swept(), [idle.key]);
    drop(underway);
    assert_eq!(swept(), [busy.key]);
}

#[tokio::test]
async fn a_question_is_answered_once() {
    let (session, _, _) = sessions(1).open(&"/mcp".into(), &Caller::Parent, client(), &limits());
    let (reply, answer) = oneshot::channel();
    let id = session.ask(reply, 1).unwrap();
    let (one_more, refused) = oneshot::channel();
    assert_eq!(session.ask(one_more, 1), None);
    assert!(refused.await.is_err(), "nobody waits for it");
    assert!(session.answer(&id, Body::Result(Raw::object().into())));
    assert!(matches!(answer.await, Ok(Body::Result(_))));
    assert!(!session.answer(&id, Body::Result(Raw::object().into())));
}

#[test]
fn an_id_in_use_is_refused_until_its_call_ends() {
    let (session, _, _) = sessions(1).open(&"/mcp".into(), &Caller::Parent, client(), &limits());
    let underway = session.begin(&Id::number(1)).unwrap();
    assert!(session.begin(&Id::number(1)).is_none());
    assert!(session.cancel(&Id::number(1), None));
    drop(underway);
    assert!(!session.cancel(&Id::number(1), None));
    assert!(session.begin(&Id::number(1)).is_some());
}

#[tokio::test]
async fn streams_that_ended_are_kept_for_a_while_and_make_room() {
    let sessions = sessions(1);
    let (session, _, _) = sessions.open(&"/mcp".into(), &Caller::Parent, client(), &limits());
    let numbers = || {
        let mut numbers: Vec<_> = session.state.lock().streams.keys().copied().collect();
        numbers.sort_unstable();
        numbers
    };
    let streams = [(); 3].map(|()| session.stream(3).unwrap());
    assert!(session.stream(3).is_none());
    streams[1].end();
    tokio::time::sleep(Duration::from_millis(1)).await;
    streams[0].end();
    session.stream(3).unwrap();
    assert_eq!(numbers(), [1, 3, 4], "the one that ended first made room");
    sessions.sweep(&limits());
    assert_eq!(numbers(), [1, 3, 4]);
    session.forget_streams(Duration::ZERO);
    assert_eq!(numbers(), [3, 4]);
}

fn known(subject: &str) -> Caller {
    Caller::Known(Arc::new(Identity {
        authority: "company".to_owned(),
        subject: subject.to_owned(),
        ..Identity::default()
    }))
}

/// What is asked of sessions in [`ids_are_told_as_if_each_were_opened_anew`].
#[derive(Debug, Clone)]
enum Step {
    Open { caller: usize, old: bool },
    Find { id: usize, route: usize, caller: usize },
    End(usize),
    Age(u64),
    Idle,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (0..2_usize, any::<bool>()).prop_map(|(caller, old)| Step::Open { caller, old }),
        8 => (0..4_usize, 0..2_usize, 0..3_usize)
            .prop_map(|(id, route, caller)| Step::Find { id, route, caller }),
        1 => (0..4_usize).prop_map(Step::End),
        1 => prop_oneof![Just(50), Just(200)].prop_map(Step::Age),
        1 => Just(Step::Idle),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    /// An id that was opened before is remembered: that changes nothing of what is told of it, for
    /// whom it is good, and until when.
    #[test]
    fn ids_are_told_as_if_each_were_opened_anew(steps in steps()) {
        let callers = [Caller::Parent, known("a"), known("b")];
        let routes = ["/mcp", "/other"].map(RoutePath::from);
        let remembering = sessions(1);
        let mut ids = Vec::new();
        let mut limits = Limits { sessions_max: 2, ..Limits::default() };
        for step in steps {
            match step {
                Step::Open { caller, old: true } => {
                    let sealed = Sealed {
                        key: rand::random(),
                        opened: clock::unix_seconds() - 100,
                        version: "2025-11-25".to_owned(),
                        capabilities: Raw::object(),
                        info: Raw::object(),
                    };
                    let bound = bound(&routes[0], &callers[caller]);
                    ids.push(remembering.sealer.seal(Raw::encode(&sealed).bytes(), &bound));
                }
                Step::Open { caller, old: false } => {
                    let opened =
                        remembering.open(&routes[0], &callers[caller], client(), &limits);
                    ids.push(opened.1);
                }
                Step::Find { id, route, caller } if id < ids.len() => {
                    let find = || {
                        let found =
                            remembering.find(&routes[route], &callers[caller], &ids[id], &limits);
                        found.map(|(session, _)| session.key)
                    };
                    let (first, second) = (find(), find());
                    remembering.table.lock().forget_all();
                    prop_assert_eq!(&first, &find());
                    prop_assert_eq!(&first, &second);
                }
                Step::End(id) if id < ids.len() => {
                    let found = remembering.find(&routes[0], &callers[0], &ids[id], &limits);
                    if let Ok((session, _)) = found {
                        remembering.end(&session);
                        let again = remembering.find(&routes[0], &callers[0], &ids[id], &limits);
                        prop_assert_eq!(again.unwrap_err(), SessionError::Ended);
                    }
                }
                Step::Age(seconds) => limits.session_age = Duration::from_secs(seconds),
                Step::Idle => {
                    let table = remembering.table.lock();
                    for session in table.live.values() {
                        session.used.store(1, Ordering::Relaxed);
                    }
                    drop(table);
                    remembering.sweep(&limits);
                }
                Step::Find { .. } | Step::End(_) => (),
            }
            let table = remembering.table.lock();
            prop_assert!(table.opened_count() <= table.live.len(), "ids of sessions that are gone");
        }
    }
}
