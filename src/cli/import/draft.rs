//! A server's section of `routes.toml` while it is put together.

use std::time::Duration;

use toml_edit::{Array, Key, Value};

/// The longest `timeout.open`.
const OPEN_MAX: Duration = Duration::from_secs(60 * 60);
/// The longest `timeout.idle`.
const IDLE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The least that a time of `timeout` may be.
const TIME_MIN: Duration = Duration::from_millis(10);
/// The default of `timeout.total`.
const TOTAL: Duration = Duration::from_secs(10 * 60);

/// The keys of one server, each as a text in the language of `routes.toml`.
#[derive(Debug, Default)]
pub struct Draft {
    pub command: Option<String>,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub cwd: Option<String>,
    pub url: Option<String>,
    pub sse: bool,
    pub headers: Vec<(String, String)>,
    pub ca: Option<String>,
    pub proxy: Option<String>,
    pub lazy: bool,
    pub open: Option<Duration>,
    pub idle: Option<Duration>,
    pub allowed: Vec<String>,
    pub denied: Vec<String>,
    pub denied_prompts: Vec<String>,
}

impl Draft {
    /// Takes how long opening may last, and tells whether there was such a time.
    pub fn opens_in(&mut self, time: Option<Duration>) -> bool {
        self.open = time.map(|time| time.clamp(TIME_MIN, OPEN_MAX)).or(self.open);
        time.is_some()
    }

    /// Takes how long a call may last, and tells whether there was such a time.
    pub fn calls_take(&mut self, time: Option<Duration>) -> bool {
        self.idle = time.map(|time| time.clamp(TIME_MIN, IDLE_MAX)).or(self.idle);
        time.is_some()
    }

    /// A note on a command that only leads to the server.
    pub fn wrapper(&self) -> Option<&'static str> {
        let command = self.command.as_deref()?;
        let is_remote = |word: &String| {
            let name = word.rsplit('/').next().unwrap_or(word);
            name.split('@').next() == Some("mcp-remote")
        };
        if self.args.iter().any(is_remote) || is_remote(&command.to_owned()) {
            return Some(
                "the gate itself speaks HTTP: `url` and `headers` do in place of mcp-remote, \
                 unless the server wants a login in a browser",
            );
        }
        if command.contains(char::is_whitespace) && self.args.is_empty() {
            return Some(
                "has blanks: it is the name of one program here; its arguments belong into `args`",
            );
        }
        let windows = ["cmd", "cmd.exe"].contains(&command) || command.ends_with(".cmd");
        (windows && cfg!(not(windows))).then_some("is a command of Windows")
    }

    /// The lines of the section, below its header.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut put = |key: &str, value: Value| lines.push(format!("{key} = {value}"));
        if let Some(command) = &self.command {
            put("command", command.into());
        }
        if !self.args.is_empty() {
            put("args", array(&self.args));
        }
        for (name, text) in &self.env {
            put(&format!("env.{}", key(name)), text.into());
        }
        if let Some(url) = &self.url {
            put("url", url.into());
            if self.sse {
                put("transport", "sse".into());
            }
        }
        for (name, text) in &self.headers {
            put(&format!("headers.{}", key(name)), text.into());
        }
        for (key, text) in [("cwd", &self.cwd), ("ca", &self.ca), ("proxy", &self.proxy)] {
            if let Some(text) = text {
                put(key, text.into());
            }
        }
        if self.lazy {
            put("start", "lazy".into());
        }
        for (key, time) in self.times() {
            put(&format!("timeout.{key}"), duration(time).into());
        }
        for (key, names) in [
            ("tools.allow", &self.allowed),
            ("tools.deny", &self.denied),
            ("prompts.deny", &self.denied_prompts),
        ] {
            // A name is what it is: nothing in it stands for a variable.
            let names = names.iter().map(|name| name.replace("${", "$${"));
            let mut names: Vec<String> = names.collect();
            let mut seen = std::collections::HashSet::new();
            names.retain(|name| seen.insert(name.clone()));
            if !names.is_empty() {
                put(key, array(&names));
            }
        }
        lines
    }

    /// The times of `timeout`. A call that may be silent for longer than a whole call may last
    /// needs that to be longer, too.
    fn times(&self) -> Vec<(&'static str, Duration)> {
        let total = self.idle.filter(|idle| *idle > TOTAL);
        let times = [("open", self.open), ("idle", self.idle), ("total", total)];
        times.into_iter().filter_map(|(key, time)| Some((key, time?))).collect()
    }
}

fn array(texts: &[String]) -> Value {
    Value::Array(texts.iter().collect::<Array>())
}

/// The time in the largest unit that has no fraction.
fn duration(time: Duration) -> String {
    let millis = time.as_millis();
    let units = [(3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    match units.iter().find(|(unit, _)| millis.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", millis / unit),
        None => format!("{millis}ms"),
    }
}

/// The key as TOML has it: bare, or in quotes.
fn key(name: &str) -> String {
    Key::new(name).to_string()
}
