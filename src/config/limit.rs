//! `limits` and `in_flight`: how much clients may ask for.

use std::time::Duration;

use schemars::{Schema, SchemaGenerator, json_schema};

use super::toml::{
    problem::Problem,
    reader::{Node, Reader},
    section::MINUTE,
    table::section,
    value::{BoundedDuration, Count, FromToml, words},
};

/// The most that a `rate` counts in its period, and a burst: with the unit's length still exact.
pub const COUNT_MAX: u32 = 1_000_000;
/// Longest refill time of a burst; more is taken for a typing error.
const REFILL_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// `limits = [{ … }]`: how much may be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// The things that have a bucket each, each word once; none: all share one.
    pub per: Vec<Per>,
    pub bound: Bound,
}

words! {
    /// A part of a bucket's key.
    Per {
        /// The caller that a request is from, as the gate knows it.
        Caller = "caller",
        /// The program's name, as it says itself.
        Client = "client",
        Route = "route",
        Upstream = "upstream",
        /// A tool of one upstream; what is no tool counts by its method.
        Tool = "tool",
    }
}

/// How much may be asked for in how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// `count` in each `period`, steadily; `burst` at once. Default `burst`: `count`.
    Rate { count: u32, period: Duration, burst: u32 },
    /// `amount` in each day or month.
    Budget { amount: u32, window: Window },
}

/// A window of the calendar, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    Day,
    Month,
}

section! {
    /// How many calls may be under way at once. One that waits for its client's next request has
    /// given its place back.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    InFlight {
        /// The number of calls.
        max: Count<1, 1_000_000> = required "say how many: in_flight = { max = 10 }",
        /// How long one more waits for a place, before it is refused; first come, first served.
        // An agent that is told at once can do something else.
        wait: BoundedDuration<0, { 10 * MINUTE }> = "0s",
    }
}

/// The cost of a call, which every limit counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cost {
    Flat(u32),
    /// The cost that an argument says: an array has so many items, a number is so much. At least 1.
    /// The names of the members that lead there.
    Argument(Vec<String>),
}

section! {
    /// A cost that an argument says, and 1 at least: as much as an array has items, or as a number
    /// is, rounded up.
    keys ArgumentCost {
        /// The argument, as a JSON Pointer: "/items".
        argument: Option<String> = required "name the argument: cost = { argument = \"/items\" }",
    }
}

section! {
    /// How much may be asked for: a `rate` or a `budget`. What one limit refuses counts in none.
    keys LimitFields {
        /// The things that have a bucket each: each "caller" (who asks, as the gate knows it),
        /// "client" (the program's name, as it says itself: who changes it has a new bucket, so it
        /// bounds nobody alone), "route", "upstream", "tool" (what is no tool counts by its
        /// method), or each pair and so on of them. Without any, all share one.
        per: Vec<Per>,
        /// How much in how long, steadily: "60/min"; "/s", "/h" and "/d" exist too.
        rate: Option<Rate>,
        /// How much of it may come at once; without it, the number in `rate`.
        burst: Option<Count<1, { COUNT_MAX as usize }, u32>>,
        /// How much in each day or month of the calendar (UTC): "10000/day", "200000/month".
        /// Without a store of `[limit]` it is counted in memory: a restart begins anew.
        budget: Option<Budget>,
    }
}

/// The most expensive tool that a section's limits may meet: its name, and its cost.
pub type MaxCost<'a> = Option<(&'a str, u32)>;

impl Default for Cost {
    fn default() -> Self {
        Self::Flat(1)
    }
}

impl Cost {
    /// The least that a call can cost.
    pub fn min(&self) -> u32 {
        match self {
            Self::Flat(cost) => *cost,
            Self::Argument(_) => 1,
        }
    }
}

/// A cost that is the same for all calls.
type Flat = Count<1, { COUNT_MAX as usize }, u32>;

/// A text such as "60/min".
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// The number of calls, at least 1.
    pub count: u32,
    pub period: Duration,
}

/// A text such as "10000/day".
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    amount: u32,
    window: Window,
}

impl FromToml for Rate {
    type Value = Self;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let units = [("s", 1), ("min", 60), ("h", 3_600), ("d", 86_400)];
        let text = reader.text(node, "a rate")?;
        let found = counted(&text, &units, COUNT_MAX);
        if found.is_none() {
            let help = format!(
                "write a whole number from 1 to {COUNT_MAX} and a unit, such as \"60/min\": /s, \
                 /min, /h or /d"
            );
            reader.refuse(node, "a rate", help);
        }
        found.map(|(count, seconds)| Self { count, period: Duration::from_secs(seconds) })
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": r"^([1-9][0-9]*/(s|min|h|d)$|.*\$\{)" })
    }
}

