//! Keeps results that are served again for as long as they are good.
//!
//! [`Cache::lookup`] says what to do about a request: serve a result, ask for it on behalf of all
//! who wait (`flight`, `join`), wait, or pass it by. `key` is all that could make an answer another
//! one, and `store` keeps results (`result`), within so many bytes, as the server wrote them,
//! before they are put in a client's words.
//!
//! `F` is how an upstream fails: those who wait for one flight share its failure, whose type stands
//! further down the way. A second level that replicas share would stand behind `Store::get`,
//! `Store::put` and `Store::forget`.

mod flight;
mod join;
mod key;
mod lookup;
mod result;
mod store;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_resources;

pub use self::{
    flight::FlightResult,
    join::{FlightLeader, Follower, JoinOutcome},
    key::CacheQuery,
    lookup::{Cache, Lookup},
    result::{CacheSubject, CachedResult, SubjectKind},
};
