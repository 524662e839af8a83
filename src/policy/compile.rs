//! Compiles the texts of a configuration to policies that can be asked, or to everything that is
//! wrong with them.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::{Arc, LazyLock},
};

use cedar_policy::{
    Effect, Policy, PolicyId, PolicySet, Schema, Template, ValidationMode, ValidationWarning,
    Validator,
};
use miette::Diagnostic;

use crate::{
    call::RoutePath,
    config::{Config, Problem, Problems, RuleFile, nearest},
};

use super::{
    cases, demand,
    policies::Policies,
    reads::Reads,
    rule::{ParsedPolicy, PolicyRule},
    text,
};

/// Types and attributes that policies can speak of, as they are shipped.
const SCHEMA: &str = include_str!("../../policies/gateway.cedarschema");

const HELP: &str = "what policies can speak of is in policies/gateway.cedarschema";

static VALIDATOR: LazyLock<Validator> = LazyLock::new(|| {
    let (schema, _) = Schema::from_cedarschema_str(SCHEMA).expect("held to by every test here");
    Validator::new(schema)
});

/// The policies of all routes, by their paths.
#[derive(Debug, Default)]
pub struct Rulebook(HashMap<RoutePath, Arc<Policies>>);

/// All policies of a configuration, which pass all of its cases.
///
/// # Errors
/// Everything that is wrong with them, file by file.
pub fn compile(config: &Config) -> Result<Rulebook, Problems> {
    let upstreams: Vec<_> = config.upstreams.iter().map(|one| one.name.as_str()).collect();
    let authorities: Vec<_> = config.auth.iter().map(|one| one.name.as_str()).collect();
    let mut files = HashMap::new();
    let mut problems = Vec::new();
    let ruled = || config.routes.iter().filter_map(|route| Some((route, route.rules.as_ref()?)));
    for file in ruled().flat_map(|(_, rules)| &rules.policies) {
        if files.contains_key(&file.name) {
            continue;
        }
        let upstreams = &upstreams[..];
        let authorities = &authorities[..];
        let mut reading = Reading { file, upstreams, authorities, problems: Vec::new() };
        let read = reading.policies();
        problems.push(Problems::new(&file.name, &file.text, reading.problems));
        files.insert(file.name.clone(), read);
    }
    if let Some(problems) = Problems::all(problems) {
        return Err(problems);
    }
    let mut book = HashMap::new();
    let mut failed = Vec::new();
    for (route, rules) in ruled() {
        let policies = Arc::new(Policies::new(rules, &files));
        failed.extend(cases::run(&route.path, rules, &policies, &config.server.limits));
        book.insert(route.path.clone(), policies);
    }
    Problems::all(failed).map_or(Ok(Rulebook(book)), Err)
}

impl Rulebook {
    /// The policies of a route; none where it has none.
    pub fn of(&self, route: &RoutePath) -> Option<&Arc<Policies>> {
        self.0.get(route)
    }
}

/// A file that is being read.
struct Reading<'a> {
    file: &'a RuleFile,
    upstreams: &'a [&'a str],
    authorities: &'a [&'a str],
    problems: Vec<Problem>,
}