impl FromToml for Budget {
    type Value = Self;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let units = [("day", Window::Day), ("month", Window::Month)];
        let text = reader.text(node, "a budget")?;
        let found = counted(&text, &units, u32::MAX);
        if found.is_none() {
            let help = format!(
                "write a whole number from 1 to {} and what it is for, such as \"10000/day\": \
                 /day or /month",
                u32::MAX
            );
            reader.refuse(node, "a budget", help);
        }
        found.map(|(amount, window)| Self { amount, window })
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": r"^([1-9][0-9]*/(day|month)$|.*\$\{)" })
    }
}

impl FromToml for Cost {
    type Value = Self;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        if !node.get_ref().is_table() {
            return Flat::read(node, reader).map(Self::Flat);
        }
        let argument = ArgumentCost::read(node, reader)?.argument;
        let text = argument.value?;
        let span = argument.span?;
        let names = pointer(&text);
        if names.is_none() {
            let title = format!("`{text}` does not point at an argument");
            let help = "begin with `/`, as a JSON Pointer: \"/items\", or \"/filter/ids\"";
            reader.problem(Problem::new(span, title, help));
        }
        names.map(Self::Argument)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let flat = Flat::schema(generator);
        let argument = ArgumentCost::schema(generator);
        json_schema!({ "anyOf": [flat, argument] })
    }
}

/// The limits of a section, right if the reader has no problem.
pub fn limits(
    sections: Vec<LimitFields>,
    max_cost: MaxCost<'_>,
    reader: &mut Reader<'_>,
) -> Vec<Limit> {
    sections.into_iter().filter_map(|section| limit(section, max_cost, reader)).collect()
}

fn limit(section: LimitFields, max_cost: MaxCost<'_>, reader: &mut Reader<'_>) -> Option<Limit> {
    let LimitFields { at, per, rate, burst, budget } = section;
    if reader.has_problem(&at) {
        return None;
    }
    let mut per = per.value;
    per.sort_unstable();
    per.dedup();
    let burst_span = burst.span.clone();
    let mut wrong = |span, title: String, help: &str| {
        reader.problem(Problem::new(span, title, help));
        None
    };
    let bound = match (rate.value, budget.value) {
        (None, None) => {
            let help = "say how much: rate = \"60/min\", or budget = \"10000/day\"";
            return wrong(at, "this limit bounds nothing".to_owned(), help);
        }
        (Some(_), Some(_)) => {
            let span = budget.span.unwrap_or(at);
            let help = "make two limits of them";
            return wrong(span, "`budget` besides `rate`".to_owned(), help);
        }
        (None, Some(Budget { amount, window })) => {
            if let Some(span) = burst_span {
                let help = "remove it: a budget may be used up at once";
                return wrong(span, "`burst` means nothing for a budget".to_owned(), help);
            }
            Bound::Budget { amount, window }
        }
        (Some(Rate { count, period }), None) => {
            let burst = burst.value.unwrap_or(count);
            if REFILL_MAX < period * burst / count {
                let title = "this burst takes longer than a year to come back".to_owned();
                let span = burst_span.or(rate.span).unwrap_or(at);
                return wrong(span, title, "make `burst` smaller, or `rate` higher");
            }
            Bound::Rate { count, period, burst }
        }
    };
    if let Some((tool, cost)) = max_cost.filter(|(_, cost)| bound.at_once() < *cost) {
        let most = bound.at_once();
        let key = bound.key();
        let title =
            format!("tool `{tool}` costs {cost}, and this limit never has more than {most}");
        let help = format!("make its `{key}` {cost} or more, or the tool's `cost` smaller");
        return wrong(at, title, &help);
    }
    Some(Limit { per, bound })
}

impl Bound {
    /// The most that can be asked for at once.
    fn at_once(self) -> u32 {
        match self {
            Self::Rate { burst, .. } => burst,
            Self::Budget { amount, .. } => amount,
        }
    }

    /// The key that says so.
    fn key(self) -> &'static str {
        match self {
            Self::Rate { .. } => "burst",
            Self::Budget { .. } => "budget",
        }
    }
}

/// The names in a JSON Pointer (RFC 6901); none where it is none, or points at the whole.
fn pointer(text: &str) -> Option<Vec<String>> {
    let names = text.strip_prefix('/')?.split('/');
    Some(names.map(|name| name.replace("~1", "/").replace("~0", "~")).collect())
}

/// "N/unit".
fn counted<T: Copy>(text: &str, units: &[(&str, T)], max: u32) -> Option<(u32, T)> {
    let (count, unit) = text.split_once('/')?;
    // `parse` would take a sign.
    let digits = count.bytes().all(|byte| byte.is_ascii_digit());
    let count = count.parse().ok().filter(|count| digits && (1..=max).contains(count))?;
    units.iter().find(|(name, _)| *name == unit).map(|(_, unit)| (count, *unit))
}
