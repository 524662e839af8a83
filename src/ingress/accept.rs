//! Media types of HTTP: that of a request's body, and those that its client accepts.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, header};

/// The kinds of answer that a client accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepts {
    Json,
    Both,
    /// A stream is named first, or alone.
    PrefersStream,
    /// JSON is named as what is not accepted.
    OnlyStream,
}

const JSON: &str = "application/json";
const STREAM: &str = "text/event-stream";
const USUAL: &str = "application/json, text/event-stream";

impl Accepts {
    /// Reads `Accept`; none where it lists neither JSON nor a stream. Forgiving: no `Accept`
    /// accepts all.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        // Nearly all clients say this, to the letter, and once.
        let is_single = headers.len() == headers.keys_len();
        if is_single && headers.get(header::ACCEPT).is_some_and(|kinds| kinds == USUAL) {
            return Some(Self::Both);
        }
        let Some(kinds) = kinds(headers) else { return Some(Self::Both) };
        match (lists(&kinds, JSON), lists(&kinds, STREAM)) {
            (Some(false), Some(true)) => Some(Self::OnlyStream),
            (Some(true), Some(true)) => {
                let first = kinds.split([',', ';']).next().unwrap_or_default();
                let is_stream = first.trim().eq_ignore_ascii_case(STREAM);
                Some(if is_stream { Self::PrefersStream } else { Self::Both })
            }
            (Some(true), _) => Some(Self::Json),
            (None, Some(true)) => Some(Self::PrefersStream),
            (_, _) => None,
        }
    }

    /// Whether an answer is rather to come as a stream.
    pub fn prefers_stream(self) -> bool {
        matches!(self, Self::PrefersStream | Self::OnlyStream)
    }
}

/// Tells whether a client accepts a stream of events.
pub fn accepts_stream(headers: &HeaderMap) -> bool {
    kinds(headers).is_none_or(|kinds| lists(&kinds, STREAM) == Some(true))
}

/// What is accepted: several lines are one list (RFC 9110 §5.3). None where nothing is said.
fn kinds(headers: &HeaderMap) -> Option<Cow<'_, str>> {
    let mut lines = headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok());
    let first = lines.next()?;
    Some(lines.fold(Cow::Borrowed(first), |all, more| Cow::Owned(format!("{all},{more}"))))
}

/// Tells whether `Content-Type` says that the body is JSON.
pub fn is_json(headers: &HeaderMap) -> bool {
    let kind = text(headers, &header::CONTENT_TYPE).unwrap_or_default();
    // Nearly all clients say this, to the letter.
    kind == JSON
        || kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(JSON))
}

/// The first value of a header, where it is text.
pub fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Whether a list accepts a kind, by what says it most exactly; none where nothing does (RFC 9110
/// §12.5.1).
fn lists(kinds: &str, wanted: &str) -> Option<bool> {
    let family = wanted.split('/').next().unwrap_or_default();
    let each = kinds.split(',').filter_map(|kind| {
        let mut parts = kind.split(';').map(str::trim);
        let kind = parts.next()?;
        let exactness = match kind {
            kind if kind.eq_ignore_ascii_case(wanted) => 2,
            "*/*" => 0,
            kind => (kind.strip_suffix("/*")?.eq_ignore_ascii_case(family)).then_some(1)?,
        };
        Some((exactness, !parts.any(is_no)))
    });
    each.max().map(|(_, accepted)| accepted)
}

/// Whether a parameter is a weight of nothing: such a kind is not acceptable (RFC 9110 §12.4.2).
fn is_no(parameter: &str) -> bool {
    let Some((name, weight)) = parameter.split_once('=') else { return false };
    let weight = weight.trim().trim_matches('"').parse::<f32>();
    name.trim().eq_ignore_ascii_case("q") && weight.is_ok_and(|weight| weight <= 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_is_read_forgivingly() {
        for (kinds, wanted) in [
            ("application/json, text/event-stream", Some(Accepts::Both)),
            ("text/event-stream, application/json", Some(Accepts::PrefersStream)),
            ("TEXT/EVENT-STREAM;q=0.5,application/json", Some(Accepts::PrefersStream)),
            ("text/event-stream", Some(Accepts::PrefersStream)),
            ("application/json", Some(Accepts::Json)),
            ("Application/JSON; charset=utf-8", Some(Accepts::Json)),
            ("*/*", Some(Accepts::Both)),
            ("application/*", Some(Accepts::Json)),
            ("text/*", Some(Accepts::PrefersStream)),
            ("text/html", None),
            ("", None),
            ("application/json|text/event-stream", Some(Accepts::Both)),
            ("text/html|text/event-stream, application/json;q=0.1", Some(Accepts::Both)),
            ("text/event-stream|application/json", Some(Accepts::PrefersStream)),
            ("application/json|text/event-stream;q=0", Some(Accepts::Json)),
            ("application/json;q=0, text/event-stream", Some(Accepts::OnlyStream)),
            ("application/json; Q = 0.000|text/event-stream", Some(Accepts::OnlyStream)),
            ("*/*, application/json;q=0", Some(Accepts::OnlyStream)),
            ("*/*;q=0, application/json", Some(Accepts::Json)),
            ("text/*;q=0, */*", Some(Accepts::Json)),
            ("text/*;q=0|text/event-stream;q=1", Some(Accepts::PrefersStream)),
            ("application/json;q=0", None),
            ("*/*;q=0", None),
            ("application/json;v=0;q=0.001", Some(Accepts::Json)),
        ] {
            let mut headers = HeaderMap::new();
            for line in kinds.split('|') {
                headers.append(header::ACCEPT, line.parse().expect("a header"));
            }
            assert_eq!(Accepts::of(&headers), wanted, "{kinds}");
            let streams = wanted.is_some_and(|accepts| accepts != Accepts::Json);
            assert_eq!(accepts_stream(&headers), streams, "{kinds}");
        }
        assert_eq!(Accepts::of(&HeaderMap::new()), Some(Accepts::Both));
    }
}
