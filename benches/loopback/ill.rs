//! What upstreams that are ill cost the calls of another: its latencies alone, beside four that are
//! well and get the same load, and beside four that are ill.

use std::{fmt::Write as _, net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};
use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, client::conn::http1::handshake};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{
    load::{Client, Era, Work, percentile},
    process::{Gate, Upstream},
    upstream::{FLAPS, HALF, HANGS},
};

const ROUNDS: usize = 21;
const TIME: Duration = Duration::from_millis(700);
/// On each connection a call is sent so often, unless the one before is still out.
const PACE: Duration = Duration::from_millis(4);
const CONNECTIONS: usize = 4;
const WELL: [&str; 4] = ["/well1", "/well2", "/well3", "/well4"];
const ILL: [&str; 4] = [HALF, HANGS, FLAPS, REPLICAS];
/// Two replicas, of which one flaps.
const REPLICAS: &str = "/replicas";
/// Of the gate's metrics, what shows that it noticed.
const TOLD: [&str; 2] = ["breaker", "ejec"];

/// Of one phase: what its calls took, and how those beside them went.
#[derive(Default)]
struct Phase {
    latencies: Vec<Duration>,
    /// The 99th percentile of each round.
    worst: Vec<Duration>,
    beside: usize,
    failed: usize,
}

/// Prints a line for each phase, and what the gate's metrics say at the end.
pub async fn measure(upstream: &Upstream, quick: bool) -> Result<()> {
    let admin = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let gate = Gate::start(&config(upstream.address, admin)).await?;
    let mut watched = connect(gate.address, &[Era::Modern.path()]).await?;
    let (mut well, mut ill) =
        (connect(gate.address, &WELL).await?, connect(gate.address, &ILL).await?);
    let (rounds, time) = if quick { (1, Duration::from_millis(100)) } else { (ROUNDS, TIME) };
    let (mut alone, mut beside_well, mut beside_ill) =
        (Phase::default(), Phase::default(), Phase::default());
    for _ in 0..rounds {
        alone.run(&mut watched, &mut Vec::new(), time).await?;
        beside_well.run(&mut watched, &mut well, time).await?;
        beside_ill.run(&mut watched, &mut ill, time).await?;
    }
    println!(
        "\nmodern calls on {CONNECTIONS} connections, one each {} ms; each of the others the same",
        PACE.as_millis()
    );
    println!("{:24} |  p50 µs |  p99 µs | calls beside them, failed", "");
    let phases = [("alone", &alone), ("beside four well ones", &beside_well)];
    for (name, phase) in phases.into_iter().chain([("beside four ill ones", &beside_ill)]) {
        phase.print(name);
    }
    for (name, other) in [("alone", &alone), ("beside well ones", &beside_well)] {
        let mut ratios: Vec<_> = beside_ill.worst.iter().zip(&other.worst).map(ratio).collect();
        ratios.sort_by(f64::total_cmp);
        let at = |place: usize| ratios.get(place).copied().unwrap_or_default();
        let (middle, last) = (at(rounds / 2), at(rounds - 1));
        println!("p99 beside ill ones / {name}: {middle:.2} ({:.2}–{last:.2})", at(0));
    }
    for line in metrics(admin).await?.lines().filter(|line| !line.starts_with('#')) {
        let counts = line.rsplit_once(' ').is_some_and(|(_, value)| value != "0");
        if counts && TOLD.iter().any(|word| line.contains(word)) {
            println!("{line}");
        }
    }
    gate.stop().await
}

fn config(upstream: SocketAddr, admin: SocketAddr) -> String {
    let mut config = format!("server.admin = \"{admin}\"\n");
    let modern = Era::Modern.path();
    let all = [modern].into_iter().chain(WELL).chain(ILL);
    for path in all {
        let name = path.trim_start_matches('/');
        let own = if ILL.contains(&path) { path } else { modern };
        let url = match path {
            REPLICAS => format!(
                "[\"http://{upstream}{modern}\", \"http://{upstream}{FLAPS}\"]\nejection = {{ consecutive = 2, base = \
                 \"500ms\" }}"
            ),
            _ => format!("\"http://{upstream}{own}\""),
        };
        // That a String takes text never fails.
        write!(
            config,
            "[routes.\"{path}\"]\nupstreams = [\"{name}\"]\n[upstreams.{name}]\nurl = {url}\n\
             timeout.idle = \"200ms\"\nbreaker = {{ failure_rate = 0.5, open = \"500ms\" }}\n"
        )
        .ok();
    }
    config
}

/// So many clients for each of these paths.
async fn connect(gate: SocketAddr, paths: &[&'static str]) -> Result<Vec<Client>> {
    let mut clients = Vec::new();
    for path in paths {
        for _ in 0..CONNECTIONS {
            clients.push(Client::connect(gate, path, Era::Modern, Work::Plain).await?);
        }
    }
    Ok(clients)
}

impl Phase {
    async fn run(
        &mut self,
        watched: &mut Vec<Client>,
        others: &mut Vec<Client>,
        time: Duration,
    ) -> Result<()> {
        let end = Instant::now() + time;
        let start = |clients: &mut Vec<Client>| {
            let each = clients.drain(..).map(|client| tokio::spawn(paced(client, end)));
            each.collect::<Vec<_>>()
        };
        let (mine, theirs) = (start(watched), start(others));
        let mut latencies = Vec::new();
        for running in mine {
            let (client, took, failed) = running.await??;
            anyhow::ensure!(failed == 0, "{failed} calls of an upstream that is well failed");
            latencies.extend(took);
            watched.push(client);
        }
        for running in theirs {
            let (client, took, failed) = running.await??;
            self.beside += took.len();
            self.failed += failed;
            others.push(client);
        }
        self.worst.push(percentile(&latencies, 99));
        self.latencies.extend(latencies);
        Ok(())
    }

    fn print(&self, name: &str) {
        let micros = |percent| percentile(&self.latencies, percent).as_secs_f64() * 1e6;
        let (half, most) = (micros(50), micros(99));
        println!("{name:24} | {half:7.0} | {most:7.0} | {}, {}", self.beside, self.failed);
    }
}

/// Calls until then: what each took, and how many failed.
async fn paced(mut client: Client, end: Instant) -> Result<(Client, Vec<Duration>, usize)> {
    let (mut took, mut failed) = (Vec::new(), 0);
    let mut ticks = interval(PACE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while ticks.tick().await < end {
        let asked = Instant::now();
        let answer = client.ask("").await?;
        took.push(asked.elapsed());
        failed += usize::from(memchr::memmem::find(&answer, br#""isError":true"#).is_some());
    }
    Ok((client, took, failed))
}

fn ratio((one, other): (&Duration, &Duration)) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}

async fn metrics(admin: SocketAddr) -> Result<String> {
    let stream = TcpStream::connect(admin).await?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    // Ends with the sender.
    tokio::spawn(async move { connection.await.ok() });
    let request = Request::get("/metrics").header("host", admin.to_string());
    let reply = sender.send_request(request.body(Empty::<bytes::Bytes>::new())?).await?;
    let body = reply.into_body().collect().await?.to_bytes();
    String::from_utf8(body.to_vec()).context("metrics are text")
}
