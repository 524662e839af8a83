//! A client's texts as those of `routes.toml`: whose variables stand for what.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

use crate::config::is_variable;

use super::server::{ClientKind, Input};

/// The position of a text, which decides what may be a variable in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextPosition {
    Command,
    /// An argument, whose variables the process itself may replace by those of its environment.
    Argument,
    Path,
    Url,
    /// A variable of a process: a text, or where it is kept.
    Variable,
    /// A header: a text, or where it is kept.
    Header,
}

impl TextPosition {
    /// Tells whether `routes.toml` takes `env:NAME` and `file:PATH` there.
    fn may_be_kept(self) -> bool {
        matches!(self, Self::Variable | Self::Header)
    }
}

/// Translates the texts of one server.
#[derive(Debug)]
pub struct Texts<'a> {
    pub client: ClientKind,
    /// Variables that the server's own section gives its process, and their values.
    pub own: HashMap<String, String>,
    /// Names of the values that each user of `LibreChat` gives.
    pub of_users: HashSet<String>,
    pub inputs: &'a HashMap<String, Input>,
    /// The client's file, where it is one.
    pub file: Option<&'a Path>,
    pub notes: Vec<String>,
    /// Whether a variable was met that is none here, and stands as it is.
    pub unknown: bool,
}

/// The translation of a piece of a text.
enum Piece {
    /// A text in the language of `routes.toml`.
    Ready(String),
    /// Characters that stand for themselves.
    Literal(String),
    /// The content of a file.
    File(String),
}

