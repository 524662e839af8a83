//! `[log]`: what the log on standard error has of calls.

use super::{
    resilience::Share,
    toml::{table::section, words::words},
};

section! {
    /// The access log: a line for each call, on standard error with all else of the log.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    Log {
        /// Whether calls have a line each.
        // It names callers and tools, and costs some microseconds a call: a choice.
        access: bool = false,
        /// The share of calls that went well that have one; those that failed always have.
        sample: Share = 1.0,
        /// The form of callers in these lines: by name ("plain"), as a keyed digest ("hash"), or
        /// left out ("none").
        callers: CallerForm = "plain",
    }
}

words! {
    /// The form in which a line of the access log has the caller.
    CallerForm {
        Plain = "plain",
        Hash = "hash",
        None = "none",
    }
}
