//! What is known of a call that is traced.

use std::sync::Arc;

use crate::{
    call::{
        CallId, RoutePath, UpstreamName,
        spans::{CallSpans, EndedSpans},
    },
    mcp::{id::Id, index::Param, method::Method, params::Params},
    telemetry::{Outcome, printable},
};

/// Characters of each text in a span: servers and clients make them up.
const TEXT_CHARS_MAX: usize = 256;

/// What is known of a call when it begins.
#[derive(Debug, Clone)]
pub struct CallFacts {
    pub id: Id,
    pub request: CallId,
    pub route: RoutePath,
    pub method: Method,
    pub params: Params,
    /// The version of the protocol that its client speaks.
    pub version: &'static str,
}

/// What is said of a call that has ended, in short texts of its own: what waits for the collector
/// holds no request.
#[derive(Debug)]
pub struct EndedFacts {
    /// The id of the request without its quotes.
    pub id: String,
    pub request: CallId,
    pub route: RoutePath,
    pub method: Method,
    pub version: &'static str,
    /// The upstream that it was about, where that was found.
    pub upstream: Option<UpstreamName>,
    /// The tool or prompt, and the resource. Without an upstream neither: a name that leads to
    /// nothing is a stranger's invention.
    pub name: Option<String>,
    pub uri: Option<String>,
}

/// A call that has ended and is to be exported.
#[derive(Debug)]
pub struct EndedCall {
    pub spans: Arc<CallSpans>,
    pub ended: EndedSpans,
    pub outcome: Outcome,
    pub facts: EndedFacts,
}

impl CallFacts {
    /// The same once the call has ended.
    pub fn ended(&self, upstream: Option<UpstreamName>) -> EndedFacts {
        let said = |param| {
            let member = upstream.as_ref().and_then(|_| self.params.member(param))?;
            member.try_read::<String>().map(|said| text(&said))
        };
        let plain = self.id.raw().try_read::<String>();
        EndedFacts {
            id: text(plain.as_deref().unwrap_or(self.id.raw().as_str())),
            request: self.request,
            route: self.route.clone(),
            method: self.method,
            version: self.version,
            name: said(Param::Name),
            uri: said(Param::Uri),
            upstream,
        }
    }
}

/// The text of a stranger as it stands in a span.
pub fn text(text: &str) -> String {
    let start: String = text.chars().take(TEXT_CHARS_MAX).collect();
    printable::line(&start).chars().take(TEXT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::raw::Raw;

    #[test]
    fn what_waits_for_the_collector_is_short() {
        let long = "n\u{1b}".repeat(100_000);
        let params = Raw::encode(&serde_json::json!({ "name": long, "uri": "mem://a" }));
        let facts = CallFacts {
            id: Id::new(Raw::encode(&long)).expect("a text"),
            request: CallId::random(),
            route: "/mcp".into(),
            method: Method::ToolsCall,
            params: params.into(),
            version: "2026-07-28",
        };
        let ended = facts.ended(Some("a".into()));
        for text in [&ended.id, ended.name.as_ref().expect("a tool")] {
            assert_eq!(text.chars().count(), TEXT_CHARS_MAX);
            assert!(text.starts_with("n\\u001bn"), "{text}");
        }
        assert_eq!(ended.uri.as_deref(), Some("mem://a"));
        let unknown = facts.ended(None);
        assert_eq!((unknown.name, unknown.uri), (None, None));
    }
}
