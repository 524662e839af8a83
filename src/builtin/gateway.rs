//! The built-in server `gate`: how an agent sees the gateway that it talks through.

use std::collections::BTreeMap;

use rmcp::{
    ErrorData, RoleServer, ServerHandler, ServiceExt,
    handler::server::{router::tool::ToolRouter, wrapper::Parameters},
    model::{
        CacheScope, CallToolResult, ContentBlock, DiscoverResult, Implementation, ListToolsResult,
        PaginatedRequestParams, ProtocolVersion, ServerCapabilities, ServerConfig,
    },
    service::RequestContext,
    tool, tool_handler, tool_router,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::DuplexStream;

use super::{
    report::{Report, ReportSource, UpstreamReport, UpstreamState},
    status::{GatewayStatus, TroubledUpstream},
    text,
};

/// Names offered where an unknown one was asked for.
const NEAREST_MAX: usize = 3;
/// Time for which this server's lists may be kept: they change with the binary only.
const LISTS_TTL_MS: u64 = 24 * 60 * 60 * 1000;

const INSTRUCTIONS: &str = "Shows the gateway through which you reach your other tools. Ask it \
    when a tool is missing, slow or failing: gateway_status first, then gateway_upstream for the \
    server in question. All of it is read-only.";

/// Serves one connection of newline-delimited messages, in either era, until the other end closes.
/// Safe to drop at any time, which closes it.
pub async fn serve(io: DuplexStream, source: ReportSource) {
    let gate = GatewayServer { source, tool_router: GatewayServer::tool_router() };
    // Boxed: opening it takes 8 KiB, which every mount would carry on.
    match Box::pin(gate.serve(io)).await {
        Ok(running) => {
            let end = running.waiting().await;
            tracing::debug!(?end, "the built-in server has ended");
        }
        Err(error) => tracing::debug!(%error, "the built-in server was not opened"),
    }
}

/// The answer of `gateway_upstreams`.
#[derive(Debug, Serialize)]
struct UpstreamTable {
    upstreams: Vec<UpstreamReport>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct UpstreamsArguments {
    /// Only upstreams in this state. All of them if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "states")]
    state: Option<UpstreamState>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct UpstreamArguments {
    /// The upstream's name, as `gateway_upstreams` lists it.
    name: String,
}

/// The schema of a state: its words, without what each means.
fn states(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": UpstreamState::ALL.map(UpstreamState::word) })
}

struct GatewayServer {
    source: ReportSource,
    /// The router, made once: it holds the schemas.
    tool_router: ToolRouter<Self>,
}

impl GatewayServer {
    /// A report of this moment. Nothing in it names a folder of this machine, since its reader may
    /// be anybody whom the route lets in.
    fn report(&self) -> Report {
        let mut report = (self.source)();
        let clean = |texts: &mut Vec<String>| texts.iter_mut().for_each(without_paths);
        report.counters.retain(|_, count| *count != 0);
        for upstream in &mut report.upstreams {
            upstream.last_words = None;
            upstream.last_error.iter_mut().for_each(without_paths);
            upstream.lists.values_mut().for_each(without_paths);
            upstream.canary.iter_mut().filter_map(|one| one.back.as_mut()).for_each(without_paths);
            for texts in
                [&mut upstream.left_out, &mut upstream.mended, &mut upstream.unusable_schemas]
            {
                clean(texts);
            }
        }
        report
    }
}

/// The tools declare no schema of what they answer: those of all three took 12 KB of every list,
/// and models read the text.
#[tool_router]
impl GatewayServer {
    #[tool(
        description = "Summary of the MCP gateway: version, uptime, upstream servers by state, \
            which are degraded or failed and why, what each route offers, and counters since \
            start. Start here when a tool is missing or failing.",
        annotations(title = "Gateway status", read_only_hint = true, open_world_hint = false)
    )]
    fn gateway_status(&self) -> CallToolResult {
        let report = self.report();
        let mut upstreams = BTreeMap::new();
        for upstream in &report.upstreams {
            *upstreams.entry(upstream.state.word()).or_default() += 1;
        }
        let troubled = report.upstreams.into_iter().filter(|upstream| {
            matches!(
                upstream.state,
                UpstreamState::Degraded | UpstreamState::Tripped | UpstreamState::Failed
            )
        });
        let status = GatewayStatus {
            version: report.version,
            uptime_seconds: report.uptime_seconds,
            upstreams,
            troubled: troubled
                .map(|u| TroubledUpstream {
                    name: u.name,
                    state: u.state,
                    last_error: u.last_error,
                })
                .collect(),
            routes: report.routes,
            counters: report.counters,
        };
        answer(text::status(&status), &status)
    }

    #[tool(
        description = "All upstream servers of the MCP gateway as a table: kind, state, protocol, \
            what each offers, its calls and failures, and its last error. Optionally only those \
            in one state.",
        annotations(title = "Gateway upstreams", read_only_hint = true, open_world_hint = false)
    )]
    fn gateway_upstreams(
        &self,
        Parameters(which): Parameters<UpstreamsArguments>,
    ) -> CallToolResult {
        let mut upstreams = self.report().upstreams;
        upstreams.retain(|upstream| which.state.is_none_or(|state| state == upstream.state));
        let table = UpstreamTable { upstreams };
        answer(text::table(&table.upstreams), &table)
    }

    #[tool(
        description = "One upstream server of the MCP gateway in detail: state, protocol, server \
            version, what it offers and whether that is current, processes, restarts, calls, \
            failures, and its last error.",
        annotations(
            title = "One gateway upstream",
            read_only_hint = true,
            open_world_hint = false
        )
    )]
    fn gateway_upstream(
        &self,
        Parameters(UpstreamArguments { name }): Parameters<UpstreamArguments>,
    ) -> CallToolResult {
        let upstreams = self.report().upstreams;
        match upstreams.iter().find(|upstream| upstream.name == name) {
            Some(upstream) => answer(text::upstream(upstream), upstream),
            None => unknown(&name, upstreams.iter().map(|upstream| upstream.name.as_str())),
        }
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for GatewayServer {
    fn get_info(&self) -> ServerConfig {
        let this = Implementation::new("tollgate-gate", env!("CARGO_PKG_VERSION"));
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(this.with_title("Tollgate itself"))
            .with_instructions(INSTRUCTIONS)
    }

    /// The default has it, but says that it may not be kept.
    async fn discover(
        &self,
        _context: RequestContext<RoleServer>,
    ) -> Result<DiscoverResult, ErrorData> {
        let versions = self.supported_protocol_versions().into_owned();
        Ok(DiscoverResult::from_server_info(versions, self.get_info())
            .with_ttl_ms(LISTS_TTL_MS)
            .with_cache_scope(CacheScope::Public))
    }

    /// The default has it, but says that it may not be kept.
    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let list = ListToolsResult::with_all_items(self.tool_router.list_all());
        let hinted =
            ProtocolVersion::V_2026_07_28 <= context.protocol_version().unwrap_or_default();
        Ok(match hinted {
            true => list.with_ttl_ms(LISTS_TTL_MS).with_cache_scope(CacheScope::Public),
            false => list,
        })
    }
}

fn without_paths(text: &mut String) {
    *text = text::without_paths(text);
}

fn answer(text: String, value: &impl Serialize) -> CallToolResult {
    let value = serde_json::to_value(value).expect("reports have no keys but strings");
    let mut result = CallToolResult::structured(value);
    result.content = vec![ContentBlock::text(text)];
    result
}

/// A failed call that the model can act on, in the form that every failure of the gateway has.
fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> CallToolResult {
    let mut known: Vec<&str> = known.collect();
    known.sort_by_key(|other| strsim::damerau_levenshtein(name, other));
    known.truncate(NEAREST_MAX);
    let message = format!("no upstream is named `{name}`; the nearest are: {}", known.join(", "));
    let mut result = CallToolResult::structured_error(
        json!({ "error": "not_found", "message": message, "retriable": false }),
    );
    result.content = vec![ContentBlock::text(message)];
    result
}
