//! The process around a gate: its runtime, its signals, its end.

use std::{future::Future, io};

use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
};

use super::{
    build::Plan,
    error::StartError,
    gate::{Core, RunningGate, Viewer},
    options::Options,
};

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
pub fn serve<T: Future<Output = Result<(), StartError>>>(
    options: Options,
    tell: impl FnOnce(&RunningGate) -> T,
) -> Result<(), StartError> {
    if options.upgrade {
        let reason = "this tollgate was built without its feature `pingora`";
        return Err(StartError::Upgrade(reason.to_owned()));
    }
    runtime()?.block_on(async {
        let gate = super::start(options).await?;
        let mut stop = Stop::new()?;
        let telling = tell(&gate);
        run(gate, telling, stop.asked()).await
    })
}

/// Serves one route (the first of the configuration where none is named) on standard input and
/// output, until the client closes its side, or until SIGTERM or SIGINT. `ready` is awaited before
/// anything is read.
///
/// # Errors
/// Where it does not start, or `ready` fails.
pub fn serve_stdio(
    options: Options,
    route: Option<&str>,
    ready: impl AsyncFnOnce(Viewer) -> Result<(), StartError>,
) -> Result<(), StartError> {
    let runtime = runtime()?;
    let served = runtime.block_on(async {
        let core = Plan::new(options).await?.start_core();
        let mut stop = Stop::new()?;
        let served = tokio::select! {
            // Nothing has been read: nothing is lost.
            served = serve_lines(&core, route, ready) => served,
            () = stop.asked() => Ok(()),
        };
        drain(core.stop()).await?;
        served
    });
    // A thread may wait for input for ever; nothing else is left.
    runtime.shutdown_background();
    served
}

async fn serve_lines(
    core: &Core,
    route: Option<&str>,
    ready: impl AsyncFnOnce(Viewer) -> Result<(), StartError>,
) -> Result<(), StartError> {
    let route = core.route(route)?;
    ready(core.viewer()).await?;
    let served = core.serve_channel(tokio::io::stdin(), tokio::io::stdout(), &route)?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut ended = std::pin::pin!(served.ended());
    loop {
        tokio::select! {
            // Signals are kept until received.
            () = &mut ended => return Ok(()),
            _ = hang_up.recv() => core.reload(),
        }
    }
}

/// Serves until `stop` is done or what is told fails, reads the configuration again at SIGHUP; then
/// drains.
///
/// # Errors
/// What was told, or where signals cannot be waited for.
pub(super) async fn run(
    gate: RunningGate,
    told: impl Future<Output = Result<(), StartError>>,
    stop: impl Future<Output = ()>,
) -> Result<(), StartError> {
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut told = std::pin::pin!(told);
    let mut stop = std::pin::pin!(stop);
    let mut telling = true;
    let mut served = Ok(());
    loop {
        tokio::select! {
            // Signals are kept until received; what is told may be cut short.
            () = &mut stop => break,
            _ = hang_up.recv() => gate.reload(),
            done = &mut told, if telling => {
                telling = false;
                served = done;
                if served.is_err() {
                    break;
                }
            }
        }
    }
    tracing::info!("stopping: no more connections, calls under way may end");
    drain(gate.stop()).await?;
    served
}

async fn drain(stopping: impl Future<Output = ()>) -> io::Result<()> {
    let mut again = Stop::new()?;
    tokio::select! {
        // A second signal means at once: dropping everything kills the children.
        () = stopping => tracing::info!("stopped"),
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
    /// Listens to both, which from now on do not end the process by themselves.
    ///
    /// # Errors
    /// Fails where the runtime cannot install a handler for one of them.
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
