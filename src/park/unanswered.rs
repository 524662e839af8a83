//! The answer that a server is told whose question nobody answers.

use crate::mcp::{
    error::{ErrorObject, INTERNAL_ERROR},
    message::Body,
    raw::Raw,
};

/// The answer that a server gets in place of the client's: an elicitation has a word for it, the
/// other questions have none but an error.
pub fn no_answer(method: &str, reason: &str) -> Body {
    match method {
        "elicitation/create" => Body::Result(Raw::trusted(r#"{"action":"cancel"}"#).into()),
        _ => Body::Error(ErrorObject::new(INTERNAL_ERROR, reason).raw()),
    }
}
