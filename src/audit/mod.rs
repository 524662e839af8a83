//! The audit log: one record for every call, in a chain that shows what was changed in it.
//!
//! An [`Entry`] begins with its call and reserves its room at once ([`room`]), so that what is
//! begun can be recorded. One thread writes ([`writer`]), to a file (`file`) beside which room on
//! the disk is held back ([`reserve`]).

mod access;
mod chain;
mod entry;
mod file;
mod record;
mod reserve;
mod room;
mod told;
mod upstream_time;
mod verify;
mod writer;

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::{
    call::tasks::Thread,
    config::{self, WhenFull},
    telemetry::Counters,
};

pub use self::{
    access::{AccessLine, CallerKey},
    chain::AuditOpenError,
    entry::Entry,
    file::{ROTATE, beside, rotate},
    record::Begun,
    told::CacheUse,
    verify::{Broken, Filter, Proof, files, join, list, verify},
};
use self::{room::Room, writer::Work};

/// Begins the key of arguments' digests, which is derived from the gate's secret.
const KEY_CONTEXT: &str = "tollgate 2026-11 audit: digests of arguments";

/// The log of one gate.
pub struct Audit {
    settings: config::Audit,
    key: [u8; 32],
    queue: mpsc::Sender<Work>,
    room: Arc<Room>,
    counters: Arc<Counters>,
    /// The thread, taken by the one who closes it.
    writer: Mutex<Option<Thread>>,
}

/// No call can be recorded now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("calls cannot be recorded now, and are not made unrecorded")]
pub struct Full;

impl Audit {
    /// Opens the file, and goes on with what is in it. `secret` is the gate's own. Where the gate
    /// that runs has the file still (`wait`), records wait until that ends.
    ///
    /// # Errors
    /// Where the file cannot be opened, is another gate's, or is no audit log.
    pub fn open(
        settings: &config::Audit,
        secret: &[u8],
        counters: &Arc<Counters>,
        wait: bool,
    ) -> Result<Arc<Self>, AuditOpenError> {
        let file = match file::File::open(&settings.path, settings.bytes_max) {
            Err(AuditOpenError::Taken(_)) if wait => None,
            opened => Some(opened?),
        };
        let room = Arc::new(Room::new(settings.queue_max, writer::waiting_bytes_max(settings)));
        // Two slots more: for the word that it ends, and for one to look at the file.
        let (queue, inbox) = mpsc::channel(settings.queue_max + 2);
        let mut writer = writer::Writer::new(inbox, settings, &room, counters);
        // Before the first call is let in by it.
        file.iter().for_each(|file| writer.measure(file));
        let thread = Thread::start("audit", move || writer.run(file));
        let thread = thread.map_err(|error| AuditOpenError::Thread(error.to_string()))?;
        Ok(Arc::new(Self {
            settings: settings.clone(),
            key: blake3::derive_key(KEY_CONTEXT, secret),
            queue,
            room,
            counters: Arc::clone(counters),
            writer: Mutex::new(Some(thread)),
        }))
    }

    /// Has the writer look whether its file was moved or removed, or is to be put away. For once a
    /// second: without calls nothing else has it look.
    pub fn look(&self) {
        if !self.room.set_look_asked(true) {
            // Full or closed: who is at the head of it looks, too.
            self.queue.try_send(Work::Look).ok();
        }
    }

    /// Returns why calls cannot be recorded now, for operators; none where they can.
    pub fn fault(&self) -> Option<String> {
        self.room.fault()
    }

    /// Returns how many calls are under way, or wait to be recorded.
    pub fn unwritten(&self) -> usize {
        self.room.count()
    }

    /// Whether calls that cannot be recorded are refused.
    pub fn refuses(&self) -> bool {
        self.settings.when_full == WhenFull::Refuse
    }

    /// Writes all that waits, and ends.
    pub async fn close(&self) {
        let writer = self.writer.lock().take();
        if let Some(writer) = writer {
            self.room.close();
            // Each record has a slot of its own, and this one, too.
            self.queue.try_send(Work::Close).ok();
            writer.ended().await;
        }
    }
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audit").field("settings", &self.settings).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_files;
