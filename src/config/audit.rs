//! What is recorded of calls: how the file says it.

use std::path::{Path, PathBuf};

use toml::Spanned;

use super::{schema, value::Word};

/// `[audit]`, if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Default `audit.db` in the state folder.
    pub path: PathBuf,
    /// Default a digest: it tells whether two calls were the same, and nothing of what they said.
    pub arguments: Recorded,
    /// Default refuse: what is not recorded did not happen.
    pub when_full: WhenFull,
    /// Records not on disk yet. Default 10 000: some megabytes, and seconds of a busy gate.
    pub queue_max: usize,
    /// Bytes of the file. Default 10 GiB, some ten million records.
    pub bytes_max: usize,
}

/// What a record has of a call's arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    Hash,
    Whole,
    None,
}

/// What becomes of a call that cannot be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    Refuse,
    Drop,
}

impl Word for Recorded {
    const WORDS: &'static [(&'static str, Self)] =
        &[("hash", Self::Hash), ("whole", Self::Whole), ("none", Self::None)];
}

impl Word for WhenFull {
    const WORDS: &'static [(&'static str, Self)] =
        &[("refuse", Self::Refuse), ("drop", Self::Drop)];
}

/// The section read; relative paths begin at `state`.
pub fn audit(section: Option<Spanned<schema::Audit>>, state: &Path) -> Option<Audit> {
    let section = section?.into_inner();
    Some(Audit {
        path: state.join(section.path.value),
        arguments: section.arguments.value,
        when_full: section.when_full.value,
        queue_max: section.queue_max.value.0,
        bytes_max: section.bytes_max.value.0,
    })
}
