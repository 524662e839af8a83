//! Why a limit lets a request not in, as clients read it.

use std::time::Duration;

/// When to come again where all places are taken: nobody knows when one becomes free, and most
/// calls take less.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a request was not let in; what it says is for clients, and is nothing of the limit itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LimitRefusal {
    /// The refusal says after how long there is enough again.
    #[error(
        "Too much was asked for in too short a time; nothing was done. Try again in {} s.",
        seconds(*.0)
    )]
    Rate(Duration),
    #[error(
        "What may be asked for in this day or month is used up; nothing was done. Try again in {} \
         s.",
        seconds(*.0)
    )]
    Budget(Duration),
    #[error("Too many calls are under way; nothing was done. Try again shortly.")]
    InFlight,
    /// The request costs more than there ever is.
    #[error("This asks for more at once than is ever let through; nothing was done. Ask for less.")]
    Cost,
}

impl LimitRefusal {
    /// When the same request may be let in; none where it never is.
    pub fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Rate(wait) | Self::Budget(wait) => Some(wait),
            Self::InFlight => Some(RETRY_AFTER),
            Self::Cost => None,
        }
    }
}

/// Whole seconds, rounded up.
pub fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(0 < wait.subsec_nanos())
}
