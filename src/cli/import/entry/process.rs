//! Keys of a server that is a process.

use serde_json::Value;

use crate::{
    cli::import::{
        keys::{Meaning, meaning},
        server::ClientKind,
        text::{self, TextPosition},
    },
    config::is_variable,
};

use super::reader::{EntryReader, is_scalar, names_in, scalar};

impl EntryReader<'_> {
    pub(super) fn of_process(&mut self, key: &str, value: &Value) -> bool {
        match (meaning(key), value) {
            (Meaning::Command, Value::String(text)) => {
                self.command(key, text);
            }
            // opencode has the command and its arguments in one list.
            (Meaning::Command, Value::Array(words)) if words.iter().all(is_scalar) => {
                let mut words = words.iter().filter_map(scalar);
                self.command(key, &words.next().unwrap_or_default());
                let args = words
                    .filter_map(|word| self.texts.translated(TextPosition::Argument, key, &word));
                let args: Vec<String> = args.collect();
                self.draft.args.splice(..0, args);
            }
            (Meaning::Arguments, Value::Array(words)) if words.iter().all(is_scalar) => {
                let words = words.iter().filter_map(scalar);
                let args = words
                    .filter_map(|word| self.texts.translated(TextPosition::Argument, key, &word));
                let args: Vec<String> = args.collect();
                self.draft.args.extend(args);
            }
            (Meaning::Folder, Value::String(text)) => {
                self.draft.cwd = self.texts.translated(TextPosition::Path, key, text);
                if !text.starts_with(['/', '~', '$']) {
                    self.note(key, "a relative folder begins beside routes.toml here");
                }
            }
            _ => return false,
        }
        true
    }

    fn command(&mut self, key: &str, text: &str) {
        let command = self.texts.translated(TextPosition::Command, key, text);
        let is_empty = |text: &String| text::certain(text).is_some_and(|text| text.is_empty());
        self.draft.command = command.filter(|command| !is_empty(command));
    }

    pub(super) fn variables(&mut self, key: &str, value: &Value) -> bool {
        match value {
            Value::Object(table) => {
                for (name, value) in table {
                    self.pair(key, TextPosition::Variable, name, value);
                }
                true
            }
            Value::Array(_) => {
                names_in(Some(value)).for_each(|name| self.passed(key, &name));
                true
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        }
    }

    /// A variable of the client's own environment that the process is given.
    fn passed(&mut self, key: &str, name: &str) {
        if !is_variable(name) {
            self.note(key, &format!("`{name}` is no name of a variable"));
            return;
        }
        if self.texts.client == ClientKind::Goose {
            self.note(key, &format!("Goose kept `{name}`: set the variable {name}"));
        }
        self.variable(name, format!("env:{name}"));
    }

    pub(super) fn variable(&mut self, name: &str, value: String) {
        if self.draft.env.iter().any(|(other, _)| other == name) {
            self.note("env", &format!("`{name}` stands there twice: the first is kept"));
            return;
        }
        self.draft.env.push((name.to_owned(), value));
    }
}
