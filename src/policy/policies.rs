//! The policies of one route, compiled.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use cedar_policy::PolicyId;

use crate::config::{Rules, StepUp};

use super::{
    arguments::first_step,
    named_resources::NamedResources,
    reads::{Personal, Reads},
    slice::{ParsedPolicy, Slices},
};

/// The policies of one route.
#[derive(Debug)]
pub struct Policies {
    pub(super) slices: Slices,
    /// Attributes of a caller that any of them asks for.
    pub(super) personal: Personal,
    pub(super) resources: NamedResources,
    /// Names of the arguments that any of them reads, or reads something within.
    arguments: BTreeSet<String>,
    rules: HashMap<PolicyId, Arc<PolicyRule>>,
}

/// A policy, as it is named to operators.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyRule {
    /// Its annotation `@id`.
    pub id: Option<String>,
    /// `file:line:column`
    pub place: String,
    /// Its annotation `@step_up`: the login that it would not forbid.
    pub step_up: Option<StepUp>,
}

impl std::fmt::Display for PolicyRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.id {
            Some(id) => write!(f, "`{id}` ({})", self.place),
            None => f.write_str(&self.place),
        }
    }
}

impl Policies {
    pub(super) fn new(
        rules: &Rules,
        files: &HashMap<String, Vec<(ParsedPolicy, PolicyRule)>>,
    ) -> Self {
        let read = rules.policies.iter().filter_map(|file| files.get(&file.name)).flatten();
        let mut all = Vec::new();
        let mut reads = Reads::default();
        let mut named = HashMap::new();
        for (known, rule) in read {
            reads.add(&known.reads);
            named.insert(known.policy.id().clone(), Arc::new(rule.clone()));
            all.push(known.clone());
        }
        let resources = NamedResources::of(all.iter());
        let arguments = reads.arguments.keys().map(|name| first_step(name)).collect();
        Self {
            slices: Slices::new(&all),
            personal: reads.personal,
            resources,
            arguments,
            rules: named,
        }
    }

    /// Names of the arguments that any of them reads, or reads something within.
    pub fn arguments(&self) -> &BTreeSet<String> {
        &self.arguments
    }

    pub(super) fn rule(&self, id: &PolicyId) -> Option<Arc<PolicyRule>> {
        self.rules.get(id).map(Arc::clone)
    }
}
