//! The script in Lua decides as the gate does by itself, to the nanosecond.

use std::{num::NonZeroU32, time::Duration};

use proptest::{collection::vec, prelude::*};
use tollgate::internals::{self, LimitRefusal};

use crate::server::Redis;

/// The clock of these tests: the last two arguments.
const CLOCK: &str = "local clock = {ARGV[#ARGV - 1], ARGV[#ARGV]}\n";
const DAY: u64 = 24 * 60 * 60;

#[derive(Debug, Clone)]
enum Bound {
    Rate(u32, &'static str, u32),
    Budget(u32, &'static str),
}

impl Bound {
    fn toml(&self) -> String {
        match self {
            Self::Rate(count, unit, burst) => {
                format!("{{ rate = \"{count}/{unit}\", burst = {burst} }}")
            }
            Self::Budget(amount, window) => format!("{{ budget = \"{amount}/{window}\" }}"),
        }
    }
}

fn bound() -> impl Strategy<Value = Bound> {
    let unit = prop::sample::select(vec!["s", "min", "h", "d"]);
    let rate = (1u32..1_000, unit, 1u32..40)
        .prop_filter("it comes back within a year", |it| it.1 != "d" || it.2 < 300 * it.0);
    let window = prop::sample::select(vec!["day", "month"]);
    prop_oneof![
        3 => rate.prop_map(|(count, unit, burst)| Bound::Rate(count, unit, burst)),
        1 => (1u32..40, window).prop_map(|(amount, window)| Bound::Budget(amount, window)),
    ]
}

/// Microseconds to the next request: at once, soon, or long after.
fn pause() -> impl Strategy<Value = u64> {
    prop_oneof![
        2 => Just(0u64),
        4 => 0u64..100_000,
        4 => 0u64..60_000_000,
        2 => 0u64..DAY * 1_000_000,
        1 => 0u64..40 * DAY * 1_000_000,
    ]
}

/// Both, one request after the other; the store's keys are this case's own.
fn agree(
    connection: &mut redis::Connection,
    bounds: &[Bound],
    from: u64,
    asks: &[(u64, u32)],
) -> Result<usize, TestCaseError> {
    let limits: Vec<_> = bounds.iter().map(Bound::toml).collect();
    let routes = format!(
        "[routes.\"/mcp\"]\nupstreams = [\"a\"]\n[upstreams.a]\nurl = \"http://127.0.0.1:9\"\n\
         limits = [{}]\n",
        limits.join(", ")
    );
    let twin =
        internals::twin(&routes).map_err(|problems| TestCaseError::fail(problems.to_string()))?;
    let script = redis::Script::new(&internals::script(CLOCK));
    redis::cmd("FLUSHALL").exec(connection).unwrap();
    let (mut micros, mut refused) = (from * 1_000_000, 0);
    for (pause, cost) in asks {
        micros += pause;
        let cost = NonZeroU32::new(*cost).unwrap();
        let here = twin.take(cost, Duration::from_micros(micros));
        if here == Err(LimitRefusal::Cost) {
            // Nobody asks the store for it.
            continue;
        }
        let mut call = script.prepare_invoke();
        for key in 0..twin.count() {
            call.key(key);
        }
        call.arg(twin.arguments(cost)).arg(micros / 1_000_000).arg(micros % 1_000_000);
        let answer: Vec<i64> = call.invoke(connection).unwrap();
        prop_assert_eq!(twin.decided(&answer), here, "{:?} at {}", bounds, micros);
        refused += usize::from(here.is_err());
    }
    Ok(refused)
}

#[test]
fn the_store_decides_as_a_gate_does_by_itself() {
    let server = Redis::start();
    let mut connection = server.connection();
    let cases = (vec(bound(), 1..4), 0u64..4_000_000_000, vec((pause(), 1u32..40), 1..60));
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let (mut asked, mut refused) = (0, 0);
    let connection = std::cell::RefCell::new(&mut connection);
    let counts = std::cell::RefCell::new((&mut asked, &mut refused));
    let ran = runner.run(&cases, |(bounds, from, asks)| {
        let found = agree(*connection.borrow_mut(), &bounds, from, &asks)?;
        let (asked, refused) = &mut *counts.borrow_mut();
        **asked += asks.len();
        **refused += found;
        Ok(())
    });
    ran.unwrap();
    assert!(asked / 20 < refused && refused < asked, "{refused} of {asked} are refused");
}

/// Every month of four hundred years ends where it does here.
#[test]
fn the_store_knows_the_calendar() {
    let server = Redis::start();
    let mut connection = server.connection();
    for month in 0..12 * 400 {
        // Some second of it, more or less.
        let from = (DAY * 30_436_875 / 1_000_000) * month + month % 3;
        let refused = agree(&mut connection, &[Bound::Budget(1, "month")], from, &[(0, 1), (0, 1)]);
        assert_eq!(refused.unwrap(), 1);
    }
}

#[test]
fn the_largest_limits_are_exact() {
    let server = Redis::start();
    let mut connection = server.connection();
    let slow = Bound::Rate(1, "d", 366);
    let fast = Bound::Rate(1_000_000, "s", 1_000_000);
    let odd = Bound::Rate(999_983, "d", 1_000_000);
    let budget = Bound::Budget(u32::MAX, "month");
    for (bound, cost) in [(slow, 183), (fast, 500_000), (odd, 333_333), (budget, u32::MAX / 2)] {
        let asks = [(0, cost), (1, cost), (7, cost), (999_999, 1), (13, cost), (DAY, cost)];
        agree(&mut connection, &[bound], 1_798_804_800, &asks).unwrap();
    }
}
