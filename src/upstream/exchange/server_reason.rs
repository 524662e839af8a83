//! The reason that a server itself gives for a refusal: for operators, in few words, without what
//! may be secret.

use std::{borrow::Cow, fmt};

use serde_json::Value;

/// Characters that are shown of a server's words.
const CHARS_MAX: usize = 200;
/// Bytes of a body that are looked at.
const BODY_BYTES_MAX: usize = 16 << 10;
/// A run of so many characters of a token, with letters and digits, is taken for a secret.
const SECRET_CHARS_MIN: usize = 20;
/// Members of a JSON body that say why, the best first (RFC 6749 §5.2, RFC 9457 §3.1).
const MEMBERS: [&str; 8] = [
    "/error_description",
    "/error/message",
    "/message",
    "/detail",
    "/error",
    "/title",
    "/reason",
    "/errors/0/message",
];

/// A server's own reason for a refusal, and what can be done about it. Empty where it gave none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerReason(Option<Box<str>>);

/// An answer that refuses, as far as it may say why.
#[derive(Debug, Clone, Copy, Default)]
pub struct Refusal<'a> {
    pub status: u16,
    /// The values of `WWW-Authenticate`.
    pub challenge: &'a str,
    pub body: &'a [u8],
    /// The address that was asked, as it may be shown.
    pub url: &'a str,
    /// Secrets that were sent and must not be shown where they are repeated.
    pub secrets: &'a [&'a str],
}

impl ServerReason {
    /// Reads it from an answer.
    pub fn of(refusal: Refusal<'_>) -> Self {
        let mut parts = Vec::new();
        let description = parameter(refusal.challenge, "error_description");
        let code = parameter(refusal.challenge, "error");
        let said = description.or_else(|| body_words(refusal.body));
        match (said, &code) {
            (Some(said), Some(code)) => parts.push(format!("the server says \"{said}\" ({code})")),
            (Some(said), None) => parts.push(format!("the server says \"{said}\"")),
            (None, Some(code)) => parts.push(format!("the server says \"{code}\"")),
            (None, None) => (),
        }
        if code.as_deref() == Some("insufficient_scope")
            && let Some(scope) = parameter(refusal.challenge, "scope")
        {
            parts.push(format!("it wants the scope \"{scope}\""));
        }
        let mut text = parts.join("; ");
        text = clean(&text, refusal.secrets);
        let remedy = match refusal.status {
            401 => Some("see `headers` or `credential` of the upstream".to_owned()),
            404 => Some(format!("is `{}` its MCP endpoint?", refusal.url)),
            407 => Some("see `proxy` of the upstream".to_owned()),
            _ => None,
        };
        if let Some(remedy) = remedy {
            text = if text.is_empty() { remedy } else { format!("{text}; {remedy}") };
        }
        Self((!text.is_empty()).then(|| text.into()))
    }
}

impl fmt::Display for ServerReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |reason| write!(f, ": {reason}"))
    }
}

/// Says what came in place of a message: the words of a page of HTML, or the first of anything
/// else, after the `error` that a reader of messages found.
pub fn in_place_of_message(body: &[u8], error: &str, refusal: Refusal<'_>) -> String {
    let body = body.get(..BODY_BYTES_MAX.min(body.len())).unwrap_or(body);
    let text = String::from_utf8_lossy(body);
    let text = text.trim_start_matches('\u{feff}');
    if is_html(text) {
        let words = clean(&html_words(text), refusal.secrets);
        return format!("HTML (\"{words}\"); is `{}` its MCP endpoint?", refusal.url);
    }
    let words = clean(text, refusal.secrets);
    if words.is_empty() { error.to_owned() } else { format!("{error}; it begins with \"{words}\"") }
}

/// Returns what may be shown of a text: one line, without control characters, what was sent as a
/// secret, and what looks like one; cut.
pub fn clean(text: &str, secrets: &[&str]) -> String {
    let mut text = Cow::Borrowed(text);
    for secret in secrets.iter().filter(|secret| 4 <= secret.len()) {
        text = text.replace(secret, "…").into();
    }
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut shown = String::new();
    let mut run = String::new();
    for c in line.chars().take(CHARS_MAX * 4) {
        if c.is_ascii_alphanumeric() || "_-+=".contains(c) {
            run.push(c);
            continue;
        }
        flush(&mut run, &mut shown);
        match c {
            '"' | '\'' | '\\' => shown.push(c),
            c => shown.extend(c.escape_debug()),
        }
    }
    flush(&mut run, &mut shown);
    shown.chars().take(CHARS_MAX).collect()
}

