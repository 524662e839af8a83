//! The policies in a text: where each begins and ends, so that what is wrong with one keeps nobody
//! from seeing what is wrong with the next.

use std::ops::Range;

/// The bytes of each policy, the semicolon included; what follows the last is one more.
pub fn pieces(text: &str) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let mut pieces = Vec::new();
    let mut start = None;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                // Cedar ends a comment at either.
                at = memchr::memchr2(b'\n', b'\r', bytes.get(at..).unwrap_or_default())
                    .map_or(bytes.len(), |end| at + end);
                continue;
            }
            b'"' => {
                start.get_or_insert(at);
                at = string_end(bytes, at);
                continue;
            }
            b';' => pieces.push(start.take().unwrap_or(at)..at + 1),
            byte if byte.is_ascii_whitespace() => (),
            _ => {
                start.get_or_insert(at);
            }
        }
        at += 1;
    }
    pieces.extend(start.map(|start| start..start + text.get(start..).map_or(0, end_of)));
    pieces
}

/// Line and column, both from 1, of a byte.
pub fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

fn end_of(rest: &str) -> usize {
    rest.trim_end().len()
}

/// Returns the position behind the quote that ends the string which begins here.
fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_ends_with_its_semicolon() {
        let text = "// a; b\n@id(\"x;\\\"y\") permit(principal, action, resource); // c\n\nforbid(";
        let found: Vec<_> =
            pieces(text).into_iter().map(|piece| text.get(piece).unwrap()).collect();
        assert_eq!(found, ["@id(\"x;\\\"y\") permit(principal, action, resource);", "forbid("]);
        assert_eq!(place(text, pieces(text)[1].start), (4, 1));
        assert!(pieces("  // nothing\n").is_empty());
        let after = pieces("// a\rforbid(b);\r");
        assert_eq!((after.first(), after.len()), (Some(&(5..15)), 1));
        assert_eq!(pieces("\"open;").first(), Some(&(0..6)));
    }

    proptest::proptest! {
        #[test]
        fn pieces_stand_in_order_and_within(text in "[a;\"/\\\\ \n\r]{0,40}") {
            let mut last = 0;
            for piece in pieces(&text) {
                assert!(last <= piece.start && piece.start < piece.end);
                assert!(text.get(piece.clone()).is_some());
                last = piece.end;
            }
        }
    }
}
