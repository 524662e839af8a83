//! Exports calls that ended in batches, by a task of its own: no call waits for the collector.

use std::{sync::Arc, time::Duration};

use opentelemetry_otlp::{ExporterBuildError, SpanExporter};
use opentelemetry_sdk::trace::SpanExporter as _;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    call::tasks::Tasks,
    net::Net,
    telemetry::{Counter, Counters, throttle},
};

use super::{facts::EndedCall, otlp, settings::TraceSettings, tracer::Tracer};

/// Calls of one batch; with a few spans each it is some hundred kilobytes.
const BATCH_MAX: usize = 512;
/// The time that a batch waits for more calls.
const BATCH_INTERVAL: Duration = Duration::from_secs(1);
/// How often a batch is sent before it is given up, and the pause before the next time; the queue
/// fills meanwhile.
const TRIES: u32 = 3;
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// The time that the collector has for the last batch once the gate ends.
const LAST: Duration = Duration::from_secs(1);

/// Takes calls that ended, and exports them.
#[derive(Debug)]
pub struct Exporter {
    otlp: SpanExporter,
    queue: mpsc::Receiver<EndedCall>,
    /// The calls of the batch that is gathered or sent.
    batch: Vec<EndedCall>,
    timeout: Duration,
    /// The collector, for lines of the log: its address without what may be secret in it.
    collector: String,
    counters: Arc<Counters>,
}

impl Exporter {
    /// Makes the tracer of a gate, and the exporter of what it traces.
    ///
    /// # Errors
    /// Where the address is none, or OpenTelemetry's variables say what cannot be.
    pub fn start(
        settings: &TraceSettings,
        net: Net,
        counters: &Arc<Counters>,
    ) -> Result<(Arc<Tracer>, Self), ExporterBuildError> {
        let otlp = otlp::exporter(settings, net)?;
        let (tracer, queue) = Tracer::new(settings, counters);
        let collector = otlp::shown(&settings.url);
        let counters = Arc::clone(counters);
        let timeout = settings.timeout;
        let exporter = Self { otlp, queue, batch: Vec::new(), timeout, collector, counters };
        Ok((Arc::new(tracer), exporter))
    }

    /// Exports until the gate's tasks are stopped, and then what is left, once.
    pub async fn run(mut self, tasks: Tasks) {
        loop {
            let has_ended = tokio::select! {
                // Safe: what was gathered stays in the batch.
                () = tasks.stopped() => break,
                gathered = self.gather() => !gathered,
            };
            if has_ended {
                return;
            }
            tokio::select! {
                // Safe: the batch is exported once more below.
                () = tasks.stopped() => break,
                () = self.export_patiently() => self.batch.clear(),
            }
        }
        while let Ok(call) = self.queue.try_recv() {
            self.batch.push(call);
        }
        if !self.batch.is_empty() {
            let exported = timeout(LAST, self.export()).await;
            self.count(matches!(exported, Ok(Ok(()))));
        }
    }

    /// Gathers the calls of a batch; false where nobody is left to send any.
    async fn gather(&mut self) -> bool {
        if self.queue.recv_many(&mut self.batch, BATCH_MAX).await == 0 {
            return false;
        }
        let due = Instant::now() + BATCH_INTERVAL;
        while self.batch.len() < BATCH_MAX {
            let room = BATCH_MAX - self.batch.len();
            match timeout_at(due, self.queue.recv_many(&mut self.batch, room)).await {
                Ok(0) | Err(_) => break,
                Ok(_) => (),
            }
        }
        true
    }

    async fn export_patiently(&self) {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.export().await {
                Ok(()) => return self.count(true),
                Err(error) if tries == TRIES => return self.give_up(&error),
                Err(_) => tokio::time::sleep(RETRY_PAUSE * tries).await,
            }
        }
    }

    fn give_up(&self, error: &str) {
        self.count(false);
        throttle::line("traces lost", |more| {
            tracing::warn!(
                collector = self.collector.as_str(),
                calls = self.batch.len(),
                more,
                "traces are lost (`endpoint` of `[telemetry]`): {error}"
            );
        });
    }

    async fn export(&self) -> Result<(), String> {
        let spans = self.batch.iter().flat_map(otlp::spans).collect();
        match timeout(self.timeout, self.otlp.export(spans)).await {
            Ok(exported) => exported.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {:?} (`timeout`)", self.timeout)),
        }
    }

    fn count(&self, is_exported: bool) {
        let counter = if is_exported { Counter::TracesExported } else { Counter::TracesFailed };
        self.counters.add_many(counter, self.batch.len());
    }
}
