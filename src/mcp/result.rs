//! Results, and what any of them may say of itself, whatever it is a result of.

use std::ops::Deref;

use super::{
    index::{ResultIndex, ResultKind, ResultMember},
    raw::Raw,
    splice,
    word::Word,
};

static IS_ERROR: Word = Word::new("isError");
static TRUE: Word = Word::new("true");
static RESULT_TYPE: Word = Word::new("resultType");
static TASK: Word = Word::new("task");

/// A result, as it was received or made, with what was found in it while it was read, so that
/// nobody walks it again for that.
#[derive(Debug, Clone)]
pub struct ResultBody {
    text: Raw,
    /// None where it was not read, or leaves a question open: who asks walks it then.
    index: Option<ResultIndex>,
}

impl ResultBody {
    /// Notes what was found in this result while the message around it was read.
    pub(super) fn know(&mut self, index: Option<ResultIndex>) {
        self.index = index;
    }

    /// The result with this text in its place, where that may be the same.
    pub fn with_text(self, text: Raw) -> Self {
        Self { index: self.index.filter(|_| text.is(&self.text)), text }
    }

    /// The result with an edited text in its place, in which nothing that it says of itself has
    /// changed but that it is complete now, whatever its kind was.
    pub fn completed(&self, text: Raw) -> Self {
        let index = self.index.map(|index| index.with_kind(ResultKind::Complete));
        Self { text, index }
    }

    /// The value of a member.
    pub fn member(&self, name: ResultMember) -> Option<Raw> {
        if self.index.is_some_and(|index| !index.has(name)) || !self.text.is_object() {
            return None;
        }
        splice::member(&self.text, name.name())
    }

    /// Its `resultType` (2026-07-28).
    pub fn kind(&self) -> ResultKind {
        self.index.map_or_else(|| kind(&self.text), |index| index.kind)
    }

    /// Whether a tool's result says that the tool failed.
    pub fn is_error(&self) -> bool {
        self.index.map_or_else(|| is_error(&self.text), |index| index.is_error)
    }

    /// Whether a result asks its client for something (2026-07-28, `input_required`).
    pub fn requires_input(&self) -> bool {
        self.kind() == ResultKind::InputRequired
    }
}

impl Deref for ResultBody {
    type Target = Raw;

    fn deref(&self) -> &Raw {
        &self.text
    }
}

impl From<Raw> for ResultBody {
    /// A result of which nothing is known yet.
    fn from(text: Raw) -> Self {
        Self { text, index: None }
    }
}

impl From<ResultBody> for Raw {
    fn from(result: ResultBody) -> Self {
        result.text
    }
}

/// Whether a tool's result says that the tool failed.
pub fn is_error(result: &Raw) -> bool {
    // Most say that they are none, and need not be walked for that.
    TRUE.is_in(result.bytes())
        && splice::rare_member(result, &IS_ERROR).is_some_and(|is| is.as_str() == "true")
}

/// Whether a tool's result ends its call: it is neither a question (2026-07-28, `input_required`)
/// nor a task that is to be asked for the result.
pub fn ends_call(result: &Raw) -> bool {
    let kind = splice::rare_member(result, &RESULT_TYPE);
    let task = || splice::rare_member(result, &TASK).is_some_and(|task| task.is_object());
    let has_content = || splice::member(result, "content").is_some();
    kind.is_none_or(|kind| kind.as_str() == "\"complete\"") && (!task() || has_content())
}

/// The `resultType` of a result that is walked for it.
fn kind(result: &Raw) -> ResultKind {
    let is_object = result.is_object();
    let kind = is_object.then(|| splice::rare_member(result, &RESULT_TYPE)).flatten();
    kind.map_or(ResultKind::None, |kind| ResultKind::of(kind.bytes()))
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
            assert_eq!(ResultBody::from(said).is_error(), error, "{result}");
        }
    }
}
