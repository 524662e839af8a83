//! Breakers of single tools, prompts and resources, made where one fails: its failures alone open
//! one of its own, and not that of its whole upstream. A tool stands for all three here.
//!
//! The cost is one load a call while no tool fails. A tool is known by a number while it is called,
//! and by its name where it is called again after a failure.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;

use crate::{
    call::{Subject, UpstreamName},
    config,
    telemetry::Counters,
};

use super::{
    CircuitOpen,
    breaker::{Breaker, BreakerPermit},
    machine::{BreakerState, Sample},
};

/// Tools of one upstream that are looked at apart; of more, one that is let through is forgotten.
const TOOLS_MAX: usize = 1_000;
/// The longest name that is kept and shown.
const NAME_CHARS: usize = 200;
/// Calls in a row that succeed, after which a tool is looked at apart no longer.
const WELL_MIN: u32 = 100;

/// The tools of one upstream that failed of late.
#[derive(Debug)]
pub struct ToolBreakers {
    upstream: UpstreamName,
    settings: config::Breaker,
    count: AtomicUsize,
    tools: Mutex<HashMap<u64, Tool>>,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Tool {
    /// The breaker, made when the tool is called again.
    breaker: Option<ToolBreaker>,
    /// Its outcomes before it had a breaker.
    before: Vec<Sample>,
    /// Calls in a row that succeeded.
    well: u32,
}

/// Names the tool, prompt or resource of a call whose outcome is recorded.
#[derive(Debug)]
pub struct ToolRecord {
    pub breakers: Arc<ToolBreakers>,
    /// The tool's [`number`].
    pub tool: u64,
}

/// The breaker of one that failed.
#[derive(Debug)]
pub struct ToolBreaker {
    pub name: String,
    pub is_tool: bool,
    pub breaker: Arc<Breaker>,
}

impl ToolBreakers {
    pub fn new(
        upstream: &UpstreamName,
        settings: &config::Breaker,
        counters: &Arc<Counters>,
    ) -> Self {
        Self {
            upstream: upstream.clone(),
            settings: config::Breaker { tools_apart: false, ..settings.clone() },
            count: AtomicUsize::new(0),
            tools: Mutex::default(),
            counters: Arc::clone(counters),
        }
    }

    /// Lets a call of a tool in; none where nothing speaks against it.
    ///
    /// # Errors
    /// While the tool's breaker is open.
    pub fn admit(&self, subject: Subject<'_>) -> Result<Option<BreakerPermit>, CircuitOpen> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return Ok(None);
        }
        let breaker = {
            let mut tools = self.tools.lock();
            let Some(tool) = tools.get_mut(&number(subject)) else { return Ok(None) };
            let before = std::mem::take(&mut tool.before);
            let make = || {
                // A client may name a resource at any length.
                let name: String = subject.to_string().chars().take(NAME_CHARS).collect();
                let whole = format!("{}/{name}", self.upstream);
                let breaker = Breaker::new(whole, self.settings.clone(), &self.counters);
                let is_tool = matches!(subject, Subject::Tool(_));
                ToolBreaker { name, is_tool, breaker }
            };
            let breaker = &tool.breaker.get_or_insert_with(make).breaker;
            // The rest says nothing new once it is open.
            for (held, mark) in
                before.into_iter().map_while(|mark| Some((breaker.admit_uncounted().ok()?, mark)))
            {
                held.end(mark);
            }
            Arc::clone(breaker)
        };
        breaker.admit().map(Some)
    }

    /// Notes how a call ended that was let in while nothing spoke against its tool.
    pub fn record(&self, tool: u64, mark: Sample) {
        let good = mark.is_good();
        if tool == 0 || good && self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut tools = self.tools.lock();
        if !good && !tools.contains_key(&tool) {
            if TOOLS_MAX <= tools.len() {
                make_room(&mut tools);
            }
            tools.insert(tool, Tool::default());
        }
        if let Some(found) = tools.get_mut(&tool) {
            found.well = if good { found.well.saturating_add(1) } else { 0 };
            let is_closed = found
                .breaker
                .as_ref()
                .is_none_or(|own| own.breaker.state() == BreakerState::Closed);
            if WELL_MIN <= found.well && is_closed {
                tools.remove(&tool);
            } else if found.breaker.is_none() && found.before.len() < self.settings.most() {
                found.before.push(mark);
            }
        }
        self.count.store(tools.len(), Ordering::Relaxed);
    }

    /// The tools that have a breaker now, and how it stands.
    pub fn each(&self, seen: impl FnMut(&ToolBreaker)) {
        self.tools.lock().values().filter_map(|tool| tool.breaker.as_ref()).for_each(seen);
    }
}

/// A tool as a number, never 0 (FNV-1a): a clash of two would count one's failures as the other's.
pub fn number(subject: Subject<'_>) -> u64 {
    let (kind, name) = match subject {
        Subject::Tool(name) => (0, name),
        Subject::Prompt(name) => (1, name),
        Subject::Resource(uri) => (2, uri),
        Subject::Other => return 0,
    };
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash.rotate_left(kind).max(1)
}

/// Forgets a tool whose breaker refuses nothing, else any.
fn make_room(tools: &mut HashMap<u64, Tool>) {
    let is_open = |tool: &Tool| {
        tool.breaker.as_ref().is_some_and(|own| own.breaker.state() != BreakerState::Closed)
    };
    let free = tools.iter().find(|(_, tool)| !is_open(tool)).or_else(|| tools.iter().next());
    let free = free.map(|(number, _)| *number);
    free.map(|number| tools.remove(&number));
}
