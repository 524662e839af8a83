//! Messages that wait to be written to the client of a channel, bounded in number and in bytes.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::ingress::outgoing::budget::COUNTED_MIN;

/// Messages that wait to be written; whoever has one more waits too.
const MESSAGES_MAX: usize = 256;

/// The end of a queue at which messages are put in.
pub struct Sender {
    messages: mpsc::Sender<Queued>,
    /// A permit for each byte that may wait.
    room: Arc<Semaphore>,
    bytes_max: u32,
}

/// The end of a queue from which messages are taken, in their order.
pub struct Receiver(mpsc::Receiver<Queued>);

/// A message, and the bytes that it takes of the room until it is taken.
struct Queued {
    text: Bytes,
    _room: OwnedSemaphorePermit,
}

/// Too many bytes wait already.
#[derive(Debug, PartialEq, Eq)]
pub struct QueueFull;

/// Makes a queue in which so many bytes may wait, or one larger message alone.
pub fn queue(bytes_max: usize) -> (Sender, Receiver) {
    let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
    let bytes_max = u32::try_from(bytes_max).unwrap_or(u32::MAX);
    let room = Arc::new(Semaphore::new(usize::try_from(bytes_max).unwrap_or(usize::MAX)));
    (Sender { messages: sender, room, bytes_max }, Receiver(receiver))
}

impl Sender {
    /// Puts a message in, once there is room. One that comes after the end is dropped.
    pub async fn send(&self, text: Bytes) {
        let Ok(room) = Arc::clone(&self.room).acquire_many_owned(self.size(&text)).await else {
            return;
        };
        self.messages.send(Queued { text, _room: room }).await.ok();
    }

    /// Puts an answer in, as [`Sender::send`] does; a large one does not wait for room in bytes,
    /// since its own bytes would wait beside the queue.
    ///
    /// # Errors
    /// Too many bytes wait already.
    pub async fn send_answer(&self, text: Bytes) -> Result<(), QueueFull> {
        if text.len() <= COUNTED_MIN {
            self.send(text).await;
            return Ok(());
        }
        let room = Arc::clone(&self.room).try_acquire_many_owned(self.size(&text));
        let room = room.ok().ok_or(QueueFull)?;
        self.messages.send(Queued { text, _room: room }).await.ok();
        Ok(())
    }

    fn size(&self, text: &Bytes) -> u32 {
        u32::try_from(text.len()).unwrap_or(u32::MAX).min(self.bytes_max)
    }
}

impl Receiver {
    /// The next message; none once all senders are gone, or the queue is closed, and it is empty.
    /// Dropped, it has taken none.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.0.recv().await.map(|queued| queued.text)
    }

    /// Takes no more messages in.
    pub fn close(&mut self) {
        self.0.close();
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever comes and goes, no more bytes wait than may, but for one larger message alone;
        /// and what is taken is what was put in, in its order.
        #[test]
        fn bytes_that_wait_are_bounded(
            bytes_max in 1_usize..200_000,
            steps in prop::collection::vec((any::<bool>(), any::<bool>(), 1_usize..100_000), 1..60),
        ) {
            let (sender, mut receiver) = queue(bytes_max);
            let mut waiting = std::collections::VecDeque::new();
            for (puts, is_answer, size) in steps {
                let text = Bytes::from(vec![b'x'; size]);
                let taken_in = match (puts, is_answer) {
                    (false, _) => {
                        let next = receiver.next().now_or_never().flatten();
                        prop_assert_eq!(next.map(|text| text.len()), waiting.pop_front());
                        continue;
                    }
                    (true, false) => sender.send(text).now_or_never().is_some(),
                    (true, true) => match sender.send_answer(text).now_or_never() {
                        Some(Ok(())) => true,
                        Some(Err(QueueFull)) => {
                            prop_assert!(COUNTED_MIN < size);
                            false
                        }
                        // Only a small one waits.
                        None => {
                            prop_assert!(size <= COUNTED_MIN);
                            false
                        }
                    },
                };
                let before: usize = waiting.iter().sum();
                prop_assert_eq!(taken_in, waiting.is_empty() || before + size <= bytes_max);
                if taken_in {
                    waiting.push_back(size);
                }
            }
        }
    }
}
