//! The ledger of names: what each name leads to is recorded before it is served, so that it leads
//! there for ever, over restarts too.
//!
//! The file in the state folder is the truth; each change reads it, changes it and writes it whole
//! under a lock, so that processes on one state folder agree, and what a command changes stays.

mod book;
mod claims;
mod file;
mod kind;
mod link;
mod recorder;
mod shared;
mod sync;

pub use self::{
    book::Book,
    claims::{Claimed, ListedNames},
    recorder::Ledger,
    shared::LedgerRecord,
};
pub use super::held_names::{HeldNames, Holder, NamedBy, Owner};

#[cfg(test)]
mod tests;
