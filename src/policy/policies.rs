//! The policies of one route, compiled.

use std::collections::{BTreeSet, HashMap};

use crate::config::Rules;

use super::{
    arguments::first_step,
    named_resources::NamedResources,
    reads::{Personal, Reads},
    rule::ParsedPolicy,
    slice::Slices,
};

/// The policies of one route.
#[derive(Debug)]
pub struct Policies {
    pub(super) slices: Slices,
    /// Attributes of a caller that any of them asks for.
    pub(super) personal: Personal,
    pub(super) resources: NamedResources,
    /// Names of the arguments that any of them reads, or reads something within.
    arguments: BTreeSet<String>,
}

impl Policies {
    pub(super) fn new(rules: &Rules, files: &HashMap<String, Vec<ParsedPolicy>>) -> Self {
        let read = rules.policies.iter().filter_map(|file| files.get(&file.name)).flatten();
        let all: Vec<_> = read.cloned().collect();
        let mut reads = Reads::default();
        all.iter().for_each(|known| reads.add(&known.reads));
        let resources = NamedResources::of(all.iter());
        let arguments = reads.arguments.keys().map(|name| first_step(name)).collect();
        Self { slices: Slices::new(&all), personal: reads.personal, resources, arguments }
    }

    /// Names of the arguments that any of them reads, or reads something within.
    pub fn arguments(&self) -> &BTreeSet<String> {
        &self.arguments
    }
}
