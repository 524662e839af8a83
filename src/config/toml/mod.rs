//! TOML as `routes.toml` has it: values with their places, problems, sections made of one table.

pub mod problem;
pub mod reader;
pub mod section;
pub mod table;
pub mod value;
pub mod words;
