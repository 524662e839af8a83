//! Failover and hedging: another replica gets a call whose replica fails it before its first sign,
//! or is slow.
//!
//! Any call goes elsewhere where nothing was sent; where something was, only one that is safe to
//! repeat. A hedge is a second request of a safe call at another replica, while the first is under
//! way: the first sign counts, and the other request is cancelled.

use std::{convert::Infallible, future::pending, pin::Pin, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};

use crate::{
    call::{ReplicaIndex, UpstreamRequest, event::Event},
    telemetry::Counter,
    upstream::{
        cluster::Upstream,
        exchange::{Exchange, error::SendError},
        proof::Clearance,
    },
};

/// The failover of one call.
pub struct Failover {
    upstream: Arc<Upstream>,
    ask: UpstreamRequest,
    clearance: Clearance,
    /// Places of replicas that had it.
    tried: Vec<ReplicaIndex>,
    hedge_at: Option<Instant>,
    rival: Hedge,
    /// Why the first is no more, while another one is asked.
    lost: Option<SendError>,
}

/// The future of a call's first sign.
pub type Waiting<'a> = Pin<Box<dyn Future<Output = Result<Event, SendError>> + Send + 'a>>;

/// The other request.
enum Hedge {
    None,
    Sending(Pin<Box<dyn Future<Output = Result<Exchange, SendError>> + Send>>),
    Underway(Box<Exchange>),
}

/// A course that goes back to its exchange, also when whoever waits is dropped.
struct Held<'a> {
    exchange: &'a mut Exchange,
    failover: Option<Box<Failover>>,
}

enum Heard {
    First(Result<Event, SendError>),
    Hedge(Result<Event, SendError>),
    Due,
}

impl Failover {
    /// Makes the failover of a call that was sent to the replicas of these indexes, the last of
    /// which has it. After `hedge` without a sign another one is asked, too.
    pub fn new(
        ask: &UpstreamRequest,
        clearance: &Clearance,
        tried: Vec<ReplicaIndex>,
        hedge: Option<Duration>,
    ) -> Self {
        Self {
            upstream: Arc::clone(clearance.upstream()),
            ask: ask.clone(),
            clearance: clearance.clone(),
            tried,
            hedge_at: hedge.map(|after| Instant::now() + after),
            rival: Hedge::None,
            lost: None,
        }
    }

    /// Sends it to another replica after this error, if it may be; false where not.
    fn try_failover(&mut self, error: &SendError) -> bool {
        let may = match error {
            SendError::Unavailable(_) | SendError::Unready(_) | SendError::Refused(_) => true,
            // A server says so that goes away, or a balancer in its place (RFC 9110 §15.6).
            SendError::Lost(_) | SendError::Status(502..=504, _) | SendError::Busy(503, _) => {
                self.ask.safe && self.upstream.may_send_lost()
            }
            SendError::Status(500.., _) | SendError::Busy(..) => {
                self.ask.safe && self.upstream.may_send_twice()
            }
            // A call that waited so long has no time left, and what is wrong is so elsewhere, too.
            SendError::Idle(_)
            | SendError::Total(_)
            | SendError::Status(..)
            | SendError::Redirected(_)
            | SendError::TooLarge(_)
            | SendError::Garbage(_)
            | SendError::NoRoom
            | SendError::Limited(_)
            | SendError::SessionGone => false,
        };
        may && self.send_elsewhere(Counter::ReplicaFailovers)
    }

    /// False where there is no other.
    fn send_elsewhere(&mut self, counter: Counter) -> bool {
        let Some(at) = self.upstream.choose(&self.ask, &self.tried) else { return false };
        let Ok(attempt) = self.upstream.circuit().attempt(self.ask.subject()) else { return false };
        self.tried.push(at);
        self.upstream.count(counter);
        let upstream = Arc::clone(&self.upstream);
        let ask = self.ask.clone();
        let clearance = self.clearance.clone();
        let sending = async move { upstream.send_to(at, &ask, &clearance, attempt).await };
        self.rival = Hedge::Sending(Box::pin(sending));
        true
    }

    /// The other request is the call's own from now on.
    fn adopt_hedge(&mut self, exchange: &mut Exchange) {
        if self.lost.is_none() {
            self.upstream.count(Counter::HedgesWon);
        }
        if let Hedge::Underway(rival) = std::mem::replace(&mut self.rival, Hedge::None) {
            exchange.succeeded_by(*rival);
        }
    }

    /// Waits for the first event of the other request. Safe to drop.
    async fn heard(&mut self) -> Result<Event, SendError> {
        if let Hedge::Sending(sending) = &mut self.rival {
            match sending.await {
                Ok(exchange) => self.rival = Hedge::Underway(Box::new(exchange)),
                Err(error) => {
                    self.rival = Hedge::None;
                    return Err(error);
                }
            }
        }
        match &mut self.rival {
            Hedge::Underway(exchange) => exchange.next_here().await,
            Hedge::None | Hedge::Sending(_) => never(pending().await),
        }
    }
}

/// The first sign of a call, from whichever replica it comes; from then on the exchange is that
/// replica's. Safe to drop.
pub fn first(exchange: &mut Exchange) -> Waiting<'_> {
    // Boxed: large, and for the first event only.
    Box::pin(race(exchange))
}

async fn race(exchange: &mut Exchange) -> Result<Event, SendError> {
    let failover = exchange.failover.take();
    let mut held = Held { exchange, failover };
    loop {
        let Held { exchange, failover } = &mut held;
        let Some(failover) = failover else { return exchange.next_here().await };
        let lost = failover.lost.is_some();
        let hedge_at = failover.hedge_at;
        let due = async {
            match hedge_at {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        };
        let heard = tokio::select! {
            // All keep what they have when dropped.
            biased;
            event = exchange.next_here(), if !lost => Heard::First(event),
            event = failover.heard() => Heard::Hedge(event),
            () = due => Heard::Due,
        };
        match heard {
            Heard::First(Err(error)) if matches!(failover.rival, Hedge::None) => {
                if !failover.try_failover(&error) {
                    held.failover = None;
                    return Err(error);
                }
                failover.lost = Some(error);
                failover.hedge_at = None;
            }
            // The other one is under way already.
            Heard::First(Err(error)) => failover.lost = Some(error),
            Heard::First(Ok(event)) => {
                held.failover = None;
                return Ok(event);
            }
            Heard::Hedge(Ok(event)) => {
                failover.adopt_hedge(exchange);
                held.failover = None;
                return Ok(event);
            }
            Heard::Hedge(Err(error)) => {
                failover.rival = Hedge::None;
                match failover.lost.take() {
                    // The first is still under way.
                    None => (),
                    Some(_) if failover.try_failover(&error) => failover.lost = Some(error),
                    Some(lost) => {
                        held.failover = None;
                        return Err(lost);
                    }
                }
            }
            Heard::Due => {
                failover.hedge_at = None;
                if failover.upstream.may_send_twice() {
                    failover.send_elsewhere(Counter::Hedges);
                }
            }
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.exchange.failover = self.failover.take();
    }
}

impl std::fmt::Debug for Failover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Failover").field("tried", &self.tried).finish_non_exhaustive()
    }
}

fn never<T>(never: Infallible) -> T {
    match never {}
}
