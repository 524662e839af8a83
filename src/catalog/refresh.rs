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
    mcp::method::Method,
    telemetry::Counters,
    upstream::{Sign, Upstream},
};

use super::{
    listing::{Bounds, ListError, Listing},
    shelf::Shelf,
};

/// A `ttlMs` shorter than this is no reason to ask all the time: what changes is announced.
const REFRESH_MIN: Duration = Duration::from_secs(30);

/// A server that says all the time that its lists changed is read ever more seldom.
const BRAKE_MIN: Duration = Duration::from_millis(100);
const BRAKE_MAX: Duration = Duration::from_secs(30);
/// Changes further apart than this are no flood.
const CALM: Duration = Duration::from_secs(1);

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
    counters: Arc<Counters>,
    changes: mpsc::Sender<Change>,
) {
    let name = upstream.name().to_owned();
    let mut brake = Brake { last: None, pause: Duration::ZERO };
    loop {
        let sign = tokio::time::timeout(patience(&upstream, &shelf), upstream.next_sign()).await;
        let opened = matches!(sign, Ok(Sign::Opened));
        let doubted = matches!(sign, Ok(Sign::Doubt));
        let said = match sign {
            Ok(Sign::Notice(session, notice)) => {
                let notice = Change::Notice { upstream: name.clone(), session, notice };
                if changes.send(notice).await.is_err() {
                    return;
                }
                continue;
            }
            Ok(Sign::Question(session, question)) => {
                if changes.send(Change::Question { session, question }).await.is_err() {
                    return;
                }
                continue;
            }
            Ok(Sign::Changed(method)) => Some(method),
            Ok(Sign::Opened | Sign::Doubt) | Err(_) => None,
        };
        if said.is_some() || doubted {
            brake.wait().await;
        }
        let Some(peer) = upstream.peer() else { continue };
        let strict_mirrors = matches!(upstream.settings.config.transport, Transport::Http { .. });
        let bounds = Bounds { items_max, strict_mirrors, counters: &counters };
        let mut listing = match Listing::read(&upstream, &peer, bounds).await {
            Ok(listing) => listing,
            // It was closed on purpose.
            Err(_) if upstream.is_retired() => continue,
            Err(error) => {
                report(&name, &shelf, &error);
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
            continue;
        }
        // What all may use is served by now; this may take a process of its own.
        let asked = Box::pin(listing.read_asked(&upstream, bounds)).await;
        if let Some(error) = asked.err().filter(|_| !upstream.is_retired()) {
            tracing::info!(upstream = name, %error, "what only some clients may use is not known");
        }
        let news = shelf.put(listing);
        shelf.finish();
        if news && changes.send(listed(None)).await.is_err() {
            return;
        }
    }
}

/// Slows down readings that follow each other closely.
struct Brake {
    last: Option<Instant>,
    pause: Duration,
}

impl Brake {
    async fn wait(&mut self) {
        let close = self.last.is_some_and(|last| last.elapsed() < CALM + self.pause);
        self.pause =
            if close { (self.pause * 2).clamp(BRAKE_MIN, BRAKE_MAX) } else { Duration::ZERO };
        tokio::time::sleep(self.pause).await;
        self.last = Some(Instant::now());
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
