//! The kinds of entries as the file and the store of the ledger write them.

use serde::{Deserialize, Serialize};

use crate::call::ListKind;

/// A kind of entries, as files say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordKind {
    Tool,
    Prompt,
    Resource,
    Template,
}

impl RecordKind {
    pub fn of(kind: ListKind) -> Self {
        match kind {
            ListKind::Tools => Self::Tool,
            ListKind::Prompts => Self::Prompt,
            ListKind::Resources => Self::Resource,
            ListKind::Templates => Self::Template,
        }
    }

    pub fn list(self) -> ListKind {
        match self {
            Self::Tool => ListKind::Tools,
            Self::Prompt => ListKind::Prompts,
            Self::Resource => ListKind::Resources,
            Self::Template => ListKind::Templates,
        }
    }
}
