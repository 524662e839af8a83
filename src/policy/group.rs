//! Policies that are asked together, compiled to what a slice leaves open of each.

use std::sync::Arc;

use cedar_policy::Effect;
use cedar_policy_core::{
    ast::{Expr, Literal, PrincipalConstraint, PrincipalOrResourceConstraint, SlotEnv, ValueKind},
    evaluator::Evaluator,
};

use super::{
    arguments::RequestedArguments,
    reads::Reads,
    rule::{ParsedPolicy, PolicyRule},
    verdict::Outcome,
};

/// Policies that are asked the same question, and what they read of it.
#[derive(Debug, Default)]
pub struct PolicyGroup {
    policies: Vec<CompiledPolicy>,
    /// Attributes that they ask for together.
    pub reads: Reads,
    pub wanted: RequestedArguments,
}

/// What is left to ask of a policy whose action and resource fit.
#[derive(Debug)]
struct CompiledPolicy {
    rule: Arc<PolicyRule>,
    effect: Effect,
    /// Who it is for, and its `when` and `unless`; none where it always applies.
    condition: Option<Expr>,
}

impl PolicyGroup {
    /// Compiles policies of which it is known that the action and the resource of the question are
    /// within their scope.
    pub fn new<'a>(policies: impl Iterator<Item = &'a ParsedPolicy>) -> Self {
        let mut group = Self::default();
        for known in policies {
            group.policies.push(CompiledPolicy::new(known));
            group.reads.add(&known.reads);
        }
        group.wanted = RequestedArguments::new(&group.reads.arguments);
        group
    }

    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    /// Asks each of them.
    pub fn evaluate(&self, evaluator: &Evaluator<'_>) -> Outcome {
        let mut outcome = Outcome::default();
        for policy in &self.policies {
            match policy.applies(evaluator) {
                Ok(false) => (),
                Ok(true) if policy.effect == Effect::Permit => {
                    outcome.permits.push(Arc::clone(&policy.rule));
                }
                Ok(true) => outcome.forbids.push(Arc::clone(&policy.rule)),
                Err(error) => outcome.errors.push(error),
            }
        }
        outcome
    }
}

impl CompiledPolicy {
    fn new(known: &ParsedPolicy) -> Self {
        let policy: &cedar_policy_core::ast::Policy = known.policy.as_ref();
        let whose = whose(&policy.principal_constraint());
        let when = policy.non_scope_constraints().cloned();
        let condition = match (whose, when) {
            (Some(whose), Some(when)) => Some(Expr::and(whose, when)),
            (one, other) => one.or(other),
        };
        Self { rule: Arc::clone(&known.rule), effect: known.policy.effect(), condition }
    }

    fn applies(&self, evaluator: &Evaluator<'_>) -> Result<bool, String> {
        let Some(condition) = &self.condition else { return Ok(true) };
        let failed = |error: &dyn std::fmt::Display| {
            format!("error while evaluating policy `{}`: {error}", self.rule.place)
        };
        // No slot is left: nothing that fills templates is read.
        let value = evaluator.interpret(condition, &SlotEnv::new());
        let value = value.map_err(|error| failed(&error))?;
        let ValueKind::Lit(Literal::Bool(applies)) = value.value_kind() else {
            return Err(failed(&"its condition is neither true nor false"));
        };
        Ok(*applies)
    }
}

/// The condition on who calls; none where it is for all: callers are of one type.
fn whose(constraint: &PrincipalConstraint) -> Option<Expr> {
    let is_open = matches!(constraint.as_inner(), PrincipalOrResourceConstraint::Any);
    (!is_open).then(|| constraint.as_expr())
}
