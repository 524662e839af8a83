//! Names that messages of a server carry, and the gate's own words to a server.

use crate::mcp::{
    error::{ErrorObject, METHOD_NOT_FOUND},
    id::number_of,
    message::Body,
    meta::{Meta, PROGRESS_TOKEN},
    method::Method,
    raw::Raw,
    splice,
};

/// The call a notification names: by its progress token, or by its subscription.
pub fn call_of(method: Option<Method>, params: &Raw) -> Option<u64> {
    if method == Some(Method::Progress) {
        return number_of(&splice::member(params, PROGRESS_TOKEN)?);
    }
    let subscription = Meta::read(params).ok()?.subscription_id?;
    number_of(&subscription)
}

/// The params with a progress token of the connection's own.
pub fn own_token(params: &Raw, id: u64) -> Raw {
    let token = id.to_string();
    splice::edit_within(params, "_meta", &[(PROGRESS_TOKEN, Some(token.as_bytes()))])
}

/// The params of `notifications/cancelled`.
pub fn cancellation(id: u64, reason: Option<&str>) -> Raw {
    let reason = reason.unwrap_or("the client is gone");
    Raw::encode(&serde_json::json!({ "requestId": id, "reason": reason }))
}

/// Whether a server may ask a client this (legacy). Nothing else is passed on.
pub fn is_question(method: &str) -> bool {
    ["sampling/createMessage", "elicitation/create", "roots/list"].contains(&method)
}

/// The answer to what no client is asked, or can answer.
pub fn refusal() -> Body {
    let text = "no client stands behind this request that could answer it";
    Body::Error(ErrorObject::new(METHOD_NOT_FOUND, text).raw())
}
