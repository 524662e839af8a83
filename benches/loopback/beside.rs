//! The gate beside a plain reverse proxy: the same calls by the same clients to the same upstream,
//! directly, through nginx, and through gates with nothing on, as shipped, and with all on.
//!
//! All sides of a row take turns in each round, so that the machine's other work hits all of them.

use std::{fmt::Write as _, fs, net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context as _, Result};

use crate::{
    load::{self, Client, Era, LISTED, Tally, Work, percentile},
    plot::{self, Bar, Group},
    process::{self, Gate, Nginx, Upstream},
    stages::{Issuer, policies_text},
    upstream::{ALL, PART, PARTS},
};

const ROUNDS: usize = 9;
const TIME: Duration = Duration::from_millis(400);
const WARM_UP: Duration = Duration::from_millis(400);
const QUICK: Duration = Duration::from_millis(40);
/// Between the start of the gates and the first call.
const SETTLED: Duration = Duration::from_secs(2);
const OFF: &str = "breaker.enabled = false\nguard.arguments = \"off\"\n";
const CACHED: &str = "tools.echo.cache = { ttl = \"1h\", even_if_writing = true }\n";
const HELD: &str = "limits = [{ per = [\"caller\", \"tool\"], rate = \"1000000/s\" }, { per = \
                    [\"caller\"], budget = \"1000000000/day\" }]\nretry = { attempts = 3, backoff \
                    = \"200ms\" }\n";
/// Paths of the gates' routes besides those of the eras.
const TO_LEGACY: &str = "/modern-to-legacy";
const TO_MODERN: &str = "/legacy-to-modern";
const CACHE: &str = "/cache";
const STDIO: &str = "/stdio";
const FIXED: &str = "/fixed";

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Direct,
    Nginx,
    /// A gate with nothing on.
    Off,
    /// A gate with what holds without a word of configuration.
    Shipped,
    /// A gate with JWT, policies, limits, schema, breaker, retries and audit.
    All,
}

/// One row: the same work on each side, at these paths.
struct Row {
    name: &'static str,
    era: Era,
    work: Work,
    connections: usize,
    sides: &'static [(Side, &'static str)],
    /// So many calls a second, whatever the answers do; without it, each connection calls as soon as
    /// it is answered.
    open: Option<Share>,
}

/// A share of what a side could answer in the row of 64 modern connections.
#[derive(Debug, Clone, Copy)]
struct Share {
    of: Side,
    parts: f64,
}

/// All that is under load.
struct Field {
    upstream: SocketAddr,
    nginx: Option<Nginx>,
    off: Gate,
    shipped: Gate,
    all: Gate,
    token: String,
}

/// What was measured of one side in one row.
struct Measured {
    side: Side,
    clients: Vec<Client>,
    tally: Tally,
    busy: Duration,
    /// Calls a second, and processor time of a call, of each round.
    rounds: Vec<(f64, f64)>,
}

const EVERY: [(Side, &str); 5] = [
    (Side::Direct, "/modern"),
    (Side::Nginx, "/modern"),
    (Side::Off, "/modern"),
    (Side::Shipped, "/modern"),
    (Side::All, "/modern"),
];
const LEGACY: [(Side, &str); 5] = [
    (Side::Direct, "/legacy"),
    (Side::Nginx, "/legacy"),
    (Side::Off, "/legacy"),
    (Side::Shipped, "/legacy"),
    (Side::All, "/legacy"),
];

fn rows() -> Vec<Row> {
    let row = |name, era, work, connections, sides| Row {
        name,
        era,
        work,
        connections,
        sides,
        open: None,
    };
    let modern = |name, work, connections, sides| row(name, Era::Modern, work, connections, sides);
    let open = |name, of, parts| Row {
        open: Some(Share { of, parts }),
        ..modern(name, Work::Plain, 64, &EVERY[..3])
    };
    vec![
        modern("modern, 1 connection", Work::Plain, 1, &EVERY),
        modern("modern, 16 connections", Work::Plain, 16, &EVERY),
        modern("modern, 64 connections", Work::Plain, 64, &EVERY),
        row("legacy, 1 connection", Era::Legacy, Work::Plain, 1, &LEGACY),
        row("legacy, 16 connections", Era::Legacy, Work::Plain, 16, &LEGACY),
        row("legacy, 64 connections", Era::Legacy, Work::Plain, 64, &LEGACY),
        modern("result of 64 KiB, 16 connections", Work::Large, 16, &EVERY),
        modern(
            "list of 10 × 50 tools, 16 connections",
            Work::List,
            16,
            &[(Side::Direct, ALL), (Side::Nginx, ALL), (Side::Off, ALL)],
        ),
        modern(
            "cache hit, 16 connections",
            Work::Fixed,
            16,
            &[(Side::Nginx, FIXED), (Side::Off, CACHE)],
        ),
        modern(
            "modern to legacy, 16 connections",
            Work::Plain,
            16,
            &[(Side::Nginx, "/modern"), (Side::Off, TO_LEGACY)],
        ),
        row(
            "legacy to modern, 16 connections",
            Era::Legacy,
            Work::Plain,
            16,
            &[(Side::Nginx, "/legacy"), (Side::Off, TO_MODERN)],
        ),
        modern(
            "stdio, 16 connections",
            Work::Plain,
            16,
            &[(Side::Nginx, "/modern"), (Side::Off, "/modern"), (Side::Off, STDIO)],
        ),
        open("open loop, half of the gate's rate", Side::Off, 0.5),
        open("open loop, a quarter of nginx's rate", Side::Nginx, 0.25),
    ]
}

