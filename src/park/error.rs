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
        "the call that waits for this is not at this gateway: another one behind the same address \
         has it, or it was lost when this one was restarted. Send this to where the call began, or \
         the request without `requestState`, to begin anew"
    )]
    Elsewhere,
}
