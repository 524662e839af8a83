//! Protection of a call from its upstream, and of that from calls: breakers, retries, and times.

use std::time::Duration;

use schemars::{Schema, SchemaGenerator, json_schema};

use super::toml::{
    problem::Problem,
    reader::{Node, Reader},
    section::{DAY, Field, Fields, Finish, HOUR, MINUTE, SECOND, check_order, finished},
    table::section,
    value::{BoundedDuration, Count, FromToml, duration, words},
};

/// Calls of a sliding window.
const CALLS_MAX: usize = 10_000;
/// A share of all.
const WHOLE: u32 = 1_000_000;
/// Calls that a window of time needs before its rates count, unless said: resilience4j's
/// `minimumNumberOfCalls`. A window of calls needs no more than it has.
const CALLS_MIN: u32 = 100;

section! {
    /// When calls are refused at once, because those before them failed: closed, open, half-open.
    /// The words and what they mean are those of resilience4j 2 (`CircuitBreakerConfig`).
    #[derive(Debug, Clone, PartialEq, Eq)]
    Breaker {
        /// The calls that the rates are taken of: so many of the last, or those of a time: "60s".
        window: Sliding = 20,
        /// The share of calls that failed, from which on it opens.
        // All known peers leave breakers to the operator (Envoy's outlier detection, Istio,
        // Linkerd, resilience4j); a server none of whose last 20 calls succeeded is healthy by
        // nobody's measure, and each more would hold a place for its full timeout.
        failure_rate: Share = 1.0,
        /// How long it refuses all calls, before some are let through as probes.
        // Most outages that need no operator are over soon. Linkerd begins with 1 s, Envoy has
        // 30 s.
        open: BoundedDuration<10, DAY> = "5s",
        /// The number of probes; by the same rates they close it, or open it again.
        // One failure among them is no proof.
        probes: Count<1, 1_000, u32> = 5,
        /// The outcomes that are failures: "transport" (lost, or no MCP), "timeout", "429", "5xx"
        /// (HTTP statuses), `internal_error` (JSON-RPC -32603).
        counts: Vec<Cause> = ["transport", "timeout", "5xx"],
    } file {
        /// Whether there is one.
        enabled: bool = true,
        /// Calls that must be in the window before its rates count; without it as many as it has,
        /// and 100 at most.
        calls_min: Option<Count<1, 10_000, u32>>,
        /// An answer that takes this long is slow; without it none is. Time in which a person is
        /// asked is not counted.
        // What is slow depends on the tool.
        slow: Option<BoundedDuration<10, DAY>>,
        /// The share of slow calls, from which on it opens.
        slow_rate: Share = 1.0,
        /// Whether failures of one tool alone open a breaker of that tool, and not this one. What
        /// is of no tool, such as a connection that cannot be made, always opens this one. Without
        /// it that is so unless `window`, `calls_min`, `failure_rate` or `slow` is said.
        // Rates of the file's own are of all calls: outages are of the whole server, bursts of
        // failures often of one tool.
        tools_apart: Option<bool>,
    } besides BreakerRest {
        /// Calls in the window before its rates count.
        calls_min: u32,
        /// Calls that take too long; none: none does.
        slow: Option<Slow>,
        /// Whether failures of one tool alone open a breaker of its own.
        tools_apart: bool,
    }
}

/// The calls that a breaker looks back at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sliding {
    Calls(u32),
    Time(Duration),
}

/// Calls that take too long, and how many of them are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slow {
    /// An answer that takes this long is slow.
    pub after: Duration,
    pub rate: Share,
}

section! {
    /// How often a request is sent again that may be: nothing was sent, or it only reads, or its
    /// tool says `readOnlyHint` or `idempotentHint`; and none that was answered in part.
    #[derive(Debug, Clone, PartialEq, Eq)]
    Retry checked by check_retry {
        /// How often it is sent at most, the first time included.
        // As resilience4j has it.
        attempts: Count<1, 10, u32> = 3,
        /// The longest wait before the second time; doubles with each more. The wait itself is
        /// anything between nothing and that.
        backoff: BoundedDuration<1, { 10 * MINUTE }> = "200ms",
        /// The longest pause, up to which it doubles.
        backoff_max: BoundedDuration<1, { 10 * MINUTE }> = "5s",
        /// Retries in the last 10 s, as a share of the requests in it.
        // Finagle's and Linkerd's.
        budget: Share = 0.2,
        /// Retries in each second that are allowed however few requests there are.
        // As there.
        budget_min: Count<0, 1_000_000, u32> = 10,
        /// After what: words as in `counts` of a breaker.
        on: Vec<Cause> = ["transport", "429", "5xx"],
    }
}