fn flush(run: &mut String, shown: &mut String) {
    let has = |is: fn(&char) -> bool| run.chars().any(|c| is(&c));
    let secret = SECRET_CHARS_MIN <= run.len()
        && has(char::is_ascii_digit)
        && has(char::is_ascii_alphabetic);
    if secret {
        shown.extend(run.chars().take(4));
        shown.push('…');
    } else {
        shown.push_str(run);
    }
    run.clear();
}

/// The value of a parameter of a challenge (RFC 9110 §11.2): a token, or a quoted string.
fn parameter(challenge: &str, name: &str) -> Option<String> {
    let mut rest = challenge;
    loop {
        let at = rest.to_ascii_lowercase().find(name)?;
        let before = rest.get(..at)?.chars().next_back();
        let after = rest.get(at + name.len()..)?;
        rest = after;
        let value = after.trim_start().strip_prefix('=');
        // Not the end of a longer name.
        let whole = before.is_none_or(|c| c.is_whitespace() || c == ',');
        let Some(value) = value.filter(|_| whole).map(str::trim_start) else { continue };
        return Some(match value.strip_prefix('"') {
            Some(quoted) => unquoted(quoted),
            None => value.split([',', ' ']).next().unwrap_or_default().to_owned(),
        })
        .filter(|value| !value.trim().is_empty());
    }
}

fn unquoted(text: &str) -> String {
    let mut value = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next().filter(|c| *c != '"') {
        value.extend(if c == '\\' { rest.next() } else { Some(c) });
    }
    value
}

/// Returns what a body says for people, as JSON, as a page, or as text.
fn body_words(body: &[u8]) -> Option<String> {
    let body = body.get(..BODY_BYTES_MAX.min(body.len())).unwrap_or(body);
    if let Ok(json) = serde_json::from_slice::<Value>(body) {
        let mut members = MEMBERS.iter().filter_map(|member| json.pointer(member)?.as_str());
        return members.find(|text| !text.trim().is_empty()).map(str::to_owned);
    }
    let text = String::from_utf8_lossy(body);
    let text = text.trim_start_matches('\u{feff}');
    let words = if is_html(text) { html_words(text) } else { text.to_owned() };
    let words = words.trim();
    (!words.is_empty() && !words.starts_with(['{', '['])).then(|| words.to_owned())
}

fn is_html(text: &str) -> bool {
    let begin: String = text.trim_start().chars().take(15).collect();
    let begin = begin.to_ascii_lowercase();
    ["<!doctype html", "<html", "<head", "<body", "<!--", "<h1", "<title", "<center", "<p>"]
        .iter()
        .any(|tag| begin.starts_with(tag))
}

/// The title of a page, else its text.
fn html_words(page: &str) -> String {
    let small = page.to_ascii_lowercase();
    for (open, close) in [("<title", "</title"), ("<h1", "</h1")] {
        let inner = small.find(open).and_then(|at| {
            let from = at + small.get(at..)?.find('>')? + 1;
            let to = from + small.get(from..)?.find(close)?;
            page.get(from..to)
        });
        if let Some(inner) = inner.map(without_tags).filter(|text| !text.is_empty()) {
            return inner;
        }
    }
    without_tags(page)
}

