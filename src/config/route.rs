//! `[routes."/path"]`: an endpoint that clients use.

use std::{collections::HashSet, net::SocketAddr};

use toml::Spanned;

use crate::call::{RoutePath, UpstreamName};

use super::{
    auth::{Access, Auth, AuthKind, StepUp},
    credential::Credential,
    filter::{Filter, Names, ToolFilter, UnlistedUris},
    guard::Guard,
    limit::{InFlight, Limit, LimitFields, limits},
    pins::PinsFile,
    rules::{Rules, rules},
    toml::{
        problem::{Problem, nearest},
        reader::Reader,
        section::{Field, Fields},
        table::section,
        value::{Count, LocalPath},
    },
    transport::Transport,
    upstream::Upstream,
};

/// Paths the gate itself answers.
const RESERVED: [&str; 4] = ["/livez", "/readyz", "/metrics", "/.well-known"];

section! {
    /// An endpoint clients use: the tools, prompts and resources of some upstreams as one server.
    #[derive(Debug, Clone, PartialEq)]
    Route {
        /// Scopes that a caller needs, all of them.
        scopes: Vec<String>,
        /// How a caller must have logged in.
        step_up: Option<StepUp>,
        /// Whether an upstream's name stands before those of its tools and prompts: where another
        /// upstream has the same name ("auto"), "always", or "never". Names that begin with
        /// `NAME__`, and URIs with `NAME+`, are those of the upstream NAME alone; another's that
        /// begin so have their own upstream's name before them. One upstream alone and "never"
        /// make a route that is that server to clients, with its own name and words.
        names: Names = "auto",
        /// A file of names that each lead to one entry for good, as `tollgate names export` writes
        /// it; a relative path begins beside this file.
        pins as "names_file": PinsFile,
        /// Whether the older HTTP+SSE (2024-11-05) is served besides: at the path and `/sse`.
        // Nothing else works for clients that know only that.
        sse: bool = true,
        /// The tools that are shown, by the names that clients see. `deny` knows one that is
        /// renamed by its earlier names, too.
        tools: ToolFilter,
        /// The prompts that are shown, as tools are.
        prompts: Filter,
        /// The resources that are shown, by the URIs that clients see, as tools are.
        resources: Filter,
        /// Whether a URI may be read that is on no list and under no template: not where a policy
        /// knows resources by name or `resources` has patterns ("refuse"), but for the links that
        /// the same upstream gave this caller; or always ("allow").
        unlisted: UnlistedUris = "refuse",
        /// Entries on one page of a list.
        page_size: Count<1, 100_000> = 1_000,
        /// How many calls may be with the upstreams at once.
        in_flight: Option<InFlight>,
        /// Checks of calls, and detectors that look into them.
        guard: Guard,
    } file {
        /// Names of upstreams in order of precedence; "*" is all the others, as the file has them.
        upstreams: Vec<Spanned<String>>,
        /// Names of `[auth.NAME]` sections, tried in their order; "none" says that everybody may
        /// call. Without it the gate must listen on a loopback address.
        auth: Option<Access>,
        /// Files of Cedar policies, or folders of `*.cedar`, that say who may see and use what; a
        /// relative path begins beside this file. Without it everybody may everything.
        policy: Vec<Spanned<LocalPath>>,
        /// Files of cases, such as "policies/cases.toml": what the policies must say, tried before
        /// they are applied.
        cases: Vec<Spanned<LocalPath>>,
        /// How much may be asked for here: every request counts, lists too, but none that ends
        /// something, and no `ping`.
        limits: Vec<LimitFields>,
    } besides RouteRest {
        /// Begins with `/`.
        path: RoutePath,
        /// Names of authorities in the order in which they are asked; none where it is open.
        auth: Vec<String>,
        /// Whether it is said on purpose that it is open.
        everybody: bool,
        /// The absolute URL that clients know it by: the audience of tokens.
        resource: String,
        /// Names of upstreams in order of precedence; `*` is already replaced by all of them.
        upstreams: Vec<UpstreamName>,
        /// The policies that say who may do what; none: everybody may everything.
        rules: Option<Rules>,
        /// How much may be asked for here. Default none, as for all of these: what is right depends
        /// on who calls.
        limits: Vec<Limit>,
    }
}

