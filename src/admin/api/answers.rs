//! The endpoints of the API, and what each answers.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    admin::health::Health,
    builtin::report::{BudgetReport, RouteReport, UpstreamReport},
    call::{ListKind, UpstreamName},
    mcp::raw::Raw,
};

use super::{Endpoint, Question};

/// An answer as JSON, or why it cannot be written.
pub type Found = Result<String, serde_json::Error>;

pub const ENDPOINTS: [Endpoint; 7] = [
    Endpoint {
        path: "health",
        summary: "Whether calls are taken, and all that does not work as it should",
        schema: |generator| generator.subschema_for::<Health>(),
        answer: |asked| Some(serde_json::to_string(&Health::of(asked.gate))),
    },
    Endpoint {
        path: "routes",
        summary: "The paths that clients connect to, and how much each offers",
        schema: |generator| generator.subschema_for::<Vec<RouteReport>>(),
        answer: |asked| Some(serde_json::to_string(&asked.gate.report().routes)),
    },
    Endpoint {
        path: "upstreams",
        summary: "The servers behind the gate, and how each fares",
        schema: |generator| generator.subschema_for::<Vec<UpstreamReport>>(),
        answer: |asked| Some(serde_json::to_string(&asked.gate.report().upstreams)),
    },
    Endpoint {
        path: "upstreams/{upstream}",
        summary: "One server behind the gate",
        schema: |generator| generator.subschema_for::<UpstreamReport>(),
        answer: |asked| {
            let mut upstreams = asked.gate.report().upstreams.into_iter();
            upstreams.find(|one| one.name == asked.upstream).map(|one| serde_json::to_string(&one))
        },
    },
    Endpoint {
        path: "upstreams/{upstream}/catalog",
        summary: "All that one server lists, with its schemas and as the server wrote it",
        schema: |generator| generator.subschema_for::<UpstreamCatalog>(),
        answer: |asked| UpstreamCatalog::of(asked).map(|it| serde_json::to_string(&it)),
    },
    Endpoint {
        path: "budgets",
        summary: "Budgets of `limits`, and what is left of each",
        schema: |generator| generator.subschema_for::<Vec<BudgetReport>>(),
        answer: |asked| Some(serde_json::to_string(&asked.gate.report().budgets)),
    },
    Endpoint {
        path: "counters",
        summary: "Counts since the gate started, and, with names that end in `_now`, what there \
                  is at the moment: sessions, calls that wait for clients, results that are kept",
        schema: |generator| generator.subschema_for::<BTreeMap<String, u64>>(),
        answer: |asked| Some(serde_json::to_string(&asked.gate.report().counters)),
    },
];

/// The entries of a server's lists: definitions of MCP, unchanged and unchecked. A reader that
/// shows them to people treats each text in them as that server's.
#[derive(Debug, Serialize, JsonSchema)]
struct UpstreamCatalog {
    upstream: String,
    /// Whether anything is known of its lists.
    known: bool,
    #[schemars(with = "Vec<Map<String, Value>>")]
    tools: Vec<Raw>,
    #[schemars(with = "Vec<Map<String, Value>>")]
    prompts: Vec<Raw>,
    #[schemars(with = "Vec<Map<String, Value>>")]
    resources: Vec<Raw>,
    #[schemars(with = "Vec<Map<String, Value>>")]
    resource_templates: Vec<Raw>,
}

impl UpstreamCatalog {
    /// None where there is no such upstream.
    fn of(asked: &Question<'_>) -> Option<Self> {
        let name = UpstreamName::from(asked.upstream);
        let listing = asked.snapshot.member(&name)?.catalog.listing();
        let all = |kind: ListKind| {
            let items = listing.iter().flat_map(|listing| listing.items(kind));
            items.map(|item| item.said().clone()).collect()
        };
        Some(Self {
            upstream: name.to_string(),
            known: listing.is_some(),
            tools: all(ListKind::Tools),
            prompts: all(ListKind::Prompts),
            resources: all(ListKind::Resources),
            resource_templates: all(ListKind::Templates),
        })
    }
}
