//! Where the members of a message stand that somebody asks for, found in one walk over it.
//!
//! A message that is well formed is walked once: [`MessageIndex::of`] holds it to the grammar, and
//! writes down where its known members stand. All who ask for one of them are told from there.
//!
//! An index is *regular* where each name is plain ASCII without escapes, and each known name is
//! there once and as it is written. Anything else leaves a question open, which is for the readers
//! of single members to answer or to refuse: they take their time, and nobody sends it by accident.
//! So there is one set of rules for what is refused, and why, in those readers; an index only says
//! that none of them has anything to say.

mod members;
mod names;
mod scan;

pub use self::{
    members::{MessageIndex, ParamsIndex, ResultIndex, ResultKind, Span},
    names::{ENVELOPE, MetaMember, PARAMS, Param, ResultMember},
    scan::DEPTH_MAX,
};

#[cfg(test)]
mod tests;
