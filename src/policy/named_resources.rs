//! The resources that the policies of a route name, and whether they know any by pattern.

use std::collections::{HashMap, HashSet};

use crate::{
    call::{Action, ObjectKind},
    mcp::uri,
};

use super::{rule::ParsedPolicy, slice::can_concern};

/// Resources that policies name.
#[derive(Debug, Default)]
pub struct NamedResources {
    /// Some policy decides by the name or the tags of a resource, or names one.
    pub is_by_name: bool,
    /// Ids as the policies write them.
    ids: HashSet<String>,
    /// URIs as the policies write them, by upstream and [`uri::loosest`].
    spellings: HashMap<(String, String), Vec<String>>,
}

impl NamedResources {
    pub(super) fn of<'a>(policies: impl Iterator<Item = &'a ParsedPolicy>) -> Self {
        let mut named = Self::default();
        let concerns = |known: &&ParsedPolicy| {
            [Action::List, Action::Read]
                .iter()
                .any(|action| can_concern(&known.policy, *action, ObjectKind::Resource))
        };
        for known in policies.filter(concerns) {
            named.is_by_name |= known.reads.names;
            let entities = known.reads.entities.iter();
            for (_, id) in entities.filter(|(kind, _)| kind == ObjectKind::Resource.name()) {
                named.is_by_name = true;
                named.add(id);
            }
        }
        named
    }

    fn add(&mut self, id: &str) {
        let Some((upstream, uri)) = id.split_once('/') else { return };
        if self.ids.insert(id.to_owned()) {
            let key = (upstream.to_owned(), uri::loosest(uri));
            self.spellings.entry(key).or_default().push(uri.to_owned());
        }
    }

    /// Whether a policy writes this very id.
    pub fn has(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    /// The spellings that policies have for what some server may take this for.
    pub fn spellings(&self, upstream: &str, loosest: &str) -> impl Iterator<Item = &str> {
        let key = (upstream.to_owned(), loosest.to_owned());
        self.spellings.get(&key).into_iter().flatten().map(String::as_str)
    }
}
