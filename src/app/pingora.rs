//! The process around a gate as pingora's server runs it: signals, stop, and the hand-over of the
//! listening socket to a new process.
//!
//! The gate itself runs on our own runtime, because pingora's grace period is a fixed sleep and its
//! runtimes drop what still runs after it: its server returns, and then the gate drains.

use std::{
    future::Future,
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    net::SocketAddr,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use pingora_core::{
    server::{
        ListenFds, RunArgs, Server, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch,
        configuration::ServerConf,
    },
    services::Service,
};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::{
    io::Interest,
    net::{TcpListener, UnixListener, UnixStream},
    signal::unix::{Signal, SignalKind, signal},
    sync::{Mutex, oneshot},
};

use super::{
    build::Plan,
    error::StartError,
    gate::RunningGate,
    options::Options,
    process::{self, Stop},
};

/// The address at which a new process waits for the socket; in the state folder, which only its
/// owner enters.
const SOCKET_FILE: &str = "upgrade.sock";
/// A new process waits this long for the old one: time to type its SIGQUIT.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(60);
/// A gate listens on one address; pingora itself sends 32 at most, in 2,048 bytes.
const SOCKETS_MAX: usize = 32;
const ADDRESSES_BYTES_MAX: usize = 2_048;

/// Starts a gate and serves until SIGTERM or SIGINT, or until a SIGQUIT by which the listening
/// socket goes over to a new process that waits for it (`upgrade`); `tell` is called as soon as
/// it listens, and what it gives runs beside.
///
/// # Errors
/// Where it does not start.
pub fn serve<T: Future<Output = Result<(), StartError>>>(
    options: Options,
    tell: impl FnOnce(&RunningGate) -> T,
) -> Result<(), StartError> {
    process::runtime()?.block_on(async {
        // The configuration is checked first of all: a mistake in the new configuration must leave
        // the old process alone.
        let plan = Plan::new(options).await?;
        let server = &plan.config.server;
        let address = server.listen;
        let path = server.state.join(SOCKET_FILE);
        let taken = if plan.options.upgrade { take_over(&path, address).await? } else { None };
        let listener = match taken {
            Some(listener) => listener,
            None => plan.bind().await?,
        };
        let (shown, is_shown) = oneshot::channel();
        let socket = listener.as_fd().try_clone_to_owned()?;
        let listening = ListeningSocket { address, socket, shown: Some(shown) };
        let signals = Signals::new(path.clone())?;
        let gate = plan.start(listener)?;
        let stopped = run_server(listening, signals, &path)?;
        // The gate is stopped at once where the server fails at once.
        is_shown.await.ok();
        let telling = tell(&gate);
        process::run(gate, telling, stopped).await
    })
}

/// pingora's server on a thread of its own; done when it has ended.
fn run_server(
    listening: ListeningSocket,
    signals: Signals,
    path: &Path,
) -> io::Result<impl Future<Output = ()>> {
    let conf = ServerConf {
        upgrade_sock: path.to_string_lossy().into_owned(),
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    };
    let (over, is_over) = oneshot::channel::<()>();
    std::thread::Builder::new().name("pingora".to_owned()).spawn(move || {
        let mut server = Server::new_with_opt_and_conf(None, conf);
        server.add_service(listening);
        server.run(RunArgs { shutdown_signal: Box::new(signals) });
        drop(over);
    })?;
    // Dropped in any case, also by a panic: never sent.
    Ok(async move { drop(is_over.await) })
}

/// Puts the listening socket into the table that pingora hands over.
struct ListeningSocket {
    address: SocketAddr,
    /// The socket, kept for as long as its number is in the table.
    socket: OwnedFd,
    shown: Option<oneshot::Sender<()>>,
}

#[async_trait]
impl Service for ListeningSocket {
    async fn start_service(
        &mut self,
        sockets: Option<ListenFds>,
        mut shutdown: ShutdownWatch,
        _listeners_per_fd: usize,
    ) {
        if let Some(sockets) = sockets {
            sockets.lock().add(self.address.to_string(), self.socket.as_raw_fd());
        }
        self.shown.take();
        // An error means that the server is gone.
        shutdown.changed().await.ok();
    }

    fn name(&self) -> &str {
        "listener"
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        Some(vec![self.address.to_string()])
    }
}

/// The signals that pingora's server is told of.
struct Signals {
    /// Locked by the one wait that there is.
    inner: Mutex<(Stop, Signal)>,
    path: PathBuf,
}

impl Signals {
    fn new(path: PathBuf) -> io::Result<Self> {
        Ok(Self { inner: Mutex::new((Stop::new()?, signal(SignalKind::quit())?)), path })
    }
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let (stop, quit) = &mut *self.inner.lock().await;
        loop {
            tokio::select! {
                // Signals are kept until received.
                () = stop.asked() => return ShutdownSignal::GracefulTerminate,
                _ = quit.recv() => (),
            }
            // pingora ends after a hand-over that failed, too: so see first whether anybody waits.
            match UnixStream::connect(&self.path).await {
                Ok(_) => return ShutdownSignal::GracefulUpgrade,
                Err(_) => tracing::warn!(
                    "nobody to hand over to: start `tollgate run --upgrade` before SIGQUIT"
                ),
            }
        }
    }
}

/// Waits for the sockets of the process that serves; none where it listens on another address.
///
/// pingora's own receiving half is not used: it gives bare numbers, of which only `unsafe` makes
/// sockets, and panics or exits where it fails.
async fn take_over(path: &Path, address: SocketAddr) -> Result<Option<TcpListener>, StartError> {
    let received = tokio::time::timeout(HAND_OVER_TIMEOUT, receive(path)).await;
    // A process that sends now is told that nobody waits.
    std::fs::remove_file(path).ok();
    let received = match received {
        Ok(Ok(received)) => received,
        Ok(Err(error)) => return Err(StartError::Upgrade(format!("{}: {error}", path.display()))),
        Err(_) => {
            let reason = format!("it sent no socket within {HAND_OVER_TIMEOUT:?} (SIGQUIT)");
            return Err(StartError::Upgrade(reason));
        }
    };
    let ours = received.into_iter().find(|(known, _)| *known == address.to_string());
    let Some((_, socket)) = ours else { return Ok(None) };
    let failed = |error| StartError::Listen { address, error };
    let listener = std::net::TcpListener::from(socket);
    listener.set_nonblocking(true).map_err(failed)?;
    TcpListener::from_std(listener).map(Some).map_err(failed)
}

async fn receive(path: &Path) -> io::Result<Vec<(String, OwnedFd)>> {
    // The file was left behind by a process that was killed while it waited.
    std::fs::remove_file(path).ok();
    let listener = UnixListener::bind(path)?;
    tracing::info!("waiting for the listening socket: send SIGQUIT to the tollgate that serves");
    loop {
        let (stream, _) = listener.accept().await?;
        let received = stream.async_io(Interest::READABLE, || read_sockets(&stream)).await?;
        // A process that only looked whether anybody waits has sent nothing.
        if !received.is_empty() {
            return Ok(received);
        }
    }
}

/// pingora's message: addresses parted by spaces, and a socket for each.
fn read_sockets(stream: &UnixStream) -> io::Result<Vec<(String, OwnedFd)>> {
    let mut bytes = [0; ADDRESSES_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let length = recvmsg(stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
    let addresses = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).into_owned();
    let mut sockets = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            sockets.extend(some);
        }
    }
    Ok(addresses.split_whitespace().map(str::to_owned).zip(sockets).collect())
}
