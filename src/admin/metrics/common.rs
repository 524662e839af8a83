//! Metrics under the names that dashboards for MCP servers and their circuit breakers expect:
//! `mcp.tool.*`, `downstream.*` and `circuit_breaker.state`, with underscores in place of dots.

use std::{collections::BTreeMap, fmt::Error};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};

use crate::{
    builtin::report::{BreakerStatus, Report},
    telemetry::{CallPart, CallReading, HistogramReading, MetricScope, Outcome, Reason},
};

use super::calls;

const SUCCESS: &str = "success";
const ERROR: &str = "error";

/// Labels by name, in the order of the dashboards' own.
type Labels = Vec<(&'static str, String)>;

/// The readings by their labels. Tools of one name at several upstreams are one here, since the
/// names of these metrics have no label for the upstream of a tool.
#[derive(Debug, Default)]
pub struct CommonCollector {
    tool_calls: BTreeMap<Labels, u64>,
    tool_durations: BTreeMap<Labels, HistogramReading>,
    downstream_calls: BTreeMap<Labels, u64>,
    downstream_durations: BTreeMap<Labels, HistogramReading>,
    breakers: BTreeMap<String, BreakerStatus>,
}

impl CommonCollector {
    pub fn new(report: &Report, calls: &[CallReading]) -> Self {
        let mut made = Self::default();
        for reading in calls {
            match &reading.scope {
                MetricScope::Route(_) => (),
                MetricScope::Upstream(name) => made.add_upstream(name, reading),
                MetricScope::Tool(upstream, tool) => made.add_tool(upstream, tool, reading),
            }
        }
        for one in &report.upstreams {
            let tools = one.tool_breakers.iter();
            made.breakers.extend(one.breaker.map(|at| (one.name.clone(), at)));
            made.breakers.extend(tools.map(|(tool, at)| (format!("{}/{tool}", one.name), *at)));
        }
        made
    }

    fn add_upstream(&mut self, name: &str, reading: &CallReading) {
        for (outcome, count) in &reading.outcomes {
            let Some(status) = downstream_status(*outcome) else { continue };
            let labels = vec![("service", name.to_owned()), ("status", status.to_owned())];
            *self.downstream_calls.entry(labels).or_default() += count;
        }
    }

    fn add_tool(&mut self, upstream: &str, tool: &str, reading: &CallReading) {
        let named = || ("tool", tool.to_owned());
        for (outcome, count) in &reading.outcomes {
            let status = ("status", tool_status(*outcome).to_owned());
            *self.tool_calls.entry(vec![named(), status]).or_default() += count;
        }
        let of = |part: CallPart| reading.parts.get(part as usize);
        merge(&mut self.tool_durations, vec![named()], of(CallPart::Whole));
        let labels = vec![("service", upstream.to_owned()), ("endpoint", tool.to_owned())];
        merge(&mut self.downstream_durations, labels, of(CallPart::Upstream));
    }
}

fn merge(
    all: &mut BTreeMap<Labels, HistogramReading>,
    labels: Labels,
    reading: Option<&HistogramReading>,
) {
    let Some(reading) = reading.filter(|reading| 0 < reading.count()) else { return };
    match all.get_mut(&labels) {
        Some(sum) => sum.merge(reading),
        None => drop(all.insert(labels, reading.clone())),
    }
}

/// Whether a tool did what it was called for, or asks something first.
fn tool_status(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok | Outcome::InputRequired => SUCCESS,
        Outcome::ToolError | Outcome::Error | Outcome::Failed(_) => ERROR,
    }
}

/// Whether a server answered as it should, also that its tool failed; none for what the gate
/// refused, or its client gave up, without the server.
fn downstream_status(outcome: Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Ok | Outcome::ToolError | Outcome::InputRequired => Some(SUCCESS),
        Outcome::Error
        | Outcome::Failed(
            Reason::ServiceTimeout
            | Reason::ServiceUnavailable
            | Reason::ResponseTooLarge
            | Reason::UpstreamError,
        ) => Some(ERROR),
        Outcome::Failed(_) => None,
    }
}

impl Collector for CommonCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let encoder = &mut encoder;
        let help = "Calls of a tool, by whether it did what it was called for";
        counters(encoder, "mcp_tool_calls", help, &self.tool_calls)?;
        let help = "Time that calls of a tool took";
        histograms(encoder, "mcp_tool_duration", help, &self.tool_durations)?;
        let help = "Calls of a server, by whether it answered";
        counters(encoder, "downstream_calls", help, &self.downstream_calls)?;
        let help = "Time that a server took for calls of a tool";
        histograms(encoder, "downstream_duration", help, &self.downstream_durations)?;
        let help = "1 for the state that a circuit breaker is in";
        let name = "circuit_breaker_state";
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (name, at) in &self.breakers {
            for state in BreakerStatus::ALL {
                let labels = &[("name", name.as_str()), ("state", state.word())];
                metric.encode_family(labels)?.encode_gauge(&u64::from(*at == state))?;
            }
        }
        Ok(())
    }
}

fn counters(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    counts: &BTreeMap<Labels, u64>,
) -> Result<(), Error> {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, count) in counts {
        let mut counter = metric.encode_family(labels)?;
        counter.encode_counter::<NoLabelSet, _, u64>(count, None)?;
    }
    Ok(())
}

fn histograms(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    readings: &BTreeMap<Labels, HistogramReading>,
) -> Result<(), Error> {
    let unit = Some(&Unit::Seconds);
    let histogram = MetricType::Histogram;
    let mut metric = encoder.encode_descriptor(name, help, unit, histogram)?;
    readings.iter().try_for_each(|(labels, one)| calls::encode(&mut metric, labels, one))
}
