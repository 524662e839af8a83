//! What policies say to a question, and what of it a caller is told.

use std::{fmt, sync::Arc};

use crate::config::StepUp;

use super::rule::PolicyRule;

/// Why there is no permit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// The caller may not even know of it: to be answered as what does not exist.
    Unseen,
    /// Not so: with these arguments, at this time, or without a second factor.
    Denied,
    /// An argument is not of the kind that a policy reads it as, or stands there in a way that
    /// servers read differently.
    Misfit,
    /// Denied as well, but another login would do.
    StepUp(Box<StepUp>),
}

/// An answer, and what led to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    pub allowed: bool,
    /// The policies that decided; none where none permits it.
    pub rules: Vec<Arc<PolicyRule>>,
    /// Errors of the evaluation: any of them denies.
    pub errors: Vec<String>,
    /// The error is that an argument cannot be read as a policy wants it.
    pub is_misfit: bool,
}

/// The policies of one group that apply to a question, and those that failed.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    pub permits: Vec<Arc<PolicyRule>>,
    pub forbids: Vec<Arc<PolicyRule>>,
    pub errors: Vec<String>,
}

impl Verdict {
    /// A verdict that nothing but an error led to: it denies.
    pub fn failed(error: String) -> Self {
        Self { errors: vec![error], ..Self::default() }
    }

    /// The login that would not be denied: where all that deny say so.
    pub(super) fn step_up(&self) -> Option<StepUp> {
        let all = self.rules.iter().all(|rule| rule.step_up.is_some());
        let helps = !self.allowed && self.errors.is_empty() && all;
        self.rules.first().filter(|_| helps).and_then(|rule| rule.step_up.clone())
    }
}

/// Shows the verdict in one line, for operators.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules = self.rules.iter().map(ToString::to_string);
        let all: Vec<_> = rules.chain(self.errors.iter().cloned()).collect();
        match (self.allowed, all.is_empty()) {
            (true, _) => write!(f, "allowed by {}", all.join(", ")),
            (false, false) => write!(f, "denied by {}", all.join(", ")),
            (false, true) => f.write_str("denied: no policy permits it"),
        }
    }
}

impl Outcome {
    /// Whether no policy applies, and none failed.
    pub fn is_empty(&self) -> bool {
        self.permits.is_empty() && self.forbids.is_empty() && self.errors.is_empty()
    }

    /// Adds what the policies of another group say to the same question.
    pub fn and(mut self, other: &Self) -> Self {
        self.permits.extend(other.permits.iter().map(Arc::clone));
        self.forbids.extend(other.forbids.iter().map(Arc::clone));
        self.errors.extend(other.errors.iter().cloned());
        self
    }

    /// Decides as Cedar does, `forbid` over `permit` and both over nothing; but Cedar passes over a
    /// policy that failed, and here it denies.
    pub fn verdict(self) -> Verdict {
        let is_permitted = self.forbids.is_empty() && !self.permits.is_empty();
        let mut rules = if self.forbids.is_empty() { self.permits } else { self.forbids };
        rules.sort();
        let allowed = is_permitted && self.errors.is_empty();
        Verdict { allowed, rules, errors: self.errors, is_misfit: false }
    }
}
