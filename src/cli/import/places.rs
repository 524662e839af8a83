//! Finds the servers of each client within its file.
//!
//! Sources, each as of 2026, of Claude Desktop: <https://modelcontextprotocol.io/quickstart/user>;
//! Claude Code: <https://code.claude.com/docs/en/mcp>; Cursor:
//! <https://cursor.com/docs/context/mcp>; VS Code:
//! <https://code.visualstudio.com/docs/copilot/reference/mcp-configuration>; Windsurf:
//! <https://docs.windsurf.com/windsurf/cascade/mcp>; Cline: <https://docs.cline.bot/mcp>; Roo Code:
//! <https://docs.roocode.com/features/mcp/using-mcp-in-roo>; Kiro:
//! <https://kiro.dev/docs/mcp/configuration>; Zed: <https://zed.dev/docs/ai/mcp>; Gemini CLI:
//! <https://github.com/google-gemini/gemini-cli/blob/main/docs/tools/mcp-server.md>; Copilot:
//! <https://docs.github.com/copilot>; Codex: <https://developers.openai.com/codex/mcp>; Goose:
//! <https://block.github.io/goose/docs/guides/config-files>; Continue:
//! <https://docs.continue.dev/reference>; `LibreChat`:
//! <https://www.librechat.ai/docs/configuration/librechat_yaml/object_structure/mcp_servers>;
//! opencode: <https://opencode.ai/docs/mcp-servers>; Amp: <https://ampcode.com/manual>; the
//! registry:
//! <https://github.com/modelcontextprotocol/registry/tree/main/docs/reference/server-json>.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::{
    document::Format,
    registry,
    server::{ClientKind, FoundServers, Input, text},
};

/// Finds the servers of a file.
pub fn find(root: &Value, format: Format) -> FoundServers {
    let mut places = FoundServers { inputs: inputs(root), ..FoundServers::default() };
    let Some(file) = root.as_object() else {
        registry::list(root, &mut places);
        return places;
    };
    common(file, format, &mut places);
    named(file, &mut places);
    projects(file, &mut places);
    registry::read(root, &mut places);
    if places.servers.is_empty() {
        bare(file, &mut places);
    }
    rules(file, &mut places);
    places
}

/// `mcpServers`, which most have.
fn common(file: &Map<String, Value>, format: Format, places: &mut FoundServers) {
    let servers = file.get("mcpServers");
    let client = match servers {
        Some(Value::Array(_)) => ClientKind::Continue,
        _ if format == Format::Yaml => ClientKind::LibreChat,
        Some(Value::Object(servers)) if is_gemini(file, servers) => ClientKind::Gemini,
        _ => ClientKind::Common,
    };
    let before = places.servers.len();
    places.add(client, servers);
    // Gemini CLI names in `mcp` which of them are in use.
    let listed = |key: &str| file.get("mcp")?.get(key)?.as_array();
    let named = |list: &[Value], name: &str| list.iter().any(|one| one == name);
    for server in places.servers.iter_mut().skip(before) {
        if listed("excluded").is_some_and(|list| named(list, &server.name)) {
            server.off = Some("`mcp.excluded` has it".to_owned());
        }
        if listed("allowed").is_some_and(|list| !named(list, &server.name)) {
            server.off = Some("`mcp.allowed` does not have it".to_owned());
        }
    }
}

/// Tells whether a word that only Gemini CLI has is in the file.
fn is_gemini(file: &Map<String, Value>, servers: &Map<String, Value>) -> bool {
    let own = ["httpUrl", "trust", "includeTools", "excludeTools", "authProviderType"];
    let listed = file.get("mcp").is_some_and(|mcp| {
        ["allowed", "excluded"].iter().any(|key| mcp.get(key).is_some_and(Value::is_array))
    });
    listed || servers.values().any(|server| own.iter().any(|key| server.get(key).is_some()))
}

/// The keys that name their client.
fn named(file: &Map<String, Value>, places: &mut FoundServers) {
    let root = |path: &str| {
        let mut keys = path.split('/');
        let first = file.get(keys.next()?)?;
        keys.try_fold(first, |value, key| value.get(key))
    };
    if let Some(servers @ Value::Object(_)) = root("servers") {
        places.add(ClientKind::VsCode, Some(servers));
    }
    let servers = root("mcp/servers");
    places
        .add(if is_opencode(servers) { ClientKind::OpenCode } else { ClientKind::VsCode }, servers);
    places.add(ClientKind::VsCode, root("customizations/vscode/mcp/servers"));
    places.add(ClientKind::Zed, root("context_servers"));
    places.add(ClientKind::Amp, root("amp.mcpServers"));
    places.add(ClientKind::Amp, root("amp/mcpServers"));
    places.add(ClientKind::Codex, root("mcp_servers"));
    if let Some(Value::Object(mcp)) = root("mcp") {
        let is_server = |value: &Value| {
            ["command", "url", "enabled"].iter().any(|key| value.get(key).is_some())
        };
        let servers = mcp.iter().filter(|(_, value)| is_server(value));
        let servers = servers.map(|(name, value)| (name.clone(), value.clone())).collect();
        places.add(ClientKind::OpenCode, Some(&Value::Object(servers)));
    }
    if let Some(Value::Object(extensions)) = root("extensions") {
        let kinds = ["builtin", "platform", "stdio", "sse", "streamable_http", "frontend"];
        let is_kind = |value: &&Value| {
            text(value, "type").is_some_and(|kind| kinds.contains(&kind) || kind == "inline_python")
        };
        if extensions.values().any(|value| is_kind(&value)) {
            places.add(ClientKind::Goose, root("extensions"));
        }
    }
    places.add(ClientKind::Continue, root("experimental/modelContextProtocolServers"));
}

