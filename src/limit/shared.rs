//! Limits that several gates share: their buckets are in a store, and each gate's own beside them.
//!
//! The store decides by its own clock, all limits of a request at once. While it is away a gate
//! decides by its own buckets, in which it counts all the time what it lets in itself: alone it
//! lets in no more than the limit, and N gates no more than N times that. What is too much by its
//! own buckets it never asks the store for, which may have lost its memory; only requests that ask
//! at the same moment do not know of each other then.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, Semaphore, watch},
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{
    call::tasks::Tasks,
    config::LimitStore,
    store::remote::{Remote, RemoteError, Script},
    telemetry::{Counter, Counters},
};

use super::{
    LimitRefusal,
    bucket::Shortage,
    rule::{self, Rule},
};

/// The script, but for its clock.
const TAKE: &str = include_str!("take.lua");
/// The server's own time: seconds, and microseconds in it.
const SERVER_CLOCK: &str = "local clock = redis.call('TIME')\n";

/// A store that is not there after this long, TLS included, is away; the time that one request has
/// for its answer is much less.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The pause between two attempts to reach a store that is away.
const PAUSE: Duration = Duration::from_millis(200);
/// How often it is asked whether it is still there: nobody may be calling.
const LOOK: Duration = Duration::from_secs(1);

/// A store of limits, kept open for as long as this lives.
#[derive(Debug)]
pub struct SharedLimits {
    line: Arc<Line>,
    tasks: Tasks,
}

/// Keys and arguments of the script for one request.
#[derive(Debug, Default)]
pub struct TakeRequest {
    /// A bucket of each limit.
    pub keys: Vec<String>,
    /// The arguments as the script takes them.
    pub arguments: Vec<String>,
}

/// A limit that refuses, by its place among those asked, and when it has enough again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleWait {
    pub place: usize,
    pub wait: Duration,
}

/// The store said nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreAway;

#[derive(Debug)]
struct Line {
    settings: LimitStore,
    script: Script,
    state: watch::Sender<State>,
    /// The places, one for each request that waits for an answer.
    places: Semaphore,
    lost: Notify,
    counters: Arc<Counters>,
}

#[derive(Debug, Clone)]
enum State {
    /// Being opened for the first time.
    Opening,
    /// The number tells one connection from another.
    Open(u64, Remote),
    /// The store is away for this reason.
    Away(String),
}

impl SharedLimits {
    /// Begins to open it; must be called within a runtime.
    pub fn open(settings: LimitStore, tasks: &Tasks, counters: Arc<Counters>) -> Self {
        let line = Arc::new(Line {
            places: Semaphore::new(settings.in_flight_max),
            script: Script::new(&script(SERVER_CLOCK)),
            state: watch::Sender::new(State::Opening),
            lost: Notify::new(),
            settings,
            counters,
        });
        let tasks = tasks.child();
        tasks.spawn("limit: store", Arc::clone(&line).keep());
        Self { line, tasks }
    }

    pub fn settings(&self) -> &LimitStore {
        &self.line.settings
    }

    /// Why it is away, while it is.
    pub fn away(&self) -> Option<String> {
        match &*self.line.state.borrow() {
            State::Away(error) => Some(error.clone()),
            State::Opening | State::Open(..) => None,
        }
    }

    /// Takes what is asked for out of all buckets; where it gives limits that refuse, out of none.
    /// Dropped, it may have been taken.
    ///
    /// # Errors
    /// Where the store does not answer in time. It may have been taken then, too.
    pub async fn take(&self, asked: &TakeRequest) -> Result<Vec<RuleWait>, StoreAway> {
        let line = &*self.line;
        let deadline = Instant::now() + line.settings.timeout;
        let (number, remote) = line.opened(deadline).await.ok_or(StoreAway)?;
        let Ok(Ok(_place)) = timeout_at(deadline, line.places.acquire()).await else {
            return Err(StoreAway);
        };
        let run = remote.run(&line.script, &asked.keys, &asked.arguments);
        match timeout_at(deadline, run).await {
            Ok(Ok(refused)) => return Ok(waits(&refused)),
            Ok(Err(error)) => line.lose(Some(number), &error.to_string()),
            Err(_) => {
                let error = format!("no answer within {:?}", line.settings.timeout);
                line.lose(Some(number), &error);
            }
        }
        Err(StoreAway)
    }
}

