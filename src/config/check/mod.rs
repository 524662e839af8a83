//! From the sections of the file to a [`Config`]: what only several keys together can tell.

mod auth;
mod credential;
pub mod transport;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::SocketAddr,
    ops::Range,
    path::Path,
};

use toml::Spanned;

use super::{
    Config, Filter, Limits, Restart, Route, Server, Timeout, Tls, Upstream,
    access::Access,
    cache,
    limit::{self, Dearest},
    problem::{Problem, nearest},
    reader::Reader,
    rules, schema, store,
    value::{Apart, Key},
};

/// Characters of an upstream's name; with `__` and a tool's name it must fit a client's 64.
pub const NAME_CHARS_MAX: usize = 32;

/// Characters of a tool's name that every client takes.
const TOOL_CHARS_MAX: usize = 64;

/// Bytes that a session key has at least: those of the cipher's own key.
const SESSION_KEY_BYTES_MIN: usize = 32;

/// Paths the gate itself answers.
const RESERVED: [&str; 4] = ["/livez", "/readyz", "/metrics", "/.well-known"];

const NO_ROUTE: &str = "say what clients see, for example:

[routes.\"/mcp\"]
upstreams = [\"*\"]";

/// The names of all upstreams, each with its dearest tool, which has a cost.
type Behind = Vec<(String, Option<(String, u32)>)>;

/// The configuration, right if the reader has no problem. Relative paths begin at `folder`.
pub fn config(file: schema::File, folder: &Path, reader: &mut Reader<'_>) -> Config {
    let behind: Behind = file
        .upstreams
        .value
        .0
        .iter()
        .map(|(name, one)| {
            let dearest = limit::dearest(&one.get_ref().value);
            (name.get_ref().clone(), dearest.map(|(tool, cost)| (tool.to_owned(), cost)))
        })
        .collect();
    let wrong = file.routes.span.as_ref().is_some_and(|span| reader.faults(span));
    if file.routes.value.0.is_empty() && !wrong {
        reader.problem(Problem::of_file("there is no route", NO_ROUTE));
    }
    let routes = file.routes.value.0.into_iter();
    let upstreams = file.upstreams.value.0.into_iter();
    let base = base_url(&file.server.value);
    let listen = file.server.value.listen.value;
    let auth = file.auth.value.0.iter().map(|(name, _)| name.get_ref().clone());
    let auth: Vec<_> = auth.collect();
    let reached = file.server.value.public_url.value.is_some() || !listen.ip().is_unspecified();
    auth::refuse_nowhere(&file.auth.value, reached, reader);
    let known = Known { upstreams: &behind, auth: &auth, base: &base, listen };
    Config {
        server: server(file.server.value, folder, reader),
        routes: routes
            .map(|(path, section)| route(path, section, &known, folder, reader))
            .collect(),
        auth: auth::all(file.auth.value, reader),
        cache: cache::cache(file.cache.value, reader),
        limit_store: store::limit_store(file.limit, reader),
        upstreams: upstreams.map(|(name, one)| upstream(name, one, folder, reader)).collect(),
    }
}

fn server(server: schema::Server, folder: &Path, reader: &mut Reader<'_>) -> Server {
    let key = server.session_key.value.map(|key| {
        let (span, key) = (key.span(), key.into_inner().0);
        if key.expose().len() < SESSION_KEY_BYTES_MIN {
            let title = format!("the session key has {} bytes", key.expose().len());
            let help = format!("give it {SESSION_KEY_BYTES_MIN} or more, of random");
            reader.problem(Problem::new(span, title, help));
        }
        key
    });
    let public = server.public_url.value.and_then(|url| url.0.parse::<http::Uri>().ok());
    let mut hosts = server.hosts.value;
    hosts.extend(public.and_then(|url| url.host().map(str::to_owned)));
    Server {
        listen: server.listen.value,
        admin: server.admin.value,
        tls: server.tls.value.and_then(|pair| tls(pair, folder, reader)),
        hosts,
        origins: server.origins.value,
        state: folder.join(server.state.value),
        session_key: key,
        limits: limits(&server.limits.value),
    }
}

fn tls(pair: Spanned<schema::Tls>, folder: &Path, reader: &mut Reader<'_>) -> Option<Tls> {
    let span = pair.span();
    let schema::Tls { certificate, key } = pair.into_inner();
    for (given, name) in [(&certificate.span, "certificate"), (&key.span, "key")] {
        if given.is_none() {
            let help = "TLS needs both: tls = { certificate = \"cert.pem\", key = \"key.pem\" }";
            reader.problem(Problem::new(span.clone(), format!("`{name}` is missing"), help));
        }
    }
    Some(Tls { certificate: folder.join(certificate.value?), key: folder.join(key.value?) })
}

fn limits(limits: &schema::Limits) -> Limits {
    Limits {
        body_bytes_max: limits.body_bytes_max.value.0,
        depth_max: limits.depth_max.value.0,
        batch_max: limits.batch_max.value.0,
        answer_bytes_max: limits.answer_bytes_max.value.0,
        list_items_max: limits.list_items_max.value.0,
        sessions_max: limits.sessions_max.value.0,
        session_idle: limits.session_idle.value.0,
        session_age: limits.session_age.value.0,
        connections_max: limits.connections_max.value.0,
        request_timeout: limits.request_timeout.value.0,
        requests_max: limits.requests_max.value.0,
        streams_max: limits.streams_max.value.0,
        subscriptions_max: limits.subscriptions_max.value.0,
        channel_calls_max: limits.channel_calls_max.value.0,
        outbox_bytes_max: limits.outbox_bytes_max.value.0,
        answer_timeout: limits.answer_timeout.value.0,
        stream_age: Some(limits.stream_age.value.0).filter(|age| !age.is_zero()),
        question_window: limits.question_window.value.0,
        questions_max: limits.questions_max.value.0,
        rounds_max: limits.rounds_max.value.0,
        parked_max: limits.parked_max.value.0,
        parked_per_caller_max: limits.parked_per_caller_max.value.0,
        task_after: limits.task_after.value.0,
        task_ttl: limits.task_ttl.value.0,
        tasks_max: limits.tasks_max.value.0,
        tasks_per_caller_max: limits.tasks_per_caller_max.value.0,
        task_bytes_max: limits.task_bytes_max.value.0,
        grants_max: limits.grants_max.value.0,
        decisions_max: limits.decisions_max.value.0,
        judged_text_max: limits.judged_text_max.value.0,
        judged_items_max: limits.judged_items_max.value.0,
        keep_alive: limits.keep_alive.value.0,
        limit_keys_max: limits.limit_keys_max.value.0,
        settle: limits.settle.value.0,
        drain: limits.drain.value.0,
    }
}

/// What clients know the gate by, without a slash at its end.
fn base_url(server: &schema::Server) -> String {
    let scheme = if server.tls.value.is_some() { "https" } else { "http" };
    let own = || format!("{scheme}://{}", server.listen.value);
    let url = server.public_url.value.as_ref().map_or_else(own, |url| url.0.clone());
    url.trim_end_matches('/').to_owned()
}

/// What a route may name, and where it is reached.
struct Known<'a> {
    upstreams: &'a Behind,
    auth: &'a [String],
    base: &'a str,
    listen: SocketAddr,
}

fn route(
    path: Spanned<String>,
    section: Spanned<schema::Route>,
    known: &Known<'_>,
    folder: &Path,
    reader: &mut Reader<'_>,
) -> Route {
    let at = path.span();
    let path = path.into_inner();
    if let Some((fault, help)) = path_fault(&path) {
        reader.problem(Problem::new(at.clone(), format!("`{path}` {fault}"), help));
    }
    let section = section.into_inner();
    if section.auth.span.is_none() && !known.listen.ip().is_loopback() {
        let title = format!("everybody who reaches {} can use `{path}`", known.listen);
        let help = "name who says who they are: auth = [\"…\"]; or say that it is meant so: \
                    auth = \"none\"";
        reader.problem(Problem::new(at.clone(), title, help));
    }
    let names: Vec<_> = known.upstreams.iter().map(|(name, _)| name.clone()).collect();
    let upstreams = members(section.upstreams, &at, &names, reader);
    let access = section.auth.value.map(Spanned::into_inner);
    let behind = known.upstreams.iter().filter(|(name, _)| upstreams.contains(name));
    let dearest = behind.filter_map(|(_, dearest)| dearest.as_ref());
    let dearest: Dearest<'_> =
        dearest.map(|(tool, cost)| (tool.as_str(), *cost)).max_by_key(|(_, cost)| *cost);
    Route {
        resource: format!("{}{path}", known.base),
        path,
        everybody: matches!(access, Some(Access::Everybody)),
        auth: auth::named(access, known.auth, section.auth.span.as_ref(), reader),
        scopes: section.scopes.value,
        upstreams,
        rules: rules::rules(section.policy, section.cases, folder, reader),
        names: section.names.value,
        sse: section.sse.value,
        tools: tools(section.tools.value, reader),
        prompts: filter(section.prompts.value, reader),
        resources: filter(section.resources.value, reader),
        page_size: section.page_size.value.0,
        limits: limit::limits(section.limits.value, dearest, reader),
        in_flight: limit::in_flight(section.in_flight.value, reader),
    }
}

/// What keeps clients from using `path`, and the remedy.
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
    list: Key<Vec<Spanned<String>>>,
    route: &Range<usize>,
    known: &[String],
    reader: &mut Reader<'_>,
) -> Vec<String> {
    let Some(span) = list.span else {
        let help = "name its upstreams in order of precedence, or all: upstreams = [\"*\"]";
        reader.problem(Problem::new(route.clone(), "this route has no `upstreams`", help));
        return Vec::new();
    };
    if list.value.is_empty() && !reader.faults(&span) {
        let help = "name one or more, or all: upstreams = [\"*\"]";
        reader.problem(Problem::new(span, "this route names no upstream", help));
    }
    let mut named = HashSet::new();
    for name in &list.value {
        let (text, span) = (name.get_ref().as_str(), name.span());
        if !named.insert(text) {
            let title = format!("`{text}` is named twice");
            reader.problem(Problem::new(span, title, "remove one: the first has precedence"));
        } else if text == "*" && known.is_empty() {
            let help = "write one: [upstreams.NAME] with `command`, `url` or `builtin = \"gate\"`";
            reader.problem(Problem::new(span, "there is no upstream", help));
        } else if text != "*" && !known.iter().any(|other| other == text) {
            let help = nearest(text, known.iter().map(String::as_str));
            reader.problem(Problem::new(span, format!("there is no upstream `{text}`"), help));
        }
    }
    let rest = |_: &str| known.iter().filter(|name| !named.contains(name.as_str())).cloned();
    let expand = |name: &Spanned<String>| match name.get_ref().as_str() {
        "*" => rest("*").collect(),
        name => vec![name.to_owned()],
    };
    list.value.iter().flat_map(expand).collect()
}

