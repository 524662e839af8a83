//! Streams of HTTP/2 whose clients take nothing: each is reset after `write_timeout`, and the
//! connection with its other streams goes on.
//!
//! hyper runs each stream as a task of its own. It asks an answer's body for a piece when the one
//! before has room in the stream's window: a stream that was given a piece and asks for no other
//! stands still.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::rt::Executor;
use hyper_util::rt::TokioExecutor;
use tokio::time::{Instant, Sleep, sleep};

use crate::telemetry::{Counter, Counters};

use super::budget::Delivery;

tokio::task_local! {
    static SENT: StreamProgress;
}

/// The progress of a stream's answer.
#[derive(Debug, Default)]
pub struct StreamProgress {
    /// Pieces given.
    pieces: Cell<u64>,
    /// The last one may not be taken yet.
    waits: Cell<bool>,
    delivery: RefCell<Option<Arc<Delivery>>>,
}

/// Runs the streams of a connection.
#[derive(Debug, Clone)]
pub struct StreamExecutor {
    pub write_timeout: Duration,
    pub counters: Arc<Counters>,
}

impl StreamProgress {
    /// Notes that a piece was given, of a large answer where there is one.
    pub fn given(delivery: Option<&Arc<Delivery>>) {
        // HTTP/1 has no streams; there the connection is watched.
        let given = SENT.try_with(|sent| {
            sent.pieces.set(sent.pieces.get() + 1);
            sent.waits.set(true);
            if delivery.is_some() || sent.delivery.borrow().is_some() {
                *sent.delivery.borrow_mut() = delivery.cloned();
            }
        });
        given.ok();
    }

    /// Notes that there is nothing to give at the moment.
    pub fn nothing() {
        SENT.try_with(|sent| sent.waits.set(false)).ok();
    }
}

impl<F: Future + Send + 'static> Executor<F> for StreamExecutor {
    fn execute(&self, stream: F) {
        let Self { write_timeout, counters } = self.clone();
        TokioExecutor::new().execute(async move {
            if SENT.scope(StreamProgress::default(), watched(stream, write_timeout)).await
                == End::Stalled
            {
                counters.add(Counter::WritesStalled);
            }
        });
    }
}

/// The end of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Itself,
    /// The stream stood still for too long.
    Stalled,
    /// Its answer had to make room for others.
    Cut,
}

/// Runs a stream to its end. Dropped before, it is reset.
async fn watched(stream: impl Future, write_timeout: Duration) -> End {
    let mut stream = pin!(stream);
    let mut watch = None;
    poll_fn(move |context| {
        if stream.as_mut().poll(context).is_ready() {
            return Poll::Ready(End::Itself);
        }
        SENT.with(|sent| stands_still(sent, &mut watch, write_timeout, context))
    })
    .await
}

/// The progress of an answer: pieces given, and bytes taken of a large one.
type Mark = (u64, usize);

/// Ready once a stream has stood still for too long, or has to make room.
fn stands_still(
    sent: &StreamProgress,
    watch: &mut Option<(Mark, Pin<Box<Sleep>>)>,
    write_timeout: Duration,
    context: &mut Context<'_>,
) -> Poll<End> {
    if !sent.waits.get() {
        *watch = None;
        return Poll::Pending;
    }
    let delivery = sent.delivery.borrow();
    if delivery.as_ref().is_some_and(|delivery| delivery.is_cut(context)) {
        return Poll::Ready(End::Cut);
    }
    let taken = delivery.as_ref().map_or(0, |delivery| delivery.taken());
    let mark = (sent.pieces.get(), taken);
    let (seen, end) = watch.get_or_insert_with(|| (mark, Box::pin(sleep(write_timeout))));
    loop {
        if end.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        if *seen == mark {
            return Poll::Ready(End::Stalled);
        }
        *seen = mark;
        end.as_mut().reset(Instant::now() + write_timeout);
    }
}
