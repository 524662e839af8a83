//! Breakers at moments that are said, and one that any sequence of events finds as a naive model
//! has it.

use std::time::Duration;

use proptest::{collection::vec, prelude::*};

use crate::config::{self, Config, Sliding, parse};

use super::{state::PROBING, *};

/// A breaker as the file has it.
fn settings(keys: &str) -> config::Breaker {
    let toml = format!(
        "[routes.\"/mcp\"]\nupstreams = [\"a\"]\n[upstreams.a]\nurl = \"http://a/\"\nbreaker = {{ \
         {keys} }}\n"
    );
    let config: Config = parse("routes.toml", &toml, &|_| None).expect("a right file");
    config.upstreams[0].breaker.clone().expect("a breaker")
}

const FAILED: Sample = Sample { failed: true, slow: false, tool: 0 };
const WELL: Sample = Sample { failed: false, slow: false, tool: 0 };
const SLOW: Sample = Sample { failed: false, slow: true, tool: 0 };

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[track_caller]
fn runs(machine: &mut Machine, mark: Sample, now: Duration) -> bool {
    let generation = machine.admit(now).expect("let in");
    machine.end(generation, mark, now)
}

#[test]
fn half_of_the_last_twenty_open_it_for_thirty_seconds_and_five_probes_close_it() {
    let keys = "failure_rate = 0.5, window = 20, open = \"30s\", probes = 5";
    let mut machine = Machine::new(settings(keys));
    for call in 0..19 {
        let mark = if call % 2 == 0 { FAILED } else { WELL };
        assert!(!runs(&mut machine, mark, at(0)), "19 of 20 are too few");
    }
    assert!(runs(&mut machine, WELL, at(1_000)), "10 of 20 are half");
    assert_eq!(machine.state(at(1_000)), BreakerState::Open);
    assert_eq!(machine.admit(at(11_000)), Err(at(20_000)));
    assert_eq!(machine.state(at(31_000)), BreakerState::HalfOpen);
    let probes: Vec<_> = (0..5).map(|_| machine.admit(at(31_000)).expect("a probe")).collect();
    assert_eq!(machine.admit(at(31_000)), Err(PROBING));
    for (index, probe) in probes.into_iter().enumerate() {
        let mark = if index < 2 { FAILED } else { WELL };
        assert_eq!(machine.end(probe, mark, at(32_000)), index == 4);
    }
    assert_eq!(machine.state(at(32_000)), BreakerState::Closed, "2 of 5 are less than half");
    assert!(!runs(&mut machine, FAILED, at(32_000)), "it has forgotten all");
}

#[test]
fn probes_that_fail_open_it_again_and_late_answers_do_not_judge() {
    let mut machine = Machine::new(settings("window = 2, open = \"1s\", probes = 2"));
    let early = machine.admit(at(0)).expect("closed");
    runs(&mut machine, FAILED, at(0));
    assert!(runs(&mut machine, FAILED, at(0)));
    assert!(!machine.end(early, WELL, at(0)), "it is open already");
    let probe = machine.admit(at(1_000)).expect("a probe");
    let other = machine.admit(at(1_000)).expect("another");
    machine.forget(other);
    let other = machine.admit(at(1_000)).expect("its permit came back");
    machine.end(probe, FAILED, at(1_500));
    assert!(machine.end(other, FAILED, at(1_500)));
    assert_eq!(machine.admit(at(1_500)), Err(at(1_000)));
}

#[test]
fn slow_answers_open_it_and_old_ones_leave_a_window_of_time() {
    let keys = "window = \"20s\", calls_min = 2, slow = \"1s\", slow_rate = 0.6";
    let mut machine = Machine::new(settings(keys));
    assert!(!runs(&mut machine, SLOW, at(0)));
    assert!(!runs(&mut machine, WELL, at(10_000)), "one of two");
    assert!(!runs(&mut machine, SLOW, at(20_000)), "the first has left it");
    assert!(runs(&mut machine, SLOW, at(20_000)), "two of three");
}

/// Something that happens to a breaker.
#[derive(Debug, Clone)]
enum Event {
    Admit,
    /// The call with this index among those under way ends.
    End(prop::sample::Index, Sample),
    Forget(prop::sample::Index),
    Step(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let mark =
        (any::<bool>(), any::<bool>()).prop_map(|(failed, slow)| Sample { failed, slow, tool: 0 });
    prop_oneof![
        4 => Just(Event::Admit),
        4 => (any::<prop::sample::Index>(), mark).prop_map(|(index, mark)| Event::End(index, mark)),
        1 => any::<prop::sample::Index>().prop_map(Event::Forget),
        2 => (0_u64..2_500).prop_map(Event::Step),
    ]
}

/// A breaker that keeps all that ever happened.
struct Model {
    settings: config::Breaker,
    standing: BreakerState,
    /// When the standing of now began, and which one it is.
    since: Duration,
    epoch: usize,
    /// Outcomes that count for the current state.
    ended: Vec<(Duration, Sample)>,
    out: u32,
}

impl Model {
    fn turn(&mut self, standing: BreakerState, now: Duration) {
        (self.standing, self.since) = (standing, now);
        (self.epoch, self.out) = (self.epoch + 1, 0);
        self.ended.clear();
    }

    fn admit(&mut self, now: Duration) -> Result<usize, Duration> {
        if self.standing == BreakerState::Open {
            let until = self.since + self.settings.open;
            if now < until {
                return Err(until - now);
            }
            self.turn(BreakerState::HalfOpen, now);
        }
        if self.standing == BreakerState::HalfOpen {
            if self.out + self.ended.len() as u32 == self.settings.probes {
                return Err(PROBING);
            }
            self.out += 1;
        }
        Ok(self.epoch)
    }