fn tools(section: schema::Filter, reader: &mut Reader<'_>) -> Filter {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    for (_, to) in &section.rename.value.0 {
        let name = to.get_ref();
        if TOOL_CHARS_MAX < name.chars().count() || !name.chars().all(fits) {
            let title = format!("`{name}` is not a name for a tool");
            let help = format!("use at most {TOOL_CHARS_MAX} of A-Z, a-z, 0-9, `_`, `-` and `.`");
            reader.problem(Problem::new(to.span(), title, help));
        }
    }
    filter(section, reader)
}

fn filter(section: schema::Filter, reader: &mut Reader<'_>) -> Filter {
    let mut rename = BTreeMap::new();
    let mut taken = HashMap::new();
    for (from, to) in section.rename.value.0 {
        let (span, from, to) = (to.span(), from.into_inner(), to.into_inner());
        if to.is_empty() {
            let help = "write a name, or use `deny` or `hide` to leave it out";
            reader.problem(Problem::new(span, "a name is empty", help));
        } else if let Some(other) = taken.insert(to.clone(), from.clone()) {
            let title = format!("`{to}` is already the new name of `{other}`");
            reader.problem(Problem::new(span, title, "choose two different names"));
        }
        rename.insert(from, to);
    }
    Filter {
        allow: section.allow.value,
        deny: section.deny.value,
        hide: section.hide.value,
        rename,
    }
}

