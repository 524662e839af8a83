//! Compiled schemas, kept by what they say: a list that is read again costs nothing.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use crate::{
    call::UpstreamName,
    call::tasks::Workers,
    config::Limits,
    mcp::{raw::Raw, splice, word::Word},
    telemetry::{Counter, Counters},
};

use super::{
    memory::ValueMemory,
    schema::{Checker, SchemaBounds, Unusable},
};

static OUTPUT: Word = Word::new(Side::Output.member());

/// A schema, if it is of use.
pub type CompiledSchema = Result<Checker, Unusable>;

type Digest = [u8; 32];

/// The schemas of a gate. They outlive reloads.
#[derive(Debug)]
pub struct Schemas {
    kept: Mutex<Kept>,
    /// Steps that one value may cost.
    work_max: AtomicU64,
    /// The workers for large values.
    workers: Mutex<Workers>,
    /// What these values take.
    memory: ValueMemory,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct Kept {
    made: HashMap<Digest, Arc<CompiledSchema>>,
    bounds: SchemaBounds,
    schemas_max: usize,
    /// The reasons by upstream and tool why calls cannot be checked.
    unusable: BTreeMap<UpstreamName, BTreeMap<String, String>>,
    /// Tools, by upstream, of which it was logged that arguments pass that do not fit.
    misfits: BTreeMap<UpstreamName, BTreeSet<String>>,
}

/// A tool's definition as its server lists it, and its schemas once they were asked for.
#[derive(Debug)]
pub struct ToolSchemas {
    /// The upstream whose tool it is.
    upstream: UpstreamName,
    said: Raw,
    input: OnceLock<Option<Arc<CompiledSchema>>>,
    output: OnceLock<Option<Arc<CompiledSchema>>>,
}

/// A choice of a tool's two schemas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Input,
    Output,
}

impl Schemas {
    pub fn new(limits: &Limits, counters: Arc<Counters>) -> Self {
        let kept = Kept {
            made: HashMap::new(),
            bounds: bounds(limits),
            schemas_max: limits.schemas_max,
            unusable: BTreeMap::new(),
            misfits: BTreeMap::new(),
        };
        let work_max = AtomicU64::new(limits.schema_work_max as u64);
        let workers = Mutex::new(Workers::new(limits.schema_checks_max, limits.schema_patience));
        let memory = ValueMemory::new(limits.schema_values_bytes_max, limits.schema_patience);
        Self { kept: Mutex::new(kept), work_max, workers, memory, counters }
    }

    /// Goes over to other bounds, and to these upstreams.
    pub fn apply(&self, limits: &Limits, upstreams: &[&str]) {
        let mut kept = self.kept.lock();
        kept.unusable.retain(|upstream, _| upstreams.contains(&upstream.as_str()));
        kept.misfits.retain(|upstream, _| upstreams.contains(&upstream.as_str()));
        kept.schemas_max = limits.schemas_max;
        self.work_max.store(limits.schema_work_max as u64, Ordering::Relaxed);
        self.workers.lock().apply(limits.schema_checks_max, limits.schema_patience);
        self.memory.apply(limits.schema_values_bytes_max, limits.schema_patience);
        if kept.bounds != bounds(limits) {
            kept.bounds = bounds(limits);
            kept.made.clear();
        }
    }

    /// Steps that it may cost to hold one value to a schema (`schema_work_max`).
    pub fn work_max(&self) -> u64 {
        self.work_max.load(Ordering::Relaxed)
    }

    /// The memory that large values share (`schema_values_bytes_max`).
    pub(super) fn memory(&self) -> &ValueMemory {
        &self.memory
    }

    /// Threads that check large values.
    pub fn workers(&self) -> Workers {
        self.workers.lock().clone()
    }

    /// Compiles what an upstream's tool says that it takes, so that no call has to. What is of no
    /// use is logged, once.
    pub fn prepare(&self, upstream: &UpstreamName, name: &str, tool: &Raw) {
        let Some(made) = self.of(tool, Side::Input) else { return };
        let why = made.as_ref().as_ref().err().map(ToString::to_string);
        let mut kept = self.kept.lock();
        let known = kept.unusable.entry(upstream.to_owned()).or_default();
        match why {
            Some(why) if known.get(name) != Some(&why) => {
                let upstream = upstream.as_str();
                tracing::warn!(upstream, tool = name, %why, "arguments cannot be checked");
                known.insert(name.to_owned(), why);
            }
            Some(_) => (),
            None => drop(known.remove(name)),
        }
    }

    /// An upstream has these tools only.
    pub fn retain(&self, upstream: &UpstreamName, has: impl Fn(&str) -> bool) {
        let mut kept = self.kept.lock();
        if let Some(known) = kept.unusable.get_mut(upstream) {
            known.retain(|name, _| has(name));
        }
        if let Some(told) = kept.misfits.get_mut(upstream) {
            told.retain(|name| has(name));
        }
    }

