//! Traces: the spans of a call become one OpenTelemetry trace, exported where it is sampled, failed
//! or slow.
//!
//! Spans are made by hand of what a call knows (`call::spans`), not by a layer on `tracing`: with
//! traces off a call pays a branch, and which spans are kept is decided when it ends.

mod call;
mod export;
mod facts;
mod otlp;
mod settings;
mod tracer;

pub use self::{
    call::TracedCall, export::Exporter, facts::CallFacts, settings::TraceSettings, tracer::Tracer,
};
