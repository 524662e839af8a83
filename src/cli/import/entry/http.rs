//! Keys of a server that is reached over HTTP.

use serde_json::{Map, Value};

use crate::{
    cli::import::{
        keys::{Meaning, meaning},
        text::{self, TextPosition},
    },
    config::{is_url, is_variable},
};

use super::{reader::EntryReader, settings::seconds};

impl EntryReader<'_> {
    pub(super) fn of_http(&mut self, key: &str, value: &Value) -> bool {
        match (meaning(key), value) {
            (Meaning::Url, Value::String(text)) if !text.is_empty() => self.url(key, text),
            (Meaning::Url, Value::String(_)) => (),
            (Meaning::Headers, Value::Object(table)) => self.headers(key, table),
            (Meaning::HeadersOfVariables, Value::Object(table)) => {
                for (name, variable) in table {
                    match variable.as_str().filter(|variable| is_variable(variable)) {
                        Some(variable) => self.header(name, format!("env:{variable}")),
                        None => return false,
                    }
                }
            }
            (Meaning::BearerOfVariable, Value::String(variable)) if is_variable(variable) => {
                self.header("Authorization", format!("Bearer ${{{variable}}}"));
            }
            (Meaning::Bearer, Value::String(token)) => {
                let token = self.texts.translated(TextPosition::Url, key, token);
                if let Some(token) = token.filter(|token| !token.is_empty()) {
                    self.header("Authorization", format!("Bearer {token}"));
                    self.plain(key, "Authorization", &token);
                }
            }
            (Meaning::Proxy, Value::String(proxy)) => self.proxy(key, proxy),
            (Meaning::Request, Value::Object(options)) => self.request(options),
            _ => return false,
        }
        true
    }

    fn url(&mut self, key: &str, text: &str) {
        let url = self.texts.translated(TextPosition::Url, key, text.trim());
        if self.texts.unknown {
            self.off = Some("its URL has a variable that is none here".to_owned());
        }
        let Some(url) = url else { return };
        if text::certain(&url).is_some_and(|url| !is_url(&url)) {
            self.off = Some("its URL is neither http: nor https:".to_owned());
        }
        match &self.draft.url {
            // Gemini CLI takes `httpUrl` before `url`.
            Some(other) if *other != url && key != "httpUrl" => {
                self.note(key, "there is another address, which is the one that is used");
            }
            _ => self.draft.url = Some(url),
        }
    }

    /// `requestOptions` of Continue.
    fn request(&mut self, options: &Map<String, Value>) {
        for (key, value) in options {
            let path = format!("requestOptions.{key}");
            match (key.as_str(), value) {
                ("headers", Value::Object(table)) => self.headers(&path, table),
                ("timeout", value) if self.draft.calls_take(seconds(value, 1)) => (),
                ("proxy", Value::String(proxy)) => self.proxy(&path, proxy),
                ("caBundlePath", Value::String(path)) => {
                    self.draft.ca = self.texts.translated(TextPosition::Path, "caBundlePath", path);
                }
                ("verifySsl", value) => self.key("verifySsl", value),
                _ => self.unknown(&path, value),
            }
        }
    }

    pub(super) fn proxy(&mut self, key: &str, text: &str) {
        let proxy = self.texts.translated(TextPosition::Url, key, text);
        let proxy = proxy.filter(|proxy| text::certain(proxy).is_none_or(|proxy| is_url(&proxy)));
        if proxy.is_none() {
            self.note(key, "is no address of a proxy");
        }
        self.draft.proxy = proxy;
    }

    fn headers(&mut self, key: &str, table: &Map<String, Value>) {
        table.iter().for_each(|(name, value)| self.pair(key, TextPosition::Header, name, value));
    }

    pub(super) fn header(&mut self, name: &str, value: String) {
        let Ok(valid) = ::http::HeaderName::try_from(name) else {
            self.note("headers", &format!("`{name}` cannot be the name of a header"));
            return;
        };
        let same = |(other, _): &(String, String)| valid.as_str().eq_ignore_ascii_case(other);
        if self.draft.headers.iter().any(same) {
            self.note("headers", &format!("`{name}` stands there twice: the first is kept"));
            return;
        }
        self.draft.headers.push((name.to_owned(), value));
    }
}