words! {
    /// Why a call failed, as far as its upstream is to blame.
    Cause {
        /// No connection, a connection lost, or something on it that is no MCP.
        Transport = "transport",
        /// `idle` or `total` was over.
        Timeout = "timeout",
        TooManyRequests = "429",
        /// An HTTP status from 500.
        ServerError = "5xx",
        /// The server's own JSON-RPC error -32603.
        InternalError = "internal_error",
    }
}

/// A share from nothing to all, in millionths: what a fraction is compared with must be exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

section! {
    /// How long one tool may take, where that differs from its upstream.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    ToolTimeout checked by check_tool_timeout {
        /// Silence within a call; progress ends it.
        idle: Option<BoundedDuration<10, DAY>>,
        /// A whole call.
        total: Option<BoundedDuration<10, { 7 * DAY }>>,
    }
}

section! {
    /// How long an upstream may take.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    Timeout checked by check_timeout {
        /// The time from its turn to be opened until the server has answered. A process that lives
        /// and has said nothing has twice as long with each try, up to ten times this.
        open: BoundedDuration<10, { 60 * MINUTE }> = "30s",
        /// Silence within a call; progress ends it.
        idle: BoundedDuration<10, DAY> = "60s",
        /// A whole call.
        total: BoundedDuration<10, { 7 * DAY }> = "10m",
    }
}

section! {
    /// When an upstream is opened again that failed to open or was lost.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    Restart checked by check_restart {
        /// Before the first time; doubles each time.
        delay: BoundedDuration<10, { 60 * MINUTE }> = "500ms",
        /// The longest delay, up to which it doubles.
        delay_max: BoundedDuration<10, DAY> = "30s",
    }
}

impl Default for Breaker {
    fn default() -> Self {
        finished()
    }
}

impl Share {
    /// `parts` of `all` are at least this share.
    pub fn is_reached(self, parts: u64, all: u64) -> bool {
        u128::from(self.0) * u128::from(all) <= u128::from(parts) * u128::from(WHOLE)
    }

    /// Returns this share of `all`, rounded down.
    pub fn of(self, all: u64) -> u64 {
        let part = u128::from(self.0) * u128::from(all) / u128::from(WHOLE);
        u64::try_from(part).unwrap_or(u64::MAX)
    }
}

impl Breaker {
    /// Calls that its rates can be taken of.
    pub fn most(&self) -> usize {
        match self.window {
            Sliding::Calls(calls) => calls as usize,
            Sliding::Time(_) => self.calls_min as usize,
        }
    }
}

impl ToolTimeout {
    /// The times of a call, where its upstream has these.
    pub fn over(self, upstream: Timeout) -> Timeout {
        let idle = self.idle.unwrap_or(upstream.idle);
        let total = self.total.unwrap_or(upstream.total);
        // A tool that may be silent for longer than its upstream's calls take may take as long.
        let total = if self.total.is_none() { total.max(idle) } else { total };
        Timeout { idle: idle.min(total), total, ..upstream }
    }
}

impl FromToml for Sliding {
    type Value = Self;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        if node.get_ref().is_str() {
            return BoundedDuration::<SECOND, HOUR>::read(node, reader).map(Self::Time);
        }
        Count::<1, CALLS_MAX, u32>::read(node, reader).map(Self::Calls)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let calls = Count::<1, CALLS_MAX, u32>::schema(generator);
        let time = BoundedDuration::<SECOND, HOUR>::schema(generator);
        json_schema!({ "anyOf": [calls, time] })
    }
}

impl FromToml for Share {
    type Value = Self;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let help = "write a number from 0 to 1 without quotes, such as 0.5";
        let value = node.get_ref();
        let number = value.as_float().map(|number| number.as_str().to_owned());
        let number = number.or_else(|| value.as_integer().map(|whole| whole.as_str().to_owned()));
        let Some(number) = number else {
            reader.unexpected(node, "a share", help);
            return None;
        };
        let found = number.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
        if found.is_none() {
            let title = "this share is not between 0 and 1";
            reader.problem(Problem::new(node.span(), title, help));
        }
        found.map(|share| Self((share * f64::from(WHOLE)).round() as u32))
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "minimum": 0, "maximum": 1 })
    }
}

