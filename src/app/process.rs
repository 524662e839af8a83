//! The process around a gate: its runtime, its signals, its end.

use std::future::Future;

use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal},
};

use super::Gate;

/// The runtime that serves: the one place where that is decided.
///
/// # Errors
/// Where the system gives no threads.
pub fn runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread().enable_all().thread_name("tollgate").build()
}

/// Serves until SIGTERM or SIGINT, reads the configuration again at SIGHUP; then drains.
///
/// # Errors
/// Where signals cannot be waited for.
pub async fn run(gate: Gate, told: impl Future<Output = ()>) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut told = std::pin::pin!(told);
    let mut telling = true;
    loop {
        tokio::select! {
            // Signals are kept until received; what is told may be cut short.
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => gate.reload(),
            () = &mut told, if telling => telling = false,
        }
    }
    tracing::info!("stopping: no more connections, calls under way may end");
    tokio::select! {
        // A second signal means at once: dropping everything kills the children.
        () = gate.stop() => tracing::info!("stopped"),
        _ = terminate.recv() => tracing::warn!("stopped at once"),
        _ = interrupt.recv() => tracing::warn!("stopped at once"),
    }
    Ok(())
}
