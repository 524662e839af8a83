//! Tools, prompts and resources as policies see them.

use std::{
    hash::{Hash, Hasher},
    sync::OnceLock,
};

use cedar_policy::{Entity, RestrictedExpression};

use crate::{
    call::{ObjectKind, UpstreamName},
    mcp::{raw::Raw, splice},
};

use super::entity::{PolicyEntity, uid};

/// Something that may be seen and used.
#[derive(Debug, Clone)]
pub struct Object {
    pub kind: ObjectKind,
    pub upstream: UpstreamName,
    /// `UPSTREAM/NAME`, with the upstream's own name for it.
    pub id: String,
    /// A `ToolAnnotations` object, where the upstream gave one.
    annotations: Option<Raw>,
    tags: Vec<String>,
    entity: OnceLock<Option<PolicyEntity>>,
}

/// Longest id of which a decision is kept, or more is logged: any client can make one up.
pub const ID_BYTES_MAX: usize = 1024;

/// Names that policies have for the hints of `ToolAnnotations`, and what holds where an upstream
/// gives none (schema: `ToolAnnotations`).
const HINTS: [(&str, &str, bool); 4] = [
    ("read_only", "readOnlyHint", false),
    ("destructive", "destructiveHint", true),
    ("idempotent", "idempotentHint", false),
    ("open_world", "openWorldHint", true),
];

/// All that policies can know of it: what hashes the same is seen by the same callers.
impl Hash for Object {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.kind, &self.upstream, &self.id, &self.annotations, &self.tags).hash(state);
    }
}

impl Object {
    pub fn new(
        kind: ObjectKind,
        upstream: &UpstreamName,
        name: &str,
        annotations: Option<Raw>,
        tags: Vec<String>,
    ) -> Self {
        let id = format!("{upstream}/{name}");
        Self { kind, upstream: upstream.clone(), id, annotations, tags, entity: OnceLock::new() }
    }

    /// The annotations of an entry of a list; read only where there are any.
    pub fn annotations_of(entry: &Raw) -> Option<Raw> {
        let may = memchr::memmem::find(entry.bytes(), b"\"annotations\"").is_some();
        may.then(|| splice::member(entry, "annotations")).flatten()
    }

    /// Returns as much of its id as is logged.
    pub(super) fn short_id(&self) -> &str {
        let end = self.id.floor_char_boundary(ID_BYTES_MAX);
        self.id.get(..end).unwrap_or_default()
    }

    /// Whether it says that it changes nothing (schema: `ToolAnnotations`); not so where it says
    /// nothing.
    pub fn is_read_only(&self) -> bool {
        self.says("readOnlyHint")
    }

    fn says(&self, hint: &str) -> bool {
        let said = self.annotations.as_ref().filter(|said| said.is_object());
        said.and_then(|said| splice::member(said, hint)?.try_read()).unwrap_or(false)
    }

    /// `None` where Cedar cannot have it as one.
    pub(super) fn entity(&self) -> Option<&PolicyEntity> {
        self.entity.get_or_init(|| self.made().as_ref().map(PolicyEntity::new)).as_ref()
    }

    fn made(&self) -> Option<Entity> {
        let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
        let name = self.id.split_once('/').map_or("", |(_, name)| name);
        let tags = self.tags.iter().map(|tag| text(tag));
        let mut attributes = vec![
            ("name".to_owned(), text(name)),
            ("upstream".to_owned(), text(&self.upstream)),
            ("tags".to_owned(), RestrictedExpression::new_set(tags)),
        ];
        if self.kind == ObjectKind::Tool {
            for (attribute, hint, default) in HINTS {
                let said = self.annotations.as_ref().filter(|said| said.is_object());
                let said = said.and_then(|said| splice::member(said, hint)?.try_read());
                let value = RestrictedExpression::new_bool(said.unwrap_or(default));
                attributes.push((attribute.to_owned(), value));
            }
        }
        let parents = [uid("Upstream", &self.upstream)];
        Entity::new_with_tags(uid(self.kind.name(), &self.id), attributes, parents, []).ok()
    }
}
