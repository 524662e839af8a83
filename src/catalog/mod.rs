//! What the servers behind a route offer together: listed, named, merged, and ready as bytes.

mod capabilities;
mod filter;
pub mod listing;
mod names;
mod refresh;
pub mod shelf;
mod template;
mod view;

pub use self::{
    refresh::{Change, keep},
    view::{Filters, Part, Target, View, supported_versions},
};
