//! `[upstreams.NAME]`: a server behind the gate.

use std::collections::BTreeMap;

use schemars::{Schema, SchemaGenerator};
use toml::Spanned;

use crate::{call::UpstreamName, mcp::version::Era};

use super::{
    credential::Credential,
    filter::Filter,
    guard::Guard,
    limit::{InFlight, Limit, LimitFields, limits},
    replicas::{Canary, Ejection, Health, Hedge, Replicas, Shadow, Urls},
    resilience::{Breaker, BreakerOrOff, Restart, Retry, Timeout},
    section_name::{NAME_CHARS_MAX, is_section_name},
    toml::{
        problem::Problem,
        reader::{Node, Reader},
        section::{DAY, Fields, GIB, KIB, MIB, SECOND, check_kind},
        table::section,
        value::{
            BoundedDuration, Count, EraOrAuto, FromToml, LocalPath, Size, Table, WithUnavailable,
            table, words,
        },
    },
    tool::{Tool, Tools},
    transport::{
        Builtin, Certificates, Dial, EnvironmentTable, Headers, HttpTransport, PrivateKey,
        ProgramName, Proxy, TlsIdentity, Transport, forwarded,
    },
};

section! {
    /// A server behind the gate: exactly one of `command`, `url` and `builtin`. `command`, `args`,
    /// `env`, `cwd`, `url` and `headers` are those of an entry of `mcpServers`.
    #[derive(Debug, Clone, PartialEq)]
    Upstream {
        /// The protocol that it is spoken to in: up to 2025-11-25, which begins with `initialize`
        /// ("legacy"); 2026-07-28 ("modern"); or whichever it turns out to speak ("auto"): it is
        /// asked `server/discover` first, and what came of that is remembered in `state`.
        era of command | url: EraOrAuto = "auto",
        /// Opened with the gate ("eager"), or by the first call ("lazy").
        start: Start = "eager",
        /// The clients that share a process: all clients but those that declare sampling,
        /// elicitation or roots, each of whose calls has one of its session's for itself ("auto");
        /// all ("shared"); or none: one per client session ("session"). Clients of 2026-07-28 have
        /// no session: where their calls need one for themselves, or with "session", they share,
        /// one at a time, the processes of one caller (without authentication: of one address), but
        /// none that asked for roots. Over HTTP each session of a legacy client has one of its own;
        /// clients of 2026-07-28 share one where caller, forwarded headers, token and capabilities
        /// are the same, or, with "shared", the gateway's own, but none where the server is shown
        /// such headers or a token.
        isolation of command | url: Isolation = "auto",
        /// How long it may take.
        timeout: Timeout,
        /// When it is opened again after it was lost.
        restart: Restart,
        /// Processes of it, the shared one included.
        processes_max of command: Count<1, 1_000> = 8,
        /// Memory of one process and its descendants, looked at once a second; with more they are
        /// ended together, and started again.
        // Browsers and models need gigabytes.
        memory of command: Option<Size<MIB, { 1024 * GIB }, u64>>,
        /// Names of variables of the gate's own environment that a process inherits besides those
        /// that every one does, such as `HTTPS_PROXY`: one whose URL holds a password is withheld
        /// unless it is named here.
        inherit of command: Vec<String>,
        /// Sessions of an HTTP server that are leased to calls of clients without a session.
        sessions_max of url: Count<1, 1_000_000> = 1_000,
        /// Sessions of an HTTP server that are held for sessions of legacy clients; those that were
        /// used least of late make room, and the next call opens another one.
        // As many as the gate holds of those.
        client_sessions_max of url: Count<1, 10_000_000> = 10_000,
        /// How long the stream (GET) of such a session stays open after its last call, while its
        /// client does not listen itself.
        // What a server says of a call, it says within that.
        listen_after of url: BoundedDuration<0, { 30 * DAY }> = "10s",
        /// Streams that stay open so; the first one makes room.
        // A tenth of the descriptors that a process usually has.
        listens_max of url: Count<1, 1_000_000> = 100,
        /// Sessions of a legacy server over HTTP that are held for callers whose clients have no
        /// session; the one that was used least of late makes room, but none with a call under
        /// way.
        // Most callers are gone again within a minute, and servers keep memory for each session.
        caller_sessions_max of url: Count<1, 1_000_000> = 64,
        /// Such a session that nobody used for this long is closed.
        // The next call opens another one, in two round trips.
        caller_sessions_idle of url: BoundedDuration<SECOND, { 30 * DAY }> = "1m",
        /// A process or an upstream session that nobody used for this long is closed.
        idle: BoundedDuration<SECOND, { 30 * DAY }> = "10m",
        /// How often its lists are read anew without a sign of change.
        refresh: BoundedDuration<SECOND, { 30 * DAY }> = "5m",
        /// The prompts of it that exist for every route, by its own names.
        prompts: Filter,
        /// The resources of it that exist for every route, by their URIs.
        resources: Filter,
        /// How many calls may be with it at once.
        in_flight: Option<InFlight>,
        /// Checks of calls, and detectors that look into them, besides what the route says.
        guard: Guard,
        /// When calls are refused, because those before them failed.
        breaker: BreakerOrOff = (Some(Breaker::default())),
        /// How often a request is sent again, where that is safe; without it once.
        retry: Option<Retry>,
        /// The names by which policies may call a group of its things: for each tag patterns of its
        /// own names.
        tags: Tags,
        /// When a call is sent to a second replica; for tools that are safe to call twice.
        // That doubles the load of a server that is slow because of its load.
        hedge of url: Option<Hedge>,
        /// A successor that gets some callers' calls.
        canary: Option<Canary>,
        /// A successor whose answers are only compared.
        shadow: Option<Shadow>,
    } with {
        /// The bounds on what is written to a process and read of it.
        pipe: Pipe,
    } file {
        /// The program to start, which speaks MCP over its standard input and output.
        command of command: Option<ProgramName>,
        /// Its arguments.
        args of command: Vec<String>,
        /// Its environment variables: a text, or `env:NAME`, `file:PATH` or `vault:PATH#FIELD`
        /// where that is kept; `text:…` for a text that begins so by itself.
        env of command: EnvironmentTable,
        /// The folder it starts in; a relative path begins beside the file.
        cwd of command: Option<LocalPath>,
        /// The address of a server that speaks MCP over HTTP; of several replicas of one server, an
        /// array of all addresses.
        url of url: Option<Urls>,
        /// The transport that is spoken there: Streamable HTTP ("http"), HTTP+SSE of 2024-11-05
        /// ("sse"), or whichever of them it turns out to be ("auto").
        transport of url: HttpTransport = "auto",
        /// HTTP headers sent to it: as `env`, a text or where that is kept.
        headers of url: Headers,
        /// The credential that it is shown in `Authorization`.
        credential of url: Option<Credential>,
        /// Headers of a client's request that are sent on to it, by their names.
        forward_headers of url: Vec<Spanned<String>>,
        /// Whether HTTP/2 is spoken to it without TLS.
        h2c of url: bool = false,
        /// PEM file of the certificates that its own is held to, in place of the system's.
        ca of url: Option<Certificates>,
        /// PEM file of the certificate that it is shown (mutual TLS), and those that lead to its
        /// root.
        client_certificate of url: Option<Certificates>,
        /// PEM file of the private key of that.
        client_key of url: Option<PrivateKey>,
        /// The proxy through which it is reached, such as `http://proxy.example.com:3128`, or
        /// "none": a text, or `env:NAME`, `file:PATH` or `vault:PATH#FIELD` where it is kept.
        /// Without it the variables `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` say so.
        proxy of url: Option<Proxy>,
        /// A server built into Tollgate.
        builtin of builtin: Option<Builtin>,
        /// The tools of it that exist for every route, by its own names; and, as a section of its
        /// name, what holds for one tool: `[upstreams.NAME.tools.TOOL]`.
        tools: Tools,
        /// How much may be asked of it, through all routes: every call, read and so on counts.
        limits: Vec<LimitFields>,
        /// How each of several replicas is probed; without it calls alone show what fails.
        health of url: Option<Health>,
        /// When one of several replicas gets no calls for a while.
        ejection of url: Ejection,
    } besides UpstreamRest {
        /// `[a-z0-9_-]`, at most 32 characters.
        name: UpstreamName,
        /// How it is reached.
        transport: Transport,
        /// The tools that exist, by the upstream's own names, before any route's filter.
        tools: Filter,
        /// The settings of single tools, by their own names.
        tool_settings: BTreeMap<String, Tool>,
        /// How much may be asked of it.
        limits: Vec<Limit>,
        /// The settings of its replicas.
        replicas: Replicas,
        /// Why this upstream cannot be opened although the file is right: a variable that is not
        /// set, for example.
        problem: Option<String>,
        /// Whether that is the environment's only, such as a variable that is not set.
        lacks_variables_only: bool,
    }
}

