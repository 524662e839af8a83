//! A JSON Schema, compiled within bounds: 2020-12 where it does not say otherwise, draft-07 and the
//! others where `$schema` does. Nothing is fetched for it, from nowhere.

mod checker;
mod fault;
mod lenient;
mod measure;
mod pattern;

pub use self::{
    checker::Checker,
    measure::{SchemaBounds, Unusable},
};

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_lenience;
#[cfg(test)]
mod tests_of_patterns;
