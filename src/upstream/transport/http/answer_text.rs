//! The text of an answer that comes in pieces.

use bytes::Bytes;
use memmap2::{MmapMut, MmapOptions};

/// A text from which on it is large.
const LARGE: usize = 1 << 20;

/// The part of a large text by which it grows where it has no memory of its own.
const GROWTH_PART: usize = 4;

/// What was received of an answer's body by now.
///
/// A large text lies in memory of its own that is mapped once, as long as the text may become:
/// the kernel gives pages as they are written, and has all of them back when the text is dropped.
/// In the allocator's memory it would be moved with each step of its growth, and what it leaves
/// behind stays resident for a while: with a few answers of 50 MB at once more than they are.
#[derive(Debug)]
pub enum AnswerText {
    Heap(Vec<u8>),
    Mapped(Mapped),
}

/// A text at the beginning of pages that are the process's own.
#[derive(Debug)]
pub struct Mapped {
    pages: MmapMut,
    len: usize,
}

impl AnswerText {
    /// Adds a piece, with so many bytes `remaining` behind it if the server said so. A large text
    /// has room for what was announced, else for `bytes_max`, behind which nobody reads on.
    pub fn push(&mut self, piece: &[u8], remaining: Option<usize>, bytes_max: usize) {
        if self.room() < piece.len() {
            let len = self.len() + piece.len();
            if LARGE <= len {
                let most = bytes_max.saturating_sub(len);
                self.grow(piece.len(), remaining.map_or(most, |said| said.min(most)), most);
            }
        }
        match self {
            Self::Heap(text) => text.extend_from_slice(piece),
            Self::Mapped(text) => text.push(piece),
        }
    }

    /// Makes room for a `piece` of so many bytes, and for `more` behind it. What outgrows its
    /// mapping was announced wrongly, and may become as large as `most` lets it.
    fn grow(&mut self, piece: usize, more: usize, most: usize) {
        let more = if let Self::Mapped(_) = self { most } else { more };
        let mapped = Mapped::copied(self.as_ref(), self.len() + piece + more);
        *self = match (mapped, std::mem::take(self)) {
            (Some(mapped), _) => Self::Mapped(mapped),
            (None, Self::Heap(mut text)) => {
                text.reserve_exact(piece + more.min(text.len() / GROWTH_PART));
                Self::Heap(text)
            }
            (None, Self::Mapped(text)) => Self::Heap(text.as_ref().to_vec()),
        };
    }

    /// Its bytes.
    pub fn len(&self) -> usize {
        self.as_ref().len()
    }

    /// The bytes that can still be added where they are.
    fn room(&self) -> usize {
        match self {
            Self::Heap(text) => text.capacity() - text.len(),
            Self::Mapped(text) => text.pages.len() - text.len,
        }
    }

    /// The bytes that it holds of memory: of a mapping those that were written.
    pub fn held(&self) -> usize {
        match self {
            Self::Heap(text) => text.capacity(),
            Self::Mapped(text) => text.len,
        }
    }
}

impl Default for AnswerText {
    fn default() -> Self {
        Self::Heap(Vec::new())
    }
}

impl AsRef<[u8]> for AnswerText {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Heap(text) => text,
            Self::Mapped(text) => text.as_ref(),
        }
    }
}

impl From<AnswerText> for Bytes {
    fn from(text: AnswerText) -> Self {
        match text {
            AnswerText::Heap(text) => text.into(),
            AnswerText::Mapped(text) => Self::from_owner(text),
        }
    }
}

impl Mapped {
    /// A text in pages for so many bytes in all; `None` where the kernel gives none (a bound on
    /// addresses, `vm.overcommit_memory`).
    fn copied(text: &[u8], room: usize) -> Option<Self> {
        let pages = MmapOptions::new().len(room).no_reserve_swap().map_anon().ok()?;
        let mut copied = Self { pages, len: 0 };
        copied.push(text);
        Some(copied)
    }

    /// Adds what there is room for.
    fn push(&mut self, piece: &[u8]) {
        let end = self.len + piece.len();
        if let Some(room) = self.pages.get_mut(self.len..end) {
            room.copy_from_slice(piece);
            self.len = end;
        }
    }
}

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        self.pages.get(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 16 << 20;
    const PIECE_MAX: usize = 600_000;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// However it is cut, announced rightly, wrongly or not at all.
        #[test]
        fn a_text_is_what_came_and_holds_little_more(
            pieces in prop::collection::vec(1..PIECE_MAX, 0..30),
            announced in prop_oneof![Just(None), Just(Some(true)), Just(Some(false))],
        ) {
            let all: usize = pieces.iter().sum();
            let mut text = AnswerText::default();
            let mut came = 0;
            for piece in pieces {
                came += piece;
                let said = |is_right| if is_right { all - came } else { usize::MAX };
                let remaining = announced.map(said);
                text.push(&vec![b'x'; piece], remaining, MAX);
                prop_assert_eq!(text.len(), came);
                let most = match announced {
                    Some(true) => all,
                    _ => came + came / GROWTH_PART + PIECE_MAX,
                };
                let held = text.held();
                prop_assert!(held <= most.max(4 * LARGE), "{} of {} and {}", held, came, all);
            }
            prop_assert_eq!(Bytes::from(text).len(), came);
        }
    }
}
