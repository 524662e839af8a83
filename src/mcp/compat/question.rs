//! Translates a server's requests for an older client, and the client's answers for an older
//! server.

use crate::mcp::{
    message::Body,
    raw::Raw,
    splice,
    version::{Era, Version},
};

use super::{
    content, entry,
    members::{Thing, trim},
};

const ELICIT: &str = "elicitation/create";
const SAMPLE: &str = "sampling/createMessage";
const ROOTS: &str = "roots/list";

/// Why a client of an older version cannot be asked this; the text is for the server that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CannotAsk {
    #[error("the client speaks version {0} of MCP, which has no elicitation")]
    Anything(Version),
    #[error("the client speaks version {0} of MCP, in which nobody is asked to open a page")]
    Page(Version),
    #[error("the client speaks version {0} of MCP, which has no choice of several values")]
    Choices(Version),
    #[error("the client speaks version {0} of MCP, which has no sampling with tools")]
    Tools(Version),
}

/// Params of a server's request `method`, as a client of this version knows them.
///
/// `id` names an elicitation that has to be named and is not: what a modern server asks by a page
/// has no `elicitationId`, which 2025-11-25 demands. It must be unique.
///
/// # Errors
/// Fails where clients of this version cannot be asked this.
pub fn question(client: Version, method: &str, params: &Raw, id: &str) -> Result<Raw, CannotAsk> {
    match method {
        ELICIT => elicitation(client, params, id),
        SAMPLE => sampling(client, params),
        _ => Ok(params.clone()),
    }
}

/// A client's answer to a question `method`, as a server of this version knows it.
pub fn answer(server: Version, method: &str, body: Body) -> Body {
    let Body::Result(result) = &body else { return body };
    match method {
        SAMPLE => {
            let result = splice::change(result, "content", |one| sampled(server, one));
            Body::Result(result.into())
        }
        ROOTS => {
            let root = |one: &Raw| trim(server, Thing::Root, one);
            let result = splice::change(result, "roots", |all| splice::map_values(all, root));
            Body::Result(result.into())
        }
        _ => body,
    }
}

fn elicitation(client: Version, params: &Raw, id: &str) -> Result<Raw, CannotAsk> {
    if client < Version::V2025_06_18 {
        return Err(CannotAsk::Anything(client));
    }
    let mode = splice::member(params, "mode").and_then(|mode| mode.try_read::<String>());
    let is_page = mode.as_deref() == Some("url");
    if is_page && client < Version::V2025_11_25 {
        return Err(CannotAsk::Page(client));
    }
    let asked = trim(client, Thing::ElicitationParams, params);
    if is_page {
        let unnamed = splice::member(&asked, "elicitationId").is_none();
        if unnamed && client == Version::V2025_11_25 {
            let id = Raw::encode(&id);
            return Ok(splice::edit(&asked, &[("elicitationId", Some(id.bytes()))]));
        }
        return Ok(asked);
    }
    if Version::V2025_11_25 <= client {
        return Ok(asked);
    }
    let schema = splice::member(&asked, "requestedSchema").filter(Raw::is_object);
    let fields = schema.and_then(|schema| splice::member(&schema, "properties"));
    if fields.is_some_and(|fields| splice::values(&fields).iter().any(is_choices)) {
        return Err(CannotAsk::Choices(client));
    }
    Ok(splice::change(&asked, "requestedSchema", |schema| {
        let schema = trim(client, Thing::RequestedSchema, schema);
        splice::change(&schema, "properties", |all| splice::map_values(all, field))
    }))
}

/// A field for several values of a list.
fn is_choices(field: &Raw) -> bool {
    content::kind(field).as_deref() == Some("array")
}

/// A field of a form as 2025-06-18 knows it: a choice by titles has these in `enumNames`, and only
/// a truth value has a default.
fn field(field: &Raw) -> Raw {
    let Some(kind) = content::kind(field) else { return field.clone() };
    let mut edits: Vec<(&str, Option<&[u8]>)> = Vec::new();
    if kind != "boolean" {
        edits.push(("default", None));
    }
    let choices = splice::member(field, "oneOf").and_then(|choices| titled(&choices));
    if let Some((values, titles)) = &choices {
        edits.push(("oneOf", None));
        edits.push(("enum", Some(values.bytes())));
        edits.push(("enumNames", Some(titles.bytes())));
    }
    splice::edit(field, &edits)
}

/// The values and the titles of choices; none where one is no such choice.
fn titled(choices: &Raw) -> Option<(Raw, Raw)> {
    let mut values = Vec::new();
    let mut titles = Vec::new();
    for choice in splice::values(choices) {
        let value = choice.is_object().then(|| splice::member(&choice, "const")).flatten()?;
        titles.push(splice::member(&choice, "title").unwrap_or_else(|| value.clone()));
        values.push(value);
    }
    Some((splice::array(&values), splice::array(&titles)))
}

