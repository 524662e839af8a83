//! Texts of others as they may reach a terminal or a log: without escape sequences, text that turns
//! around, and passwords in URLs.

use std::{
    borrow::Cow,
    fmt::Write as _,
    io::{self, Write},
};

/// The text with all controls but line ends and tabs, and all that changes its direction, written
/// as JSON writes them: `\u001b`. JSON stays JSON.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match is_hidden(c) {
            true => write!(out, "\\u{:04x}", u32::from(c)).expect("a text grows"),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// The text as it may stand within a line: as [`printable`], with line ends and tabs written out,
/// too.
pub fn line(text: &str) -> Cow<'_, str> {
    let text = printable(text);
    if !text.contains(['\n', '\t']) {
        return text;
    }
    Cow::Owned(text.replace('\n', "\\u000a").replace('\t', "\\u0009"))
}

/// C0 and C1 (ECMA-48), and the formatting characters of Unicode's bidirectional algorithm
/// (Standard Annex 9, table 3).
fn is_hidden(c: char) -> bool {
    c.is_control() && !matches!(c, '\n' | '\t')
        || matches!(
            c,
            '\u{61c}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
        )
}

/// The text without the user info of URLs, which may hold a password: with a scheme before it
/// (`http://user@host`), or a password in it (`user:password@host`).
pub fn masked(text: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut copied = 0;
    for at in memchr::memchr_iter(b'@', text.as_bytes()) {
        let before = text.get(copied..at).unwrap_or_default();
        let begins = |c: char| c.is_whitespace() || "\"'`(<,=[{/|".contains(c);
        let start = before.rfind(begins).map_or(0, |start| {
            start
                + before.get(start..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8)
        });
        let (ahead, user) = before.split_at(start);
        if !user.is_empty() && (user.contains(':') || ahead.ends_with("//")) {
            out.push_str(ahead);
            out.push_str("***");
            copied = at;
        }
    }
    if copied == 0 && out.is_empty() {
        return Cow::Borrowed(text);
    }
    out.push_str(text.get(copied..).unwrap_or_default());
    Cow::Owned(out)
}

/// A writer of whole lines that masks the user info of URLs in them.
#[derive(Debug)]
pub struct Masked<W>(pub W);

impl<W: Write> Write for Masked<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match std::str::from_utf8(bytes) {
            Ok(text) => self.0.write_all(masked(text).as_bytes())?,
            Err(_) => self.0.write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_would_move_a_cursor_or_turn_a_line_around_is_written_out() {
        for (text, want) in [
            ("plain\n\ttext é 日本 😀", "plain\n\ttext é 日本 😀"),
            ("\u{1b}[2J\u{1b}[31mPWNED", "\\u001b[2J\\u001b[31mPWNED"),
            ("\u{1b}]0;owned\u{7}", "\\u001b]0;owned\\u0007"),
            ("\u{9b}31m", "\\u009b31m"),
            ("x\rforged", "x\\u000dforged"),
            ("a\u{202e}b\u{2066}c", "a\\u202eb\\u2066c"),
            ("\u{8}\u{7f}\u{0}", "\\u0008\\u007f\\u0000"),
            ("\u{200f}\u{61c}", "\\u200f\\u061c"),
            ("\u{2028}", "\\u2028"),
            ("\u{85}", "\\u0085"),
        ] {
            assert_eq!(printable(text), want);
        }
        for (text, want) in [
            ("plain é", "plain é"),
            ("a\nlevel=ERROR b", "a\\u000alevel=ERROR b"),
            ("\u{1b}[2J\t", "\\u001b[2J\\u0009"),
            ("a\r\n", "a\\u000d\\u000a"),
        ] {
            assert_eq!(line(text), want);
        }
    }

    #[test]
    fn no_line_of_the_log_has_a_password() {
        for (line, want) in [
            ("GET http://user:PW@host/x", "GET http://***@host/x"),
            ("GET http://token@host/x", "GET http://***@host/x"),
            (
                "idle connection for (\"http\", user:PW@host)",
                "idle connection for (\"http\", ***@host)",
            ),
            ("a=http://u:p@h b=https://v:q@i", "a=http://***@h b=https://***@i"),
            ("{\"url\":\"http://u:p@h\"}", "{\"url\":\"http://***@h\"}"),
            ("http://u:p%40x@h", "http://***@h"),
            ("u:p@h,v:q@h", "***@h,***@h"),
            ("npx -y @scope/server@1.2", "npx -y @scope/server@1.2"),
            ("mail to ann@example.com", "mail to ann@example.com"),
            ("caller=corp/ann@example.com", "caller=corp/ann@example.com"),
            ("a @ b", "a @ b"),
        ] {
            assert_eq!(masked(line), want);
        }
    }

    proptest! {
        #[test]
        fn no_password_is_left(
            before in "[a-z \"(/=]{0,6}", password in "[A-Z]{3,9}", after in "[a-z@:/ ]{0,6}",
        ) {
            let line = format!("{before} http://user:{password}@host{after}");
            prop_assert!(!masked(&line).contains(&password));
        }

        #[test]
        fn json_stays_json(text in "\\PC{0,12}|[\u{0}-\u{1f}\u{7f}-\u{9f}\u{202a}-\u{202e}]{0,6}") {
            let json = serde_json::to_string(&text).unwrap();
            let read: String = serde_json::from_str(&printable(&json)).unwrap();
            prop_assert_eq!(read, text);
        }
    }
}
