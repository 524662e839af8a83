//! The gate's counters and the states of its upstreams as metrics.

use std::{collections::BTreeMap, fmt::Error};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};

use crate::builtin::report::{BreakerStatus, ReplicaReport, Report, UpstreamReport, UpstreamState};

const STATES: [UpstreamState; 6] = [
    UpstreamState::Idle,
    UpstreamState::Opening,
    UpstreamState::Ready,
    UpstreamState::Degraded,
    UpstreamState::Tripped,
    UpstreamState::Failed,
];

/// Reads a value of an upstream.
type ReadUpstream = fn(&UpstreamReport) -> u64;

/// Counts of each upstream, by name.
const COUNTS: [(&str, &str, ReadUpstream); 5] = [
    ("upstream_calls", "Requests sent to an upstream", |one| one.calls),
    ("upstream_failures", "Requests that an upstream failed", |one| one.failures),
    ("upstream_restarts", "Times that an upstream was opened anew", |one| one.restarts),
    ("breaker_opened", "Times that a breaker of an upstream opened", |one| one.breaker_opened),
    ("breaker_refused", "Calls that an open breaker refused", |one| one.breaker_refused),
];

/// Levels of each upstream, by name.
const LEVELS: [(&str, &str, ReadUpstream); 2] = [
    ("upstream_processes", "Running processes of an upstream", |one| one.processes as u64),
    ("upstream_tools", "Tools that an upstream lists", |one| one.tools as u64),
];

/// Reads a value of a replica.
type ReadReplica = fn(&ReplicaReport) -> u64;

/// Levels of each of several replicas, by name.
const REPLICA_LEVELS: [(&str, &str, ReadReplica); 3] = [
    ("replica_well", "1 for a replica that gets calls", |one| u64::from(one.is_well())),
    ("replica_ejected", "1 for a replica that did worse than the others", |one| {
        u64::from(one.ejected)
    }),
    ("replica_calls_under_way", "Calls that are with a replica", |one| one.in_flight.into()),
];

/// A report in words of Prometheus.
#[derive(Debug)]
pub struct ReportCollector(pub Report);

impl Collector for ReportCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let Self(report) = self;
        let version = &[("version", report.version.as_str())];
        let help = "The version that runs";
        let mut build = encoder.encode_descriptor("build_info", help, None, MetricType::Gauge)?;
        build.encode_family(version)?.encode_gauge(&1_u64)?;
        let help = "Seconds since the start";
        let mut uptime =
            encoder.encode_descriptor("uptime_seconds", help, None, MetricType::Gauge)?;
        uptime.encode_gauge(&report.uptime_seconds)?;
        for (name, value) in &report.counters {
            let help = name.replace('_', " ");
            // A family has one type: a gauge of a counter's name keeps its ending.
            let gauge = name.strip_suffix("_now");
            let gauge = gauge.map(|short| match report.counters.contains_key(short) {
                true => name.as_str(),
                false => short,
            });
            match gauge {
                Some(name) => encoder
                    .encode_descriptor(name, &help, None, MetricType::Gauge)?
                    .encode_gauge(value)?,
                None => encoder
                    .encode_descriptor(name, &help, None, MetricType::Counter)?
                    .encode_counter::<NoLabelSet, _, u64>(value, None)?,
            }
        }
        let help = "The end of a certificate that the configuration names, since 1970";
        let unit = Some(&Unit::Seconds);
        let name = "certificate_expiry_timestamp";
        let mut metric = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for one in &report.certificates {
            metric.encode_family(&[("key", one.key.as_str())])?.encode_gauge(&one.expires)?;
        }
        self.budgets(&mut encoder)?;
        self.upstreams(&mut encoder)
    }
}

impl ReportCollector {
    /// The share of each budget that is left for whoever used most of it.
    fn budgets(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut least = BTreeMap::new();
        for one in &self.0.budgets {
            // Two budgets that are written alike in one section are one here.
            let labels =
                [("kind", one.kind), ("name", &*one.name), ("budget", one.budget.as_str())];
            let left = least.entry(labels).or_insert(one.left);
            *left = one.left.min(*left);
        }
        let help = "What is left of a budget of limits, for whoever has used most of it";
        let mut metric =
            encoder.encode_descriptor("limit_budget_left", help, None, MetricType::Gauge)?;
        for (labels, left) in least {
            metric.encode_family(&labels)?.encode_gauge(&u64::from(left))?;
        }
        let help = "Retries that the budget of an upstream has left";
        let mut metric =
            encoder.encode_descriptor("upstream_retries_left", help, None, MetricType::Gauge)?;
        for one in &self.0.upstreams {
            let Some(left) = one.retries_left else { continue };
            metric.encode_family(&[("upstream", one.name.as_str())])?.encode_gauge(&left)?;
        }
        Ok(())
    }

    fn upstreams(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let upstreams = &self.0.upstreams;
        for (name, help, read) in COUNTS {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for one in upstreams {
                metric
                    .encode_family(&[("upstream", one.name.as_str())])?
                    .encode_counter::<NoLabelSet, _, u64>(&read(one), None)?;
            }
        }
        for (name, help, read) in LEVELS {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for one in upstreams {
                let labels = &[("upstream", one.name.as_str())];
                metric.encode_family(labels)?.encode_gauge(&read(one))?;
            }
        }
        let help = "1 for the state that an upstream is in";
        let mut metric =
            encoder.encode_descriptor("upstream_state", help, None, MetricType::Gauge)?;
        for one in upstreams {
            for state in STATES {
                let labels = &[("upstream", one.name.as_str()), ("state", state.word())];
                metric.encode_family(labels)?.encode_gauge(&u64::from(one.state == state))?;
            }
        }
        self.breakers(encoder)?;
        self.replicas(encoder)
    }

    /// Each breaker is in one of three states; that of a whole upstream has an empty `tool`.
    fn breakers(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let help = "1 for the state that a breaker is in";
        let mut metric = encoder.encode_descriptor("breaker", help, None, MetricType::Gauge)?;
        for one in &self.0.upstreams {
            let tools = one.tool_breakers.iter().map(|(name, at)| (name.as_str(), *at));
            let all = one.breaker.map(|at| ("", at)).into_iter().chain(tools);
            for ((tool, at), state) in
                all.flat_map(|one| BreakerStatus::ALL.map(|state| (one, state)))
            {
                let labels =
                    &[("upstream", one.name.as_str()), ("tool", tool), ("state", state.word())];
                metric.encode_family(labels)?.encode_gauge(&u64::from(at == state))?;
            }
        }
        Ok(())
    }

    fn replicas<'a>(&'a self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let upstreams = &self.0.upstreams;
        for (name, help, read) in REPLICA_LEVELS {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            let each =
                |one: &'a UpstreamReport| one.replicas.iter().map(|it| (one.name.as_str(), it));
            for (upstream, replica) in upstreams.iter().flat_map(each) {
                let labels = &[("upstream", upstream), ("replica", replica.url.as_str())];
                metric.encode_family(labels)?.encode_gauge(&read(replica))?;
            }
        }
        let help = "Percent of callers that a successor gets";
        let mut metric =
            encoder.encode_descriptor("canary_weight", help, None, MetricType::Gauge)?;
        for (one, canary) in upstreams.iter().filter_map(|one| Some((one, one.canary.as_ref()?))) {
            let labels = &[("upstream", one.name.as_str()), ("successor", &*canary.upstream)];
            metric.encode_family(labels)?.encode_gauge(&u64::from(canary.weight))?;
        }
        Ok(())
    }
}