    /// Logs of a tool, once, that arguments pass which do not fit its schema to the letter: whether
    /// it was logged now.
    pub fn tell_misfit(&self, tool: &ToolSchemas, fault: &str) -> bool {
        let upstream = tool.upstream.as_str();
        let name = tool.name();
        let mut kept = self.kept.lock();
        let told = kept.misfits.entry(tool.upstream.clone()).or_default();
        let is_new = told.insert(name.clone());
        if is_new {
            tracing::info!(
                upstream,
                tool = name,
                fault,
                "arguments pass that do not fit the tool's schema: `guard.arguments = \"schema\"` \
                 would refuse them"
            );
        }
        is_new
    }

    /// Tools of an upstream whose arguments cannot be checked, each with the reason.
    pub fn unusable(&self, upstream: &UpstreamName) -> Vec<String> {
        let kept = self.kept.lock();
        let of_upstream = kept.unusable.get(upstream).into_iter().flatten();
        of_upstream.map(|(name, why)| format!("{name}: {why}")).collect()
    }

    fn of(&self, tool: &Raw, side: Side) -> Option<Arc<CompiledSchema>> {
        let schema = splice::member(tool, side.member()).filter(Raw::is_object)?;
        let digest: Digest = Sha256::digest(schema.bytes()).into();
        let bounds = {
            let kept = self.kept.lock();
            if let Some(made) = kept.made.get(&digest) {
                return Some(Arc::clone(made));
            }
            kept.bounds
        };
        // Not under the lock: it takes its time.
        let made = Arc::new(Checker::new(&schema, bounds));
        if made.is_err() {
            self.counters.add(Counter::SchemasUnusable);
        }
        let mut kept = self.kept.lock();
        if kept.schemas_max <= kept.made.len()
            && let Some(any) = kept.made.keys().next().copied()
        {
            kept.made.remove(&any);
            self.counters.add(Counter::SchemasEvicted);
        }
        kept.made.insert(digest, Arc::clone(&made));
        Some(made)
    }
}

impl ToolSchemas {
    /// An entry of an upstream's `tools/list`, as its server wrote it.
    pub fn new(upstream: &UpstreamName, said: Raw) -> Self {
        Self { upstream: upstream.clone(), said, input: OnceLock::new(), output: OnceLock::new() }
    }

    /// The schema of one side; none where the tool has none.
    pub fn schema(&self, side: Side, schemas: &Schemas) -> Option<&CompiledSchema> {
        let place = if side == Side::Input { &self.input } else { &self.output };
        place.get_or_init(|| schemas.of(&self.said, side)).as_deref()
    }

    fn name(&self) -> String {
        let name = splice::member(&self.said, "name");
        name.and_then(|name| name.try_read()).unwrap_or_default()
    }

    /// Whether it promises a form of its results.
    pub fn has_output(&self) -> bool {
        splice::rare_member(&self.said, &OUTPUT).is_some()
    }
}

impl Side {
    const fn member(self) -> &'static str {
        match self {
            Self::Input => "inputSchema",
            Self::Output => "outputSchema",
        }
    }
}

fn bounds(limits: &Limits) -> SchemaBounds {
    SchemaBounds { bytes_max: limits.schema_bytes_max, parts_max: limits.schema_parts_max }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_schema_is_compiled_once_and_there_are_no_more_than_allowed() {
        let limits = Limits { schemas_max: 2, ..Limits::default() };
        let counters: Arc<Counters> = Arc::default();
        let schemas = Schemas::new(&limits, Arc::clone(&counters));
        let tool = |max: usize| {
            Raw::trusted(format!(r#"{{"name":"t","inputSchema":{{"maxProperties":{max}}}}}"#))
        };
        let first = schemas.of(&tool(1), Side::Input).unwrap();
        assert!(Arc::ptr_eq(&first, &schemas.of(&tool(1), Side::Input).unwrap()));
        (2..5).for_each(|max| schemas.prepare(&"a".into(), "t", &tool(max)));
        assert_eq!(schemas.kept.lock().made.len(), 2);
        assert_eq!(counters.read()["schemas_evicted"], 2);
        let broken = Raw::trusted(r#"{"name":"t","inputSchema":{"pattern":"(?=a)"}}"#);
        schemas.prepare(&"a".into(), "t", &broken);
        assert_eq!(schemas.unusable(&"a".into()).len(), 1);
        assert_eq!(counters.read()["schemas_unusable"], 1);
        schemas.prepare(&"a".into(), "t", &tool(1));
        assert!(schemas.unusable(&"a".into()).is_empty(), "it was mended");
    }

    #[test]
    fn a_tool_is_named_once_until_it_is_gone() {
        let schemas = Schemas::new(&Limits::default(), Arc::default());
        let tool = |name: &str| {
            ToolSchemas::new(&"a".into(), Raw::encode(&serde_json::json!({ "name": name })))
        };
        let told = |name| schemas.tell_misfit(&tool(name), "`/n`: it is not of type \"integer\"");
        assert_eq!(["t", "t", "u", "t"].map(told), [true, false, true, false]);
        schemas.retain(&"a".into(), |name| name == "u");
        assert_eq!(["t", "u"].map(told), [true, false]);
        schemas.apply(&Limits::default(), &["b"]);
        assert!(told("u"), "its upstream was gone");
    }
}
