//! A stream of events to a legacy client, kept for a while for a client that comes back for the
//! rest.

use std::{collections::VecDeque, fmt, str::FromStr, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use crate::call::presence::{Presence, PresenceGuard};

/// Position in a stream that a client comes back with (`Last-Event-ID`): which event of which
/// stream it had last. As text it is `<epoch>-<stream>-<event>`, the epoch in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventId {
    /// Random for each stream: numbers begin anew when a session was out of memory, and an id from
    /// before must not be taken for one of now.
    pub epoch: u32,
    /// 0 is the stream that GET opens.
    pub stream: u64,
    /// 0 stands before the first event.
    pub event: u64,
}

/// A text that is no [`EventId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`Last-Event-ID` is none of ours")]
pub struct UnknownEventId;

/// A stream of one session; events are numbered from 1.
#[derive(Debug)]
pub struct Stream {
    /// Unique within the session; 0 is the one that GET opens.
    pub number: u64,
    /// Random, see [`EventId`].
    epoch: u32,
    state: Mutex<SessionState>,
    changed: Notify,
    /// The presence that is told who reads it, of the stream that GET opens.
    presence: Option<Arc<Presence>>,
}

#[derive(Debug, Default)]
struct SessionState {
    events: VecDeque<Bytes>,
    bytes: usize,
    bytes_max: usize,
    /// How many events stood before the first one kept.
    gone: u64,
    /// The last event that a reader was given.
    given: u64,
    ended: Option<Instant>,
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
pub struct OutboxReader {
    stream: Arc<Stream>,
    next: u64,
    reader: u64,
    pauses: u64,
    _reading: Option<PresenceGuard>,
}

impl Stream {
    pub fn new(number: u64) -> Arc<Self> {
        Arc::new(Self::made(number, None))
    }

    /// The one that GET opens.
    pub fn announced(presence: Arc<Presence>) -> Arc<Self> {
        Arc::new(Self::made(0, Some(presence)))
    }

    fn made(number: u64, presence: Option<Arc<Presence>>) -> Self {
        let epoch = rand::random();
        Self { number, epoch, state: Mutex::default(), changed: Notify::new(), presence }
    }

    /// Adds an event; the oldest make room within `bytes_max`. Returns how many were dropped unread
    /// for good.
    pub fn push(&self, event: Bytes, bytes_max: usize) -> usize {
        let mut state = self.state.lock();
        state.bytes_max = bytes_max;
        state.bytes += event.len();
        state.events.push_back(event);
        let mut dropped = 0;
        while bytes_max < state.bytes && 1 < state.events.len() {
            if let Some(oldest) = state.events.pop_front() {
                state.bytes -= oldest.len();
                state.gone += 1;
                dropped += usize::from(state.given < state.gone);
            }
        }
        drop(state);
        self.changed.notify_waiters();
        dropped
    }

    /// No more events will come.
    pub fn end(&self) {
        self.state.lock().ended.get_or_insert_with(Instant::now);
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

    /// Reads what follows event `after`, or what comes from now on where there is no such event.
    pub fn read(self: &Arc<Self>, after: u64) -> OutboxReader {
        let mut state = self.state.lock();
        state.readers += 1;
        state.attached += 1;
        let reader = state.readers;
        let pauses = state.pauses;
        let next = after.min(state.gone + state.events.len() as u64) + 1;
        drop(state);
        self.changed.notify_waiters();
        let reading = self.presence.as_ref().map(Presence::enter);
        OutboxReader { stream: Arc::clone(self), next, reader, pauses, _reading: reading }
    }

    /// Reads what no reader was given yet.
    pub fn read_on(self: &Arc<Self>) -> OutboxReader {
        let given = self.state.lock().given;
        self.read(given)
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

    /// No more events will come; those that are kept can still be read.
    pub fn is_ended(&self) -> bool {
        self.ended_at().is_some()
    }

    pub fn ended_at(&self) -> Option<Instant> {
        self.state.lock().ended
    }

    /// Bytes of the events that are kept.
    pub fn bytes(&self) -> usize {
        self.state.lock().bytes
    }

    /// Whether an id is one of this stream's.
    pub fn has(&self, id: EventId) -> bool {
        (self.epoch, self.number) == (id.epoch, id.stream)
    }
}

impl SessionState {
    /// One that is larger than what may be kept is given once: whoever reads it slowly holds it,
    /// and it counts there. It stands first, since those before it had to make room.
    fn forget_beyond(&mut self, at: usize) {
        let beyond = |event: &&Bytes| at == 0 && self.bytes_max < event.len();
        if self.events.front().filter(beyond).is_none() {
            return;
        }
        if let Some(event) = self.events.pop_front() {
            self.bytes -= event.len();
            self.gone += 1;
        }
    }
}

impl OutboxReader {
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

    /// The id of the stream's event of this number.
    pub fn id(&self, event: u64) -> EventId {
        EventId { epoch: self.stream.epoch, stream: self.stream.number, event }
    }

    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// When the client is to come back after a pause.
    pub fn retry(&self) -> Option<Duration> {
        self.stream.state.lock().retry
    }

    fn look(&mut self) -> Look {
        let mut state = self.stream.state.lock();
        if state.readers != self.reader {
            return Look::End;
        }
        self.next = self.next.max(state.gone + 1);
        let at = usize::try_from(self.next - state.gone - 1).unwrap_or(usize::MAX);
        if let Some(event) = state.events.get(at).cloned() {
            self.next += 1;
            state.given = state.given.max(self.next - 1);
            state.forget_beyond(at);
            return Look::Event(self.next - 1, event);
        }
        if state.ended.is_some() || state.pauses != self.pauses { Look::End } else { Look::Wait }
    }
}

impl Drop for OutboxReader {
    fn drop(&mut self) {
        self.stream.state.lock().attached -= 1;
    }
}

enum Look {
    Event(u64, Bytes),
    End,
    Wait,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{}-{}", self.epoch, self.stream, self.event)
    }
}

impl FromStr for EventId {
    type Err = UnknownEventId;