/// Prints the table, and writes the plots where `is_written`.
pub async fn measure(upstream: &Upstream, quick: bool, is_written: bool) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let issuer = Issuer::start().await?;
    let field = Field::start(upstream, &issuer, folder.path()).await?;
    if field.nginx.is_none() {
        println!("nginx is not installed: ratios are to direct");
    }
    process::pin(std::process::id(), process::CLIENTS_CORE).await;
    tokio::time::sleep(SETTLED).await;
    println!("| | side | calls/s | × nginx | p50 µs | p99 µs | CPU µs a call | × nginx | failed |");
    println!("|---|---|--:|--:|--:|--:|--:|--:|--:|");
    let mut groups = Vec::new();
    let mut rates = Vec::new();
    for row in rows() {
        let measured = field.row(&row, &rates, quick).await?;
        if (row.era, row.work, row.connections, row.open.is_none())
            == (Era::Modern, Work::Plain, 64, true)
        {
            rates = measured.iter().map(|one| (one.side, one.tally.rate())).collect();
        }
        groups.push(told(&row, &measured)?);
        for one in measured {
            load::disconnect(one.clients).await?;
        }
    }
    if is_written {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/figures");
        fs::create_dir_all(&folder)?;
        let [rate, cpu]: [Vec<Group>; 2] =
            groups.into_iter().unzip::<_, _, Vec<_>, Vec<_>>().into();
        fs::write(folder.join("rate.svg"), plot::bars("calls a second", &rate))?;
        fs::write(folder.join("cpu.svg"), plot::bars("processor time, µs a call", &cpu))?;
    }
    field.stop().await
}

/// Prints a row's lines: calls a second and processor time for the plots.
fn told(row: &Row, measured: &[Measured]) -> Result<(Group, Group)> {
    let base = measured.iter().find(|one| one.side == Side::Nginx).or(measured.first());
    let base = base.context("a row has sides")?;
    let mut plotted: [Vec<Bar>; 2] = Default::default();
    for (one, (_, path)) in measured.iter().zip(row.sides) {
        let (rate, cost) = one.ratios(base);
        let micros = |percent| percentile(&one.tally.latencies, percent).as_secs_f64() * 1e6;
        let cpu = one.cost();
        let name = if *path == STDIO { "gate, stdio" } else { one.side.name() };
        println!(
            "| {} | {name} | {:.0} | {rate} | {:.0} | {:.0} | {cpu:.1} | {cost} | {} |",
            row.name,
            one.tally.rate(),
            micros(50),
            micros(99),
            one.tally.failed,
        );
        let [rates, costs] = &mut plotted;
        rates.push(Bar { name, value: one.tally.rate() });
        if one.side != Side::Direct {
            costs.push(Bar { name, value: cpu });
        }
    }
    let [rates, costs] = plotted.map(|bars| Group { name: row.name, bars });
    Ok((rates, costs))
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Nginx => "nginx",
            Self::Off => "gate, all off",
            Self::Shipped => "gate, as shipped",
            Self::All => "gate, all on",
        }
    }
}

impl Measured {
    /// Processor time of whoever answered, in µs a call.
    fn cost(&self) -> f64 {
        self.busy.as_secs_f64() * 1e6 / self.tally.count().max(1.0)
    }

    /// Calls a second and processor time by those of `base`, round by round: the median, and the
    /// least and the most.
    fn ratios(&self, base: &Self) -> (String, String) {
        let told = |pick: fn(&(f64, f64)) -> f64| {
            let pairs = self.rounds.iter().zip(&base.rounds);
            let mut all: Vec<f64> =
                pairs.map(|(own, base)| pick(own) / pick(base)).filter(|r| r.is_finite()).collect();
            all.sort_by(f64::total_cmp);
            let (Some(least), Some(most)) = (all.first(), all.last()) else {
                return "-".to_owned();
            };
            let median = all.get(all.len() / 2).copied().unwrap_or_default();
            if median == 0.0 {
                return "-".to_owned();
            }
            format!("{median:.2} ({least:.2}–{most:.2})")
        };
        (told(|round| round.0), told(|round| round.1))
    }
}

