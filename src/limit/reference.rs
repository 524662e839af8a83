//! Limits at moments that are said, as this process decides and as the store's script does: for the
//! test that holds one to the other.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use crate::config::Config;

use super::{
    LimitRefusal,
    bucket::Now,
    rule::{self, Rule},
    shared,
};

/// The limits of a configuration's first upstream, with one bucket each.
#[derive(Debug)]
pub struct ReferenceLimits(Vec<Arc<Rule>>);

/// The script, by a clock: a line of Lua that sets `clock` as `TIME` of Redis has it.
pub fn script(clock: &str) -> String {
    shared::script(clock)
}

impl ReferenceLimits {
    pub fn new(config: &Config) -> Self {
        let limits = config.upstreams.iter().take(1).flat_map(|upstream| &upstream.limits);
        Self(limits.map(|limit| Arc::new(Rule::new(limit, &[], 0))).collect())
    }

    /// How many limits there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Decides in this process; `at` is since 1970.
    ///
    /// # Errors
    /// Where a limit refuses.
    pub fn take(&self, cost: NonZeroU32, at: Duration) -> Result<(), LimitRefusal> {
        let now = Now { elapsed: at, unix: at.as_secs() };
        rule::try_take(&self.keys(), cost, now)?.commit(self.0.len().max(1_000), now);
        Ok(())
    }

    /// Arguments with which the script decides the same request.
    pub fn arguments(&self, cost: NonZeroU32) -> Vec<String> {
        let words = self.0.iter().flat_map(|rule| rule.words());
        [cost.to_string()].into_iter().chain(words).collect()
    }

    /// Reads the script's answer.
    ///
    /// # Errors
    /// Where a limit refuses.
    pub fn decided(&self, answer: &[i64]) -> Result<(), LimitRefusal> {
        shared::refusal(&self.keys(), &shared::waits(answer)).map_or(Ok(()), Err)
    }

    fn keys(&self) -> Vec<(&Arc<Rule>, u64)> {
        self.0.iter().map(|rule| (rule, 0)).collect()
    }
}
