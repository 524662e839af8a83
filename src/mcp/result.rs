//! Reads members that any result may have, whatever it is a result of.

use super::{raw::Raw, splice, word::Word};

static IS_ERROR: Word = Word::new("isError");
static TRUE: Word = Word::new("true");
static RESULT_TYPE: Word = Word::new("resultType");
static TASK: Word = Word::new("task");
static INPUT_REQUIRED: Word = Word::new("input_required");

/// Whether a tool's result says that the tool failed.
pub fn is_error(result: &Raw) -> bool {
    // Most say that they are none, and need not be walked for that.
    TRUE.is_in(result.bytes())
        && splice::rare_member(result, &IS_ERROR).is_some_and(|is| is.as_str() == "true")
}

/// Whether a result asks its client for something (2026-07-28, `input_required`).
pub fn requires_input(result: &Raw) -> bool {
    INPUT_REQUIRED.may_be_in(result.bytes())
        && splice::member(result, RESULT_TYPE.text())
            .is_some_and(|kind| kind.as_str() == "\"input_required\"")
}

/// Whether a tool's result ends its call: it is neither a question (2026-07-28, `input_required`)
/// nor a task that is to be asked for the result.
pub fn ends_call(result: &Raw) -> bool {
    let kind = splice::rare_member(result, &RESULT_TYPE);
    let task = || splice::rare_member(result, &TASK).is_some_and(|task| task.is_object());
    let has_content = || splice::member(result, "content").is_some();
    kind.is_none_or(|kind| kind.as_str() == "\"complete\"") && (!task() || has_content())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_says_how_a_call_ended() {
        for (result, error, end) in [
            (r#"{"content":[]}"#, false, true),
            (r#"{"content":[],"isError":false}"#, false, true),
            (r#"{"content":[], "isE\u0072ror" : true}"#, true, true),
            (r#"{"content":[{"isError":true}]}"#, false, true),
            (r#"{"content":[],"resultType":"complete"}"#, false, true),
            (r#"{"content":[],"task":{"taskId":"1"}}"#, false, true),
            (r#"{"task":{"taskId":"1"}}"#, false, false),
            (r#"{"task":"a word"}"#, false, true),
            (r#"{"resultType":"input_required","inputRequests":{}}"#, false, false),
            (r#"{"resultType":"task","taskId":"1"}"#, false, false),
            ("{}", false, true),
        ] {
            let said = Raw::trusted(result);
            assert_eq!((is_error(&said), ends_call(&said)), (error, end), "{result}");
        }
    }
}
