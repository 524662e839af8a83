//! Decides who may do what: Cedar policies, read strictly, and what they decide.
//!
//! [`compile()`] makes a [`Rulebook`] of a configuration, or all that is wrong with its policies
//! and cases. Each route has a [`Judge`] for as long as its lists stay the same; it gives a
//! [`Permit`] for a call, without which no upstream takes it. `text` finds policies in a file,
//! `demand` what one says would help, `reads` what each of them asks for, `named_resources` which
//! URIs they name, `slice` those that can matter to a question, in two groups: a [`group`] of which
//! `decisions` keeps the answer, and one that is asked for each call. `caller`, `object` and
//! `arguments` are what a [`question`] is made of, `cases` holds policies to their tests.
//!
//! Cedar passes over a policy that fails, so that a `forbid` that fails would permit. Here whatever
//! fails on the way to a decision denies.

mod arguments;
mod bounds;
mod caller;
mod cases;
mod compile;
mod decisions;
mod demand;
mod entity;
mod group;
mod judge;
mod named_resources;
mod object;
mod policies;
mod question;
mod reads;
mod rule;
mod slice;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_slices;
#[cfg(test)]
mod tests_of_unknown;
mod text;
mod verdict;

pub use self::{
    bounds::PolicyBounds,
    caller::PerGrants,
    cases::caller,
    compile::{Rulebook, compile},
    judge::{Judge, Permit, PermitTarget, Succession},
    named_resources::NamedResources,
    object::Object,
    policies::Policies,
    question::AccessRequest,
    verdict::{Denial, Verdict},
};
