//! A Rust source as text: what of it is code, its functions, types and paths; no parser.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// One file without its tests.
pub struct Source {
    /// Under `src/`: `pipeline/mod.rs`.
    pub name: String,
    /// The modules that lead to it: `pipeline`, `audit`.
    pub module: Vec<String>,
    /// Comments and the contents of texts are blanks; lines are where they were.
    pub code: String,
    pub lines: usize,
    /// The lines of public functions that can fail and do not say when.
    pub silent_errors: Vec<usize>,
}

pub struct Function {
    pub name: String,
    pub line: usize,
    pub lines: usize,
    /// As they are written, without `self`.
    pub parameters: Vec<String>,
    /// Its signature is a trait's to choose.
    pub of_trait: bool,
}

/// All files below a folder; those that only tests have are left out.
pub fn read(root: &Path) -> Vec<Source> {
    let tests = |path: &Path| {
        let name = path.strip_prefix(root).unwrap();
        name.components()
            .any(|part| ["tests", "tests.rs"].contains(&part.as_os_str().to_str().unwrap()))
    };
    files(root).iter().filter(|path| !tests(path)).map(|path| Source::read(root, path)).collect()
}

pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.extend(path.extension().is_some_and(|e| e == "rs").then_some(path)),
        }
    }
    found.sort();
    found
}

impl Source {
    fn read(root: &Path, path: &Path) -> Self {
        let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        Self::new(&name, &fs::read_to_string(path).unwrap())
    }

    pub fn new(name: &str, text: &str) -> Self {
        let body = without_tests(text);
        let parts = name.trim_end_matches(".rs").split('/');
        let module = parts.filter(|part| !["mod", "lib"].contains(part)).map(str::to_owned);
        Self {
            name: name.to_owned(),
            module: module.collect(),
            code: code(body),
            lines: body.lines().count(),
            silent_errors: silent_errors(body),
        }
    }

    fn line_of(&self, at: usize) -> usize {
        1 + self.code[..at].matches('\n').count()
    }

    pub fn functions(&self) -> Vec<Function> {
        let code = &self.code;
        words(code, "fn").filter_map(|at| self.function(at)).collect()
    }

    fn function(&self, at: usize) -> Option<Function> {
        let code = &self.code;
        let rest = code[at + 2..].trim_start();
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if name.is_empty() {
            return None;
        }
        let mut open = code.len() - rest.len() + name.len();
        if code[open..].starts_with('<') {
            open += closing_angle(&code[open..])?;
        }
        let open = open + code[open..].find(|c: char| !c.is_whitespace())?;
        let close = open + closing(&code[open..])?;
        let parameters = split(&code[open + 1..close]);
        let parameters = parameters.into_iter().filter(|text| !is_receiver(text)).collect();
        let end = close + code[close..].find(['{', ';'])?;
        let last = if code[end..].starts_with('{') { end + closing(&code[end..])? } else { end };
        let line = self.line_of(at);
        let lines = 1 + self.code[at..last].matches('\n').count();
        // Looked at where it matters only.
        let of_trait = self.code[open..close].contains([',', '(']) && self.is_in_trait(at);
        Some(Function { name, line, lines, parameters, of_trait })
    }

    /// Whether the innermost block around a place is a trait's, or implements one.
    fn is_in_trait(&self, at: usize) -> bool {
        let mut depth = 0;
        for (place, c) in self.code[..at].char_indices().rev() {
            match c {
                '}' => depth += 1,
                '{' if depth == 0 => {
                    let head = self.code[..place].rsplit(['{', '}', ';']).next().unwrap();
                    let has = |word| words(head, word).next().is_some();
                    return has("trait") || has("impl") && has("for");
                }
                '{' => depth -= 1,
                _ => (),
            }
        }
        false
    }

