//! The permission to send a request once, and how it went.

use std::time::Duration;

use crate::config::Cause;

use super::{breaker::BreakerPermit, machine::Sample, tool_breakers::ToolRecord};

/// Proof that a request may be sent once. Dropped without an outcome (its client went away, say) it
/// says nothing, and gives back what permits it has.
#[derive(Debug)]
pub struct Attempt {
    pub(super) whole: Option<BreakerPermit>,
    /// Permit of a tool, prompt or resource that has a breaker: by its section, or since it failed.
    pub(super) tool: Option<BreakerPermit>,
    /// The tool, prompt or resource, where failures of it alone are none of the whole.
    pub(super) record: Option<ToolRecord>,
}

/// Proof that a request was let through once; only an [`Attempt`] gives it. What is begun is
/// brought to its end, however the breakers stand by then.
#[derive(Debug, Clone)]
pub struct Continuation(());

impl Continuation {
    /// Makes an attempt for what a request leads to that was let through.
    pub fn attempt(&self) -> Attempt {
        Attempt { whole: None, tool: None, record: None }
    }
}

/// How a request went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The server answered: also with a tool's own error, or by asking back.
    Answered,
    Failed(Cause),
    /// The server could not be reached, or broke off before it began to answer: no tool's fault.
    Disconnected,
    /// Not by the server's doing.
    Unknown,
}

impl Attempt {
    /// Joins it with the attempt at one of several replicas, which lets it through by a breaker of
    /// its own.
    pub fn at(self, replica: Self) -> Self {
        Self { whole: replica.whole, tool: self.tool.or(replica.tool), record: replica.record }
    }

    /// Proof that it was let through, for what it leads to.
    pub fn continuation(&self) -> Continuation {
        Continuation(())
    }

    /// Says how it went. `took` is the time of the server; none where a person's is in it.
    pub fn end(self, ending: AttemptOutcome, took: Option<Duration>) {
        if ending == AttemptOutcome::Unknown {
            return;
        }
        let disconnected = ending == AttemptOutcome::Disconnected;
        let number = self.record.as_ref().filter(|_| !disconnected).map_or(0, |record| record.tool);
        let mark = |held: &BreakerPermit| {
            let counts = |cause| held.breaker().counts(cause);
            let failed = match ending {
                AttemptOutcome::Failed(cause) => counts(cause),
                AttemptOutcome::Disconnected => counts(Cause::Transport),
                AttemptOutcome::Answered | AttemptOutcome::Unknown => false,
            };
            let slow = took.is_some_and(|took| held.breaker().is_slow(took));
            Sample { failed, slow, tool: number }
        };
        let has_own = self.record.is_none();
        if let Some(held) = self.tool {
            let mark = mark(&held);
            held.end(mark);
            // A tool whose section has a breaker opens no other; a connection is not its own.
            if has_own && !disconnected && !mark.is_good() {
                return;
            }
        }
        if let Some(whole) = self.whole {
            let mark = mark(&whole);
            if let Some(record) = self.record {
                record.breakers.record(number, mark);
            }
            whole.end(mark);
        }
    }
}