impl Finish for Breaker {
    fn finish(keys: Fields<Self>, reader: &mut Reader<'_>) -> Self {
        let size = match keys.window.value {
            Sliding::Calls(calls) => calls,
            Sliding::Time(_) => u32::MAX,
        };
        let calls_min = keys.calls_min.value.unwrap_or(CALLS_MIN.min(size));
        check_breaker(&keys, (size < calls_min).then_some(calls_min), reader);
        let spans = [&keys.calls_min.span, &keys.slow.span, &keys.window.span];
        let has_rates = spans.into_iter().chain([&keys.failure_rate.span]).any(Option::is_some);
        let slow = keys.slow.value.map(|after| Slow { after, rate: keys.slow_rate.value });
        let tools_apart = keys.tools_apart.value.unwrap_or(!has_rates);
        Self::new(keys, BreakerRest { calls_min, slow, tools_apart }, reader)
    }
}

/// Refuses what can never be meant of a breaker; `never` is a number of calls that its window never
/// has.
fn check_breaker(keys: &Fields<Breaker>, never: Option<u32>, reader: &mut Reader<'_>) {
    if let Some(least) = never {
        let title = format!("this breaker never opens: its window never has {least} calls");
        let help = "make `calls_min` smaller, or `window` larger";
        let at = keys.calls_min.span.clone().unwrap_or(keys.at.clone());
        reader.problem(Problem::new(at, title, help));
    }
    for (share, key) in [(&keys.failure_rate, "failure_rate"), (&keys.slow_rate, "slow_rate")] {
        if let Some(span) = share.span.as_ref().filter(|_| share.value == Share(0)) {
            let title = format!("`{key}` 0 opens the breaker whatever happens");
            reader.problem(Problem::new(span.clone(), title, "make it larger, up to 1"));
        }
    }
    if let (Some(span), None) = (&keys.slow_rate.span, keys.slow.value) {
        let help = "say from when on a call is slow: slow = \"2s\"";
        let title = "`slow_rate` means nothing without `slow`";
        reader.problem(Problem::new(span.clone(), title, help));
    }
    let help = "name what counts, or write `enabled = false`";
    check_named(&keys.counts, "this breaker counts nothing as a failure", help, reader);
}

/// Refuses a list that is empty, and not only of wrong words.
fn check_named(list: &Field<Vec<Cause>>, title: &str, help: &str, reader: &mut Reader<'_>) {
    let span = list.span.clone().filter(|_| list.value.is_empty());
    if let Some(span) = span.filter(|span| !reader.has_problem(span)) {
        reader.problem(Problem::new(span, title, help));
    }
}

fn check_retry(keys: &mut Fields<Retry>, reader: &mut Reader<'_>) {
    check_order(["backoff", "backoff_max"], &keys.backoff, &keys.backoff_max, reader);
    let help = "name what is tried again, or remove `retry`";
    check_named(&keys.on, "nothing is tried again so", help, reader);
}

fn check_tool_timeout(keys: &mut Fields<ToolTimeout>, reader: &mut Reader<'_>) {
    if let (Some(idle), Some(total)) = (keys.idle.value, keys.total.value)
        && total < idle
    {
        let title = format!("`idle` is {}, but `total` is {}", duration(idle), duration(total));
        let help = "make `idle` shorter than `total`, or `total` longer";
        let at = keys.total.span.clone().unwrap_or(keys.at.clone());
        reader.problem(Problem::new(at, title, help));
    }
}

fn check_timeout(keys: &mut Fields<Timeout>, reader: &mut Reader<'_>) {
    check_order(["idle", "total"], &keys.idle, &keys.total, reader);
}

fn check_restart(keys: &mut Fields<Restart>, reader: &mut Reader<'_>) {
    check_order(["delay", "delay_max"], &keys.delay, &keys.delay_max, reader);
}

/// A breaker, or none where it is switched off.
#[derive(Debug)]
pub struct BreakerOrOff;

impl FromToml for BreakerOrOff {
    type Value = Option<Breaker>;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Option<Breaker>> {
        let keys = Fields::<Breaker>::read(node, reader)?;
        let enabled = keys.enabled.value;
        Some(Some(Breaker::finish(keys, reader)).filter(|_| enabled))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        Fields::<Breaker>::schema(generator)
    }
}
