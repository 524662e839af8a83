//! All guards of a configuration: finds what holds for a call.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{
    call::{RoutePath, UpstreamName},
    config::{self, Against, Config, Cost, Detector, Filling, Place, TooLarge},
    mcp::{document::Document, params::Params, raw::Raw},
    policy::Rulebook,
    telemetry::Counters,
};

use super::{
    call_guard::Guard,
    detect::{self, DetectorSelection, Detectors},
    fill,
    read::ReadArguments,
};

/// All guards of a gate, of one configuration.
#[derive(Debug)]
pub struct Guards {
    routes: HashMap<RoutePath, Section>,
    upstreams: HashMap<UpstreamName, (Section, Tools)>,
    /// Compiled anew only where they differ; none where nothing is looked for.
    detectors: Option<Arc<Detectors>>,
    custom: Vec<Detector>,
    counters: Arc<Counters>,
}

/// The sections of an upstream's tools.
type Tools = HashMap<String, (Section, Filling)>;

/// A section.
#[derive(Debug, Default)]
struct Section {
    keys: config::Guard,
    /// Arguments that policies of the route, or keys of the tool, read.
    reads: ReadArguments,
    looks: [Option<Arc<DetectorSelection>>; 3],
}

impl Guards {
    /// None at all.
    pub fn new(counters: Arc<Counters>) -> Self {
        let routes = HashMap::new();
        let upstreams = HashMap::new();
        Self { routes, upstreams, detectors: None, custom: Vec::new(), counters }
    }

    /// Builds the guards of the configuration that follows, whose policies these are.
    pub fn next(&self, config: &Config, rules: &Rulebook) -> Self {
        let kept = self.detectors.as_ref().filter(|_| self.custom == config.detectors);
        let anew = || Arc::new(Detectors::new(&config.detectors));
        let detectors = detect::detects(config).then(|| kept.map_or_else(anew, Arc::clone));
        let section = |keys: &config::Guard| Section::build(keys, detectors.as_deref());
        let routes = config.routes.iter().map(|route| {
            let judged = rules.of(&route.path).map(|policies| policies.arguments());
            let reads = ReadArguments::new(judged.into_iter().flatten().cloned());
            (route.path.clone(), Section { reads, ..section(&route.guard) })
        });
        let tools = |tools: &BTreeMap<String, config::Tool>| {
            let each = tools.iter().map(|(name, tool)| {
                let reads = ReadArguments::new(read_by(tool));
                (name.clone(), (Section { reads, ..section(&tool.guard) }, tool.filling.clone()))
            });
            each.collect()
        };
        let upstreams = config
            .upstreams
            .iter()
            .map(|one| (one.name.clone(), (section(&one.guard), tools(&one.tool_settings))));
        Self {
            routes: routes.collect(),
            upstreams: upstreams.collect(),
            custom: config.detectors.clone(),
            counters: Arc::clone(&self.counters),
            detectors,
        }
    }

    /// Finds the checks for what is sent to a thing of an upstream: `tool` is its own name, if it
    /// is a tool. The narrowest section that says something decides; what they look for adds up.
    pub fn of(&self, route: &RoutePath, upstream: &UpstreamName, tool: Option<&str>) -> Guard {
        let found = self.upstreams.get(upstream);
        let whole = found.map(|(whole, _)| whole);
        let tool = found.zip(tool).and_then(|((_, tools), name)| tools.get(name));
        let tool = tool.map(|(section, _)| section);
        let sections: Vec<&Section> =
            [tool, whole, self.routes.get(route)].into_iter().flatten().collect();
        fn first<T>(sections: &[&Section], key: impl Fn(&config::Guard) -> Option<T>) -> Option<T> {
            sections.iter().find_map(|section| key(&section.keys))
        }
        let looks = std::array::from_fn(|place| {
            let mut found = sections.iter().filter_map(|one| one.looks.get(place)?.as_ref());
            let widest = found.next().map(Arc::clone)?;
            Some(found.fold(widest, |all, one| Arc::new(all.or(one))))
        });
        Guard {
            arguments: first(&sections, |keys| keys.arguments).unwrap_or_default(),
            reads: ReadArguments::all(sections.iter().map(|section| &section.reads)),
            checks_results: first(&sections, |keys| keys.results) == Some(Against::Schema),
            refuses_unusable: first(&sections, |keys| keys.unusable)
                == Some(config::Unusable::Refuse),
            arguments_max: first(&sections, |keys| keys.arguments_max),
            result_max: first(&sections, |keys| keys.result_max),
            links: first(&sections, |keys| keys.too_large) == Some(TooLarge::Link),
            looks,
            detectors: self.detectors.clone(),
            entry: None,
            counters: Arc::clone(&self.counters),
        }
    }