section! {
    /// Bounds of what goes to a process (stdio), and of noise that comes from any server.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    Pipe {
        /// Bytes that wait to be written to one process; whoever has more waits too.
        // Four messages of the largest size that clients may send.
        queue_bytes_max of command: Size<KIB, GIB> = "16MiB",
        /// A process that reads nothing of its input for this long, while something waits, is
        /// ended.
        write_timeout of command: BoundedDuration<10, DAY> = "30s",
        /// Bytes that a process, or one stream of a server over HTTP, may send within a minute that
        /// are no message (each line counts as 128 at least); with more it is ended.
        // Thousands of lines a second.
        noise_bytes_max: Size<KIB, GIB> = "16MiB",
    }
}

words! {
    /// When an upstream is opened.
    #[derive(Default)]
    Start {
        #[default]
        Eager = "eager",
        /// Opened by the first call.
        Lazy = "lazy",
    }
}

words! {
    /// The clients that share a process or an upstream session.
    #[derive(Default)]
    Isolation {
        /// All share one; a client that declares sampling, elicitation or roots gets one from a
        /// pool.
        #[default]
        Auto = "auto",
        Shared = "shared",
        /// Each client session has one.
        Session = "session",
    }
}

/// Patterns of names, by tag.
#[derive(Debug)]
pub struct Tags;

