//! The files that a route's policies stand in, and the cases that they are held to: read with the
//! configuration, so that a change of them is one of it. What policies say is judged by `policy`.

use std::{
    collections::BTreeMap,
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use toml::{Spanned, de::DeTable, de::DeValue};

use crate::{
    call::{Action, ObjectKind},
    mcp::raw::Raw,
};

use super::{
    problem::{Problem, Problems},
    reader::Reader,
    schema,
    value::{Key, Kind as _},
};

/// What the names of policies' files end with; a folder stands for all of them in it.
const EXTENSION: &str = "cedar";

/// What a route is judged by.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// In the order of the route; those of a folder by their names.
    pub policies: Vec<RuleFile>,
    pub cases: Vec<CaseFile>,
}

/// A file as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleFile {
    /// As problems show it.
    pub name: String,
    pub text: Arc<str>,
}

/// A file of cases.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseFile {
    pub file: RuleFile,
    pub cases: Vec<Case>,
}

/// One question, and how policies must answer it.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// Where the answer stands in the file.
    pub at: Range<usize>,
    /// `AUTHORITY/SUBJECT`, or an address.
    pub caller: String,
    pub groups: Vec<String>,
    pub scopes: Vec<String>,
    /// It logged in with a second factor.
    pub mfa: bool,
    pub action: Action,
    pub kind: ObjectKind,
    pub upstream: String,
    /// The upstream's own name for it.
    pub name: String,
    /// A `ToolAnnotations` object.
    pub annotations: Raw,
    pub tags: Vec<String>,
    /// An object.
    pub arguments: Raw,
    /// The name of the client's program.
    pub client: String,
    /// Seconds since 1970.
    pub time: u64,
    pub expect: Expected,
}

/// How a case is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expected {
    /// Seen and permitted.
    Allow,
    /// Seen, and denied.
    #[default]
    Deny,
    /// Not even seen.
    Unseen,
}

/// The rules of a route's keys; none where it has no `policy`.
pub fn rules(
    policy: Key<Vec<Spanned<PathBuf>>>,
    cases: Key<Vec<Spanned<PathBuf>>>,
    folder: &Path,
    reader: &mut Reader<'_>,
) -> Option<Rules> {
    let Some(span) = policy.span else {
        if let Some(span) = cases.span {
            let help = "name the policies, too: policy = [\"policies/base.cedar\"]";
            reader.problem(Problem::new(span, "`cases` without `policy`", help));
        }
        return None;
    };
    let mut policies = Vec::new();
    for path in policy.value {
        let (at, path) = (path.span(), folder.join(path.into_inner()));
        match files(&path) {
            Ok(found) if found.is_empty() => {
                let title = format!("the folder {} has no `*.{EXTENSION}`", path.display());
                reader.problem(Problem::new(at, title, "put policies there, or name a file"));
            }
            Ok(found) => policies.extend(found),
            Err(error) => reader.problem(unreadable(at, &path, &error)),
        }
    }
    if policies.is_empty() && !reader.faults(&span) {
        let help = "name a file or a folder, or remove `policy`: without it all is permitted";
        reader.problem(Problem::new(span, "this route names no policy", help));
    }
    let mut names = std::collections::HashSet::new();
    policies.retain(|file| names.insert(file.name.clone()));
    let mut read = Vec::new();
    for path in cases.value {
        let (at, path) = (path.span(), folder.join(path.into_inner()));
        match file(&path) {
            Ok(file) => read.extend(case_file(file, folder, reader)),
            Err(error) => reader.problem(unreadable(at, &path, &error)),
        }
    }
    Some(Rules { policies, cases: read })
}

fn unreadable(at: Range<usize>, path: &Path, error: &io::Error) -> Problem {
    let title = format!("{} cannot be read: {error}", path.display());
    Problem::new(at, title, "a relative path begins in the folder of this file")
}

fn files(path: &Path) -> io::Result<Vec<RuleFile>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![file(path)?]);
    }
    let mut paths = Vec::new();
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            paths.push(path);
        }
    }
    paths.sort();
    paths.iter().map(|path| file(path)).collect()
}

fn file(path: &Path) -> io::Result<RuleFile> {
    let text = fs::read_to_string(path)?.into();
    Ok(RuleFile { name: path.to_string_lossy().into_owned(), text })
}

/// The cases of a file; none where it has problems, which the reader knows then.
fn case_file(file: RuleFile, folder: &Path, outer: &mut Reader<'_>) -> Option<CaseFile> {
    let nothing = |_: &str| None;
    let mut reader = Reader::new(folder, &nothing);
    let (table, errors) = DeTable::parse_recoverable(&file.text);
    let root = Spanned::new(table.span(), DeValue::Table(table.into_inner()));
    let read = schema::Cases::read(&root, &mut reader).expect("the root of a file is a table");
    let mut problems: Vec<_> = errors.iter().map(Problem::of_syntax).collect();
    let mut cases = Vec::new();
    if problems.is_empty() {
        cases.extend(read.case.value.into_iter().filter_map(|section| case(section, &mut reader)));
        problems = reader.finish();
    }
    if problems.is_empty() {
        return Some(CaseFile { file, cases });
    }
    outer.elsewhere(Problems::new(&file.name, &file.text, problems));
    None
}

fn case(section: Spanned<schema::Case>, reader: &mut Reader<'_>) -> Option<Case> {
    let at = section.span();
    let section = section.into_inner();
    let targets = [
        (ObjectKind::Tool, section.tool.value),
        (ObjectKind::Prompt, section.prompt.value),
        (ObjectKind::Resource, section.resource.value),
    ];
    let mut named = targets.into_iter().filter_map(|(kind, target)| Some((kind, target?)));
    let (Some((kind, target)), None) = (named.next(), named.next()) else {
        let help = "name one of `tool`, `prompt` and `resource`, as \"UPSTREAM/NAME\"";
        reader.problem(Problem::new(at, "this case is not about one thing", help));
        return None;
    };
    let (target_at, target) = (target.span(), target.into_inner());
    let Some((upstream, name)) = target.split_once('/') else {
        let title = format!("`{target}` does not say whose it is");
        let help = "write the upstream's name before it: \"UPSTREAM/NAME\"";
        reader.problem(Problem::new(target_at, title, help));
        return None;
    };
    let action = section.action.value.map_or(kind.use_of(), |action| action.0);
    if !kind.takes(action) {
        let title = format!("nobody can {} a {}", action.name(), kind.name().to_lowercase());
        let span = section.action.span.unwrap_or(at);
        reader.problem(Problem::new(span, title, "leave `action` out for the usual one"));
        return None;
    }
    let Some(expected_at) = section.expect.span else {
        let help = "say how it must end: expect = \"allow\", \"deny\" or \"unseen\"";
        reader.problem(Problem::new(at, "this case expects nothing", help));
        return None;
    };
    Some(Case {
        at: expected_at,
        caller: section.caller.value.unwrap_or_default(),
        groups: section.groups.value,
        scopes: section.scopes.value,
        mfa: section.mfa.value,
        action,
        kind,
        upstream: upstream.to_owned(),
        name: name.to_owned(),
        annotations: section.annotations.value.0,
        tags: section.tags.value,
        arguments: section.arguments.value.0,
        client: section.client.value.unwrap_or_default(),
        time: section.time.value.0,
        expect: section.expect.value,
    })
}

/// Names of things by patterns, for each tag.
pub fn tags(section: super::value::Table<Vec<String>>) -> BTreeMap<String, Vec<String>> {
    let entries = section.0.into_iter();
    entries.map(|(tag, patterns)| (tag.into_inner(), patterns)).collect()
}
