//! `requestState` as clients hold it: sealed, so that it says nothing and fits one request of one
//! caller on one route (2026-07-28, MRTR: server requirements).

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    call::{Caller, ReplicaId, RoutePath, UpstreamName, clock},
    mcp::{digest::RequestDigest, raw::Raw},
    session::seal::Sealer,
};

use super::StateError;

/// The call, or the upstream's own state, that a state stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StateContent {
    /// A call that is parked in the gate process `owner`, for one retry.
    Call { owner: u64, id: u128 },
    /// The own state of an upstream, the very JSON text of it.
    Upstream(ReplicaRef, Raw),
    /// Nothing is held: once the pages were opened the call is sent anew.
    Anew,
}

/// The place that knows what a state or an id says: an upstream, and which of its replicas, where
/// it has several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub struct ReplicaRef {
    pub upstream: UpstreamName,
    pub replica: Option<ReplicaId>,
}

/// The number of a task of the gate, and the process that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskId {
    /// The gate process, by the number that it drew when it began.
    pub owner: u64,
    /// The task there: random, so that nobody guesses another one.
    pub number: u128,
}

/// A task's id that some gate gave on a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenedTaskId {
    pub task: TaskId,
    /// Whether it was given to the caller that shows it.
    pub is_own: bool,
}

/// The caller and route that a state is for, and for which request.
#[derive(Debug, Clone, Copy)]
pub struct Binding<'a> {
    pub route: &'a RoutePath,
    pub caller: &'a Caller,
    pub request: RequestDigest,
}

/// Seals and opens states.
#[derive(Debug)]
pub struct States(Sealer);

#[derive(Serialize, Deserialize)]
struct Sealed {
    held: StateContent,
    caller: [u8; 32],
    request: RequestDigest,
    /// Seconds since 1970.
    until: u64,
}

impl States {
    pub fn new(secret: &[u8]) -> Self {
        Self(Sealer::new(secret, "request state"))
    }

    /// A JSON string for `requestState`, good for so many seconds.
    pub fn seal(&self, held: StateContent, bearer: Binding<'_>, seconds: u64) -> Raw {
        let until = clock::unix_seconds().saturating_add(seconds);
        let sealed =
            Sealed { held, caller: fingerprint(bearer.caller), request: bearer.request, until };
        let text = self.0.seal(Raw::encode(&sealed).bytes(), bearer.route);
        Raw::encode(&text)
    }

    /// Seals the id of a task for its client: short, since clients send it in a header.
    pub fn seal_task(&self, task: TaskId, route: &RoutePath, caller: &Caller) -> String {
        let fingerprint = fingerprint(caller);
        let TaskId { owner, number } = task;
        let text = [&owner.to_be_bytes()[..], &number.to_be_bytes(), &fingerprint].concat();
        self.0.seal(&text, &task_bound(route))
    }

    /// Opens the id of a task. None for an id that no gate gave on this route: it may be an
    /// upstream's own.
    pub fn open_task(&self, id: &str, route: &RoutePath, caller: &Caller) -> Option<OpenedTaskId> {
        let text = self.0.open(id, &task_bound(route))?;
        let (owner, rest) = text.split_first_chunk()?;
        let (number, bearer) = rest.split_first_chunk()?;
        let owner = u64::from_be_bytes(*owner);
        let number = u128::from_be_bytes(*number);
        let is_own = bearer == fingerprint(caller);
        Some(OpenedTaskId { task: TaskId { owner, number }, is_own })
    }

    /// An id of an upstream's own task, for this caller only: the upstream sees the gate alone, and
    /// could not tell who asks.
    pub fn seal_upstream_task(
        &self,
        place: &ReplicaRef,
        own: &str,
        route: &RoutePath,
        caller: &Caller,
    ) -> String {
        let text = Raw::encode(&(place, own));
        self.0.seal(text.bytes(), &theirs_bound(route, caller))
    }

    /// Returns whose it is, and its own id of a task; none for an id that is not this caller's.
    pub fn open_upstream_task(
        &self,
        id: &str,
        route: &RoutePath,
        caller: &Caller,
    ) -> Option<(ReplicaRef, String)> {
        let text = self.0.open(id, &theirs_bound(route, caller))?;
        serde_json::from_slice(&text).ok()
    }

