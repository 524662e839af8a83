//! A legacy server refuses a call until the user has opened certain pages (-32042, 2025-11-25): a
//! modern client is asked to open them, and its retry sends the call anew.

use serde::Deserialize;

use super::{input_required, request_state};
use crate::{
    mcp::{
        error::{URL_ELICITATION_REQUIRED, code_of},
        message::Body,
        question::QuestionKind,
        raw::Raw,
        splice,
    },
    park::state::StateContent,
    pipeline::{context::Context, fault::Fault},
};

#[derive(Deserialize)]
struct Refusal {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    elicitations: Vec<Raw>,
}

/// Whether an error says that pages are to be opened first.
pub fn is_required(error: &Raw) -> bool {
    code_of(error) == URL_ELICITATION_REQUIRED
}

/// The pages as an `InputRequiredResult`.
///
/// # Errors
/// Where the client has not declared that it opens pages, or none are named.
pub fn result(context: &Context, error: &Raw) -> Result<Body, Fault> {
    let call = &context.call;
    let refusal: Option<Refusal> = error.try_read();
    let pages = refusal.map(|refusal| refusal.data.elicitations).unwrap_or_default();
    if pages.is_empty() || !call.method.may_require_input() {
        return Err(Fault::Unbridgeable("it wants pages to be opened, and names none".to_owned()));
    }
    if !QuestionKind::Page.is_declared(&call.client.capabilities) {
        return Err(Fault::MissingCapability(QuestionKind::Page.required()));
    }
    let named: Vec<_> = pages
        .iter()
        .enumerate()
        .map(|(at, page)| {
            let params = splice::edit(page, &[("elicitationId", None), ("mode", Some(b"\"url\""))]);
            (format!("page{}", at + 1), params)
        })
        .collect();
    let questions =
        named.iter().map(|(key, params)| (key.as_str(), "elicitation/create", params.clone()));
    let patience = context.limits().answer_timeout;
    let state = request_state::seal(context, StateContent::Anew, call.digest(), patience);
    let result = input_required::result(questions, &state);
    Ok(Body::Result(result.into()))
}

/// Whether the user opened them all.
pub fn are_opened(responses: &Raw) -> bool {
    #[derive(Deserialize)]
    struct Answer {
        action: String,
    }
    let answers = splice::entries(responses);
    let accepts =
        |answer: &Raw| answer.try_read::<Answer>().is_some_and(|answer| answer.action == "accept");
    !answers.is_empty() && answers.iter().all(|(_, answer)| accepts(answer))
}
