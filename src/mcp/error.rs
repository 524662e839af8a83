//! Error codes of both eras, and the error object.

use serde::{Deserialize, Serialize};

use super::raw::Raw;

/// JSON-RPC 2.0 §5.1.
pub const PARSE_ERROR: i64 = -32700;
pub const INVALID_REQUEST: i64 = -32600;
pub const METHOD_NOT_FOUND: i64 = -32601;
pub const INVALID_PARAMS: i64 = -32602;
pub const INTERNAL_ERROR: i64 = -32603;
/// Legacy: resource not found. Modern servers answer -32602 instead.
pub const RESOURCE_NOT_FOUND: i64 = -32002;
/// 2025-11-25: the client is to open a page first. Modern clients know no such code.
pub const URL_ELICITATION_REQUIRED: i64 = -32042;
/// 2026-07-28: a header and the body differ, or a header is missing.
pub const HEADER_MISMATCH: i64 = -32020;
/// 2026-07-28: `data` names what the client would have to declare.
pub const MISSING_CAPABILITY: i64 = -32021;
/// 2026-07-28: `data` names the versions that are spoken.
pub const UNSUPPORTED_VERSION: i64 = -32022;
/// A session that is not or no longer known; the code the official SDKs use.
pub const SESSION_NOT_FOUND: i64 = -32001;

/// The error object of a response.
#[derive(Debug, Clone, Serialize)]
pub struct ErrorObject {
    pub code: i64,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<Raw>,
}

impl ErrorObject {
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    pub fn with(self, data: &impl Serialize) -> Self {
        Self { data: Some(Raw::encode(data)), ..self }
    }

    pub fn raw(&self) -> Raw {
        Raw::encode(self)
    }
}

/// The code of an error object; 0, which JSON-RPC gives no meaning, where it is no error object.
pub fn code_of(error: &Raw) -> i64 {
    #[derive(Deserialize)]
    struct Code {
        code: i64,
    }
    error.try_read::<Code>().map_or(0, |error| error.code)
}

/// Codes that only a modern server answers (2026-07-28, lifecycle: era detection).
pub fn is_modern(code: i64) -> bool {
    (UNSUPPORTED_VERSION..=HEADER_MISMATCH).contains(&code)
}
