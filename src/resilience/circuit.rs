//! Protection of one upstream: its breakers, its retries and the times of its tools.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use crate::{
    call::{Subject, UpstreamName},
    config::{self, Timeout, ToolTimeout},
    telemetry::{Counter, Counters},
};

use super::{
    CircuitOpen,
    attempt::Attempt,
    breaker::Breaker,
    machine::BreakerState,
    retry::{FailedAttempt, Retry, RetryDecision},
    tool_breakers::{self, ToolBreakers, ToolRecord},
};

/// Breakers, retries and times of one upstream. Made anew for the next configuration, it takes over
/// each breaker and the budget that are written as before.
#[derive(Debug)]
pub struct Circuit {
    whole: Option<UpstreamBreaker>,
    tools: HashMap<String, Tool>,
    retry: Option<Arc<Retry>>,
    counters: Arc<Counters>,
}

/// The breaker of a whole upstream.
#[derive(Debug, Clone)]
struct UpstreamBreaker {
    breaker: Arc<Breaker>,
    /// Breakers of single tools, where theirs is not this one.
    tools: Option<Arc<ToolBreakers>>,
}

#[derive(Debug)]
struct Tool {
    breaker: Option<Arc<Breaker>>,
    timeout: ToolTimeout,
}

/// A look at the breakers of one upstream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CircuitStatus {
    /// None where there is no breaker.
    pub state: Option<BreakerState>,
    /// Times that one opened, those of tools included.
    pub opened: u64,
    /// Calls refused by one.
    pub refused: u64,
    /// Tools that have a breaker of their own.
    pub tools: BTreeMap<String, BreakerState>,
    /// Retries that the budget has left; none where nothing is sent again.
    pub retries_left: Option<u64>,
}

impl Circuit {
    /// Makes a circuit that lets everything through.
    pub fn new(counters: Arc<Counters>) -> Self {
        Self { whole: None, tools: HashMap::new(), retry: None, counters }
    }

    /// Builds the circuit of the section that follows.
    pub fn next(&self, section: &config::Upstream) -> Self {
        let upstream = &section.name;
        let whole = section.breaker.as_ref().map(|settings| {
            let same = self.whole.as_ref().filter(|before| before.breaker.is(settings));
            let fresh = || UpstreamBreaker::new(upstream, settings, &self.counters);
            same.map_or_else(fresh, UpstreamBreaker::clone)
        });
        let tools = section.tool_settings.iter().map(|(name, tool)| {
            let before = self.tools.get(name).and_then(|before| before.breaker.as_ref());
            let breaker = tool.breaker.clone().map(|own| {
                let settings = config::Breaker { tools_apart: false, ..own };
                let same = before.filter(|breaker| breaker.is(&settings)).map(Arc::clone);
                let whole_name = format!("{upstream}/{name}");
                same.unwrap_or_else(|| Breaker::new(whole_name, settings, &self.counters))
            });
            (name.clone(), Tool { breaker, timeout: tool.timeout })
        });
        let tools = tools.collect();
        let retry = section.retry.as_ref().map(|settings| {
            let same = self.retry.as_ref().filter(|retry| retry.is(settings));
            same.map_or_else(|| Arc::new(Retry::new(settings.clone())), Arc::clone)
        });
        Self { whole, tools, retry, counters: Arc::clone(&self.counters) }
    }

