//! What keeps calls going where a server fails: which of several replicas gets a call, and when
//! a replica or a successor gets none.
//!
//! All of it is a function of values and of a passed clock: nothing here does I/O.

pub mod affinity;
pub mod balance;
pub mod canary;
pub mod ejection;
pub mod health;
pub mod spare;
