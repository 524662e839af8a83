//! Is it clean: arguments and results held to the tool's schemas and to sizes, and what detectors
//! find in them; what the gate itself puts into calls.
//!
//! [`Guards`] has what the configuration says; [`Guard`] is what holds for one call. What passes
//! untouched is relayed as the very bytes received: checks read a copy.

mod check;
mod detect;
mod fill;
mod linked;
mod schema;
mod schemas;
mod texts;
mod value;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde_json::Map;

use crate::{
    audit::Entry,
    config::{self, Against, Config, Detector, Filling, Place, TooLarge},
    mcp::{
        document::{CallArguments, Document},
        raw::Raw,
        result, splice,
    },
    telemetry::{Counter, Counters},
};

use self::detect::{DetectorSelection, Detectors};
pub use self::{
    linked::{Linked, spoken},
    schemas::{Schemas, Side, ToolSchemas},
};

/// Bytes from which on a value is checked beside the threads that serve: below it takes some
/// milliseconds at most.
const LARGE: usize = 64 << 10;
/// The member of a call's params that has what a tool is asked for.
const ARGUMENTS: &str = "arguments";
/// Members of a client's request, besides the arguments, that carry its own words to a server.
const SAID: [&str; 3] = ["inputResponses", "argument", "context"];

/// All guards of a gate, of one configuration.
#[derive(Debug)]
pub struct Guards {
    routes: HashMap<String, Section>,
    upstreams: HashMap<String, (Section, Tools)>,
    /// Compiled anew only where they differ; none where nothing is looked for.
    detectors: Option<Arc<Detectors>>,
    custom: Vec<Detector>,
    counters: Arc<Counters>,
}

/// The sections of an upstream's tools.
type Tools = HashMap<String, (Section, Filling)>;

/// One section.
#[derive(Debug, Default)]
struct Section {
    keys: config::Guard,
    looks: [Option<Arc<DetectorSelection>>; 3],
}

/// Checks that hold for one call, and for its way back.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "four switches of the configuration")]
pub struct Guard {
    checks_arguments: bool,
    checks_results: bool,
    refuses_unusable: bool,
    arguments_max: Option<usize>,
    result_max: Option<usize>,
    /// A result with more is kept for its caller.
    pub links: bool,
    looks: [Option<Arc<DetectorSelection>>; 3],
    detectors: Option<Arc<Detectors>>,
    /// The record of the call, which is told what is found.
    entry: Option<Arc<Entry>>,
    counters: Arc<Counters>,
}

/// Why something does not pass. What it says is for clients, and shows nothing of what was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GuardRefusal {
    #[error("The arguments are not what this tool takes; nothing was done. {0}")]
    Arguments(String),
    #[error("The arguments have {0} bytes, and {1} are let through; nothing was done. Send less.")]
    ArgumentBytes(usize, usize),
    #[error(
        "The arguments of this tool cannot be checked, since its server describes them in a way \
         that this gateway cannot use; nothing was done."
    )]
    Unchecked,
    /// Steps that it would cost, and that it may.
    #[error(
        "The arguments are too large to be held to what this tool takes ({0} steps, and {1} are \
         allowed: `schema_work_max`); nothing was done. Send less."
    )]
    ArgumentWork(u64, u64),
    #[error(
        "The gateway had no time to check these arguments (`schema_patience`); nothing was done. \
         Try again later, or send less."
    )]
    Late,
    #[error(
        "The answer is too large to be held to what its server promises ({0} steps, and {1} are \
         allowed: `schema_work_max`). Ask for less."
    )]
    ResultWork(u64, u64),
    #[error("The gateway had no time to check this answer (`schema_patience`). Ask for less.")]
    ResultLate,
    #[error("The server behind this answered with something else than it promises: {0}")]
    Result(String),
    #[error("The answer has {0} bytes, and {1} are let through. Ask for less.")]
    ResultBytes(usize, usize),
    /// The place, and the name of what found it.
    #[error("{}", blocked(*.0, .1))]
    Blocked(Place, String),
}

impl Guards {
    /// None at all.
    pub fn new(counters: Arc<Counters>) -> Self {
        let (routes, upstreams) = (HashMap::new(), HashMap::new());
        Self { routes, upstreams, detectors: None, custom: Vec::new(), counters }
    }

