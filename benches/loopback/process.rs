//! The other processes: started, looked at in `/proc`, and ended by their id.

use std::{fs, net::SocketAddr, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStderr, Command},
};

use crate::load::Era;

/// The argument that makes this program the upstream.
pub const UPSTREAM: &str = "upstream";
/// The argument that makes this program an upstream over its standard input and output.
pub const STDIO: &str = "stdio";
/// The clients have this core, the upstream that one; the gate has all.
pub const CLIENTS_CORE: usize = 0;
const UPSTREAM_CORE: usize = 1;
/// A process that has not told its address by then has failed.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// One that has not ended by then, when it was told to, is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// The fast server; it ends with this process, whose end of its input is closed then.
pub struct Upstream {
    pub address: SocketAddr,
    _child: Child,
}

/// The gate; killed when it is dropped.
pub struct Gate {
    pub address: SocketAddr,
    child: Child,
    /// Kept open for what it says later.
    _said: Lines<BufReader<ChildStderr>>,
    /// Its configuration and its state.
    _folder: TempDir,
}

/// The plain reverse proxy; ended when it is dropped.
pub struct Nginx {
    pub address: SocketAddr,
    child: Child,
    _folder: TempDir,
}

impl Upstream {
    pub async fn start() -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(UPSTREAM).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let said = child.stdout.take().context("its output is a pipe")?;
        let line = first_line(&mut BufReader::new(said).lines()).await?;
        pin(child.id().context("the upstream has ended")?, UPSTREAM_CORE).await;
        Ok(Self { address: line.parse()?, _child: child })
    }
}

impl Gate {
    /// With one route of each era, and one upstream behind each.
    pub async fn of_each_era(upstream: &Upstream) -> Result<Self> {
        let mut config = String::new();
        for era in Era::ALL {
            let (name, path, address) = (era.name(), era.path(), upstream.address);
            config += &format!("[routes.\"{path}\"]\nupstreams = [\"{name}\"]\n");
            config += &format!("[upstreams.{name}]\nurl = \"http://{address}{path}\"\n");
        }
        Self::start(&config).await
    }

    /// With a configuration that does not say where it listens.
    pub async fn start(config: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let config = format!("server.listen = \"127.0.0.1:0\"\n{config}");
        let file = folder.path().join("routes.toml");
        fs::write(&file, config)?;
        let mut command = Command::new(binary());
        // What it logs would stand before its address, and fill a pipe that nobody empties.
        command.args(["--log", "error", "--config"]).arg(file);
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn()?;
        let said = child.stderr.take().context("its errors are a pipe")?;
        let mut said = BufReader::new(said).lines();
        let line = first_line(&mut said).await?;
        let address = line.rsplit_once("http://").context(line.clone())?.1.parse()?;
        Ok(Self { address, child, _said: said, _folder: folder })
    }

    /// Processor time that it has used so far.
    pub fn cpu(&self) -> Result<Duration> {
        cpu(self.id()?)
    }

    /// Resident memory, in KiB.
    pub fn rss_kib(&self) -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.id()?))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let line = line.context("no VmRSS in /proc")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// Open files and connections.
    pub fn files(&self) -> Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.id()?))?.count())
    }

    /// Told to end, as an operator would: a build that is to write a profile writes it then.
    pub async fn stop(mut self) -> Result<()> {
        if end(&mut self.child).await.is_err() {
            self.child.kill().await?;
        }
        Ok(())
    }

    fn id(&self) -> Result<u32> {
        self.child.id().context("the gate has ended")
    }
}

/// The binary that is measured: that of this build, or the one that `TOLLGATE` names.
fn binary() -> std::ffi::OsString {
    std::env::var_os("TOLLGATE").unwrap_or_else(|| env!("CARGO_BIN_EXE_tollgate").into())
}

/// Processor time of all threads of a process.
fn cpu(id: u32) -> Result<Duration> {
    let mut nanos = 0;
    for task in fs::read_dir(format!("/proc/{id}/task"))? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        nanos += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}

impl Nginx {
    /// Started with `nginx.conf` before the upstream; none where it is not installed. What is asked
    /// at `/fixed` is answered with `fixed`.
    pub async fn start(upstream: &Upstream, fixed: &str) -> Result<Option<Self>> {
        let folder = tempfile::tempdir()?;
        let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let config = include_str!("../nginx.conf")
            .replace("LISTEN", &address.to_string())
            .replace("UPSTREAM", &upstream.address.to_string())
            .replace("FOLDER", &folder.path().display().to_string())
            .replace("ANSWER", fixed);
        let file = folder.path().join("nginx.conf");
        fs::write(&file, config)?;
        let mut command = Command::new("nginx");
        command.arg("-p").arg(folder.path()).arg("-c").arg(&file).stdin(Stdio::null());
        let Ok(child) = command.spawn() else { return Ok(None) };
        let nginx = Self { address, child, _folder: folder };
        let until = tokio::time::Instant::now() + START_TIMEOUT;
        while tokio::net::TcpStream::connect(address).await.is_err() {
            ensure!(tokio::time::Instant::now() < until, "nginx does not listen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(Some(nginx))
    }

    /// Processor time that its workers have used so far.
    pub fn cpu(&self) -> Result<Duration> {
        self.workers()?.into_iter().map(cpu).sum()
    }

    pub async fn stop(mut self) -> Result<()> {
        end(&mut self.child).await
    }

    fn workers(&self) -> Result<Vec<u32>> {
        let id = self.child.id().context("nginx has ended")?;
        let text = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
        Ok(text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
    }
}

/// Told to end, not killed: a master that is killed leaves its workers.
impl Drop for Nginx {
    fn drop(&mut self) {
        let id = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(id) = id {
            kill_process(id, Signal::TERM).ok();
        }
    }
}

/// Tells a process to end, and waits for it.
async fn end(child: &mut Child) -> Result<()> {
    let id = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    kill_process(id.context("it has ended")?, Signal::TERM)?;
    tokio::time::timeout(STOP_TIMEOUT, child.wait()).await??;
    Ok(())
}

/// Keeps a process of one thread on a core. Whether two that talk share a core is otherwise decided
/// anew in every run, and is worth a factor of three.
pub async fn pin(id: u32, core: usize) {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", "--pid", &core.to_string(), &id.to_string()]);
    let pinned = command.stdout(Stdio::null()).stderr(Stdio::null()).status().await;
    if !pinned.is_ok_and(|status| status.success()) {
        println!("taskset is missing, or core {core}: the numbers will vary more");
    }
}

async fn first_line(lines: &mut Lines<impl AsyncBufRead + Unpin>) -> Result<String> {
    let line = tokio::time::timeout(START_TIMEOUT, lines.next_line()).await??;
    line.context("it ended before it began")
}
