//! The five revisions of the protocol, and the two eras they fall into.

use std::fmt;

/// A revision of MCP, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    V2024_11_05,
    V2025_03_26,
    V2025_06_18,
    V2025_11_25,
    V2026_07_28,
}

/// Sessions opened by `initialize` (legacy), or `_meta` on every request (modern).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Era {
    Legacy,
    Modern,
}

impl Version {
    /// Version that a legacy client is offered when it asks for one we do not know.
    pub const LEGACY_LATEST: Self = Self::V2025_11_25;
    pub const MODERN: Self = Self::V2026_07_28;
    pub const ALL: [Self; 5] = [
        Self::V2024_11_05,
        Self::V2025_03_26,
        Self::V2025_06_18,
        Self::V2025_11_25,
        Self::V2026_07_28,
    ];

    pub fn find(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.as_str() == text)
    }

    /// The version that a server names in its answer to `initialize`. `2024-10-07`, a draft that
    /// the official TypeScript client still takes, is 2024-11-05 but for its name.
    pub fn of_server(text: &str) -> Option<Self> {
        if text == "2024-10-07" { Some(Self::V2024_11_05) } else { Self::find(text) }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::V2024_11_05 => "2024-11-05",
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }

    pub fn era(self) -> Era {
        if self == Self::MODERN { Era::Modern } else { Era::Legacy }
    }

    /// Returns whether it is 2025-03-26, the only version with JSON-RPC batches.
    pub fn has_batches(self) -> bool {
        self == Self::V2025_03_26
    }

    /// SSE priming events and `retry` came with 2025-11-25 (SEP-1699); older clients may choke on
    /// an empty event.
    pub fn has_priming(self) -> bool {
        self == Self::V2025_11_25
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