    /// Builds the guards of the configuration that follows.
    pub fn next(&self, config: &Config) -> Self {
        let kept = self.detectors.as_ref().filter(|_| self.custom == config.detectors);
        let anew = || Arc::new(Detectors::new(&config.detectors));
        let detectors = detect::detects(config).then(|| kept.map_or_else(anew, Arc::clone));
        let section = |keys: &config::Guard| Section::build(keys, detectors.as_deref());
        let routes = config.routes.iter().map(|route| (route.path.clone(), section(&route.guard)));
        let tools = |tools: &BTreeMap<String, config::Tool>| {
            let each = tools
                .iter()
                .map(|(name, tool)| (name.clone(), (section(&tool.guard), tool.filling.clone())));
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
    pub fn of(&self, route: &str, upstream: &str, tool: Option<&str>) -> Guard {
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
            checks_arguments: first(&sections, |keys| keys.arguments) != Some(Against::Off),
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
    pub fn filled(&self, upstream: &str, tool: &str, params: &Raw) -> Raw {
        let filling = self.filling(upstream, tool);
        filling.map_or_else(|| params.clone(), |filling| fill::filled(params, filling))
    }

    /// An entry of an upstream's list as clients see it; none where they must not. `is_tool`: what
    /// the configuration forces upon it is no part of its schema.
    pub fn shown(&self, route: &str, upstream: &str, own: &str, item: (&Raw, bool)) -> Option<Raw> {
        let (item, is_tool) = item;
        let guard = self.of(route, upstream, is_tool.then_some(own));
        let item = Document::new(item.clone());
        let found = guard.cleaned(Place::Descriptions, &item).ok().or_else(|| {
            tracing::warn!(upstream, name = own, "left out: its description must not pass");
            None
        })?;
        let filling = self.filling(upstream, own).filter(|_| is_tool);
        Some(filling.map_or_else(|| found.clone(), |filling| fill::shown(&found, filling)))
    }

    /// Whether lists of an upstream are shown in another way on a route than it has them.
    pub fn shows_otherwise(&self, route: &str, upstream: &str) -> bool {
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
    pub fn links(&self, route: &str, upstreams: &[String]) -> bool {
        let links = |section: &Section| section.keys.too_large == Some(TooLarge::Link);
        self.routes.get(route).is_some_and(links)
            || upstreams
                .iter()
                .filter_map(|name| self.upstreams.get(name))
                .any(|(whole, tools)| links(whole) || tools.values().any(|(tool, _)| links(tool)))
    }

    fn filling(&self, upstream: &str, tool: &str) -> Option<&Filling> {
        self.upstreams.get(upstream)?.1.get(tool).map(|(_, filling)| filling)
    }
}

impl Section {
    fn build(keys: &config::Guard, detectors: Option<&Detectors>) -> Self {
        let places = [Place::Arguments, Place::Results, Place::Descriptions];
        let looks = places.map(|place| detectors?.select(&keys.detect, place));
        Self { keys: keys.clone(), looks }
    }
}

impl Guard {
    /// The same, which tells the record of a call what it finds.
    pub fn recorded_in(self, entry: Option<&Arc<Entry>>) -> Self {
        Self { entry: entry.map(Arc::clone), ..self }
    }

    /// Judges what a client's request says, whose params have these arguments: its params, cleaned.
    ///
    /// # Errors
    /// Where its arguments are too large, are not what the tool takes, or have what must not pass.
    pub fn admit(
        &self,
        params: &Raw,
        arguments: &CallArguments,
        tool: Option<&ToolSchemas>,
        schemas: &Schemas,
    ) -> Result<Raw, GuardRefusal> {
        let judged = self.judged(params, arguments, tool, schemas);
        if let Err(refusal) = &judged {
            refusal.counter().into_iter().for_each(|counter| self.counters.add(counter));
        }
        judged
    }

    /// Judges what a server answered, asked or told: it, cleaned.
    ///
    /// # Errors
    /// Where it has what must not pass.
    pub fn scan(&self, said: &Raw) -> Result<Raw, GuardRefusal> {
        self.cleaned(Place::Results, &Document::new(said.clone()))
    }

    /// Judges a tool's result: it, cleaned, and held to what the tool promises where it is the end
    /// of a call.
    ///
    /// # Errors
    /// Where it has what must not pass, or breaks the promise.
    pub fn judge_result(
        &self,
        result: &Raw,
        tool: Option<&ToolSchemas>,
        schemas: &Schemas,
    ) -> Result<Raw, GuardRefusal> {
        let document = Document::new(result.clone());
        let clean = self.cleaned(Place::Results, &document)?;
        let checked = if clean == *result {
            self.check_result(&document, tool, schemas)
        } else {
            self.check_result(&Document::new(clean.clone()), tool, schemas)
        };
        checked.inspect_err(|refusal| {
            let too_much = matches!(refusal, GuardRefusal::ResultWork(..));
            let counter =
                if too_much { Counter::RefusedSchemaWork } else { Counter::RefusedResults };
            self.counters.add(counter);
        })?;
        Ok(clean)
    }

    /// Whether judging what a request says may take long: [`Guard::admit`] is for a thread beside
    /// those that serve then.
    pub fn takes_long(&self, params: &Raw) -> bool {
        (self.checks_arguments || self.looks_in(Place::Arguments)) && LARGE < params.bytes().len()
    }

    /// Whether [`Guard::judge_result`] is for a thread beside those that serve.
    pub fn takes_long_with(&self, result: &Raw) -> bool {
        (self.checks_results || self.looks_in(Place::Results)) && LARGE < result.bytes().len()
    }

    /// There was no time to judge a request.
    pub fn late(&self) -> GuardRefusal {
        self.counters.add(Counter::SchemaChecksLate);
        GuardRefusal::Late
    }

    /// There was no time to judge a result.
    pub fn late_result(&self) -> GuardRefusal {
        self.counters.add(Counter::SchemaChecksLate);
        GuardRefusal::ResultLate
    }

    /// How many bytes a result has too many to be handed out.
    ///
    /// # Errors
    /// Where it has.
    pub fn check_size(&self, result: &Raw) -> Result<(), GuardRefusal> {
        let bytes = result.bytes().len();
        match self.result_max {
            Some(max) if max < bytes => Err(GuardRefusal::ResultBytes(bytes, max)),
            _ => Ok(()),
        }
    }

    fn judged(
        &self,
        params: &Raw,
        arguments: &CallArguments,
        tool: Option<&ToolSchemas>,
        schemas: &Schemas,
    ) -> Result<Raw, GuardRefusal> {
        if let Some(max) = self.arguments_max {
            let bytes = arguments.document().map_or(0, |found| found.text().bytes().len());
            if max < bytes {
                return Err(GuardRefusal::ArgumentBytes(bytes, max));
            }
        }
        if let Some(tool) = tool.filter(|_| self.checks_arguments) {
            self.check_arguments(arguments, tool, schemas)?;
        }
        let place = Place::Arguments;
        if !self.looks_in(place) {
            return Ok(params.clone());
        }
        let cleaned = |params: Raw, name: &str, said: &Document| {
            let clean = self.cleaned(place, said)?;
            let edited = || splice::edit(&params, &[(name, Some(clean.bytes()))]);
            Ok(if clean == *said.text() { params.clone() } else { edited() })
        };
        let params = match arguments.document() {
            Some(said) => cleaned(params.clone(), ARGUMENTS, said)?,
            None => params.clone(),
        };
        SAID.iter().try_fold(params, |params, name| {
            let Some(said) = splice::rare_member(&params, name) else { return Ok(params) };
            cleaned(params, name, &Document::new(said))
        })
    }

    fn check_result(
        &self,
        result: &Document,
        tool: Option<&ToolSchemas>,
        schemas: &Schemas,
    ) -> Result<(), GuardRefusal> {
        let Some(tool) = tool.filter(|_| self.checks_results) else { return Ok(()) };
        if !result::ends_call(result.text()) || result::is_error(result.text()) {
            return Ok(());
        }
        let Some(Ok(checker)) = tool.schema(Side::Output, schemas) else { return Ok(()) };
        let Some(content) = result.root().member("structuredContent") else {
            return Err(GuardRefusal::Result("it has no `structuredContent`".to_owned()));
        };
        let value = content.value().map_err(|error| GuardRefusal::Result(error.to_string()))?;
        let (size, work_max) = (value::size(&value), schemas.work_max());
        let work = checker.work(size);
        if work_max < work {
            return Err(GuardRefusal::ResultWork(work, work_max));
        }
        checker.check(&value, size).map_err(GuardRefusal::Result)
    }

    fn check_arguments(
        &self,
        arguments: &CallArguments,
        tool: &ToolSchemas,
        schemas: &Schemas,
    ) -> Result<(), GuardRefusal> {
        let checker = match tool.schema(Side::Input, schemas) {
            None => return Ok(()),
            Some(Ok(checker)) => checker,
            Some(Err(_)) if self.refuses_unusable => return Err(GuardRefusal::Unchecked),
            Some(Err(_)) => {
                self.counters.add(Counter::UncheckedCalls);
                return Ok(());
            }
        };
        // Clients that have no arguments to send leave them out, or say `null`.
        let found = arguments.document().filter(|found| found.text().as_str() != "null");
        let value = found.map_or_else(|| Ok(Map::new().into()), |found| found.root().value());
        let value = value.map_err(|error| GuardRefusal::Arguments(error.to_string()))?;
        let (size, work_max) = (value::size(&value), schemas.work_max());
        // Reckoned beforehand: what has begun cannot be interrupted.
        let work = checker.work(size);
        if work_max < work {
            return Err(GuardRefusal::ArgumentWork(work, work_max));
        }
        let Err(fault) = checker.check(&value, size) else { return Ok(()) };
        // Many clients say `null` of what they leave out (2026-07-28, transports: custom headers
        // from tool parameters).
        let less = value::without_nulls(value).filter(|less| checker.fits(less));
        less.map(|_| ()).ok_or(GuardRefusal::Arguments(fault))
    }

    /// Whether anything is looked for there.
    fn looks_in(&self, place: Place) -> bool {
        self.looks.get(place as usize).is_some_and(Option::is_some)
    }

    fn cleaned(&self, place: Place, said: &Document) -> Result<Raw, GuardRefusal> {
        let look = self.looks.get(place as usize).and_then(Option::as_ref);
        let Some((look, detectors)) = look.zip(self.detectors.as_ref()) else {
            return Ok(said.text().clone());
        };
        let found = detectors.scan(look, said, &self.counters);
        if let Some(entry) = self.entry.as_ref().filter(|_| !found.by.is_empty()) {
            let by = found.by.iter().map(|(name, then)| format!("{name} {then} {place}"));
            entry.guarded(by);
        }
        match found.blocked {
            Some(name) => Err(GuardRefusal::Blocked(place, name)),
            None => Ok(found.clean),
        }
    }
}

impl GuardRefusal {
    /// One of the words of the error contract.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Arguments(_)
            | Self::ArgumentBytes(..)
            | Self::ArgumentWork(..)
            | Self::Unchecked => "invalid_arguments",
            Self::Late => "service_unavailable",
            Self::Result(_) => "upstream_error",
            Self::ResultBytes(..) | Self::ResultWork(..) | Self::ResultLate => "response_too_large",
            Self::Blocked(..) => "blocked",
        }
    }

    /// Counter of a refused request. Detectors count what they find themselves.
    fn counter(&self) -> Option<Counter> {
        match self {
            Self::Arguments(_) | Self::Unchecked => Some(Counter::RefusedArguments),
            Self::ArgumentBytes(..) => Some(Counter::RefusedArgumentBytes),
            Self::ArgumentWork(..) => Some(Counter::RefusedSchemaWork),
            Self::Late => Some(Counter::SchemaChecksLate),
            Self::Result(_)
            | Self::ResultBytes(..)
            | Self::ResultWork(..)
            | Self::ResultLate
            | Self::Blocked(..) => None,
        }
    }
}

fn blocked(place: Place, detector: &str) -> String {
    match place {
        Place::Arguments => format!(
            "The arguments have something that must not pass here ({detector}); nothing was done. \
             Take it out."
        ),
        Place::Results | Place::Descriptions => format!(
            "The answer has something that must not pass here ({detector}), and was held back."
        ),
    }
}

#[cfg(test)]
mod tests;
