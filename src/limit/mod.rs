//! How much may be asked for: rates and budgets by caller, client, route, upstream and tool, and
//! caps on calls under way.
//!
//! A request meets limits twice. Those of its route let it in, before anything is done for it
//! ([`Limits::admit_route`]); those of its upstream and its tool admit each time that it is sent
//! there, when nothing but they stands between it and the server ([`Limits::admit`]). All limits
//! met at one of the two are decided together: what one refuses counts in none of them. Nothing
//! else makes the two proofs, without which `upstream` sends nothing.

mod admission;
mod applicable;
mod bucket;
mod cap;
mod keys;
mod limits;
#[cfg(feature = "internals")]
pub mod reference;
mod refusal;
mod request;
mod rule;
mod section;
mod shared;

pub use self::{
    admission::{Admission, RouteAdmission},
    limits::{BudgetLeft, Limits},
    refusal::{LimitRefusal, seconds},
    request::{LimitTarget, LimitedRequest},
};

#[cfg(test)]
mod tests;
