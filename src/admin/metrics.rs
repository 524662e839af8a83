//! The gate's counters, as Prometheus reads them (`OpenMetrics` 1.0). Label values come from the
//! configuration and from what servers list, so no client can make one.

use std::{fmt::Error, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::{Registry, Unit},
};

use crate::{
    builtin::report::{BreakerStatus, ReplicaReport, Report, UpstreamReport, UpstreamState},
    telemetry::{BUCKETS_US, CallReading, ScopeKind},
};

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

/// A report, and the metrics of calls, in words of Prometheus.
pub fn text(report: Report, calls: Vec<CallReading>) -> String {
    let mut registry = Registry::with_prefix("tollgate");
    registry.register_collector(Box::new(ReportCollector(report)));
    registry.register_collector(Box::new(CallCollector(calls)));
    let mut text = String::new();
    // A String takes everything.
    text::encode(&mut text, &registry).ok();
    text
}

#[derive(Debug)]
struct ReportCollector(Report);

#[derive(Debug)]
struct CallCollector(Vec<CallReading>);

impl Collector for CallCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        ScopeKind::ALL.iter().try_for_each(|kind| {
            self.outcomes(*kind, &mut encoder)?;
            self.durations(*kind, &mut encoder)
        })
    }
}

impl CallCollector {
    fn of(&self, kind: ScopeKind) -> impl Iterator<Item = &CallReading> {
        self.0.iter().filter(move |one| one.scope.kind() == kind)
    }

    fn outcomes(&self, kind: ScopeKind, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let of = kind.name();
        let name = format!("{of}_outcomes");
        let help = format!("Calls of a {of} by outcome");
        let mut metric = encoder.encode_descriptor(&name, &help, None, MetricType::Counter)?;
        let each = self.of(kind).flat_map(|one| one.outcomes.iter().map(move |each| (one, each)));
        for (one, (outcome, count)) in each {
            let mut labels = one.scope.labels();
            labels.push(("outcome", outcome));
            let mut counter = metric.encode_family(&labels)?;
            counter.encode_counter::<NoLabelSet, _, u64>(count, None)?;
        }
        Ok(())
    }

    fn durations(&self, kind: ScopeKind, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        let of = kind.name();
        let name = format!("{of}_call");
        let help = format!("Time that calls of a {of} took");
        let unit = Some(&Unit::Seconds);
        let histogram = MetricType::Histogram;
        let mut metric = encoder.encode_descriptor(&name, &help, unit, histogram)?;
        for one in self.of(kind) {
            let bounds = BUCKETS_US.map(|us| Duration::from_micros(us).as_secs_f64());
            let bounds = bounds.into_iter().chain([f64::INFINITY]);
            let buckets: Vec<_> = bounds.zip(one.buckets.iter().copied()).collect();
            let sum = one.sum.as_secs_f64();
            let count = one.buckets.iter().sum();
            metric
                .encode_family(&one.scope.labels())?
                .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}

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
            match name.strip_suffix("_now") {
                Some(name) => encoder
                    .encode_descriptor(name, &help, None, MetricType::Gauge)?
                    .encode_gauge(value)?,
                None => encoder
                    .encode_descriptor(name, &help, None, MetricType::Counter)?
                    .encode_counter::<NoLabelSet, _, u64>(value, None)?,
            }
        }
        self.upstreams(&mut encoder)
    }
}

impl ReportCollector {
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
