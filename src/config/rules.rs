//! `policy` and `cases` of a route: files that are read with the configuration, so that a change of
//! them is one of it. The module `policy` judges what they say.

use std::{fs, io, ops::Range, path::Path, sync::Arc};

use toml::Spanned;

use crate::{
    call::{Action, ObjectKind, UpstreamName},
    mcp::raw::Raw,
};

use super::toml::{
    problem::Problem,
    reader::Reader,
    section::{Field, read_other_file},
    table::section,
    value::{JsonTable, LocalPath, Moment, words},
};

/// The ending of the names of policies' files; a folder stands for all of them in it.
const EXTENSION: &str = "cedar";

/// The policies that a route is judged by.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// The policies' files in the order of the route; those of a folder by their names.
    pub policies: Vec<RuleFile>,
    pub cases: Vec<CaseFile>,
}

/// A file as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleFile {
    /// The name as problems show it.
    pub name: String,
    pub text: Arc<str>,
}

/// A file of cases.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseFile {
    pub file: RuleFile,
    pub cases: Vec<Case>,
}

/// A question, and how policies must answer it.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// The place of the answer in the file.
    pub at: Range<usize>,
    /// `AUTHORITY/SUBJECT`, or an address.
    pub caller: String,
    pub groups: Vec<String>,
    pub scopes: Vec<String>,
    /// The caller logged in with a second factor.
    pub mfa: bool,
    pub action: Action,
    pub kind: ObjectKind,
    pub upstream: UpstreamName,
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

words! {
    /// How a case is to end.
    #[derive(Default)]
    Expected {
        /// Seen and permitted.
        Allow = "allow",
        /// Seen, and denied.
        #[default]
        Deny = "deny",
        /// Not even seen.
        Unseen = "unseen",
    }
}

section! {
    /// Decisions that policies must make.
    keys Cases {
        /// Each a question and its answer.
        case: Vec<CaseFields>,
    }
}

section! {
    /// A question, and how policies must answer it.
    keys CaseFields {
        /// `AUTHORITY/SUBJECT`, or the address of one that nobody vouches for.
        caller: String,
        /// Groups that the caller is in.
        groups: Vec<String>,
        /// Scopes of the caller's token.
        scopes: Vec<String>,
        /// Whether it logged in with a second factor.
        mfa: bool = false,
        /// The action that is asked for; calling a tool, getting a prompt, reading a resource if
        /// not said.
        action: Option<Action>,
        /// A tool, as "UPSTREAM/NAME", with the upstream's own name for it.
        tool: Option<Spanned<String>>,
        /// The prompt that is asked for.
        prompt: Option<Spanned<String>>,
        /// The resource that is asked for, by its URI.
        resource: Option<Spanned<String>>,
        /// The upstream's annotations of the tool, in the protocol's words: { readOnlyHint = true
        /// }.
        annotations: JsonTable = (Raw::object()),
        /// Tags that the upstream's section gives it.
        tags: Vec<String>,
        /// Arguments of the call.
        arguments: JsonTable = (Raw::object()),
        /// The name of the client's program.
        client: String,
        /// When it is asked: "2026-11-24T10:00:00Z".
        time: Moment,
        /// Whether it is seen and permitted ("allow"), seen and denied ("deny"), or not even seen.
        expect: Option<Expected>,
    }
}