impl Drop for SharedLimits {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

impl Line {
    /// Opens it, and again whenever it is lost. Safe to drop: only the connection is lost.
    async fn keep(self: Arc<Self>) {
        for number in 0.. {
            match self.connect().await {
                Ok(remote) => {
                    let before = self.state.send_replace(State::Open(number, remote.clone()));
                    said_again(&before);
                    self.watch(number, &remote).await;
                }
                Err(error) => self.lose(None, &error.to_string()),
            }
            sleep(PAUSE).await;
        }
    }

    async fn connect(&self) -> Result<Remote, RemoteError> {
        let LimitStore { url, password, .. } = &self.settings;
        let password = password.as_ref().map(|password| password.expose());
        let remote = Remote::connect(url.expose(), password, CONNECT_TIMEOUT).await?;
        // The store may take connections, and answer nothing.
        remote.ping(self.settings.timeout).await.map(|()| remote)
    }

    /// Ends when the connection is lost.
    async fn watch(&self, number: u64, remote: &Remote) {
        // A connection that is lost just before this is seen, too: the sign is kept.
        while timeout(LOOK, self.lost.notified()).await.is_err() {
            if let Err(error) = remote.ping(self.settings.timeout).await {
                self.lose(Some(number), &error.to_string());
            }
        }
    }

    /// The connection, as soon as there is one or none.
    async fn opened(&self, deadline: Instant) -> Option<(u64, Remote)> {
        if let State::Open(number, remote) = &*self.state.borrow() {
            return Some((*number, remote.clone()));
        }
        let mut state = self.state.subscribe();
        let known = state.wait_for(|state| !matches!(state, State::Opening));
        match timeout_at(deadline, known).await {
            Ok(Ok(state)) => match &*state {
                State::Open(number, remote) => Some((*number, remote.clone())),
                State::Opening | State::Away(_) => None,
            },
            _ => None,
        }
    }

    /// Notes that it is away from now on, said and counted once: if this connection is still the
    /// one there is.
    fn lose(&self, number: Option<u64>, error: &str) {
        let lost = self.state.send_if_modified(|state| {
            let is_new = match state {
                State::Opening => true,
                State::Open(open, _) => number == Some(*open),
                State::Away(_) => false,
            };
            if is_new {
                *state = State::Away(error.to_owned());
            }
            is_new
        });
        if lost {
            self.counters.add(Counter::LimitStoreLost);
            tracing::warn!(
                error,
                "limits are not shared: the store is away, and each gate counts by itself"
            );
            if number.is_some() {
                self.lost.notify_one();
            }
        }
    }
}

fn said_again(before: &State) {
    if matches!(before, State::Away(_)) {
        tracing::info!("limits are shared again");
    }
}

/// The script by a clock: a line that sets `clock`.
pub fn script(clock: &str) -> String {
    format!("{clock}{TAKE}")
}

/// The refusal of a request by its limits; none where all admit.
pub fn refusal(keys: &[(&Arc<Rule>, u64)], waits: &[RuleWait]) -> Option<LimitRefusal> {
    let refusals = waits.iter().filter_map(|wait| {
        let (rule, _) = keys.get(wait.place)?;
        Some(rule.refusal(Shortage::For(wait.wait)))
    });
    rule::worst(refusals)
}

/// Reads what the script returns.
pub fn waits(refused: &[i64]) -> Vec<RuleWait> {
    let each = refused.as_chunks::<3>().0.iter().map(|[place, seconds, nanos]| {
        let place = usize::try_from(*place).unwrap_or_default().saturating_sub(1);
        let seconds = u64::try_from(*seconds).unwrap_or_default();
        let nanos = u32::try_from(*nanos).unwrap_or_default();
        RuleWait { place, wait: Duration::new(seconds, nanos) }
    });
    each.collect()
}
