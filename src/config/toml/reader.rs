//! Reads what a text of `routes.toml` stands for: variables, secrets kept elsewhere, or itself.

use std::{
    collections::BTreeSet,
    fmt, fs,
    ops::Range,
    path::{self, Path, PathBuf},
    rc::Rc,
    str::FromStr,
};

use toml::{Spanned, de::DeValue};

use crate::config::secret::Secret;

use super::problem::{Problem, Problems};

/// A value of the file, and where it stands.
pub type Node<'i> = Spanned<DeValue<'i>>;

/// The names that sections of the file have, for others that refer to them.
#[derive(Debug, Default)]
pub struct SectionNames {
    pub upstreams: Vec<String>,
    pub auth: Vec<String>,
    pub detectors: Vec<String>,
}

/// The variable that is always there: the absolute path of the file's folder.
const FOLDER: &str = "TOLLGATE_FOLDER";

/// Reads values, and goes on when one is wrong.
pub struct Reader<'a> {
    /// The folder where relative paths begin.
    folder: &'a Path,
    environment: &'a dyn Fn(&str) -> Option<String>,
    problems: Vec<Problem>,
    /// References that are right, to variables and files that are not there.
    unavailable: Vec<Problem>,
    /// Problems of other files that this one names.
    other_files: Vec<Problems>,
    /// The place of the name of the section that is read next, where it has one.
    heading: Option<Range<usize>>,
    /// The name of the upstream whose section is being read; empty outside of one.
    upstream: String,
    names: Rc<SectionNames>,
    /// The folders where secret files are, or should be.
    secret_folders: BTreeSet<PathBuf>,
    /// Other files that were to be read, and folders that were to be listed.
    files: BTreeSet<PathBuf>,
    is_partial: bool,
}

impl fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("problems", &self.problems).finish_non_exhaustive()
    }
}

