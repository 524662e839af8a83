//! When the stream of a session's own connection is open that belongs to no request (GET): while a
//! call is under way, while the session's client listens itself, and for a moment after.
//!
//! A stream takes a descriptor here and at the server. A session whose client is gone would hold
//! both for as long as it is kept.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};

use crate::{call::presence::Presence, upstream::connection::open::Connection};

/// The calls under way on one connection, and its stream.
#[derive(Debug, Default)]
pub struct Attention {
    calls: AtomicUsize,
    /// Notified when the first call begins, and when the last one ends.
    changed: Notify,
    stream: watch::Sender<Stream>,
}

/// The state of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stream {
    #[default]
    Closed,
    /// The server has answered the request for it.
    Open,
    /// The server has none, or the connection has ended.
    None,
}

/// A call under way on the connection, until this is dropped.
#[derive(Debug)]
pub struct Attending(Arc<Attention>);

/// The streams of an upstream that are open only in case something is still said.
#[derive(Debug, Default)]
pub struct Lingering(Mutex<VecDeque<Arc<Notify>>>);

/// How long, and how many, streams stay open that nobody is known to need.
#[derive(Debug, Clone, Copy)]
pub struct LingeringBounds {
    pub after: Duration,
    pub streams_max: usize,
}

impl Attention {
    /// A call begins.
    pub fn begin(self: &Arc<Self>) -> Attending {
        if self.calls.fetch_add(1, Ordering::Relaxed) == 0 {
            self.changed.notify_one();
        }
        Attending(Arc::clone(self))
    }

    /// Whether a call is under way.
    pub fn is_busy(&self) -> bool {
        self.calls.load(Ordering::Relaxed) != 0
    }

    /// Waits until the server has answered the request for the stream, `patience` at most: what it
    /// asks there before is lost.
    pub async fn heard(&self, patience: Duration) {
        if *self.stream.borrow() != Stream::Closed {
            return;
        }
        let mut stream = self.stream.subscribe();
        let known = stream.wait_for(|stream| *stream != Stream::Closed);
        drop(tokio::time::timeout(patience, known).await);
    }

    /// Reads the stream whenever somebody may need it, until the connection ends or the server has
    /// none.
    pub async fn follow(
        self: Arc<Self>,
        connection: Connection,
        presence: Option<Arc<Presence>>,
        others: Arc<Lingering>,
        bounds: LingeringBounds,
    ) {
        let mut readers = presence.map(|presence| presence.follow());
        loop {
            tokio::select! {
                // Looks again when polled again.
                () = self.wanted(&mut readers) => (),
                _ = connection.closed() => break,
            }
            tokio::select! {
                () = self.read(&connection) => break,
                // The stream is closed when this is dropped; it is taken up after the last event
                // that it had.
                () = self.unwanted(&mut readers, &others, bounds) => (),
            }
            self.stream.send_replace(Stream::Closed);
        }
        self.stream.send_replace(Stream::None);
    }

    async fn read(&self, connection: &Connection) {
        let (answered, known) = oneshot::channel();
        let opened = async {
            // The sender is dropped where another reads it already.
            known.await.ok();
            self.stream.send_replace(Stream::Open);
        };
        tokio::join!(connection.listen_aside(answered), opened);
    }

    async fn wanted(&self, readers: &mut Option<watch::Receiver<usize>>) {
        while !self.is_wanted(readers) {
            self.turned(readers).await;
        }
    }

    /// Waits until nobody has needed the stream for long enough, or others need its place more.
    async fn unwanted(
        &self,
        readers: &mut Option<watch::Receiver<usize>>,
        others: &Lingering,
        bounds: LingeringBounds,
    ) {
        loop {
            while self.is_wanted(readers) {
                self.turned(readers).await;
            }
            let place = others.enter(bounds.streams_max);
            tokio::select! {
                // Nothing is lost: whether somebody needs it is looked at again.
                () = self.turned(readers) => (),
                () = place.0.notified() => return,
                () = tokio::time::sleep(bounds.after) => return,
            }
        }
    }

    fn is_wanted(&self, readers: &Option<watch::Receiver<usize>>) -> bool {
        self.is_busy() || readers.as_ref().is_some_and(|readers| *readers.borrow() != 0)
    }

    /// Waits until a call or a reader comes or goes.
    async fn turned(&self, readers: &mut Option<watch::Receiver<usize>>) {
        let turned = async {
            if let Some(readers) = readers
                && readers.changed().await.is_ok()
            {
                return;
            }
            // No session is there, or it is gone.
            std::future::pending().await
        };
        tokio::select! {
            // Both keep what they have been told.
            () = turned => (),
            () = self.changed.notified() => (),
        }
    }
}

impl Drop for Attending {
    fn drop(&mut self) {
        if self.0.calls.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.changed.notify_one();
        }
    }
}

/// A place among those that linger, until this is dropped; told when it has to be left.
struct Place<'a>(Arc<Notify>, &'a Lingering);

impl Lingering {
    /// Takes a place; where there are more than `max`, the first one is left.
    fn enter(&self, max: usize) -> Place<'_> {
        let place = Arc::<Notify>::default();
        let mut all = self.0.lock();
        all.push_back(Arc::clone(&place));
        while max < all.len()
            && let Some(first) = all.pop_front()
        {
            first.notify_one();
        }
        Place(place, self)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.lock().len()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.1.0.lock().retain(|other| !Arc::ptr_eq(other, &self.0));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    #[tokio::test]
    async fn a_call_or_a_reader_wants_the_stream() {
        let (attention, presence) = (Arc::<Attention>::default(), Arc::<Presence>::default());
        let mut readers = Some(presence.follow());
        let others = Lingering::default();
        let bounds = LingeringBounds { after: Duration::ZERO, streams_max: 5 };
        assert!(attention.wanted(&mut readers).now_or_never().is_none());
        let call = attention.begin();
        assert!(attention.wanted(&mut readers).now_or_never().is_some());
        let reader = presence.enter();
        drop(call);
        assert!(attention.wanted(&mut readers).now_or_never().is_some());
        assert!(attention.unwanted(&mut readers, &others, bounds).now_or_never().is_none());
        drop(reader);
        let unwanted = attention.unwanted(&mut readers, &others, bounds);
        tokio::time::timeout(Duration::from_secs(5), unwanted).await.unwrap();
        assert!(attention.wanted(&mut readers).now_or_never().is_none());
        assert_eq!(others.len(), 0);
    }

    proptest! {
        /// However many come, no more linger than may; the first ones are told to leave.
        #[test]
        fn those_that_linger_are_bounded(max in 1_usize..6, count in 1_usize..20) {
            let others = Lingering::default();
            let places: Vec<_> = (0..count).map(|_| others.enter(max)).collect();
            prop_assert_eq!(others.len(), count.min(max));
            for (number, place) in places.iter().enumerate() {
                let told = place.0.notified().now_or_never().is_some();
                prop_assert_eq!(told, number + max < count);
            }
            drop(places);
            prop_assert_eq!(others.len(), 0);
        }
    }
}
