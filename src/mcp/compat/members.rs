//! The members that came with each version of the protocol, and which went again: one table, held
//! to the published schemas by a test.

use crate::mcp::{raw::Raw, splice, version::Version};

use self::Thing as T;

const V2: Version = Version::V2025_03_26;
const V3: Version = Version::V2025_06_18;
const V4: Version = Version::V2025_11_25;
const V5: Version = Version::V2026_07_28;

/// Object that has the members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thing {
    Tool,
    Prompt,
    PromptArgument,
    Resource,
    Template,
    /// A content block of any kind.
    Block,
    /// A content block that is a `resource_link`.
    Link,
    /// Contents of a resource, embedded or read.
    Contents,
    /// Annotations of content and resources; those of a tool are another thing.
    Annotations,
    Implementation,
    Root,
    ServerCapabilities,
    ClientCapabilities,
    SamplingCapability,
    ElicitationCapability,
    RootsCapability,
    SamplingMessage,
    SamplingParams,
    ElicitationParams,
    RequestedSchema,
    ProgressParams,
    ToolParams,
    CompletionParams,
    PromptReference,
    Result,
    /// The result of a list, a reading or a discovery.
    CacheableResult,
    ToolResult,
}

/// A member that is not in all versions.
#[derive(Debug)]
pub(super) struct Row {
    pub thing: Thing,
    pub member: &'static str,
    /// The first version that has it.
    pub since: Version,
    /// The first version that has it no more.
    pub gone: Option<Version>,
}

const fn row(thing: Thing, member: &'static str, since: Version) -> Row {
    Row { thing, member, since, gone: None }
}

/// Makes the row of a member that only 2025-11-25 has, and those before it back to `since`.
const fn gone(thing: Thing, member: &'static str, since: Version) -> Row {
    Row { thing, member, since, gone: Some(V5) }
}

pub(super) const TABLE: &[Row] = &[
    row(T::Tool, "annotations", V2),
    row(T::Tool, "title", V3),
    row(T::Tool, "outputSchema", V3),
    row(T::Tool, "_meta", V3),
    row(T::Tool, "icons", V4),
    gone(T::Tool, "execution", V4),
    row(T::Prompt, "title", V3),
    row(T::Prompt, "_meta", V3),
    row(T::Prompt, "icons", V4),
    row(T::PromptArgument, "title", V3),
    row(T::Resource, "title", V3),
    row(T::Resource, "_meta", V3),
    row(T::Resource, "icons", V4),
    row(T::Template, "title", V3),
    row(T::Template, "_meta", V3),
    row(T::Template, "icons", V4),
    row(T::Block, "_meta", V3),
    row(T::Link, "icons", V4),
    row(T::Contents, "_meta", V3),
    row(T::Annotations, "lastModified", V3),
    row(T::Implementation, "title", V3),
    row(T::Implementation, "icons", V4),
    row(T::Implementation, "websiteUrl", V4),
    row(T::Implementation, "description", V4),
    row(T::Root, "_meta", V3),
    row(T::ServerCapabilities, "completions", V2),
    gone(T::ServerCapabilities, "tasks", V4),
    row(T::ServerCapabilities, "extensions", V5),
    row(T::ClientCapabilities, "elicitation", V3),
    gone(T::ClientCapabilities, "tasks", V4),
    row(T::SamplingCapability, "tools", V4),
    row(T::SamplingCapability, "context", V4),
    row(T::ElicitationCapability, "form", V4),
    row(T::ElicitationCapability, "url", V4),
    gone(T::RootsCapability, "listChanged", Version::V2024_11_05),
    row(T::SamplingMessage, "_meta", V4),
    row(T::SamplingParams, "tools", V4),
    row(T::SamplingParams, "toolChoice", V4),
    gone(T::SamplingParams, "task", V4),
    row(T::ElicitationParams, "mode", V4),
    row(T::ElicitationParams, "url", V4),
    gone(T::ElicitationParams, "elicitationId", V4),
    gone(T::ElicitationParams, "task", V4),
    row(T::RequestedSchema, "$schema", V4),
    row(T::ProgressParams, "message", V2),
    gone(T::ToolParams, "task", V4),
    row(T::CompletionParams, "context", V3),
    row(T::PromptReference, "title", V3),
    row(T::Result, "resultType", V5),
    row(T::CacheableResult, "ttlMs", V5),
    row(T::CacheableResult, "cacheScope", V5),
    row(T::ToolResult, "structuredContent", V3),
];

/// Takes off what `version` does not know of a thing. Members that no version has stay: nobody can
/// tell what they are, and every version lets a receiver pass over them.
pub(super) fn trim(version: Version, thing: Thing, object: &Raw) -> Raw {
    if !object.is_object() {
        return object.clone();
    }
    let unknown = TABLE.iter().filter(|row| row.thing == thing && !row.is_in(version));
    let edits: Vec<_> = unknown.map(|row| (row.member, None)).collect();
    if edits.is_empty() { object.clone() } else { splice::edit(object, &edits) }
}

impl Row {
    pub(super) fn is_in(&self, version: Version) -> bool {
        self.since <= version && self.gone.is_none_or(|gone| version < gone)
    }
}