/// The rules of a route's keys; none where it has no `policy`.
pub fn rules(
    policy: &Field<Vec<Spanned<LocalPath>>>,
    cases: &Field<Vec<Spanned<LocalPath>>>,
    reader: &mut Reader<'_>,
) -> Option<Rules> {
    let Some(span) = &policy.span else {
        if let Some(span) = &cases.span {
            let help = "name the policies, too: policy = [\"policies/base.cedar\"]";
            reader.problem(Problem::new(span.clone(), "`cases` without `policy`", help));
        }
        return None;
    };
    let mut policies = Vec::new();
    for path in &policy.value {
        let at = path.span();
        let path = path.get_ref();
        match files(path, reader) {
            Ok(found) if found.is_empty() => {
                let title = format!("the folder {} has no `*.{EXTENSION}`", path.display());
                reader.problem(Problem::new(at, title, "put policies there, or name a file"));
            }
            Ok(found) => policies.extend(found),
            Err(error) => reader.problem(unreadable(at, path, &error)),
        }
    }
    if policies.is_empty() && !reader.has_problem(span) {
        let help = "name a file or a folder, or remove `policy`: without it all is permitted";
        reader.problem(Problem::new(span.clone(), "this route names no policy", help));
    }
    let mut names = std::collections::HashSet::new();
    policies.retain(|file| names.insert(file.name.clone()));
    let mut read = Vec::new();
    for path in &cases.value {
        let at = path.span();
        let path = path.get_ref();
        match file(path, reader) {
            Ok(file) => read.extend(case_file(file, reader)),
            Err(error) => reader.problem(unreadable(at, path, &error)),
        }
    }
    Some(Rules { policies, cases: read })
}

fn unreadable(at: Range<usize>, path: &Path, error: &io::Error) -> Problem {
    let title = format!("{} cannot be read: {error}", path.display());
    Problem::new(at, title, "a relative path begins in the folder of this file")
}

fn files(path: &Path, reader: &mut Reader<'_>) -> io::Result<Vec<RuleFile>> {
    reader.note_file(path);
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![file(path, reader)?]);
    }
    let mut paths = Vec::new();
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            paths.push(path);
        }
    }
    paths.sort();
    paths.iter().map(|path| file(path, reader)).collect()
}

fn file(path: &Path, reader: &mut Reader<'_>) -> io::Result<RuleFile> {
    reader.note_file(path);
    let text = fs::read_to_string(path)?.into();
    Ok(RuleFile { name: path.to_string_lossy().into_owned(), text })
}

/// The cases of a file; none where it has problems, which the reader knows then.
fn case_file(file: RuleFile, outer: &mut Reader<'_>) -> Option<CaseFile> {
    let read = |cases: Cases, reader: &mut Reader<'_>| {
        cases.case.value.into_iter().filter_map(|section| case(section, reader)).collect()
    };
    let cases = read_other_file(&file.name, &file.text, outer, read)?;
    Some(CaseFile { file, cases })
}

fn case(section: CaseFields, reader: &mut Reader<'_>) -> Option<Case> {
    let at = section.at;
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
    let target_at = target.span();
    let target = target.into_inner();
    let Some((upstream, name)) = target.split_once('/') else {
        let title = format!("`{target}` does not say whose it is");
        let help = "write the upstream's name before it: \"UPSTREAM/NAME\"";
        reader.problem(Problem::new(target_at, title, help));
        return None;
    };
    let action = section.action.value.unwrap_or(kind.use_of());
    if !kind.takes(action) {
        let title = format!("nobody can {} a {}", action.name(), kind.name().to_lowercase());
        let span = section.action.span.unwrap_or(at);
        reader.problem(Problem::new(span, title, "leave `action` out for the usual one"));
        return None;
    }
    let (Some(expected_at), Some(expect)) = (section.expect.span, section.expect.value) else {
        let help = "say how it must end: expect = \"allow\", \"deny\" or \"unseen\"";
        reader.problem(Problem::new(at, "this case expects nothing", help));
        return None;
    };
    Some(Case {
        at: expected_at,
        caller: section.caller.value,
        groups: section.groups.value,
        scopes: section.scopes.value,
        mfa: section.mfa.value,
        action,
        kind,
        upstream: upstream.into(),
        name: name.to_owned(),
        annotations: section.annotations.value,
        tags: section.tags.value,
        arguments: section.arguments.value,
        client: section.client.value,
        time: section.time.value,
        expect,
    })
}