fn sampling(client: Version, params: &Raw) -> Result<Raw, CannotAsk> {
    let choice = splice::member(params, "toolChoice").filter(Raw::is_object);
    let mode = choice.and_then(|choice| splice::member(&choice, "mode"));
    // The answer would be none without a tool in it. Else a model may do without, as it may with
    // them.
    if client < Version::V2025_11_25 && mode.is_some_and(|mode| mode.as_str() == "\"required\"") {
        return Err(CannotAsk::Tools(client));
    }
    let asked = trim(client, Thing::SamplingParams, params);
    if client.era() == Era::Modern {
        return Ok(asked);
    }
    let tool = |one: &Raw| entry::tool(client, one);
    let asked = splice::change(&asked, "tools", |all| splice::map_values(all, tool));
    Ok(splice::change(&asked, "messages", |all| messages(client, all)))
}

/// Before 2025-11-25 a message has one block: one with several becomes several in a row.
fn messages(client: Version, all: &Raw) -> Raw {
    let splits = client < Version::V2025_11_25;
    let is_split = |message: &Raw| splits && contents(message).is_some();
    let given = splice::values(all);
    if !given.iter().any(is_split) {
        return splice::map_values(all, |one| message(client, one));
    }
    let single = |given: &Raw| match contents(given) {
        Some(contents) => splice::values(&contents)
            .iter()
            .map(|block| splice::edit(given, &[("content", Some(block.bytes()))]))
            .collect(),
        None => vec![given.clone()],
    };
    let single: Vec<_> = given.iter().flat_map(single).collect();
    splice::array(&single.iter().map(|one| message(client, one)).collect::<Vec<_>>())
}

/// The content of a message, where that is an array.
fn contents(message: &Raw) -> Option<Raw> {
    let content = message.is_object().then(|| splice::member(message, "content")).flatten()?;
    content.as_str().starts_with('[').then_some(content)
}

fn message(client: Version, message: &Raw) -> Raw {
    let message = trim(client, Thing::SamplingMessage, message);
    splice::change(&message, "content", |content| sampling_content(client, content))
}

fn sampling_content(client: Version, content: &Raw) -> Raw {
    if content.as_str().starts_with('[') {
        return splice::map_values(content, |one| content::sampling_block(client, one));
    }
    content::sampling_block(client, content)
}

