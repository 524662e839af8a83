//! Metrics as Prometheus reads them (`OpenMetrics` 1.0).
//!
//! Label values come from the configuration and from what servers list: no client can make one.

mod calls;
mod common;
mod process;
mod report;

use prometheus_client::{encoding::text, registry::Registry};

use crate::{builtin::report::Report, call::usage::ProcessUsage, telemetry::CallReading};

use self::{
    calls::CallCollector, common::CommonCollector, process::ProcessCollector,
    report::ReportCollector,
};

/// A report, the metrics of calls and what the process uses, in words of Prometheus.
pub fn text(report: Report, calls: Vec<CallReading>, usage: ProcessUsage) -> String {
    let mut all = Registry::default();
    all.register_collector(Box::new(CommonCollector::new(&report, &calls)));
    all.register_collector(Box::new(ProcessCollector(usage)));
    let own = all.sub_registry_with_prefix("tollgate");
    own.register_collector(Box::new(ReportCollector(report)));
    own.register_collector(Box::new(CallCollector(calls)));
    let mut text = String::new();
    // A String takes everything.
    text::encode(&mut text, &all).ok();
    text
}
