//! Servers built into Tollgate, made with `rmcp` and mounted in process as upstreams.
//!
//! There is one, [`gate`], by which an agent sees the gateway itself. What it shows is a [`report`]
//! taken anew for each question by whoever mounts it, since all that it reports on stands below.

pub mod gate;
pub mod report;
mod text;

#[cfg(test)]
mod tests;
