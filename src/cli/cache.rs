//! `tollgate cache purge`: has a running gate forget results that it keeps.

use std::{net::SocketAddr, path::Path, process::ExitCode};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::BodyExt as _;
use serde_json::Value;

use crate::{
    admin::{PURGE_PATH, Purge},
    app, config,
    net::{Net, SendOptions},
};

use super::output::{say, show};

#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Have the running gate forget results that it keeps: all, or those that fit all that is
    /// given. It is reached at `admin` of `[server]`
    Purge(Arguments),
}

#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Forget results of this upstream
    #[arg(long)]
    upstream: Option<String>,
    /// Forget results of the tool that the upstream calls so
    #[arg(long, conflicts_with = "resource")]
    tool: Option<String>,
    /// Forget results of the resource of this URI
    #[arg(long, value_name = "URI")]
    resource: Option<String>,
}

/// Has a running gate forget results.
///
/// # Errors
/// No gate answers there, or it refuses.
pub fn run(path: &Path, command: &Command) -> anyhow::Result<ExitCode> {
    let Command::Purge(Arguments { upstream, tool, resource }) = command.clone();
    let config = match config::load(path, &config::environment) {
        Ok(config) => config,
        Err(problems) => {
            show(&problems.render(false));
            bail!("{} cannot be read", path.display());
        }
    };
    let admin = config.server.admin.with_context(|| {
        format!("{} has no `admin` in [server]: add admin = \"127.0.0.1:9090\"", path.display())
    })?;
    let purge = Purge { upstream, tool, resource };
    let purged = app::runtime()?.block_on(send(admin, &purge))?;
    say(&format!("{purged} result(s) forgotten"));
    Ok(ExitCode::SUCCESS)
}

async fn send(admin: SocketAddr, purge: &Purge) -> anyhow::Result<u64> {
    let url = format!("http://{}{PURGE_PATH}", reachable(admin));
    let request = Request::post(&url)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Bytes::from(serde_json::to_vec(purge)?))?;
    let sent = Net::new().send(request, SendOptions::default()).await;
    let response = sent.with_context(|| format!("no gate answers at {url}"))?;
    let status = response.status();
    let text = response.into_body().collect().await?.to_bytes();
    let answer = serde_json::from_slice::<Value>(&text).unwrap_or_default();
    let purged = answer.get("purged").and_then(Value::as_u64);
    purged.with_context(|| format!("{url}: {status} {}", String::from_utf8_lossy(&text).trim()))
}

/// The address by which a listener on every address is reached from here.
fn reachable(mut admin: SocketAddr) -> SocketAddr {
    if admin.ip().is_unspecified() {
        admin.set_ip(match admin {
            SocketAddr::V4(_) => [127, 0, 0, 1].into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    admin
}
