//! A call as its trace has it, from its begin to its end.

use std::sync::{Arc, OnceLock};

use crate::{
    call::{UpstreamName, spans::CallSpans},
    telemetry::Outcome,
};

use super::{facts::CallFacts, tracer::Tracer};

/// A call that is traced: told what it is about, and how it ends.
#[derive(Debug)]
pub struct TracedCall {
    tracer: Arc<Tracer>,
    spans: Arc<CallSpans>,
    facts: CallFacts,
    upstream: OnceLock<UpstreamName>,
}

impl TracedCall {
    pub fn new(tracer: &Arc<Tracer>, spans: &Arc<CallSpans>, facts: CallFacts) -> Self {
        let tracer = Arc::clone(tracer);
        let spans = Arc::clone(spans);
        Self { tracer, spans, facts, upstream: OnceLock::new() }
    }

    /// Says which upstream it is about: its target is found, and its name no invention.
    pub fn about(&self, upstream: &UpstreamName) {
        self.upstream.get_or_init(|| upstream.clone());
    }

    /// Ends the call, and exports it where it is to be.
    pub fn end(&self, outcome: Outcome) {
        self.tracer.end(&self.spans, outcome, || self.facts.ended(self.upstream.get().cloned()));
    }
}
