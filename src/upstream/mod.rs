//! Servers behind the gate.

pub mod child;
