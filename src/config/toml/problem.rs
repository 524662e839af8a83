//! Problems of a configuration, each with its place and its remedy, as rustc does.

use std::{fmt, ops::Range};

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

/// Everything that is wrong with a configuration: file by file, in the order of each. Never empty
/// where it is an error.
#[derive(Clone, PartialEq)]
pub struct Problems(Vec<Faulty>);

/// A file, and what is wrong with it.
#[derive(Clone, PartialEq)]
struct Faulty {
    /// The file's name, as it is printed.
    name: String,
    /// The whole file: problems show their lines.
    text: String,
    list: Vec<Problem>,
}

/// A mistake in a configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    title: String,
    /// Bytes of the file; `None` where the file as a whole is meant.
    span: Option<Range<usize>>,
    /// The remedy.
    help: Option<String>,
    /// Whether only the environment lacks something, which another one may have.
    of_environment: bool,
}

impl Problem {
    pub fn new(span: Range<usize>, title: impl Into<String>, help: impl Into<String>) -> Self {
        let help = Some(help.into());
        Self { title: title.into(), span: Some(span), help, of_environment: false }
    }

    /// Makes a problem of the file as a whole.
    pub fn of_file(title: impl Into<String>, help: impl Into<String>) -> Self {
        let help = Some(help.into());
        Self { title: title.into(), span: None, help, of_environment: false }
    }

    /// The TOML parser's own words.
    pub fn of_syntax(error: &toml::de::Error) -> Self {
        let title = error.message().to_owned();
        Self { title, span: error.span(), help: None, of_environment: false }
    }

    /// Marks the problem as one of the environment: where Tollgate is started, it may be none.
    pub fn of_environment(self) -> Self {
        Self { of_environment: true, ..self }
    }

    /// Whether only the environment lacks something.
    pub fn is_of_environment(&self) -> bool {
        self.of_environment
    }

    /// Returns the problem on one line, without its place.
    pub fn line(&self) -> String {
        match &self.help {
            Some(help) => format!("{}; {help}", self.title),
            None => self.title.clone(),
        }
    }

    /// Returns the offset at which it begins, in bytes.
    pub fn start(&self) -> usize {
        self.span.as_ref().map_or(0, |span| span.start)
    }

    /// Whether it is of just these bytes.
    pub fn is_at(&self, span: &Range<usize>) -> bool {
        self.span.as_ref() == Some(span)
    }

    pub fn within(&self, span: &Range<usize>) -> bool {
        self.span.as_ref().is_some_and(|own| span.start <= own.start && own.end <= span.end)
    }
}

impl Problems {
    /// Collects the problems of `text`, the content of the file called `name`.
    pub fn new(name: &str, text: &str, mut list: Vec<Problem>) -> Self {
        list.sort_by_key(Problem::start);
        Self(vec![Faulty { name: name.to_owned(), text: text.to_owned(), list }])
    }

    /// Joins the problems of several files; none where there are none.
    pub fn all(each: impl IntoIterator<Item = Self>) -> Option<Self> {
        let files = each.into_iter().flat_map(|problems| problems.0);
        let files: Vec<_> = files.filter(|file| !file.list.is_empty()).collect();
        (!files.is_empty()).then_some(Self(files))
    }

    /// How many; never 0.
    pub fn len(&self) -> usize {
        self.0.iter().map(|file| file.list.len()).sum()
    }

    /// All of them, with an empty line between two; `colour` for a terminal.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let each = self.0.iter().flat_map(|file| {
            file.list.iter().map(|problem| renderer.render(&[file.report(problem)]))
        });
        each.collect::<Vec<_>>().join("\n\n")
    }

    /// A line for each, without the file's text, which may hold secrets.
    pub fn brief(&self) -> String {
        let each =
            self.0.iter().flat_map(|file| file.list.iter().map(|problem| file.line(problem)));
        each.collect::<Vec<_>>().join("\n")
    }
}

impl Faulty {
    /// A line with a problem's place, and without the text that stands there.
    fn line(&self, problem: &Problem) -> String {
        let Some(span) = &problem.span else { return format!("{}: {}", self.name, problem.line()) };
        let before = self.text.get(..span.start.min(self.text.len())).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!("{}:{line}:{column}: {}", self.name, problem.line())
    }

    fn report<'a>(&'a self, problem: &'a Problem) -> Group<'a> {
        let title = Level::ERROR.primary_title(&problem.title);
        let group = match &problem.span {
            Some(span) => {
                let end = span.end.min(self.text.len());
                let mark = AnnotationKind::Primary.span(span.start.min(end)..end);
                title.element(Snippet::source(&self.text).path(&self.name).annotation(mark))
            }
            None => title.element(Origin::path(&self.name)),
        };
        match &problem.help {
            Some(help) => group.element(Level::HELP.message(help)),
            None => group,
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

/// The text of the file is left out, which may hold secrets.
impl fmt::Debug for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = self.0.iter().map(|file| (&file.name, &file.list));
        f.debug_map().entries(files).finish()
    }
}

impl std::error::Error for Problems {}

/// The remedy for a word that is none of `known`: the nearest of them if it is near, else all.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    let distance = |other: &&&str| strsim::damerau_levenshtein(word, other);
    // A third of the letters, as rustc allows.
    let near = known.iter().min_by_key(distance).filter(|k| distance(k) <= word.len().max(3) / 3);
    match near {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => "there is none".to_owned(),
        None => format!("known here: `{}`", known.join("`, `")),
    }
}
