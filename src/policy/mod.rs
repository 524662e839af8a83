//! Decides who may do what: Cedar policies, read strictly, and what they decide.
//!
//! [`compile()`] makes a [`Rulebook`] of a configuration, or all that is wrong with its policies
//! and cases. Each route has a [`Judge`] for as long as its lists stay the same; it gives a
//! [`Permit`] for a call, without which no upstream takes it. `text` finds policies in a file,
//! `demand` what one says would help, `reads` what each of them asks for, `named_resources` which
//! URIs they name, `slice` those that can matter to a question, `caller`, `object` and `arguments`
//! are what a question is made of, `cases` holds policies to their tests.
//!
//! Cedar passes over a policy that fails, so that a `forbid` that fails would permit. Here whatever
//! fails on the way to a decision denies.

mod arguments;
mod bounds;
mod caller;
mod cases;
mod compile;
mod demand;
mod judge;
mod named_resources;
mod object;
mod policies;
mod reads;
mod slice;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_unknown;
mod text;

pub use self::{
    bounds::PolicyBounds,
    caller::PerGrants,
    cases::caller,
    compile::{Rulebook, compile},
    judge::{AccessRequest, Denial, Judge, Permit, PermitTarget, Succession, Verdict},
    named_resources::NamedResources,
    object::Object,
    policies::Policies,
};
