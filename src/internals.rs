//! Single stages for benches, fuzz targets and tests, which are private otherwise (feature
//! `internals`).

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use futures_util::FutureExt as _;

use crate::{
    app::offline::idle,
    audit::{Audit, Begun},
    cache::{Cache, JoinOutcome, Lookup},
    call::tasks::Tasks,
    catalog::{Naming, Part, ledger::Book},
    config::{self, Problems},
    guard::Guards,
    policy::{self, PolicyBounds as Judgement},
    resilience::AttemptOutcome,
    telemetry::Counters,
    upstream::{Settings, Upstream, sse::Decoder},
};

pub use crate::{
    audit::Entry,
    cache::CacheQuery,
    call::{Action, Caller, Client, ListKind, ObjectKind, RoutePath, UpstreamName},
    catalog::{
        EntryBounds, View,
        listing::{Item, Listing},
    },
    config::{Back, Canary, Ejection, Limits},
    guard::{Guard, Schemas, ToolSchemas},
    ingress::{decode, sse::event},
    limit::{
        LimitRefusal, LimitTarget as Wanted, LimitedRequest as Wish, Limits as Rules,
        reference::{ReferenceLimits, script},
    },
    mcp::{
        canonical::canonical,
        digest::request_digest,
        document::CallArguments,
        header,
        index::{Param, ResultMember},
        lenient::{self, Received},
        message::{self, Body, Incoming, Message, MessageBounds, Request},
        meta::{self, Meta},
        method::Method,
        params::Params,
        raw::{Raw, check_depth},
        result::ResultBody,
        splice,
        target::TargetRef,
        uri,
        version::{Era, Version},
    },
    net::http1::whole::read as answer_in_pieces,
    park::state::{Binding, StateContent, States},
    policy::{AccessRequest as Question, Judge, Object, caller},
    resilience::{
        Circuit,
        balance::{self, Load},
        canary::CanaryState,
        ejection::Ejections,
    },
    session::{Sessions, seal::Sealer},
    store::StateFolder,
    telemetry::CallMetrics,
    upstream::{sse::Frame, take_lines},
};

/// The view of the first route of a configuration, each of whose upstreams lists this; none of them
/// is opened.
///
/// # Errors
/// Fails where the configuration is not valid.
pub fn view(config: &Path, listing: &Listing) -> Result<View, Problems> {
    let config = config::load(config, &|_| None)?;
    let store = StateFolder::open(Path::new(".")).expect("the folder that it runs in is there");
    let context = Arc::new(idle(store));
    let parts = config.upstreams.iter().map(|upstream| {
        let settings = Settings { config: upstream.clone(), answer_bytes_max: 0 };
        let upstream = Upstream::new(settings, &context);
        Part { upstream, listing: Some(Arc::new(listing.clone())), filters: Arc::default() }
    });
    let route = config.routes.first().expect("a configuration has a route");
    let parts: Vec<_> = parts.collect();
    let names = Naming::of(route, &parts, &Book::default().route(&route.path), true).into();
    Ok(View::build(route, &parts, &names, false, false))
}

/// The judge of the first route of a configuration.
///
/// # Errors
/// Fails where the configuration or a policy is not valid.
pub fn judge(config: &Path) -> Result<Judge, Problems> {
    let config = config::load(config, &|_| None)?;
    let route = &config.routes.first().expect("a configuration has a route").path;
    let policies = policy::compile(&config)?.of(route).map(Arc::clone);
    Ok(Judge::new(route, policies, Judgement::of(&config.server.limits), &Arc::default()))
}

/// The limits of a configuration.
///
/// # Errors
/// Fails where the configuration is not valid.
pub fn rules(config: &Path) -> Result<Arc<Rules>, Problems> {
    let config = config::load(config, &|_| None)?;
    Ok(Rules::new(Arc::default(), Tasks::default()).next(&config))
}

/// The limits of a text's first upstream.
///
/// # Errors
/// Fails where the text is no valid configuration.
pub fn twin(routes: &str) -> Result<ReferenceLimits, Problems> {
    Ok(ReferenceLimits::new(&config::parse("routes.toml", routes, &|_| None)?))
}

/// Returns what holds for calls of a tool of upstream `a` on the first route of a configuration.
///
/// # Errors
/// Fails where the configuration is not valid.
pub fn guard(config: &Path, tool: &str) -> Result<Guard, Problems> {
    let config = config::load(config, &|_| None)?;
    let route = &config.routes.first().expect("a configuration has a route").path;
    Ok(Guards::new(Arc::default()).next(&config, &policy::compile(&config)?).of(
        route,
        &"a".into(),
        Some(tool),
    ))
}

