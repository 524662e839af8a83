//! A task that a legacy server gave for a call, brought to its end on the same connection
//! (2025-11-25, tasks): its result is waited for, as that of any request, and its status asked for
//! meanwhile, as a sign of life.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use crate::{
    call::{UpstreamRequest, event::Event, tasks::Tasks},
    mcp::{message::Body, method::Method, raw::Raw, splice},
    upstream::{
        connection::{open::Connection, pool::Leased},
        exchange::{Exchange, Source, error::SendError},
    },
};

/// The interval where a server names none.
const INTERVAL: Duration = Duration::from_secs(5);
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(15);
/// The time that a server has to take a cancellation.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);

/// A server's own task.
#[derive(Debug, Clone)]
pub struct TaskRef {
    /// The params that name it.
    params: Raw,
    interval: Duration,
}

/// A task under way. Dropped before its end, it is cancelled upstream.
#[derive(Debug)]
pub struct Watch {
    connection: Connection,
    task: TaskRef,
    beat: Beat,
    /// The connection is the task's until it has ended.
    leased: Option<Leased>,
    over: bool,
    tasks: Tasks,
}

#[derive(Debug)]
enum Beat {
    Rest(Instant),
    Asking(Source, Instant),
    /// The server does not answer: whether it lives is seen by what it says itself.
    Silent,
}

impl TaskRef {
    /// Reads a `CreateTaskResult`; none where it is another result.
    pub fn of(result: &Raw) -> Option<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Task {
            task_id: String,
            poll_interval: Option<f64>,
        }
        let task: Task = splice::at(result, &["task"])?.try_read()?;
        let said = task.poll_interval.filter(|said| (0.0..1e9).contains(said));
        let interval = said.map_or(INTERVAL, |said| Duration::from_secs_f64(said / 1e3));
        Some(Self {
            params: Raw::encode(&serde_json::json!({ "taskId": task.task_id })),
            interval: interval.clamp(INTERVAL_MIN, INTERVAL_MAX),
        })
    }

    /// The request for its result, in the name of the call that led to it.
    pub fn result(&self, call: &UpstreamRequest) -> UpstreamRequest {
        UpstreamRequest {
            method: Method::TasksResult,
            params: self.params.clone().into(),
            name: None,
            mirrored: Vec::new(),
            as_task: false,
            safe: false,
            hedge: None,
            ..call.clone()
        }
    }
}

impl Exchange {
    /// Goes on with the task that its answer named: the next answer is that task's result. What
    /// time the call has is as it was.
    ///
    /// Safe to drop: nothing has changed then.
    ///
    /// # Errors
    /// Where the connection of the call is not known, or has ended.
    pub async fn follow(
        &mut self,
        task: &TaskRef,
        call: &UpstreamRequest,
        tasks: &Tasks,
    ) -> Result<(), SendError> {
        let Some(connection) = self.connection.clone() else {
            return Err(SendError::Unavailable("its connection is not known".to_owned()));
        };
        // Before the lease leaves its place: this may be dropped here.
        let next = connection.call(&task.result(call), None).await?;
        if let Some(leased) = &mut self.leased {
            leased.unsettle();
        }
        let task = task.clone();
        let leased = self.leased.take();
        let watch = Watch::new(*connection, task, leased, tasks.clone());
        self.watch = Some(Box::new(watch));
        (self.source, self.aside) = (next.source, next.aside);
        self.unhurried = true;
        self.idle_at = Instant::now() + self.timeout.idle;
        Ok(())
    }
}

impl Watch {
    pub fn new(
        connection: Connection,
        task: TaskRef,
        leased: Option<Leased>,
        tasks: Tasks,
    ) -> Self {
        let beat = Beat::Rest(Instant::now() + task.interval);
        Self { connection, task, beat, leased, over: false, tasks }
    }

    /// Waits for a sign of life. Safe to drop.
    pub async fn beat(&mut self) {
        while !self.look().await {}
    }

    /// Makes one step; returns whether the server showed that it lives.
    async fn look(&mut self) -> bool {
        match &mut self.beat {
            Beat::Rest(until) => {
                tokio::time::sleep_until(*until).await;
                let asked = self.connection.ask(Method::TasksGet, &self.task.params, None).await;
                self.beat = asked.map_or(Beat::Silent, |asked| {
                    let (source, patience) = asked.into_source();
                    Beat::Asking(source, Instant::now() + patience)
                });
                false
            }
            Beat::Asking(source, until) => {
                let event = tokio::time::timeout_at(*until, source.next()).await;
                let (lives, beat) = match event {
                    Ok(Ok(Event::Answer { body: Body::Result(_), .. })) => {
                        (true, Beat::Rest(Instant::now() + self.task.interval))
                    }
                    Ok(Ok(Event::Answer { .. }) | Err(_)) | Err(_) => (false, Beat::Silent),
                    Ok(Ok(_)) => return false,
                };
                self.beat = beat;
                lives
            }
            Beat::Silent => std::future::pending().await,
        }
    }

    /// Ends the watch of a task that has ended. Returns the lease, which is free.
    pub fn end(mut self) -> Option<Leased> {
        self.over = true;
        self.leased.take()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.over || self.connection.is_closed() {
            return;
        }
        let connection = self.connection.clone();
        let leased = self.leased.take();
        let params = self.task.params.clone();
        self.tasks.finish(async move {
            let cancelled =
                async { connection.ask(Method::TasksCancel, &params, None).await?.answer().await };
            match tokio::time::timeout(CANCEL_TIMEOUT, cancelled).await {
                Ok(Ok(_)) => (),
                Ok(Err(error)) => tracing::debug!(%error, "a task was not cancelled"),
                Err(_) => tracing::debug!("a task was not cancelled in time"),
            }
            // Not before now may the connection be another's, or end.
            drop(leased);
        });
    }
}
