//! Words that few texts have: looked for in all of them, so that the rest need not be read.

use std::sync::OnceLock;

use memchr::memmem::Finder;

/// A word and how it is searched for, prepared once: that costs as much as the search of a short
/// text.
#[derive(Debug)]
pub struct Word {
    text: &'static str,
    finder: OnceLock<Finder<'static>>,
}

/// Begins an escape that any name or value may be written with.
pub static ESCAPE: Word = Word::new("\\u");

impl Word {
    pub const fn new(text: &'static str) -> Self {
        Self { text, finder: OnceLock::new() }
    }

    pub fn text(&self) -> &'static str {
        self.text
    }

    /// Whether it stands anywhere in these bytes.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        self.finder().find(bytes).is_some()
    }

    /// Where it stands in these bytes.
    pub fn places(&self, bytes: &[u8]) -> impl Iterator<Item = usize> {
        self.finder().find_iter(bytes)
    }

    /// Whether it may stand in this JSON text: as it is, or written with escapes.
    pub fn may_be_in(&self, bytes: &[u8]) -> bool {
        self.is_in(bytes) || ESCAPE.is_in(bytes)
    }

    fn finder(&self) -> &Finder<'static> {
        self.finder.get_or_init(|| Finder::new(self.text))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_word_is_found_wherever_it_stands(
            before in "[a-e\\\\u]{0,40}",
            after in "[a-e]{0,40}",
        ) {
            static WORD: Word = Word::new("abc");
            for text in [format!("{before}abc{after}"), before, after] {
                prop_assert_eq!(WORD.is_in(text.as_bytes()), text.contains("abc"));
                let places: Vec<_> = text.match_indices("abc").map(|(at, _)| at).collect();
                prop_assert_eq!(WORD.places(text.as_bytes()).collect::<Vec<_>>(), places);
                let may = text.contains("abc") || text.contains("\\u");
                prop_assert_eq!(WORD.may_be_in(text.as_bytes()), may);
            }
        }
    }
}
