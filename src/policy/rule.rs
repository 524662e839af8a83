//! Policies as they were read: what each asks for, and how operators know it.

use std::{fmt, sync::Arc};

use cedar_policy::Policy;

use crate::config::StepUp;

use super::reads::Reads;

/// A policy, what it asks for, and how it is named.
#[derive(Debug, Clone)]
pub struct ParsedPolicy {
    pub policy: Policy,
    pub reads: Reads,
    pub rule: Arc<PolicyRule>,
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

impl fmt::Display for PolicyRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.id {
            Some(id) => write!(f, "`{id}` ({})", self.place),
            None => f.write_str(&self.place),
        }
    }
}
