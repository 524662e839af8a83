//! Tells an upstream that has forgotten its session from one that refuses a request.
//!
//! The specification has 404 for that (2025-11-25, transports: session management). Servers in the
//! field answer 400, 401, 410 or 200 instead, with words that speak of the session.

use serde::Deserialize;

use crate::mcp::{
    error::{INVALID_PARAMS, SESSION_NOT_FOUND},
    raw::Raw,
};

/// Bytes that are read of an answer in search of such words.
const READ_BYTES_MAX: usize = 4 << 10;
/// Words that may stand between `session` and what became of it.
const BETWEEN_MAX: usize = 7;

/// Words for a session.
const SUBJECTS: [&str; 5] = ["session", "sessionid", "session-id", "mcp-session", "mcp-session-id"];
/// Words for a session as a member of JSON, which an argument of a tool may be called, too.
const MEMBERS: [&str; 4] = ["session_id", "mcp_session_id", "mcpsessionid", "mcp_session"];
/// Words before `session` that tell its fate.
const NEGATIVE_BEFORE: [&str; 12] = [
    "no",
    "invalid",
    "unknown",
    "expired",
    "terminated",
    "missing",
    "stale",
    "inactive",
    "closed",
    "unrecognized",
    "unrecognised",
    "nonexistent",
];
/// Words before `session` that leave it the one of the protocol. Any other (a browser's, a
/// database's) makes it another thing.
const NEUTRAL_BEFORE: [&str; 22] = [
    "the",
    "your",
    "this",
    "that",
    "a",
    "an",
    "any",
    "or",
    "and",
    "of",
    "for",
    "mcp",
    "http",
    "server",
    "client",
    "transport",
    "valid",
    "active",
    "such",
    "existing",
    "streamable",
    "with",
];
/// Words that make `session ID` a part of something else.
const NOT_ABOUT: [&str; 26] = [
    "parameter",
    "parameters",
    "param",
    "argument",
    "arguments",
    "arg",
    "name",
    "names",
    "field",
    "type",
    "config",
    "configuration",
    "storage",
    "store",
    "table",
    "limit",
    "count",
    "log",
    "logs",
    "file",
    "variable",
    "property",
    "schema",
    "tool",
    "token",
    "cookie",
];
/// Words that tell the fate of the session by themselves, behind it.
const FATES: [&str; 18] = [
    "expired",
    "invalid",
    "unknown",
    "terminated",
    "closed",
    "gone",
    "missing",
    "lost",
    "stale",
    "inactive",
    "ended",
    "deleted",
    "destroyed",
    "removed",
    "evicted",
    "unrecognized",
    "unrecognised",
    "nonexistent",
];
/// Words that do with a `not` before them.
const NOT_FATES: [&str; 13] = [
    "found",
    "exist",
    "exists",
    "valid",
    "active",
    "known",
    "recognized",
    "recognised",
    "available",
    "initialized",
    "initialised",
    "open",
    "present",
];
/// Words between the two that change nothing.
const FILLERS: [&str; 28] = [
    "id",
    "identifier",
    "header",
    "value",
    "is",
    "was",
    "has",
    "have",
    "had",
    "been",
    "does",
    "do",
    "did",
    "could",
    "can",
    "be",
    "already",
    "or",
    "and",
    "the",
    "this",
    "provided",
    "given",
    "http",
    "mcp",
    "server",
    "with",
    "for",
];
const NEGATIONS: [&str; 8] =
    ["not", "no", "doesn't", "isn't", "wasn't", "cannot", "never", "couldn't"];
/// A 401 with these is about a login.
const LOGIN: [&str; 8] =
    ["login", "log", "sign", "token", "bearer", "credentials", "authenticate", "password"];

/// Whether a refusal by HTTP status says that the session is gone. Only for a request that named
/// one.
pub fn refuses(status: u16, text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text.get(..READ_BYTES_MAX.min(text.len())).unwrap_or(text));
    let words = words(&text);
    match status {
        404 | 410 => true,
        400 if code_of(&text) == Some(SESSION_NOT_FOUND) || is_uninitialized(&words) => true,
        401 => !words.iter().any(|word| LOGIN.contains(&&**word)) && speaks(&words, true),
        403 | 407 | 408 | 413 | 429 => false,
        400..=499 => speaks(&words, true),
        _ => false,
    }
}

/// Whether an error of JSON-RPC that came as an answer says so. An error about params is about the
/// request's own.
pub fn is_said_by(error: &Raw) -> bool {
    #[derive(Deserialize)]
    struct ServerMessage {
        code: i64,
        message: String,
    }
    let Some(said) = error.try_read::<ServerMessage>() else { return false };
    let words = words(said.message.get(..READ_BYTES_MAX).unwrap_or(&said.message));
    said.code != INVALID_PARAMS && speaks(&words, false)
}

/// The code of the first error object in a text.
fn code_of(text: &str) -> Option<i64> {
    let (_, rest) = text.split_once("\"code\"")?;
    let rest = rest.trim_start().strip_prefix(':')?.trim_start();
    let end = rest.find(|c: char| c != '-' && !c.is_ascii_digit()).unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}

/// A server that was started anew and has one session only says that it is not initialized.
fn is_uninitialized(words: &[String]) -> bool {
    let said = |pair: &[String]| {
        let [first, second] = pair else { return false };
        first == "not" && ["initialized", "initialised"].contains(&&**second)
    };
    words.windows(2).any(said)
}

/// The words of a text in lower case; an empty one stands for the end of a clause.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for c in text.chars() {
        if c.is_alphanumeric() || "-_'".contains(c) {
            if let Some(word) = words.last_mut() {
                word.extend(c.to_lowercase());
            }
            continue;
        }
        let begun = words.last().is_some_and(|word| !word.is_empty());
        if begun {
            words.push(String::new());
        }
        if ".;!?,\n{}[]".contains(c) && begun {
            words.push(String::new());
        }
    }
    words
}

