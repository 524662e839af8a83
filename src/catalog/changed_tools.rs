//! Tools whose definitions are others than before: an operator who approved a server's tools learns
//! that they changed.

use std::collections::{BTreeSet, HashMap};

use sha2::{Digest as _, Sha256};

use crate::mcp::{raw::Raw, splice};

use super::{item::Item, listing::Listing};

/// A tool that the same server lists with another definition than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedTool {
    pub name: String,
    /// Members of its entry that are others, new or gone, in the order of their names.
    pub members: Vec<String>,
    /// Digest of the definition before: the first half of its SHA-256, in hexadecimal.
    pub before: String,
    /// Digest of the definition now.
    pub after: String,
}

/// The tools that are in both listings, and another one in each.
pub fn changed_tools(before: &Listing, after: &Listing) -> Vec<ChangedTool> {
    let all = |listing: &Listing| -> Vec<Item> {
        listing.tools.iter().chain(&listing.asked_tools).cloned().collect()
    };
    let before = all(before);
    let known: HashMap<&str, &Raw> =
        before.iter().rev().map(|item| (item.key.as_str(), item.said())).collect();
    let mut seen = BTreeSet::new();
    let after = all(after);
    let both = after.iter().filter(|item| seen.insert(item.key.clone())).filter_map(|item| {
        let before = known.get(item.key.as_str())?;
        Some((item, *before))
    });
    let changed = both.filter(|(item, before)| item.said() != *before);
    changed.map(|(item, before)| ChangedTool::of(item, before)).collect()
}

impl ChangedTool {
    fn of(item: &Item, before: &Raw) -> Self {
        let name = item.key.clone();
        let after = item.said();
        let members = [before, after].map(splice::entries);
        let [old, new] = members.each_ref().map(|all| -> HashMap<&str, &Raw> {
            all.iter().map(|(name, value)| (name.as_str(), value)).collect()
        });
        let names: BTreeSet<&str> = old.keys().chain(new.keys()).copied().collect();
        let differs = |name: &&str| old.get(name) != new.get(name);
        let members = names.into_iter().filter(differs).map(str::to_owned).collect();
        Self { name, members, before: digest(before), after: digest(after) }
    }
}

fn digest(definition: &Raw) -> String {
    let whole = Sha256::digest(definition.bytes());
    whole.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}
