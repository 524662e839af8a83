//! The section that says what is recorded of calls.

use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::{
    super::{
        audit::{Recorded, WhenFull},
        reader::Reader,
        value::{Count, Key, Kind, Node, Size, table},
    },
    GIB, KIB, default, unknown,
};

section! {
    /// The audit log: one record for every call, chained to the one before. Without this section
    /// nothing is recorded. A change takes effect at the next start.
    Audit {
        /// The file; a relative path begins in the state folder.
        path: PathBuf = "audit.db",
        /// What is recorded of arguments: a keyed digest ("hash"), all that the guard lets pass
        /// ("whole"), or nothing ("none").
        arguments: Recorded = "hash",
        /// What happens to calls that cannot be recorded, since the disk is full or too many
        /// records wait for it: they are refused before they are sent ("refuse"), or go on and are
        /// counted ("drop").
        when_full: WhenFull = "refuse",
        /// Records that may wait for the disk, those of calls under way among them.
        queue_max: Count<16, 1_000_000> = 10_000,
        /// Bytes of the file; with so many it is full.
        bytes_max: Size<{ 64 * KIB }, { 65_536 * GIB }> = "10GiB",
    }
}
