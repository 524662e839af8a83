//! Tools, prompts and resources as policies see them.

use std::sync::{Arc, OnceLock};

use cedar_policy::{Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression};
use serde::Deserialize;

use crate::{
    call::ObjectKind,
    mcp::{raw::Raw, splice},
};

/// Something that may be seen and used.
#[derive(Debug, Clone)]
pub struct Object {
    pub kind: ObjectKind,
    pub upstream: Arc<str>,
    /// `UPSTREAM/NAME`, with the upstream's own name for it.
    pub id: String,
    /// A `ToolAnnotations` object, where the upstream gave one.
    annotations: Option<Raw>,
    tags: Vec<String>,
    entity: OnceLock<Option<Entity>>,
}

/// What a tool's upstream says of it. Defaults are those of the protocol (schema:
/// `ToolAnnotations`).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Hints {
    #[serde(rename = "readOnlyHint")]
    read_only: bool,
    #[serde(rename = "destructiveHint")]
    destructive: bool,
    #[serde(rename = "idempotentHint")]
    idempotent: bool,
    #[serde(rename = "openWorldHint")]
    open_world: bool,
}

impl Default for Hints {
    fn default() -> Self {
        Self { read_only: false, destructive: true, idempotent: false, open_world: true }
    }
}

impl Object {
    pub fn new(
        kind: ObjectKind,
        upstream: &str,
        name: &str,
        annotations: Option<Raw>,
        tags: Vec<String>,
    ) -> Self {
        let id = format!("{upstream}/{name}");
        Self { kind, upstream: upstream.into(), id, annotations, tags, entity: OnceLock::new() }
    }

    /// The annotations of an entry of a list; read only where there are any.
    pub fn annotations_of(entry: &Raw) -> Option<Raw> {
        let may = memchr::memmem::find(entry.bytes(), b"\"annotations\"").is_some();
        may.then(|| splice::member(entry, "annotations")).flatten()
    }

    pub(super) fn uid(&self) -> EntityUid {
        uid(self.kind.name(), &self.id)
    }

    /// `None` where Cedar cannot have it as one.
    pub(super) fn entity(&self) -> Option<&Entity> {
        self.entity.get_or_init(|| self.made()).as_ref()
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
            // Hints that cannot be read are as none.
            let hints = self.annotations.as_ref().and_then(|hints| hints.try_read());
            let hints: Hints = hints.unwrap_or_default();
            for (hint, value) in [
                ("read_only", hints.read_only),
                ("destructive", hints.destructive),
                ("idempotent", hints.idempotent),
                ("open_world", hints.open_world),
            ] {
                attributes.push((hint.to_owned(), RestrictedExpression::new_bool(value)));
            }
        }
        let parents = [uid("Upstream", &self.upstream)];
        Entity::new_with_tags(self.uid(), attributes, parents, []).ok()
    }
}

/// An entity's name. Any text can be an id.
pub fn uid(kind: &str, id: &str) -> EntityUid {
    let kind: EntityTypeName = kind.parse().expect("only names of types in the schema come here");
    EntityUid::from_type_name_and_id(kind, EntityId::new(id))
}
