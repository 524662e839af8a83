//! The table of methods: in which eras each exists, what names its target, and whether it may be
//! repeated.

use super::version::Era;

/// A method of the protocol that the gateway knows, requests and notifications alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    Initialize,
    Discover,
    Ping,
    SetLevel,
    Listen,
    ToolsList,
    ToolsCall,
    PromptsList,
    PromptsGet,
    ResourcesList,
    TemplatesList,
    ResourcesRead,
    Subscribe,
    Unsubscribe,
    Complete,
    TasksGet,
    TasksUpdate,
    TasksCancel,
    TasksResult,
    Initialized,
    Cancelled,
    Progress,
    LogMessage,
    RootsListChanged,
    ToolsListChanged,
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    Acknowledged,
    Tasks,
}

/// The member of `params` that says what a request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    Nothing,
    /// `params.name`
    Name,
    /// `params.uri`
    Uri,
    /// `params.taskId` (the tasks extension)
    TaskId,
    /// `params.ref`, a prompt's name or a template's URI
    Reference,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Request,
    Notification,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Eras {
    Legacy,
    Modern,
    Both,
    /// Not by itself in any.
    Neither,
}

/// A row of the table.
struct Row {
    method: Method,
    name: &'static str,
    kind: Kind,
    eras: Eras,
    names: Names,
    /// Repeating it has no effect of its own (a tool's own hints may say more).
    repeatable: bool,
}

const fn request(method: Method, name: &'static str, eras: Eras, names: Names) -> Row {
    let repeatable = !matches!(method, Method::ToolsCall | Method::TasksUpdate);
    Row { method, name, kind: Kind::Request, eras, names, repeatable }
}

const fn notice(method: Method, name: &'static str, eras: Eras) -> Row {
    Row { method, name, kind: Kind::Notification, eras, names: Names::Nothing, repeatable: true }
}

/// The methods in the order of [`Method`]: `table_is_in_order` holds it to that.
const TABLE: &[Row] = &[
    request(Method::Initialize, "initialize", Eras::Legacy, Names::Nothing),
    request(Method::Discover, "server/discover", Eras::Modern, Names::Nothing),
    request(Method::Ping, "ping", Eras::Legacy, Names::Nothing),
    request(Method::SetLevel, "logging/setLevel", Eras::Legacy, Names::Nothing),
    request(Method::Listen, "subscriptions/listen", Eras::Modern, Names::Nothing),
    request(Method::ToolsList, "tools/list", Eras::Both, Names::Nothing),
    request(Method::ToolsCall, "tools/call", Eras::Both, Names::Name),
    request(Method::PromptsList, "prompts/list", Eras::Both, Names::Nothing),
    request(Method::PromptsGet, "prompts/get", Eras::Both, Names::Name),
    request(Method::ResourcesList, "resources/list", Eras::Both, Names::Nothing),
    request(Method::TemplatesList, "resources/templates/list", Eras::Both, Names::Nothing),
    request(Method::ResourcesRead, "resources/read", Eras::Both, Names::Uri),
    request(Method::Subscribe, "resources/subscribe", Eras::Legacy, Names::Uri),
    request(Method::Unsubscribe, "resources/unsubscribe", Eras::Legacy, Names::Uri),
    request(Method::Complete, "completion/complete", Eras::Both, Names::Reference),
    request(Method::TasksGet, "tasks/get", Eras::Modern, Names::TaskId),
    request(Method::TasksUpdate, "tasks/update", Eras::Modern, Names::TaskId),
    request(Method::TasksCancel, "tasks/cancel", Eras::Modern, Names::TaskId),
    // 2025-11-25 has it, and others of these, where a server's own tasks can be used.
    request(Method::TasksResult, "tasks/result", Eras::Neither, Names::TaskId),
    notice(Method::Initialized, "notifications/initialized", Eras::Legacy),
    notice(Method::Cancelled, "notifications/cancelled", Eras::Both),
    notice(Method::Progress, "notifications/progress", Eras::Both),
    notice(Method::LogMessage, "notifications/message", Eras::Both),
    notice(Method::RootsListChanged, "notifications/roots/list_changed", Eras::Legacy),
    notice(Method::ToolsListChanged, "notifications/tools/list_changed", Eras::Both),
    notice(Method::PromptsListChanged, "notifications/prompts/list_changed", Eras::Both),
    notice(Method::ResourcesListChanged, "notifications/resources/list_changed", Eras::Both),
    notice(Method::ResourceUpdated, "notifications/resources/updated", Eras::Both),
    notice(Method::Acknowledged, "notifications/subscriptions/acknowledged", Eras::Modern),
    notice(Method::Tasks, "notifications/tasks", Eras::Modern),
];

impl Method {
    /// A request by its name.
    pub fn request(name: &str) -> Option<Self> {
        Self::find(name, Kind::Request)
    }

    /// A notification by its name.
    pub fn notification(name: &str) -> Option<Self> {
        Self::find(name, Kind::Notification)
    }

    pub fn name(self) -> &'static str {
        self.row().name
    }

    pub fn exists_in(self, era: Era) -> bool {
        match self.row().eras {
            Eras::Both => true,
            Eras::Legacy => era == Era::Legacy,
            Eras::Modern => era == Era::Modern,
            Eras::Neither => false,
        }
    }

    pub fn names(self) -> Names {
        self.row().names
    }

    pub fn is_repeatable(self) -> bool {
        self.row().repeatable
    }

    /// A modern server may answer it with questions (2026-07-28, MRTR).
    pub fn may_require_input(self) -> bool {
        matches!(self, Self::ToolsCall | Self::PromptsGet | Self::ResourcesRead)
    }

    /// Returns whether it is one of the extension of tasks (2026-07-28), or what may lead to a
    /// task.
    pub fn is_of_tasks(self) -> bool {
        matches!(self, Self::ToolsCall | Self::TasksGet | Self::TasksUpdate | Self::TasksCancel)
    }

    fn find(name: &str, kind: Kind) -> Option<Self> {
        TABLE.iter().find(|row| row.name == name && row.kind == kind).map(|row| row.method)
    }

    fn row(self) -> &'static Row {
        TABLE.get(self as usize).expect("a row for every method: table_is_in_order")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_in_order() {
        for (at, row) in TABLE.iter().enumerate() {
            assert_eq!(row.method as usize, at, "{}", row.name);
        }
        assert_eq!(TABLE.len(), Method::Tasks as usize + 1);
    }

    #[test]
    fn a_notification_is_no_request() {
        assert_eq!(Method::request("notifications/cancelled"), None);
        assert_eq!(Method::notification("notifications/cancelled"), Some(Method::Cancelled));
        assert!(!Method::Ping.exists_in(Era::Modern));
    }
}
