//! `[upstreams.NAME.tools]`: which tools there are, and what holds for each.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use toml::Spanned;

use super::{
    cache::Keep,
    filter::{Filter, ToolFilter},
    guard::{Filling, Guard},
    limit::{Cost, InFlight, Limit, LimitFields, MaxCost, limits},
    replicas::Hedge,
    resilience::{BreakerOrOff, ToolTimeout},
    toml::{
        problem::{Problem, nearest},
        reader::{Node, Reader},
        section::{Fields, Key, Keys, unknown},
        table::section,
        value::{FromToml, table},
    },
};

section! {
    /// Settings that hold for one tool, whoever calls it through whichever route.
    #[derive(Debug, Clone, PartialEq, Eq)]
    Tool {
        /// The cost of one call in every limit, of the route and the upstream too: a number, or
        /// what an argument says.
        cost: Cost = 1,
        /// Results of it are kept, and served again.
        cache: Option<Keep>,
        /// How many calls of it may be under way at once.
        in_flight: Option<InFlight>,
        /// Checks of its calls, and detectors that look into them, besides what its upstream and
        /// the route say.
        guard: Guard,
        /// Arguments that the gate puts into its calls.
        filling as "arguments": Filling,
        /// When a call of it is sent to a second replica, in place of what its upstream says.
        hedge: Option<Hedge>,
        /// A breaker of its own: what it does wrong, or slowly, then counts there and not for its
        /// upstream.
        // A tool has too few calls for rates, and its upstream's breaker sees outages.
        breaker: BreakerOrOff,
        /// How long a call of it may take.
        timeout: ToolTimeout,
    } file {
        /// Tools of this upstream of which no result is good any more once this one was called,
        /// whatever came of it.
        invalidates: Vec<Spanned<String>>,
        /// How much it may be called, besides what its upstream and the route allow.
        limits: Vec<LimitFields>,
    } besides ToolRest {
        /// Tools of the same upstream of which no result is good any more after a call.
        invalidates: Vec<String>,
        /// How much it may be called.
        limits: Vec<Limit>,
    }
}

/// A filter whose other keys are tools; a tool that is called as a key of the filter has no
/// section.
#[derive(Debug, Default)]
pub struct Tools {
    filter: Fields<Filter>,
    each: Vec<(Spanned<String>, Fields<Tool>)>,
}

impl FromToml for Tools {
    type Value = Self;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let mut tools = Self::default();
        for (key, value) in table(node, reader)? {
            let name = key.get_ref().as_ref();
            let field = tools.filter.fields().into_iter().find(|(known, _)| *known == name);
            if let Some((_, field)) = field {
                field.fill(value, reader);
            } else if value.get_ref().is_table() {
                let name = Spanned::new(key.span(), name.to_owned());
                let tool = Fields::<Tool>::read(value, reader);
                tools.each.extend(tool.map(|tool| (name, tool)));
            } else {
                let keys = Fields::<Filter>::table();
                unknown(key, keys.iter().map(|key: &Key| key.name).collect(), reader);
            }
        }
        Some(tools)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let tool = Fields::<Tool>::schema(generator);
        let mut schema = Filter::json_schema(generator);
        schema.insert("additionalProperties".to_owned(), tool.to_value());
        schema
    }
}

impl Tools {
    /// The most expensive of them.
    pub fn max_cost(&self) -> MaxCost<'_> {
        let each = self.each.iter();
        each.map(|(name, tool)| (name.get_ref().as_str(), tool.cost.value.min()))
            .max_by_key(|(_, cost)| *cost)
    }

    /// The filter, and what holds for tools by their own names.
    pub fn finish(self, reader: &mut Reader<'_>) -> (Filter, BTreeMap<String, Tool>) {
        check_invalidates(&self.each, reader);
        let filter = ToolFilter::finish(self.filter, reader);
        let each = self.each.into_iter().map(|(name, mut keys)| {
            let name = name.into_inner();
            let max_cost = Some((&*name, keys.cost.value.min()));
            let limits = limits(std::mem::take(&mut keys.limits.value), max_cost, reader);
            let invalidates = std::mem::take(&mut keys.invalidates.value);
            let invalidates = invalidates.into_iter().map(Spanned::into_inner).collect();
            (name, Tool::new(keys, ToolRest { invalidates, limits }, reader))
        });
        (filter, each.collect())
    }
}

/// Refuses to invalidate results that are never kept. `tools` are those of one upstream.
fn check_invalidates(tools: &[(Spanned<String>, Fields<Tool>)], reader: &mut Reader<'_>) {
    let kept = tools.iter().filter(|(_, tool)| tool.cache.span.is_some());
    let kept: Vec<_> = kept.map(|(name, _)| name.get_ref().as_str()).collect();
    for name in tools.iter().flat_map(|(_, tool)| &tool.invalidates.value) {
        if !kept.contains(&name.get_ref().as_str()) {
            let title = format!("nothing is kept of `{}`", name.get_ref());
            let help = match kept.is_empty() {
                true => "a tool of this upstream needs `cache = { ttl = \"…\" }`".to_owned(),
                false => nearest(name.get_ref(), kept.iter().copied()),
            };
            reader.problem(Problem::new(name.span(), title, help));
        }
    }
}