/// The rest of the file, as far as a route refers to it.
pub struct Surroundings<'a> {
    pub upstreams: &'a [Upstream],
    pub auth: &'a [Auth],
    /// The address that clients know the gate by, without a slash at its end.
    pub base_url: String,
    pub listen: SocketAddr,
}

/// A route, right if the reader has no problem.
pub fn route(
    path: Spanned<String>,
    mut keys: Fields<Route>,
    file: &Surroundings<'_>,
    reader: &mut Reader<'_>,
) -> Route {
    let at = path.span();
    let path = path.into_inner();
    if let Some((fault, help)) = path_fault(&path) {
        reader.problem(Problem::new(at.clone(), format!("`{path}` {fault}"), help));
    }
    if keys.auth.span.is_none() && !file.listen.ip().is_loopback() {
        let title = format!("everybody who reaches {} can use `{path}`", file.listen);
        let help = "name who says who they are: auth = [\"…\"]; or say that it is meant so: \
                    auth = \"none\"";
        reader.problem(Problem::new(at, title, help));
    }
    check_tokens(&keys, file, reader);
    let upstreams = members(&keys, file, reader);
    let behind = file.upstreams.iter().filter(|upstream| upstreams.contains(&upstream.name));
    let tools = behind.flat_map(|upstream| &upstream.tool_settings);
    let costs = tools.map(|(tool, settings)| (tool.as_str(), settings.cost.min()));
    let max_cost = costs.max_by_key(|(_, cost)| *cost);
    let everybody = matches!(keys.auth.value, Some(Access::Everybody));
    let auth = match keys.auth.value.take() {
        Some(Access::Known(names)) => names,
        Some(Access::Everybody) | None => Vec::new(),
    };
    let rest = RouteRest {
        resource: format!("{}{path}", file.base_url),
        path: path.into(),
        auth,
        everybody,
        upstreams,
        rules: rules(&keys.policy, &keys.cases, reader),
        limits: limits(std::mem::take(&mut keys.limits.value), max_cost, reader),
    };
    Route::new(keys, rest, reader)
}

/// Returns what keeps clients from using `path`, and the remedy.
fn path_fault(path: &str) -> Option<(&'static str, &'static str)> {
    let within = |own: &&str| {
        path.strip_prefix(*own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "/-._~".contains(c);
    if !path.starts_with('/') {
        return Some(("is not a path", "begin it with `/`: [routes.\"/mcp\"]"));
    }
    if RESERVED.iter().any(within) {
        return Some(("is answered by the gate itself", "choose another path, such as \"/mcp\""));
    }
    if !path.chars().all(plain) || path.contains("//") || (path.len() > 1 && path.ends_with('/')) {
        let help = "use letters, digits, `-`, `.`, `_`, `~`, and a single `/` between parts";
        return Some(("can never be asked for", help));
    }
    None
}

/// The names of a route's upstreams, with `*` replaced by all that are not named.
fn members(
    keys: &Fields<Route>,
    file: &Surroundings<'_>,
    reader: &mut Reader<'_>,
) -> Vec<UpstreamName> {
    let list = &keys.upstreams;
    let Some(span) = &list.span else {
        let help = "name its upstreams in order of precedence, or all: upstreams = [\"*\"]";
        reader.problem(Problem::new(keys.at.clone(), "this route has no `upstreams`", help));
        return Vec::new();
    };
    if list.value.is_empty() && !reader.has_problem(span) {
        let help = "name one or more, or all: upstreams = [\"*\"]";
        reader.problem(Problem::new(span.clone(), "this route names no upstream", help));
    }
    let known = || file.upstreams.iter().map(|upstream| upstream.name.as_str());
    let named = check_members(list, &known().collect::<Vec<_>>(), reader);
    let successors: HashSet<_> = file.upstreams.iter().flat_map(successors).collect();
    let is_rest = |name: &&str| !named.contains(name) && !successors.contains(name);
    let expand = |name: &Spanned<String>| match name.get_ref().as_str() {
        "*" => known().filter(is_rest).map(UpstreamName::from).collect(),
        name => vec![name.into()],
    };
    list.value.iter().flat_map(expand).collect()
}

/// The names of a list, each of which must be there, and once.
fn check_members<'l>(
    list: &'l Field<Vec<Spanned<String>>>,
    known: &[&str],
    reader: &mut Reader<'_>,
) -> HashSet<&'l str> {
    let mut named = HashSet::new();
    for name in &list.value {
        let text = name.get_ref().as_str();
        let span = name.span();
        if !named.insert(text) {
            let title = format!("`{text}` is named twice");
            reader.problem(Problem::new(span, title, "remove one: the first has precedence"));
        } else if text == "*" && known.is_empty() {
            let help = "write one: [upstreams.NAME] with `command`, `url` or `builtin = \"gate\"`";
            reader.problem(Problem::new(span, "there is no upstream", help));
        } else if text != "*" && !known.contains(&text) {
            let help = nearest(text, known.iter().copied());
            reader.problem(Problem::new(span, format!("there is no upstream `{text}`"), help));
        }
    }
    named
}