/// No schemas yet.
pub fn schemas() -> Schemas {
    Schemas::new(&Limits::default(), Arc::default())
}

/// The breakers of the first upstream of a configuration.
///
/// # Errors
/// Fails where the configuration is not valid.
pub fn circuit(config: &Path) -> Result<Circuit, Problems> {
    let config = config::load(config, &|_| None)?;
    let upstream = config.upstreams.first().expect("a configuration has an upstream");
    Ok(Circuit::new(Arc::default()).next(upstream))
}

/// A call of this tool that is let through and answered.
pub fn attempts(circuit: &Circuit, tool: &str) -> bool {
    let attempt = circuit.attempt(Some(tool));
    attempt.is_ok_and(|attempt| {
        attempt.end(AttemptOutcome::Answered, None);
        true
    })
}

/// Whether a request is let in at once.
pub fn admits(rules: &Arc<Rules>, wish: Wish<'_>, wanted: Wanted<'_>) -> bool {
    rules.admit(wish, wanted).now_or_never().is_some_and(|admitted| admitted.is_ok())
}

/// Calls that are recorded, one like the other.
#[derive(Debug)]
pub struct RecordedCalls {
    audit: Arc<Audit>,
    metrics: Arc<CallMetrics>,
    client: Arc<Client>,
    caller: Caller,
    params: Raw,
    answer: Body,
}

impl RecordedCalls {
    /// Opens the log of a configuration that has one.
    ///
    /// # Errors
    /// Where the configuration is not valid.
    pub fn new(
        config: &Path,
        client: Client,
        caller: Caller,
        params: Raw,
    ) -> Result<Self, Problems> {
        let config = config::load(config, &|_| None)?;
        let settings = config.audit.as_ref().expect("a configuration with a log");
        let audit = Audit::open(settings, b"a secret", &Arc::default(), false);
        let audit = audit.expect("a log in a folder of its own");
        let answer = Body::Result(Raw::trusted(r#"{"content":[]}"#).into());
        let metrics = Arc::default();
        let client = Arc::new(client);
        Ok(Self { audit, metrics, client, caller, params, answer })
    }

    /// Records one call from its begin to its answer. Whether its record was handed over.
    pub fn record(&self, upstream: &UpstreamName, route: &RoutePath) -> bool {
        let begun = Begun {
            id: crate::call::CallId::random(),
            caller: &self.caller,
            client: &self.client,
            route,
            metrics: &self.metrics,
            method: Method::ToolsCall,
            name: Some("tool_57"),
            params: &self.params,
            peer: None,
            trace: None,
            traced: std::cell::Cell::default(),
        };
        let Ok(entry) = self.audit.begin(&begun, None) else { return false };
        entry.about(upstream, "tool_57");
        entry.sending();
        entry.heard(|| None);
        entry.answered(&self.answer).is_ok()
    }
}

/// The cache of a configuration in which the answer to a question is.
///
/// # Errors
/// Fails where the configuration is not valid.
pub fn cached(config: &Path, lookup: CacheQuery<'_>, result: &Raw) -> Result<Kept, Problems> {
    let config = config::load(config, &|_| None)?;
    let cache = Cache::new(Arc::default()).next(&config, |_| false);
    if let Lookup::Join(JoinOutcome::Leader(lead), _) = cache.lookup(lookup) {
        let kept = cache.cacheable(lead.subject(), result, Era::Modern).expect("it may be kept");
        lead.complete(kept);
    }
    Ok(Kept(cache))
}

/// A cache with something in it.
#[derive(Debug)]
pub struct Kept(Cache<()>);

impl Kept {
    /// Returns what is served.
    pub fn hit(&self, lookup: CacheQuery<'_>) -> Option<Raw> {
        match self.0.lookup(lookup) {
            Lookup::Hit(kept) => Some(kept.served()),
            Lookup::Bypass | Lookup::Stale(..) | Lookup::Join(..) => None,
        }
    }
}

/// The message of an event that came whole.
pub fn message_of(event: &[u8]) -> Option<Bytes> {
    let mut decoder = Decoder::new(event.len());
    decoder.push(event);
    decoder.next().ok().flatten().map(|frame| frame.data)
}

/// The events of a stream that comes in pieces of this size; none of those after one that is too
/// large.
pub fn events_of(stream: &[u8], piece: usize) -> Vec<Frame> {
    let mut decoder = Decoder::new(stream.len());
    let mut events = Vec::new();
    for piece in stream.chunks(piece) {
        decoder.push(piece);
        while let Ok(Some(event)) = decoder.next() {
            events.push(event);
        }
    }
    events
}

/// The sessions of a gate with this secret.
pub fn sessions(secret: &[u8]) -> Sessions {
    Sessions::new(secret, Arc::<Counters>::default())
}
