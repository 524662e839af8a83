//! One record as JSON: its members, always in the same order, and the digest of arguments.

use std::{sync::Arc, time::Duration};

use serde::Serialize;

use crate::{
    call::{Caller, Client, clock},
    config::Recorded,
    mcp::{canonical::canonical, message::Body, method::Method, raw::Raw, result, splice},
};

use super::Begun;

/// Characters of what a stranger may make up, a name above all: what is longer is cut.
const TEXT_CHARS_MAX: usize = 512;
/// Bytes of arguments that are recorded whole; of more, the digest is.
const ARGUMENTS_BYTES_MAX: usize = 64 << 10;

pub const OK: &str = "ok";
/// The answer asks for something first; the retry has a record of its own.
const INPUT_REQUIRED: &str = "input_required";

/// A record whose call is under way.
pub struct Open {
    /// Microseconds since 1970.
    at: u64,
    caller: Caller,
    client: Arc<Client>,
    route: String,
    pub method: Method,
    name: Option<String>,
    /// The upstream, and its own name for what the call is about.
    pub target: Option<(String, String)>,
    params: Raw,
    /// The params once the guard had its say.
    pub cleared: Option<Raw>,
}

/// How a call ended.
pub struct End {
    pub outcome: &'static str,
    pub took: Duration,
    /// Of the answer.
    pub bytes: Option<usize>,
}

/// All but the number, which the writer gives.
#[derive(Serialize)]
struct Record<'a> {
    at: String,
    caller: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_version: Option<String>,
    protocol: &'static str,
    route: &'a str,
    method: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<Raw>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments_hash: Option<String>,
    outcome: &'static str,
    duration_us: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
}

impl Open {
    pub fn new(call: &Begun<'_>, at: u64) -> Self {
        Self {
            at,
            caller: call.caller.clone(),
            client: Arc::clone(call.client),
            route: call.route.to_owned(),
            method: call.method,
            name: call.name.map(str::to_owned),
            target: None,
            params: call.params.clone(),
            cleared: None,
        }
    }

    /// The record but for its number: an object without its first brace.
    pub fn record(&self, end: &End, recorded: Recorded, key: &[u8; 32]) -> String {
        let given = arguments(self.method, &self.params);
        // What the guard did not let pass, or did not see, is on no disk.
        let whole = self.cleared.as_ref().filter(|_| recorded == Recorded::Whole);
        let whole = whole.and_then(|params| arguments(self.method, params));
        let whole = whole.filter(|whole| whole.bytes().len() <= ARGUMENTS_BYTES_MAX);
        let hash = given.filter(|_| whole.is_none() && recorded != Recorded::None);
        let caller = self.caller.to_string();
        let target = self.target.as_ref();
        let record = Record {
            at: clock::rfc3339_micros(self.at),
            caller: cut(&caller),
            client: said(&self.client, "name"),
            client_version: said(&self.client, "version"),
            protocol: self.client.version.as_str(),
            route: &self.route,
            method: self.method.name(),
            name: self.name.as_deref().map(cut),
            upstream: target.map(|(upstream, _)| upstream.as_str()),
            target: target.map(|(_, own)| cut(own)),
            arguments: whole,
            arguments_hash: hash.map(|given| hash_of(&given, key)),
            outcome: end.outcome,
            duration_us: u64::try_from(end.took.as_micros()).unwrap_or(u64::MAX),
            bytes: end.bytes,
        };
        let text = serde_json::to_string(&record).expect("texts and numbers only");
        text.strip_prefix('{').unwrap_or_default().to_owned()
    }
}

/// How an answer is recorded.
pub fn outcome(method: Method, body: &Body) -> &'static str {
    let Body::Result(result) = body else { return "error" };
    let is = |key, value: &str| {
        splice::rare_member(result, key).is_some_and(|member| member.as_str() == value)
    };
    let calls = matches!(method, Method::ToolsCall | Method::TasksResult);
    match () {
        () if calls && result::is_error(result) => "tool_error",
        () if is("resultType", "\"input_required\"") => INPUT_REQUIRED,
        () => OK,
    }
}

/// Bytes of an answer.
pub fn bytes(body: &Body) -> usize {
    match body {
        Body::Result(said) | Body::Error(said) => said.bytes().len(),
    }
}

#[allow(clippy::wildcard_enum_match_arm, reason = "all others say it all by their name")]
fn arguments(method: Method, params: &Raw) -> Option<Raw> {
    match method {
        Method::ToolsCall | Method::PromptsGet => splice::member(params, "arguments"),
        Method::Complete => splice::member(params, "argument"),
        _ => None,
    }
}

/// Hash of the canonical form; keyed, so that who reads the log cannot try out arguments.
fn hash_of(arguments: &Raw, key: &[u8; 32]) -> String {
    let canonical = canonical(arguments.bytes(), None);
    let bytes = canonical.as_deref().unwrap_or(arguments.bytes());
    blake3::keyed_hash(key, bytes).to_hex().to_string()
}

/// What a client says of itself.
fn said(client: &Client, key: &str) -> Option<String> {
    let said = splice::member(&client.info, key)?.try_read::<String>()?;
    Some(cut(&said).to_owned())
}

fn cut(text: &str) -> &str {
    let end = text.char_indices().nth(TEXT_CHARS_MAX).map_or(text.len(), |(at, _)| at);
    text.get(..end).unwrap_or_default()
}
