//! Sections of the files of cases that policies are held to.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use toml::Spanned;

use super::{
    super::{
        Expected,
        reader::Reader,
        value::{ActionWord, Json, Key, Kind, Moment, Node, table},
    },
    default, unknown,
};

section! {
    /// What policies must say.
    Cases {
        /// Each a question and its answer.
        case: Vec<Spanned<Case>>,
    }
}

section! {
    /// A question, and how policies must answer it.
    Case {
        /// `AUTHORITY/SUBJECT`, or the address of one that nobody vouches for.
        caller: Option<String>,
        /// Groups that the caller is in.
        groups: Vec<String>,
        /// Scopes of the caller's token.
        scopes: Vec<String>,
        /// Whether it logged in with a second factor.
        mfa: bool = false,
        /// What is to be done; calling a tool, getting a prompt, reading a resource if not said.
        action: Option<ActionWord>,
        /// A tool, as "UPSTREAM/NAME", with the upstream's own name for it.
        tool: Option<Spanned<String>>,
        /// The same of a prompt.
        prompt: Option<Spanned<String>>,
        /// The same of a resource, by its URI.
        resource: Option<Spanned<String>>,
        /// What the upstream says of the tool, in the protocol's words: { readOnlyHint = true }.
        annotations: Json,
        /// Tags that the upstream's section gives it.
        tags: Vec<String>,
        /// Arguments of the call.
        arguments: Json,
        /// The name of the client's program.
        client: Option<String>,
        /// When it is asked: "2026-11-24T10:00:00Z".
        time: Moment,
        /// Whether it is seen and permitted ("allow"), seen and denied ("deny"), or not even seen.
        expect: Expected = "deny",
    }
}
