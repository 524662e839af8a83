//! The keys of clients' servers, with what each means: those that are read and those that are not.

/// The meaning of a key of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    Command,
    Arguments,
    Variables,
    Folder,
    Url,
    Headers,
    /// Headers whose values are names of variables.
    HeadersOfVariables,
    /// The name of the variable that has a bearer token.
    BearerOfVariable,
    Bearer,
    /// Names of variables that the process is given.
    PassedVariables,
    Kind,
    /// True where the server is not in use.
    Disabled,
    /// False where the server is not in use.
    Enabled,
    /// False where it is opened by its first call only.
    Startup,
    Allowed,
    Denied,
    DeniedPrompts,
    /// The time that a call may take, in a unit that depends on the client.
    Timeout,
    CallSeconds,
    CallMilliseconds,
    OpenSeconds,
    OpenMilliseconds,
    Proxy,
    /// Keys of a request, of which headers and others are read.
    Request,
    /// The values that users give, by their names.
    UserValues,
    /// A matter of how it looks in the client: nothing is lost.
    Look,
    /// A matter between the client and its user, such as which calls it asks about.
    Client,
    /// A key that changes what the server does and cannot be carried over, with what to do instead.
    Lost(&'static str),
    Unknown,
}

const LOGIN: &str = "the gate opens no browser to log in: a token that it may show goes into \
    `headers`, and `credential` gets one from an issuer";
const ENV_FILE: &str = "the gate reads no such file: write its variables under `env`, each with \
    its value or with \"env:NAME\" or \"file:PATH\", where that is kept";
const HELPER: &str = "the gate runs no program for headers: `credential` gets tokens that expire, \
    and \"file:PATH\" in `headers` is read again when the file changes";
/// The note on keys by which a client leaves out that a server's certificate is verified.
pub const VERIFIED: &str = "certificates are always verified: `ca = \"PATH\"` names those of a \
    private authority";
const SANDBOX: &str = "the gate runs the command as it is: what must be fenced in is started \
    through a program that does so, such as docker";

/// Looks up what a key means.
pub fn meaning(key: &str) -> Meaning {
    match key {
        "command" | "cmd" => Meaning::Command,
        "args" => Meaning::Arguments,
        "env" | "envs" | "environment" => Meaning::Variables,
        "cwd" => Meaning::Folder,
        "url" | "serverUrl" | "httpUrl" | "uri" | "baseUrl" | "endpoint" => Meaning::Url,
        "headers" | "http_headers" => Meaning::Headers,
        "env_http_headers" => Meaning::HeadersOfVariables,
        "bearer_token_env_var" => Meaning::BearerOfVariable,
        "bearer_token" | "apiKey" => Meaning::Bearer,
        "env_vars" | "env_keys" => Meaning::PassedVariables,
        "type" | "transport" | "transportType" => Meaning::Kind,
        "disabled" => Meaning::Disabled,
        "enabled" | "isActive" | "active" => Meaning::Enabled,
        "startup" => Meaning::Startup,
        "includeTools" | "enabledTools" | "enabled_tools" | "tools" | "available_tools"
        | "allowedTools" | "allowed_tools" => Meaning::Allowed,
        "excludeTools" | "disabledTools" | "disabled_tools" | "excludedTools" => Meaning::Denied,
        "timeout" => Meaning::Timeout,
        "tool_timeout_sec" => Meaning::CallSeconds,
        "request" | "tool_timeout_ms" => Meaning::CallMilliseconds,
        "startup_timeout_sec" => Meaning::OpenSeconds,
        "startup_timeout_ms" | "initTimeout" | "connectionTimeout" => Meaning::OpenMilliseconds,
        "proxy" => Meaning::Proxy,
        "requestOptions" => Meaning::Request,
        "customUserVars" => Meaning::UserValues,
        "name" | "display_name" | "displayName" | "serverName" | "title" | "description"
        | "icon" | "icons" | "iconPath" | "faviconUrl" | "bundled" | "sourceFile" | "version"
        | "gallery" | "source" | "remote" | "note" | "comment" | "available" => Meaning::Look,
        "autoApprove"
        | "alwaysAllow"
        | "trust"
        | "default_tools_approval_mode"
        | "approvalMode"
        | "watchPaths"
        | "dev"
        | "alwaysLoad"
        | "required"
        | "supports_parallel_tool_calls"
        | "serverInstructions"
        | "chatMenu"
        | "stderr"
        | "filterMapping" => Meaning::Client,
        "disabledPrompts" => Meaning::DeniedPrompts,
        _ if key.starts_with(['_', '$', '/', '#']) => Meaning::Look,
        _ => lost(key).map_or(Meaning::Unknown, Meaning::Lost),
    }
}

/// Says what to do in place of a key that cannot be carried over; none where it is not known.
fn lost(key: &str) -> Option<&'static str> {
    Some(match key {
        "envFile" => ENV_FILE,
        "headersHelper" => HELPER,
        "oauth"
        | "auth"
        | "authorization"
        | "requiresOAuth"
        | "scopes"
        | "oauthScopes"
        | "oauth_resource"
        | "oauthClientId"
        | "oauthPublicClient"
        | "authProviderType"
        | "targetAudience"
        | "targetServiceAccount" => LOGIN,
        "obo" => "`credential = { kind = \"token_exchange\", … }` shows a token for the caller",
        "sandbox" | "sandboxEnabled" => SANDBOX,
        "settings" => "an extension of Zed reads them: start its server yourself",
        "sseReadTimeout" => "`timeout = { idle = \"5m\" }` bounds a stream's silence",
        "verifySsl" | "rejectUnauthorized" => VERIFIED,
        "experimental_environment" => "the gate runs servers on its own machine",
        _ => return None,
    })
}

/// The transport that a client's word stands for; none for those that the gate does not have.
pub fn transport(kind: &str) -> Option<TransportKind> {
    match kind {
        "stdio" | "local" | "custom" => Some(TransportKind::Process),
        "http" | "streamable-http" | "streamableHttp" | "streamable_http" | "remote" => {
            Some(TransportKind::Http)
        }
        "sse" => Some(TransportKind::Sse),
        _ => None,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportKind {
    Process,
    /// Streamable HTTP; a server that does not speak it is found out when it is opened.
    Http,
    Sse,
}