fn upstream(
    name: Spanned<String>,
    section: Spanned<Apart<schema::Upstream>>,
    folder: &Path,
    reader: &mut Reader<'_>,
) -> Upstream {
    let at = name.span();
    let name = name.into_inner();
    if !is_name(&name) {
        let title = format!("`{name}` is not a name for an upstream");
        let help = format!("use 1 to {NAME_CHARS_MAX} of a-z, 0-9, `_` and `-`");
        reader.problem(Problem::new(at.clone(), title, help));
    }
    let Apart { value: mut section, mut absent } = section.into_inner();
    let (transport, unfit) =
        reader.apart(|reader| transport::read(&mut section, &at, folder, reader));
    absent.extend(unfit);
    let limits = std::mem::take(&mut section.limits.value);
    let limits = limit::limits(limits, limit::dearest(&section), reader);
    Upstream {
        name,
        transport,
        start: section.start.value,
        isolation: section.isolation.value,
        timeout: timeout(&section.timeout, reader),
        restart: restart(&section.restart, reader),
        processes_max: section.processes_max.value.0,
        sessions_max: section.sessions_max.value.0,
        idle: section.idle.value.0,
        refresh: section.refresh.value.0,
        tools: tools(section.tools.value.filter, reader),
        prompts: filter(section.prompts.value, reader),
        resources: filter(section.resources.value, reader),
        limits,
        in_flight: limit::in_flight(section.in_flight.value, reader),
        tool_settings: limit::tools(section.tools.value.each, reader),
        tags: rules::tags(section.tags.value),
        problem: (!absent.is_empty())
            .then(|| absent.iter().map(Problem::line).collect::<Vec<_>>().join("; ")),
    }
}

