//! Names that were served, and to what they lead: what is kept of one kind on one route.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    call::{ListKind, UpstreamName},
    config::Names,
};

/// Upstream and own name that a name leads to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Owner {
    pub upstream: UpstreamName,
    /// The upstream's own name for it.
    pub own: String,
}

/// How a name was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamedBy {
    /// Named by a route's `names`, as it was then.
    Auto,
    Always,
    Never,
    /// Named by a rename in the configuration.
    Config,
    /// Named with its upstream's prefix, while no name could be recorded. Another one follows.
    Spare,
    /// Named by an operator, for good.
    Pin,
}

/// The owner of a name, and since when it has been.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    #[serde(flatten)]
    pub owner: Owner,
    pub by: NamedBy,
    /// When it was first served, in seconds since 1970.
    pub since: u64,
    /// Since when its upstream does not list it, although it is ready or gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlisted: Option<u64>,
    /// Anybody may have it: it was released, or has been unlisted for too long.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub free: bool,
}

/// The names of one kind on one route.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeldNames {
    names: BTreeMap<String, Holder>,
    /// The most entries that each upstream listed at once.
    most: BTreeMap<UpstreamName, usize>,
}

/// The names of one route.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteNames {
    tools: HeldNames,
    prompts: HeldNames,
    resources: HeldNames,
    templates: HeldNames,
}

impl NamedBy {
    pub fn of(rule: Names) -> Self {
        match rule {
            Names::Auto => Self::Auto,
            Names::Always => Self::Always,
            Names::Never => Self::Never,
        }
    }
}

impl Holder {
    /// Notes that it is not listed now; true where it is free from now on, since it has not been
    /// for as long as names are kept.
    pub fn lapses(&mut self, now: u64, kept: Duration) -> bool {
        let since = *self.unlisted.get_or_insert(now);
        let is_over = kept.as_secs() <= now.saturating_sub(since);
        let lapses = is_over && !self.free && self.by != NamedBy::Pin;
        self.free |= lapses;
        lapses
    }
}

impl RouteNames {
    pub fn of(&self, kind: ListKind) -> &HeldNames {
        match kind {
            ListKind::Tools => &self.tools,
            ListKind::Prompts => &self.prompts,
            ListKind::Resources => &self.resources,
            ListKind::Templates => &self.templates,
        }
    }

    pub fn of_mut(&mut self, kind: ListKind) -> &mut HeldNames {
        match kind {
            ListKind::Tools => &mut self.tools,
            ListKind::Prompts => &mut self.prompts,
            ListKind::Resources => &mut self.resources,
            ListKind::Templates => &mut self.templates,
        }
    }

    /// Whether no name is anybody's.
    pub fn is_free(&self) -> bool {
        let mut all = ListKind::ALL.into_iter().flat_map(|kind| self.of(kind).iter());
        all.all(|(_, holder)| holder.free)
    }

    /// When the first template of each upstream was served.
    pub fn ranks(&self) -> BTreeMap<UpstreamName, u64> {
        let mut ranks = BTreeMap::new();
        for (_, holder) in self.templates.iter() {
            let rank = ranks.entry(holder.owner.upstream.clone()).or_insert(holder.since);
            *rank = holder.since.min(*rank);
        }
        ranks
    }
}

impl HeldNames {
    /// Returns whose a name is; none where it is nobody's, or nobody's any more.
    pub fn get(&self, name: &str) -> Option<&Holder> {
        self.names.get(name).filter(|holder| !holder.free)
    }

    /// The holder of a name, also of one that is free.
    pub fn any(&self, name: &str) -> Option<&Holder> {
        self.names.get(name)
    }

    /// All of them, those that are free too, in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Holder)> {
        self.names.iter()
    }

    /// Enters a name; gives the one who had it before.
    pub fn put(&mut self, name: &str, holder: Holder) -> Option<Holder> {
        self.names.insert(name.to_owned(), holder)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&String, &mut Holder)> {
        self.names.iter_mut()
    }

    /// The most entries that each upstream listed at once.
    pub fn most(&self) -> impl Iterator<Item = (&UpstreamName, usize)> {
        self.most.iter().map(|(upstream, most)| (upstream, *most))
    }

    /// An upstream listed so many entries at once.
    pub fn had(&mut self, upstream: &UpstreamName, count: usize) {
        let most = self.most.entry(upstream.clone()).or_default();
        *most = count.max(*most);
    }

    /// Holds an upstream that lists `count` entries to `factor` times the most that it ever listed
    /// at once: of those that it does not list now the oldest go. Gives their names.
    pub fn bound(
        &mut self,
        upstream: &UpstreamName,
        count: usize,
        factor: usize,
        is_listed: &dyn Fn(&str) -> bool,
    ) -> Vec<String> {
        self.had(upstream, count);
        let most = self.most.get(upstream).map_or(count, |most| most * factor);
        let mut all = 0;
        let mut unlisted = Vec::new();
        for (name, holder) in self.names.iter().filter(|(_, it)| it.owner.upstream == *upstream) {
            all += 1;
            if !is_listed(&holder.owner.own) && holder.by != NamedBy::Pin {
                unlisted.push((holder.unlisted.unwrap_or(u64::MAX), holder.since, name.clone()));
            }
        }
        unlisted.sort();
        unlisted.truncate(usize::saturating_sub(all, most));
        unlisted
            .into_iter()
            .map(|(.., name)| name)
            .inspect(|name| drop(self.names.remove(name)))
            .collect()
    }

    /// Gives all that is one upstream's to another.
    pub fn pass_on(&mut self, from: &UpstreamName, to: &UpstreamName) {
        for holder in self.names.values_mut().filter(|it| it.owner.upstream == *from) {
            holder.owner.upstream = to.clone();
        }
        if let Some(most) = self.most.remove(from) {
            self.had(to, most);
        }
    }

    /// The names of each entry (upstream, own name), the one that was served first before others.
    pub fn by_owner(&self) -> HashMap<(&str, &str), Vec<(&str, &Holder)>> {
        let mut all = HashMap::<_, Vec<_>>::new();
        for (name, holder) in self.names.iter().filter(|(_, holder)| !holder.free) {
            let owner = (holder.owner.upstream.as_str(), holder.owner.own.as_str());
            all.entry(owner).or_default().push((name.as_str(), holder));
        }
        for names in all.values_mut() {
            names.sort_by_key(|(name, holder)| (holder.since, name.len(), *name));
        }
        all
    }
}
