//! Writes one server of a client as a section of `routes.toml`: [`reader`] reads each key,
//! [`process`] and [`http`] those of how the server is reached, [`settings`] the others.

mod http;
mod process;
mod reader;
mod settings;

pub use self::reader::{ImportedServer, read};
