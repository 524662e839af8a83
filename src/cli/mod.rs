//! The command line: arguments in, words for people out.

mod arguments;
mod audit;
mod cache;
mod check;
mod client;
mod explain;
mod file;
mod fix;
mod import;
mod key;
mod names;
mod output;
mod run;
mod sidecar;
mod stdio;
mod table;
mod tools;

pub use self::arguments::main;
