//! The door for `benches/way.rs`: stages of a call that are private otherwise (feature `bench`).

use std::sync::Arc;

use crate::{
    call::tasks::Tasks,
    catalog::Part,
    config,
    kit::report::Report,
    net::Net,
    telemetry::Counters,
    upstream::{Context, Settings, Upstream, child::Spawner},
};

pub use crate::{
    call::{Client, ListKind},
    catalog::{View, listing::Listing},
    config::Limits,
    ingress::{
        decode::{self, Modern},
        sse::event,
    },
    mcp::{
        head::Named,
        message::{self, Body, Bounds, Incoming, Message, Request},
        meta::{self, Meta},
        method::Method,
        raw::{Raw, check_depth},
        splice,
        version::{Era, Version},
    },
    session::{Sessions, seal::Sealer},
    upstream::sse::Decoder,
};

/// The view of a route with one upstream, which lists this and is never called.
pub fn view(listing: &Listing) -> View {
    let text =
        "[routes.\"/mcp\"]\nupstreams = [\"a\"]\n[upstreams.a]\nurl = \"http://127.0.0.1:9\"\n";
    let config = config::parse("routes.toml", text, &|_| None).expect("valid: it is written above");
    let tasks = Tasks::default();
    let context = Arc::new(Context {
        net: Net::new().expect("the system has certificates"),
        spawner: Spawner::new(None, [], tasks.clone()),
        counters: Arc::default(),
        look: Arc::new(|| Report {
            version: String::new(),
            uptime_seconds: 0,
            routes: Vec::new(),
            upstreams: Vec::new(),
            counters: std::collections::BTreeMap::new(),
        }),
        tasks,
    });
    let parts = config.upstreams.iter().map(|upstream| {
        let settings = Settings { config: upstream.clone(), answer_bytes_max: 0 };
        let upstream = Upstream::new(settings, &context);
        Part { upstream, listing: Some(Arc::new(listing.clone())), filters: Arc::default() }
    });
    let route = config.routes.first().expect("it has one");
    View::build(route, &parts.collect::<Vec<_>>(), false)
}

/// The sessions of a gate with this secret.
pub fn sessions(secret: &[u8]) -> Sessions {
    Sessions::new(secret, Arc::<Counters>::default())
}
