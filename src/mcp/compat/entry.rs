//! Entries of lists: tools, prompts, resources and templates.

use crate::mcp::{
    method::Method,
    raw::Raw,
    splice,
    version::{Era, Version},
};

use super::members::{Thing, trim};

/// A page of a list, the result object of `method`, with entries as a client of this version knows
/// them.
pub(super) fn page(client: Version, method: Method, page: &Raw) -> Raw {
    let Some(list) = list_of(method) else { return page.clone() };
    splice::change(page, list, |all| splice::map_values(all, |one| entry(client, method, one)))
}

/// An entry of the list that `method` asks for, as a client of this version knows it.
#[allow(clippy::wildcard_enum_match_arm, reason = "no other method is answered with entries")]
pub fn entry(client: Version, method: Method, entry: &Raw) -> Raw {
    if client.era() == Era::Modern {
        return entry.clone();
    }
    match method {
        Method::ToolsList => tool(client, entry),
        Method::PromptsList => {
            let entry = trim(client, Thing::Prompt, entry);
            let argument = |one: &Raw| trim(client, Thing::PromptArgument, one);
            splice::change(&entry, "arguments", |all| splice::map_values(all, argument))
        }
        Method::ResourcesList => annotated(client, &trim(client, Thing::Resource, entry)),
        Method::TemplatesList => annotated(client, &trim(client, Thing::Template, entry)),
        _ => entry.clone(),
    }
}

#[allow(clippy::wildcard_enum_match_arm, reason = "no other method is answered with a list")]
fn list_of(method: Method) -> Option<&'static str> {
    match method {
        Method::ToolsList => Some("tools"),
        Method::PromptsList => Some("prompts"),
        Method::ResourcesList => Some("resources"),
        Method::TemplatesList => Some("resourceTemplates"),
        _ => None,
    }
}

/// 2026-07-28 lets an output schema describe any JSON; in legacy versions it is one of an object.
/// Another is taken off: the tool is then one without a schema, and whatever it gives is right.
pub(super) fn tool(client: Version, entry: &Raw) -> Raw {
    let entry = trim(client, Thing::Tool, entry);
    let is_object_schema = |schema: &Raw| {
        let kind = schema.is_object().then(|| splice::member(schema, "type")).flatten();
        kind.is_some_and(|kind| kind.try_read::<String>().as_deref() == Some("object"))
    };
    let output = entry.is_object().then(|| splice::member(&entry, "outputSchema")).flatten();
    let entry = match output {
        Some(schema) if !is_object_schema(&schema) => {
            splice::edit(&entry, &[("outputSchema", None)])
        }
        _ => entry,
    };
    let entry = splice::change(&entry, "inputSchema", plain_properties);
    splice::change(&entry, "outputSchema", plain_properties)
}

/// The schema of a property is an object in legacy versions; 2026-07-28 has JSON Schema's `true`
/// and `false` too, which can be said as objects.
fn plain_properties(schema: &Raw) -> Raw {
    splice::change(schema, "properties", |all| {
        splice::map_values(all, |property| match property.as_str() {
            "true" => Raw::object(),
            "false" => Raw::trusted(r#"{"not":{}}"#),
            _ => property.clone(),
        })
    })
}

fn annotated(client: Version, entry: &Raw) -> Raw {
    splice::change(entry, "annotations", |all| trim(client, Thing::Annotations, all))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOL: &str = concat!(
        r#"{"name":"a", "title":"A","icons":[],"execution":{},"#,
        r#""annotations":{"title":"B"},"inputSchema":{"type":"object","#,
        r#""properties":{"n":{"x-mcp-header":"N","maximum":1e400},"any":true,"#,
        r#""no":false}},"outputSchema":{"type":"object","properties":{"n":true}},"#,
        r#""_meta":{},"x":1}"#
    );

    #[track_caller]
    fn becomes(client: Version, method: Method, text: &'static str, want: &str) {
        let given = Raw::trusted(text);
        assert_eq!(entry(client, method, &given).as_str(), want, "{client}");
        if text == want {
            let out = entry(client, method, &given);
            assert_eq!(out.bytes().as_ptr(), given.bytes().as_ptr(), "{client}: shared");
        }
    }

    #[test]
    fn a_tool_version_by_version() {
        use Version as V;
        let input = concat!(
            r#""inputSchema":{"type":"object","properties":{"n":{"x-mcp-header":"N","#,
            r#""maximum":1e400},"any":{},"no":{"not":{}}}}"#
        );
        let output = r#""outputSchema":{"type":"object","properties":{"n":{}}}"#;
        let hints = r#""annotations":{"title":"B"}"#;
        let later = format!(r#"{hints},{input},{output},"_meta":{{}},"x":1}}"#);
        let latest = r#""title":"A","icons":[],"execution":{},"#;
        for (client, want) in [
            (V::V2024_11_05, format!(r#"{{"name":"a",{input},"x":1}}"#)),
            (V::V2025_03_26, format!(r#"{{"name":"a",{hints},{input},"x":1}}"#)),
            (V::V2025_06_18, format!(r#"{{"name":"a", "title":"A",{later}"#)),
            (V::V2025_11_25, format!(r#"{{"name":"a", {latest}{later}"#)),
            (V::V2026_07_28, TOOL.to_owned()),
        ] {
            becomes(client, Method::ToolsList, TOOL, &want);
        }
    }

    #[test]
    fn an_output_that_is_no_object_has_no_schema() {
        for schema in [r#"{"type":"array"}"#, r#"{"anyOf":[]}"#, r#"{"type":["object"]}"#, "true"] {
            let text = format!(r#"{{"name":"a","outputSchema":{schema}}}"#);
            let out = entry(Version::V2025_11_25, Method::ToolsList, &Raw::trusted(text));
            assert_eq!(out.as_str(), r#"{"name":"a"}"#, "{schema}");
        }
    }

    #[test]
    fn the_other_lists() {
        use Version as V;
        let prompt =
            r#"{"title":"A","name":"a","arguments":[{"name":"x","title":"X"},7],"icons":[]}"#;
        becomes(
            V::V2025_03_26,
            Method::PromptsList,
            prompt,
            r#"{"name":"a","arguments":[{"name":"x"},7]}"#,
        );
        becomes(
            V::V2025_06_18,
            Method::PromptsList,
            prompt,
            r#"{"title":"A","name":"a","arguments":[{"name":"x","title":"X"},7]}"#,
        );
        becomes(V::V2025_11_25, Method::PromptsList, prompt, prompt);
        let resource = concat!(
            r#"{"uri":"u:1","name":"a","size":1,"title":"A","_meta":{},"#,
            r#""annotations":{"priority":1,"lastModified":""}}"#
        );
        let old = r#"{"uri":"u:1","name":"a","size":1,"annotations":{"priority":1}}"#;
        for method in [Method::ResourcesList, Method::TemplatesList] {
            becomes(V::V2024_11_05, method, resource, old);
            becomes(V::V2025_06_18, method, resource, resource);
        }
    }
}
