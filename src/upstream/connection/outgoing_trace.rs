//! The trace context that goes to a server with a request (W3C Trace Context): in `_meta`, and in
//! headers.

use crate::{
    call::{UpstreamRequest, spans::SpanGuard},
    mcp::{
        meta::{BAGGAGE, TRACE_PARENT, TRACE_STATE},
        raw::Raw,
        splice,
    },
    upstream::transport::http::TraceHeaders,
};

/// The trace context of one request.
#[derive(Debug)]
pub struct OutgoingTrace {
    pub headers: TraceHeaders,
    is_in_meta: bool,
}

impl OutgoingTrace {
    /// The context of a request that is sent in this span; none where its call is not traced.
    pub fn of(ask: &UpstreamRequest, span: Option<&SpanGuard>) -> Option<Self> {
        let spans = ask.spans.as_deref()?;
        let parent = spans.sent_in(span.map_or(spans.id, SpanGuard::id));
        let headers = TraceHeaders {
            parent: parent.to_string(),
            state: spans.state.as_ref().map(|state| state.as_str().to_owned()),
            baggage: spans.baggage.clone(),
        };
        Some(Self { headers, is_in_meta: spans.is_in_meta })
    }

    /// Puts the context in `_meta`, in the place of one that is there; params of a call that is not
    /// sampled stay as they are.
    pub fn put(&self, params: Raw) -> Raw {
        if !self.is_in_meta {
            return params;
        }
        let parent = format!("\"{}\"", self.headers.parent);
        // Both may have quotes in them.
        let state = self.headers.state.as_ref().map(Raw::encode);
        let baggage = self.headers.baggage.as_ref().map(Raw::encode);
        let edits = [
            (TRACE_PARENT, Some(parent.as_bytes())),
            (TRACE_STATE, state.as_ref().map(|text| &text.bytes()[..])),
            (BAGGAGE, baggage.as_ref().map(|text| &text.bytes()[..])),
        ];
        splice::edit_within(&params, "_meta", &edits)
    }
}
