//! `_meta`: the keys the protocol reserves, read once, everything else left where it is.

use serde::Deserialize;

use super::{
    raw::{Malformed, Raw},
    splice,
    version::Version,
};

pub const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
pub const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
pub const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
pub const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
pub const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
pub const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";
pub const PROGRESS_TOKEN: &str = "progressToken";
/// The trace that a request is part of (W3C Trace Context).
pub const TRACE_PARENT: &str = "traceparent";
/// What goes along with it, of other tracers (W3C Trace Context) and of applications (W3C Baggage).
pub const TRACE_STATE: &str = "tracestate";
pub const BAGGAGE: &str = "baggage";
/// The task that a message belongs to (2025-11-25, tasks).
pub const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";
/// The extension of tasks (2026-07-28).
pub const TASKS: &str = "io.modelcontextprotocol/tasks";

/// Members of a request's `_meta` that the gateway reads.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Meta {
    #[serde(rename = "io.modelcontextprotocol/protocolVersion")]
    pub protocol_version: Option<String>,
    #[serde(rename = "io.modelcontextprotocol/clientCapabilities")]
    pub client_capabilities: Option<Raw>,
    #[serde(rename = "io.modelcontextprotocol/clientInfo")]
    pub client_info: Option<Raw>,
    #[serde(rename = "io.modelcontextprotocol/logLevel")]
    pub log_level: Option<String>,
    #[serde(rename = "io.modelcontextprotocol/subscriptionId")]
    pub subscription_id: Option<Raw>,
    #[serde(rename = "progressToken")]
    pub progress_token: Option<Raw>,
    /// [`TRACE_PARENT`], as it came.
    pub traceparent: Option<Raw>,
}

impl Meta {
    /// Reads `_meta` of any params; empty where there is none. Those of a request know it already
    /// ([`Params::meta`](super::params::Params::meta)).
    ///
    /// # Errors
    /// Fails where `params` or a member of `_meta` has another shape than the specification gives
    /// it.
    pub fn read(params: &Raw) -> Result<Self, Malformed> {
        #[derive(Deserialize)]
        struct Params {
            #[serde(rename = "_meta", default)]
            meta: Option<Meta>,
        }
        if !params.is_object() {
            return Err(Malformed::Shape("`params` must be an object"));
        }
        Ok(params.read::<Params>()?.meta.unwrap_or_default())
    }
}

/// Params as a modern server demands them: version, client and its capabilities spliced into
/// `_meta`.
pub fn to_modern(params: &Raw, capabilities: &Raw, info: &Raw, level: Option<&str>) -> Raw {
    let version = format!("\"{}\"", Version::MODERN);
    let level = level.map(|level| format!("\"{level}\""));
    let mut edits: Vec<(&str, Option<&[u8]>)> = vec![
        (PROTOCOL_VERSION, Some(version.as_bytes())),
        (CLIENT_CAPABILITIES, Some(capabilities.bytes())),
        (CLIENT_INFO, Some(info.bytes())),
    ];
    if let Some(level) = &level {
        edits.push((LOG_LEVEL, Some(level.as_bytes())));
    }
    splice::edit_within(params, "_meta", &edits)
}

/// Params as a legacy server knows them: a dual-era server would take them for modern ones
/// otherwise.
pub fn to_legacy(params: &Raw) -> Raw {
    let gone = [PROTOCOL_VERSION, CLIENT_CAPABILITIES, CLIENT_INFO, LOG_LEVEL];
    let params = splice::edit_within(params, "_meta", &gone.map(|key| (key, None)));
    // `task` means nothing in the modern era; a legacy server would give a task for it.
    let mut edits = vec![("inputResponses", None), ("requestState", None), ("task", None)];
    if splice::member(&params, "_meta").is_some_and(|meta| splice::entries(&meta).is_empty()) {
        edits.push(("_meta", None));
    }
    splice::edit(&params, &edits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modern_marks_come_and_go_and_the_rest_stays() {
        let params = Raw::trusted(r#"{"name":"x","_meta":{"progressToken":7,"vendor":1e999}}"#);
        let info = Raw::trusted(r#"{"name":"t","version":"1"}"#);
        let modern = to_modern(&params, &Raw::object(), &info, Some("debug"));
        let meta = Meta::read(&modern).unwrap();
        assert_eq!(meta.protocol_version.as_deref(), Some("2026-07-28"));
        assert_eq!(meta.log_level.as_deref(), Some("debug"));
        assert_eq!(to_legacy(&modern), params);
        let bare = to_modern(&Raw::trusted(r#"{"name":"x"}"#), &Raw::object(), &info, None);
        assert_eq!(to_legacy(&bare).as_str(), r#"{"name":"x"}"#);
    }
}
