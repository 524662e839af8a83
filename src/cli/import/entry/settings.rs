//! Keys that any server may have: whether it is in use, which of its tools are, and its times.

use std::time::Duration;

use serde_json::Value;

use crate::cli::import::{
    keys::{Meaning, meaning},
    server::ClientKind,
};

use super::reader::EntryReader;

impl EntryReader<'_> {
    pub(super) fn switch(&mut self, key: &str, value: &Value) -> bool {
        let on = match value.as_str() {
            Some("true") => true,
            Some("false") => false,
            Some(_) => return false,
            None => match value.as_bool() {
                Some(on) => on,
                None => return false,
            },
        };
        if on == (meaning(key) == Meaning::Disabled) {
            self.off = Some(format!("`{key} = {on}`"));
        }
        true
    }

    pub(super) fn tools(&mut self, key: &str, value: &Value) -> bool {
        match value {
            Value::String(name) => self.listed(key, &[name.as_str()]),
            Value::Array(names) => {
                let texts: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
                self.listed(key, &texts);
                // The part of a list that can be read holds, the more so of what is forbidden.
                return texts.len() == names.len();
            }
            Value::Object(tools) => tools.iter().for_each(|(name, rule)| {
                let off = *rule == false || rule.get("enabled") == Some(&false.into());
                match off {
                    true => self.draft.denied.push(name.clone()),
                    false if rule.is_boolean() => (),
                    false => self.clients_own.push(format!("{key}.{name}")),
                }
            }),
            Value::Null | Value::Bool(_) | Value::Number(_) => return false,
        }
        true
    }

    /// Tools that a list allows or denies.
    fn listed(&mut self, key: &str, names: &[&str]) {
        if meaning(key) == Meaning::Denied {
            self.draft.denied.extend(names.iter().map(|&name| name.to_owned()));
            return;
        }
        // No name means all to Goose, to the others none.
        if names.is_empty() && self.texts.client != ClientKind::Goose {
            self.draft.denied.push("*".to_owned());
        }
        // Copilot writes `*` for all.
        if !names.contains(&"*") {
            // Gemini CLI knows `tool(argument)`, and shows the tool.
            let shown = names.iter().filter_map(|name| name.split('(').next());
            self.draft.allowed.extend(shown.map(str::to_owned));
        }
    }

    pub(super) fn prompts(&mut self, value: &Value) -> bool {
        let Some(names) = value.as_array() else { return false };
        self.draft.denied_prompts.extend(names.iter().filter_map(Value::as_str).map(str::to_owned));
        names.iter().all(Value::is_string)
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the others are no times")]
    pub(super) fn time(&mut self, key: &str, value: &Value) -> bool {
        // opencode has `timeout = { startup, request }`.
        if let (Meaning::Timeout, Value::Object(times)) = (meaning(key), value) {
            return times.iter().all(|(key, value)| match key.as_str() {
                "startup" => self.draft.opens_in(seconds(value, 1000)),
                _ => self.draft.calls_take(seconds(value, 1000)),
            });
        }
        match meaning(key) {
            Meaning::OpenSeconds => self.draft.opens_in(seconds(value, 1)),
            Meaning::OpenMilliseconds => self.draft.opens_in(seconds(value, 1000)),
            Meaning::CallSeconds => self.draft.calls_take(seconds(value, 1)),
            Meaning::CallMilliseconds => self.draft.calls_take(seconds(value, 1000)),
            _ => {
                let per_second = self.unit(value);
                let told = self.draft.calls_take(seconds(value, per_second));
                let uncertain = matches!(self.texts.client, ClientKind::Common | ClientKind::Zed);
                if let (true, true, Some(idle)) = (told, uncertain, &self.draft.idle) {
                    let text = format!("{value} is taken for {} s", idle.as_secs_f64());
                    self.note(key, &text);
                }
                told
            }
        }
    }

    /// The count of units of a client's `timeout` in a second. Cline and Roo count seconds, up to
    /// an hour, and Goose does; all others count milliseconds. Those with `mcpServers` are told
    /// apart by their files and sections, or else by the number.
    fn unit(&self, value: &Value) -> u32 {
        let uncertain = matches!(self.texts.client, ClientKind::Common | ClientKind::Zed);
        let most = if self.counts_seconds { 3600.0 } else { 999.0 };
        let is_small = value.as_f64().is_some_and(|number| number <= most);
        if self.texts.client == ClientKind::Goose || uncertain && is_small { 1 } else { 1000 }
    }
}

/// The number as a time of which `per_second` make a second.
pub fn seconds(value: &Value, per_second: u32) -> Option<Duration> {
    let number = value.as_f64().filter(|number| *number > 0.0)?;
    Duration::try_from_secs_f64(number / f64::from(per_second)).ok()
}
