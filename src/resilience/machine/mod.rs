//! The state machine of a breaker, without a clock or a lock: closed, open and half-open over a
//! sliding window.
//!
//! The states, rates and probes are those of resilience4j 2 (`CircuitBreakerStateMachine`), with
//! two differences. A call's outcome counts for the state that let the call in and for no later
//! one: what was sent before it opened does not judge the probes. And a probe that is given up says
//! nothing, so that its permit is another's.

mod state;
#[cfg(test)]
mod tests;
mod window;

pub use self::{
    state::{BreakerState, Machine},
    window::Sample,
};
