//! Values of `Mcp-Name` and `Mcp-Param-*` headers: plain where safe, else `=?base64?…?=`
//! (2026-07-28, transports).

use base64::{Engine as _, engine::general_purpose::STANDARD};

const OPEN: &str = "=?base64?";
const CLOSE: &str = "?=";

/// A header value that says `text`.
pub fn encode(text: &str) -> String {
    let plain = !text.is_empty()
        && text.bytes().all(|byte| byte == b' ' || byte == b'\t' || byte.is_ascii_graphic())
        && text.trim_matches([' ', '\t']) == text
        && !(text.starts_with(OPEN) && text.ends_with(CLOSE));
    if plain || text.is_empty() {
        return text.to_owned();
    }
    format!("{OPEN}{}{CLOSE}", STANDARD.encode(text))
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
    }
}
