//! Calls over loopback, direct and through the gate, in both eras; and the gate's memory.
//!
//! `cargo bench --bench loopback`; README.md says what the numbers mean. Everything runs in
//! processes of its own: the upstream (this very program, called with an argument), the gate (the
//! `tollgate` binary) and the clients (here).
#![allow(clippy::print_stdout, reason = "a bench prints its numbers")]

mod load;
mod process;
mod upstream;

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use self::{
    load::{Client, Era, Tally},
    process::{Gate, Upstream},
};

const CONNECTIONS: [usize; 3] = [1, 16, 64];
/// Direct and through the gate in turn, so that the machine's other work hits both.
const ROUNDS: usize = 11;
const ROUND: Duration = Duration::from_millis(450);
/// Of each side, before anything is counted.
const WARM_UP: Duration = Duration::from_millis(300);
const SESSIONS: usize = 1_000;
/// Connections over which the sessions are opened; closed before the memory is read.
const OPENERS: usize = 20;
/// The gate has opened its upstreams, and what that took is given back.
const SETTLED: Duration = Duration::from_secs(2);

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if std::env::args().nth(1).as_deref() == Some(process::UPSTREAM) {
        return runtime.block_on(upstream::run());
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
    // First: what is started later inherits the clients' core.
    memory(&upstream).await?;
    speed(&upstream).await
}

async fn speed(upstream: &Upstream) -> Result<()> {
    let gate = Gate::start(upstream).await?;
    process::pin(std::process::id(), process::CLIENTS_CORE).await;
    println!(
        "\n{:14} | {:25} | {:25} | {:17} | CPU of the gate",
        "", "direct", "gate", "gate/direct"
    );
    println!(
        "{:14} | {latency} | {latency} | {:17} | µs/call",
        "era      conns",
        "median (min–max)",
        latency = "  calls/s  p50 µs  p99 µs"
    );
    tokio::time::sleep(SETTLED).await;
    for era in Era::ALL {
        for connections in CONNECTIONS {
            compare(upstream, &gate, era, connections).await?;
        }
    }
    gate.stop().await
}

/// One line of the table.
async fn compare(upstream: &Upstream, gate: &Gate, era: Era, connections: usize) -> Result<()> {
    let mut direct = load::connect(upstream.address, era, connections).await?;
    let mut through = load::connect(gate.address, era, connections).await?;
    load::run(&mut direct, WARM_UP).await?;
    load::run(&mut through, WARM_UP).await?;
    let (mut straight, mut gated) = (Tally::default(), Tally::default());
    let mut ratios = Vec::new();
    let mut busy = Duration::ZERO;
    for _ in 0..ROUNDS {
        let one = load::run(&mut direct, ROUND).await?;
        let before = gate.cpu()?;
        let other = load::run(&mut through, ROUND).await?;
        busy += gate.cpu()?.saturating_sub(before);
        ratios.push(other.rate() / one.rate());
        straight.add(one);
        gated.add(other);
    }
    ratios.sort_by(f64::total_cmp);
    let at = |place: usize| ratios.get(place).copied().unwrap_or_default();
    println!(
        "{:<8} {connections:>5} | {straight} | {gated} | {:.2} ({:.2}–{:.2})  | {:.1}",
        era.name(),
        at(ROUNDS / 2),
        at(0),
        at(ROUNDS - 1),
        busy.as_secs_f64() * 1e6 / gated.count(),
    );
    load::disconnect(direct).await?;
    load::disconnect(through).await
}

async fn memory(upstream: &Upstream) -> Result<()> {
    println!("resident memory of the gate");
    for called in [false, true] {
        let gate = Gate::start(upstream).await?;
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
    let mut client = Client::connect(gate, Era::Legacy).await?;
    for _ in 0..SESSIONS / OPENERS {
        client.initialize().await?;
        if called {
            client.call().await?;
        }
    }
    Ok(())
}