    /// Opens a state, if it is this bearer's.
    ///
    /// # Errors
    /// Fails where the state was not sealed for this caller, route and request, or has expired.
    pub fn open(&self, state: &str, bearer: Binding<'_>) -> Result<StateContent, StateError> {
        let text = self.0.open(state, bearer.route).ok_or(StateError::Foreign)?;
        let sealed: Sealed = serde_json::from_slice(&text).ok().ok_or(StateError::Foreign)?;
        if sealed.caller != fingerprint(bearer.caller) || sealed.request != bearer.request {
            return Err(StateError::Foreign);
        }
        if sealed.until < clock::unix_seconds() {
            return Err(StateError::Expired);
        }
        Ok(sealed.held)
    }
}

/// `NAME`, or `NAME@REPLICA`: no upstream has `@` in its name.
impl From<ReplicaRef> for String {
    fn from(place: ReplicaRef) -> Self {
        match place.replica {
            None => place.upstream.to_string(),
            Some(ReplicaId(id)) => format!("{}@{id:x}", place.upstream),
        }
    }
}

impl From<String> for ReplicaRef {
    fn from(text: String) -> Self {
        let parts = text.split_once('@');
        let replica = parts.and_then(|(_, id)| u64::from_str_radix(id, 16).ok().map(ReplicaId));
        let upstream = parts.map_or(text.as_str(), |(name, _)| name).into();
        Self { upstream, replica }
    }
}

fn theirs_bound(route: &RoutePath, caller: &Caller) -> String {
    format!("their task {route} {caller}")
}

/// Keeps ids of tasks and states apart: paths begin with `/`.
fn task_bound(route: &RoutePath) -> String {
    format!("task {route}")
}

fn fingerprint(caller: &Caller) -> [u8; 32] {
    Sha256::digest(caller.to_string()).into()
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    static ROUTE: LazyLock<RoutePath> = LazyLock::new(|| "/mcp".into());

    fn bearer(caller: &Caller) -> Binding<'_> {
        Binding { route: &ROUTE, caller, request: [7; 16] }
    }

    fn caller(last: u8) -> Caller {
        Caller::Address([127, 0, 0, last].into())
    }

    #[test]
    fn a_state_opens_for_its_bearer_only() {
        let states = States::new(&[1; 32]);
        let (own, other) = (caller(1), caller(2));
        let held = StateContent::Call { owner: 1, id: u128::MAX };
        let state = states.seal(held.clone(), bearer(&own), 60);
        let state: String = state.read().unwrap();
        assert_eq!(states.open(&state, bearer(&own)), Ok(held));
        let foreign = [
            bearer(&other),
            Binding { route: &"/other".into(), ..bearer(&own) },
            Binding { request: [8; 16], ..bearer(&own) },
            bearer(&Caller::Parent),
        ];
        for foreign in foreign {
            assert_eq!(states.open(&state, foreign), Err(StateError::Foreign), "{foreign:?}");
        }
        let stranger = States::new(&[2; 32]).open(&state, bearer(&own));
        assert_eq!(stranger, Err(StateError::Foreign));
        assert_eq!(states.open("edited", bearer(&own)), Err(StateError::Foreign));
    }

    #[test]
    fn an_id_of_a_task_opens_on_its_route_and_tells_whose_it_is() {
        let states = States::new(&[1; 32]);
        let task = TaskId { owner: 7, number: u128::MAX };
        let id = states.seal_task(task, &ROUTE, &caller(1));
        assert!(id.len() <= 128, "{id}");
        let opened = |number, route| states.open_task(&id, route, &caller(number));
        assert_eq!(opened(1, &ROUTE), Some(OpenedTaskId { task, is_own: true }));
        assert_eq!(opened(2, &ROUTE), Some(OpenedTaskId { task, is_own: false }));
        assert_eq!(opened(1, &"/other".into()), None);
        assert_eq!(states.open_task("job-1", &ROUTE, &caller(1)), None);
        assert_eq!(states.open(&id, bearer(&caller(1))), Err(StateError::Foreign));
    }

    #[test]
    fn the_text_of_an_upstreams_state_stays_as_it_is() {
        let states = States::new(&[1; 32]);
        let own = caller(1);
        let place = ReplicaRef { upstream: "up".into(), replica: Some(ReplicaId(u64::MAX)) };
        let inner = StateContent::Upstream(place, Raw::trusted(r#""\u00e9 \/ 1""#));
        let state: String = states.seal(inner.clone(), bearer(&own), 60).read().unwrap();
        assert_eq!(states.open(&state, bearer(&own)), Ok(inner));
    }
}
