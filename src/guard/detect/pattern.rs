//! One pattern, and how it is looked for.

use std::ops::Range;

use regex::Regex;

use crate::{
    config::{Check, Then},
    guard::check,
    telemetry::Counter,
};

/// Bytes that one compiled pattern may take.
pub(super) const PATTERN_BYTES_MAX: usize = 4 << 20;

#[derive(Debug)]
pub(super) struct One {
    pub(super) name: String,
    pub(super) family: Family,
    pub(super) pattern: Regex,
    pub(super) check: Check,
    pub(super) unicode: bool,
    pub(super) looked_for: By,
}

/// How to tell cheaply that a pattern cannot match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Words,
    Shape,
    Nothing,
}

/// The closed set of what metrics are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Secrets,
    Personal,
    Injection,
    Exfiltration,
    Custom,
}

impl One {
    /// Finds the parts of a text that match. The search goes on from the end of the found part, not
    /// of the match: what ends one may begin the next.
    pub(super) fn parts(&self, text: &str) -> Vec<Range<usize>> {
        let mut parts = Vec::new();
        let mut from = 0;
        while let Some(found) = self.pattern.captures_at(text, from) {
            let Some(part) = found.get(1).or_else(|| found.get(0)) else { break };
            let step = text.get(part.start()..).and_then(|rest| rest.chars().next());
            from = part.start() + step.map_or(1, char::len_utf8);
            if check::holds(self.check, part.as_str()) {
                from = part.end().max(from);
                parts.push(part.range());
            } else if self.check == Check::NoFlag {
                // Its letters alone are part of it, and hide nothing.
                from = part.end().max(from);
            }
            if text.len() < from {
                break;
            }
        }
        parts
    }
}

impl Family {
    pub(super) fn of(word: &str) -> Self {
        match word {
            "secrets" => Self::Secrets,
            "personal" => Self::Personal,
            "injection" => Self::Injection,
            "exfiltration" => Self::Exfiltration,
            _ => Self::Custom,
        }
    }

    pub(super) fn counter(self, then: Then) -> Counter {
        match (self, then) {
            (Self::Secrets, Then::Flag) => Counter::SecretsFlagged,
            (Self::Secrets, Then::Redact) => Counter::SecretsRedacted,
            (Self::Secrets, Then::Block) => Counter::SecretsBlocked,
            (Self::Personal, Then::Flag) => Counter::PersonalFlagged,
            (Self::Personal, Then::Redact) => Counter::PersonalRedacted,
            (Self::Personal, Then::Block) => Counter::PersonalBlocked,
            (Self::Injection, Then::Flag) => Counter::InjectionFlagged,
            (Self::Injection, Then::Redact) => Counter::InjectionRedacted,
            (Self::Injection, Then::Block) => Counter::InjectionBlocked,
            (Self::Exfiltration, Then::Flag) => Counter::ExfiltrationFlagged,
            (Self::Exfiltration, Then::Redact) => Counter::ExfiltrationRedacted,
            (Self::Exfiltration, Then::Block) => Counter::ExfiltrationBlocked,
            (Self::Custom, Then::Flag) => Counter::CustomFlagged,
            (Self::Custom, Then::Redact) => Counter::CustomRedacted,
            (Self::Custom, Then::Block) => Counter::CustomBlocked,
        }
    }
}
