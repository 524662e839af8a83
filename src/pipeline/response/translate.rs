//! A body of one era in the words of the other: only what the client's era demands is changed.

use crate::{
    mcp::{
        compat,
        error::{
            ErrorObject, INTERNAL_ERROR, INVALID_PARAMS, MISSING_CAPABILITY, RESOURCE_NOT_FOUND,
            URL_ELICITATION_REQUIRED, code_of, is_modern,
        },
        index::{ResultKind, ResultMember},
        message::Body,
        method::Method,
        raw::Raw,
        result::ResultBody,
        splice,
        version::Era,
    },
    pipeline::call::Call,
};

/// A body of an upstream of era `from` as the client has it.
pub fn translate(call: &Call, body: Body, from: Era) -> Body {
    let body = compat::body(call.client.version, from, call.method, body);
    match (from, call.client.era(), body) {
        (Era::Legacy, Era::Modern, Body::Result(result)) => {
            let complete: (&str, Option<&[u8]>) = ("resultType", Some(b"\"complete\""));
            if call.method == Method::ResourcesRead {
                let hints: [(&str, Option<&[u8]>); 3] =
                    [complete, ("ttlMs", Some(b"0")), ("cacheScope", Some(b"\"private\""))];
                return Body::Result(splice::edit(&result, &hints).into());
            }
            Body::Result(result.completed(splice::edit(&result, &[complete])))
        }
        (Era::Legacy, Era::Modern, Body::Error(error)) => {
            let error = recode(&error, |code| code == RESOURCE_NOT_FOUND, INVALID_PARAMS);
            Body::Error(recode(&error, |code| code == URL_ELICITATION_REQUIRED, INVALID_PARAMS))
        }
        (Era::Modern, Era::Legacy, Body::Error(error)) => {
            let error = recode(&error, |code| code == MISSING_CAPABILITY, INVALID_PARAMS);
            // The gate alone could be at fault.
            let error = recode(&error, is_modern, INTERNAL_ERROR);
            let missing = |code| code == INVALID_PARAMS && call.method == Method::ResourcesRead;
            Body::Error(recode(&error, missing, RESOURCE_NOT_FOUND))
        }
        (_, _, body) => body,
    }
}

/// Returns the kind of a result, where it is not the usual one.
/// To a modern client only one kind matters.
pub fn result_type(result: &ResultBody, client: Era) -> Option<String> {
    if let ResultKind::None | ResultKind::Complete = result.kind() {
        return None;
    }
    let kind: String = result.member(ResultMember::ResultType)?.try_read().unwrap_or_default();
    (client == Era::Legacy || kind == "input_required").then_some(kind)
}

fn recode(error: &Raw, from: impl Fn(i64) -> bool, to: i64) -> Raw {
    match code_of(error) {
        0 => ErrorObject::new(to, "the server's error is no error object").raw(),
        code if from(code) => splice::edit(error, &[("code", Some(to.to_string().as_bytes()))]),
        _ => error.clone(),
    }
}
