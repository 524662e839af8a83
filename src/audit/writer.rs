//! The thread that writes: all that waits goes to the disk together, in the order it came.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::sync::mpsc;

use crate::telemetry::{Counter, Counters};

use super::{
    State,
    file::{File, OpenError},
};

/// Records of one transaction.
const BATCH_MAX: usize = 1_000;
/// What comes so soon after a record goes to the disk with it: nobody waits for it to be there.
const GATHER: Duration = Duration::from_millis(10);
/// After what could not be written it is tried again: a disk that has room again is noticed soon.
const PAUSE: Duration = Duration::from_millis(200);
/// How often the last records are tried when the gate ends.
const LAST_TRIES: usize = 3;

pub enum Work {
    /// Without its number.
    Record(String),
    /// The gate ends: nothing comes after it.
    Close,
}

pub struct Writer {
    inbox: mpsc::Receiver<Work>,
    state: Arc<State>,
    counters: Arc<Counters>,
    waiting: VecDeque<String>,
    closing: bool,
}

impl Writer {
    pub fn new(inbox: mpsc::Receiver<Work>, state: Arc<State>, counters: Arc<Counters>) -> Self {
        Self { inbox, state, counters, waiting: VecDeque::new(), closing: false }
    }

    /// The file of a gate that ends, once it has; none where this one ends before.
    pub fn taken_over(&self, open: impl Fn() -> Result<File, OpenError>) -> Option<File> {
        loop {
            match open() {
                Ok(file) => return Some(file),
                Err(OpenError::Taken(_)) => (),
                Err(error) => tracing::error!(%error, "calls cannot be recorded"),
            }
            if self.state.closed.load(Ordering::Relaxed) {
                return None;
            }
            std::thread::park_timeout(PAUSE);
        }
    }

    /// Runs until it is told to end.
    pub fn run(mut self, mut file: File) {
        let (mut batch, mut tries) = (BATCH_MAX, 0);
        while self.hear() {
            let next = batch.min(self.waiting.len());
            match file.append(self.waiting.iter().take(next)) {
                Ok(()) => {
                    self.written(next);
                    (batch, tries) = (BATCH_MAX, 0);
                }
                // Some of them may have room.
                Err(_) if 1 < next => batch = next / 2,
                Err(_) if self.is_closing() && LAST_TRIES <= tries => return self.lose(),
                Err(error) => {
                    self.failed(&error);
                    tries += 1;
                    std::thread::park_timeout(PAUSE);
                }
            }
        }
    }

    /// Told so, or it will be: the word may stand behind more records than are taken in at once.
    fn is_closing(&self) -> bool {
        self.closing || self.state.closed.load(Ordering::Relaxed)
    }

    fn written(&mut self, count: usize) {
        self.waiting.drain(..count);
        self.counters.add_many(Counter::AuditWritten, count);
        if self.state.stuck.swap(false, Ordering::Relaxed) {
            tracing::warn!("calls can be recorded again");
        }
    }

    fn failed(&self, error: &impl std::fmt::Display) {
        self.counters.add(Counter::AuditFailed);
        if !self.state.stuck.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "calls cannot be recorded");
        }
    }

    /// Takes in what came, and waits for it where there is nothing else to do; false where nothing
    /// more comes.
    fn hear(&mut self) -> bool {
        while self.waiting.is_empty() && !self.closing {
            match self.inbox.blocking_recv() {
                Some(work) => self.take(work),
                None => self.closing = true,
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

    fn take(&mut self, work: Work) {
        match work {
            Work::Record(record) => self.waiting.push_back(record),
            Work::Close => self.closing = true,
        }
    }

    /// Ends without having written everything, and says so.
    fn lose(mut self) {
        while let Ok(work) = self.inbox.try_recv() {
            self.take(work);
        }
        let lost = self.waiting.len();
        self.counters.add_many(Counter::AuditDropped, lost);
        tracing::error!(lost, "the gate ends, and these calls could not be recorded");
    }
}
