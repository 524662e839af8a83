//! The thread that writes: all that waits goes to the disk together, in the order it came.

use std::{collections::VecDeque, path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::mpsc::{self, error::TryRecvError};

use crate::{
    config::{self, WhenFull},
    telemetry::{Counter, Counters},
};

use super::{
    chain::AuditOpenError,
    file::{File, ROTATE, beside},
    reserve::DiskReserve,
    room::{Place, Room},
};

/// Records of one transaction.
const BATCH_MAX: usize = 1_000;
/// The time in which later records go to the disk with the first: nobody waits for it to be there.
const GATHER: Duration = Duration::from_millis(10);
/// After what could not be written it is tried again: a disk that has room again is noticed soon.
const PAUSE: Duration = Duration::from_millis(200);
/// How often the last records are tried when the gate ends.
const LAST_TRIES: usize = 3;
/// Records may take twice their bytes: pages that are half full, in the file and in its journal.
const WRITTEN_TWICE: usize = 2;
/// Pages of the file that records may take beside their own: of its index, and one begun.
const SPARE_BYTES: usize = 16 << 10;
/// The bytes of room for records below which most calls are turned away.
const FULL_BYTES: usize = 4 << 10;
const DISK_FULL: &str = "the disk is full";
const FILE_FULL: &str = "the audit log is full (`bytes_max` of `[audit]`)";
/// The bytes of room for records below which the writer looks again and again whether there is
/// more.
const SHORT_BYTES: usize = 256 << 10;

/// The work of the writer.
pub enum Work {
    /// A record without its number, and the room that it has.
    Record(String, Place),
    /// The file may have been moved or removed, or be to be put away.
    Look,
    /// The gate ends: nothing comes after it.
    Close,
}

/// Writes records for as long as its gate runs.
pub struct Writer {
    inbox: mpsc::Receiver<Work>,
    room: Arc<Room>,
    counters: Arc<Counters>,
    path: PathBuf,
    bytes_max: usize,
    /// The bytes that may wait as long as nothing is short.
    waiting_bytes_max: usize,
    /// None where what cannot be recorded goes on unrecorded.
    reserve: Option<DiskReserve>,
    waiting: VecDeque<(String, Place)>,
    closing: bool,
    /// Whether it was asked to look at its file.
    look_due: bool,
    /// Whether calls are turned away for want of room, which was said.
    full: bool,
}

/// Why records are not written.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error(transparent)]
    Open(#[from] AuditOpenError),
    #[error(transparent)]
    Write(#[from] rusqlite::Error),
}

/// Bytes of records that may be under way and wait, as long as nothing is short.
pub fn waiting_bytes_max(settings: &config::Audit) -> usize {
    settings.reserve_bytes / (WRITTEN_TWICE * 2)
}

impl Writer {
    pub fn new(
        inbox: mpsc::Receiver<Work>,
        settings: &config::Audit,
        room: &Arc<Room>,
        counters: &Arc<Counters>,
    ) -> Self {
        let refuses = settings.when_full == WhenFull::Refuse;
        // A small file needs no more than it may have itself.
        let bytes = settings.reserve_bytes.min(settings.bytes_max.saturating_mul(WRITTEN_TWICE));
        Self {
            inbox,
            room: Arc::clone(room),
            counters: Arc::clone(counters),
            path: settings.path.clone(),
            bytes_max: settings.bytes_max,
            waiting_bytes_max: waiting_bytes_max(settings),
            reserve: refuses.then(|| DiskReserve::new(&settings.path, bytes)),
            waiting: VecDeque::new(),
            closing: false,
            look_due: false,
            full: false,
        }
    }

    /// Runs until it is told to end; without a file, it waits for that of a gate that ends.
    pub fn run(mut self, file: Option<File>) {
        let Some(mut file) = file.or_else(|| self.taken_over()) else { return };
        self.measure(&file);
        let mut batch = BATCH_MAX;
        let mut tries = 0;
        while self.gathered(&mut file) {
            let next = batch.min(self.waiting.len());
            match self.append(&mut file, next) {
                Ok(()) => {
                    self.written(next, &file);
                    (batch, tries) = (BATCH_MAX, 0);
                }
                // What was held back is for now.
                Err(WriteError::Write(error)) if self.gives_up_reserve() => {
                    self.counters.add(Counter::AuditFailed);
                    self.room.set_fault(Some(error.to_string()));
                    tracing::error!(%error, "the audit log goes on in its reserve");
                }
                // Some of them may have room.
                Err(WriteError::Write(_)) if 1 < next => batch = next / 2,
                Err(_) if self.is_closing() && LAST_TRIES <= tries => return self.lose(),
                Err(error) => {
                    self.failed(&error);
                    tries += 1;
                    std::thread::park_timeout(PAUSE);
                }
            }
        }
    }

    /// Writes the first of what waits, in the file that is at the path now.
    fn append(&mut self, file: &mut File, count: usize) -> Result<(), WriteError> {
        if file.is_moved(&self.path) {
            self.reopen(file)?;
        }
        Ok(file.append(self.waiting.iter().take(count).map(|(record, _)| record))?)
    }

    /// Looks at the file while nothing waits to be written.
    fn look(&mut self, file: &mut File) {
        self.room.set_look_asked(false);
        if file.is_moved(&self.path)
            && let Err(error) = self.reopen(file)
        {
            return self.failed(&error);
        }
        let asked = beside(&self.path, ROTATE);
        if asked.exists() {
            match file.rotate(&self.path, self.bytes_max) {
                Ok(Some(away)) => {
                    self.counters.add(Counter::AuditReopened);
                    let away = away.display();
                    let after = file.last();
                    tracing::info!(%away, after, "the audit log goes on in a new file");
                }
                Ok(None) => tracing::info!("the audit log has no record to put away"),
                Err(error) => tracing::error!(%error, "the audit log is not put away"),
            }
            std::fs::remove_file(asked).ok();
            self.measure(file);
        }
    }

    /// Goes on in the file that is at the path now, which is a new one where there is none.
    fn reopen(&mut self, file: &mut File) -> Result<(), AuditOpenError> {
        let was_lost = file.is_lost();
        if !was_lost {
            let path = self.path.display();
            tracing::warn!(%path, last = file.last(), "the audit log was moved or removed");
        }
        file.reopen(&self.path, self.bytes_max)?;
        self.counters.add(Counter::AuditReopened);
        self.room.set_fault(None);
        self.measure(file);
        if self.room.set_failing(false) || !was_lost {
            tracing::warn!(after = file.last(), "the audit log goes on in another file");
        }
        Ok(())
    }

    /// Tells the calls to come how much can be recorded now.
    pub fn measure(&mut self, file: &File) {
        let Some(reserve) = &mut self.reserve else { return };
        let held = reserve.hold().map_or(0, |()| reserve.held());
        let on_disk = held / (WRITTEN_TWICE * 2);
        let in_file = file.room().unwrap_or_default().saturating_sub(SPARE_BYTES) / WRITTEN_TWICE;
        let bytes = self.waiting_bytes_max.min(on_disk).min(in_file);
        self.room.set_bytes_max(bytes);
        let why = if held == 0 { DISK_FULL } else { FILE_FULL };
        self.room.set_fault((bytes < FULL_BYTES).then(|| why.to_owned()));
        match (std::mem::replace(&mut self.full, bytes < FULL_BYTES), self.full) {
            (false, true) => {
                tracing::error!("{why}: no calls are let in that cannot be recorded");
            }
            (true, false) => tracing::warn!("calls can be recorded again"),
            (false, false) | (true, true) => (),
        }
    }

    /// The file of a gate that ends, once it has; none where this one ends before.
    fn taken_over(&self) -> Option<File> {
        loop {
            match File::open(&self.path, self.bytes_max) {
                Ok(file) => return Some(file),
                Err(AuditOpenError::Taken(_)) => (),
                Err(error) => tracing::error!(%error, "calls cannot be recorded"),
            }
            if self.room.is_closed() {
                return None;
            }
            std::thread::park_timeout(PAUSE);
        }
    }

    /// Gives the room that is held back to what waits; false where none is.
    fn gives_up_reserve(&mut self) -> bool {
        let held = self.reserve.as_mut().filter(|reserve| 0 < reserve.held());
        held.is_some_and(|reserve| {
            // The room is none from now on, until the reserve is held again.
            self.room.set_bytes_max(0);
            reserve.release();
            true
        })
    }

    /// Returns whether it was told to close, or will be: the word may stand behind more records
    /// than are taken in at once.
    fn is_closing(&self) -> bool {
        self.closing || self.room.is_closed()
    }

    fn written(&mut self, count: usize, file: &File) {
        // Before they give back their room, which they have in the file now.
        self.room.set_fault(None);
        self.measure(file);
        self.waiting.drain(..count);
        self.counters.add_many(Counter::AuditWritten, count);
        if self.room.set_failing(false) {
            tracing::warn!("what waited to be recorded is recorded");
        }
    }

    fn failed(&self, error: &impl std::fmt::Display) {
        self.counters.add(Counter::AuditFailed);
        if self.reserve.is_some() {
            self.room.set_bytes_max(0);
        }
        self.room.set_fault(Some(error.to_string()));
        if !self.room.set_failing(true) {
            tracing::error!(%error, "calls cannot be recorded");
        }
    }

    /// Takes in what came, and waits for it where there is nothing else to do; false where nothing
    /// more comes.
    fn gathered(&mut self, file: &mut File) -> bool {
        if std::mem::take(&mut self.look_due) {
            self.look(file);
        }
        while self.waiting.is_empty() && !self.closing {
            match self.next_work() {
                Some(work) => self.take(work),
                None if !self.closing && file.is_moved(&self.path) => self.look(file),
                // Calls that are turned away bring no record, after which it would be measured.
                None if !self.closing => self.measure(file),
                None => (),
            }
            if std::mem::take(&mut self.look_due) {
                self.look(file);
            }
        }
        if !self.is_closing() && self.waiting.len() + self.inbox.len() < BATCH_MAX {
            std::thread::park_timeout(GATHER);
        }
        while self.waiting.len() < BATCH_MAX
            && let Ok(work) = self.inbox.try_recv()
        {
            self.take(work);
        }
        !self.waiting.is_empty()
    }

    /// Waits for work; only for a moment, and none, where room is short.
    fn next_work(&mut self) -> Option<Work> {
        if self.reserve.is_none() || SHORT_BYTES <= self.room.bytes_max() {
            let work = self.inbox.blocking_recv();
            self.closing |= work.is_none();
            return work;
        }
        match self.inbox.try_recv() {
            Ok(work) => Some(work),
            Err(error) => {
                self.closing |= error == TryRecvError::Disconnected;
                std::thread::park_timeout(PAUSE);
                None
            }
        }
    }

    fn take(&mut self, work: Work) {
        match work {
            Work::Record(record, place) => self.waiting.push_back((record, place)),
            Work::Look => self.look_due = true,
            Work::Close => {
                self.closing = true;
                // Whoever comes too late is told so.
                self.inbox.close();
            }
        }
    }

    /// Ends without having written everything, and says of what.
    fn lose(mut self) {
        while let Ok(work) = self.inbox.try_recv() {
            self.take(work);
        }
        let lost = self.waiting.len();
        self.counters.add_many(Counter::AuditDropped, lost);
        for (record, _) in &self.waiting {
            tracing::error!(record = %format_args!("{{{record}"), "lost to the audit log");
        }
        tracing::error!(lost, "the gate ends, and these calls could not be recorded");
    }
}
