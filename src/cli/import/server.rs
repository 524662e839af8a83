//! The servers of a client's file, before they are read.

use std::collections::HashMap;

use serde_json::Value;

/// A kind of client, as far as its servers are read otherwise than those of another kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientKind {
    /// `mcpServers` of JSON: Claude, Cursor, Windsurf, Cline, Roo, Kiro, Copilot and more.
    Common,
    /// `mcpServers` of JSON with the words of Gemini CLI, whose texts have `$NAME`, too.
    Gemini,
    VsCode,
    Zed,
    OpenCode,
    Amp,
    Codex,
    Goose,
    Continue,
    LibreChat,
    /// A `server.json`, whose texts were translated when it was read.
    Registry,
}

/// A question that VS Code asks its user for the value of `${input:ID}`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Input {
    pub description: Option<String>,
    pub default: Option<String>,
}

/// A server as its client has it.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundServer {
    pub client: ClientKind,
    pub name: String,
    pub value: Value,
    /// Tools that the file denies outside of the server's own section.
    pub denied: Vec<String>,
    /// Why it is not in use, where that stands outside of its own section.
    pub off: Option<String>,
    pub notes: Vec<String>,
}

/// The servers of a file, and what its reader should know.
#[derive(Debug, Default)]
pub struct FoundServers {
    pub servers: Vec<FoundServer>,
    pub inputs: HashMap<String, Input>,
    /// Notes that concern the file as a whole.
    pub notes: Vec<String>,
}

impl FoundServers {
    /// Adds a table or a list of servers.
    pub fn add(&mut self, client: ClientKind, servers: Option<&Value>) {
        match servers {
            Some(Value::Object(servers)) => {
                self.servers.extend(servers.iter().map(|(name, value)| FoundServer {
                    client,
                    name: name.clone(),
                    value: value.clone(),
                    denied: Vec::new(),
                    off: None,
                    notes: Vec::new(),
                }));
            }
            Some(Value::Array(servers)) => {
                self.servers.extend(servers.iter().map(|value| FoundServer {
                    client,
                    name: text(value, "name").unwrap_or("server").to_owned(),
                    value: value.clone(),
                    denied: Vec::new(),
                    off: None,
                    notes: Vec::new(),
                }));
            }
            _ => (),
        }
    }
}

/// The text of a key, if it has one that is not empty.
pub fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
}