    /// Lets a request through, by what it is about.
    ///
    /// # Errors
    /// Where the breaker of the tool, prompt or resource, or of the whole upstream refuses it.
    pub fn attempt<'a>(&self, about: impl Into<Subject<'a>>) -> Result<Attempt, CircuitOpen> {
        let about = about.into();
        let tool = if let Subject::Tool(name) = about { self.tool(Some(name)) } else { None };
        let own = tool.and_then(|tool| tool.breaker.as_ref());
        let subject = Some(about).filter(|about| own.is_none() && *about != Subject::Other);
        let apart = self.whole.as_ref().and_then(|whole| whole.tools.as_ref());
        let apart = subject.zip(apart);
        // A refusal of a later breaker gives an earlier one its permit back.
        let held = match (own, apart) {
            (Some(own), _) => Some(own.admit()?),
            (None, Some((subject, apart))) => apart.admit(subject)?,
            (None, None) => None,
        };
        let whole = self.whole.as_ref().map(|whole| whole.breaker.admit()).transpose()?;
        let record = apart.map(|(subject, breakers)| ToolRecord {
            breakers: Arc::clone(breakers),
            tool: tool_breakers::number(subject),
        });
        Ok(Attempt { whole, tool: held, record })
    }

    /// Whether the breaker of the whole refuses what comes now.
    pub fn is_open(&self) -> bool {
        self.whole.as_ref().is_some_and(|whole| whole.breaker.state() == BreakerState::Open)
    }

    /// Counts a request that is sent for the first time: retries are a share of them.
    pub fn count_request(&self) {
        if let Some(retry) = &self.retry {
            retry.count_request();
        }
    }

    /// After how long a request that may be repeated is sent again, having been sent `attempts`
    /// times; none where it is not.
    pub fn retry_delay(
        &self,
        trouble: FailedAttempt,
        attempts: u32,
        left: Duration,
    ) -> Option<Duration> {
        match self.retry.as_ref()?.decide(trouble, attempts, left) {
            RetryDecision::After(wait) => {
                self.counters.add(Counter::Retries);
                Some(wait)
            }
            RetryDecision::BudgetSpent => {
                self.counters.add(Counter::RefusedRetries);
                None
            }
            RetryDecision::Never => None,
        }
    }

    /// The times of a call of this tool, where its upstream has these.
    pub fn timeout(&self, tool: Option<&str>, upstream: Timeout) -> Timeout {
        self.tool(tool).map_or(upstream, |tool| tool.timeout.over(upstream))
    }

    /// How its breakers stand.
    pub fn status(&self) -> CircuitStatus {
        let tools =
            self.tools.iter().filter_map(|(name, tool)| Some((name, tool.breaker.as_ref()?)));
        let mut look = CircuitStatus {
            state: self.whole.as_ref().map(|whole| whole.breaker.state()),
            retries_left: self.retry.as_ref().map(|retry| retry.left()),
            ..CircuitStatus::default()
        };
        let mut count = |breaker: &Breaker| {
            look.opened += breaker.opened();
            look.refused += breaker.refused();
        };
        self.whole.iter().for_each(|whole| count(&whole.breaker));
        tools.clone().for_each(|(_, breaker)| count(breaker));
        look.tools = tools.map(|(name, breaker)| (name.clone(), breaker.state())).collect();
        if let Some(apart) = self.whole.as_ref().and_then(|whole| whole.tools.as_ref()) {
            apart.each(|seen| {
                look.opened += seen.breaker.opened();
                look.refused += seen.breaker.refused();
                let standing = Some(seen.breaker.state());
                // Not prompts and resources: clients name those, and these names are labels.
                let standing = standing.filter(|it| seen.is_tool && *it != BreakerState::Closed);
                look.tools.extend(standing.map(|standing| (seen.name.clone(), standing)));
            });
        }
        look
    }

    fn tool(&self, tool: Option<&str>) -> Option<&Tool> {
        tool.filter(|_| !self.tools.is_empty()).and_then(|tool| self.tools.get(tool))
    }
}

impl UpstreamBreaker {
    fn new(upstream: &UpstreamName, settings: &config::Breaker, counters: &Arc<Counters>) -> Self {
        let apart = || Arc::new(ToolBreakers::new(upstream, settings, counters));
        Self {
            breaker: Breaker::new(upstream.to_string(), settings.clone(), counters),
            tools: settings.tools_apart.then(apart),
        }
    }
}
