//! Finds in the standard error of a process the line that says best why it ended.

use std::borrow::Cow;

/// Lines from the end that are looked at: what is older is hardly about the end.
const LINES_MAX: usize = 60;
/// Characters that are kept.
const CHARS_MAX: usize = 300;

/// Words that name an error where a line, or a part of it up to a colon, ends with them.
const HEADS: [&str; 6] = ["error", "exception", "panic", "fatal", "panicked", "failure"];
/// Words that tell of an error wherever they stand.
const SIGNS: [&str; 16] = [
    "error",
    "errors",
    "exception",
    "panic",
    "panicked",
    "fatal",
    "failed",
    "failure",
    "cannot",
    "denied",
    "refused",
    "invalid",
    "missing",
    "unable",
    "aborted",
    "err!",
];
/// Phrases that do, too.
const PHRASES: [&str; 8] = [
    "not found",
    "no such",
    "could not",
    "can't",
    "segmentation fault",
    "core dumped",
    "out of memory",
    "unexpected",
];
/// Phrases of lines that speak of errors and have none.
const WELL: [&str; 6] =
    ["no error", "0 error", "without error", "error: none", "errors: 0", "error handler"];
/// Begins of lines that say nothing by themselves.
const FRAMES: [&str; 14] = [
    "at ",
    "file \"",
    "node.js v",
    "note: ",
    "goroutine ",
    "traceback (",
    "stack backtrace",
    "caused by:",
    "^",
    "npm err! code",
    "npm error code",
    "npm notice",
    "exit status",
    "created by ",
];

/// The line that says best why a process ended: the first of the last lines that begins with an
/// error, else the first that tells of one, else the last that says anything. Without control
/// characters, and cut to a length that fits a table.
pub fn best(stderr: &str) -> Option<String> {
    let lines: Vec<_> = stderr.lines().map(plain).filter(|line| is_said(line)).collect();
    let lines = lines.get(lines.len().saturating_sub(LINES_MAX)..).unwrap_or_default();
    let first = |tells: fn(&str) -> bool| lines.iter().position(|line| tells(line));
    let at = first(is_head).or_else(|| first(is_sign)).or(lines.len().checked_sub(1))?;
    let mut best = lines.get(at)?.clone();
    // Rust says where it panicked in one line, and why in the next.
    let next = lines.get(at + 1).filter(|_| best.contains("panicked at") && best.ends_with(':'));
    if let Some(why) = next {
        best = format!("{best} {why}");
    }
    Some(best.chars().take(CHARS_MAX).collect())
}

/// A line without sequences that steer a terminal, and without what else cannot be seen.
fn plain(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' {
            if rest.next_if_eq(&'[').is_some() {
                // A control sequence ends with a letter or the like (ECMA-48 §5.4).
                rest.by_ref().find(|end| ('@'..='~').contains(end));
            } else {
                rest.next();
            }
        } else if c == '\t' {
            text.push(' ');
        } else {
            let shown = c.escape_debug();
            // Quotes and backslashes are as they are.
            if shown.len() == 1 || "'\"\\".contains(c) { text.push(c) } else { text.extend(shown) }
        }
    }
    text.trim().to_owned()
}

/// Whether a line says anything by itself.
fn is_said(line: &str) -> bool {
    let small = line.to_lowercase();
    line.chars().any(char::is_alphanumeric) && !FRAMES.iter().any(|begin| small.starts_with(begin))
}

/// Whether it begins with an error: `TypeError: …`, `java.io.IOException: …`, `[x] ERROR …`.
fn is_head(line: &str) -> bool {
    if is_well(line) {
        return false;
    }
    let small = without_mark(line).to_lowercase();
    let begin: Cow<'_, str> = small.split(": ").next().unwrap_or_default().into();
    let mut words = begin.split_whitespace().map(|word| word.trim_matches([':', '[', ']', '.']));
    // A sentence that has the word somewhere is no head.
    words.clone().count() <= 5 && words.any(|word| HEADS.iter().any(|head| word.ends_with(head)))
}

/// Returns a line without what loggers put before a line: times, levels' brackets.
fn without_mark(line: &str) -> &str {
    line.trim_start_matches(|c: char| c.is_ascii_digit() || " -:.,/[]()TZ+|".contains(c))
}