    /// Every `let (a, b) = (x, y);`, by its line.
    pub fn paired_lets(&self) -> Vec<usize> {
        let paired = |at: usize| {
            let rest = self.code[at + 3..].trim_start();
            let after =
                rest.get(closing(rest).filter(|_| rest.starts_with('('))? + 1..)?.trim_start();
            let value = after.strip_prefix('=')?.trim_start();
            let end = closing(value).filter(|_| value.starts_with('('))?;
            let ends = value[end + 1..].trim_start().starts_with(';');
            (ends && 1 < split(&value[1..end]).len()).then(|| self.line_of(at))
        };
        words(&self.code, "let").filter_map(paired).collect()
    }

    /// The types that it defines outside of functions and traits, with whether they are public.
    pub fn types(&self) -> Vec<(String, bool)> {
        let mut found = Vec::new();
        for line in self.code.lines() {
            let public = line.starts_with("pub");
            let rest = line.strip_prefix("pub").map_or(line, |rest| {
                match rest.trim_start().strip_prefix('(') {
                    Some(scope) => scope.split_once(')').map_or("", |(_, rest)| rest),
                    None => rest,
                }
            });
            let mut words = rest.split_whitespace();
            if let (Some("struct" | "enum" | "trait" | "type"), Some(name)) =
                (words.next(), words.next())
            {
                let name: String = name.chars().take_while(|c| c.is_alphanumeric()).collect();
                found.push((name, public));
            }
        }
        found
    }

    /// Every path that begins with `super`, `self` or `crate`, groups taken apart.
    pub fn paths(&self) -> Vec<Named> {
        let firsts = ["super", "self", "crate"].into_iter();
        let mut begins: Vec<_> = firsts.flat_map(|first| words(&self.code, first)).collect();
        begins.sort_unstable();
        let (mut found, mut end) = (Vec::new(), 0);
        for at in begins {
            let before = self.code[..at].trim_end();
            // Part of a path or a group that was read already, or a path's later word.
            if at < end || before.ends_with("::") {
                continue;
            }
            let head = before.rsplit(['\n', ';']).next().unwrap();
            let public = before.ends_with("use") && head.contains("pub");
            let mut paths = Vec::new();
            end = at + tree(&self.code[at..], &mut Vec::new(), &mut paths);
            paths.retain(|parts: &Vec<String>| 1 < parts.len());
            let line = self.line_of(at);
            found.extend(paths.into_iter().map(|parts| Named { line, parts, public }));
        }
        found
    }
}

/// One path, as it is written.
pub struct Named {
    pub line: usize,
    pub parts: Vec<String>,
    /// It is handed on: `pub use`.
    pub public: bool,
}

/// Reads `a::b::{c, d::e}` into its paths; returns what it took.
fn tree(text: &str, before: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> usize {
    let mut at = blank(text);
    if text[at..].starts_with('{') {
        at += 1;
        loop {
            at += blank(&text[at..]);
            if at >= text.len() || text[at..].starts_with('}') {
                return (at + 1).min(text.len());
            }
            if text[at..].starts_with(',') {
                at += 1;
                continue;
            }
            let taken = tree(&text[at..], before, found);
            if taken == 0 {
                return text.len();
            }
            at += taken;
        }
    }
    let word: String =
        text[at..].chars().take_while(|c| c.is_alphanumeric() || "_*".contains(*c)).collect();
    if word.is_empty() {
        return 0;
    }
    at += word.len();
    before.push(word);
    if text[at..].starts_with("::") && !text[at + 2..].starts_with('<') {
        let taken = tree(&text[at + 2..], before, found);
        if taken == 0 {
            found.push(before.clone());
        }
        at += 2 + taken;
    } else {
        found.push(before.clone());
        let rest = &text[at + blank(&text[at..])..];
        if rest.starts_with("as ") {
            at = text.len() - rest.len() + 3;
            at += text[at..].find([',', '}', ';', '\n']).unwrap_or(0);
        }
    }
    before.pop();
    at
}

fn blank(text: &str) -> usize {
    text.len() - text.trim_start().len()
}

/// Public functions that return a `Result` and have no `# Errors`.
fn silent_errors(text: &str) -> Vec<usize> {
    let lines: Vec<_> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let words: Vec<_> = line.split_whitespace().take(4).collect();
        if words.first() != Some(&"pub") || !words.contains(&"fn") {
            continue;
        }
        let head = lines[at..].iter().take_while(|line| !line.trim().is_empty());
        let head = head.copied().collect::<Vec<_>>().join("\n");
        let head = head.split('{').next().unwrap();
        let returned = head.rsplit_once("->").map_or("", |(_, returned)| returned.trim());
        let fails = words_of_type(returned).any(|word| word == "Result");
        // Attributes may take several lines.
        let ends = |line: &&str| line.is_empty() || line.ends_with([';', '}', '{']);
        let docs = lines[..at].iter().rev().map(|line| line.trim());
        let mut docs = docs.take_while(|line| line.starts_with("///") || !ends(line));
        if fails && !docs.any(|line| line.contains("# Errors")) {
            found.push(at + 1);
        }
    }
    found
}

