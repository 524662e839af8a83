//! How much a server has asked that nobody has answered yet.

use crate::call::event::ServerRequest;

/// The questions that a call or its task holds open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenQuestions {
    pub count: usize,
    /// The bytes of their parameters.
    pub bytes: usize,
}

impl OpenQuestions {
    pub fn of(questions: &[(String, ServerRequest)]) -> Self {
        let bytes = questions.iter().map(|(_, question)| question.params.bytes().len()).sum();
        Self { count: questions.len(), bytes }
    }

    /// Adds those of another place.
    pub fn and(self, other: Self) -> Self {
        Self { count: self.count + other.count, bytes: self.bytes.saturating_add(other.bytes) }
    }
}
