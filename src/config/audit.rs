//! `[audit]`: what is recorded of calls.

use std::path::PathBuf;

use super::toml::{
    section::{GIB, KIB, MIB},
    table::section,
    value::{Count, Size, words},
};

section! {
    /// The audit log: one record for every call, chained to the one before. Without this section
    /// nothing is recorded. A change takes effect at the next start.
    #[derive(Debug, Clone, PartialEq, Eq)]
    Audit {
        /// The file; a relative path begins in the state folder.
        path: PathBuf = "audit.db",
        /// The form in which arguments are recorded: a keyed digest ("hash"), all that the guard
        /// lets pass ("whole"), or nothing ("none").
        // A digest tells whether two calls were the same, and nothing of what they said.
        arguments: Recorded = "hash",
        /// The fate of calls that cannot be recorded, since the disk is full or too many records
        /// wait for it: they are refused before they are sent ("refuse"), or go on and are counted
        /// ("drop").
        // What is not recorded did not happen.
        when_full: WhenFull = "refuse",
        /// Records that may wait for the disk, those of calls under way among them.
        // Some megabytes, and seconds of a busy gate.
        queue_max: Count<16, 1_000_000> = 10_000,
        /// Bytes of the file; with so many it is full.
        // Some ten million records.
        bytes_max: Size<{ 64 * KIB }, { 65_536 * GIB }> = "10GiB",
        /// Bytes of the disk that are held back, with "refuse", so that calls under way can still
        /// be recorded once the disk is full. Where it has less, less is held back. Records that
        /// wait may have a quarter of it.
        // Room for some ten thousand calls under way, in the file and in its journal.
        reserve_bytes: Size<MIB, { 64 * GIB }> = "64MiB",
    }
}

words! {
    /// The form in which a record has a call's arguments.
    Recorded {
        Hash = "hash",
        Whole = "whole",
        None = "none",
    }
}

words! {
    /// The fate of a call that cannot be recorded.
    WhenFull {
        Refuse = "refuse",
        Drop = "drop",
    }
}
