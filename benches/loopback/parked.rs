//! Calls that are asked something and never come back: what the gate keeps for them, and that
//! nothing is left of it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Resource, getrlimit};
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    SETTLED,
    load::{Client, Era, Work},
    process::{Gate, Upstream},
    upstream::SESSIONS,
};

/// How many, and how long the gate waits for an answer: longer than it takes to park them all.
const PARKED: usize = 10_000;
const PATIENCE: Duration = Duration::from_secs(15);
const TIMES: usize = 3;
/// Connections over which they come.
const OPENERS: usize = 64;
const QUICK_PARKED: usize = 300;
const QUICK_PATIENCE: Duration = Duration::from_secs(6);
/// When it is looked whether they are gone, and when that is given up.
const LOOK: Duration = Duration::from_millis(250);
const GIVEN_UP: Duration = Duration::from_secs(60);
const GATE_PATH: &str = "/gate";

/// What the gate says of itself.
struct Counts {
    now: u64,
    expired: u64,
}

/// Parks them and lets them expire, again and again: memory grows no more in the end.
pub async fn measure(upstream: &Upstream, quick: bool) -> Result<()> {
    let (calls, patience) = if quick { (QUICK_PARKED, QUICK_PATIENCE) } else { (PARKED, PATIENCE) };
    let calls = within_files(calls);
    let gate = Gate::start(&config(upstream, calls, patience)).await?;
    let mut watcher = Watcher::new(&gate, upstream).await?;
    tokio::time::sleep(SETTLED).await;
    let (idle, before) = (gate.rss_kib()?, watcher.sessions().await?);
    println!("idle {}", state(&gate)?);
    for time in 1..=TIMES {
        let took = park_all(&gate, &mut watcher, calls).await?;
        let each = gate.rss_kib()?.saturating_sub(idle) as f64 / calls as f64;
        println!("{calls} calls parked in {took:.1?}: {}, {each:.1} KiB a call", state(&gate)?);
        if time == 1 {
            println!("one more: {}", one_more(&gate).await?);
        }
        let (expired, left) = watcher.watch(Instant::now() + patience + GIVEN_UP, before).await?;
        tokio::time::sleep(SETTLED).await;
        println!(
            "{expired} expired so far, {left} of their sessions upstream left: {}",
            state(&gate)?
        );
    }
    gate.stop().await
}

async fn park_all(gate: &Gate, watcher: &mut Watcher, calls: usize) -> Result<Duration> {
    let begun = Instant::now();
    let openers = (0..OPENERS).map(|opener| {
        let share = calls / OPENERS + usize::from(opener < calls % OPENERS);
        tokio::spawn(park(gate.address, share))
    });
    for opener in openers.collect::<Vec<_>>() {
        opener.await??;
    }
    let took = begun.elapsed();
    tokio::time::sleep(SETTLED).await;
    let now = watcher.counts().await?.now;
    ensure!(now == calls as u64, "only {now} of {calls} are parked: others have expired already");
    Ok(took)
}

fn state(gate: &Gate) -> Result<String> {
    let (mib, files) = (gate.rss_kib()? as f64 / 1024.0, gate.files()?);
    Ok(format!("{mib:.1} MiB, {files} files"))
}

/// Looks at the gate and at the upstream without being a caller of either's.
struct Watcher {
    gate: Client,
    upstream: Client,
}

impl Watcher {
    async fn new(gate: &Gate, upstream: &Upstream) -> Result<Self> {
        let (era, path) = (Era::Modern, Era::Modern.path());
        let gate = Client::connect(gate.address, GATE_PATH, era, Work::Plain).await?;
        let upstream = Client::connect(upstream.address, path, era, Work::Plain).await?;
        Ok(Self { gate: gate.naming("gateway_status"), upstream: upstream.naming(SESSIONS) })
    }

    async fn counts(&mut self) -> Result<Counts> {
        let answer: Value = serde_json::from_slice(&self.gate.ask("").await?)?;
        let count = |name: &str| {
            let count = answer.pointer(&format!("/result/structuredContent/counters/{name}"));
            count.and_then(Value::as_u64).with_context(|| format!("no `{name}` in {answer}"))
        };
        Ok(Counts { now: count("parked_now")?, expired: count("parked_expired")? })
    }

    /// Open at the upstream.
    async fn sessions(&mut self) -> Result<i64> {
        let answer: Value = serde_json::from_slice(&self.upstream.ask("").await?)?;
        let text = answer.pointer("/result/content/0/text").and_then(Value::as_str);
        Ok(text.context("the upstream does not tell its sessions")?.parse()?)
    }

    /// Until nothing is parked and the upstream has no sessions but those of before: how many
    /// calls expired, and how many sessions are left.
    async fn watch(&mut self, until: Instant, before: i64) -> Result<(u64, i64)> {
        loop {
            let (counts, left) = (self.counts().await?, self.sessions().await? - before);
            if (counts.now == 0 && left == 0) || until < Instant::now() {
                ensure!(counts.now == 0, "{} calls are still parked", counts.now);
                return Ok((counts.expired, left));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Calls that are asked something, one after the other, and forgets them.
async fn park(gate: std::net::SocketAddr, calls: usize) -> Result<()> {
    let mut client = caller(gate).await?;
    for _ in 0..calls {
        let answer = client.ask("").await?;
        let is_asked = memchr::memmem::find(&answer, b"input_required").is_some();
        ensure!(is_asked, "no question: {}", String::from_utf8_lossy(&answer));
    }
    Ok(())
}

/// What is said to a call for which there is no room.
async fn one_more(gate: &Gate) -> Result<String> {
    let answer = caller(gate.address).await?.ask("").await;
    Ok(match answer {
        Ok(answer) => String::from_utf8_lossy(&answer).into_owned(),
        Err(refused) => refused.to_string(),
    })
}

async fn caller(gate: std::net::SocketAddr) -> Result<Client> {
    Client::connect(gate, Era::Legacy.path(), Era::Modern, Work::Asked).await
}

/// One session upstream more than calls may be parked: it is `parked_per_caller_max` that refuses.
fn config(upstream: &Upstream, calls: usize, patience: Duration) -> String {
    let (path, address, seconds) = (Era::Legacy.path(), upstream.address, patience.as_secs());
    let (sessions, all) = (calls + 1, calls + 1);
    format!(
        r#"
[server.limits]
answer_timeout = "{seconds}s"
parked_max = {all}
parked_per_caller_max = {calls}
[routes."{path}"]
upstreams = ["legacy"]
[routes."{GATE_PATH}"]
upstreams = ["gate"]
[upstreams.legacy]
url = "http://{address}{path}"
sessions_max = {sessions}
[upstreams.gate]
builtin = "gate"
"#
    )
}

/// As many as half the limit of open files: each holds a connection to the upstream, and the other
/// half is for what the upstream is told when they expire all at once.
fn within_files(calls: usize) -> usize {
    let Some(files) = getrlimit(Resource::Nofile).current else { return calls };
    let room = usize::try_from(files / 2).unwrap_or(usize::MAX);
    if room < calls {
        println!("{room} calls are parked, not {calls}: `ulimit -n` is {files}");
    }
    calls.min(room)
}