impl Texts<'_> {
    /// The text in the language of `routes.toml`, or `None` where what it says cannot be said
    /// there; then a note says why.
    pub fn translated(&mut self, place: TextPosition, key: &str, text: &str) -> Option<String> {
        self.unknown = false;
        if self.client == ClientKind::Registry {
            return Some(text.to_owned());
        }
        if let Some(path) = self.whole_file(place, text) {
            return Some(format!("file:{path}"));
        }
        let mut full = String::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let found = match c {
                '$' | '{' | '%' => self.piece(place, key, rest, rest.len() == text.len()),
                _ => None,
            };
            match found {
                Some((piece, after)) => {
                    self.put(&mut full, key, piece);
                    rest = after;
                }
                None => {
                    let (literal, after) = rest.split_at(c.len_utf8());
                    full.push_str(literal);
                    rest = after;
                }
            }
        }
        if self.client == ClientKind::LibreChat && self.is_of_a_user(key, text) {
            return None;
        }
        let kept = ["env:", "file:", "vault:", "text:"];
        let mark = place.may_be_kept() && kept.iter().any(|mark| text.starts_with(mark));
        let home = matches!(place, TextPosition::Command | TextPosition::Path)
            .then(|| full.strip_prefix("~/"));
        Some(match home.flatten() {
            Some(below) => format!("${{HOME}}/{below}"),
            None if mark => format!("text:{full}"),
            None => full,
        })
    }

    fn put(&mut self, full: &mut String, key: &str, piece: Piece) {
        match piece {
            Piece::Literal(literal) => full.push_str(&literal.replace("${", "$${")),
            Piece::Ready(ready) => {
                if full.ends_with('$') && ready.starts_with('$') {
                    self.note(key, "`$` before a variable needs care: `$${` stands for `${`");
                }
                full.push_str(&ready);
            }
            Piece::File(path) => {
                let stem = Path::new(&path).file_stem().unwrap_or_default().to_string_lossy();
                let name = variable_of(&stem);
                self.note(
                    key,
                    &format!(
                        "the content of {path} cannot be part of a text: set the variable {name} \
                         to it, or write the whole value into a file, and \"file:PATH\" here"
                    ),
                );
                full.push_str(&format!("${{{name}}}"));
            }
        }
    }

    /// Splits the piece off that `rest` begins with. `first`: nothing is before it.
    fn piece<'t>(
        &mut self,
        place: TextPosition,
        key: &str,
        rest: &'t str,
        first: bool,
    ) -> Option<(Piece, &'t str)> {
        if let Some(inside) = rest.strip_prefix("${{")
            && let Some((inside, after)) = inside.split_once("}}")
            && let Some(secret) = self.secret(key, inside.trim())
        {
            return Some((secret, after));
        }
        if let Some(inside) = rest.strip_prefix("${") {
            let Some((inside, after)) = inside.split_once('}') else {
                return Some((Piece::Literal("${".to_owned()), inside));
            };
            return Some((self.variable(place, key, inside), after));
        }
        if let (ClientKind::OpenCode, Some(inside)) = (self.client, rest.strip_prefix('{'))
            && let Some((inside, after)) = inside.split_once('}')
        {
            let piece = match inside.split_once(':')? {
                ("env", name) if is_variable(name) => Piece::Ready(format!("${{{name}}}")),
                ("file", path) => Piece::File(self.path(path)),
                _ => return None,
            };
            return Some((piece, after));
        }
        if let (ClientKind::LibreChat, Some(inside)) = (self.client, rest.strip_prefix("{{")) {
            let (name, after) = inside.split_once("}}")?;
            let name = name.trim();
            if self.of_users.contains(name) && is_variable(name) {
                self.note(
                    key,
                    &format!("each user gave `{name}`; the variable {name} is one for all here"),
                );
                return Some((Piece::Ready(format!("${{{name}}}")), after));
            }
            return None;
        }
        self.plain(place, rest, first)
    }

    /// `$NAME` and `%NAME%`, which Gemini CLI replaces anywhere, and others as a whole value.
    fn plain<'t>(
        &self,
        place: TextPosition,
        rest: &'t str,
        first: bool,
    ) -> Option<(Piece, &'t str)> {
        let gemini = self.client == ClientKind::Gemini;
        if let (true, Some(inside)) = (gemini, rest.strip_prefix('%')) {
            let (name, after) = inside.split_once('%')?;
            return is_variable(name).then(|| (Piece::Ready(format!("${{{name}}}")), after));
        }
        let inside = rest.strip_prefix('$')?;
        let end = inside.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let (name, after) = inside.split_at(end.unwrap_or(inside.len()));
        let whole = place.may_be_kept() && first && after.is_empty();
        let replaced = match gemini {
            true => !(place == TextPosition::Argument && self.own.contains_key(name)),
            false => self.client == ClientKind::Common && whole,
        };
        (replaced && is_variable(name)).then(|| (Piece::Ready(format!("${{{name}}}")), after))
    }

    /// `${inside}`.
    fn variable(&mut self, place: TextPosition, key: &str, inside: &str) -> Piece {
        let literal = Piece::Literal(format!("${{{inside}}}"));
        let name = inside.split_once(":-").map_or(inside, |(name, _)| name);
        if matches!(self.client, ClientKind::Codex | ClientKind::Zed) {
            return literal;
        }
        if self.client == ClientKind::Goose {
            return self.of_goose(place, inside).unwrap_or(literal);
        }
        if place == TextPosition::Argument && self.own.contains_key(name) {
            return literal;
        }
        match inside.split_once(':') {
            _ if inside == "userHome" => Piece::Ready("${HOME}".to_owned()),
            _ if inside == "pathSeparator" || inside == "/" => Piece::Literal("/".to_owned()),
            _ if inside.starts_with("workspaceFolder") => self.workspace(key, inside),
            Some(("input", id)) => self.input(key, id),
            Some(("file", path)) => Piece::File(self.path(path)),
            Some(("env", inside)) => self.of_environment(key, inside),
            _ => self.of_environment(key, inside),
        }
    }

    /// `NAME` or `NAME:-DEFAULT` within `${}`.
    fn of_environment(&mut self, key: &str, inside: &str) -> Piece {
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if !is_variable(name) {
            self.unknown = true;
            self.note(key, &format!("`${{{inside}}}` is no variable here: it stays as it is"));
            return Piece::Literal(format!("${{{inside}}}"));
        }
        match default {
            Some(default) if default.contains("${") => {
                self.note(key, &format!("`{name}` has no default here: {default} has a variable"));
                Piece::Ready(format!("${{{name}}}"))
            }
            Some(default) => Piece::Ready(format!("${{{name}:-{default}}}")),
            None => Piece::Ready(format!("${{{name}}}")),
        }
    }

    /// Goose replaces variables in headers only, by what `envs` and its key ring have.
    fn of_goose(&self, place: TextPosition, name: &str) -> Option<Piece> {
        let value = self.own.get(name).filter(|_| place == TextPosition::Header)?;
        Some(match value.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) {
            Some(_) => Piece::Ready(value.clone()),
            None => Piece::Literal(value.clone()),
        })
    }

    /// `${input:id}`: what VS Code asks its user for.
    fn input(&mut self, key: &str, id: &str) -> Piece {
        let name = variable_of(id);
        let input = self.inputs.get(id).cloned().unwrap_or_default();
        let about = input.description.map(|about| format!(" ({about})")).unwrap_or_default();
        let fits = |text: &String| !text.contains('}') && !text.contains("${");
        if let Some(default) = input.default.filter(fits) {
            self.note(
                key,
                &format!(
                    "VS Code asked for `{id}`{about}: the variable {name} has it here, or its \
                     default"
                ),
            );
            return Piece::Ready(format!("${{{name}:-{default}}}"));
        }
        self.note(key, &format!("VS Code asked for `{id}`{about}: set the variable {name}"));
        Piece::Ready(format!("${{{name}}}"))
    }

    /// `${workspaceFolder}` and what begins with it.
    fn workspace(&mut self, key: &str, inside: &str) -> Piece {
        let folder = self.file.and_then(workspace_of);
        match (inside, folder) {
            ("workspaceFolder", Some(folder)) => {
                Piece::Literal(folder.to_string_lossy().into_owned())
            }
            ("workspaceFolderBasename", Some(folder)) => {
                Piece::Literal(folder.file_name().unwrap_or_default().to_string_lossy().into())
            }
            _ => {
                let (name, _) = inside.split_once(':').unwrap_or((inside, ""));
                self.note(
                    key,
                    &format!("`${{{inside}}}` is the editor's own: write the path, or set {name}"),
                );
                Piece::Ready(format!("${{{}}}", if is_variable(name) { name } else { "PWD" }))
            }
        }
    }

    /// `${{ secrets.NAME }}` of Continue. None: it is none of its own.
    fn secret(&mut self, key: &str, inside: &str) -> Option<Piece> {
        let (kind, name) = inside.split_once('.')?;
        if !["secrets", "inputs", "env"].contains(&kind) || !is_variable(name) {
            return None;
        }
        if kind != "env" {
            self.note(key, &format!("Continue kept `{inside}`: set the variable {name}"));
        }
        Some(Piece::Ready(format!("${{{name}}}")))
    }

    /// Tells whether `LibreChat` fills in something of the user who calls.
    fn is_of_a_user(&mut self, key: &str, text: &str) -> bool {
        let mut rest = text;
        while let Some((_, inside)) = rest.split_once("{{") {
            let Some((name, after)) = inside.split_once("}}") else { return false };
            if !self.of_users.contains(name.trim()) {
                self.note(
                    key,
                    &format!(
                        "`{{{{{name}}}}}` is another for each user and is left out: \
                         `forward_headers` sends on what a client's request says, `credential` \
                         shows the server who calls"
                    ),
                );
                return true;
            }
            rest = after;
        }
        false
    }

    /// The path of a file that is the whole value.
    fn whole_file(&self, place: TextPosition, text: &str) -> Option<String> {
        use ClientKind::{Codex, Goose, OpenCode, Registry, Zed};
        if matches!(self.client, Codex | Zed | Goose | Registry) {
            return None;
        }
        let mark = if self.client == OpenCode { "{file:" } else { "${file:" };
        let path =
            text.strip_prefix(mark)?.strip_suffix('}').filter(|path| !path.contains(['{', '}']))?;
        place.may_be_kept().then(|| self.path(path))
    }

    /// A path in the language of `routes.toml`; a relative one begins beside the client's file.
    fn path(&self, path: &str) -> String {
        let literal = path.replace("${", "$${");
        if let Some(below) = literal.strip_prefix("~/") {
            return format!("${{HOME}}/{below}");
        }
        let folder = self.file.and_then(|file| std::path::absolute(file).ok());
        match folder.as_deref().and_then(Path::parent) {
            Some(folder) if Path::new(path).is_relative() => {
                let folder = folder.to_string_lossy().replace("${", "$${");
                format!("{folder}/{}", literal.trim_start_matches("./"))
            }
            _ => literal,
        }
    }

    fn note(&mut self, key: &str, text: &str) {
        self.notes.push(format!("`{key}`: {text}"));
    }
}

