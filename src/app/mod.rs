//! The whole gate as a process: built, bound, run, drained.

mod build;
pub(crate) mod checked;
pub(crate) mod descriptors;
mod error;
mod gate;
pub(crate) mod names;
pub(crate) mod offline;
mod options;
#[cfg(feature = "pingora")]
mod pingora;
mod process;
mod secrets;
pub(crate) mod surroundings;

#[cfg(feature = "pingora")]
pub use self::pingora::serve;
#[cfg(not(feature = "pingora"))]
pub use self::process::serve;
pub use self::{
    build::start,
    error::StartError,
    gate::{RunningGate, ServedChannel, Viewer},
    options::Options,
    process::{runtime, serve_stdio},
};
pub use crate::net::vault::VaultAccess;