/// Whether an upstream may be called so.
fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
    (1..=NAME_CHARS_MAX).contains(&name.len()) && name.chars().all(fits)
}

fn timeout(section: &Key<schema::Timeout>, reader: &mut Reader<'_>) -> Timeout {
    let schema::Timeout { open, idle, total } = &section.value;
    if let Some(span) = idle.span.as_ref().or(total.span.as_ref())
        && total.value.0 < idle.value.0
    {
        let title = format!("`idle` is {}, but `total` is {}", idle.value, total.value);
        let help = "make `idle` shorter than `total`, or `total` longer";
        reader.problem(Problem::new(span.clone(), title, help));
    }
    Timeout { open: open.value.0, idle: idle.value.0, total: total.value.0 }
}

fn restart(section: &Key<schema::Restart>, reader: &mut Reader<'_>) -> Restart {
    let schema::Restart { delay, delay_max } = &section.value;
    if let Some(span) = delay.span.as_ref().or(delay_max.span.as_ref())
        && delay_max.value.0 < delay.value.0
    {
        let title = format!("`delay` is {}, but `delay_max` is {}", delay.value, delay_max.value);
        let help = "make `delay` shorter than `delay_max`, or `delay_max` longer";
        reader.problem(Problem::new(span.clone(), title, help));
    }
    Restart { delay: delay.value.0, delay_max: delay_max.value.0 }
}
