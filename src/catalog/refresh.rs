//! Keeps one upstream's shelf true: read anew when it says so, when its time is over, and when it
//! is open again.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::Instant};

use crate::{
    call::{
        SessionKey,
        event::{Notice, Question},
    },
    config::Transport,
    guard::Schemas,
    mcp::method::Method,
    telemetry::Counters,
    upstream::{Said, Sign, Upstream},
};

use super::{
    listing::{Bounds, ListError, Listing},
    shelf::Shelf,
};

/// A `ttlMs` shorter than this is no reason to ask all the time: what changes is announced.
const REFRESH_MIN: Duration = Duration::from_secs(30);

/// A server that says all the time that its lists changed is read once in this time.
const BRAKE: Duration = Duration::from_secs(2);
/// So many changes at once are no flood: a client that opens several processes causes as many.
const BURST: u32 = 10;

/// What an upstream's keeper found.
#[derive(Debug)]
pub enum Change {
    /// Its listing is new, or the upstream said that it changed (which clients hear either way).
    Listed {
        upstream: String,
        said: Option<Method>,
    },
    Notice {
        upstream: String,
        session: Option<SessionKey>,
        notice: Notice,
    },
    Question {
        session: Option<SessionKey>,
        question: Question,
    },
}

/// Runs for as long as the upstream is part of the gate.
pub async fn keep(
    upstream: Arc<Upstream>,
    shelf: Arc<Shelf>,
    items_max: usize,
    (counters, schemas): (Arc<Counters>, Arc<Schemas>),
    changes: mpsc::Sender<Change>,
) {
    let relaying = relay(&upstream, &changes);
    let keeping = keep_lists(&upstream, &shelf, items_max, (&counters, &schemas), &changes);
    tokio::select! {
        // Each ends with the gate only.
        () = relaying => (),
        () = Box::pin(keeping) => (),
    }
}

/// Passes on what is for clients, however long the lists take.
async fn relay(upstream: &Upstream, changes: &mpsc::Sender<Change>) {
    while let Some(said) = upstream.next_said().await {
        let change = match said {
            Said::Notice(session, notice) => {
                Change::Notice { upstream: upstream.name().to_owned(), session, notice }
            }
            Said::Question(session, question) => Change::Question { session, question },
        };
        if changes.send(change).await.is_err() {
            return;
        }
    }
}

async fn keep_lists(
    upstream: &Arc<Upstream>,
    shelf: &Shelf,
    items_max: usize,
    (counters, schemas): (&Counters, &Schemas),
    changes: &mpsc::Sender<Change>,
) {
    let name = upstream.name().to_owned();
    let mut brake = Brake { next: Instant::now() };
    loop {
        let sign = tokio::time::timeout(patience(upstream, shelf), upstream.next_sign()).await;
        let opened = matches!(sign, Ok(Sign::Opened));
        let doubted = matches!(sign, Ok(Sign::Doubt));
        let said = match sign {
            Ok(Sign::Changed(method)) => Some(method),
            Ok(Sign::Opened | Sign::Doubt) | Err(_) => None,
        };
        if said.is_some() || doubted {
            tokio::time::sleep(brake.pause(Instant::now())).await;
        }
        let Some(peer) = upstream.peer() else { continue };
        let strict_mirrors = matches!(upstream.settings.config.transport, Transport::Http { .. });
        let bounds = Bounds { items_max, strict_mirrors, counters };
        let mut listing = match Listing::read(upstream, &peer, bounds).await {
            Ok(listing) => listing,
            // It was closed on purpose.
            Err(_) if upstream.is_retired() => continue,
            Err(error) => {
                report(&name, shelf, &error);
                continue;
            }
        };
        listing.asked_tools =
            shelf.listing().map(|kept| kept.asked_tools.clone()).unwrap_or_default();
        let listed = |said| Change::Listed { upstream: name.clone(), said };
        if (shelf.put(listing.clone()) || said.is_some())
            && changes.send(listed(said)).await.is_err()
        {
            return;
        }
        if !opened {
            prepare(&name, &listing, schemas).await;
            continue;
        }
        // What all may use is served by now; this may take a process of its own.
        let asked = Box::pin(listing.read_asked(upstream, bounds)).await;
        if let Some(error) = asked.err().filter(|_| !upstream.is_retired()) {
            tracing::info!(upstream = name, %error, "what only some clients may use is not known");
        }
        let news = shelf.put(listing.clone());
        shelf.finish();
        if news && changes.send(listed(None)).await.is_err() {
            return;
        }
        // Last: nobody who waits for the lists is to wait for this.
        prepare(&name, &listing, schemas).await;
    }
}

/// Slows down readings that follow each other closely.
struct Brake {
    /// The theoretical arrival time of GCRA.
    next: Instant,
}

impl Brake {
    /// How long the reading for a change that came `now` is to wait.
    fn pause(&mut self, now: Instant) -> Duration {
        self.next = self.next.max(now) + BRAKE;
        self.next.duration_since(now).saturating_sub(BRAKE * BURST)
    }
}

/// Has schemas compiled before they are needed, and gives way after each.
async fn prepare(upstream: &str, listing: &Listing, schemas: &Schemas) {
    schemas.retain(upstream, |name| listing.tools.iter().any(|tool| tool.key == name));
    for tool in &listing.tools {
        schemas.prepare(upstream, &tool.key, &tool.raw);
        tokio::task::yield_now().await;
    }
}

fn patience(upstream: &Upstream, shelf: &Shelf) -> Duration {
    let refresh = upstream.settings.config.refresh;
    let ttl = shelf.listing().map(|listing| listing.ttl_ms).filter(|ttl| *ttl != 0);
    ttl.map_or(refresh, |ttl| refresh.min(Duration::from_millis(ttl).max(REFRESH_MIN)))
}

fn report(name: &str, shelf: &Shelf, error: &ListError) {
    tracing::warn!(upstream = name, %error, "its lists could not be read");
    shelf.failed(error.to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_slowed_down_and_a_burst_is_not() {
        let begin = Instant::now();
        let mut brake = Brake { next: begin };
        for _ in 0..BURST {
            assert_eq!(brake.pause(begin), Duration::ZERO, "a burst");
        }
        let mut now = begin;
        for _ in 0..100 {
            let pause = brake.pause(now);
            assert_eq!(pause, BRAKE, "a flood, read again each time the pause is over");
            now += pause;
        }
        assert_eq!(brake.pause(now + BRAKE * 2), Duration::ZERO, "calmer");
    }
}
