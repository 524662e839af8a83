//! The way in, in its order: what a request is about, whether it may, what it says, how much, and
//! what it is sent with.

pub mod attempts;
pub mod audit;
pub mod cache;
pub mod canary;
pub mod guard;
pub mod limit;
pub mod policy;
pub mod resolve;
pub mod resume;
pub mod settle;
pub mod shadow;
pub mod visibility;
