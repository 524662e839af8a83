//! A client's request as every stage reads it.

use std::{net::IpAddr, sync::Arc};

use crate::{
    call::{Arrival, CallId, Caller, Client, ListKind, spans::CallSpans},
    mcp::{
        digest::{RequestDigest, request_digest},
        id::Id,
        meta::Meta,
        method::Method,
        params::Params,
        target::TargetRef,
    },
    park::state::ReplicaRef,
    session::Session,
};

/// A client's request, decoded: nothing here depends on how it came.
#[derive(Debug, Clone)]
pub struct Call {
    pub id: Id,
    /// The request in this gate's replies, logs and records.
    pub request: CallId,
    pub method: Method,
    pub params: Params,
    pub named: TargetRef,
    pub meta: Meta,
    pub caller: Caller,
    pub client: Arc<Client>,
    pub session: Option<Arc<Session>>,
    /// The client reads a stream while it waits, in which it can be asked.
    pub streams: bool,
    /// The call would need a stream, and its session has too many open.
    pub streams_full: bool,
    /// Decoded `Mcp-Param-*` headers by their names in lower case; none where no header had to be
    /// sent.
    pub mirrored: Option<Vec<(String, String)>>,
    /// The address that the request came from, or that a trusted proxy says it did; none where its
    /// client has none.
    pub peer: Option<IpAddr>,
    /// When it came, and the trace that its headers say it is part of; none where nobody is to
    /// know.
    pub arrival: Option<Arc<Arrival>>,
    /// The spans of its trace; none where it is not traced.
    pub spans: Option<Arc<CallSpans>>,
    /// Headers that some upstream is to have.
    pub forwarded: Option<Arc<http::HeaderMap>>,
    /// The replica that gave the state that came with it.
    pub place: Option<ReplicaRef>,
}

impl Call {
    /// The digest that answers to its questions are bound to.
    pub fn digest(&self) -> RequestDigest {
        request_digest(self.method, self.params.text())
    }

    /// Whether the gate answers it without an upstream, whatever it is about.
    pub fn is_answered_here(&self) -> bool {
        ListKind::of(self.method).is_some()
            || matches!(
                self.method,
                Method::Ping | Method::Discover | Method::SetLevel | Method::Listen
            )
    }
}
