//! An entry that is to be named, and its name or why it has none.

use std::fmt;

use crate::{call::UpstreamName, catalog::held_names::NamedBy};

/// An entry of a list, which is to get a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameRequest<'a> {
    pub upstream: &'a UpstreamName,
    /// The upstream's own name for it.
    pub own: &'a str,
    /// The name that the upstream's section gives it; its own where it gives none.
    pub wanted: &'a str,
}

/// The name of an entry, and why it has that name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenName {
    pub name: String,
    pub by: NamedBy,
    pub why: Why,
}

/// Why an entry has its name, or has none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// The name that the entry wants, or one that all names of the route are made like.
    Plain,
    /// The name that the entry had before.
    Kept,
    /// The configuration says so.
    Configured,
    /// Its own does not fit what clients take.
    Unfit,
    /// Its own leads to an entry of this upstream.
    Taken(String),
    /// Its own begins like the names of this upstream.
    Reserved(String),
    /// Names cannot be recorded now, so it has one that can be nobody else's.
    Unrecorded,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => f.write_str("its own name"),
            Self::Kept => f.write_str("the name that it had before"),
            Self::Configured => f.write_str("the configuration says so"),
            Self::Unfit => f.write_str("its own name does not fit what clients take"),
            Self::Taken(other) => write!(f, "its own name is one of `{other}`"),
            Self::Reserved(other) => write!(f, "its own name begins like those of `{other}`"),
            Self::Unrecorded => f.write_str("no name can be recorded now"),
        }
    }
}

impl NameRequest<'_> {
    pub(super) fn is_renamed(&self) -> bool {
        self.own != self.wanted
    }
}

impl ChosenName {
    pub(super) fn of(name: &str, by: NamedBy, why: Why) -> Self {
        Self { name: name.to_owned(), by, why }
    }
}
