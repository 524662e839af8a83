//! What a limit costs that gates share: the same two limits in this process and in a Redis on
//! loopback, asked by one after the other and by many at once.
//!
//! `cargo bench --features internals --bench shared`; it needs `redis-server`.
#![allow(clippy::print_stdout, reason = "a bench prints its numbers")]

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, sleep};
use tollgate::internals::{Caller, Client, Method, Raw, Rules, Version, Wanted, Wish, rules};

const CALLS: usize = 20_000;
const AT_ONCE: [usize; 3] = [1, 16, 64];
/// Two limits that last for the whole bench; a store gets all the time that a busy machine needs.
const LIMITS: &str = r#"
[routes."/mcp"]
upstreams = ["a"]
[upstreams.a]
url = "http://127.0.0.1:9"
limits = [
    { per = ["caller", "tool"], rate = "1000000/s" },
    { per = ["caller"], budget = "4000000000/month" },
]
"#;

struct Redis(Child);

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let _redis = redis(port).await?;
    let folder = tempfile::tempdir()?;
    let store = format!("[limit]\nstore = \"redis://127.0.0.1:{port}\"\nstore_timeout = \"5s\"\n");
    println!("{:8} | at once | admitted/s | p50 µs | p99 µs", "");
    for (name, section) in [("own", ""), ("shared", &*store)] {
        let file = folder.path().join("routes.toml");
        fs::write(&file, format!("{section}{LIMITS}"))?;
        let rules = rules(&file).map_err(|problems| anyhow::anyhow!("{problems}"))?;
        for at_once in AT_ONCE {
            admit(&rules, at_once, CALLS / 20).await?;
            let begun = Instant::now();
            let mut times = admit(&rules, at_once, CALLS).await?;
            let rate = CALLS as f64 / begun.elapsed().as_secs_f64();
            times.sort_unstable();
            let at = |part: usize| times.get(CALLS * part / 100).copied().unwrap_or_default();
            let micros = |time: Duration| time.as_secs_f64() * 1e6;
            let (half, most) = (micros(at(50)), micros(at(99)));
            println!("{name:8} | {at_once:7} | {rate:10.0} | {half:6.1} | {most:6.1}");
        }
        ensure!(rules.degraded().is_none(), "the store was away in between");
    }
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "the bench's own process")]
async fn redis(port: u16) -> Result<Redis> {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
    let started = command.stdout(Stdio::null()).spawn();
    let redis = Redis(started.context("redis-server (Debian: apt install redis-server)")?);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        sleep(Duration::from_millis(5)).await;
    }
    Ok(redis)
}

/// How long each of so many requests took to be let in.
async fn admit(rules: &Arc<Rules>, at_once: usize, calls: usize) -> Result<Vec<Duration>> {
    let caller = Caller::Address(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let (capabilities, info) = (Raw::object(), Raw::object());
    let client = &Client { version: Version::MODERN, capabilities, info };
    let (caller, params) = (&caller, &Raw::object());
    let each = stream::iter(0..calls).map(|_| async move {
        let (method, route) = (Method::ToolsCall, &"/mcp".into());
        let wish = Wish { method, caller, client, route, params };
        let begun = Instant::now();
        let admitted = rules.admit(wish, Wanted { upstream: &"a".into(), name: "tool" }).await;
        admitted.map(|_| begun.elapsed())
    });
    let each: Vec<_> = each.buffer_unordered(at_once).collect().await;
    Ok(each.into_iter().collect::<Result<_, _>>()?)
}