    fn from_str(text: &str) -> Result<Self, UnknownEventId> {
        let mut parts = text.split('-');
        let mut part = || parts.next().ok_or(UnknownEventId);
        let epoch = part()?;
        let stream = part()?;
        let event = part()?;
        if parts.next().is_some() {
            return Err(UnknownEventId);
        }
        Ok(Self {
            epoch: u32::from_str_radix(epoch, 16).ok().ok_or(UnknownEventId)?,
            stream: stream.parse().ok().ok_or(UnknownEventId)?,
            event: event.parse().ok().ok_or(UnknownEventId)?,
        })
    }
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
        assert!(!stream.is_ended());
        let mut third = stream.read(3);
        stream.push("d".into(), 100);
        stream.end();
        assert_eq!(third.next().await, Some((4, "d".into())));
        assert_eq!(third.next().await, None);
        assert!(stream.is_ended());
    }

    #[tokio::test]
    async fn the_oldest_make_room() {
        let stream = Stream::new(1);
        assert_eq!(stream.push("aaaa".into(), 6), 0);
        assert_eq!(stream.push("bbbb".into(), 6), 1);
        assert_eq!(stream.read(0).next().await, Some((2, "bbbb".into())));
    }

    #[tokio::test]
    async fn an_event_beyond_what_is_kept_is_given_once() {
        let stream = Stream::new(1);
        for (event, kept) in [("aaaa", 4), ("bbbbbbb", 0), ("cc", 2), ("dddddddd", 0)] {
            stream.push(event.into(), 6);
            let mut reader = stream.read_on();
            assert_eq!(reader.next().await.map(|(_, text)| text), Some(event.into()));
            assert_eq!(stream.bytes(), kept, "{event}");
        }
        stream.push("e".into(), 6);
        stream.end();
        let mut reader = stream.read(0);
        assert_eq!(reader.next().await, Some((5, "e".into())));
        assert_eq!(reader.next().await, None);
    }

    #[tokio::test]
    async fn the_next_reader_goes_on_where_the_last_was() {
        let stream = Stream::new(0);
        stream.push("a".into(), 100);
        assert_eq!(stream.read_on().next().await, Some((1, "a".into())));
        stream.push("b".into(), 100);
        assert_eq!(stream.read_on().next().await, Some((2, "b".into())));
        let mut beyond = stream.read(u64::MAX);
        stream.push("c".into(), 100);
        assert_eq!(beyond.next().await, Some((3, "c".into())));
    }

    #[test]
    fn an_event_id_is_of_one_stream_only() {
        let (stream, later) = (Stream::new(3), Stream::new(3));
        let id = stream.read(0).id(7);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(stream.has(id));
        assert!(stream.epoch == later.epoch || !later.has(id));
        for text in ["", "3-7", "0-3-7-1", "x-3-7", "0--7", "100000000-3-7"] {
            assert_eq!(text.parse::<EventId>(), Err(UnknownEventId), "{text}");
        }
    }
}
