//! Takes out of an answer what its caller may not have: other callers' leave to cache it, and names
//! that are hidden from this one.

use serde::Deserialize;

use crate::{
    catalog::expanded,
    mcp::{
        index::{Param, ResultMember},
        message::Body,
        method::Method,
        raw::Raw,
        result::ResultBody,
        splice,
        target::TargetRef,
    },
    pipeline::context::Context,
    snapshot::Route,
};

/// Takes out of an answer what its caller may not have.
pub fn redact(context: &Context, body: Body) -> Body {
    match body {
        Body::Result(result) => {
            let result = mark_private(&context.route, result);
            let shown = hide_completions(context, &result);
            Body::Result(shown.map_or(result, ResultBody::from))
        }
        error @ Body::Error(_) => error,
    }
}

/// Marks a result that is for some callers only as private: it is kept for none of the others
/// (2026-07-28, caching).
fn mark_private(route: &Route, result: ResultBody) -> ResultBody {
    if route.is_open() || result.member(ResultMember::CacheScope).is_none() {
        return result;
    }
    let scope = ResultMember::CacheScope.name();
    splice::edit(&result, &[(scope, Some(b"\"private\""))]).into()
}

/// Completions of a template without those that make a URI which the caller may not see; none where
/// nothing is hidden.
fn hide_completions(context: &Context, result: &Raw) -> Option<Raw> {
    let call = &context.call;
    let route = &context.route;
    #[derive(Deserialize)]
    struct Argument {
        name: String,
    }
    let TargetRef::TemplateReference(template) = &call.named else { return None };
    if call.method != Method::Complete || route.judge.is_open() {
        return None;
    }
    let asked: Argument = call.params.member(Param::Argument)?.try_read()?;
    let others = call.params.member(Param::Context);
    let others = others.and_then(|context| splice::at(&context, &["arguments"]));
    let completion = splice::member(result, "completion")?;
    let values: Vec<String> = splice::at(&completion, &["values"])?.try_read()?;
    let count = values.len();
    let is_shown = |value: &String| {
        let of = |name: &str| match name == asked.name {
            true => Some(value.clone()),
            false => {
                splice::member(others.as_ref().filter(|all| all.is_object())?, name)?.try_read()
            }
        };
        expanded(template, of).iter().all(|uri| route.shows(&call.caller, uri))
    };
    let shown: Vec<_> = values.into_iter().filter(is_shown).collect();
    if shown.len() == count {
        return None;
    }
    let shown = Raw::encode(&shown);
    // How many there are besides is not for this caller either.
    let edits = [("values", Some(&shown.bytes()[..])), ("total", None)];
    Some(splice::edit_within(result, "completion", &edits))
}
