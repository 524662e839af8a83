//! Looks for secrets, personal data and so on in the texts of a document: for words first, all at
//! once, and for the shapes that have no words, and only where one is there by patterns.

mod detectors;
mod pattern;
#[cfg(test)]
mod tests;

pub use self::detectors::{DetectorSelection, Detectors, ScanResult, detects};
