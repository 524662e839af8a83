//! `tollgate import`: servers of other clients' files, written to a `routes.toml`.
//!
//! [`document`] reads a file of any format as one value, [`places`] finds the servers in it,
//! [`entry`] makes each a section, with [`text`] for its texts and [`keys`] for what keys mean, and
//! [`mod@write`] puts the sections into a file. docs/import.md says what becomes of which key.

mod command;
mod document;
mod draft;
mod entry;
mod keys;
mod name;
mod places;
mod registry;
mod server;
mod text;
mod write;

pub use self::command::{Arguments, run};

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_anything;
#[cfg(test)]
mod tests_of_clients;
#[cfg(test)]
mod tests_of_merge;
