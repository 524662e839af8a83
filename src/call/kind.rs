//! Kinds of things that are listed, and what can be done with them.

use crate::mcp::method::Method;

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

    /// The name of one entry, for people and for sections of the configuration.
    pub fn entry_name(self) -> &'static str {
        match self {
            Self::Tools => "tool",
            Self::Prompts => "prompt",
            Self::Resources => "resource",
            Self::Templates => "template",
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
    /// Seeing it.
    List,
    Call,
    Get,
    Read,
    Complete,
}

impl Action {
    pub const ALL: [Self; 5] = [Self::List, Self::Call, Self::Get, Self::Read, Self::Complete];

    /// Returns the name as policies have it.
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

    /// Returns the name as policies have it.
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
