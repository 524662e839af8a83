//! One stream of events to a legacy client, kept for a while for a client that comes back for the
//! rest.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// A stream of one session; events are numbered from 1.
#[derive(Debug)]
pub struct Stream {
    /// Unique within the session; 0 is the one that GET opens.
    pub number: u64,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Bytes>,
    bytes: usize,
    /// How many events stood before the first one kept.
    gone: u64,
    ended: bool,
    /// Counts readers: only the last one reads on.
    readers: u64,
    /// Counts pauses: a reader from before one ends there.
    pauses: u64,
    retry: Option<Duration>,
    /// Readers that are there, the last one or not.
    attached: usize,
}

/// Reads a stream from some event on; the next reader ends this one, so that a message goes to one
/// place only.
#[derive(Debug)]
pub struct Reader {
    stream: Arc<Stream>,
    next: u64,
    reader: u64,
    pauses: u64,
}

impl Stream {
    pub fn new(number: u64) -> Arc<Self> {
        Arc::new(Self { number, state: Mutex::default(), changed: Notify::new() })
    }

    /// Adds an event; the oldest make room within `bytes_max`. Returns how many were dropped unread
    /// for good.
    pub fn push(&self, event: Bytes, bytes_max: usize) -> usize {
        let mut state = self.state.lock();
        state.bytes += event.len();
        state.events.push_back(event);
        let mut dropped = 0;
        while bytes_max < state.bytes && 1 < state.events.len() {
            if let Some(oldest) = state.events.pop_front() {
                state.bytes -= oldest.len();
                state.gone += 1;
                dropped += 1;
            }
        }
        drop(state);
        self.changed.notify_waiters();
        dropped
    }

    /// No more events will come.
    pub fn end(&self) {
        self.state.lock().ended = true;
        self.changed.notify_waiters();
    }

    /// Ends the reader of now, after what is there; the client is to come back after `retry`
    /// (SEP-1699).
    pub fn pause(&self, retry: Duration) {
        let mut state = self.state.lock();
        state.pauses += 1;
        state.retry = Some(retry);
        drop(state);
        self.changed.notify_waiters();
    }

    /// Reads what follows event `after`.
    pub fn read(self: &Arc<Self>, after: u64) -> Reader {
        let mut state = self.state.lock();
        state.readers += 1;
        state.attached += 1;
        let reader = state.readers;
        let pauses = state.pauses;
        drop(state);
        self.changed.notify_waiters();
        Reader { stream: Arc::clone(self), next: after + 1, reader, pauses }
    }

    /// Reads what comes from now on.
    pub fn read_new(self: &Arc<Self>) -> Reader {
        let last = {
            let state = self.state.lock();
            state.gone + state.events.len() as u64
        };
        self.read(last)
    }

    /// Waits for the end.
    pub async fn ended(&self) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.is_ended() {
                return;
            }
            changed.await;
        }
    }

    /// Whether a client reads it now.
    pub fn is_read(&self) -> bool {
        0 < self.state.lock().attached
    }

    /// Ended, and nothing is left that a client could come back for.
    pub fn is_ended(&self) -> bool {
        self.state.lock().ended
    }
}

impl Reader {
    /// The next event with its number; none at the end, at a pause, or when another reader took
    /// over.
    pub async fn next(&mut self) -> Option<(u64, Bytes)> {
        let stream = Arc::clone(&self.stream);
        loop {
            // Registered before looking, so that no change falls between.
            let mut changed = std::pin::pin!(stream.changed.notified());
            changed.as_mut().enable();
            match self.look() {
                Look::Event(number, event) => return Some((number, event)),
                Look::End => return None,
                Look::Wait => changed.await,
            }
        }
    }

    /// The stream's number.
    pub fn number(&self) -> u64 {
        self.stream.number
    }

    /// When the client is to come back after a pause.
    pub fn retry(&self) -> Option<Duration> {
        self.stream.state.lock().retry
    }

    /// Whether the stream itself is over, not only this reader.
    pub fn is_ended(&self) -> bool {
        self.stream.is_ended()
    }

    fn look(&mut self) -> Look {
        let state = self.stream.state.lock();
        if state.readers != self.reader {
            return Look::End;
        }
        self.next = self.next.max(state.gone + 1);
        let at = usize::try_from(self.next - state.gone - 1).unwrap_or(usize::MAX);
        if let Some(event) = state.events.get(at) {
            self.next += 1;
            return Look::Event(self.next - 1, event.clone());
        }
        if state.ended || state.pauses != self.pauses { Look::End } else { Look::Wait }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stream.state.lock().attached -= 1;
    }
}

enum Look {
    Event(u64, Bytes),
    End,
    Wait,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_comes_back_for_the_rest() {
        let stream = Stream::new(1);
        for event in ["a", "b", "c"] {
            stream.push(event.into(), 100);
        }
        let mut first = stream.read(0);
        assert_eq!(first.next().await, Some((1, "a".into())));
        let mut second = stream.read(1);
        assert_eq!(first.next().await, None);
        assert_eq!(second.next().await, Some((2, "b".into())));
        stream.pause(Duration::ZERO);
        assert_eq!(second.next().await, Some((3, "c".into())));
        assert_eq!(second.next().await, None);
        assert!(!second.is_ended());
        let mut third = stream.read(3);
        stream.push("d".into(), 100);
        stream.end();
        assert_eq!(third.next().await, Some((4, "d".into())));
        assert_eq!(third.next().await, None);
        assert!(third.is_ended());
    }

    #[tokio::test]
    async fn the_oldest_make_room() {
        let stream = Stream::new(1);
        assert_eq!(stream.push("aaaa".into(), 6), 0);
        assert_eq!(stream.push("bbbb".into(), 6), 1);
        assert_eq!(stream.read(0).next().await, Some((2, "bbbb".into())));
    }
}
