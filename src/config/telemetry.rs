//! `[telemetry]`: traces of calls, and where they go.

use super::{
    resilience::Share,
    toml::{
        section::{HOUR, MINUTE, SECOND},
        table::section,
        value::{BoundedDuration, Count, Url},
    },
    transport::Headers,
};

section! {
    /// Traces: the spans of calls, exported by OTLP. Without an address, here or in
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`, there are none. A change takes effect at the next start.
    #[derive(Debug, Clone, PartialEq)]
    Telemetry {
        /// The address of an OpenTelemetry collector that takes OTLP over HTTP, such as
        /// `http://127.0.0.1:4318`; `/v1/traces` is put behind it.
        endpoint: Option<Url>,
        /// Headers that are sent to the collector, such as a key of it.
        headers: Headers,
        /// The name of this gate in traces (`service.name`), unless `OTEL_SERVICE_NAME` says
        /// another.
        service: String = "tollgate",
        /// The share of traces that are sampled of those that begin here. A trace that began before
        /// is sampled where its client says so.
        sample: Option<Share>,
        /// Whether a call that failed is exported, also where its trace is not sampled.
        errors: bool = true,
        /// The time from which a call is slow, and exported also where its trace is not sampled.
        slow: BoundedDuration<1, HOUR> = "5s",
        /// The shortest time that a stage of the gate's own takes for a span; what is sent to
        /// upstreams always has one.
        // A stage that took less is not why a call was slow.
        stage_min: BoundedDuration<0, { 10 * SECOND }> = "1ms",
        /// Keys of W3C baggage that is sent on to upstreams; of all else nothing is.
        // It may hold whatever a client puts there, about a person for instance.
        baggage: Vec<String>,
        /// Spans of one call; further ones are left out and counted.
        spans_max: Count<1, 1_000> = 64,
        /// Calls whose spans wait for the collector; further ones are dropped and counted.
        // A second of a busy gate, and some ten megabytes at most.
        queue_max: Count<16, 100_000> = 2_048,
        /// The time that the collector has to take a batch.
        // As OpenTelemetry's exporters have it.
        timeout: BoundedDuration<10, MINUTE> = "10s",
    }
}
