//! Content blocks: those of a kind that came later become text which says what they were.

use crate::mcp::{raw::Raw, result, splice, version::Version};

use super::members::{Thing, trim};

/// A block of a tool's result or a prompt's message.
pub(super) fn block(client: Version, block: &Raw) -> Raw {
    let out = trim(client, Thing::Block, block);
    let out = splice::change(&out, "annotations", |all| trim(client, Thing::Annotations, all));
    match kind(&out).as_deref() {
        Some("audio") if client < Version::V2025_03_26 => {
            as_text(&out, &describe(&out), &["data", "mimeType"])
        }
        Some("resource_link") if client < Version::V2025_06_18 => as_text(
            &out,
            &describe(&out),
            &["uri", "name", "title", "description", "mimeType", "size", "icons"],
        ),
        Some("resource_link") => trim(client, Thing::Link, &out),
        Some("resource") => {
            splice::change(&out, "resource", |inner| trim(client, Thing::Contents, inner))
        }
        _ => out,
    }
}

/// A block of a sampling message or of its answer, which may also be about tools.
pub(super) fn sampling_block(client: Version, given: &Raw) -> Raw {
    let out = block(client, given);
    match kind(&out).as_deref() {
        Some("tool_use") if client < Version::V2025_11_25 => {
            as_text(&out, &describe(&out), &["id", "name", "input"])
        }
        Some("tool_result") if client < Version::V2025_11_25 => as_text(
            &out,
            &describe(&out),
            &["toolUseId", "content", "structuredContent", "isError"],
        ),
        Some("tool_result") => {
            let out = splice::change(&out, "content", |all| blocks(client, all));
            object_only(client, &out)
        }
        _ => out,
    }
}

/// All blocks of an array.
pub(super) fn blocks(client: Version, all: &Raw) -> Raw {
    splice::map_values(all, |one| block(client, one))
}

