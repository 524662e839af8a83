//! Translates messages for a peer of an older version, without what that version does not know.
//!
//! A client of any version must be able to read what any server says, however strictly it reads;
//! and the other way round. So what came with a later version is taken off ([`members`] has the
//! table), and what would be lost with it becomes something that was there before: a content block
//! of a new kind becomes text, a question in a new shape one in the old. A question that has no
//! older shape is refused ([`question::CannotAsk`]), never changed into another question.
//!
//! Only what a *later* version defines is judged. Members that no version has stay, as do numbers,
//! the order of keys and every byte between; where nothing is to be changed the bytes are shared.
//! Nearly all results need no change, so those are searched for the few words that could be trouble
//! before anything in them is looked at.
//!
//! Some things are left as they are, on purpose: `size` of a resource, which the published JSON
//! Schemas before 2025-06-18 lack though the specification of these versions has it; and fractions
//! as bounds of a number in a question, which the JSON Schemas of 2025-06-18 and 2025-11-25 forbid
//! by an error of their making, and all known clients take.

mod capabilities;
mod content;
mod entry;
mod translation;
mod members;
mod question;
mod result;

pub use self::{
    capabilities::{client_capabilities, info, server_capabilities},
    entry::entry,
    question::{answer, question},
    result::{body, notice, params},
};

#[cfg(test)]
mod tests;
