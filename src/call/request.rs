//! A request on its way to one upstream.

use std::{fmt, sync::Arc, time::Duration};

use http::HeaderMap;

use crate::mcp::{meta::TASKS, method::Method, params::Params, raw::Raw, splice};

use super::{
    caller::{Caller, SessionKey},
    client::Client,
    names::ReplicaId,
    presence,
    spans::{CallSpans, SpanGuard, Stage},
};

/// A request on its way to one upstream, in the words of the client that sent it.
#[derive(Debug, Clone)]
pub struct UpstreamRequest {
    pub method: Method,
    /// The params as the client sent them, but for the target's own name.
    pub params: Params,
    /// The target's own name, URI or task: what `Mcp-Name` says.
    pub name: Option<String>,
    /// `Mcp-Param-*` headers: names and decoded values.
    pub mirrored: Vec<(String, String)>,
    pub caller: Caller,
    pub client: Arc<Client>,
    pub session: Option<SessionKey>,
    /// Whether the session's client listens outside of calls.
    pub presence: Option<Arc<presence::Presence>>,
    /// The client reads a stream while it waits, in which it can be asked.
    pub streams: bool,
    /// A legacy server takes it only as a task (2025-11-25, tasks).
    pub as_task: bool,
    /// Headers of the client's request, as far as some upstream is to have them.
    pub forwarded: Option<Arc<HeaderMap>>,
    /// Level that a legacy client set by `logging/setLevel`, or a modern one wants of this request.
    pub log_level: Option<String>,
    /// Whether it may be sent a second time.
    pub safe: bool,
    /// Silence after which another replica is asked too, where it is safe.
    pub hedge: Option<Duration>,
    /// The replica that knows what it is about, of several.
    pub replica: Option<ReplicaId>,
    /// The spans of the call's trace; none where it is not traced.
    pub spans: Option<Arc<CallSpans>>,
}

/// Subject of a request, as far as its failures may be its own and not those of its whole server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject<'a> {
    Tool(&'a str),
    Prompt(&'a str),
    /// A resource by its URI.
    Resource(&'a str),
    Other,
}

impl<'a> From<Option<&'a str>> for Subject<'a> {
    fn from(tool: Option<&'a str>) -> Self {
        tool.map_or(Self::Other, Self::Tool)
    }
}

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tool(name) => f.write_str(name),
            Self::Prompt(name) => write!(f, "prompt {name}"),
            Self::Resource(uri) => write!(f, "resource {uri}"),
            Self::Other => Ok(()),
        }
    }
}

impl UpstreamRequest {
    /// The subject: a tool, a prompt or a resource.
    pub fn subject(&self) -> Subject<'_> {
        match (self.method, self.name.as_deref()) {
            (Method::ToolsCall, Some(name)) => Subject::Tool(name),
            (Method::PromptsGet, Some(name)) => Subject::Prompt(name),
            (Method::ResourcesRead, Some(uri)) => Subject::Resource(uri),
            _ => Subject::Other,
        }
    }

    /// Begins the span of a stage of the call; none where it is not traced.
    pub fn stage(&self, stage: Stage) -> Option<SpanGuard> {
        self.spans.as_ref()?.stage(stage)
    }

    /// The tool that is called; none where it is about anything else.
    pub fn tool(&self) -> Option<&str> {
        self.name.as_deref().filter(|_| self.method == Method::ToolsCall)
    }

    /// Capabilities of a legacy client, as a modern server with `server` capabilities is shown
    /// them. A client that reads no stream can be asked nothing; for one that does the gate brings
    /// tasks to their end.
    pub fn capabilities_for_modern(&self, server: &Raw) -> Raw {
        if !self.streams {
            return Raw::object();
        }
        let shown = self.client.capabilities_for_modern();
        if !self.method.is_of_tasks() || splice::at(server, &["extensions", TASKS]).is_none() {
            return shown;
        }
        splice::edit_within(&shown, "extensions", &[(TASKS, Some(b"{}"))])
    }
}
