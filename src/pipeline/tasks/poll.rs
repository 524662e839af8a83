//! A task that a modern server gave in place of a result, brought to its end for a legacy client:
//! looked at again and again, its questions put on the call's stream (2026-07-28, the extension of
//! tasks).

use std::{collections::BTreeSet, time::Duration};

use serde::Deserialize;
use tokio::time::Instant;

use crate::{
    call::{UpstreamRequest, event::Event, tasks::Tasks},
    mcp::{message::Body, method::Method, raw::Raw, splice},
    pipeline::{
        bridge::{input_required::too_many_bytes, rounds::Round},
        event::ClientEvent,
        fault::Fault,
    },
    telemetry::throttle,
    upstream::{Clearance, Exchange, SendError, Sent},
};

/// The interval where a server names none.
const INTERVAL: Duration = Duration::from_secs(1);
/// The shortest and the longest wait between two looks, whatever the server says: the first spares
/// it, the second bounds how late an end is seen.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(60);
/// The time that a server has to take a cancellation.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);

/// A task under way. Dropped before its end, it is cancelled upstream.
#[derive(Debug)]
pub struct Polling {
    clearance: Clearance,
    sent: Sent,
    /// The call itself: what is asked of the task is asked in its name.
    call: UpstreamRequest,
    /// The server's own id of the task.
    id: String,
    interval: Duration,
    total: Duration,
    total_at: Instant,
    next: Next,
    /// The questions that the client is being asked, and since when.
    asking: Option<(Round, Instant)>,
    /// Keys of all questions so far: none is put twice.
    known: BTreeSet<String>,
    known_bytes: usize,
    /// The bytes of keys beyond which the task is given up.
    known_bytes_max: usize,
    over: bool,
    tasks: Tasks,
}

#[derive(Debug)]
enum Next {
    Rest(Instant),
    Send(Method, Raw),
    Wait(Method, Box<Exchange>),
}

/// The news of a task.
#[derive(Debug)]
pub enum Polled {
    /// The task goes on.
    Nothing,
    /// The client is to be asked: an object with `inputRequests`.
    Ask(Raw),
    End(Body),
}

/// A `Task`, or what is read of it here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Detailed {
    status: String,
    poll_interval_ms: Option<u64>,
    result: Option<Raw>,
    error: Option<Raw>,
    input_requests: Option<Raw>,
}

impl Polling {
    /// Begins with a `CreateTaskResult`; `total_at` is the end of the whole call's time, which
    /// counts from when the call was sent.
    ///
    /// # Errors
    /// Where the result names no task.
    pub fn begin(
        result: &Raw,
        call: UpstreamRequest,
        clearance: Clearance,
        sent: Sent,
        total_at: Instant,
        tasks: Tasks,
    ) -> Result<Self, Fault> {
        let garbled = || Fault::Unbridgeable("the task that it gave cannot be read".to_owned());
        let id = splice::member(result, "taskId").and_then(|id| id.try_read());
        let task: Detailed = result.try_read().ok_or_else(garbled)?;
        let total = clearance.upstream().timeout(&call).total;
        let mut polling = Self {
            call,
            clearance,
            sent,
            id: id.ok_or_else(garbled)?,
            interval: INTERVAL,
            total,
            total_at,
            next: Next::Rest(Instant::now()),
            asking: None,
            known: BTreeSet::new(),
            known_bytes: 0,
            known_bytes_max: usize::MAX,
            over: false,
            tasks,
        };
        polling.rest(task.poll_interval_ms);
        Ok(polling)
    }

    /// Bounds what is kept of the questions that were put (`questions_bytes_max`).
    pub fn knowing_at_most(mut self, bytes: usize) -> Self {
        self.known_bytes_max = bytes;
        self
    }

    /// Makes one step. Safe to drop: what has begun is kept.
    ///
    /// # Errors
    /// Where the server or the client fails, or the call's time is over.
    pub async fn step(&mut self) -> Result<Polled, Fault> {
        match &mut self.next {
            Next::Rest(until) => {
                let until = *until;
                if self.asking.is_none() && self.total_at <= Instant::now() {
                    return Err(self.failed(SendError::Total(self.total)));
                }
                self.rested(until).await?;
                Ok(Polled::Nothing)
            }
            Next::Send(method, params) => {
                let method = *method;
                let params = params.clone();
                let ask = request(&self.call, &self.id, method, &params);
                let sent = self.clearance.carry_on(&ask, &self.sent).await;
                let exchange = sent.map_err(|error| self.failed(error))?;
                self.next = Next::Wait(method, Box::new(exchange));
                Ok(Polled::Nothing)
            }
            Next::Wait(method, exchange) => {
                let method = *method;
                let event = exchange.next().await;
                match event.map_err(|error| self.failed(self.clearance.upstream().failed(error)))? {
                    Event::Answer { body, .. } => self.answered(method, body),
                    Event::Notification(_) | Event::ServerRequest(_) | Event::Resumable { .. } => {
                        Ok(Polled::Nothing)
                    }
                }
            }
        }
    }

    /// The client is asked these, and its answers are passed on.
    pub fn ask(&mut self, round: Round) {
        self.asking = Some((round, Instant::now()));
    }

