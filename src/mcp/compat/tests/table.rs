//! The table of members is what the published schemas say, no more and no less.

use crate::mcp::{
    compat::members::{TABLE, Thing},
    version::Version,
};

use super::schemas;

/// Where the schemas define each thing, by the names of 2025-11-25.
const PLACES: &[(Thing, &[&str])] = &[
    (Thing::Tool, &["Tool"]),
    (Thing::Prompt, &["Prompt"]),
    (Thing::PromptArgument, &["PromptArgument"]),
    (Thing::Resource, &["Resource"]),
    (Thing::Template, &["ResourceTemplate"]),
    (Thing::Block, &["TextContent", "ImageContent", "AudioContent", "EmbeddedResource"]),
    (Thing::Link, &["ResourceLink"]),
    (Thing::Contents, &["TextResourceContents", "BlobResourceContents"]),
    (Thing::Annotations, &["Annotations"]),
    (Thing::Implementation, &["Implementation"]),
    (Thing::Root, &["Root"]),
    (Thing::ServerCapabilities, &["ServerCapabilities"]),
    (Thing::ClientCapabilities, &["ClientCapabilities"]),
    (Thing::SamplingCapability, &["ClientCapabilities/properties/sampling"]),
    (Thing::ElicitationCapability, &["ClientCapabilities/properties/elicitation"]),
    (Thing::RootsCapability, &["ClientCapabilities/properties/roots"]),
    (Thing::SamplingMessage, &["SamplingMessage"]),
    (Thing::SamplingParams, &["CreateMessageRequestParams"]),
    (Thing::ElicitationParams, &["ElicitRequestParams"]),
    (Thing::RequestedSchema, &["ElicitRequestFormParams/properties/requestedSchema"]),
    (Thing::ProgressParams, &["ProgressNotificationParams"]),
    (Thing::ToolParams, &["CallToolRequestParams"]),
    (Thing::CompletionParams, &["CompleteRequestParams"]),
    (Thing::PromptReference, &["PromptReference"]),
    (Thing::Result, &["Result"]),
    (Thing::CacheableResult, &["ReadResourceResult"]),
    (Thing::ToolResult, &["CallToolResult"]),
];

/// Members that the schemas have and the table has not, and why.
const APART: &[(Thing, &str, &str)] = &[
    (Thing::Resource, "size", "the schemas of the first two versions forgot it"),
    (Thing::ClientCapabilities, "extensions", "clients of older versions declare them too"),
    (Thing::SamplingParams, "_meta", "of any request, always"),
    (Thing::ElicitationParams, "_meta", "of any request, always"),
    (Thing::ProgressParams, "_meta", "of any notification, always"),
    (Thing::ToolParams, "_meta", "of any request, always"),
    (Thing::CompletionParams, "_meta", "of any request, always"),
    (Thing::ToolParams, "inputResponses", "taken off by `meta::antiquate`"),
    (Thing::ToolParams, "requestState", "taken off by `meta::antiquate`"),
    (Thing::CacheableResult, "resultType", "of any result: it is taken off there"),
    (Thing::ToolResult, "resultType", "of any result: it is taken off there"),
];

#[test]
fn the_table_is_what_the_schemas_say() {
    for (thing, places) in PLACES {
        for place in *places {
            check(*thing, place);
        }
    }
    for row in TABLE {
        let named = PLACES.iter().any(|(thing, _)| *thing == row.thing);
        assert!(named, "{:?} is in no place", row.thing);
    }
}

#[track_caller]
fn check(thing: Thing, place: &str) {
    let known = Version::ALL.map(|version| (version, schemas::members(version, place)));
    let mut all: Vec<_> = known.iter().filter_map(|(_, known)| known.as_ref()).flatten().collect();
    all.sort();
    all.dedup();
    assert!(!all.is_empty(), "{place} is nowhere");
    let rows = || TABLE.iter().filter(|row| row.thing == thing);
    for row in rows() {
        assert!(all.iter().any(|member| *member == row.member), "{place} has no {}", row.member);
    }
    for member in all {
        if APART.iter().any(|(apart, name, _)| *apart == thing && name == member) {
            continue;
        }
        for (version, known) in &known {
            let Some(known) = known else { continue };
            let ours = rows().filter(|row| row.member == member).all(|row| row.is_in(*version));
            assert_eq!(ours, known.contains(member), "{member} of {place} in {version}");
        }
    }
}
