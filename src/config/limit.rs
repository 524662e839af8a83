//! Limits on what clients ask for: how the file says them, and what of them belongs together.

use std::{collections::BTreeMap, time::Duration};

use schemars::{Schema, SchemaGenerator, json_schema};
use toml::Spanned;

use super::{
    cache::{self, Keep},
    check,
    guard::{self, Detector, Filling, Guard},
    problem::Problem,
    reader::Reader,
    resilience::{self, Breaker, ToolTimeout},
    schema,
    value::{Count, Kind, Node, Word},
};

/// The most that a `rate` counts in its period, and a burst: with the unit's length still exact.
pub const COUNT_MAX: u32 = 1_000_000;
/// No burst takes longer to come back: a wait that nobody waits for is a mistake in the file.
const REFILL_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// `limits = [{ … }]`: how much may be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// What has a bucket of its own, each word once; none: all share one.
    pub per: Vec<Per>,
    pub bound: Bound,
}

/// A part of a bucket's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Per {
    /// Who a request is from, as the gate knows it.
    Caller,
    /// The program's name, as it says itself.
    Client,
    Route,
    Upstream,
    /// A tool of one upstream; what is no tool counts by its method.
    Tool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// `count` in each `period`, steadily; `burst` at once. Default `burst`: `count`.
    Rate { count: u32, period: Duration, burst: u32 },
    /// `amount` in each day or month.
    Budget { amount: u32, window: Window },
}

/// Of the calendar, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    Day,
    Month,
}

/// `in_flight = { … }`: calls under way at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InFlight {
    pub max: usize,
    /// How long a call waits for its place. Default 0: an agent that is told at once can do
    /// something else.
    pub wait: Duration,
}

/// `[upstreams.NAME.tools.TOOL]`: what holds for one tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// What a call counts for in every limit. Default 1.
    pub cost: Cost,
    /// Its results are kept.
    pub cache: Option<Keep>,
    /// Tools of the same upstream of which no result is good any more after a call.
    pub invalidates: Vec<String>,
    pub limits: Vec<Limit>,
    pub in_flight: Option<InFlight>,
    pub guard: Guard,
    pub filling: Filling,
    /// In place of its upstream's.
    pub hedge: Option<Duration>,
    /// Default none: a tool has too few calls for rates, and its upstream's breaker sees outages.
    pub breaker: Option<Breaker>,
    pub timeout: ToolTimeout,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cost {
    Flat(u32),
    /// As much as an argument says: an array has so many items, a number is so much. At least 1.
    /// The names of the members that lead there.
    Argument(Vec<String>),
}

/// The dearest tool that a section's limits may meet: its name, and its cost.
pub type Dearest<'a> = Option<(&'a str, u32)>;

impl Default for Cost {
    fn default() -> Self {
        Self::Flat(1)
    }
}

/// A text such as "60/min".
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// At least 1.
    pub count: u32,
    pub period: Duration,
}

/// A text such as "10000/day".
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    amount: u32,
    window: Window,
}

impl Word for Per {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("caller", Self::Caller),
        ("client", Self::Client),
        ("route", Self::Route),
        ("upstream", Self::Upstream),
        ("tool", Self::Tool),
    ];
}

