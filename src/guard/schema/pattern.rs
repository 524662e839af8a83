//! Patterns of a schema as ECMA-262 reads them, written as the `regex` crate reads them.
//!
//! `jsonschema` translates `\d`, `\w` and `\s`. What is left is what both read, and differently:
//! `\b` is a boundary of ASCII words, `\<` a plain `<`, `[^]` any character.

use std::{iter::Peekable, str::Chars};

use serde_json::{Map, Value};

/// Keywords with one part, or with a list of parts.
const WITH_PARTS: [&str; 15] = [
    "items",
    "prefixItems",
    "additionalItems",
    "unevaluatedItems",
    "contains",
    "additionalProperties",
    "unevaluatedProperties",
    "propertyNames",
    "not",
    "if",
    "then",
    "else",
    "allOf",
    "anyOf",
    "oneOf",
];

/// Keywords with parts by name.
const WITH_NAMED_PARTS: [&str; 6] =
    ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"];

/// A pattern that cannot be matched in linear time: where it stands, and why.
#[derive(Debug, PartialEq, Eq)]
pub struct UnusablePattern {
    /// A JSON Pointer.
    pub at: String,
    pub why: &'static str,
}

/// Translates all patterns of a schema, in its place.
///
/// # Errors
/// The first pattern that needs what is never matched here.
pub fn translate_all(schema: &mut Value) -> Result<(), UnusablePattern> {
    walk(schema, &mut String::new())
}

