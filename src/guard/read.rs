//! Names of the arguments that the gate itself reads: what it reads is to be what the server reads.

use std::{collections::BTreeSet, sync::Arc};

use crate::mcp::unique_members::is_same_name;

/// Arguments that policies, limits, the cache and the configuration's own arguments are about: by
/// the route, and by the tool. Most calls have none.
#[derive(Debug, Clone, Default)]
pub struct ReadArguments([Option<Arc<BTreeSet<String>>>; 2]);

impl ReadArguments {
    /// The names of one section.
    pub fn new(names: impl Iterator<Item = String>) -> Self {
        let names: BTreeSet<_> = names.collect();
        Self([(!names.is_empty()).then(|| Arc::new(names)), None])
    }

    /// The names of the sections that hold for a call: of its tool, and of its route.
    pub fn all<'a>(sections: impl Iterator<Item = &'a Self>) -> Self {
        let mut named = sections.filter_map(|section| section.0.iter().flatten().next());
        Self(std::array::from_fn(|_| named.next().map(Arc::clone)))
    }

    /// Whether one of them has this name, in whatever case of letters: some servers do not tell
    /// cases apart.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().flatten().any(|names| names.iter().any(|one| is_same_name(one, name)))
    }
}
