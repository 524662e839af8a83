//! Servers built into Tollgate, made with `rmcp` and mounted in process as upstreams.
//!
//! There is one, [`gateway`], by which agents see the gateway itself. What it shows is a [`report`]
//! taken anew for each question by whoever mounts it, since all that it reports on stands below.

pub mod gateway;
pub mod report;
mod status;
mod text;

#[cfg(test)]
mod tests;
