//! The words of one call: who asks, what is listed, what happens on the way back, and the clock.

pub mod clock;
pub mod event;
mod identity;
pub mod machine;
pub mod presence;
pub mod tasks;
mod trace;

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use http::HeaderMap;

use crate::mcp::{
    meta::TASKS,
    method::Method,
    raw::Raw,
    splice,
    version::{Era, Version},
};

pub use self::{
    identity::{Identity, Token},
    trace::{CallId, TraceId},
};

/// A client as it declares itself: by `initialize`, or in the `_meta` of each request.
#[derive(Debug, Clone)]
pub struct Client {
    pub version: Version,
    /// A `ClientCapabilities` object.
    pub capabilities: Raw,
    /// An `Implementation` object; self-reported, never a ground for a decision.
    pub info: Raw,
}

impl Client {
    /// The gateway itself, as upstreams see it where no client stands behind a request.
    pub fn gateway(version: Version) -> Self {
        Self { version, capabilities: Raw::object(), info: gateway_info() }
    }

    /// The gateway as a client that can be asked everything: to learn what a server lists for such
    /// a one.
    pub fn fully_capable() -> Self {
        let capabilities =
            r#"{"sampling":{},"elicitation":{"form":{},"url":{}},"roots":{"listChanged":true}}"#;
        Self { capabilities: Raw::trusted(capabilities), ..Self::gateway(Version::LEGACY_LATEST) }
    }

    pub fn era(&self) -> Era {
        self.version.era()
    }

    /// Its capabilities as a modern server is shown them: what that can ask, and nothing else.
    pub fn capabilities_for_modern(&self) -> Raw {
        if self.era() == Era::Modern {
            return self.capabilities.clone();
        }
        let mut shown = Raw::object();
        for key in ["sampling", "elicitation"] {
            let value = splice::member(&self.capabilities, key).filter(Raw::is_object);
            shown = splice::edit(&shown, &[(key, value.as_ref().map(|value| &value.bytes()[..]))]);
        }
        // `listChanged` went with the sessions.
        let roots = splice::member(&self.capabilities, "roots").map(|_| &b"{}"[..]);
        splice::edit(&shown, &[("roots", roots)])
    }

    /// Its capabilities as a legacy server is shown them: extensions are negotiated otherwise
    /// there.
    pub fn capabilities_for_legacy(&self) -> Raw {
        match self.era() {
            Era::Legacy => self.capabilities.clone(),
            Era::Modern => splice::edit(&self.capabilities, &[("extensions", None)]),
        }
    }

    /// Whether it takes a task in place of a result (2026-07-28, the extension of tasks).
    pub fn takes_tasks(&self) -> bool {
        self.era() == Era::Modern
            && splice::at(&self.capabilities, &["extensions", TASKS]).is_some()
    }

    /// Its own `Implementation` object, or the gate's: a modern client need not name itself, and a
    /// legacy server wants to know.
    pub fn info_or_default(&self) -> Raw {
        let is_named = splice::member(&self.info, "name").is_some();
        if is_named { self.info.clone() } else { gateway_info() }
    }

    /// Whether it can be asked something in mid-call: sampling, elicitation or roots.
    pub fn can_be_asked(&self) -> bool {
        #[derive(serde::Deserialize)]
        struct Capabilities {
            sampling: Option<serde::de::IgnoredAny>,
            elicitation: Option<serde::de::IgnoredAny>,
            roots: Option<serde::de::IgnoredAny>,
        }
        self.capabilities.try_read::<Capabilities>().is_some_and(|has| {
            has.sampling.is_some() || has.elicitation.is_some() || has.roots.is_some()
        })
    }
}

/// Tollgate's own `Implementation` object.
pub fn gateway_info() -> Raw {
    Raw::trusted(concat!(
        r#"{"name":"tollgate","title":"Tollgate","version":""#,
        env!("CARGO_PKG_VERSION"),
        r#""}"#
    ))
}

/// Who a request is from, as far as the gate knows: parked calls and leased connections are bound
/// to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Caller {
    /// Without authentication: the address it comes from.
    Address(IpAddr),
    /// Whoever started this gate, and speaks to it over its standard input and output.
    Parent,
    /// Somebody who proved who they are.
    Known(Arc<Identity>),
}