impl<'a> Reader<'a> {
    pub fn new(folder: &'a Path, environment: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            folder,
            environment,
            problems: Vec::new(),
            unavailable: Vec::new(),
            other_files: Vec::new(),
            heading: None,
            upstream: String::new(),
            names: Rc::default(),
            is_partial: false,
            secret_folders: BTreeSet::new(),
            files: BTreeSet::new(),
        }
    }

    /// Notes that another file is read, or a folder listed: where it changes, all is read again.
    pub fn note_file(&mut self, path: &Path) {
        self.files.insert(path.to_owned());
    }

    /// All other files that were to be read, and folders that were to be listed.
    pub fn take_files(&mut self) -> BTreeSet<PathBuf> {
        std::mem::take(&mut self.files)
    }

    /// All that was wrong. What is unavailable outside of an upstream is wrong too.
    pub fn finish(mut self) -> Vec<Problem> {
        self.problems.append(&mut self.unavailable);
        self.problems
    }

    /// Notes that the file could not be parsed whole.
    pub fn set_partial(&mut self) {
        self.is_partial = true;
    }

    /// Runs what judges several keys together, and forgets the problems that it finds where the
    /// file could not be parsed whole: keys may be missing only because of that.
    pub fn judge<T>(&mut self, judge: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.problems.len();
        let value = judge(self);
        if self.is_partial {
            self.problems.truncate(before);
        }
        value
    }

    pub fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Notes what is wrong with another file.
    pub fn problems_of_other_file(&mut self, problems: Problems) {
        self.other_files.push(problems);
    }

    /// Everything that is wrong with other files.
    pub fn take_other_files(&mut self) -> Vec<Problems> {
        std::mem::take(&mut self.other_files)
    }

    /// The folder in which relative paths begin.
    pub fn folder(&self) -> &'a Path {
        self.folder
    }

    /// Notes the names that sections may refer to.
    pub fn set_names(&mut self, names: SectionNames) {
        self.names = Rc::new(names);
    }

    /// The names that sections may refer to.
    pub fn names(&self) -> Rc<SectionNames> {
        Rc::clone(&self.names)
    }

    /// Notes the name of the upstream whose section is read from now on.
    pub fn set_upstream(&mut self, name: &str) {
        name.clone_into(&mut self.upstream);
    }

    /// The name of the upstream whose section is being read; empty outside of one.
    pub fn upstream(&self) -> &str {
        &self.upstream
    }

    /// Notes the place of the name of the section that is read next.
    pub fn set_heading(&mut self, heading: Range<usize>) {
        self.heading = Some(heading);
    }

    /// The place of the name of the section that is being read, if it has one.
    pub fn take_heading(&mut self) -> Option<Range<usize>> {
        self.heading.take()
    }

    /// The folders of secret files.
    pub fn take_secret_folders(&mut self) -> BTreeSet<PathBuf> {
        std::mem::take(&mut self.secret_folders)
    }

    /// Whether something was wrong, or is not there, within these bytes.
    pub fn has_problem(&self, span: &Range<usize>) -> bool {
        let mut all = self.problems.iter().chain(&self.unavailable);
        all.any(|problem| problem.within(span))
    }

    /// Notes a reference that is right, to something that is not there.
    pub fn unavailable(&mut self, problem: Problem) {
        self.unavailable.push(problem);
    }

    /// Runs `read`, and gives back what it found unavailable instead of keeping it.
    pub fn with_unavailable<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> (T, Vec<Problem>) {
        let before = std::mem::take(&mut self.unavailable);
        let value = read(self);
        (value, std::mem::replace(&mut self.unavailable, before))
    }

    /// The value is of another type than `expected`.
    pub fn unexpected(&mut self, node: &Node<'_>, expected: &str, help: &str) {
        let found = match node.get_ref() {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        let title = format!("expected {expected}, found {found}");
        self.problem(Problem::new(node.span(), title, help));
    }

    /// The text is not `expected`. It is shown as the file has it: a variable in it may be secret.
    pub fn refuse(&mut self, node: &Node<'_>, expected: &str, help: impl Into<String>) {
        let text = node.get_ref().as_str().unwrap_or_default();
        self.problem(Problem::new(node.span(), format!("`{text}` is not {expected}"), help));
    }

    /// The text with its variables replaced; `expected` says what it should be if it is none.
    pub fn text(&mut self, node: &Node<'_>, expected: &str) -> Option<String> {
        let Some(text) = node.get_ref().as_str() else {
            self.unexpected(node, expected, "put it in quotes: \"…\"");
            return None;
        };
        self.expand(text, &node.span())
    }

    /// The text as a `T`, or a problem that says what it is not.
    pub fn parsed<T: FromStr>(&mut self, node: &Node<'_>, expected: &str, help: &str) -> Option<T> {
        let found = self.text(node, expected)?.parse().ok();
        if found.is_none() {
            self.refuse(node, expected, help);
        }
        found
    }

    /// `env:NAME`, `file:PATH`, `vault:PATH#FIELD`, or a text with variables. What follows `text:`
    /// is such a text even if it begins like a reference.
    pub fn secret(&mut self, node: &Node<'_>) -> Option<Secret> {
        let span = node.span();
        let text = match node.get_ref().as_str() {
            None => self.text(node, "a text"),
            Some(text) => match text.split_once(':') {
                Some(("env", name)) => self.variable(name, &span),
                Some(("file", path)) => self.file(path, &span),
                Some(("vault", reference)) => self.vault(reference, &span),
                Some(("text", text)) => self.expand(text, &span),
                Some(_) | None => self.expand(text, &span),
            },
        };
        text.map(Secret::new)
    }

    /// Replaces each `${NAME}` and `${NAME:-DEFAULT}`; `$${` stands for the characters `${`.
    fn expand(&mut self, text: &str, span: &Range<usize>) -> Option<String> {
        let mut full = String::with_capacity(text.len());
        let mut rest = text;
        let mut whole = true;
        while let Some((before, after)) = rest.split_once("${") {
            if let Some(before) = before.strip_suffix('$') {
                full.push_str(before);
                full.push_str("${");
                rest = after;
                continue;
            }
            full.push_str(before);
            let Some((name, after)) = after.split_once('}') else {
                let help = "close it with `}`, or write `$${` for the characters themselves";
                self.problem(Problem::new(span.clone(), "`${` without `}`", help));
                return None;
            };
            rest = after;
            let value = match name.split_once(":-") {
                Some((name, default)) => self.variable_or(name, default, span),
                None => self.variable(name, span),
            };
            match value {
                Some(value) => full.push_str(&value),
                None => whole = false,
            }
        }
        full.push_str(rest);
        whole.then_some(full)
    }

    fn variable(&mut self, name: &str, span: &Range<usize>) -> Option<String> {
        if !is_variable(name) {
            let title = format!("`{name}` is not the name of a variable");
            let help = "a name has letters, digits and `_`; `$${` stands for `${` itself";
            self.problem(Problem::new(span.clone(), title, help));
            return None;
        }
        if name == FOLDER {
            // A path of no parts is the current folder; the dot makes it a path.
            let folder = path::absolute(Path::new(".").join(self.folder));
            return folder.ok().map(|folder| folder.to_string_lossy().into_owned());
        }
        let value = (self.environment)(name);
        if value.is_none() {
            let title = format!("variable {name} is not set");
            let problem = Problem::new(span.clone(), title, "set it where Tollgate is started");
            self.unavailable(problem.of_environment());
        }
        value
    }

    /// The variable, or the default where it is not set or empty, as in a shell (POSIX 2.6.2).
    fn variable_or(&mut self, name: &str, default: &str, span: &Range<usize>) -> Option<String> {
        if default.contains("${") {
            let title = "a default cannot have a variable in it";
            let help = "end the default before it: `${NAME:-default}${OTHER}`";
            self.problem(Problem::new(span.clone(), title, help));
            return None;
        }
        if !is_variable(name) || name == FOLDER {
            return self.variable(name, span);
        }
        let value = (self.environment)(name).filter(|value| !value.is_empty());
        Some(value.unwrap_or_else(|| default.to_owned()))
    }

    /// A secret of a Vault, which the environment has, too.
    fn vault(&mut self, reference: &str, span: &Range<usize>) -> Option<String> {
        let reference = self.expand(reference, span)?;
        if !is_in_vault(&reference) {
            let title = format!("`{reference}` is not the place of a secret in Vault");
            let help = "write vault:MOUNT/data/PATH#FIELD, such as \"vault:secret/data/jobs#key\"";
            self.problem(Problem::new(span.clone(), title, help));
            return None;
        }
        let value = (self.environment)(&format!("vault:{reference}"));
        if value.is_none() {
            let title = format!("`{reference}` is not known from Vault");
            let help = "see that the field is there, and VAULT_ADDR and VAULT_TOKEN; the log says \
                        why it cannot be read";
            self.unavailable(Problem::new(span.clone(), title, help).of_environment());
        }
        value
    }

    /// The content of a secret file, without the newline at its end.
    fn file(&mut self, path: &str, span: &Range<usize>) -> Option<String> {
        let path = self.expand(path, span)?;
        self.content(Path::new(&path), span)
    }

    /// Reads the file of a path whose variables have been replaced. The file is watched from now
    /// on.
    pub fn content(&mut self, path: &Path, span: &Range<usize>) -> Option<String> {
        let path = self.folder.join(path);
        self.secret_folders.extend(path.parent().map(|folder| Path::new(".").join(folder)));
        self.note_file(&path);
        match fs::read_to_string(&path) {
            Ok(text) => Some(text.trim_end_matches(['\r', '\n']).to_owned()),
            Err(error) => {
                let title = format!("secret file {} cannot be read: {error}", path.display());
                let help = "put the secret there, readable for Tollgate's user";
                self.unavailable(Problem::new(span.clone(), title, help));
                None
            }
        }
    }
}

/// Whether this is a path of an API of Vault with a field: nothing in it leads elsewhere.
fn is_in_vault(reference: &str) -> bool {
    let Some((path, field)) = reference.split_once('#') else { return false };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.~".contains(c);
    let part =
        |part: &str| !part.is_empty() && part != "." && part != ".." && part.chars().all(plain);
    let parts: Vec<_> = path.split('/').collect();
    !field.is_empty() && parts.len() > 2 && parts.iter().copied().all(part)
}

/// Whether an environment variable can be referred to by this name.
pub fn is_variable(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit())
}
