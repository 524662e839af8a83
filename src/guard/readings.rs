//! Finds other ways in which a text may be read: JSON within it, and characters that stand for
//! others or have no width (NFKC, Unicode Standard Annex 15). A detector looks in all of them.

use std::{borrow::Cow, iter::once, ops::Range};

use icu_normalizer::ComposingNormalizerBorrowed;

use super::texts::{Text, unescaped};

/// A text as somebody reads it.
#[derive(Debug)]
pub struct Reading<'a> {
    pub text: Cow<'a, str>,
    /// The steps that led from what is meant to it, the last step first.
    steps: Vec<Step<'a>>,
}

#[derive(Debug)]
enum Step<'a> {
    /// The escapes of a JSON text were read once more.
    Escapes(Text<'a>),
    /// Characters were replaced; where each part of the new text was before.
    Characters(CharacterPlaces),
}

/// The places where each part of a text begins, and where it stands in the text that this was made
/// of.
type CharacterPlaces = Vec<(usize, Range<usize>)>;

impl Reading<'_> {
    /// Returns where a part of it stands in what is meant.
    pub fn place(&self, part: &Range<usize>) -> Range<usize> {
        self.steps.iter().fold(part.clone(), |part, step| match step {
            Step::Escapes(text) => text.place(&part),
            Step::Characters(parts) => {
                let at = |place: usize| {
                    let behind = parts.partition_point(|(start, _)| *start <= place);
                    parts.get(behind.saturating_sub(1)).map(|(_, range)| range.clone())
                };
                let first = at(part.start).map_or(0, |range| range.start);
                let last = at(part.end.saturating_sub(1)).map_or(first, |range| range.end);
                first..last.max(first)
            }
        })
    }
}

/// The readings of a text besides itself; most texts have none.
pub fn others(meant: &str) -> Vec<Reading<'_>> {
    let mut all = Vec::new();
    let is_json = meant.trim_start().starts_with(['{', '[', '"']) && meant.contains('\\');
    if is_json {
        let text = unescaped(meant);
        let inner = Cow::Owned(text.meant.clone().into_owned());
        if let Some((text_inner, parts)) = normalised(&inner) {
            let steps = vec![Step::Characters(parts), Step::Escapes(unescaped(meant))];
            all.push(Reading { text: Cow::Owned(text_inner), steps });
        }
        all.push(Reading { text: inner, steps: vec![Step::Escapes(text)] });
    }
    if let Some((text, parts)) = normalised(meant) {
        all.push(Reading { text: Cow::Owned(text), steps: vec![Step::Characters(parts)] });
    }
    all
}

/// Whether a text has characters that are read as others, or passed over.
pub fn has_other_characters(text: &str) -> bool {
    let mut rest = text;
    // Most are ASCII, and passed over as bytes.
    while let Some(at) = rest.bytes().position(|byte| !byte.is_ascii()) {
        rest = rest.get(at..).unwrap_or_default();
        let mut chars = rest.chars();
        if chars.next().is_some_and(is_replaced) {
            return true;
        }
        rest = chars.as_str();
    }
    false
}

/// A text with compatibility characters replaced and those without width dropped, and where each
/// part was before; none where nothing changes. Each character is read by itself, as a reader
/// would: none is joined with its neighbour.
fn normalised(text: &str) -> Option<(String, CharacterPlaces)> {
    if !has_other_characters(text) {
        return None;
    }
    let normaliser = ComposingNormalizerBorrowed::new_nfkc();
    let mut out = String::with_capacity(text.len());
    let mut parts = Vec::new();
    for (at, c) in text.char_indices() {
        if has_no_width(c) {
            continue;
        }
        parts.push((out.len(), at..at + c.len_utf8()));
        out.extend(normaliser.normalize_iter(once(c)));
    }
    Some((out, parts))
}

fn is_replaced(c: char) -> bool {
    has_no_width(c) || {
        let normaliser = ComposingNormalizerBorrowed::new_nfkc();
        let mut read = normaliser.normalize_iter(once(c));
        read.next() != Some(c) || read.next().is_some()
    }
}

/// Characters that nobody sees: soft hyphen, joiners, marks of direction, variation selectors and
/// tags (Unicode: `Default_Ignorable_Code_Point`, as far as texts have them).
fn has_no_width(c: char) -> bool {
    matches!(
        u32::from(c),
        0xAD | 0x34F | 0x61C | 0x115F | 0x1160 | 0x17B4 | 0x17B5 | 0x180B..=0x180F
            | 0x200B..=0x200F | 0x202A..=0x202E | 0x2060..=0x206F | 0x3164 | 0xFE00..=0xFE0F
            | 0xFEFF | 0xFFA0 | 0xE0000..=0xE0FFF
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_is_read_in_every_way() {
        for (text, want) in [
            ("plain", vec![]),
            ("über", vec![]),
            ("\u{ff21}\u{ff2b}", vec!["AK"]),
            ("A\u{200b}K\u{ad}I", vec!["AKI"]),
            ("\u{2460}x", vec!["1x"]),
            (r#"{"a":"\u0041\n"}"#, vec!["{\"a\":\"A\n\"}"]),
            (r"C:\new", vec![]),
        ] {
            let found: Vec<_> = others(text).into_iter().map(|it| it.text.into_owned()).collect();
            assert_eq!(found, want, "{text}");
        }
    }

    proptest! {
        /// Whatever stands between the letters, the part that is found is the part that was
        /// written.
        #[test]
        fn a_part_of_a_reading_stands_where_it_was_written(
            before in "[a-zé]{0,4}", wide in any::<bool>(),
            between in "[\u{200b}\u{ad}\u{2060}\u{feff}]{0,2}", json in any::<bool>(),
        ) {
            let c = if wide { "\u{ff2b}" } else { "K" };
            let inner = format!("A{between}{c}{between}I");
            let text = match json {
                true => format!("[\"{before}\\u0021{inner}?\"]"),
                false => format!("{before}!{inner}?"),
            };
            for reading in others(&text) {
                if let Some(at) = reading.text.find("AKI") {
                    let place = reading.place(&(at..at + 3));
                    prop_assert_eq!(text.get(place).unwrap(), &inner);
                }
            }
            let is_found = others(&text).iter().any(|reading| reading.text.contains("!AKI?"));
            prop_assert!(is_found || text.contains("!AKI?"));
        }
    }
}