/// The path before the arguments of a type: `io`, `Result` of `io::Result<()>`.
fn words_of_type(text: &str) -> impl Iterator<Item = &str> {
    text.split('<').next().unwrap().split("::")
}

/// The text before its tests.
fn without_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod ").next().unwrap()
}

/// Where a word stands by itself.
fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let after = text[at + word.len()..].chars().next();
        !text[..*at].chars().next_back().is_some_and(part) && !after.is_some_and(part)
    })
}

/// Where the bracket closes that a text begins with.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => (),
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// What follows the `>` that closes the `<` that a text begins with.
fn closing_angle(text: &str) -> Option<usize> {
    let mut depth = 0;
    let mut last = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '<' => depth += 1,
            '>' if last != '-' => depth -= 1,
            _ => (),
        }
        if depth == 0 {
            return Some(at + 1);
        }
        last = c;
    }
    None
}

/// The parts of a list, without blanks around them.
fn split(list: &str) -> Vec<String> {
    let (mut depth, mut last, mut parts) = (0, ' ', vec![String::new()]);
    for c in list.chars() {
        match c {
            '(' | '[' | '{' | '<' => depth += 1,
            '>' if last == '-' || last == '=' => (),
            ')' | ']' | '}' | '>' => depth -= 1,
            _ => (),
        }
        match c {
            ',' if depth == 0 => parts.push(String::new()),
            _ => parts.last_mut().unwrap().push(c),
        }
        last = c;
    }
    parts.iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

fn is_receiver(parameter: &str) -> bool {
    let name = parameter.split(':').next().unwrap();
    words(name, "self").next().is_some()
}

impl Function {
    /// The parameters that are tuples, in their pattern or their type.
    pub fn tuples(&self) -> impl Iterator<Item = &String> {
        self.parameters.iter().filter(|parameter| {
            let (pattern, kind) = match parameter.starts_with('(') {
                true => parameter.split_at(closing(parameter).map_or(0, |at| at + 1)),
                false => parameter.split_once(':').unwrap_or((parameter, "")),
            };
            let kind = kind.trim_start_matches([':', ' ', '&']);
            let kind = kind.strip_prefix("mut ").unwrap_or(kind);
            pattern.starts_with('(') || kind.starts_with('(') && kind != "()"
        })
    }
}

/// A text whose comments and contents of literals are blanks.
fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let taken = literal(rest, out.chars().next_back());
        match taken {
            Some(length) => {
                let keep = |c: char| if c == '\n' { '\n' } else { ' ' };
                out.extend(rest[..length].chars().map(keep));
                rest = &rest[length..];
            }
            None => {
                out.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    out
}

/// How long the comment or literal is that a text begins with.
fn literal(text: &str, before: Option<char>) -> Option<usize> {
    let part = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return Some(text.find("*/").map_or(text.len(), |at| at + 2));
    }
    let raw = text.strip_prefix("br").or_else(|| text.strip_prefix('r')).filter(|_| !part);
    if let Some(rest) = raw {
        let hashes = rest.len() - rest.trim_start_matches('#').len();
        if rest[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let begins = text.len() - rest.len() + hashes + 1;
            return Some(begins + text[begins..].find(&end).map_or(0, |at| at + end.len()));
        }
    }
    let quote = text.strip_prefix('"').map(|_| '"').or_else(|| {
        // A lifetime has no second quote after its first letter.
        let inner = text.strip_prefix('\'')?;
        let second = inner.chars().nth(1)?;
        (inner.starts_with('\\') || second == '\'').then_some('\'')
    })?;
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == quote && !escaped {
            return Some(at + 1);
        }
        escaped = c == '\\' && !escaped;
    }
    Some(text.len())
}

