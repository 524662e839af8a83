//! How well it holds: breakers of an upstream and its tools, retries within a budget, the times of
//! a tool; which of several replicas gets a call, and the trial of a successor.
//!
//! Each upstream has a [`Circuit`]. [`Circuit::attempt`] is the one maker of an [`Attempt`] for a
//! call, without which `upstream` sends nothing; it learns how that went, once.

pub mod affinity;
mod attempt;
pub mod balance;
mod breaker;
mod budget;
pub mod canary;
mod circuit;
pub mod ejection;
pub mod health;
pub mod hedge_budget;
mod machine;
mod retry;
mod tool_breakers;

use std::time::Duration;

pub use self::{
    attempt::{Attempt, AttemptOutcome, Continuation},
    circuit::{Circuit, CircuitStatus},
    machine::BreakerState,
    retry::FailedAttempt,
};
pub use crate::config::Cause;

/// A breaker lets no call through for as long; what it says is for operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its breaker is open for {0:?} more (`breaker`)")]
pub struct CircuitOpen(pub Duration);

#[cfg(test)]
mod tests;