impl Field {
    async fn start(upstream: &Upstream, issuer: &Issuer, folder: &Path) -> Result<Self> {
        let policies = folder.join("bench.cedar");
        fs::write(&policies, policies_text())?;
        let address = upstream.address;
        let of_eras = |route: &str, keys: &str| {
            let mut config = String::new();
            for era in Era::ALL {
                let (name, path) = (era.name(), era.path());
                write!(config, "[routes.\"{path}\"]\nupstreams = [\"{name}\"]\n{route}").ok();
                write!(config, "[upstreams.{name}]\nurl = \"http://{address}{path}\"\n{keys}").ok();
            }
            config
        };
        let judged =
            format!("auth = [\"bench\"]\npolicy = [{:?}]\n", policies.display().to_string());
        let all = issuer.section() + &of_eras(&judged, HELD) + "[audit]\n";
        Ok(Self {
            upstream: address,
            nginx: Nginx::start(upstream, &fixed()).await?,
            off: Gate::start(&(of_eras("", OFF) + &others(address)?)).await?,
            shipped: Gate::start(&of_eras("", "")).await?,
            all: Gate::start(&all).await?,
            token: issuer.token.clone(),
        })
    }

    async fn row(&self, row: &Row, rates: &[(Side, f64)], quick: bool) -> Result<Vec<Measured>> {
        let mut sides = Vec::new();
        for (side, path) in row.sides {
            let Some(address) = self.address(*side) else { continue };
            let mut clients = Vec::new();
            for _ in 0..row.connections {
                clients.push(self.client(row, address, path).await?);
            }
            load::run(&mut clients, if quick { QUICK } else { WARM_UP }).await?;
            let (tally, busy, rounds) = (Tally::default(), Duration::ZERO, Vec::new());
            sides.push(Measured { side: *side, clients, tally, busy, rounds });
        }
        let rate = match row.open {
            None => None,
            Some(Share { of, parts }) => {
                let known = rates.iter().find(|(side, _)| *side == of);
                Some(known.context("no rate is known yet")?.1 * parts)
            }
        };
        let (rounds, time) = if quick { (1, QUICK) } else { (ROUNDS, TIME) };
        for _ in 0..rounds {
            for side in &mut sides {
                let before = self.cpu(side.side)?;
                let one = match rate {
                    None => load::run(&mut side.clients, time).await?,
                    Some(rate) => load::run_at(&mut side.clients, rate, time).await?,
                };
                let busy = self.cpu(side.side)?.saturating_sub(before);
                side.rounds.push((one.rate(), busy.as_secs_f64() / one.count().max(1.0)));
                side.busy += busy;
                side.tally.add(one);
            }
        }
        Ok(sides)
    }

    async fn client(&self, row: &Row, address: SocketAddr, path: &'static str) -> Result<Client> {
        let client = Client::connect(address, path, row.era, row.work).await?;
        let mut client = client.with_token(&self.token)?;
        if row.era == Era::Legacy {
            client.initialize().await?;
        }
        Ok(client)
    }

    fn address(&self, side: Side) -> Option<SocketAddr> {
        match side {
            Side::Direct => Some(self.upstream),
            Side::Nginx => self.nginx.as_ref().map(|nginx| nginx.address),
            Side::Off => Some(self.off.address),
            Side::Shipped => Some(self.shipped.address),
            Side::All => Some(self.all.address),
        }
    }

    fn cpu(&self, side: Side) -> Result<Duration> {
        match side {
            Side::Direct => Ok(Duration::ZERO),
            Side::Nginx => self.nginx.as_ref().context("nginx runs")?.cpu(),
            Side::Off => self.off.cpu(),
            Side::Shipped => self.shipped.cpu(),
            Side::All => self.all.cpu(),
        }
    }

    async fn stop(self) -> Result<()> {
        if let Some(nginx) = self.nginx {
            nginx.stop().await?;
        }
        self.off.stop().await?;
        self.shipped.stop().await?;
        self.all.stop().await
    }
}

/// Routes of the gate with nothing on: ten upstreams of fifty tools, one that is cached, crossed
/// eras, and a process.
fn others(address: SocketAddr) -> Result<String> {
    let program = std::env::current_exe()?.display().to_string();
    let mut config = String::new();
    let names: Vec<_> = (0..PARTS).map(|at| format!("part{at}")).collect();
    writeln!(config, "[routes.\"{ALL}\"]\nupstreams = {names:?}\npage_size = {LISTED}")?;
    for (at, name) in names.iter().enumerate() {
        writeln!(config, "[upstreams.{name}]\nurl = \"http://{address}{PART}/{at}\"\n{OFF}")?;
    }
    for (route, upstream) in [(TO_LEGACY, "legacy"), (TO_MODERN, "modern")] {
        writeln!(config, "[routes.\"{route}\"]\nupstreams = [\"{upstream}\"]")?;
    }
    for (route, upstream, keys) in [
        (CACHE, "cached", format!("url = \"http://{address}/modern\"\n{OFF}{CACHED}")),
        (STDIO, "process", format!("command = {program:?}\nargs = [{:?}]\n{OFF}", process::STDIO)),
    ] {
        writeln!(config, "[routes.\"{route}\"]\nupstreams = [\"{upstream}\"]")?;
        writeln!(config, "[upstreams.{upstream}]\n{keys}")?;
    }
    Ok(config)
}

/// What nginx answers by itself: as many bytes as a call's answer.
fn fixed() -> String {
    let text = "x".repeat(220);
    format!(
        r#"{{"jsonrpc":"2.0","id":1,"result":{{"content":[{{"type":"text","text":"{text}"}}],"resultType":"complete"}}}}"#
    )
}