/// The files of a module by what leads to them, with their paths.
type Files<'a> = BTreeMap<&'a [String], (&'a Source, Vec<Named>)>;

/// Which file uses which other of the same module (`pipeline`), with the lines.
pub fn uses(sources: &[Source], module: &str) -> BTreeMap<String, Vec<String>> {
    let inside = |source: &&Source| source.module.first().is_some_and(|first| first == module);
    let sources = sources.iter().filter(inside).map(|source| (source, source.paths()));
    let files: Files<'_> = sources.map(|file| (&file.0.module[..], file)).collect();
    let mut uses = BTreeMap::new();
    for (source, paths) in files.values() {
        let mut used: Vec<String> = Vec::new();
        for path in paths.iter().filter(|path| !path.public) {
            let target = target(&files, &source.module, &path.parts, 0);
            used.extend(target.filter(|name| *name != source.name));
        }
        used.sort();
        used.dedup();
        uses.insert(source.name.clone(), used);
    }
    uses
}

/// The file in which the item of a path is defined.
fn target(files: &Files<'_>, from: &[String], path: &[String], depth: usize) -> Option<String> {
    let mut at = from.to_vec();
    for (index, part) in path.iter().enumerate() {
        match part.as_str() {
            "crate" => at.clear(),
            "self" => (),
            "super" => drop(at.pop()),
            _ => {
                let mut child = at.clone();
                child.push(part.clone());
                if at.is_empty() || files.contains_key(&child[..]) {
                    at = child;
                    continue;
                }
                let (file, paths) = files.get(&at[..])?;
                // Handed on from elsewhere?
                let on = paths.iter().find(|on| on.public && on.parts.last() == Some(part));
                return match on {
                    Some(on) if depth < 8 && path[index..].len() == 1 => {
                        target(files, &at, &on.parts, depth + 1)
                    }
                    _ => Some(file.name.clone()),
                };
            }
        }
    }
    files.get(&at[..]).map(|(file, _)| file.name.clone())
}

/// The circles: files that lead to each other, largest first.
pub fn circles(uses: &BTreeMap<String, Vec<String>>) -> Vec<Vec<String>> {
    let reach = |from: &String| {
        let (mut seen, mut next) = (Vec::new(), uses[from].clone());
        while let Some(file) = next.pop() {
            if !seen.contains(&file) {
                next.extend(uses.get(&file).into_iter().flatten().cloned());
                seen.push(file);
            }
        }
        seen
    };
    let reached: BTreeMap<_, _> = uses.keys().map(|file| (file, reach(file))).collect();
    let mut circles: Vec<Vec<String>> = Vec::new();
    for (file, seen) in &reached {
        if !seen.contains(file) || circles.iter().flatten().any(|other| other == *file) {
            continue;
        }
        let back = |other: &&String| reached.get(other).is_some_and(|seen| seen.contains(file));
        circles.push(seen.iter().filter(back).cloned().collect());
    }
    circles.iter_mut().for_each(|circle| circle.sort());
    circles.sort_by_key(|circle| std::cmp::Reverse(circle.len()));
    circles
}
