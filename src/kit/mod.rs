//! Servers built into Tollgate, made with `rmcp` and mounted in process as upstreams.
//!
//! There is one, [`gate`], by which an agent sees the gateway itself. What it shows is a
//! [`report`], taken anew for each question by whoever mounts it: all that is reported on stands below this.

pub mod gate;
pub mod report;
mod text;

#[cfg(test)]
mod tests;
