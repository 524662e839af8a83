//! Media types of HTTP: that of a request's body, and those that its client accepts.

use http::{HeaderMap, header};

/// The kinds of answer that a client accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepts {
    Json,
    Both,
    /// A stream is named first, or alone.
    PrefersStream,
}

const JSON: &str = "application/json";
const STREAM: &str = "text/event-stream";

impl Accepts {
    /// Reads `Accept`; none where it lists neither JSON nor a stream. Forgiving: no `Accept`
    /// accepts all.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let Some(kinds) = text(headers, header::ACCEPT.as_str()) else { return Some(Self::Both) };
        match (lists(kinds, JSON), lists(kinds, STREAM)) {
            (false, false) => None,
            (true, false) => Some(Self::Json),
            (false, true) => Some(Self::PrefersStream),
            (true, true) => {
                let first = kinds.split([',', ';']).next().unwrap_or_default();
                let is_stream = first.trim().eq_ignore_ascii_case(STREAM);
                Some(if is_stream { Self::PrefersStream } else { Self::Both })
            }
        }
    }
}

/// Tells whether a client accepts a stream of events.
pub fn accepts_stream(headers: &HeaderMap) -> bool {
    let kinds = text(headers, header::ACCEPT.as_str());
    kinds.is_none_or(|kinds| lists(kinds, STREAM))
}

/// Tells whether `Content-Type` says that the body is JSON.
pub fn is_json(headers: &HeaderMap) -> bool {
    let kind = text(headers, header::CONTENT_TYPE.as_str()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(JSON))
}

/// The first value of a header, where it is text.
pub fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn lists(kinds: &str, wanted: &str) -> bool {
    let family = wanted.split('/').next().unwrap_or_default();
    kinds.split(',').filter_map(|kind| kind.split(';').next()).any(|kind| {
        let kind = kind.trim();
        kind.eq_ignore_ascii_case(wanted)
            || kind == "*/*"
            || kind.strip_suffix("/*") == Some(family)
    })
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
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, kinds.parse().expect("a header"));
            assert_eq!(Accepts::of(&headers), wanted, "{kinds}");
            let streams = wanted.is_some_and(|accepts| accepts != Accepts::Json);
            assert_eq!(accepts_stream(&headers), streams, "{kinds}");
        }
        assert_eq!(Accepts::of(&HeaderMap::new()), Some(Accepts::Both));
    }
}
