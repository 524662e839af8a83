//! The queue of what waits to be written to a server: bounded in messages and in bytes, and taken
//! back where its call is cancelled first.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Messages that wait to be written; whoever has one more waits too.
const MESSAGES_MAX: usize = 256;
/// Messages beyond that which cannot wait: cancellations, and answers to what the server asked.
const ASIDE_MAX: usize = 1_024;
/// Bytes that such a message may have to be taken whatever else waits.
const ASIDE_BYTES: usize = 4 << 10;

/// The queue of one connection.
#[derive(Debug)]
pub struct Queue {
    waiting: Mutex<VecDeque<Message>>,
    filled: Notify,
    messages: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    bytes_max: usize,
}

#[derive(Debug)]
struct Message {
    /// The call that it begins.
    call: Option<u64>,
    text: Bytes,
    _room: Room,
}

/// The part of the bounds that a message takes, as long as it waits.
#[derive(Debug, Default)]
struct Room {
    _message: Option<OwnedSemaphorePermit>,
    _bytes: Option<OwnedSemaphorePermit>,
}

impl Queue {
    /// Makes a queue of `bytes_max` bytes. A message that is larger waits until it is alone.
    pub fn new(bytes_max: usize) -> Self {
        let bytes_max = bytes_max.clamp(1, u32::MAX as usize);
        Self {
            waiting: Mutex::default(),
            filled: Notify::new(),
            messages: Arc::new(Semaphore::new(MESSAGES_MAX)),
            bytes: Arc::new(Semaphore::new(bytes_max)),
            bytes_max,
        }
    }

    /// Adds a message as soon as there is room: false where the queue was closed before. Safe to
    /// drop: nothing was added then.
    pub async fn push(&self, call: Option<u64>, text: Bytes) -> bool {
        let Ok(message) = Arc::clone(&self.messages).acquire_owned().await else { return false };
        let bytes = Arc::clone(&self.bytes).acquire_many_owned(self.weight(&text)).await;
        let Ok(bytes) = bytes else { return false };
        self.add(call, text, Room { _message: Some(message), _bytes: Some(bytes) });
        true
    }

    /// Adds what cannot wait; false where there is no room for it.
    pub fn push_aside(&self, text: Bytes) -> bool {
        if self.messages.is_closed() || MESSAGES_MAX + ASIDE_MAX <= self.waiting.lock().len() {
            return false;
        }
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(self.weight(&text)).ok();
        if bytes.is_none() && ASIDE_BYTES < text.len() {
            return false;
        }
        self.add(None, text, Room { _message: None, _bytes: bytes });
        true
    }

    /// Takes back the message that begins a call; false where it has been written, or begun to be.
    pub fn withdraw(&self, call: u64) -> bool {
        let mut waiting = self.waiting.lock();
        let at = waiting.iter().rposition(|message| message.call == Some(call));
        at.and_then(|at| waiting.remove(at)).is_some()
    }

    /// The next message. Safe to drop.
    pub async fn next(&self) -> Bytes {
        loop {
            if let Some(message) = self.waiting.lock().pop_front() {
                return message.text;
            }
            self.filled.notified().await;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.lock().is_empty()
    }

    /// Closes the queue to more messages. Those that wait stay until they are withdrawn: whoever
    /// waits for an answer is to know that the request was not sent.
    pub fn close(&self) {
        self.messages.close();
        self.bytes.close();
    }

    fn add(&self, call: Option<u64>, text: Bytes, room: Room) {
        self.waiting.lock().push_back(Message { call, text, _room: room });
        self.filled.notify_one();
    }

    fn weight(&self, text: &Bytes) -> u32 {
        u32::try_from(text.len().min(self.bytes_max)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    fn text(bytes: usize) -> Bytes {
        Bytes::from(vec![b'x'; bytes])
    }

    proptest! {
        /// Whatever is pushed, withdrawn, given up and written: what waits is within the bounds, in
        /// order, and nothing that was withdrawn is written.
        #[test]
        fn the_bounds_hold_and_what_is_withdrawn_is_not_written(
            steps in prop::collection::vec((0_u8..4, 1_usize..400, 0_u64..40), 1..400),
        ) {
            const BYTES_MAX: usize = 1_000;
            let queue = Queue::new(BYTES_MAX);
            let mut model: VecDeque<(Option<u64>, usize)> = VecDeque::new();
            let (mut calls, mut aside) = (0, 0);
            for (step, bytes, which) in steps {
                let waiting: usize = model.iter().map(|(_, bytes)| bytes).sum();
                match step {
                    0 => {
                        calls += 1;
                        let pushed = queue.push(Some(calls), text(bytes)).now_or_never();
                        let fits = waiting + bytes <= BYTES_MAX && model.len() < MESSAGES_MAX;
                        prop_assert_eq!(pushed, fits.then_some(true));
                        if fits {
                            model.push_back((Some(calls), bytes));
                        }
                    }
                    1 if waiting + bytes <= BYTES_MAX => {
                        aside += usize::from(queue.push_aside(text(bytes)));
                        model.push_back((None, bytes));
                    }
                    1 => (),
                    2 => {
                        let call = calls.saturating_sub(which);
                        let at = model.iter().position(|(known, _)| *known == Some(call));
                        prop_assert_eq!(queue.withdraw(call), at.is_some());
                        at.map(|at| model.remove(at));
                    }
                    _ => {
                        let next = queue.next().now_or_never().map(|text| text.len());
                        prop_assert_eq!(next, model.pop_front().map(|(_, bytes)| bytes));
                    }
                }
                prop_assert_eq!(queue.is_empty(), model.is_empty());
            }
            prop_assert!(aside <= 400);
        }
    }

    #[test]
    fn a_cancellation_is_taken_whatever_waits_and_a_large_message_when_it_is_alone() {
        let queue = Queue::new(10);
        assert_eq!(queue.push(Some(1), text(10)).now_or_never(), Some(true));
        assert!(queue.push_aside(text(100)) && !queue.push_aside(text(ASIDE_BYTES + 1)));
        assert_eq!(queue.push(Some(2), text(50)).now_or_never(), None, "it waits");
        assert_eq!(queue.next().now_or_never().map(|text| text.len()), Some(10));
        assert_eq!(queue.push(Some(2), text(50)).now_or_never(), Some(true));
        queue.close();
        assert_eq!(queue.push(Some(3), text(1)).now_or_never(), Some(false));
        assert!(queue.withdraw(2) && !queue.withdraw(2));
    }
}
