//! A route as the last good catalogs on disk show it: nothing is opened.

use std::{path::Path, sync::Arc};

use serde_json::Value;

use crate::{
    builtin::report::Report,
    call::{Action, Caller, Client, ListKind, RoutePath, clock, tasks::Tasks},
    catalog::{Ledger, Naming, Part, Target, View},
    config,
    mcp::{document::CallArguments, raw::Raw, version::Version},
    net::Net,
    policy::{self, AccessRequest, Judge, PolicyBounds, Verdict},
    process::Spawner,
    snapshot,
    store::StateFolder,
    telemetry::Counters,
    upstream::{Openings, ReadBudget, UpstreamContext},
};

use super::error::StartError;

/// A route that nobody is served on.
#[derive(Debug)]
pub struct Offline {
    pub path: RoutePath,
    view: View,
    parts: Vec<Part>,
    judge: Judge,
}

/// The decisions on a call.
#[derive(Debug)]
pub struct Explained {
    /// Whether the caller sees the tool.
    pub sees: Verdict,
    /// Whether it may be called; none where it is not even seen.
    pub may: Option<Verdict>,
}

/// A tool of a route.
#[derive(Debug)]
pub struct OfflineTool {
    target: Arc<Target>,
    /// Its entry in its upstream's list.
    pub entry: Value,
}

impl Offline {
    /// The route of this path, or the first.
    ///
    /// # Errors
    /// Where the configuration is wrong, or has no such route.
    pub fn open(file: &Path, route: Option<&str>) -> Result<Self, StartError> {
        let config = config::load(file, &config::environment).map_err(StartError::Config)?;
        let rules = policy::compile(&config).map_err(StartError::Config)?;
        let wanted = |known: &&config::Route| route.is_none_or(|path| known.path == path);
        let Some(settings) = config.routes.iter().find(wanted) else {
            let known: Vec<_> = config.routes.iter().map(|route| route.path.as_str()).collect();
            let route = route.unwrap_or_default().to_owned();
            return Err(StartError::Route { route, known: known.join(", ") });
        };
        let folder = &config.server.state;
        let failed = |error| StartError::State { folder: folder.clone(), error };
        let store = StateFolder::open(folder).map_err(failed)?;
        let context = Arc::new(idle(store.clone()));
        let members = settings.upstreams.iter().filter_map(|name| {
            let known = config.upstreams.iter().find(|upstream| upstream.name == *name)?;
            Some(snapshot::offline(known, &context, &store, &config.server.limits))
        });
        let parts: Vec<_> = members.collect();
        let book = Ledger::open(&store, Arc::clone(&context.counters)).book();
        let held = book.route(&settings.path);
        let names = Arc::new(Naming::of(settings, &parts, &held, true));
        let view = View::build(settings, &parts, &names, true, false);
        let policies = rules.of(&settings.path);
        let bounds = PolicyBounds::of(&config.server.limits);
        let judge = Judge::new(&settings.path, policies.map(Arc::clone), bounds, &context.counters);
        Ok(Self { path: settings.path.clone(), view, parts, judge })
    }

    /// Names of upstreams whose tools are not known.
    pub fn unknown(&self) -> Vec<&str> {
        let unknown = self.parts.iter().filter(|part| part.listing.is_none());
        unknown.map(|part| part.upstream.name().as_str()).collect()
    }

    /// A tool by the name that clients know.
    pub fn tool(&self, name: &str) -> Option<OfflineTool> {
        let target = Arc::clone(self.view.find(ListKind::Tools, name)?);
        let part = self.parts.iter().find(|part| part.upstream.name() == target.upstream.name())?;
        let listing = part.listing.as_ref()?;
        let mut items = listing.tools.iter().chain(&listing.asked_tools);
        let entry = items.find(|item| item.key == target.own)?.raw.try_read()?;
        Some(OfflineTool { target, entry })
    }

    /// Tells whether a call would be permitted now, and why.
    pub fn explain(&self, caller: &Caller, tool: &OfflineTool, arguments: &Value) -> Explained {
        let client = Client::gateway(Version::MODERN);
        let now = clock::unix_seconds();
        let params = Raw::encode(&serde_json::json!({ "arguments": arguments }));
        let object = tool.target.object.as_ref().expect("what a view finds can be judged");
        let client = &client;
        let arguments = &CallArguments::of(&params.into());
        let action = Action::List;
        let asked = AccessRequest { caller, client, action, object, arguments, now };
        let sees = self.judge.verdict(&asked);
        let may = sees
            .allowed
            .then(|| self.judge.verdict(&AccessRequest { action: Action::Call, ..asked }));
        Explained { sees, may }
    }

    pub fn is_open(&self) -> bool {
        self.judge.is_open()
    }
}

impl OfflineTool {
    /// Its upstream, and that one's own name for it.
    pub fn origin(&self) -> (&str, &str) {
        (self.target.upstream.name(), &self.target.own)
    }
}

/// The context of upstreams that are never opened.
pub fn idle(store: StateFolder) -> UpstreamContext {
    let tasks = Tasks::default();
    let counters = Arc::<Counters>::default();
    let openings = Openings::new(1, Arc::clone(&counters));
    UpstreamContext {
        net: Net::new(),
        store,
        openings,
        reading: ReadBudget::new(usize::MAX, Arc::clone(&counters)),
        spawner: Spawner::new(None, [], tasks.clone()),
        counters,
        look: Arc::new(Report::default),
        tasks,
    }
}