fn is_sign(line: &str) -> bool {
    let small = line.to_lowercase();
    let mut words = small.split(|c: char| !c.is_alphanumeric() && c != '!');
    let tells = words.any(|word| SIGNS.contains(&word));
    (tells || PHRASES.iter().any(|phrase| small.contains(phrase))) && !is_well(line)
}

fn is_well(line: &str) -> bool {
    let small = line.to_lowercase();
    WELL.iter().any(|phrase| small.contains(phrase))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What runtimes and programs of the field write as they end, and which line of it counts.
    #[test]
    fn the_line_that_says_why_is_found() {
        for (stderr, want) in [
            (
                "node:internal/modules/cjs/loader:1228\n  throw err;\n  ^\n\nError: Cannot find \
                 module 'express'\nRequire stack:\n- /srv/x.js\n    at Module._resolve (x:1)\n  \
                 code: 'MODULE_NOT_FOUND',\n}\n\nNode.js v20.11.1\n",
                "Error: Cannot find module 'express'",
            ),
            (
                "up\nTraceback (most recent call last):\n  File \"x.py\", line 1, in <module>\n\
                 \x20   import foo\nModuleNotFoundError: No module named 'foo'\n",
                "ModuleNotFoundError: No module named 'foo'",
            ),
            (
                "thread 'main' panicked at src/main.rs:1:5:\nno token\nnote: run with \
                 `RUST_BACKTRACE=1` environment variable to display a backtrace\n",
                "thread 'main' panicked at src/main.rs:1:5: no token",
            ),
            (
                "panic: runtime error: index out of range [5]\n\ngoroutine 1 [running]:\n\
                 main.main()\n\t/tmp/x.go:5 +0x1d\nexit status 2\n",
                "panic: runtime error: index out of range [5]",
            ),
            (
                "Exception in thread \"main\" java.io.IOException: no key\n\tat a.B\n",
                "Exception in thread \"main\" java.io.IOException: no key",
            ),
            ("sh: 1: no-such: not found\n", "sh: 1: no-such: not found"),
            (
                "npm error code E404\nnpm error 404 Not Found - GET https://registry.npmjs.org/x\n\
                 npm notice New version\n",
                "npm error 404 Not Found - GET https://registry.npmjs.org/x",
            ),
            (
                "listening\nFATAL: password authentication failed\nbye\n",
                "FATAL: password authentication failed",
            ),
            (
                "\u{1b}[31m2026-11-30T10:00:00Z ERROR\u{1b}[0m token is missing\nbye\n",
                "2026-11-30T10:00:00Z ERROR token is missing",
            ),
            ("ready\n0 errors\nGITHUB_TOKEN is missing\nbye\n", "GITHUB_TOKEN is missing"),
            ("Usage: server [--port N]\n\n", "Usage: server [--port N]"),
            ("one\ntwo\n", "two"),
            ("cannot open /x: permission denied\nstopping\n", "cannot open /x: permission denied"),
            ("Segmentation fault (core dumped)\n", "Segmentation fault (core dumped)"),
            ("a\u{202e}b\u{7}\n", "a\\u{202e}b\\u{7}"),
            (
                "Unhandled exception. System.IO.FileNotFoundException: no file\n   at X.Main()\n",
                "Unhandled exception. System.IO.FileNotFoundException: no file",
            ),
        ] {
            assert_eq!(best(stderr).as_deref(), Some(want), "{stderr}");
        }
        assert_eq!(best(""), None);
        assert_eq!(best("\n  \n---\n}\n"), None);
    }

    proptest! {
        #[test]
        fn whatever_is_said_a_short_plain_line_comes_of_it(text in ".{0,400}") {
            if let Some(best) = best(&text) {
                prop_assert!(best.chars().count() <= CHARS_MAX);
                prop_assert!(!best.chars().any(char::is_control));
            }
        }

        /// What was long before the end does not hide what is said at it.
        #[test]
        fn an_old_error_is_no_reason(lines in LINES_MAX..200usize) {
            let noise = "GET / 200\n".repeat(lines);
            let best = best(&format!("Error: old\n{noise}"));
            prop_assert_eq!(best.as_deref(), Some("GET / 200"));
        }
    }
}
