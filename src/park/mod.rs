//! Calls that wait for their clients: a legacy server asked in mid-call, and a modern client
//! answers with another request.
//!
//! The exchange with the server stays open; the client holds a sealed `requestState` ([`state`])
//! that is good for one retry. Nobody need ever come back: what waits too long is ended. A client
//! that takes tasks has another way to come back to its calls ([`task`]).

mod calls;
mod error;
mod expiry;
mod questions;
pub mod state;
mod table;
pub mod task;
mod unanswered;

pub use self::{
    calls::{Parked, ParkedCalls},
    error::StateError,
    expiry::seconds,
    questions::OpenQuestions,
    unanswered::no_answer,
};
