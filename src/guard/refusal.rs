//! Why something does not pass, as clients read it.

use crate::{config::Place, telemetry::Counter};

/// Why something does not pass. What it says is for clients, and shows nothing of what was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GuardRefusal {
    #[error("The arguments are not what this tool takes; nothing was done. {0}")]
    Arguments(String),
    #[error("The arguments have {0} bytes, and {1} are let through; nothing was done. Send less.")]
    ArgumentBytes(usize, usize),
    #[error(
        "The arguments of this tool cannot be checked, since its server describes them in a way \
         that this gateway cannot use; nothing was done."
    )]
    Unchecked,
    /// Steps that it would cost, and that it may.
    #[error(
        "The arguments are too large to be held to what this tool takes ({0} steps, and {1} are \
         allowed: `schema_work_max`); nothing was done. Send less."
    )]
    ArgumentWork(u64, u64),
    /// Bytes of memory that it would take, and that it may.
    #[error(
        "The arguments have too many parts to be held to what this tool takes ({0} bytes of \
         memory, and {1} are allowed: `schema_values_bytes_max`); nothing was done. Send less."
    )]
    ArgumentMemory(usize, usize),
    #[error(
        "The gateway had no time to check these arguments (`schema_patience`); nothing was done. \
         Try again later, or send less."
    )]
    Late,
    #[error(
        "The answer is too large to be held to what its server promises ({0} steps, and {1} are \
         allowed: `schema_work_max`). Ask for less."
    )]
    ResultWork(u64, u64),
    #[error(
        "The answer has too many parts to be held to what its server promises ({0} bytes of \
         memory, and {1} are allowed: `schema_values_bytes_max`). Ask for less."
    )]
    ResultMemory(usize, usize),
    #[error("The gateway had no time to check this answer (`schema_patience`). Ask for less.")]
    ResultLate,
    #[error("The server behind this answered with something else than it promises: {0}")]
    Result(String),
    #[error("The answer has {0} bytes, and {1} are let through. Ask for less.")]
    ResultBytes(usize, usize),
    /// The place, and the name of what found it.
    #[error("{}", blocked(*.0, .1))]
    Blocked(Place, String),
}

impl GuardRefusal {
    /// Returns one of the words of the error contract.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Arguments(_)
            | Self::ArgumentBytes(..)
            | Self::ArgumentWork(..)
            | Self::ArgumentMemory(..)
            | Self::Unchecked => "invalid_arguments",
            Self::Late => "service_unavailable",
            Self::Result(_) => "upstream_error",
            Self::ResultBytes(..)
            | Self::ResultWork(..)
            | Self::ResultMemory(..)
            | Self::ResultLate => "response_too_large",
            Self::Blocked(..) => "blocked",
        }
    }

    /// Counter of what was refused. Detectors count what they find themselves.
    pub(super) fn counter(&self) -> Option<Counter> {
        match self {
            Self::Arguments(_) | Self::Unchecked => Some(Counter::RefusedArguments),
            Self::ArgumentBytes(..) => Some(Counter::RefusedArgumentBytes),
            Self::ArgumentWork(..) | Self::ResultWork(..) => Some(Counter::RefusedSchemaWork),
            Self::ArgumentMemory(..) | Self::ResultMemory(..) => Some(Counter::RefusedSchemaMemory),
            Self::Late | Self::ResultLate => Some(Counter::SchemaChecksLate),
            Self::Result(_) => Some(Counter::RefusedResults),
            Self::ResultBytes(..) | Self::Blocked(..) => None,
        }
    }
}

fn blocked(place: Place, detector: &str) -> String {
    match place {
        Place::Arguments => format!(
            "The arguments have something that must not pass here ({detector}); nothing was done. \
             Take it out."
        ),
        Place::Results | Place::Descriptions => format!(
            "The answer has something that must not pass here ({detector}), and was held back."
        ),
    }
}
