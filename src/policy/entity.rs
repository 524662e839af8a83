//! Callers, things and actions as Cedar has them: made once, and lent to each question.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, LazyLock},
};

use cedar_policy::{EntityId, EntityTypeName, EntityUid};
use cedar_policy_core::{
    ast::{Entity, EntityUID, EntityUIDEntry, PartialValue, Value},
    entities::{Entities, NoEntitiesSchema, TCComputation},
    extensions::Extensions,
};

use crate::call::Action;

/// An entity, and its name as a question has it.
#[derive(Debug, Clone)]
pub struct PolicyEntity {
    name: EntityUIDEntry,
    entity: Arc<Entity>,
}

/// Types of the schema.
const TYPES: [&str; 11] = [
    "Action", "Caller", "Group", "Upstream", "Tool", "Prompt", "Resource", "Texts", "Numbers",
    "Flags", "Lists",
];

impl PolicyEntity {
    pub fn new(entity: &cedar_policy::Entity) -> Self {
        let entity: &Entity = entity.as_ref();
        let name = EntityUIDEntry::known(entity.uid().clone(), None);
        Self { name, entity: Arc::new(entity.clone()) }
    }

    /// An entity of this name that has nothing but tags.
    pub fn with_tags(name: &Arc<EntityUID>, tags: Vec<(String, Value)>) -> Self {
        let tags = tags.into_iter().map(|(key, tag)| (key.into(), PartialValue::Value(tag)));
        let uid = EntityUID::clone(name);
        let none = HashSet::new;
        let entity = Entity::new_with_attr_partial_value(uid, [], none(), none(), tags);
        let name = EntityUIDEntry::Known { euid: Arc::clone(name), loc: None };
        Self { name, entity: Arc::new(entity) }
    }

    /// Its name, for a question that is about it.
    pub fn name(&self) -> EntityUIDEntry {
        self.name.clone()
    }
}

/// Puts entities together for one question. All that one is in, it is in directly: groups and
/// upstreams are in nothing, so that there is no closure to compute.
pub fn entities<'a>(all: impl Iterator<Item = &'a PolicyEntity>) -> Option<Entities> {
    let all = all.map(|one| Arc::clone(&one.entity));
    let closed = TCComputation::AssumeAlreadyComputed;
    let extensions = Extensions::all_available();
    Entities::new().add_entities(all, None::<&NoEntitiesSchema>, closed, extensions).ok()
}

/// The name of an action in a question.
pub fn action(action: Action) -> EntityUIDEntry {
    static ACTIONS: LazyLock<HashMap<Action, EntityUIDEntry>> = LazyLock::new(|| {
        let name =
            |action: Action| EntityUIDEntry::known(uid("Action", action.name()).into(), None);
        Action::ALL.into_iter().map(|action| (action, name(action))).collect()
    });
    let known = ACTIONS.get(&action).cloned();
    known.unwrap_or_else(|| EntityUIDEntry::known(uid("Action", action.name()).into(), None))
}

/// An entity's name. Any text can be an id.
pub fn uid(kind: &str, id: &str) -> EntityUid {
    // To read the name of a type takes longer than most decisions.
    static KNOWN: LazyLock<HashMap<&str, EntityTypeName>> =
        LazyLock::new(|| TYPES.into_iter().map(|kind| (kind, type_name(kind))).collect());
    let kind = KNOWN.get(kind).cloned().unwrap_or_else(|| type_name(kind));
    EntityUid::from_type_name_and_id(kind, EntityId::new(id))
}

fn type_name(kind: &str) -> EntityTypeName {
    kind.parse().expect("only names of types in the schema come here")
}

#[cfg(test)]
impl PolicyEntity {
    /// The entity as Cedar's public interface has it.
    pub fn cedar(&self) -> cedar_policy::Entity {
        Entity::clone(&self.entity).into()
    }
}
