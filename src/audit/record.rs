//! A record as JSON: its members, always in the same order, and the digest of arguments.

use std::{cell::Cell, net::IpAddr, sync::Arc, time::Duration};

use serde::Serialize;

use crate::{
    call::{CallId, Caller, Client, RoutePath, TraceId, clock},
    config::Recorded,
    mcp::{canonical::canonical, message::Body, method::Method, raw::Raw, splice},
    telemetry::{CallMetrics, Outcome},
    trace::TracedCall,
};

use super::{
    told::{CacheUse, Told},
    upstream_time::micros,
};

/// Characters of what a stranger may make up, a name above all: what is longer is cut.
const TEXT_CHARS_MAX: usize = 512;
/// Bytes of arguments that are recorded whole; of more, the digest is.
const ARGUMENTS_BYTES_MAX: usize = 64 << 10;

/// Bytes that most records fit into: they are written without being moved.
const TYPICAL_BYTES: usize = 1_024;
/// Bytes of a record beside what strangers say: its keys, times, numbers and words of the gate.
const BYTES_MIN: usize = 2_048;
/// Characters of each such text in a record that would be larger than the room that it has.
const SHORT_CHARS_MAX: usize = 16;

/// The version of the format: another one where a member means something else than before, and the
/// same where members come to it. Records without it are of the first.
const FORMAT: u32 = 3;

/// A call that begins.
pub struct Begun<'a> {
    pub id: CallId,
    pub caller: &'a Caller,
    pub client: &'a Arc<Client>,
    pub route: &'a RoutePath,
    /// Counts the calls of the route.
    pub metrics: &'a Arc<CallMetrics>,
    pub method: Method,
    /// The client's name of its target.
    pub name: Option<&'a str>,
    pub params: &'a Raw,
    /// The address that it came from, or that a trusted proxy says it did.
    pub peer: Option<IpAddr>,
    pub trace: Option<TraceId>,
    /// The call's trace, for its entry to take.
    pub traced: Cell<Option<Box<TracedCall>>>,
}

/// The part of a record that is known when a call begins.
pub struct Open {
    pub id: CallId,
    /// Microseconds since 1970.
    at: u64,
    peer: Option<IpAddr>,
    pub trace: Option<TraceId>,
    pub caller: Caller,
    pub client: Arc<Client>,
    pub route: RoutePath,
    pub method: Method,
    pub name: Option<String>,
    pub params: Raw,
}

/// The part of a record that is known when the call ends.
pub struct End<'a> {
    pub outcome: Outcome,
    pub took: Duration,
    /// The part of it that the upstream took; none where nothing came from there.
    pub upstream: Option<Duration>,
    /// Bytes of the answer.
    pub bytes: Option<usize>,
    /// The findings on its way.
    pub told: &'a Told,
}

/// Bytes that the record of this call has at most, as far as can be told when it begins: what turns
/// out larger is cut.
pub fn bytes_max(call: &Begun<'_>, recorded: Recorded) -> usize {
    let texts = call.name.map_or(0, str::len).min(2 * TEXT_CHARS_MAX) * 2;
    let client = call.client.info.bytes().len().min(2 * TEXT_CHARS_MAX);
    // A text that is redacted grows.
    let params = 2 * call.params.bytes().len();
    let whole = if recorded == Recorded::Whole { params.min(ARGUMENTS_BYTES_MAX) } else { 0 };
    BYTES_MIN + texts + client + whole
}

impl std::fmt::Debug for Begun<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Begun").field("id", &self.id).finish_non_exhaustive()
    }
}

/// How much of what strangers say is in a record.
#[derive(Debug, Clone, Copy)]
struct Cut {
    chars_max: usize,
    recorded: Recorded,
}

/// All but the number, which the writer gives. What is not known of a call is not there.
#[derive(Serialize)]
struct Record<'a> {
    v: u32,
    id: String,
    at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    caller: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_version: Option<&'a str>,
    protocol: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<String>,
    route: &'a str,
    method: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    successor: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replica: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policies: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    guards: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<Raw>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments_hash: Option<String>,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route_cost: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_cost: Option<u64>,
    duration_us: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_us: Option<u64>,
    request_bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
}

impl Open {
    pub fn new(call: &Begun<'_>, at: u64) -> Self {
        Self {
            id: call.id,
            at,
            peer: call.peer,
            trace: call.trace,
            caller: call.caller.clone(),
            client: Arc::clone(call.client),
            route: call.route.clone(),
            method: call.method,
            name: call.name.map(str::to_owned),
            params: call.params.clone(),
        }
    }

