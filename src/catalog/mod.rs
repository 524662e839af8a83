//! Makes what the servers behind a route offer together: listed, named, merged, and ready as bytes.

mod capabilities;
pub mod cell;
mod changed_tools;
mod entry;
pub mod filter;
mod held_names;
mod item;
pub mod ledger;
pub mod listing;
mod names;
mod naming;
mod offer;
mod part;
mod reading;
mod refresh;
mod servers;
mod template;
mod unlisted;
mod view;

#[cfg(feature = "internals")]
pub use self::entry::EntryBounds;
pub use self::{
    filter::matches,
    ledger::Ledger,
    naming::{Collision, Naming},
    offer::{Decisions, Offer},
    part::{Filters, FoundBy, Part, Target},
    reading::{ListBounds, Remark},
    refresh::{Change, keep},
    template::expanded,
    view::{View, supported_versions},
};
