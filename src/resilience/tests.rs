//! Circuits: whose breaker counts what, and what a reload keeps.

use std::sync::Arc;

use crate::{
    call::Subject,
    config::{self},
};

use super::*;

fn section(keys: &str) -> config::Upstream {
    let toml = format!(
        "[routes.\"/mcp\"]\nupstreams = [\"jobs\"]\n[upstreams.jobs]\nurl = \
         \"http://jobs/\"\n{keys}\n"
    );
    let config = config::parse("routes.toml", &toml, &|_| None).expect("a right file");
    config.upstreams[0].clone()
}

fn circuit(keys: &str) -> Circuit {
    Circuit::new(Arc::default()).next(&section(keys))
}

#[track_caller]
fn ends(circuit: &Circuit, tool: &str, ending: AttemptOutcome) {
    circuit.attempt(Some(tool)).expect("let through").end(ending, None);
}

const LOST: AttemptOutcome = AttemptOutcome::Disconnected;
const LATE: AttemptOutcome = AttemptOutcome::Failed(Cause::Timeout);

#[test]
fn by_default_it_opens_when_none_of_twenty_calls_succeeded() {
    let circuit = circuit("");
    let settings = config::Breaker::default();
    (0..19).for_each(|_| ends(&circuit, "a", LOST));
    ends(&circuit, "a", AttemptOutcome::Answered);
    (0..19).for_each(|_| ends(&circuit, "a", LOST));
    assert_eq!(circuit.status().state, Some(BreakerState::Closed), "one of them was answered");
    ends(&circuit, "a", LOST);
    let refusal = circuit.attempt(None).expect_err("open");
    assert!(refusal.0 <= settings.open && !refusal.0.is_zero(), "{refusal}");
    assert_eq!((circuit.status().opened, circuit.status().refused), (1, 1));
    assert!(self::circuit("breaker.enabled = false").status().state.is_none());
}

/// The first attempt that is let through again.
fn waits(circuit: &Circuit, tool: &str) -> Attempt {
    loop {
        match circuit.attempt(Some(tool)) {
            Ok(attempt) => return attempt,
            Err(CircuitOpen(_)) => std::thread::yield_now(),
        }
    }
}

#[test]
fn probes_that_are_given_up_are_others_and_those_answered_close_it() {
    let circuit = circuit("breaker = { window = 1, open = \"10ms\", probes = 3 }");
    ends(&circuit, "a", LOST);
    let first = waits(&circuit, "a");
    let others: Vec<_> = (0..2).map(|_| circuit.attempt(None).expect("a probe")).collect();
    circuit.attempt(None).expect_err("all probes are out");
    assert_eq!(circuit.status().state, Some(BreakerState::HalfOpen));
    drop(others);
    first.end(AttemptOutcome::Answered, None);
    (0..2).for_each(|_| ends(&circuit, "a", AttemptOutcome::Answered));
    assert_eq!(circuit.status().state, Some(BreakerState::Closed));
}

#[test]
fn what_a_tool_with_a_breaker_does_counts_there_alone() {
    let keys = "breaker = { window = 2, open = \"1h\" }\ntools.a.breaker = { window = 3, \
                failure_rate = 0.5, open = \"10ms\" }";
    let circuit = circuit(keys);
    (0..3).for_each(|_| ends(&circuit, "a", LATE));
    assert_eq!((circuit.status().state, circuit.status().opened), (Some(BreakerState::Closed), 1));
    ends(&circuit, "b", LOST);
    waits(&circuit, "a").end(LOST, None);
    assert_eq!(circuit.status().state, Some(BreakerState::Open), "a connection is of both");
    assert_ne!(circuit.status().tools["a"], BreakerState::Closed);
    circuit.attempt(Some("b")).expect_err("open");
}

#[test]
fn what_does_not_count_is_an_answer_and_what_is_given_up_is_nothing() {
    let circuit = circuit("breaker = { window = 2, counts = [\"internal_error\"] }");
    ends(&circuit, "a", AttemptOutcome::Failed(Cause::InternalError));
    ends(&circuit, "a", AttemptOutcome::Unknown);
    ends(&circuit, "a", LATE);
    ends(&circuit, "a", AttemptOutcome::Failed(Cause::InternalError));
    assert_eq!(circuit.status().state, Some(BreakerState::Closed));
    ends(&circuit, "a", AttemptOutcome::Failed(Cause::InternalError));
    assert_eq!(circuit.status().state, Some(BreakerState::Open));
}

#[test]
fn a_breaker_written_as_before_stays_as_it_is() {
    let before = circuit("breaker.window = 1\ntools.a.breaker.window = 1");
    ends(&before, "a", LOST);
    let standings = |circuit: &Circuit| (circuit.status().state, circuit.status().tools);
    let same = before.next(&section(
        "breaker.window = 1\nretry = {}\ntools.a = { cost = 2, breaker = { window = 1 } }",
    ));
    assert_eq!(standings(&same), standings(&before));
    assert_eq!(same.status().state, Some(BreakerState::Open));
    let other = same.next(&section("breaker.window = 2\ntools.a.breaker.window = 1"));
    assert_eq!(other.status().state, Some(BreakerState::Closed));
    assert_eq!(other.status().tools["a"], BreakerState::Open);
}

