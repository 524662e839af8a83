//! The context that a call is served with: made once when it begins, and lent to every stage of its
//! way.
//!
//! The context stands here and not in `call` because it holds the snapshot and the route, which are
//! built of most of what stands between `call` and this module.

use std::{ops::Deref, sync::Arc};

use crate::{
    audit::Entry,
    call::{Caller, Client, RoutePath},
    catalog::{FoundBy, Target},
    guard::LinkOrigin,
    limit::LimitTarget,
    mcp::digest::RequestDigest,
    park::state::Binding,
    session::SessionRequest,
    snapshot::RouteSnapshot,
    telemetry::{Counter, printable, throttle},
};

use super::{call::Call, fault::Fault};

/// Characters of what a refusal says in the log.
const TEXT_CHARS_SHOWN: usize = 300;

/// A call, and the configuration that it is served with from its beginning to its end: also what
/// becomes of it later (an answer, a retry, a task) reads no other snapshot.
#[derive(Debug, Clone)]
pub struct Context {
    pub at: RouteSnapshot,
    pub call: Call,
    /// The audit record of the call; none where nothing is recorded.
    pub entry: Option<Arc<Entry>>,
}

impl Context {
    pub fn new(at: RouteSnapshot, call: Call) -> Arc<Self> {
        Arc::new(Self { at, call, entry: None })
    }

    /// The path of its route.
    pub fn path(&self) -> &RoutePath {
        &self.route.settings.path
    }

    pub fn caller(&self) -> &Caller {
        &self.call.caller
    }

    pub fn client(&self) -> &Client {
        &self.call.client
    }

    /// Whether this caller may have what was found: not a URI that is on no list, unless its
    /// upstream gave it to this caller.
    pub fn can_read(&self, target: &Target) -> bool {
        if target.found != FoundBy::Link {
            return true;
        }
        let upstream = target.upstream.name();
        let origin = LinkOrigin { route: self.path(), upstream };
        if self.gate.links.has(origin, self.caller(), &target.own) {
            return true;
        }
        self.gate.counters.add(Counter::RefusedUris);
        tracing::debug!(
            upstream = upstream.as_str(),
            "a URI on no list or in an odd spelling is not read (`unlisted` of the route)"
        );
        false
    }

    /// Returns whom a state that the client keeps is sealed for, and for which request.
    pub fn binding(&self) -> Binding<'_> {
        self.binding_of(self.call.digest())
    }

    /// Returns whom a state is sealed for, and for a request of this digest.
    pub fn binding_of(&self, request: RequestDigest) -> Binding<'_> {
        Binding { route: self.path(), caller: self.caller(), request }
    }

    /// Notes in its session that the call is under way; none for a client without sessions.
    ///
    /// # Errors
    /// Where one of its id is so already.
    pub fn begin(&self) -> Result<Option<SessionRequest>, Fault> {
        let Some(session) = &self.call.session else { return Ok(None) };
        session.begin(&self.call.id).map(Some).ok_or(Fault::DuplicateId)
    }

    /// Returns what the call ends with where the gate itself is at fault: a state that cannot be.
    pub fn bug(&self, what: &'static str) -> Fault {
        debug_assert!(false, "a bug on the way of a call: {what}");
        self.gate.counters.add(Counter::InternalErrors);
        tracing::error!(method = self.call.method.name(), what, "a bug of the gateway");
        Fault::Internal(what)
    }

    /// Logs a call that a limit or the guard refuses: who asked for what, and why not. One line in
    /// a while for each caller and reason.
    pub fn log_refusal(&self, target: Option<LimitTarget<'_>>, fault: &Fault) {
        let caller = self.caller().name();
        let reason = fault.reason().name();
        throttle::line((reason, &caller, self.path().as_str()), |more| {
            tracing::warn!(
                request = %self.call.request,
                caller = self.logged_caller().as_deref(),
                route = self.path().as_str(),
                method = self.call.method.name(),
                upstream = target.map(|target| target.upstream.as_str()),
                name = target.map(|target| shown(target.name)).as_deref(),
                reason,
                more,
                "refused: {}",
                shown(&fault.to_string()),
            );
        });
    }

    /// The caller as lines of the log have it (`log.callers`).
    pub fn logged_caller(&self) -> Option<String> {
        let form = self.snapshot.config.log.callers;
        self.gate.caller_key.caller(form, &self.caller().name()).as_deref().map(shown)
    }

    /// The call on its route as it is now, with all names of that recorded.
    pub async fn renewed(&self) -> Arc<Self> {
        let mut renewed = self.clone();
        renewed.at.renew();
        renewed.at.record_names().await;
        Arc::new(renewed)
    }
}

/// The gate, the snapshot and the route are read like fields of its own by every stage.
impl Deref for Context {
    type Target = RouteSnapshot;

    fn deref(&self) -> &RouteSnapshot {
        &self.at
    }
}

/// A stranger's text as it stands in a line of the log.
pub fn shown(text: &str) -> String {
    printable::line(text).chars().take(TEXT_CHARS_SHOWN).collect()
}
