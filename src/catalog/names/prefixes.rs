//! The prefixes of a route's upstreams.

use crate::call::{ListKind, UpstreamName};

/// Prefixes of a route's upstreams, which no entry of another upstream is called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prefixes(Vec<Prefix>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prefix {
    upstream: UpstreamName,
    /// Before tools and prompts.
    pub(super) name: String,
    /// Before URIs.
    pub(super) uri: String,
}

impl Prefixes {
    /// Chooses the prefixes of these upstreams, which are all that a route has.
    pub fn new(upstreams: &[UpstreamName]) -> Self {
        let dashed = |name: &str| name.replace('_', "-");
        let each = upstreams.iter().map(|upstream| {
            let mut uri = dashed(upstream);
            let same = |other: &&UpstreamName| **other != *upstream && dashed(other) == uri;
            // `_` is in no scheme of a URI (RFC 3986 §3.1), and `.` in no name of an upstream.
            if *upstream != *uri && upstreams.iter().any(|other| same(&other)) {
                uri = upstream.replace('_', ".");
            }
            let name = format!("{upstream}__");
            let uri = format!("{uri}+");
            Prefix { upstream: upstream.clone(), name, uri }
        });
        Self(each.collect())
    }

    /// The upstream that a name belongs to by its prefix; of several the one with the longest.
    /// Letters of either case are the same: people and models read past them.
    pub fn owner(&self, kind: ListKind, name: &str) -> Option<&UpstreamName> {
        let name = name.trim_start().as_bytes();
        let begins = |prefix: &&Prefix| {
            let prefix = prefix.of(kind).as_bytes();
            name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        let found = self.0.iter().filter(begins);
        Some(&found.max_by_key(|prefix| prefix.of(kind).len())?.upstream)
    }

    /// A URI without the prefix that says whose it is, and that upstream.
    pub fn split_uri<'u>(&self, uri: &'u str) -> Option<(&UpstreamName, &'u str)> {
        let owner = self.owner(ListKind::Resources, uri)?;
        let prefix = self.of(owner)?;
        Some((owner, uri.trim_start().get(prefix.uri.len()..)?))
    }

    pub(super) fn of(&self, upstream: &UpstreamName) -> Option<&Prefix> {
        self.0.iter().find(|prefix| prefix.upstream == *upstream)
    }

    pub(super) fn is_alone(&self) -> bool {
        self.0.len() < 2
    }
}

impl Prefix {
    pub(super) fn of(&self, kind: ListKind) -> &str {
        if is_uri(kind) { &self.uri } else { &self.name }
    }
}

pub(super) fn is_uri(kind: ListKind) -> bool {
    matches!(kind, ListKind::Resources | ListKind::Templates)
}
