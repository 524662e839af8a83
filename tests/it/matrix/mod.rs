//! Every client with every server: each version over each transport on both sides, and every
//! feature, held to the published schemas. Prints the table, and writes it to `target/matrix.md`.

mod asks;
mod client;
mod doors;
mod expected;
mod features;
mod link;
mod server;
mod spec;
mod table;
mod work;
mod world;

use std::sync::Arc;

use serde_json::json;
use tokio::{sync::Semaphore, task::JoinSet};

use self::{
    client::Client,
    expected::expected,
    features::{FEATURES, Feature, Pair, Seen},
    server::Server,
    spec::{Fault, MODERN, VERSIONS, Version},
};
use crate::gate::gateway;

/// Pairs at once.
const PAIRS: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    Http,
    /// HTTP+SSE of 2024-11-05, which later legacy versions are spoken over as well.
    Sse,
    Stdio,
}

const TRANSPORTS: [Transport; 3] = [Transport::Http, Transport::Sse, Transport::Stdio];

/// One side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct End {
    pub version: Version,
    pub transport: Transport,
}

/// What was to be seen, and what was.
#[derive(Debug, Clone)]
pub struct Cell {
    pub client: End,
    pub server: End,
    pub feature: Feature,
    pub outcome: Outcome,
}

#[derive(Debug, Clone)]
pub enum Outcome {
    Green,
    /// Not simply there, as is specified, for this reason.
    Specified(Seen, &'static str),
    Failed(Vec<Fault>),
}

/// Both sides speak every version over every transport. (Streamable HTTP came with 2025-03-26, but
/// servers of 2024-11-05 are met over it; HTTP+SSE ended with the legacy era.)
fn ends() -> Vec<End> {
    let all = VERSIONS.iter().flat_map(|version| {
        TRANSPORTS.iter().map(|transport| End { version, transport: *transport })
    });
    all.filter(|end| end.version != MODERN || end.transport != Transport::Sse).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_client_with_every_server() {
    let permits = Arc::new(Semaphore::new(PAIRS));
    let mut pairs = JoinSet::new();
    for client in ends() {
        for server in ends() {
            let permits = Arc::clone(&permits);
            pairs.spawn(async move {
                let _permit = permits.acquire().await.unwrap();
                Box::pin(pair(client, server)).await
            });
        }
    }
    let mut cells = pairs.join_all().await.concat();
    cells.sort_by_key(|cell| (cell.client, cell.server, cell.feature));
    let text = table::text(&ends(), &cells);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/target/matrix.md");
    std::fs::write(path, &text).unwrap();
    table::print(&text);
    let failed = cells.iter().filter(|cell| matches!(cell.outcome, Outcome::Failed(..))).count();
    assert_eq!(failed, 0, "cells failed: see above, or {path}");
}

/// All cells of one client and one server, with a gate of their own.
async fn pair(client: End, server: End) -> Vec<Cell> {
    let cell = |feature, outcome| Cell { client, server, feature, outcome };
    let fake = Server::new(server.version);
    let section = doors::open(&fake, server.transport).await;
    let plan = gateway().section("u", &section).server("limits.keep_alive = \"1s\"");
    let plan = plan.route("/mcp", "upstreams = [\"u\"]\npage_size = 6");
    let mut gate = plan.start().await;
    let capable = world::client_capabilities(client.version);
    let opened = async {
        Ok::<_, String>(Pair {
            server: Arc::clone(&fake),
            client: Client::open(&gate, client.version, client.transport, capable).await?,
            plain: Client::open(&gate, client.version, client.transport, json!({})).await?,
        })
    };
    let mut cells = Vec::new();
    match opened.await {
        Ok(mut pair) => {
            for &feature in FEATURES {
                let seen = pair.run(feature).await;
                let faults = pair.faults();
                let wanted = expected(client, server, feature);
                cells.push(cell(feature, judge(seen, wanted, faults)));
            }
        }
        Err(why) => {
            let failed =
                |feature| cell(feature, Outcome::Failed(vec![format!("not opened: {why}").into()]));
            cells.extend(FEATURES.iter().copied().map(failed));
        }
    }
    gate.stops().await;
    // What is said at the end counts too.
    let late = std::mem::take(&mut *fake.faults.lock());
    if let Some(last) = cells.last_mut().filter(|_| !late.is_empty()) {
        last.outcome = Outcome::Failed(late);
    }
    cells
}

impl Pair {
    /// What was wrong with messages since the last time.
    fn faults(&self) -> Vec<Fault> {
        let all = [&self.client.faults, &self.plain.faults, &self.server.faults];
        all.iter().flat_map(|faults| std::mem::take(&mut *faults.lock())).collect()
    }
}

fn judge(seen: features::Sight, wanted: expected::Expected, mut faults: Vec<Fault>) -> Outcome {
    let (wanted, why) = wanted;
    let seen = seen.map_err(|why| faults.push(why.into()));
    match seen {
        Ok(seen) if seen != wanted => faults.push(format!("seen {seen:?}, not {wanted:?}").into()),
        Ok(_) if faults.is_empty() && wanted == Seen::Works => return Outcome::Green,
        Ok(seen) if faults.is_empty() => return Outcome::Specified(seen, why),
        Ok(_) | Err(()) => (),
    }
    Outcome::Failed(faults)
}
