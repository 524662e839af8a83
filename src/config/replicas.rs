//! Several servers in the place of one: replicas of it, and a successor that takes over bit by bit.

use std::{collections::HashSet, time::Duration};

use schemars::{Schema, SchemaGenerator, json_schema};

use crate::call::UpstreamName;

use super::toml::{
    problem::{Problem, nearest},
    reader::{Node, Reader},
    section::{DAY, Fields, MINUTE, check_order},
    table::section,
    value::{BoundedDuration, Count, FromToml, Url},
};

/// Help where a key is missing.
const AFTER: &str = "say after how long: hedge = { after = \"300ms\" }";
const WEIGHT: &str = "say how many percent of callers it gets: weight = 10";

/// Settings that hold for the replicas of one upstream.
#[derive(Debug, Clone, PartialEq)]
pub struct Replicas {
    /// The addresses of all, each once; empty where there is only one.
    pub urls: Vec<String>,
    /// Default none: calls themselves show what fails.
    pub health: Option<Health>,
    pub ejection: Ejection,
}

section! {
    /// Probes of each replica: `ping`, or `server/discover` (2026-07-28).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    Health {
        /// Time between two probes.
        // As in pingora's and nginx's examples.
        every: BoundedDuration<100, DAY> = "10s",
        /// Time that an answer may take; any answer is one.
        timeout: BoundedDuration<10, { 10 * MINUTE }> = "2s",
        /// Failures in a row after which a replica gets no calls.
        unhealthy: Count<1, 1_000, u32> = 3,
        /// Successes in a row after which it gets calls again.
        healthy: Count<1, 1_000, u32> = 2,
    }
}

section! {
    /// When a replica that fails gets no calls for a while. Failures are lost connections, silence,
    /// statuses from 500 on and internal errors; a tool's own error is none.
    // The rules and the defaults are Envoy's (outlier detection), where nothing else is said.
    #[derive(Debug, Clone, Copy, PartialEq)]
    Ejection checked by check_ejection {
        /// The share of replicas that may be left out at once; one may always, all never. 0: none
        /// ever is.
        // Envoy's tenth of few replicas is none.
        max: Fraction = 0.5,
        /// Failures in a row.
        consecutive: Count<1, 1_000, u32> = 5,
        /// The share of failures within `interval`, where the others have less than half of it.
        // Lower than Envoy's 0.85, since calls here are dear.
        failure_rate: Fraction = 0.5,
        /// Calls within `interval` below which no share is looked at.
        calls_min: Count<1, 1_000_000, u32> = 20,
        /// How often shares are looked at.
        interval: BoundedDuration<100, DAY> = "10s",
        /// How long it lasts the first time; the second twice as long, and so on.
        // Calls that fail at one moment are many in a row, and Envoy's 30 s would keep a server
        // that was restarted without work for as long.
        base: BoundedDuration<100, DAY> = "5s",
        /// The longest ejection.
        base_max: BoundedDuration<100, DAY> = "5m",
    }
}

section! {
    /// A second request of the same at another replica, where the first is slow; for tools that
    /// are safe to call twice, by their own word. The first good answer counts.
    keys HedgeFields {
        /// After so long without a sign.
        after: BoundedDuration<1, { 10 * MINUTE }> = required AFTER,
    }
}

section! {
    /// A successor of this upstream, which gets the calls of some callers to tools that both have.
    #[derive(Debug, Clone, PartialEq)]
    Canary {
        /// The name of its section.
        upstream: Successor = required "name the successor's section: upstream = \"…\"",
        /// Percent of callers; whoever is among them stays so when it grows.
        weight: Count<0, 100, u32> = required WEIGHT,
        /// When it gets nothing any more, until this section is edited.
        back: Back,
    }
}

section! {
    /// When a successor gets nothing any more.
    #[derive(Debug, Clone, Copy, PartialEq)]
    Back checked by check_back {
        /// The share of failures that is too much.
        failure_rate: Fraction = 0.05,
        /// A call that takes longer is slow.
        slow: Option<BoundedDuration<1, DAY>>,
        /// The share of slow calls that is too much.
        slow_rate: Fraction = 0.5,
        /// The number of its last calls that are looked at.
        window: Count<1, 10_000> = 50,
        /// The number of calls below which nothing is decided.
        calls_min: Count<1, 10_000> = 20,
        /// Whether a tool's own error is a failure, too.
        // Callers make mistakes.
        tool_errors: bool = false,
    }
}