fn walk(part: &mut Value, at: &mut String) -> Result<(), UnusablePattern> {
    match part {
        Value::Object(members) => {
            if let Some(Value::String(pattern)) = members.get_mut("pattern") {
                *pattern = translated(pattern, at, "pattern")?;
            }
            if let Some(Value::Object(by_pattern)) = members.get_mut("patternProperties") {
                let each = std::mem::take(by_pattern).into_iter().map(|(pattern, inner)| {
                    Ok((translated(&pattern, at, "patternProperties")?, inner))
                });
                *by_pattern = each.collect::<Result<Map<_, _>, _>>()?;
            }
            for (key, inner) in members {
                if WITH_PARTS.contains(&key.as_str()) {
                    within(at, key, |at| walk(inner, at))?;
                } else if WITH_NAMED_PARTS.contains(&key.as_str())
                    && let Value::Object(named) = inner
                {
                    within(at, key, |at| walk_each(named, at))?;
                }
            }
            Ok(())
        }
        Value::Array(items) => items
            .iter_mut()
            .enumerate()
            .try_for_each(|(number, item)| within(at, &number.to_string(), |at| walk(item, at))),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

fn walk_each(named: &mut Map<String, Value>, at: &mut String) -> Result<(), UnusablePattern> {
    named.iter_mut().try_for_each(|(name, inner)| within(at, name, |at| walk(inner, at)))
}

fn within<T>(at: &mut String, step: &str, look: impl FnOnce(&mut String) -> T) -> T {
    let before = at.len();
    at.push('/');
    at.push_str(&step.replace('~', "~0").replace('/', "~1"));
    let found = look(at);
    at.truncate(before);
    found
}

fn translated(pattern: &str, at: &str, keyword: &str) -> Result<String, UnusablePattern> {
    let mut translation =
        Translation { rest: pattern.chars().peekable(), written: String::new(), why: None };
    translation.whole();
    match translation.why {
        Some(why) => Err(UnusablePattern { at: format!("{at}/{keyword}"), why }),
        None => Ok(translation.written),
    }
}

struct Translation<'a> {
    rest: Peekable<Chars<'a>>,
    written: String,
    why: Option<&'static str>,
}

impl Translation<'_> {
    fn whole(&mut self) {
        while let Some(next) = self.rest.next() {
            match next {
                '\\' => self.escape(),
                '[' => self.class(),
                '(' => self.group(),
                '{' if !self.is_quantifier() => self.written.push_str(r"\{"),
                next => self.written.push(next),
            }
        }
    }

    fn escape(&mut self) {
        match self.rest.next() {
            Some('b') => self.written.push_str(r"(?-u:\b)"),
            Some('B') => self.written.push_str(r"(?-u:\B)"),
            Some('1'..='9') => self.why = Some("it has a back-reference"),
            Some('k') if self.rest.peek() == Some(&'<') => {
                self.why = Some("it has a back-reference");
            }
            escaped => self.plain_escape(escaped),
        }
    }

    /// An escape that means the same within a class and outside of one.
    fn plain_escape(&mut self, escaped: Option<char>) {
        match escaped {
            Some('0') => self.written.push_str(r"\x00"),
            Some(
                kept @ ('d' | 'D' | 's' | 'S' | 'w' | 'W' | 'f' | 'n' | 'r' | 't' | 'v' | 'p' | 'P'
                | 'u' | 'x' | 'c'),
            ) => {
                self.written.extend(['\\', kept]);
                if "pPu".contains(kept) && self.rest.peek() == Some(&'{') {
                    let braced = self.rest.by_ref().take_while(|next| *next != '}');
                    self.written.extend(braced);
                    self.written.push('}');
                }
            }
            // An escape that ECMA-262 knows no meaning of is itself.
            Some(other) if other.is_alphanumeric() || !other.is_ascii() => self.written.push(other),
            Some(sign @ ('<' | '>')) => self.written.push(sign),
            Some(sign) => self.written.extend(['\\', sign]),
            None => self.written.push('\\'),
        }
    }

    fn group(&mut self) {
        self.written.push('(');
        let mut ahead = self.rest.clone();
        let [one, two, three] = [ahead.next(), ahead.next(), ahead.next()];
        match (one, two, three) {
            (Some('?'), Some('=' | '!'), _) => self.why = Some("it looks ahead"),
            (Some('?'), Some('<'), Some('=' | '!')) => self.why = Some("it looks behind"),
            _ => (),
        }
    }

    /// Whether what follows a `{` makes a quantifier of it: digits, a comma, digits.
    fn is_quantifier(&self) -> bool {
        let mut ahead = self.rest.clone();
        let inner: String = ahead.by_ref().take_while(|next| *next != '}').collect();
        let (least, most) = inner.split_once(',').unwrap_or((&inner, ""));
        let is_number = |text: &str| text.chars().all(|digit| digit.is_ascii_digit());
        !least.is_empty() && is_number(least) && is_number(most)
    }

    fn class(&mut self) {
        let mut ahead = self.rest.clone();
        match (ahead.next(), ahead.next()) {
            (Some(']'), _) => {
                self.rest.next();
                return self.written.push_str(r"[^\s\S]");
            }
            (Some('^'), Some(']')) => {
                self.rest.nth(1);
                return self.written.push_str(r"[\s\S]");
            }
            _ => self.written.push('['),
        }
        let mut is_set = false;
        while let Some(next) = self.rest.next() {
            let was_set = std::mem::take(&mut is_set);
            match next {
                ']' => return self.written.push(']'),
                '\\' => {
                    let escaped = self.rest.next();
                    is_set = escaped.is_some_and(|escaped| "dDsSwWpP".contains(escaped));
                    match escaped {
                        Some('b') => self.written.push_str(r"\x08"),
                        escaped => self.plain_escape(escaped),
                    }
                }
                // A set of characters is no end of a range: the hyphen is one of them.
                '-' if self.rest.peek() != Some(&']') && (was_set || self.is_set_next()) => {
                    self.written.push_str(r"\-");
                }
                next => self.written.push(next),
            }
        }
    }

    fn is_set_next(&self) -> bool {
        let mut ahead = self.rest.clone();
        ahead.next() == Some('\\') && ahead.next().is_some_and(|next| "dDsSwW".contains(next))
    }
}