/// 2026-07-28 lets `structuredContent` be any JSON, and 2025-06-18 and 2025-11-25 an object only.
/// Anything else becomes the member `result` of an object: nothing is lost, and it is what servers
/// of the older versions do themselves (the official Python SDK does, under this very name). No
/// schema contradicts it, since one that describes no object is not listed for these clients.
pub(super) fn object_only(client: Version, result: &Raw) -> Raw {
    if Version::LEGACY_LATEST < client {
        return result.clone();
    }
    splice::change(result, "structuredContent", |value| {
        if value.is_object() {
            return value.clone();
        }
        let parts: [&[u8]; 3] = [br#"{"result":"#, value.bytes(), b"}"];
        Raw::trusted(parts.concat())
    })
}

/// A text block.
pub(super) fn text(text: &str) -> Raw {
    Raw::encode(&serde_json::json!({ "type": "text", "text": text }))
}

/// Describes a block in words for a model. Never shows its base64.
pub(super) fn describe(block: &Raw) -> String {
    match kind(block).as_deref() {
        Some("tool_result") => {
            let what = if result::is_error(block) { "Error" } else { "Result" };
            let content = splice::member(block, "content").unwrap_or_else(Raw::object);
            // A result within a result is of no version: not followed, so that depth costs nothing.
            let inner = splice::values(&content);
            let inner = inner.iter().filter(|inner| kind(inner).as_deref() != Some("tool_result"));
            let inner: Vec<_> = inner.map(describe).collect();
            let inner = match splice::member(block, "structuredContent") {
                Some(value) if inner.is_empty() => value.as_str().to_owned(),
                _ => inner.join("\n"),
            };
            format!("[{what} of tool call {}]\n{inner}", word(block, "toolUseId"))
        }
        Some("tool_use") => {
            let input = splice::member(block, "input").unwrap_or_else(Raw::object);
            let id = word(block, "id");
            let name = word(block, "name");
            format!("[Tool call {id}: {name} {}]", input.as_str())
        }
        Some("text") => word(block, "text"),
        Some("resource") => {
            let inner = splice::member(block, "resource").unwrap_or_else(Raw::object);
            let text = splice::member(&inner, "text").and_then(|text| text.try_read());
            text.unwrap_or_else(|| {
                let uri = word(&inner, "uri");
                format!("[Resource {uri}: {}]", size(&inner, "blob"))
            })
        }
        Some("resource_link") => link(block),
        Some(kind @ ("audio" | "image")) => {
            format!("[{kind}, left out: {}]", size(block, "data"))
        }
        other => format!("[{}]", other.unwrap_or("content of no known kind")),
    }
}

fn link(block: &Raw) -> String {
    let optional = |key| Some(word(block, key)).filter(|text| !text.is_empty());
    let mut text = format!("{}: {}", word(block, "name"), word(block, "uri"));
    if let Some(mime_type) = optional("mimeType") {
        text.push_str(&format!(" ({mime_type})"));
    }
    for more in [optional("title"), optional("description")].into_iter().flatten() {
        text.push_str(&format!("\n{more}"));
    }
    text
}

/// The media type of base64, and how many bytes it stands for.
fn size(object: &Raw, key: &str) -> String {
    let mime_type = word(object, "mimeType");
    let mime_type = if mime_type.is_empty() { "unknown type" } else { &mime_type };
    let data = splice::member(object, key);
    let data = data.as_ref().map_or("", |data| data.as_str().trim_matches(['"', '=']));
    format!("{mime_type}, {} bytes", data.len() / 4 * 3 + (data.len() % 4 * 3) / 4)
}

pub(super) fn kind(block: &Raw) -> Option<String> {
    if !block.is_object() {
        return None;
    }
    splice::member(block, "type")?.try_read()
}

/// A string member; empty where there is none.
fn word(object: &Raw, key: &str) -> String {
    let text = splice::member(object, key).and_then(|text| text.try_read());
    text.unwrap_or_default()
}

/// The block as text: what only its kind has is taken off, annotations and all else stays.
fn as_text(block: &Raw, text: &str, gone: &[&str]) -> Raw {
    let text = Raw::encode(&text);
    let mut edits: Vec<(&str, Option<&[u8]>)> = gone.iter().map(|key| (*key, None)).collect();
    edits.push(("type", Some(br#""text""#)));
    edits.push(("text", Some(text.bytes())));
    splice::edit(block, &edits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn becomes(client: Version, text: &'static str, want: &str) {
        let given = Raw::trusted(text);
        let out = sampling_block(client, &given);
        assert_eq!(out.as_str(), want);
        if text == want {
            assert_eq!(out.bytes().as_ptr(), given.bytes().as_ptr(), "shared");
        }
    }

    #[test]
    fn a_kind_that_came_later_says_what_it_was() {
        use Version as V;
        let audio = concat!(
            r#"{"annotations":{"priority":1e0},"type":"audio","data":"AAAAAAA=","#,
            r#""mimeType":"audio/wav","x":[1]}"#
        );
        becomes(
            V::V2024_11_05,
            audio,
            concat!(
                r#"{"annotations":{"priority":1e0},"type":"text","x":[1],"#,
                r#""text":"[audio, left out: audio/wav, 5 bytes]"}"#
            ),
        );
        becomes(V::V2025_03_26, audio, audio);
        let link = concat!(
            r#"{"type":"resource_link","uri":"file:///a","name":"a","title":"A","#,
            r#""description":"the \"first\"","mimeType":"text/plain","size":5,"icons":[],"#,
            r#""_meta":{}}"#
        );
        becomes(
            V::V2025_03_26,
            link,
            r#"{"type":"text","text":"a: file:///a (text/plain)\nA\nthe \"first\""}"#,
        );
        becomes(
            V::V2025_06_18,
            link,
            concat!(
                r#"{"type":"resource_link","uri":"file:///a","name":"a","title":"A","#,
                r#""description":"the \"first\"","mimeType":"text/plain","size":5,"_meta":{}}"#
            ),
        );
        becomes(V::V2025_11_25, link, link);
        becomes(
            V::V2025_06_18,
            r#"{"type":"tool_use","id":"7","name":"log","input":{"n":1e400}}"#,
            r#"{"type":"text","text":"[Tool call 7: log {\"n\":1e400}]"}"#,
        );
        becomes(
            V::V2025_06_18,
            concat!(
                r#"{"type":"tool_result","toolUseId":"7","isError":true,"#,
                r#""content":[{"type":"text","text":"a"},{"type":"image","data":"AAAA","#,
                r#""mimeType":"image/png"},{"type":"resource_link","uri":"u:1","#,
                r#""name":"n"},{"type":"resource","resource":{"uri":"u:2","#,
                r#""blob":"AA=="}},{"type":"tool_result"}]}"#
            ),
            concat!(
                r#"{"type":"text","#,
                r#""text":"[Error of tool call 7]\na\n[image, left out: image/png, 3 bytes]"#,
                r#"\nn: u:1\n[Resource u:2: unknown type, 1 bytes]"}"#
            ),
        );
        becomes(
            V::V2025_06_18,
            r#"{"type":"tool_result","toolUseId":"7","content":[],"structuredContent":[1]}"#,
            r#"{"type":"text","text":"[Result of tool call 7]\n[1]"}"#,
        );
        becomes(
            V::V2025_11_25,
            r#"{"type":"tool_result","toolUseId":"7","content":[],"structuredContent":[1]}"#,
            concat!(
                r#"{"type":"tool_result","toolUseId":"7","content":[],"#,
                r#""structuredContent":{"result":[1]}}"#
            ),
        );
    }

    #[test]
    fn members_that_came_later_go() {
        use Version as V;
        becomes(
            V::V2025_03_26,
            concat!(
                r#"{"type":"text","text":"a","_meta":{},"annotations":{"lastModified":"x","#,
                r#""priority":1}}"#
            ),
            r#"{"type":"text","text":"a","annotations":{"priority":1}}"#,
        );
        becomes(
            V::V2024_11_05,
            r#"{"type":"resource","resource":{"uri":"u:1","text":"","_meta":{},"v":1}}"#,
            r#"{"type":"resource","resource":{"uri":"u:1","text":"","v":1}}"#,
        );
        for odd in ["7", "[]", "{}", r#"{"type":7}"#, r#"{"type":"novel","data":1}"#] {
            becomes(V::V2024_11_05, odd, odd);
        }
    }
}
