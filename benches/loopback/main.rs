//! Calls over loopback, direct and through the gate, within each era and across them; and the gate's
//! memory.
//!
//! `cargo bench --bench loopback`, with `-- quick` only to see that everything works; README.md says what the numbers mean. Everything runs in
//! processes of its own: the upstream (this very program, called with an argument), the gate (the
//! `tollgate` binary) and the clients (here).
#![allow(clippy::print_stdout, reason = "a bench prints its numbers")]

mod asked;
mod beside;
mod ill;
mod load;
mod parked;
mod plot;
mod process;
mod stages;
mod upstream;

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use self::{
    load::{Client, Era, Tally, Work},
    process::{Gate, Upstream},
};

/// The argument that makes the numbers worthless, and the run short.
const QUICK: &str = "quick";
/// The argument that measures only what judges and keeps calls.
const STAGES: &str = "stages";
/// The argument that measures only what upstreams that are ill cost others.
const ILL: &str = "ill";
/// The argument that measures the gate beside a plain reverse proxy.
const BESIDE: &str = "beside";
/// The argument that makes the table and the plots of that.
const WRITE: &str = "write";
const CONNECTIONS: [usize; 3] = [1, 16, 64];
const CELLS: [Cell; 9] = [
    Cell::new(Era::Modern, Era::Modern, Work::Plain),
    Cell::new(Era::Legacy, Era::Legacy, Work::Plain),
    Cell::new(Era::Modern, Era::Legacy, Work::Plain),
    Cell::new(Era::Modern, Era::Legacy, Work::Askable),
    Cell::new(Era::Legacy, Era::Modern, Work::Plain),
    Cell::new(Era::Modern, Era::Modern, Work::Asked),
    Cell::new(Era::Legacy, Era::Legacy, Work::Asked),
    Cell::new(Era::Modern, Era::Legacy, Work::Asked),
    Cell::new(Era::Legacy, Era::Modern, Work::Asked),
];
/// Of each side, before anything is counted.
const WARM_UP: Duration = Duration::from_millis(300);
const SESSIONS: usize = 1_000;
/// Connections over which the sessions are opened; closed before the memory is read.
const OPENERS: usize = 20;
/// The gate has opened its upstreams, and what that took is given back.
const SETTLED: Duration = Duration::from_secs(2);

/// Who calls what kind of server, and how: three lines of the table.
#[derive(Debug, Clone, Copy)]
struct Cell {
    client: Era,
    upstream: Era,
    work: Work,
}

/// Direct and through the gate in turn, so that the machine's other work hits both.
struct Rounds {
    count: usize,
    time: Duration,
}

impl Cell {
    const fn new(client: Era, upstream: Era, work: Work) -> Self {
        Self { client, upstream, work }
    }

    fn rounds(self) -> Rounds {
        let is_first = self.client == self.upstream && self.work == Work::Plain;
        let (count, millis) = match (is_quick(), is_first) {
            (true, _) => (1, 50),
            (false, true) => (11, 450),
            (false, false) => (5, 200),
        };
        Rounds { count, time: Duration::from_millis(millis) }
    }

    fn name(self) -> String {
        let (client, upstream) = (self.client.name(), self.upstream.name());
        let eras = match client == upstream {
            true => client.to_owned(),
            false => format!("{client} → {upstream}"),
        };
        let work = match self.work {
            Work::Plain => "",
            Work::Askable => ", askable",
            Work::Asked => ", asked",
            Work::Large => ", large",
            Work::List => ", list",
            Work::Fixed => ", fixed",
        };
        eras + work
    }
}

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if std::env::args().nth(1).as_deref() == Some(process::UPSTREAM) {
        return runtime.block_on(upstream::run());
    }
    if std::env::args().nth(1).as_deref() == Some(process::STDIO) {
        return upstream::run_stdio();
    }
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            done = measure() => done,
            // Dropped in the middle, it kills what it started.
            _ = terminate.recv() => bail!("stopped"),
            _ = interrupt.recv() => bail!("stopped"),
        }
    })
}

