//! What the gate's own process uses, under the names of Prometheus' client libraries.

use std::fmt::Error;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};

use crate::call::usage::ProcessUsage;

#[derive(Debug)]
pub struct ProcessCollector(pub ProcessUsage);

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let usage = &self.0;
        let help = "Processor time of this process";
        let unit = Some(&Unit::Seconds);
        encoder
            .encode_descriptor("process_cpu", help, unit, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, u64>(&usage.cpu.as_secs_f64(), None)?;
        let help = "Start of this process since 1970";
        encoder
            .encode_descriptor("process_start_time", help, unit, MetricType::Gauge)?
            .encode_gauge(&usage.started.as_secs_f64())?;
        let unit = Some(&Unit::Bytes);
        for (name, help, bytes) in [
            ("process_resident_memory", "Memory of this process", usage.resident_bytes),
            ("process_virtual_memory", "Address space of this process", usage.virtual_bytes),
        ] {
            encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?.encode_gauge(&bytes)?;
        }
        for (name, help, count) in [
            ("process_open_fds", "Open descriptors of this process", Some(usage.open_descriptors)),
            ("process_max_fds", "Descriptors that this process may have", usage.descriptors_max),
            ("process_threads", "Threads of this process", Some(usage.threads)),
        ] {
            let Some(count) = count else { continue };
            encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&count)?;
        }
        Ok(())
    }
}