impl Caller {
    /// The token that it came with, where it was one.
    pub fn token(&self) -> Option<&Token> {
        match self {
            Self::Known(known) => known.token.as_ref(),
            Self::Address(_) | Self::Parent => None,
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "address {address}"),
            Self::Parent => f.write_str("parent"),
            // Names and issuers have no spaces: nobody's subject makes another's text.
            Self::Known(known) => {
                write!(f, "known {} {} {}", known.authority, known.issuer, known.subject)
            }
        }
    }
}

/// A legacy session of a client, by the random number sealed in its id.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionKey(pub u128);

impl SessionKey {
    /// Half of it: random, too.
    pub fn number(self) -> u64 {
        u64::try_from(self.0 >> 64).unwrap_or_default()
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}…", self.0 >> 96)
    }
}

/// A request on its way to one upstream, in the words of the client that sent it.
#[derive(Debug, Clone)]
pub struct UpstreamRequest {
    pub method: Method,
    /// As the client sent them, but for the target's own name.
    pub params: Raw,
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
    /// Which of several replicas knows what it is about.
    pub replica: Option<u64>,
}

/// Subject of a request, as far as its failures may be its own and not those of its whole server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject<'a> {
    Tool(&'a str),
    Prompt(&'a str),
    /// By its URI.
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

/// The four lists of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ListKind {
    Tools,
    Prompts,
    Resources,
    Templates,
}

impl ListKind {
    pub const ALL: [Self; 4] = [Self::Tools, Self::Prompts, Self::Resources, Self::Templates];

    pub fn of(method: Method) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.method() == method)
    }

    pub fn method(self) -> Method {
        match self {
            Self::Tools => Method::ToolsList,
            Self::Prompts => Method::PromptsList,
            Self::Resources => Method::ResourcesList,
            Self::Templates => Method::TemplatesList,
        }
    }

    /// The member of the result that holds the entries.
    pub fn member(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::Templates => "resourceTemplates",
        }
    }

    /// The member of an entry that identifies it.
    pub fn key(self) -> &'static str {
        match self {
            Self::Tools | Self::Prompts => "name",
            Self::Resources => "uri",
            Self::Templates => "uriTemplate",
        }
    }

    /// The server capability it needs.
    pub fn capability(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources | Self::Templates => "resources",
        }
    }

    /// The notification that says it changed; templates share that of resources.
    pub fn changed(self) -> Method {
        match self {
            Self::Tools => Method::ToolsListChanged,
            Self::Prompts => Method::PromptsListChanged,
            Self::Resources | Self::Templates => Method::ResourcesListChanged,
        }
    }
}

/// Action that a caller wants to do with a tool, a prompt or a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// To see it.
    List,
    Call,
    Get,
    Read,
    Complete,
}

impl Action {
    pub const ALL: [Self; 5] = [Self::List, Self::Call, Self::Get, Self::Read, Self::Complete];

    /// As policies have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Call => "call",
            Self::Get => "get",
            Self::Read => "read",
            Self::Complete => "complete",
        }
    }
}

/// Kind of thing that something is done with; templates are resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectKind {
    Tool,
    Prompt,
    Resource,
}

impl ObjectKind {
    pub const ALL: [Self; 3] = [Self::Tool, Self::Prompt, Self::Resource];

    pub fn of(list: ListKind) -> Self {
        match list {
            ListKind::Tools => Self::Tool,
            ListKind::Prompts => Self::Prompt,
            ListKind::Resources | ListKind::Templates => Self::Resource,
        }
    }

    /// As policies have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tool => "Tool",
            Self::Prompt => "Prompt",
            Self::Resource => "Resource",
        }
    }

    /// The action that it is there for.
    pub fn use_of(self) -> Action {
        match self {
            Self::Tool => Action::Call,
            Self::Prompt => Action::Get,
            Self::Resource => Action::Read,
        }
    }

    /// Whether this can be done with it.
    pub fn takes(self, action: Action) -> bool {
        match action {
            Action::List => true,
            Action::Complete => self != Self::Tool,
            Action::Call | Action::Get | Action::Read => self.use_of() == action,
        }
    }
}
