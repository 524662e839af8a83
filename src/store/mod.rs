//! State that outlives the process: small files in the state folder, written whole or not at all;
//! and state that several gates share, in `remote`.

mod folder;
pub mod remote;

pub use self::folder::{Stamp, StateFolder};