/// The upstreams that another one names as its successors: `*` does not mean them.
fn successors(upstream: &Upstream) -> impl Iterator<Item = &str> {
    let canary = upstream.canary.as_ref().map(|canary| canary.upstream.as_str());
    canary.into_iter().chain(upstream.shadow.as_ref().map(|shadow| shadow.upstream.as_str()))
}

/// Sees that a caller's token goes to one upstream of a route at most, and that callers of a route
/// that leads to one have a token.
fn check_tokens(keys: &Fields<Route>, file: &Surroundings<'_>, reader: &mut Reader<'_>) {
    let named: Vec<_> = keys.upstreams.value.iter().map(|name| name.get_ref().as_str()).collect();
    let is_all = named.contains(&"*");
    let is_behind = |upstream: &&Upstream| is_all || named.contains(&upstream.name.as_str());
    let behind: Vec<_> = file.upstreams.iter().filter(is_behind).collect();
    let passing: Vec<_> = behind.iter().filter(|one| passes_token(one)).collect();
    if let [first, second, ..] = passing[..] {
        let first = &first.name;
        let second = &second.name;
        let title = format!("the caller's token would go to both `{first}` and `{second}`");
        let help = "a token is for one server: use kind = \"token_exchange\", or two routes";
        reader.problem(Problem::new(keys.at.clone(), title, help));
    }
    let exchanging = || behind.iter().find(|upstream| exchanges_token(upstream));
    let Some(needs) = passing.first().copied().or_else(exchanging) else { return };
    // Problems of the name or the kind are reported elsewhere.
    let has_tokens = |name: &String| {
        let kind = file.auth.iter().find(|auth| auth.name == *name).map(|auth| &auth.kind);
        kind.is_none_or(|kind| matches!(kind, AuthKind::Jwt(_) | AuthKind::Opaque(_)))
    };
    let have_tokens = match &keys.auth.value {
        Some(Access::Known(names)) => names.iter().all(has_tokens),
        Some(Access::Everybody) | None => false,
    };
    if !have_tokens {
        let needs = &needs.name;
        let title = format!("`{needs}` needs its callers' tokens, and not all of them have one");
        let help = "name only authorities of kind \"jwt\" or \"introspection\" in `auth`";
        reader.problem(Problem::new(keys.at.clone(), title, help));
    }
}

fn passes_token(upstream: &Upstream) -> bool {
    credential(upstream) == Some(&Credential::Pass)
}

fn exchanges_token(upstream: &Upstream) -> bool {
    matches!(credential(upstream), Some(Credential::Exchange(_)))
}

fn credential(upstream: &Upstream) -> Option<&Credential> {
    match &upstream.transport {
        Transport::Http { credential, .. } => credential.as_ref(),
        Transport::Stdio { .. } | Transport::Builtin { .. } => None,
    }
}