    /// Returns what a client is told of questions that nobody needs an answer to any more.
    pub fn withdrawn(&self) -> Vec<ClientEvent> {
        self.asking.iter().flat_map(|(round, _)| round.withdrawn()).collect()
    }

    async fn rested(&mut self, until: Instant) -> Result<(), Fault> {
        let rest = tokio::time::sleep_until(until);
        if let Some((round, since)) = &mut self.asking {
            let answered = tokio::select! {
                // A round keeps what was answered.
                answered = round.answered() => Some(answered),
                () = rest => None,
            };
            if let Some(answered) = answered {
                answered?;
                // The client's time is not the server's.
                self.total_at += since.elapsed();
                let params = round.params(&Raw::object());
                self.next = Next::Send(Method::TasksUpdate, params);
                self.asking = None;
                return Ok(());
            }
        } else {
            rest.await;
        }
        self.next = Next::Send(Method::TasksGet, Raw::object());
        Ok(())
    }

    fn answered(&mut self, method: Method, body: Body) -> Result<Polled, Fault> {
        let result = match (method, body) {
            // The next look sees what became of it.
            (Method::TasksUpdate, _) => {
                self.rest(None);
                return Ok(Polled::Nothing);
            }
            (_, Body::Error(error)) => {
                self.over = true;
                return Ok(Polled::End(Body::Error(error)));
            }
            (_, Body::Result(result)) => result,
        };
        let garbled = |polling: &Self| {
            polling.failed(SendError::Garbage("a task that cannot be read".to_owned()))
        };
        let task: Detailed = result.try_read().ok_or_else(|| garbled(self))?;
        self.rest(task.poll_interval_ms);
        match (task.status.as_str(), task.result, task.error, task.input_requests) {
            ("completed", Some(result), ..) => self.end(Body::Result(result.into())),
            ("failed", _, Some(error), _) => self.end(Body::Error(error)),
            ("cancelled", ..) => {
                self.over = true;
                Err(Fault::TaskCancelled)
            }
            ("completed" | "failed", ..) => Err(garbled(self)),
            ("input_required", _, _, Some(requests)) if self.asking.is_none() => {
                self.fresh(&requests)
            }
            _ => Ok(Polled::Nothing),
        }
    }

    /// Questions that were not put yet.
    fn fresh(&mut self, requests: &Raw) -> Result<Polled, Fault> {
        if !requests.is_object() {
            return Ok(Polled::Nothing);
        }
        let mut fresh = Raw::object();
        for (key, request) in splice::entries(requests) {
            if !self.known.insert(key.clone()) {
                continue;
            }
            self.known_bytes = self.known_bytes.saturating_add(key.len());
            fresh = splice::insert(&fresh, &key, &request);
        }
        if self.known_bytes_max < self.known_bytes {
            return Err(Fault::Limit(too_many_bytes(self.known_bytes_max)));
        }
        if fresh == Raw::object() {
            return Ok(Polled::Nothing);
        }
        let edits: &[(&str, Option<&[u8]>)] = &[("inputRequests", Some(fresh.bytes()))];
        Ok(Polled::Ask(splice::edit(&Raw::object(), edits)))
    }

    fn end(&mut self, body: Body) -> Result<Polled, Fault> {
        self.over = true;
        Ok(Polled::End(body))
    }

    /// Sets the time of the next look, no later than the call may take.
    fn rest(&mut self, interval_ms: Option<u64>) {
        let said = interval_ms.map_or(self.interval, Duration::from_millis);
        self.interval = said.clamp(INTERVAL_MIN, INTERVAL_MAX);
        let until = Instant::now() + self.interval;
        self.next = Next::Rest(until.min(self.total_at.max(Instant::now() + INTERVAL_MIN)));
    }

    fn failed(&self, error: SendError) -> Fault {
        let upstream = self.clearance.upstream().name().as_str();
        throttle::line(("a task", upstream, error.kind()), |more| {
            tracing::warn!(upstream, task = self.id, %error, more, "a task failed");
        });
        Fault::Upstream { method: self.call.method, error }
    }
}

impl Drop for Polling {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let ask = request(&self.call, &self.id, Method::TasksCancel, &Raw::object());
        let clearance = self.clearance.clone();
        let sent = self.sent.clone();
        self.tasks.finish(async move {
            let cancelled = async { clearance.carry_on(&ask, &sent).await?.answer().await };
            match tokio::time::timeout(CANCEL_TIMEOUT, cancelled).await {
                Ok(Ok(_)) => (),
                Ok(Err(error)) => tracing::debug!(%error, "a task was not cancelled"),
                Err(_) => tracing::debug!("a task was not cancelled in time"),
            }
        });
    }
}

fn request(call: &UpstreamRequest, id: &str, method: Method, params: &Raw) -> UpstreamRequest {
    let id_text = Raw::encode(&id);
    UpstreamRequest {
        method,
        params: splice::edit(params, &[("taskId", Some(id_text.bytes()))]).into(),
        name: Some(id.to_owned()),
        mirrored: Vec::new(),
        safe: method == Method::TasksGet,
        hedge: None,
        ..call.clone()
    }
}