impl Kind for Rate {
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

impl Kind for Budget {
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

impl Kind for Cost {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        if !node.get_ref().is_table() {
            let count = Count::<1, { COUNT_MAX as usize }>::read(node, reader)?;
            return u32::try_from(count.0).ok().map(Self::Flat);
        }
        let section = schema::ArgumentCost::read(node, reader)?;
        let Some(span) = section.argument.span else {
            let help = "name the argument: cost = { argument = \"/items\" }";
            reader.problem(Problem::new(node.span(), "`argument` is missing", help));
            return None;
        };
        let text = section.argument.value?;
        let names = pointer(&text);
        if names.is_none() {
            let title = format!("`{text}` does not point at an argument");
            let help = "begin with `/`, as a JSON Pointer: \"/items\", or \"/filter/ids\"";
            reader.problem(Problem::new(span, title, help));
        }
        names.map(Self::Argument)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let flat = Count::<1, { COUNT_MAX as usize }>::schema(generator);
        let argument = schema::ArgumentCost::schema(generator);
        json_schema!({ "anyOf": [flat, argument] })
    }
}

/// The limits of a section, right if the reader has no problem.
pub fn limits(
    sections: Vec<Spanned<schema::Limit>>,
    dearest: Dearest<'_>,
    reader: &mut Reader<'_>,
) -> Vec<Limit> {
    sections.into_iter().filter_map(|section| limit(section, dearest, reader)).collect()
}

fn limit(
    section: Spanned<schema::Limit>,
    dearest: Dearest<'_>,
    reader: &mut Reader<'_>,
) -> Option<Limit> {
    let at = section.span();
    let schema::Limit { per, rate, burst, budget } = section.into_inner();
    if reader.faults(&at) {
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
            let (span, help) = (budget.span.unwrap_or(at), "make two limits of them");
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
            let burst = burst.value.map_or(Some(count), |burst| u32::try_from(burst.0).ok())?;
            if REFILL_MAX < period * burst / count {
                let title = "this burst takes longer than a year to come back".to_owned();
                let span = burst_span.or(rate.span).unwrap_or(at);
                return wrong(span, title, "make `burst` smaller, or `rate` higher");
            }
            Bound::Rate { count, period, burst }
        }
    };
    if let Some((tool, cost)) = dearest.filter(|(_, cost)| bound.at_once() < *cost) {
        let (most, key) = (bound.at_once(), bound.key());
        let title =
            format!("tool `{tool}` costs {cost}, and this limit never has more than {most}");
        let help = format!("make its `{key}` {cost} or more, or the tool's `cost` smaller");
        return wrong(at, title, &help);
    }
    Some(Limit { per, bound })
}

/// A cap on calls under way, right if the reader has no problem.
pub fn in_flight(
    section: Option<Spanned<schema::InFlight>>,
    reader: &mut Reader<'_>,
) -> Option<InFlight> {
    let section = section?;
    let span = section.span();
    let schema::InFlight { max, wait } = section.into_inner();
    if max.value.is_none() && !reader.faults(&span) {
        let help = "say how many: in_flight = { max = 10 }";
        reader.problem(Problem::new(span, "`max` is missing", help));
    }
    Some(InFlight { max: max.value?.0, wait: wait.value.0 })
}

/// The settings of tools, by their own names.
pub fn tools(
    sections: Vec<(Spanned<String>, schema::Tool)>,
    detectors: &[Detector],
    reader: &mut Reader<'_>,
) -> BTreeMap<String, Tool> {
    cache::refuse_unkept(&sections, reader);
    let each = sections.into_iter().map(|(name, section)| {
        let name = name.into_inner();
        let dearest = Some((&*name, flat(&section)));
        let limits = limits(section.limits.value, dearest, reader);
        let in_flight = in_flight(section.in_flight.value, reader);
        let cache = cache::keep(section.cache.value, reader);
        let invalidates = section.invalidates.value.into_iter().map(Spanned::into_inner).collect();
        let guard = guard::guard(section.guard.value, detectors, reader);
        let filling = guard::filling(section.arguments.value, reader);
        let breaker = section.breaker.value;
        let breaker = breaker.and_then(|section| resilience::tool_breaker(section, reader));
        let timeout = resilience::tool_timeout(&section.timeout.value, reader);
        let hedge = check::replicas::hedge(section.hedge.value.as_ref(), reader);
        let cost = section.cost.value;
        let tool = Tool {
            cost,
            cache,
            invalidates,
            limits,
            in_flight,
            guard,
            filling,
            hedge,
            breaker,
            timeout,
        };
        (name, tool)
    });
    each.collect()
}

/// The dearest of an upstream's tools.
pub fn dearest(upstream: &schema::Upstream) -> Dearest<'_> {
    let each = upstream.tools.value.each.iter();
    each.map(|(name, tool)| (name.get_ref().as_str(), flat(tool))).max_by_key(|(_, cost)| *cost)
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

/// The least that a call can cost.
fn flat(section: &schema::Tool) -> u32 {
    match section.cost.value {
        Cost::Flat(cost) => cost,
        Cost::Argument(_) => 1,
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
