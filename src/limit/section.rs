//! The limits of one section of the configuration.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{
    call::UpstreamName,
    config::{self, Cost, InFlight, Limit},
};

use super::{cap::Cap, rule::Rule};

/// The limits of one section.
#[derive(Debug, Default)]
pub(super) struct LimitSection {
    pub(super) rules: Vec<Arc<Rule>>,
    pub(super) cap: Option<Arc<Cap>>,
}

#[derive(Debug)]
pub(super) struct ToolSection {
    pub(super) cost: Cost,
    pub(super) section: LimitSection,
}

#[derive(Debug)]
pub(super) struct UpstreamSection {
    pub(super) whole: LimitSection,
    pub(super) tools: HashMap<String, ToolSection>,
}

impl LimitSection {
    /// Whether it limits anything.
    pub(super) fn is_set(&self) -> bool {
        self.cap.is_some() || !self.rules.is_empty()
    }

    /// `names` tell the section from all others.
    pub(super) fn build(
        names: &[&str],
        limits: &[Limit],
        in_flight: Option<InFlight>,
        before: Option<&Self>,
    ) -> Self {
        let mut earlier = before.map(|before| before.rules.clone()).unwrap_or_default();
        let mut rule = |(at, limit): (usize, &Limit)| {
            // Each of two that are alike has its own.
            if let Some(same) = earlier.iter().position(|rule| rule.is(limit)) {
                return earlier.remove(same);
            }
            let alike = limits.iter().take(at).filter(|other| *other == limit).count();
            Arc::new(Rule::new(limit, names, alike))
        };
        let rules = limits.iter().enumerate().map(&mut rule).collect();
        let cap = in_flight.map(|settings| {
            let earlier = before.and_then(|before| before.cap.as_ref());
            let same = earlier.filter(|cap| cap.settings == settings);
            same.map_or_else(|| Arc::new(Cap::new(settings)), Arc::clone)
        });
        Self { rules, cap }
    }
}

pub(super) fn tools(
    upstream: &UpstreamName,
    settings: &BTreeMap<String, config::Tool>,
    before: Option<&UpstreamSection>,
) -> HashMap<String, ToolSection> {
    let each = settings.iter().map(|(name, tool)| {
        let before = before.and_then(|before| before.tools.get(name));
        let before = before.map(|before| &before.section);
        let names = ["tool", upstream, name];
        let section = LimitSection::build(&names, &tool.limits, tool.in_flight, before);
        (name.clone(), ToolSection { cost: tool.cost.clone(), section })
    });
    each.collect()
}
