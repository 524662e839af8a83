//! The names that clients see: deterministic, short, none of them another upstream's.
//!
//! The order of rules where they meet: what the configuration says, the prefixes that belong to the
//! route's upstreams, the names that were served before, names that are right as they are, and last
//! those that must be changed to fit.

mod namer;
mod prefixes;
mod request;
#[cfg(test)]
mod tests;

pub use self::{
    namer::Namer,
    prefixes::Prefixes,
    request::{ChosenName, NameRequest, Why},
};
