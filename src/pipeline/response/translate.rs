//! A body of one era in the words of the other: only what the client's era demands is changed.

use crate::{
    mcp::{
        compat,
        error::{
            ErrorObject, INTERNAL_ERROR, INVALID_PARAMS, MISSING_CAPABILITY, RESOURCE_NOT_FOUND,
            URL_ELICITATION_REQUIRED, code_of, is_modern,
        },
        message::Body,
        method::Method,
        raw::Raw,
        splice,
        version::Era,
        word::Word,
    },
    pipeline::call::Call,
};

/// A body of an upstream of era `from` as the client has it.
pub fn translate(call: &Call, body: Body, from: Era) -> Body {
    let body = compat::body(call.client.version, from, call.method, body);
    match (from, call.client.era(), body) {
        (Era::Legacy, Era::Modern, Body::Result(result)) => {
            let mut edits: Vec<(&str, Option<&[u8]>)> = vec![("resultType", Some(b"\"complete\""))];
            if call.method == Method::ResourcesRead {
                edits.push(("ttlMs", Some(b"0")));
                edits.push(("cacheScope", Some(b"\"private\"")));
            }
            Body::Result(splice::edit(&result, &edits))
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

static INPUT_REQUIRED: Word = Word::new("input_required");

/// Returns the kind of a result, where it is not the usual one. To a modern client only one kind
/// matters, and most results need not be walked to know that they are none of it.
pub fn result_type(result: &Raw, client: Era) -> Option<String> {
    if client == Era::Modern && !INPUT_REQUIRED.may_be_in(result.bytes()) {
        return None;
    }
    let kind = splice::member(result, "resultType")?;
    (kind.as_str() != "\"complete\"").then(|| kind.try_read().unwrap_or_default())
}

fn recode(error: &Raw, from: impl Fn(i64) -> bool, to: i64) -> Raw {
    match code_of(error) {
        0 => ErrorObject::new(to, "the server's error is no error object").raw(),
        code if from(code) => splice::edit(error, &[("code", Some(to.to_string().as_bytes()))]),
        _ => error.clone(),
    }
}
