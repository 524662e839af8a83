//! How a multiplexed connection ends, and what is known of why.

use std::sync::atomic::Ordering;

use crate::telemetry::Counter;

use super::{LAST_WORDS, Multiplexer, Out};

impl Multiplexer {
    /// Waits, not for long, until what is on its way has been taken: the cancellation of the call
    /// that ends it, for example.
    pub async fn last_words(&self) {
        self.0.said.close();
        tokio::time::timeout(LAST_WORDS, self.0.said.wait()).await.ok();
        self.0.said.reopen();
    }

    /// Ends it from our side; calls under way are told why.
    pub fn close(&self, why: &str) {
        {
            let mut said = self.0.why.lock();
            if said.is_empty() {
                why.clone_into(&mut said);
            }
        }
        self.0.closed.cancel();
        if let Out::Queue(queue) = &self.0.out {
            queue.close();
        }
        self.0.tasks.stop();
        self.0.calls.lock().slots.clear();
        self.0.early_requests.lock().clear();
    }

    /// Waits for its end, and says why it came. Calls under way have been told by then.
    pub async fn closed(&self) -> String {
        self.0.closed.cancelled().await;
        self.why()
    }

    pub fn is_closed(&self) -> bool {
        self.0.closed.is_cancelled()
    }

    /// Why it is closed; empty while it is open.
    pub fn why(&self) -> String {
        self.0.why.lock().clone()
    }

    /// Whether the server has said nothing yet, noise apart: what a launcher prints while it
    /// downloads is no answer.
    pub fn is_silent(&self) -> bool {
        !self.0.spoke.load(Ordering::Relaxed)
    }

    pub fn message_bytes_max(&self) -> usize {
        self.0.sink.answer_bytes_max()
    }

    /// Notes that `what` the server sent is larger than that; gives the reason to close.
    pub fn too_large(&self, what: &str) -> String {
        self.0.sink.count(Counter::UpstreamTooLarge);
        self.0.too_large.store(true, Ordering::Relaxed);
        format!(
            "it sent {what} of more than {} bytes (`answer_bytes_max`)",
            self.message_bytes_max()
        )
    }

    /// Notes that the server sent too much that is no message; gives the reason to close.
    pub fn noisy(&self, why: String) -> String {
        self.0.sink.noisy(why)
    }
}
