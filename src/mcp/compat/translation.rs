//! A cheap look at a result: whether any word in it could be trouble for an older client.

use crate::mcp::{
    method::Method,
    version::{Era, Version},
    word::Word,
};

const V2: Version = Version::V2025_03_26;
const V3: Version = Version::V2025_06_18;
const V4: Version = Version::V2025_11_25;

/// Words of content blocks, each with the first version that knows it.
static CONTENT: [(Word, Version); 5] = [
    (Word::new("\"audio\""), V2),
    (Word::new("\"resource_link\""), V3),
    (Word::new("\"_meta\""), V3),
    (Word::new("\"lastModified\""), V3),
    (Word::new("\"icons\""), V4),
];
static CONTENTS: [(Word, Version); 1] = [(Word::new("\"_meta\""), V3)];
static STRUCTURED: Word = Word::new("\"structuredContent\"");
static ESCAPED_BYTE: Word = Word::new("\\u00");

/// False where nothing in the result needs to be looked at.
#[allow(clippy::wildcard_enum_match_arm, reason = "no other result has what came later")]
pub(super) fn needs_translation(client: Version, from: Era, method: Method, text: &[u8]) -> bool {
    let marks: &[(Word, Version)] = match method {
        Method::ToolsCall | Method::PromptsGet => &CONTENT,
        Method::ResourcesRead => &CONTENTS,
        _ => return false,
    };
    // The member is known from 2025-06-18 on, and a legacy server has no other than an object.
    let structured = client < V3 || from == Era::Modern;
    marks.iter().any(|(mark, since)| client < *since && mark.is_in(text))
        || method == Method::ToolsCall && structured && STRUCTURED.is_in(text)
        || has_escaped_letters(text)
}

/// A word may hide behind `\u` escapes of its letters; servers that write all but ASCII so have
/// none of these.
fn has_escaped_letters(text: &[u8]) -> bool {
    ESCAPED_BYTE.places(text).any(|at| matches!(text.get(at + 4), Some(b'4'..=b'7')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_could_be_trouble_is_looked_at() {
        let concerns = |client, from, text: &str| {
            needs_translation(client, from, Method::ToolsCall, text.as_bytes())
        };
        let plain = r#"{"content":[{"type":"text","text":"audio \u00e9 \u001b[0m"}]}"#;
        let link = r#"[{"type":"resource_link","icons":[]}]"#;
        let structured = r#"{"content":[],"structuredContent":{}}"#;
        for (client, from, text, want) in [
            (Version::V2024_11_05, Era::Modern, plain, false),
            (Version::V2025_03_26, Era::Legacy, link, true),
            (V3, Era::Legacy, link, true),
            (V4, Era::Modern, link, false),
            (V2, Era::Legacy, structured, true),
            (V3, Era::Legacy, structured, false),
            (V3, Era::Modern, structured, true),
            (V2, Era::Legacy, r#"[{"type":"\u0061udio"}]"#, true),
        ] {
            assert_eq!(concerns(client, from, text), want, "{client} {text}");
        }
        assert!(!needs_translation(V2, Era::Legacy, Method::Complete, link.as_bytes()));
    }
}
