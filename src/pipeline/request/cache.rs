//! Asks the cache about a call on its way in, and tells it what a call makes outdated.
//!
//! The cache keeps what the server wrote. A hit comes after everything that judges a call.

use std::sync::Arc;

use crate::{
    cache::{CacheQuery, CacheSubject, Lookup},
    mcp::method::Method,
    pipeline::context::Context,
    snapshot::Snapshot,
    upstream::SendError,
};

use super::resolve::Resolved;

/// Drops cached results that a call may have changed, when it ends: answered or not.
#[derive(Debug)]
pub struct InvalidateOnDrop {
    snapshot: Arc<Snapshot>,
    subjects: Vec<CacheSubject>,
}

/// Looks up a call that is let in: from memory, together with others, or not at all.
pub fn look(context: &Context, resolved: &Resolved) -> Lookup<SendError> {
    let call = &context.call;
    let snapshot = &context.snapshot;
    let target = &resolved.target;
    let upstream = target.upstream.name();
    if resolved.as_task
        || resolved.wishes_task
        || !snapshot.cache.may_keep(call.method, upstream, &target.own)
    {
        return Lookup::Bypass;
    }
    // Nothing is kept of a server that another one just took the place of.
    let current = snapshot.member(upstream);
    if !current.is_some_and(|current| Arc::ptr_eq(&current.upstream, &target.upstream)) {
        return Lookup::Bypass;
    }
    snapshot.cache.lookup(CacheQuery {
        method: call.method,
        upstream,
        name: &target.own,
        definition: target.definition,
        read_only: target.object.as_ref().is_some_and(|object| object.is_read_only()),
        params: resolved.params.text(),
        mirrored: &resolved.mirrored,
        caller: &call.caller,
        client: &call.client,
        vary: target.upstream.vary(&call.caller, call.forwarded.as_deref()),
    })
}

impl InvalidateOnDrop {
    /// Makes the guard for what a call makes outdated; none where that is nothing.
    pub fn of(context: &Context, resolved: &Resolved) -> Option<Self> {
        let target = &resolved.target;
        if context.call.method != Method::ToolsCall {
            return None;
        }
        let snapshot = &context.snapshot;
        let subjects = snapshot.cache.invalidated_by(target.upstream.name(), &target.own);
        (!subjects.is_empty()).then(|| Self { snapshot: Arc::clone(snapshot), subjects })
    }
}

impl Drop for InvalidateOnDrop {
    fn drop(&mut self) {
        for subject in &self.subjects {
            self.snapshot.cache.forget_one(subject);
        }
    }
}