#[test]
fn a_tool_has_its_own_times() {
    let keys = "timeout = { idle = \"10s\", total = \"1m\" }\ntools.a.timeout = { idle = \"2m\" \
                }\ntools.b.timeout = { total = \"5s\" }";
    let section = section(keys);
    let circuit = Circuit::new(Arc::default()).next(&section);
    let times = |tool| {
        let timeout = circuit.timeout(tool, section.timeout);
        (timeout.idle.as_secs(), timeout.total.as_secs())
    };
    assert_eq!(times(Some("a")), (120, 120));
    assert_eq!(times(Some("b")), (5, 5));
    assert_eq!([times(Some("c")), times(None)], [(10, 60); 2]);
}

const TIMED: &str =
    "breaker = { failure_rate = 0.5, window = \"30s\", calls_min = 20, tools_apart = true }";

#[test]
fn a_burst_of_one_tool_opens_a_breaker_of_that_tool_alone() {
    for ending in [
        AttemptOutcome::Failed(Cause::ServerError),
        AttemptOutcome::Failed(Cause::Timeout),
        // It broke off in the middle of an answer.
        AttemptOutcome::Failed(Cause::Transport),
    ] {
        for keys in ["", TIMED] {
            let circuit = circuit(keys);
            // All at once: each was let in before any had failed.
            let burst: Vec<_> = (0..50).map(|_| circuit.attempt(Some("bad")).unwrap()).collect();
            burst.into_iter().for_each(|attempt| attempt.end(ending, None));
            assert_eq!(circuit.status().state, Some(BreakerState::Closed), "{keys}");
            circuit.attempt(Some("bad")).expect_err("its own is open");
            assert_eq!(circuit.status().tools["bad"], BreakerState::Open);
            (0..50).for_each(|_| ends(&circuit, "good", AttemptOutcome::Answered));
            circuit.attempt(None).expect("all else goes on");
        }
    }
}

#[test]
fn several_tools_or_the_connection_open_that_of_the_whole() {
    let circuit = circuit("");
    for at in 0..20 {
        ends(&circuit, ["a", "b", "c"][at % 3], AttemptOutcome::Failed(Cause::ServerError));
    }
    assert_eq!(circuit.status().state, Some(BreakerState::Open), "whatever is called");
    let circuit = self::circuit("");
    (0..20).for_each(|_| ends(&circuit, "a", LOST));
    assert_eq!(circuit.status().state, Some(BreakerState::Open), "one tool, and nobody there");
    let circuit = self::circuit("breaker.tools_apart = false");
    (0..20).for_each(|_| ends(&circuit, "a", AttemptOutcome::Failed(Cause::ServerError)));
    assert_eq!(circuit.status().state, Some(BreakerState::Open), "as it was before");
}

#[test]
fn a_burst_of_one_prompt_or_resource_opens_a_breaker_of_that_alone() {
    let subjects = [
        Subject::Prompt("bad"),
        Subject::Prompt(""),
        Subject::Prompt("a very long name of a prompt, with spaces"),
        Subject::Resource("file:///bad"),
        Subject::Resource("x:"),
        Subject::Resource("https://example.com/{id}?a=b"),
        Subject::Tool("bad"),
    ];
    for (at, bad) in subjects.into_iter().enumerate() {
        for cause in [Cause::ServerError, Cause::Timeout, Cause::Transport, Cause::InternalError] {
            let keys = "breaker.counts = [\"transport\", \"timeout\", \"5xx\", \"internal_error\"]";
            let circuit = circuit(keys);
            let burst: Vec<_> = (0..50).map(|_| circuit.attempt(bad).unwrap()).collect();
            burst.into_iter().for_each(|attempt| attempt.end(AttemptOutcome::Failed(cause), None));
            assert_eq!(circuit.status().state, Some(BreakerState::Closed), "{bad:?}");
            circuit.attempt(bad).expect_err("its own is open");
            assert_eq!(circuit.status().opened, 1, "{bad:?}");
            for (other, good) in subjects.into_iter().enumerate() {
                assert_eq!(circuit.attempt(good).is_ok(), other != at, "{bad:?} and {good:?}");
            }
            circuit.attempt(None).expect("all else goes on");
        }
    }
}

#[test]
fn failures_of_many_resources_leave_room_for_those_of_a_tool() {
    let circuit = circuit("");
    for at in 0..3_000 {
        let uri = format!("x:{at}");
        let attempt = circuit.attempt(Subject::Resource(&uri)).expect("others are well");
        attempt.end(AttemptOutcome::Failed(Cause::ServerError), None);
        ends(&circuit, "good", AttemptOutcome::Answered);
    }
    let burst: Vec<_> = (0..50).map(|_| circuit.attempt(Some("bad")).unwrap()).collect();
    burst.into_iter().for_each(|attempt| attempt.end(LATE, None));
    circuit.attempt(Some("bad")).expect_err("its own is open");
    circuit.attempt(Some("good")).expect("all else goes on");
}

#[test]
fn what_the_gate_itself_refuses_counts_nowhere() {
    let circuit = circuit("");
    (0..100).for_each(|_| ends(&circuit, "a", AttemptOutcome::Unknown));
    (0..100).for_each(|_| drop(circuit.attempt(Some("a")).unwrap()));
    assert_eq!(
        circuit.status(),
        CircuitStatus { state: Some(BreakerState::Closed), ..CircuitStatus::default() }
    );
}