    /// The record but for its number: an object without its first brace, of so many bytes at most.
    pub fn record(
        &self,
        end: &End<'_>,
        recorded: Recorded,
        key: &[u8; 32],
        bytes_max: usize,
    ) -> String {
        let short = if recorded == Recorded::None { recorded } else { Recorded::Hash };
        let cuts = [
            Cut { chars_max: TEXT_CHARS_MAX, recorded },
            Cut { chars_max: TEXT_CHARS_MAX, recorded: short },
        ];
        let whole = cuts.iter().map(|cut| self.text(end, *cut, key));
        let fits = whole.into_iter().find(|text| text.len() <= bytes_max);
        let least = Cut { chars_max: SHORT_CHARS_MAX, recorded: short };
        fits.unwrap_or_else(|| self.text(end, least, key))
    }

    fn text(&self, end: &End<'_>, cut: Cut, key: &[u8; 32]) -> String {
        let Cut { chars_max, recorded } = cut;
        let cut = |text| first_chars(text, chars_max);
        let least = chars_max <= SHORT_CHARS_MAX;
        let told = end.told;
        let given = arguments(self.method, &self.params);
        // Arguments that the guard did not let pass, or did not see, are on no disk.
        let whole = told.cleared.get().filter(|_| recorded == Recorded::Whole);
        let whole = whole.and_then(|params| arguments(self.method, params));
        let whole = whole.filter(|whole| whole.bytes().len() <= ARGUMENTS_BYTES_MAX);
        let hash = given.filter(|_| whole.is_none() && recorded != Recorded::None);
        let caller = self.caller.name();
        let said = |key| said(&self.client, key);
        let client = said("name");
        let client_version = said("version");
        let record = Record {
            v: FORMAT,
            id: self.id.to_string(),
            at: clock::rfc3339_micros(self.at),
            parent: told.parent.get().map(CallId::to_string),
            caller: cut(&caller),
            peer: self.peer,
            client: client.as_deref().map(cut),
            client_version: client_version.as_deref().map(cut),
            protocol: self.client.version.as_str(),
            trace: self.trace.map(|trace| trace.to_string()),
            route: &self.route,
            method: self.method.name(),
            name: self.name.as_deref().map(cut),
            upstream: told.target.get().map(|(upstream, _)| upstream.as_str()),
            target: told.target.get().map(|(_, own)| cut(own)),
            successor: told.successor.get().map(String::as_str),
            replica: told.replica.get().map(|url| cut(url)),
            policies: told
                .policies
                .get()
                .filter(|_| !least)
                .map(|names| names.iter().map(|name| first_chars(name, chars_max)).collect()),
            guards: told.guards().filter(|_| !least),
            cache: told.cache().map(CacheUse::word),
            arguments: whole,
            arguments_hash: hash.map(|given| hash_of(&given, key)),
            outcome: end.outcome.name(),
            attempts: told.attempts(),
            route_cost: told.route_cost(),
            upstream_cost: told.upstream_cost(),
            duration_us: micros(end.took),
            upstream_us: end.upstream.map(micros).filter(|us| 0 < *us),
            request_bytes: self.params.bytes().len(),
            bytes: end.bytes,
        };
        let mut text = Vec::with_capacity(TYPICAL_BYTES);
        serde_json::to_writer(&mut text, &record).expect("texts and numbers only");
        let mut text = String::from_utf8(text).expect("JSON is UTF-8");
        // In its place: the record is handed over as it was written.
        text.remove(0);
        text
    }
}

/// How an answer is counted and recorded.
pub fn outcome(method: Method, body: &Body) -> Outcome {
    let Body::Result(result) = body else { return Outcome::Error };
    let calls = matches!(method, Method::ToolsCall | Method::TasksResult);
    match () {
        () if calls && result.is_error() => Outcome::ToolError,
        () if result.requires_input() => Outcome::InputRequired,
        () => Outcome::Ok,
    }
}

/// Bytes of an answer.
pub fn bytes(body: &Body) -> usize {
    body.text().bytes().len()
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

/// Returns what a client says of itself.
pub fn said(client: &Client, key: &str) -> Option<String> {
    splice::member(&client.info, key)?.try_read::<String>()
}

pub fn first_chars(text: &str, chars_max: usize) -> &str {
    let end = text.char_indices().nth(chars_max).map_or(text.len(), |(at, _)| at);
    text.get(..end).unwrap_or_default()
}