section! {
    /// A successor that is asked besides, for tools that only read; its answers are compared,
    /// counted, and given to nobody.
    #[derive(Debug, Clone, PartialEq)]
    Shadow {
        /// The name of its section.
        upstream: Successor = required "name the successor's section: upstream = \"…\"",
        /// The share of calls.
        share: Fraction = 1.0,
        /// Calls under way there; what is more is left out, and counted.
        in_flight_max: Count<1, 100_000> = 16,
    }
}

fn check_ejection(keys: &mut Fields<Ejection>, reader: &mut Reader<'_>) {
    check_order(["base", "base_max"], &keys.base, &keys.base_max, reader);
}

fn check_back(keys: &mut Fields<Back>, reader: &mut Reader<'_>) {
    if keys.window.value < keys.calls_min.value {
        let at = keys.calls_min.span.as_ref().or(keys.window.span.as_ref()).unwrap_or(&keys.at);
        let most = keys.window.value;
        let least = keys.calls_min.value;
        let title = format!("`window` is {most}, but `calls_min` is {least}");
        let help = "make `window` as large as `calls_min`, or `calls_min` smaller";
        reader.problem(Problem::new(at.clone(), title, help));
    }
}

/// How long a safe call waits for one replica before another is asked too.
#[derive(Debug)]
pub struct Hedge;

impl FromToml for Hedge {
    type Value = Duration;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Duration> {
        HedgeFields::read(node, reader).map(|keys| keys.after.value)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        HedgeFields::schema(generator)
    }
}

/// The name of another upstream.
#[derive(Debug)]
pub struct Successor;

impl FromToml for Successor {
    type Value = UpstreamName;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<UpstreamName> {
        let name = String::read(node, reader)?;
        let known = &reader.names().upstreams;
        if reader.upstream() == name {
            let help = "name another upstream: a server does not succeed itself";
            reader.problem(Problem::new(
                node.span(),
                format!("`{name}` is this very upstream"),
                help,
            ));
        } else if !known.contains(&name) {
            let help = nearest(&name, known.iter().map(String::as_str));
            reader.problem(Problem::new(
                node.span(),
                format!("there is no upstream `{name}`"),
                help,
            ));
        }
        Some(name.into())
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        String::schema(generator)
    }
}

/// A share from 0 to 1.
#[derive(Debug)]
pub struct Fraction;

/// The address of an upstream, or those of several replicas.
#[derive(Debug)]
pub struct Urls;

impl FromToml for Fraction {
    type Value = f64;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<f64> {
        let value = node.get_ref();
        let text = match (value.as_float(), value.as_integer()) {
            (Some(float), _) => float.as_str().to_owned(),
            (None, Some(integer)) => integer.as_str().to_owned(),
            (None, None) => {
                let help = "write a number from 0 to 1, such as 0.5, without quotes";
                reader.unexpected(node, "a share", help);
                return None;
            }
        };
        let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
        if share.is_none() {
            let help = "write a number from 0 to 1, such as 0.5";
            reader.problem(Problem::new(node.span(), format!("`{text}` is not a share"), help));
        }
        share
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "minimum": 0, "maximum": 1 })
    }
}

impl FromToml for Urls {
    type Value = Vec<String>;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Vec<String>> {
        if node.get_ref().as_array().is_none() {
            return Url::read(node, reader).map(|url| vec![url]);
        }
        let urls = Vec::<Url>::read(node, reader)?;
        let mut known = HashSet::new();
        for url in urls.iter().filter(|url| !known.insert(url.as_str())) {
            let title = format!("`{url}` is named twice");
            reader.problem(Problem::new(node.span(), title, "remove one"));
        }
        if urls.is_empty() && !reader.has_problem(&node.span()) {
            let help = "name one address, or several of the same server";
            reader.problem(Problem::new(node.span(), "there is no address", help));
        }
        Some(urls)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let one = Url::schema(generator);
        json_schema!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] })
    }
}
