//! Calls of each route, upstream and tool, by outcome and by time.

use std::{fmt::Error, time::Duration};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};

use crate::telemetry::{BUCKETS_US, CallPart, CallReading, HistogramReading, ScopeKind};

#[derive(Debug)]
pub struct CallCollector(pub Vec<CallReading>);

impl Collector for CallCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        ScopeKind::ALL.iter().try_for_each(|kind| {
            self.outcomes(*kind, &mut encoder)?;
            let mut parts = CallPart::ALL.iter();
            parts.try_for_each(|part| self.durations(*kind, *part, &mut encoder))
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
            labels.push(("outcome", outcome.name()));
            let mut counter = metric.encode_family(&labels)?;
            counter.encode_counter::<NoLabelSet, _, u64>(count, None)?;
        }
        Ok(())
    }

    fn durations(
        &self,
        kind: ScopeKind,
        part: CallPart,
        encoder: &mut DescriptorEncoder<'_>,
    ) -> Result<(), Error> {
        let of = kind.name();
        let name = format!("{of}_{}", part.name());
        let help = match part {
            CallPart::Whole => format!("Time that calls of a {of} took"),
            CallPart::Upstream => format!("Time that calls of a {of} were at their upstream"),
            CallPart::Gate => format!("Time that calls of a {of} took without their upstream"),
        };
        let unit = Some(&Unit::Seconds);
        let histogram = MetricType::Histogram;
        let mut metric = encoder.encode_descriptor(&name, &help, unit, histogram)?;
        for one in self.of(kind) {
            let reading = one.parts.get(part as usize).filter(|part| 0 < part.count());
            reading.map_or(Ok(()), |reading| encode(&mut metric, &one.scope.labels(), reading))?;
        }
        Ok(())
    }
}

/// Encodes a histogram of these labels.
///
/// # Errors
/// Where the text that is written to takes no more.
pub fn encode(
    metric: &mut MetricEncoder<'_>,
    labels: &impl EncodeLabelSet,
    reading: &HistogramReading,
) -> Result<(), Error> {
    let bounds = BUCKETS_US.map(|us| Duration::from_micros(us).as_secs_f64());
    let bounds = bounds.into_iter().chain([f64::INFINITY]);
    let buckets: Vec<_> = bounds.zip(reading.buckets.iter().copied()).collect();
    let sum = reading.sum.as_secs_f64();
    let mut family = metric.encode_family(labels)?;
    family.encode_histogram::<NoLabelSet>(sum, reading.count(), &buckets, None)
}
