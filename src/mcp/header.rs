//! Values of `Mcp-Name` and `Mcp-Param-*` headers: plain where safe, else `=?base64?…?=`
//! (2026-07-28, transports).

use base64::{Engine as _, engine::general_purpose::STANDARD};

const OPEN: &str = "=?base64?";
const CLOSE: &str = "?=";

/// A header value that says `text`.
pub fn encode(text: &str) -> String {
    if is_plain(text) || text.is_empty() {
        return text.to_owned();
    }
    format!("{OPEN}{}{CLOSE}", STANDARD.encode(text))
}

/// Whether a header value says `text`. Nearly always they are the same bytes.
pub fn says(value: &[u8], text: &str) -> bool {
    (value == text.as_bytes() && is_plain(text)) || decode(value).as_deref() == Some(text)
}

/// Whether a text stands in a header as it is.
fn is_plain(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    bytes.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t'))
        && ends.iter().all(|end| matches!(end, Some(b'!'..=b'~')))
        && !(text.starts_with(OPEN) && text.ends_with(CLOSE))
}

/// Decodes a header value; none where it has bytes a header may not have, or is no valid base64 of
/// UTF-8.
pub fn decode(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?.trim_matches([' ', '\t']);
    let fits = |byte: u8| byte == b' ' || byte == b'\t' || byte.is_ascii_graphic();
    if !text.bytes().all(fits) {
        return None;
    }
    match text.strip_prefix(OPEN).and_then(|rest| rest.strip_suffix(CLOSE)) {
        Some(inner) => String::from_utf8(STANDARD.decode(inner).ok()?).ok(),
        None => Some(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_stays_plain() {
        assert_eq!(encode("get weather"), "get weather");
        assert_eq!(encode(" x"), "=?base64?IHg=?=");
        assert_eq!(encode("=?base64?x?="), "=?base64?PT9iYXNlNjQ/eD89?=");
        assert_eq!(decode("grüezi".as_bytes()), None);
        assert_eq!(decode(b"=?base64?!?="), None);
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(text in any::<String>()) {
            prop_assert_eq!(decode(encode(&text).as_bytes()), Some(text));
        }

        #[test]
        fn a_value_says_what_is_decoded_of_it(
            (value, text) in {
                let text = || prop_oneof![
                    "[ \\tA-z]{0,3}",
                    "=\\?base64\\?(QQ==|A|!)?\\?=",
                    any::<String>(),
                    Just("A".to_owned()),
                ];
                prop_oneof![
                    (text(), text()),
                    text().prop_map(|text| (text.clone(), text)),
                    text().prop_map(|text| (encode(&text), text)),
                ]
            },
        ) {
            let decoded = decode(value.as_bytes());
            prop_assert_eq!(says(value.as_bytes(), &text), decoded.as_ref() == Some(&text));
        }
    }
}
