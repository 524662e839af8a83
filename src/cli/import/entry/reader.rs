//! Reads one server of a client, key by key, into a section of `routes.toml`.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use serde_json::{Map, Value};

use crate::{
    cli::import::{
        draft::Draft,
        keys::{Meaning, TransportKind, VERIFIED, meaning, transport},
        server::{ClientKind, FoundServer, Input},
        text::{TextPosition, Texts},
    },
    config::{is_env_name, is_variable},
};

/// A server as a section of `routes.toml`.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedServer {
    /// The name that the client has for it.
    pub given: String,
    /// Lines of TOML below the header.
    pub lines: Vec<String>,
    /// Why it stands in the file as a comment only.
    pub off: Option<String>,
    pub notes: Vec<String>,
}

/// Reads one server of a file.
pub fn read(
    server: &FoundServer,
    inputs: &HashMap<String, Input>,
    file: Option<&Path>,
) -> ImportedServer {
    let mut entry = ImportedServer {
        given: server.name.clone(),
        lines: Vec::new(),
        off: server.off.clone(),
        notes: server.notes.clone(),
    };
    let Some(section) = flattened(&server.value) else {
        entry.lines.push(comment(&format!("was {}", server.value)));
        entry.off = Some("it is no table of keys".to_owned());
        return entry;
    };
    let read_as = |over_http: bool| {
        let texts = Texts {
            client: server.client,
            own: own_variables(&section),
            of_users: names_of(&section, "customUserVars"),
            inputs,
            file,
            notes: Vec::new(),
            unknown: false,
        };
        let mut reader = EntryReader {
            texts,
            draft: Draft { denied: server.denied.clone(), ..Draft::default() },
            over_http,
            counts_seconds: counts_seconds(&section, file),
            clients_own: Vec::new(),
            comments: Vec::new(),
            off: None,
        };
        section.iter().for_each(|(key, value)| reader.key(key, value));
        reader
    };
    let mut reader = read_as(over_http(&section));
    // Its command was none, such as a table or a variable that nobody knows.
    if reader.draft.command.is_none() && reader.draft.url.is_some() && !reader.over_http {
        reader = read_as(true);
    }
    reader.finish(&section, &mut entry);
    entry
}

/// The section, with what some clients nest in it beside its other keys.
fn flattened(value: &Value) -> Option<Map<String, Value>> {
    let mut section = value.as_object()?.clone();
    // Continue has `transport = { type, … }`, Goose had `config`, Zed `command = { path, … }`.
    for key in ["transport", "config"] {
        if let Some(Value::Object(inner)) = section.get(key).cloned() {
            section.remove(key);
            inner.into_iter().for_each(|(key, value)| _ = section.entry(key).or_insert(value));
        }
    }
    if let Some(Value::Object(mut inner)) = section.get("command").cloned() {
        if let Some(path) = inner.remove("path") {
            section.insert("command".to_owned(), path);
        }
        inner.into_iter().for_each(|(key, value)| _ = section.entry(key).or_insert(value));
    }
    Some(section)
}

fn own_variables(section: &Map<String, Value>) -> HashMap<String, String> {
    let tables = ["env", "envs", "environment"];
    let tables = tables.iter().filter_map(|key| section.get(*key)?.as_object());
    let given = tables.flatten().filter_map(|(name, value)| Some((name.clone(), scalar(value)?)));
    // The key ring of Goose has the others.
    let kept = names_in(section.get("env_keys")).filter(|name| is_variable(name));
    let kept = kept.map(|name| (name.clone(), format!("${{{name}}}")));
    kept.chain(given).collect()
}

fn names_of(section: &Map<String, Value>, key: &str) -> HashSet<String> {
    let table = section.get(key).and_then(Value::as_object);
    table.map(|table| table.keys().cloned().collect()).unwrap_or_default()
}

/// Names of variables, in a list of texts or of tables with `name`.
pub(super) fn names_in(list: Option<&Value>) -> impl Iterator<Item = String> {
    let list = list.and_then(Value::as_array).into_iter().flatten();
    let name = |one: &Value| one.as_str().or_else(|| one.get("name")?.as_str()).map(str::to_owned);
    list.filter_map(name)
}

