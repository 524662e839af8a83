//! Levels of log messages (RFC 5424), the most verbose first.

/// Levels that `logging/setLevel` and `io.modelcontextprotocol/logLevel` take.
pub const LEVELS: [&str; 8] =
    ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

/// A level's place; none for what is no level.
pub fn rank(level: &str) -> Option<usize> {
    LEVELS.iter().position(|known| *known == level)
}
