//! Decisions that hold for every call, kept for all callers that policies cannot tell apart.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;

use crate::call::{Action, Caller, ObjectKind};

use super::{
    caller,
    entity::PolicyEntity,
    object::{ID_BYTES_MAX, Object},
    slice::Slice,
    verdict::{Outcome, Verdict},
};

/// What is known of one set of grants. It goes with its judge, and so with the policies and lists
/// that it was decided by.
#[derive(Debug, Default)]
pub struct GrantDecisions {
    caller: OnceLock<Option<PolicyEntity>>,
    objects: Mutex<DecidedObjects>,
}

/// Decisions by the id of the thing.
#[derive(Debug, Default)]
struct DecidedObjects {
    tools: HashMap<String, Arc<ObjectDecisions>>,
    prompts: HashMap<String, Arc<ObjectDecisions>>,
    resources: HashMap<String, Arc<ObjectDecisions>>,
    /// How many decisions there are, of all things.
    count: usize,
}

/// Decisions about one thing, by action.
#[derive(Debug, Default)]
pub struct ObjectDecisions {
    list: OnceLock<Decision>,
    call: OnceLock<Decision>,
    get: OnceLock<Decision>,
    read: OnceLock<Decision>,
    complete: OnceLock<Decision>,
}

/// What the policies of a slice say that do not look at the call.
#[derive(Debug, Clone)]
pub struct Decision {
    pub slice: Arc<Slice>,
    pub outcome: Outcome,
    /// The verdict where no policy looks at the call.
    pub verdict: Arc<Verdict>,
}

impl GrantDecisions {
    /// The entity of these callers: what one of them has that another has not, no policy reads.
    pub fn caller(&self, caller: &Caller) -> Option<&PolicyEntity> {
        self.caller.get_or_init(|| caller::entity(caller)).as_ref()
    }

    /// Finds what is decided of a thing. `None` for one whose id is too long to be kept.
    pub fn of(&self, object: &Object) -> Option<Arc<ObjectDecisions>> {
        if ID_BYTES_MAX < object.id.len() {
            return None;
        }
        let mut objects = self.objects.lock();
        let objects = objects.of_kind(object.kind);
        if let Some(known) = objects.get(&object.id) {
            return Some(Arc::clone(known));
        }
        let new = Arc::<ObjectDecisions>::default();
        objects.insert(object.id.clone(), Arc::clone(&new));
        Some(new)
    }

    /// Keeps a decision; says whether all others were dropped, because there were `max` of them.
    pub fn keep(
        &self,
        object: &Object,
        known: &Arc<ObjectDecisions>,
        action: Action,
        decision: Decision,
        max: usize,
    ) -> bool {
        let mut objects = self.objects.lock();
        if objects.count < max {
            objects.count += usize::from(known.of(action).set(decision).is_ok());
            return false;
        }
        *objects = DecidedObjects { count: 1, ..DecidedObjects::default() };
        // Of a new place for the thing: what the old one has would not be counted.
        let new = Arc::<ObjectDecisions>::default();
        new.of(action).set(decision).ok();
        objects.of_kind(object.kind).insert(object.id.clone(), new);
        true
    }

    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.objects.lock().count
    }
}

impl DecidedObjects {
    fn of_kind(&mut self, kind: ObjectKind) -> &mut HashMap<String, Arc<ObjectDecisions>> {
        match kind {
            ObjectKind::Tool => &mut self.tools,
            ObjectKind::Prompt => &mut self.prompts,
            ObjectKind::Resource => &mut self.resources,
        }
    }
}

impl ObjectDecisions {
    /// The decision about this action, if it was made.
    pub fn get(&self, action: Action) -> Option<&Decision> {
        self.of(action).get()
    }

    fn of(&self, action: Action) -> &OnceLock<Decision> {
        match action {
            Action::List => &self.list,
            Action::Call => &self.call,
            Action::Get => &self.get,
            Action::Read => &self.read,
            Action::Complete => &self.complete,
        }
    }
}