/// Makes a model's answer fit a server that asked without tools: before 2025-11-25 that is one
/// block. Several become one text; they cannot be told from one another, but nothing said is lost.
fn sampled(server: Version, content: &Raw) -> Raw {
    if Version::V2025_11_25 <= server || !content.as_str().starts_with('[') {
        return sampling_content(server, content);
    }
    match &splice::values(content)[..] {
        [one] => content::sampling_block(server, one),
        several => {
            let said: Vec<_> = several.iter().map(content::describe).collect();
            content::text(&said.join("\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V3: Version = Version::V2025_06_18;
    const V4: Version = Version::V2025_11_25;
    const V5: Version = Version::V2026_07_28;

    #[track_caller]
    fn asked(client: Version, method: &str, text: &'static str, want: Result<&str, CannotAsk>) {
        let given = Raw::trusted(text);
        let out = question(client, method, &given, "e-1");
        assert_eq!(out.as_ref().map(Raw::as_str).map_err(|error| *error), want, "{client}");
        if want == Ok(text) {
            assert_eq!(out.unwrap().bytes().as_ptr(), given.bytes().as_ptr(), "shared");
        }
    }

    #[test]
    fn a_form_in_the_words_of_its_time() {
        let form = concat!(
            r#"{"mode":"form","message":"m","task":{},"requestedSchema":{"$schema":"s","#,
            r#""type":"object","properties":{"a":{"type":"string","oneOf":[{"const":"x","#,
            r#""title":"X"},{"const":"\u0079"}],"default":"x","v":1},"b":{"type":"boolean","#,
            r#""default":true},"c":{"type":"number","default":1,"minimum":1.50},"#,
            r#""d":{"type":"string","enum":["x"],"default":"x"}},"required":["a"]}}"#
        );
        let old = concat!(
            r#"{"message":"m","requestedSchema":{"type":"object","#,
            r#""properties":{"a":{"type":"string","v":1,"enum":["x","\u0079"],"#,
            r#""enumNames":["X","\u0079"]},"b":{"type":"boolean","default":true},"#,
            r#""c":{"type":"number","minimum":1.50},"d":{"type":"string","enum":["x"]}},"#,
            r#""required":["a"]}}"#
        );
        asked(V3, ELICIT, form, Ok(old));
        asked(V4, ELICIT, form, Ok(form));
        asked(V5, ELICIT, form, Ok(&form.replace(r#","task":{}"#, "")));
        for client in [Version::V2024_11_05, Version::V2025_03_26] {
            asked(client, ELICIT, form, Err(CannotAsk::Anything(client)));
        }
        let plain = r#"{"message":"m","requestedSchema":{"type":"object","properties":{}}}"#;
        asked(V3, ELICIT, plain, Ok(plain));
        let several = concat!(
            r#"{"message":"m","requestedSchema":{"type":"object","#,
            r#""properties":{"a":{"type":"array","items":{"type":"string","enum":["x"]}}}}}"#
        );
        asked(V3, ELICIT, several, Err(CannotAsk::Choices(V3)));
        asked(V4, ELICIT, several, Ok(several));
    }

    #[test]
    fn a_page_has_a_name_where_it_must() {
        let named = r#"{"mode":"url","url":"h","message":"m","elicitationId":"7"}"#;
        let unnamed = r#"{"mode":"url","url":"h","message":"m"}"#;
        asked(V3, ELICIT, named, Err(CannotAsk::Page(V3)));
        asked(V4, ELICIT, named, Ok(named));
        let given = r#"{"mode":"url","url":"h","message":"m","elicitationId":"e-1"}"#;
        asked(V4, ELICIT, unnamed, Ok(given));
        asked(V5, ELICIT, named, Ok(unnamed));
    }

    #[test]
    fn sampling_without_tools() {
        let asks = concat!(
            r#"{"maxTokens":9,"tools":[{"name":"a","outputSchema":{"type":"array"}}],"#,
            r#""toolChoice":{"mode":"auto"},"messages":[{"role":"user","#,
            r#""content":{"type":"text","text":"q"},"_meta":{}},{"role":"assistant","#,
            r#""content":[{"type":"text","text":"a"},{"type":"tool_use","id":"7","name":"n","#,
            r#""input":{}}],"v":1}]}"#
        );
        let plain = concat!(
            r#"{"maxTokens":9,"messages":[{"role":"user","content":{"type":"text","#,
            r#""text":"q"}},{"role":"assistant","content":{"type":"text","text":"a"},"#,
            r#""v":1},{"role":"assistant","content":{"type":"text","#,
            r#""text":"[Tool call 7: n {}]"},"v":1}]}"#
        );
        asked(Version::V2024_11_05, SAMPLE, asks, Ok(plain));
        asked(V3, SAMPLE, asks, Ok(plain));
        asked(V4, SAMPLE, asks, Ok(&asks.replace(r#","outputSchema":{"type":"array"}"#, "")));
        asked(V5, SAMPLE, asks, Ok(asks));
        let must = r#"{"messages":[],"tools":[],"toolChoice":{"mode":"required"}}"#;
        asked(V3, SAMPLE, must, Err(CannotAsk::Tools(V3)));
        asked(V4, SAMPLE, must, Ok(must));
        let roots = r#"{"_meta":{},"tools":1}"#;
        asked(Version::V2024_11_05, ROOTS, roots, Ok(roots));
    }

    #[test]
    fn answers_in_the_words_of_the_server() {
        let said = |server, method, text: &'static str| {
            let Body::Result(out) = answer(server, method, Body::Result(Raw::trusted(text).into()))
            else {
                panic!("a result")
            };
            out.as_str().to_owned()
        };
        let two = concat!(
            r#"{"role":"assistant","model":"m","content":[{"type":"text","#,
            r#""text":"a"},{"type":"audio","data":"AAAA","mimeType":"audio/wav"}]}"#
        );
        let joined = concat!(
            r#"{"role":"assistant","model":"m","content":{"type":"text","#,
            r#""text":"a\n[audio, left out: audio/wav, 3 bytes]"}}"#
        );
        assert_eq!(said(V3, SAMPLE, two), joined);
        assert_eq!(said(V4, SAMPLE, two), two);
        let one = r#"{"content":[{"type":"text","text":"a","_meta":{}}]}"#;
        let bare = r#"{"content":{"type":"text","text":"a"}}"#;
        assert_eq!(said(Version::V2025_03_26, SAMPLE, one), bare);
        let roots = r#"{"roots":[{"uri":"file:///a","_meta":{}}],"_meta":{}}"#;
        let plain = r#"{"roots":[{"uri":"file:///a"}],"_meta":{}}"#;
        assert_eq!(said(Version::V2025_03_26, ROOTS, roots), plain);
        assert_eq!(said(V3, ROOTS, roots), roots);
        let elicited = r#"{"action":"accept","content":{"a":["x"]}}"#;
        assert_eq!(said(V3, ELICIT, elicited), elicited);
    }
}