/// Tells whether it is reached over HTTP: it has an address and no command.
fn over_http(section: &Map<String, Value>) -> bool {
    let has = |wanted: Meaning| {
        section.iter().any(|(key, value)| {
            let empty = value.as_str() == Some("") || value.is_null();
            meaning(key) == wanted && !empty
        })
    };
    has(Meaning::Url) && !has(Meaning::Command)
}

/// Tells whether the file or the section is one of Cline or Roo.
fn counts_seconds(section: &Map<String, Value>, file: Option<&Path>) -> bool {
    let file = file.map(|file| file.to_string_lossy().to_lowercase()).unwrap_or_default();
    let path = ["cline", ".roo/", "mcp_settings.json"].iter().any(|word| file.contains(word));
    let own = ["alwaysAllow", "watchPaths", "transportType"];
    path || own.iter().any(|key| section.contains_key(*key))
}

/// Reads the keys of one section.
pub(super) struct EntryReader<'a> {
    pub(super) texts: Texts<'a>,
    pub(super) draft: Draft,
    pub(super) over_http: bool,
    pub(super) counts_seconds: bool,
    /// Keys that stay a matter of the client.
    pub(super) clients_own: Vec<String>,
    comments: Vec<String>,
    pub(super) off: Option<String>,
}

impl EntryReader<'_> {
    pub(super) fn key(&mut self, key: &str, value: &Value) {
        if value.is_null() {
            return;
        }
        let known = match meaning(key) {
            Meaning::Look => true,
            Meaning::Client => {
                self.clients_own.extend((!is_nothing(value)).then(|| key.to_owned()));
                true
            }
            // The value true of these keys says nothing.
            Meaning::Lost(VERIFIED) if *value == true => true,
            Meaning::Lost(why) if why != VERIFIED && is_nothing(value) => true,
            Meaning::Lost(instead) => {
                self.note(key, instead);
                self.comment(key, value);
                true
            }
            Meaning::Kind => self.kind(value),
            Meaning::Disabled | Meaning::Enabled => self.switch(key, value),
            Meaning::Startup => {
                self.draft.lazy = *value == false;
                value.is_boolean()
            }
            Meaning::Allowed | Meaning::Denied => self.tools(key, value),
            Meaning::DeniedPrompts => self.prompts(value),
            Meaning::Timeout
            | Meaning::CallSeconds
            | Meaning::CallMilliseconds
            | Meaning::OpenSeconds
            | Meaning::OpenMilliseconds => self.time(key, value),
            Meaning::UserValues => value.is_object(),
            _ if !self.fits(key) => {
                self.unfit(key, value);
                true
            }
            Meaning::Command | Meaning::Arguments | Meaning::Folder => self.of_process(key, value),
            Meaning::Variables | Meaning::PassedVariables => {
                if self.over_http {
                    return;
                }
                self.variables(key, value)
            }
            Meaning::Url
            | Meaning::Headers
            | Meaning::HeadersOfVariables
            | Meaning::BearerOfVariable
            | Meaning::Bearer
            | Meaning::Proxy
            | Meaning::Request => self.of_http(key, value),
            Meaning::Unknown => false,
        };
        if !known {
            self.unknown(key, value);
        }
    }

    /// Tells whether the key belongs to a server that is reached as this one is. With both a
    /// command and an address there is something to choose, which is said elsewhere.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the other keys belong to any server")]
    fn fits(&self, key: &str) -> bool {
        match meaning(key) {
            Meaning::Arguments | Meaning::Folder => !self.over_http,
            // The variables of a server over HTTP are what its headers refer to.
            Meaning::Variables | Meaning::PassedVariables => {
                !self.over_http || self.texts.client == ClientKind::Goose
            }
            Meaning::Headers
            | Meaning::HeadersOfVariables
            | Meaning::BearerOfVariable
            | Meaning::Bearer
            | Meaning::Proxy
            | Meaning::Request => self.over_http,
            _ => true,
        }
    }

    fn unfit(&mut self, key: &str, value: &Value) {
        if !is_nothing(value) {
            let kind =
                if self.over_http { "that is reached over HTTP" } else { "that is a process" };
            self.note(key, &format!("means nothing for a server {kind}"));
            self.comment(key, value);
        }
    }

    /// Reads one variable or one header.
    pub(super) fn pair(&mut self, table: &str, place: TextPosition, name: &str, value: &Value) {
        let key = format!("{table}.{name}");
        let valid = match place == TextPosition::Header {
            true => ::http::HeaderName::try_from(name).is_ok(),
            false => is_env_name(name),
        };
        let Some(text) = scalar(value).filter(|_| valid) else {
            self.unknown(&key, value);
            return;
        };
        let Some(translated) = self.texts.translated(place, &key, &text) else {
            self.comment(&key, value);
            return;
        };
        self.plain(table, name, &translated);
        match place == TextPosition::Header {
            true => self.header(name, translated),
            false => self.variable(name, translated),
        }
    }

    /// Notes a secret that is written out.
    pub(super) fn plain(&mut self, table: &str, name: &str, text: &str) {
        let kept =
            text.contains("${") || ["env:", "file:"].iter().any(|mark| text.starts_with(mark));
        if is_secret(name) && !text.is_empty() && !kept {
            self.note(
                &format!("{table}.{name}"),
                "stands in the file in plain; \"env:NAME\" or \"file:PATH\" would keep it \
                 elsewhere",
            );
        }
    }

    fn kind(&mut self, value: &Value) -> bool {
        let Some(kind) = value.as_str() else { return false };
        match transport(kind) {
            Some(transport) => {
                self.draft.sse |= transport == TransportKind::Sse;
                true
            }
            None if ["builtin", "platform", "frontend", "inline_python"].contains(&kind) => {
                self.off = Some(format!("`{kind}` is part of Goose itself"));
                true
            }
            None if ["ws", "websocket"].contains(&kind) => {
                self.off = Some("the gate speaks no WebSocket to servers".to_owned());
                true
            }
            None => kind.is_empty(),
        }
    }

    pub(super) fn unknown(&mut self, key: &str, value: &Value) {
        self.note(key, "is not known to Tollgate, and has no effect");
        self.comment(key, value);
    }

    pub(super) fn comment(&mut self, key: &str, value: &Value) {
        self.comments.push(comment(&format!("not carried over: {key} = {value}")));
    }

    pub(super) fn note(&mut self, key: &str, text: &str) {
        self.texts.notes.push(format!("`{key}`: {text}"));
    }

    fn finish(mut self, section: &Map<String, Value>, entry: &mut ImportedServer) {
        let nothing = match (&self.draft.command, &self.draft.url) {
            (Some(_), Some(_)) => Some("it has both a command and an address: keep one"),
            (None, None) => Some("it has neither a command nor an address"),
            _ => None,
        };
        if let Some(wrapper) = self.draft.wrapper() {
            self.note("command", wrapper);
        }
        if !self.clients_own.is_empty() {
            let keys: Vec<_> = self.clients_own.iter().map(|key| format!("`{key}`")).collect();
            self.texts.notes.push(format!("left to the client: {}", keys.join(", ")));
        }
        let off = entry.off.take().or(self.off);
        entry.off = off.or_else(|| nothing.map(str::to_owned));
        if entry.off.is_some() && section.is_empty() {
            entry.off = Some("it is empty".to_owned());
        }
        entry.lines = self.draft.lines();
        entry.lines.append(&mut self.comments);
        let mut seen = HashSet::new();
        entry.notes.append(&mut self.texts.notes);
        entry.notes.retain(|note| seen.insert(note.clone()));
    }
}

/// Tells whether a key that cannot be carried over says nothing: `oauth = false`, `env_keys = []`.
pub(super) fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(table) => table.is_empty(),
        Value::Number(_) => false,
    }
}

/// A comment of one line.
pub(super) fn comment(text: &str) -> String {
    format!("# {}", text.replace(char::is_control, " "))
}

/// Tells whether what is called so is likely to be a secret.
pub(super) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let words = ["TOKEN", "KEY", "SECRET", "PASSWORD", "AUTHORIZATION"];
    name.split(['_', '-']).any(|part| words.iter().any(|word| part.ends_with(word)))
}

pub(super) fn is_scalar(value: &Value) -> bool {
    scalar(value).is_some()
}

pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