async fn measure() -> Result<()> {
    let upstream = Upstream::start().await?;
    if std::env::args().any(|argument| argument == STAGES) {
        return stages::measure(&upstream, is_quick()).await;
    }
    if std::env::args().any(|argument| argument == BESIDE) {
        let is_written = std::env::args().any(|argument| argument == WRITE);
        return Box::pin(beside::measure(&upstream, is_quick(), is_written)).await;
    }
    if std::env::args().any(|argument| argument == ILL) {
        return ill::measure(&upstream, is_quick()).await;
    }
    // First: what is started later inherits the clients' core.
    memory(&upstream).await?;
    parked::measure(&upstream, is_quick()).await?;
    stages::measure(&upstream, is_quick()).await?;
    ill::measure(&upstream, is_quick()).await?;
    speed(&upstream).await
}

fn is_quick() -> bool {
    std::env::args().any(|argument| argument == QUICK)
}

async fn speed(upstream: &Upstream) -> Result<()> {
    let gate = Gate::of_each_era(upstream).await?;
    process::pin(std::process::id(), process::CLIENTS_CORE).await;
    println!(
        "\n{:30} | {:25} | {:25} | {:17} | CPU of the gate",
        "", "direct", "gate", "gate/direct"
    );
    println!(
        "{:24} conns | {latency} | {latency} | {:17} | µs/call",
        "era",
        "median (min–max)",
        latency = "  calls/s  p50 µs  p99 µs"
    );
    tokio::time::sleep(SETTLED).await;
    for cell in CELLS {
        for connections in CONNECTIONS {
            compare(upstream, &gate, cell, connections).await?;
        }
    }
    gate.stop().await
}

/// One line of the table. Direct is the client's own era throughout.
async fn compare(upstream: &Upstream, gate: &Gate, cell: Cell, connections: usize) -> Result<()> {
    let Rounds { count, time } = cell.rounds();
    let client = (cell.client, cell.work);
    let own = cell.client.path();
    let mut direct = load::connect(upstream.address, own, client, connections).await?;
    let path = cell.upstream.path();
    let mut through = load::connect(gate.address, path, client, connections).await?;
    load::run(&mut direct, WARM_UP).await?;
    load::run(&mut through, WARM_UP).await?;
    let (mut straight, mut gated) = (Tally::default(), Tally::default());
    let mut ratios = Vec::new();
    let mut busy = Duration::ZERO;
    for _ in 0..count {
        let one = load::run(&mut direct, time).await?;
        let before = gate.cpu()?;
        let other = load::run(&mut through, time).await?;
        busy += gate.cpu()?.saturating_sub(before);
        ratios.push(other.rate() / one.rate());
        straight.add(one);
        gated.add(other);
    }
    ratios.sort_by(f64::total_cmp);
    let at = |place: usize| ratios.get(place).copied().unwrap_or_default();
    println!(
        "{:<24} {connections:>5} | {straight} | {gated} | {:.2} ({:.2}–{:.2})  | {:.1}",
        cell.name(),
        at(count / 2),
        at(0),
        at(count - 1),
        busy.as_secs_f64() * 1e6 / gated.count(),
    );
    load::disconnect(direct).await?;
    load::disconnect(through).await
}

async fn memory(upstream: &Upstream) -> Result<()> {
    println!("resident memory of the gate");
    for called in [false, true] {
        let gate = Gate::of_each_era(upstream).await?;
        tokio::time::sleep(SETTLED).await;
        let idle = gate.rss_kib()?;
        let openers = (0..OPENERS).map(|_| tokio::spawn(open(gate.address, called)));
        for opener in openers.collect::<Vec<_>>() {
            opener.await??;
        }
        tokio::time::sleep(SETTLED).await;
        let full = gate.rss_kib()?;
        println!(
            "idle {:.1} MiB; with {SESSIONS} legacy sessions, {}: {:.1} MiB, {:.1} KiB a session",
            idle as f64 / 1024.0,
            if called { "each with a session upstream" } else { "none used yet" },
            full as f64 / 1024.0,
            full.saturating_sub(idle) as f64 / SESSIONS as f64,
        );
        gate.stop().await?;
    }
    Ok(())
}

/// Opens a share of the sessions on one connection, which is closed at the end; the sessions stay.
async fn open(gate: std::net::SocketAddr, called: bool) -> Result<()> {
    let mut client = Client::connect(gate, Era::Legacy.path(), Era::Legacy, Work::Plain).await?;
    for _ in 0..SESSIONS / OPENERS {
        client.initialize().await?;
        if called {
            client.call().await?;
        }
    }
    Ok(())
}