/// Whether one of the clauses tells of a session's end. `members`: also by the names that only JSON
/// has for it.
fn speaks(words: &[String], members: bool) -> bool {
    let is_subject = |word: &str| SUBJECTS.contains(&word) || members && MEMBERS.contains(&word);
    let mut found = words.iter().enumerate().filter(|(_, word)| is_subject(word));
    found.any(|(at, _)| {
        let before = words.get(..at).unwrap_or_default().iter().rev().map(|word| &**word);
        let before: Vec<&str> = before
            .take_while(|word| NEUTRAL_BEFORE.contains(word) || NEGATIVE_BEFORE.contains(word))
            .collect();
        let previous = words.get(at.wrapping_sub(1 + before.len())).map_or("", |word| &**word);
        let is_others = before.is_empty() && !previous.is_empty() && !is_aside(previous);
        let after = words.get(at + 1..).unwrap_or_default();
        let after = after.iter().map(|word| &**word).take_while(|word| !word.is_empty());
        let after: Vec<&str> = after.take(BETWEEN_MAX).collect();
        let noun = after.iter().find(|word| !["id", "identifier", "ids"].contains(word));
        if is_others || noun.is_some_and(|noun| NOT_ABOUT.contains(noun)) {
            return false;
        }
        before.iter().any(|word| NEGATIVE_BEFORE.contains(word)) || tells_its_end(&after)
    })
}

/// Words before it that only lead to it: `Bad Request: session …` and `error: session …`.
fn is_aside(word: &str) -> bool {
    ["request", "error", "unauthorized", "found", "message", "detail", "code"].contains(&word)
        || word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

fn tells_its_end(after: &[&str]) -> bool {
    let mut negated = false;
    for word in after {
        if FATES.contains(word) {
            return !negated;
        }
        if negated && (NOT_FATES.contains(word) || *word == "longer") {
            return true;
        }
        if NEGATIONS.contains(word) {
            negated = true;
        } else if !FILLERS.contains(word) && !is_id(word) {
            return false;
        }
    }
    false
}

/// Looks like an id rather than like a word.
fn is_id(word: &str) -> bool {
    word.bytes().any(|byte| byte.is_ascii_digit() || byte == b'-') || 20 < word.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What servers in the field, and those of the official SDKs, say of a session that is gone.
    #[test]
    fn a_session_that_is_gone_is_known_by_its_words() {
        for text in [
            r#"{"error":{"code":-32000,"message":"Bad Request: No valid session ID provided"}}"#,
            r#"{"error":{"code":-32000,"message":"Bad Request: Server not initialized"}}"#,
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"who are you?"}}"#,
            "Session not found",
            "session expired",
            "Invalid session",
            "Invalid session ID",
            "invalid or expired session id",
            "Unknown session",
            "unknown session: 6ba7b810-9dad-11d1-80b4-00c04fd430c8",
            "Session 6ba7b810-9dad-11d1-80b4-00c04fd430c8 not found",
            "Session terminated",
            "Not Found: Session has been terminated",
            "The session does not exist",
            "this session doesn't exist any more.",
            "MCP session is no longer valid",
            "Mcp-Session-Id header is invalid",
            "{\"error\":\"invalid session_id\"}",
            "{\"detail\": \"Session ID is not valid\"}",
            "<html><body><h1>400</h1>Your session has expired.</body></html>",
            "{\"error\":{\"message\":\"SESSION_GONE\",\"detail\":\"No active session\"}}",
            "Missing or invalid session ID",
        ] {
            assert!(refuses(400, text.as_bytes()), "{text}");
        }
        assert!(refuses(401, b"Unauthorized: Session not found"));
        assert!(refuses(410, b""));
        for message in [
            "Session not found",
            "session expired",
            "Unknown session 17",
            "No valid session ID provided",
            "Your MCP session was closed",
        ] {
            let error = Raw::encode(&serde_json::json!({ "code": -32000, "message": message }));
            assert!(is_said_by(&error), "{message}");
        }
    }

    #[test]
    fn what_is_about_something_else_is_no_sign() {
        for text in [
            "",
            "Bad Request",
            r#"{"jsonrpc":"2.0","id":3,"error":{"code":-32602,"message":"Invalid params"}}"#,
            "invalid session parameter",
            "unknown field `session`",
            "argument `session` must be a string",
            "Invalid session ID parameter",
            "session name is required",
            "the browser session tab-7 was not found",
            "database session expired",
            "Unknown tool: new_session",
            "Tool session_start not found",
            "session limit reached",
            "too many sessions",
            "session opened but the file was not found",
            "the obsession is invalid",
            "session token expired",
            "session is not expired",
            "The training session table is missing",
            "no training sessions found",
        ] {
            assert!(!refuses(400, text.as_bytes()), "{text}");
            let error = Raw::encode(&serde_json::json!({ "code": -32603, "message": text }));
            assert!(!is_said_by(&error), "{text}");
        }
        assert!(!refuses(401, b"Your session has expired, please log in again"));
        for status in [200, 403, 407, 429, 500, 503] {
            assert!(!refuses(status, b"Session not found"), "{status}");
        }
        for (code, message) in [(-32602, "Session not found"), (-32001, "Request timed out")] {
            let error = Raw::encode(&serde_json::json!({ "code": code, "message": message }));
            assert!(!is_said_by(&error), "{message}");
        }
        assert!(!is_said_by(&Raw::trusted("\"session expired\"")));
    }
}
