//! Why a `requestState` leads nowhere, as clients read it.

/// Why a `requestState` leads nowhere. A client reads what it can do about it, and nothing of what
/// was wrong with a state that is not its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    #[error(
        "`requestState` is not one that this gateway gave for this very request: send the request \
         without it, to begin anew"
    )]
    Foreign,
    #[error(
        "the answer came too late, and the call has been ended: send the request without \
         `requestState`, to begin anew"
    )]
    Expired,
    #[error(
        "this `requestState` was used before, or its call has ended: send the request without it, \
         to begin anew"
    )]
    Used,
    #[error(
        "the gateway was restarted, and the call that waited here is lost: send the request \
         without `requestState`, to begin anew"
    )]
    Restarted,
}