/// The folder that a project's file of an editor is for: the one above `.vscode` and the like. A
/// file of the user's own, in the home folder, is for none.
fn workspace_of(file: &Path) -> Option<PathBuf> {
    const FOLDERS: [&str; 6] = [".vscode", ".cursor", ".roo", ".kiro", ".amp", ".zed"];
    let file = std::path::absolute(file).ok()?;
    let folder = file.ancestors().skip(1).find(|folder| {
        let name = folder.file_name().unwrap_or_default();
        FOLDERS.iter().any(|one| name == *one)
    })?;
    let above = folder.parent()?;
    let home = crate::config::environment("HOME");
    (home.as_deref().map(Path::new) != Some(above)).then(|| above.to_owned())
}

/// The name of an environment variable that is like the text.
pub fn variable_of(text: &str) -> String {
    let name = text.to_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    if is_variable(&name) { name } else { format!("V_{name}") }
}

/// Returns what a text in the language of `routes.toml` stands for where the environment has no say
/// in it: with the defaults of its variables, and `None` where one has none.
pub fn certain(text: &str) -> Option<String> {
    let mut full = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            full.extend([before, "${"]);
            rest = after;
            continue;
        }
        let (inside, after) = after.split_once('}')?;
        full.extend([before, inside.split_once(":-")?.1]);
        rest = after;
    }
    Some(full + rest)
}