fn without_tags(text: &str) -> String {
    let mut plain = String::new();
    let mut within = false;
    for c in text.chars() {
        match c {
            '<' => within = true,
            '>' if within => {
                within = false;
                plain.push(' ');
            }
            c if !within => plain.push(c),
            _ => (),
        }
    }
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reason(status: u16, challenge: &str, body: &str) -> String {
        let refusal = Refusal {
            status,
            challenge,
            body: body.as_bytes(),
            url: "http://a.example/mcp",
            secrets: &["hunter2"],
        };
        ServerReason::of(refusal).to_string()
    }

    const SEE: &str = "see `headers` or `credential` of the upstream";

    #[test]
    fn a_challenge_says_why_a_token_is_refused() {
        let expired = r#"error="invalid_token", error_description="The access token expired""#;
        for (challenge, want) in [
            (format!("Bearer {expired}"), "says \"The access token expired\" (invalid_token)"),
            (format!("Bearer realm=\"x\", {expired}"), "The access token expired"),
            (
                "Bearer error_description=\"a \\\"b\\\" c\", error=\"invalid_token\"".to_owned(),
                "says \"a \"b\" c\" (invalid_token)",
            ),
            ("Bearer error=invalid_token".to_owned(), "says \"invalid_token\""),
            ("bearer ERROR = \"x\"".to_owned(), "says \"x\""),
            ("Basic realm=\"r\", Bearer error=\"invalid_token\"".to_owned(), "invalid_token"),
            ("DPoP error=\"use_dpop_nonce\"".to_owned(), "use_dpop_nonce"),
            ("Bearer error_description=\"hunter2 is wrong\"".to_owned(), "says \"… is wrong\""),
            (
                "Bearer error_description=\"key sk-live-0123456789abcdef is off\"".to_owned(),
                "says \"key sk-l… is off\"",
            ),
            ("Bearer error_uri=\"x\", error=\"y\"".to_owned(), "says \"y\""),
        ] {
            let said = reason(401, &challenge, "");
            assert!(said.contains(want) && said.ends_with(SEE), "{challenge}: {said}");
        }
        let scope = "Bearer error=\"insufficient_scope\", scope=\"files:read files:write\"";
        let said = reason(403, scope, "");
        assert!(said.contains("it wants the scope \"files:read files:write\""), "{said}");
        for none in ["", "Bearer", "Basic realm=\"x\"", "Bearer error=\"\""] {
            assert_eq!(reason(401, none, ""), format!(": {SEE}"));
            assert_eq!(reason(403, none, ""), "");
        }
    }

    #[test]
    fn a_body_says_why_in_whatever_form() {
        for (body, want) in [
            (r#"{"error":"invalid_token","error_description":"expired"}"#, "expired"),
            (r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"no key"}}"#, "no key"),
            (r#"{"message":"Bad credentials","status":"401"}"#, "Bad credentials"),
            (r#"{"detail":"Not authenticated"}"#, "Not authenticated"),
            (r#"{"title":"Forbidden","status":403}"#, "Forbidden"),
            (r#"{"errors":[{"message":"quota"}]}"#, "quota"),
            ("Unauthorized: no seat\n", "Unauthorized: no seat"),
            ("<html><head><title>502 Bad Gateway</title></head></html>", "502 Bad Gateway"),
            ("<!DOCTYPE html>\n<body><h1>Sign <b>in</b></h1></body>", "Sign in"),
            ("\u{feff}<HTML><body>Login   here</body></HTML>", "Login here"),
            ("a\u{1b}[31m\u{202e}b", "a\\u{1b}[31m\\u{202e}b"),
        ] {
            let said = reason(500, "", body);
            assert_eq!(said, format!(": the server says \"{want}\""), "{body}");
        }
        for silent in ["", "  ", "{}", "[1]", "{\"a\":", r#"{"error":7}"#] {
            assert_eq!(reason(500, "", silent), "", "{silent}");
        }
        assert_eq!(reason(404, "", ""), ": is `http://a.example/mcp` its MCP endpoint?");
    }

    #[test]
    fn what_comes_in_place_of_a_message_is_shown() {
        let refusal = Refusal { url: "http://a.example/", ..Refusal::default() };
        let shown = |body: &str| in_place_of_message(body.as_bytes(), "not valid JSON", refusal);
        let page = shown("<!doctype html><title>Log in</title>");
        assert_eq!(page, "HTML (\"Log in\"); is `http://a.example/` its MCP endpoint?");
        assert_eq!(shown("OK\n"), "not valid JSON; it begins with \"OK\"");
        assert_eq!(shown(""), "not valid JSON");
    }

    proptest! {
        #[test]
        fn whatever_comes_it_is_short_plain_and_without_secrets(
            challenge in ".{0,200}", body in ".{0,2000}",
        ) {
            let said = reason(401, &challenge, &format!("{body} hunter2"));
            prop_assert!(said.chars().count() <= CHARS_MAX + SEE.len() + 4);
            prop_assert!(!said.contains("hunter2") && !said.chars().any(char::is_control));
        }
    }
}