    fn end(&mut self, epoch: usize, mark: Sample, now: Duration) {
        if epoch != self.epoch {
            return;
        }
        self.ended.push((now, mark));
        self.out = self.out.saturating_sub(1);
        let half = self.standing == BreakerState::HalfOpen;
        let inside: Vec<_> = match self.settings.window {
            _ if half => self.ended.iter().collect(),
            Sliding::Calls(max) => self.ended.iter().rev().take(max as usize).collect(),
            Sliding::Time(time) => {
                let length = (time / 20).as_nanos();
                let age = |then: &Duration| now.as_nanos() / length - then.as_nanos() / length;
                self.ended.iter().filter(|(then, _)| age(then) < 20).collect()
            }
        };
        let least = if half { self.settings.probes } else { self.settings.calls_min };
        if inside.len() < least as usize {
            return;
        }
        let share = |is: fn(&Sample) -> bool| {
            inside.iter().filter(|(_, mark)| is(mark)).count() as f64 / inside.len() as f64
        };
        let (failed, slow) = (share(|mark| mark.failed), share(|mark| mark.slow));
        if 0.5 <= failed || 0.75 <= slow {
            self.turn(BreakerState::Open, now);
        } else if half {
            self.turn(BreakerState::Closed, now);
        }
    }

    fn forget(&mut self, epoch: usize) {
        if epoch == self.epoch {
            self.out = self.out.saturating_sub(1);
        }
    }

    fn standing(&self, now: Duration) -> BreakerState {
        match self.standing {
            BreakerState::Open if self.since + self.settings.open <= now => BreakerState::HalfOpen,
            standing @ (BreakerState::Closed | BreakerState::Open | BreakerState::HalfOpen) => {
                standing
            }
        }
    }
}

proptest! {
    #[test]
    fn a_breaker_is_where_a_naive_model_is(
        window in prop::sample::select(vec!["1", "4", "7", "\"1s\"", "\"5s\""]),
        probes in 1_u32..4,
        calls_min in 1_u32..5,
        events in vec(event(), 1..300),
    ) {
        let least = match window.parse() { Ok(size) => calls_min.min(size), Err(_) => calls_min };
        let settings = settings(&format!(
            "window = {window}, calls_min = {least}, failure_rate = 0.5, slow = \"1s\", slow_rate \
             = 0.75, open = \"3s\", probes = {probes}"
        ));
        let mut machine = Machine::new(settings.clone());
        let (standing, since) = (BreakerState::Closed, Duration::ZERO);
        let mut model = Model { settings, standing, since, epoch: 0, ended: vec![], out: 0 };
        let (mut now, mut underway) = (Duration::ZERO, Vec::new());
        for event in events {
            match event {
                Event::Admit => match (machine.admit(now), model.admit(now)) {
                    (Ok(generation), Ok(epoch)) => underway.push((generation, epoch)),
                    (got, want) => prop_assert_eq!(got.err(), want.err()),
                },
                Event::End(index, mark) if !underway.is_empty() => {
                    let (generation, epoch) = underway.swap_remove(index.index(underway.len()));
                    machine.end(generation, mark, now);
                    model.end(epoch, mark, now);
                }
                Event::Forget(index) if !underway.is_empty() => {
                    let (generation, epoch) = underway.swap_remove(index.index(underway.len()));
                    machine.forget(generation);
                    model.forget(epoch);
                }
                Event::Step(millis) => now += at(millis),
                Event::End(..) | Event::Forget(_) => (),
            }
            prop_assert_eq!(machine.state(now), model.standing(now));
            prop_assert_eq!(machine.closed().is_some(), model.standing == BreakerState::Closed);
        }
    }
}

/// Marks of tools, as numbers from 1 on.
fn marks() -> impl Strategy<Value = Vec<Sample>> {
    let mark = (any::<bool>(), any::<bool>(), 1_u64..5);
    vec(mark.prop_map(|(failed, slow, tool)| Sample { failed, slow, tool }), 20..120)
}

proptest! {
    /// However often one tool fails or is slow, it alone opens nothing; what fails of no tool, and
    /// of all tools, opens it as ever.
    #[test]
    fn one_tool_alone_does_not_open_it(
        window in prop::sample::select(vec!["20", "\"10s\""]),
        failures in marks(),
        bad in 1_u64..5,
        step in 0_u64..200,
    ) {
        let keys = format!(
            "window = {window}, calls_min = 10, failure_rate = 0.5, slow = \"1s\", \
             slow_rate = 0.5, \
             tools_apart = true"
        );
        let mut machine = Machine::new(settings(&keys));
        for (at_call, mark) in failures.iter().enumerate() {
            let is_bad = mark.tool == bad;
            let mark = Sample { failed: mark.failed && is_bad, slow: mark.slow && is_bad, ..*mark };
            prop_assert!(!runs(&mut machine, mark, at(step * at_call as u64)));
        }
        prop_assert_eq!(machine.state(at(step * 200)), BreakerState::Closed);
        let later = at(1_000_000);
        let opens = |machine: &mut Machine, mark: &dyn Fn(u64) -> Sample| {
            (0..20).any(|call| machine.closed().is_some() && runs(machine, mark(call), later))
        };
        let of_all = |call| Sample { tool: call % 4 + 1, ..FAILED };
        prop_assert!(opens(&mut machine, &of_all), "all tools fail");
        let mut machine = Machine::new(settings(&keys));
        prop_assert!(opens(&mut machine, &|_| FAILED), "it cannot be reached");
    }
}
