//! The text of an answer that comes in pieces.

use bytes::Bytes;

/// A text from which on it is large.
const LARGE: usize = 1 << 20;

/// The part of a large text by which it grows where nobody said how long it will be.
const GROWTH_PART: usize = 4;

/// What was received of an answer's body by now.
#[derive(Debug, Default)]
pub struct AnswerText(Vec<u8>);

impl AnswerText {
    /// Adds a piece, with so many bytes `remaining` behind it if the server said so. A large text
    /// grows to what was announced, but not beyond `bytes_max`: twice as much each time, as usual,
    /// would leave it with room for as much again.
    pub fn push(&mut self, piece: &[u8], remaining: Option<usize>, bytes_max: usize) {
        let text = &mut self.0;
        let is_full = text.capacity() - text.len() < piece.len();
        if is_full && LARGE <= text.len() {
            let more = remaining.unwrap_or(text.len() / GROWTH_PART);
            text.reserve_exact(piece.len() + more.min(bytes_max.saturating_sub(text.len())));
        }
        text.extend_from_slice(piece);
    }

    /// Its bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The bytes that it holds of memory.
    pub fn held(&self) -> usize {
        self.0.capacity()
    }
}

impl From<AnswerText> for Bytes {
    fn from(text: AnswerText) -> Self {
        text.0.into()
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
                    // Nobody reads on behind the bound.
                    Some(false) => MAX.max(came) + PIECE_MAX,
                    None => came + came / GROWTH_PART + PIECE_MAX,
                };
                let held = text.held();
                prop_assert!(held <= most.max(4 * LARGE), "{} of {} and {}", held, came, all);
            }
            prop_assert_eq!(Bytes::from(text).len(), came);
        }
    }
}