    /// A tool's params with what the configuration puts into them.
    pub fn filled(&self, upstream: &UpstreamName, tool: &str, params: &Params) -> Params {
        let filling = self.filling(upstream, tool);
        filling.map_or_else(|| params.clone(), |filling| fill::filled(params, filling))
    }

    /// An entry of an upstream's list as clients see it; none where they must not. `is_tool`: what
    /// the configuration forces upon it is no part of its schema.
    pub fn shown(
        &self,
        route: &RoutePath,
        upstream: &UpstreamName,
        own: &str,
        item: &Raw,
        is_tool: bool,
    ) -> Option<Raw> {
        let guard = self.of(route, upstream, is_tool.then_some(own));
        let item = Document::new(item.clone());
        let found = guard.cleaned(Place::Descriptions, &item, &[]).ok().or_else(|| {
            tracing::warn!(
                upstream = upstream.as_str(),
                name = own,
                "left out: its description must not pass"
            );
            None
        })?;
        let filling = self.filling(upstream, own).filter(|_| is_tool);
        Some(filling.map_or_else(|| found.clone(), |filling| fill::shown(&found, filling)))
    }

    /// Returns what an upstream's server says of its use, as clients read it; none where they must
    /// not: it goes into the words that a model is told first of all.
    pub fn shown_instructions(
        &self,
        route: &RoutePath,
        upstream: &UpstreamName,
        said: &str,
    ) -> Option<String> {
        let guard = self.of(route, upstream, None);
        let clean = guard.cleaned(Place::Descriptions, &Document::new(Raw::encode(&said)), &[]);
        if clean.is_err() {
            tracing::warn!(
                upstream = upstream.as_str(),
                "its instructions are left out: they must not pass"
            );
        }
        clean.ok()?.try_read()
    }

    /// Whether lists of an upstream are shown in another way on a route than it has them.
    pub fn shows_otherwise(&self, route: &RoutePath, upstream: &UpstreamName) -> bool {
        let looks = |section: &Section| {
            section.looks.get(Place::Descriptions as usize).is_some_and(Option::is_some)
        };
        self.routes.get(route).is_some_and(looks)
            || self.upstreams.get(upstream).is_some_and(|(whole, tools)| {
                let fills = |filling: &Filling| *filling != Filling::default();
                looks(whole) || tools.values().any(|(tool, put)| looks(tool) || fills(put))
            })
    }

    /// Whether results may be kept behind links on a route with these upstreams.
    pub fn links(&self, route: &RoutePath, upstreams: &[UpstreamName]) -> bool {
        let links = |section: &Section| section.keys.too_large == Some(TooLarge::Link);
        self.routes.get(route).is_some_and(links)
            || upstreams
                .iter()
                .filter_map(|name| self.upstreams.get(name))
                .any(|(whole, tools)| links(whole) || tools.values().any(|(tool, _)| links(tool)))
    }

    fn filling(&self, upstream: &UpstreamName, tool: &str) -> Option<&Filling> {
        self.upstreams.get(upstream)?.1.get(tool).map(|(_, filling)| filling)
    }
}

impl Section {
    fn build(keys: &config::Guard, detectors: Option<&Detectors>) -> Self {
        let places = [Place::Arguments, Place::Results, Place::Descriptions];
        let looks = places.map(|place| detectors?.select(&keys.detect, place));
        Self { keys: keys.clone(), reads: ReadArguments::default(), looks }
    }
}

/// The arguments of a tool that the configuration reads: what a call costs, what its result is kept
/// under, and what is put into it.
fn read_by(tool: &config::Tool) -> impl Iterator<Item = String> {
    let cost = match &tool.cost {
        Cost::Flat(_) => None,
        Cost::Argument(path) => path.first(),
    };
    let keys = tool.cache.iter().filter_map(|keep| keep.keys.as_ref()).flatten();
    let filled = tool.filling.default.iter().chain(&tool.filling.force).map(|(name, _)| name);
    cost.into_iter().chain(keys).chain(filled).cloned()
}