impl Reading<'_> {
    fn policies(&mut self) -> Vec<ParsedPolicy> {
        let pieces = text::pieces(&self.file.text);
        let count = pieces.len();
        if count == 0 {
            let help = "write one, or take the file away: one that was emptied, or is half \
                        written, must not lift what it forbids";
            self.problems.push(Problem::of_file("this file has no policy", help));
        }
        let known: Vec<_> = pieces.into_iter().filter_map(|piece| self.policy(piece)).collect();
        // The parts are held against Cedar's own reading of the whole: no policy is lost between
        // two others.
        let whole = self.file.text.parse::<PolicySet>().map(|set| set.policies().count());
        if self.problems.is_empty() && whole.ok() != Some(count) {
            let help = "look for a comment or a string that does not end where it seems to";
            let title = "this file reads otherwise as a whole than policy by policy";
            self.problems.push(Problem::of_file(title, help));
        }
        known
    }

    fn policy(&mut self, piece: Range<usize>) -> Option<ParsedPolicy> {
        let text = self.file.text.get(piece.clone()).unwrap_or_default();
        let (line, column) = text::place(&self.file.text, piece.start);
        let place = format!("{}:{line}:{column}", self.file.name);
        let policy = match Policy::parse(Some(PolicyId::new(&place)), text) {
            Ok(policy) => policy,
            Err(_) if Template::parse(None, text).is_ok() => {
                let help = "write whom or what it is for in place of `?principal` or `?resource`";
                self.problem(&piece, 0..text.len(), "nothing fills in this template", help);
                return None;
            }
            Err(errors) => {
                let errors: Vec<_> = errors.iter().collect();
                errors.iter().for_each(|error| self.told(&piece, *error));
                return None;
            }
        };
        let set = PolicySet::from_policies([policy.clone()]).expect("one is never twice");
        let checked = VALIDATOR.validate(&set, ValidationMode::Strict);
        checked.validation_errors().for_each(|error| self.told(&piece, error));
        // A problem that only follows from an error is none of its own.
        if checked.validation_passed() {
            let warnings = checked.validation_warnings().filter(|warning| is_mistake(warning));
            warnings.for_each(|warning| self.told(&piece, warning));
        }
        let Some(reads) = Reads::of(&policy) else {
            self.problem(
                &piece,
                0..text.len(),
                "this policy cannot be looked into",
                "write it otherwise",
            );
            return None;
        };
        if reads.loose {
            let help = "write context.texts.hasTag(\"NAME\") and context.texts.getTag(\"NAME\")";
            let title = "an argument is read otherwise than by a name that stands here";
            self.problem(&piece, 0..text.len(), title, help);
        }
        let odd = |name: &&String| {
            let mut after = name.split('~').skip(1);
            after.any(|rest| !rest.starts_with(['0', '1']))
        };
        if let Some(name) = reads.arguments.keys().find(odd) {
            let title = format!("no argument has the name \"{name}\" here");
            let help = "write `~0` for a `~`, and `~1` for a `/` that is part of a name";
            self.named(&piece, name, &title, help);
        }
        self.check_entities(&piece, &reads);
        let id = policy.annotation("id").map(str::to_owned);
        let words = policy.annotation("step_up");
        let step_up = words.and_then(demand::read);
        let forbids = policy.effect() == Effect::Forbid;
        if words.is_some() && !(forbids && step_up.is_some()) {
            let title = "`@step_up` says on a `forbid` which login would help";
            let help = "write it such as @step_up(\"amr=mfa max_age=15m\"): amr, acr, max_age";
            self.problem(&piece, 0..text.len(), title, help);
        }
        let rule = Arc::new(PolicyRule { id, place, step_up });
        Some(ParsedPolicy { policy, reads, rule })
    }

    /// An upstream or an authority that does not exist is one that was misspelt, or renamed.
    fn check_entities(&mut self, piece: &Range<usize>, reads: &Reads) {
        let mut told = HashSet::new();
        for (kind, id) in &reads.entities {
            let first = id.split('/').next().unwrap_or_default();
            let (what, name, known) = match kind.as_str() {
                "Upstream" => ("upstream", id.as_str(), self.upstreams),
                "Tool" | "Prompt" | "Resource" => ("upstream", first, self.upstreams),
                // Authorities that begin with `@` are of nobody's making.
                "Caller" if !first.starts_with('@') => ("authority", first, self.authorities),
                _ => continue,
            };
            if known.contains(&name) || !told.insert(id) {
                continue;
            }
            let help = nearest(name, known.iter().copied());
            self.named(piece, id, &format!("there is no {what} `{name}`"), &help);
        }
    }

    /// A problem where this text stands in a policy.
    fn named(&mut self, piece: &Range<usize>, name: &str, title: &str, help: &str) {
        let text = self.file.text.get(piece.clone()).unwrap_or_default();
        let written = format!("{name:?}");
        let at = text.find(&written).map_or(0..text.len(), |at| at..at + written.len());
        self.problem(piece, at, title, help);
    }

    fn told(&mut self, piece: &Range<usize>, error: &dyn Diagnostic) {
        let length = piece.len();
        let label = error.labels().and_then(|mut labels| labels.next());
        let at = label.map_or(0..length, |label| {
            let start = label.offset().min(length);
            start..(start + label.len().max(1)).min(length.max(start))
        });
        let text = error.to_string();
        let help = error.help().map(|help| help.to_string());
        // Its place is shown anyway.
        let placeless = |text: &str| {
            let rest = text.strip_prefix("for policy `").and_then(|text| text.split_once("`, "));
            rest.map_or(text, |(_, rest)| rest).to_owned()
        };
        let help = help.as_deref().map_or_else(|| HELP.to_owned(), placeless);
        self.problem(piece, at, &placeless(&text), &help);
    }

    /// A problem at bytes of a policy. Of one place the first is told: the same is found again for
    /// each action and kind of thing.
    fn problem(&mut self, piece: &Range<usize>, at: Range<usize>, title: &str, help: &str) {
        let at = piece.start + at.start..piece.start + at.end;
        if !self.problems.iter().any(|problem| problem.is_at(&at)) {
            self.problems.push(Problem::new(at, title, help));
        }
    }
}

/// A policy that can never apply, or reads otherwise than it looks.
fn is_mistake(warning: &ValidationWarning) -> bool {
    matches!(
        warning,
        ValidationWarning::ImpossiblePolicy(_)
            | ValidationWarning::InvalidActionApplication(_)
            | ValidationWarning::BidiCharsInString(_)
            | ValidationWarning::BidiCharsInIdentifier(_)
    )
}