impl FromToml for Tags {
    type Value = BTreeMap<String, Vec<String>>;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value> {
        let tags = Table::<Vec<String>>::read(node, reader)?.into_iter();
        Some(tags.map(|(tag, patterns)| (tag.into_inner(), patterns)).collect())
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        Table::<Vec<String>>::schema(generator)
    }
}

/// The sections of upstreams.
#[derive(Debug)]
pub struct Upstreams;

/// A section of an upstream, and what it refers to that is not there.
type Section = WithUnavailable<Fields<Upstream>>;

impl FromToml for Upstreams {
    type Value = Vec<Upstream>;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Vec<Upstream>> {
        let mut upstreams = Vec::new();
        for (key, value) in table(node, reader)? {
            reader.set_heading(key.span());
            reader.set_upstream(key.get_ref());
            if let Some(section) = Section::read(value, reader) {
                let name = Spanned::new(key.span(), key.get_ref().clone().into_owned());
                upstreams.push(reader.judge(|reader| upstream(name, section, reader)));
            }
        }
        reader.set_upstream("");
        Some(upstreams)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        Table::<Section>::schema(generator)
    }
}

fn upstream(name: Spanned<String>, section: Section, reader: &mut Reader<'_>) -> Upstream {
    let at = name.span();
    let name = name.into_inner();
    if !is_section_name(&name) {
        let title = format!("`{name}` is not a name for an upstream");
        let help = format!("use 1 to {NAME_CHARS_MAX} of a-z, 0-9, `_` and `-`");
        reader.problem(Problem::new(at, title, help));
    }
    let WithUnavailable { value: mut keys, unavailable } = section;
    let urls = keys.url.value.take().unwrap_or_default();
    let transport = transport(&mut keys, &urls, reader);
    let max_cost = keys.tools.value.max_cost();
    let limits = limits(std::mem::take(&mut keys.limits.value), max_cost, reader);
    let replicas = replicas(&keys, urls, reader);
    let (tools, tool_settings) = std::mem::take(&mut keys.tools.value).finish(reader);
    let problem = unavailable.iter().map(Problem::line).collect::<Vec<_>>().join("; ");
    let problem = Some(problem).filter(|_| !unavailable.is_empty());
    let lacks_variables_only =
        problem.is_some() && unavailable.iter().all(Problem::is_of_environment);
    let rest = UpstreamRest {
        name: name.into(),
        transport,
        tools,
        tool_settings,
        limits,
        replicas,
        problem,
        lacks_variables_only,
    };
    Upstream::new(keys, rest, reader)
}

/// How an upstream is reached: the one of three keys that is there says it.
fn transport(keys: &mut Fields<Upstream>, urls: &[String], reader: &mut Reader<'_>) -> Transport {
    let tags = [
        ("command", keys.command.span.clone()),
        ("url", keys.url.span.clone()),
        ("builtin", keys.builtin.span.clone()),
    ];
    let mut given = tags.into_iter().filter_map(|(name, span)| Some((name, span?)));
    let Some((kind, _)) = given.next() else {
        let help = "say what it is with one of `command`, `url` and `builtin = \"gate\"`";
        reader.problem(Problem::new(keys.at.clone(), "this upstream is nothing yet", help));
        return Transport::Builtin { server: String::new() };
    };
    for (other, span) in given {
        let help = format!("keep one of them, or make two upstreams of `{kind}` and `{other}`");
        reader.problem(Problem::new(span, format!("`{other}` besides `{kind}`"), help));
    }
    check_kind(keys, "an upstream", kind, reader);
    match kind {
        "command" => Transport::Stdio {
            command: keys.command.value.take().unwrap_or_default(),
            args: std::mem::take(&mut keys.args.value),
            env: std::mem::take(&mut keys.env.value),
            cwd: keys.cwd.value.take(),
        },
        "url" => over_http(keys, urls, reader),
        _ => Transport::Builtin { server: keys.builtin.value.take().unwrap_or_default() },
    }
}

