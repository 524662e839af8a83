//! Request ids: a string or an integer, echoed as the very text received.

use serde_json::value::RawValue;

use super::raw::{Malformed, Raw};

/// A JSON-RPC id as MCP has it: string or integer, never null.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Id(Raw);

impl Id {
    pub fn new(raw: Raw) -> Result<Self, Malformed> {
        let text = raw.as_str();
        let integer = text.strip_prefix('-').unwrap_or(text);
        let fits = text.starts_with('"')
            || !integer.is_empty() && integer.bytes().all(|byte| byte.is_ascii_digit());
        if fits {
            Ok(Self(raw))
        } else {
            Err(Malformed::Shape("`id` must be a string or an integer"))
        }
    }

    pub fn number(number: u64) -> Self {
        Self(Raw::trusted(number.to_string()))
    }

    /// An id of the gateway's own making; `text` needs no escapes.
    pub fn string(text: &str) -> Self {
        Self(Raw::trusted(format!("\"{text}\"")))
    }

    pub fn raw(&self) -> &Raw {
        &self.0
    }

    /// The number, where it is one of those that [`Id::number`] makes.
    pub fn as_number(&self) -> Option<u64> {
        self.0.as_str().parse().ok()
    }

    pub(super) fn part(whole: &bytes::Bytes, value: &RawValue) -> Result<Self, Malformed> {
        Self::new(Raw::part(whole, value))
    }
}