/// Tells whether servers are written as opencode 2 has them, in the place where VS Code has its
/// own.
fn is_opencode(servers: Option<&Value>) -> bool {
    let servers = servers.and_then(Value::as_object);
    servers.into_iter().flat_map(Map::values).any(|server| {
        server.get("command").is_some_and(Value::is_array)
            || matches!(text(server, "type"), Some("local" | "remote"))
    })
}

/// The servers of Claude Code's projects in `~/.claude.json`.
fn projects(file: &Map<String, Value>, places: &mut FoundServers) {
    let Some(Value::Object(projects)) = file.get("projects") else { return };
    for (path, project) in projects {
        let before = places.servers.len();
        places.add(ClientKind::Common, project.get("mcpServers"));
        let disabled = project.get("disabledMcpServers").and_then(Value::as_array);
        for server in places.servers.iter_mut().skip(before) {
            server.notes.push(format!("is a server of the project {path}"));
            if disabled.is_some_and(|list| list.iter().any(|name| *name == server.name)) {
                server.off = Some(format!("`disabledMcpServers` of {path} has it"));
            }
        }
    }
}

/// A file that is nothing but servers by their names, as plugins of Claude Code have it.
fn bare(file: &Map<String, Value>, places: &mut FoundServers) {
    let is_server = |value: &Value| {
        let of = |key| value.get(key).is_some_and(|value| value.is_string() || value.is_array());
        of("command") || of("url") || of("serverUrl") || of("httpUrl")
    };
    if !file.is_empty() && file.values().all(is_server) {
        places.add(ClientKind::Common, Some(&Value::Object(file.clone())));
    }
}

/// Tools that the file forbids by rules of its own.
fn rules(file: &Map<String, Value>, places: &mut FoundServers) {
    if let Some(Value::Object(tools)) = file.get("tools") {
        of_opencode(tools, places);
    }
    // Amp, and Claude Code: `mcp__server__tool`.
    let lists = [
        file.get("amp.tools.disable"),
        file.get("permissions").and_then(|permissions| permissions.get("deny")),
    ];
    for rule in lists.into_iter().flatten().filter_map(Value::as_array).flatten() {
        let Some(rule) = rule.as_str().and_then(|rule| rule.strip_prefix("mcp__")) else {
            continue;
        };
        for server in &mut places.servers {
            let own = rule.strip_prefix(&plain(&server.name));
            match own.or_else(|| rule.strip_prefix(server.name.as_str())) {
                Some("") => server.denied.push("*".to_owned()),
                Some(tool) => server.denied.extend(tool.strip_prefix("__").map(str::to_owned)),
                None => (),
            }
        }
    }
    for key in ["amp.mcpPermissions", "amp.permissions"] {
        if file.contains_key(key) && !places.servers.is_empty() {
            places.notes.push(format!(
                "`{key}` is not carried over: say what may be called in `tools` of an upstream or \
                 a route, or in `policies`"
            ));
        }
    }
}

/// opencode: `tools = { "server_tool": false }`, where `*` is any run of characters.
fn of_opencode(tools: &Map<String, Value>, places: &mut FoundServers) {
    for (rule, _) in tools.iter().filter(|(_, on)| **on == false) {
        let mut met = false;
        for server in places.servers.iter_mut().filter(|one| one.client == ClientKind::OpenCode) {
            let start = format!("{}_", plain(&server.name));
            let all = rule.strip_suffix('*').is_some_and(|rule| start.starts_with(rule));
            let own = rule.strip_prefix(&start).filter(|_| !all);
            met |= all || own.is_some();
            server.denied.extend(all.then_some("*").or(own).map(str::to_owned));
        }
        let concerned = places.servers.iter().any(|server| server.client == ClientKind::OpenCode);
        if !met && concerned && rule.contains('*') {
            places.notes.push(format!(
                "`tools.{rule}` is not carried over: write it into `tools.deny` of the upstreams \
                 that it is for"
            ));
        }
    }
}

/// A server's name as clients put it before the names of its tools.
fn plain(name: &str) -> String {
    name.replace(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-', "_")
}

/// The questions of VS Code, by the `ID` of `${input:ID}`.
fn inputs(root: &Value) -> HashMap<String, Input> {
    let lists = ["/inputs", "/mcp/inputs", "/customizations/vscode/mcp/inputs"];
    let lists = lists.iter().filter_map(|place| root.pointer(place)?.as_array());
    let of = |input: &Value| {
        let default = text(input, "default").map(str::to_owned);
        let description = text(input, "description").map(str::to_owned);
        Some((text(input, "id")?.to_owned(), Input { description, default }))
    };
    lists.flatten().filter_map(of).collect()
}