fn over_http(keys: &mut Fields<Upstream>, urls: &[String], reader: &mut Reader<'_>) -> Transport {
    check_http(keys, urls, reader);
    let headers = std::mem::take(&mut keys.headers.value);
    let forward = std::mem::take(&mut keys.forward_headers.value);
    let forward_headers = forwarded(forward, &headers, reader);
    let certificate = keys.client_certificate.value.take();
    let identity = certificate.zip(keys.client_key.value.take());
    Transport::Http {
        // The first; `replicas` has all, where there are several.
        url: urls.first().cloned().unwrap_or_default(),
        headers,
        h2c: keys.h2c.value,
        http: keys.transport.value,
        credential: keys.credential.value.take(),
        forward_headers,
        dial: Dial {
            ca: keys.ca.value.take(),
            identity: identity.map(|(certificate, key)| TlsIdentity { certificate, key }),
            proxy: keys.proxy.value.take(),
        },
    }
}

/// Refuses keys that contradict each other.
fn check_http(keys: &Fields<Upstream>, urls: &[String], reader: &mut Reader<'_>) {
    let is_tls = urls.iter().any(|url| url.starts_with("https:"));
    if let Some(span) = keys.h2c.span.as_ref().filter(|_| keys.h2c.value && is_tls) {
        let help = "remove it: over TLS, HTTP/2 is agreed by itself";
        reader.problem(Problem::new(span.clone(), "`h2c` is for http: URLs only", help));
    }
    // With the caller's token passed on, the header is what the gate's own requests have.
    let besides = keys.credential.value.as_ref().filter(|own| **own != Credential::Pass);
    if let (Some(_), Some(span), true) =
        (besides, &keys.credential.span, keys.headers.value.contains_key("authorization"))
    {
        let title = "`credential` besides a header `Authorization`";
        reader.problem(Problem::new(span.clone(), title, "keep one of them"));
    }
    let is_sse = keys.transport.value == HttpTransport::Sse;
    if let Some(span) = keys.forward_headers.span.as_ref().filter(|_| is_sse) {
        let title = "nothing is sent on over HTTP+SSE: its messages have no headers of a request";
        reader.problem(Problem::new(span.clone(), title, "remove `forward_headers`"));
    }
    let is_modern = keys.era.value == Some(Era::Modern);
    if let Some(span) = keys.era.span.as_ref().filter(|_| is_sse && is_modern) {
        let title = "2026-07-28 is not spoken over HTTP+SSE";
        reader.problem(Problem::new(span.clone(), title, "remove `era`, or `transport`"));
    }
    let alone = match (&keys.client_certificate.span, &keys.client_key.span) {
        (Some(span), None) => Some((span, "client_key")),
        (None, Some(span)) => Some((span, "client_certificate")),
        (Some(_), Some(_)) | (None, None) => None,
    };
    if let Some((span, missing)) = alone {
        let help = "both are needed: client_certificate = \"cert.pem\", client_key = \"key.pem\"";
        reader.problem(Problem::new(span.clone(), format!("`{missing}` is missing"), help));
    }
}

/// Reads the settings of several addresses; of a single one they would mean nothing.
fn replicas(keys: &Fields<Upstream>, urls: Vec<String>, reader: &mut Reader<'_>) -> Replicas {
    let several = [
        ("health", &keys.health.span),
        ("ejection", &keys.ejection.span),
        ("hedge", &keys.hedge.span),
    ];
    for (key, span) in several.into_iter().filter(|_| urls.len() == 1) {
        if let Some(span) = span {
            let title = format!("`{key}` means nothing for a single server");
            let help = "name its replicas: url = [\"http://a/mcp\", \"http://b/mcp\"]";
            reader.problem(Problem::new(span.clone(), title, help));
        }
    }
    let urls = Some(urls).filter(|urls| 1 < urls.len()).unwrap_or_default();
    Replicas { urls, health: keys.health.value, ejection: keys.ejection.value }
}
