//! The process around a gate: its runtime, its signals, its end.

use std::{future::Future, io};

use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
};

use super::Gate;
#[cfg(not(feature = "pingora"))]
use super::{Options, StartError};

/// The runtime that serves: the one place where that is decided.
///
/// # Errors
/// Where the system gives no threads.
pub fn runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread().enable_all().thread_name("tollgate").build()
}

/// Starts a gate and serves until SIGTERM or SIGINT; `tell` is called as soon as it listens, and
/// what it gives runs beside.
///
/// # Errors
/// Where it does not start.
#[cfg(not(feature = "pingora"))]
pub fn serve<T: Future<Output = ()>>(
    options: Options,
    tell: impl FnOnce(&Gate) -> T,
) -> Result<(), StartError> {
    if options.upgrade {
        let reason = "this tollgate was built without its feature `pingora`";
        return Err(StartError::Upgrade(reason.to_owned()));
    }
    runtime()?.block_on(async {
        let gate = super::start(options).await?;
        let mut stop = Stop::new()?;
        let telling = tell(&gate);
        Ok(run(gate, telling, stop.asked()).await?)
    })
}

/// Serves until `stop` is done, reads the configuration again at SIGHUP; then drains.
///
/// # Errors
/// Where signals cannot be waited for.
pub(super) async fn run(
    gate: Gate,
    told: impl Future<Output = ()>,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut hang_up = signal(SignalKind::hangup())?;
    let (mut told, mut stop) = (std::pin::pin!(told), std::pin::pin!(stop));
    let mut telling = true;
    loop {
        tokio::select! {
            // Signals are kept until received; what is told may be cut short.
            () = &mut stop => break,
            _ = hang_up.recv() => gate.reload(),
            () = &mut told, if telling => telling = false,
        }
    }
    let mut again = Stop::new()?;
    tracing::info!("stopping: no more connections, calls under way may end");
    tokio::select! {
        // A second signal means at once: dropping everything kills the children.
        () = gate.stop() => tracing::info!("stopped"),
        () = again.asked() => tracing::warn!("stopped at once"),
    }
    Ok(())
}

/// The signals that ask for an end: SIGTERM and SIGINT.
pub(super) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    /// From now on they do not end the process by themselves.
    pub fn new() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    pub async fn asked(&mut self) {
        tokio::select! {
            // Signals are kept until received.
            _ = self.terminate.recv() => (),
            _ = self.interrupt.recv() => (),
        }
    }
}
