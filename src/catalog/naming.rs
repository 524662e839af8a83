//! Names all entries of a route, and decides which are shown: once for all of its views.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::{
    call::{ListKind, UpstreamName},
    config::{Filter, Pin, Route},
    mcp::uri,
};

use super::{
    filter,
    held_names::{HeldNames, NamedBy, Owner, RouteNames},
    names::{ChosenName, NameRequest, Namer, Prefixes, Why},
    part::{Filters, Part, extra},
};

/// The names of a route.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Naming {
    /// The shown names by the upstream, and its own name.
    kinds: HashMap<ListKind, HashMap<UpstreamName, HashMap<String, ShownName>>>,
    prefixes: Prefixes,
    /// When each upstream's first template was shown; templates of those that came first lead.
    ranks: BTreeMap<UpstreamName, u64>,
    /// Names that are not recorded as these entries' yet.
    pub claims: Vec<Claim>,
    /// Entries that have another name than their own since that is somebody else's.
    pub collisions: Vec<Collision>,
    /// Entries that are left out: they have no name.
    pub left_out: Vec<String>,
}

/// An entry as clients know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownName {
    pub name: String,
    /// Whether it is on lists.
    pub listed: bool,
    /// The route's filter lets nobody use it.
    denied: bool,
    /// Names that it had before it was renamed, the last first; none where it is not.
    before: Vec<String>,
}

/// A name for an entry, which has to be recorded before it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub kind: ListKind,
    pub name: String,
    pub owner: Owner,
    pub by: NamedBy,
}

/// An entry whose own name is not what clients see, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Collision {
    pub kind: ListKind,
    pub name: String,
    pub owner: Owner,
    pub why: Why,
}

/// A route with all that is known of its upstreams, for one kind of entries.
struct Scope<'a> {
    kind: ListKind,
    route: &'a Route,
    filter: &'a Filter,
    parts: &'a [Part],
    entries: Vec<NameRequest<'a>>,
    held: &'a HeldNames,
}

impl Naming {
    /// Names all entries of the parts. `names` are those that were served before; `records` says
    /// whether new ones can be recorded.
    pub fn of(route: &Route, parts: &[Part], names: &RouteNames, records: bool) -> Self {
        let prefixes = Prefixes::new(&route.upstreams);
        let mut naming = Self { prefixes, ranks: names.ranks(), ..Self::default() };
        for kind in ListKind::ALL {
            let entries = naming.entries(kind, parts);
            let filter = filter_of(&route.tools, &route.prompts, &route.resources, kind);
            let scope = Scope { kind, route, filter, parts, entries, held: names.of(kind) };
            naming.add(&scope, records);
        }
        if !records {
            naming.claims.clear();
        }
        naming.claims.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        naming.collisions.sort();
        naming
    }

    /// Whether all names lead where they do in another.
    pub fn leads_alike(&self, other: &Self) -> bool {
        self.kinds == other.kinds && self.prefixes == other.prefixes && self.ranks == other.ranks
    }

    /// The name by which clients know an upstream's entry; none where they may not use it.
    pub fn shown(&self, kind: ListKind, upstream: &UpstreamName, own: &str) -> Option<&ShownName> {
        self.find(kind, upstream, own).filter(|shown| !shown.denied)
    }

    /// Whether the route's filter keeps an upstream's entry from its clients.
    pub fn denies(&self, kind: ListKind, upstream: &UpstreamName, own: &str) -> bool {
        self.find(kind, upstream, own).is_some_and(|shown| shown.denied)
    }

    /// Whether a pattern is the name of something that clients know, or would know if it were not
    /// denied.
    pub fn shows_by(&self, kind: ListKind, pattern: &str) -> bool {
        self.all(kind).any(|shown| filter::matches(pattern, &shown.name))
    }

    /// Whether a pattern denies something.
    pub fn denies_by(&self, kind: ListKind, pattern: &str) -> bool {
        let fits = |name: &String| filter::matches(pattern, name);
        self.all(kind).any(|shown| fits(&shown.name) || shown.before.iter().any(fits))
    }

    /// Whether the route gives something of this name another one.
    pub fn renames(&self, kind: ListKind, name: &str) -> bool {
        let mut all = self.all(kind);
        all.any(|shown| shown.before.first().unwrap_or(&shown.name) == name)
    }

    fn all(&self, kind: ListKind) -> impl Iterator<Item = &ShownName> {
        self.kinds.get(&kind).into_iter().flatten().flat_map(|(_, entries)| entries.values())
    }

    pub fn prefixes(&self) -> &Prefixes {
        &self.prefixes
    }

    /// Before what others an upstream's templates are asked, the least first.
    pub fn rank(&self, upstream: &UpstreamName) -> u64 {
        self.ranks.get(upstream).copied().unwrap_or(u64::MAX)
    }

    fn find(&self, kind: ListKind, upstream: &UpstreamName, own: &str) -> Option<&ShownName> {
        self.kinds.get(&kind)?.get(upstream)?.get(own)
    }

    /// All entries that upstreams' own sections let through, in the order of the route.
    fn entries<'a>(&mut self, kind: ListKind, parts: &'a [Part]) -> Vec<NameRequest<'a>> {
        let mut entries = Vec::new();
        let mut known = HashSet::new();
        for part in parts {
            let Some(listing) = &part.listing else { continue };
            let upstream = part.upstream.name();
            let filter = own_filter(&part.filters, kind);
            // Entries for clients that can be asked are among them: a name is the same for all
            // clients.
            let items = listing.items(kind).iter().chain(extra(listing, kind, true));
            let owns = items.map(|item| item.key.as_str());
            let owns = owns.filter(|own| match kind {
                ListKind::Resources => passes_listed(filter, "", own),
                ListKind::Tools | ListKind::Prompts | ListKind::Templates => {
                    filter::passes(filter, own)
                }
            });
            let (new, twice): (Vec<_>, Vec<_>) =
                owns.partition(|own| known.insert((upstream, *own)));
            let entry = |own| NameRequest { upstream, own, wanted: filter::renamed(filter, own) };
            entries.extend(new.into_iter().map(entry));
            let twice = twice.iter().map(|own| format!("`{own}` of `{upstream}` is listed twice"));
            self.left_out.extend(twice);
        }
        entries
    }

    fn add(&mut self, scope: &Scope<'_>, records: bool) {
        let named = scope.named(&self.prefixes, records);
        let mut finals = HashSet::new();
        for (entry, named) in scope.entries.iter().zip(named) {
            let owner = Owner { upstream: entry.upstream.clone(), own: entry.own.to_owned() };
            let named = match named {
                Ok(named) => named,
                Err(why) => {
                    self.left_out.push(left_out(entry, &why));
                    continue;
                }
            };
            let name = filter::renamed(scope.filter, &named.name);
            if !finals.insert(name.to_owned()) {
                let text = format!("`{}` of `{}`: `{name}` is", entry.own, entry.upstream);
                self.left_out.push(format!("{text} the name of two {}", scope.kind.member()));
                continue;
            }
            let is_news = !matches!(named.why, Why::Plain | Why::Configured);
            if is_news && name != entry.own {
                let kind = scope.kind;
                let name = name.to_owned();
                let owner = owner.clone();
                let why = named.why.clone();
                self.collisions.push(Collision { kind, name, owner, why });
            }
            self.claim(scope, &owner, &named.name, named.by);
            if name != named.name {
                self.claim(scope, &owner, name, NamedBy::Config);
            }
            let shown = scope.shown(entry, &named, name);
            let kind = self.kinds.entry(scope.kind).or_default();
            kind.entry(owner.upstream).or_default().insert(owner.own, shown);
        }
    }

    /// Notes a name that is not recorded as this entry's yet.
    fn claim(&mut self, scope: &Scope<'_>, owner: &Owner, name: &str, by: NamedBy) {
        let known = scope.held.get(name).filter(|holder| holder.owner == *owner);
        // A name that an operator pinned stays so.
        if known.is_none_or(|holder| holder.by != by && holder.by != NamedBy::Pin) {
            let kind = scope.kind;
            let name = name.to_owned();
            let owner = owner.clone();
            self.claims.push(Claim { kind, name, owner, by });
        }
    }
}

impl Scope<'_> {
    fn named(&self, prefixes: &Prefixes, records: bool) -> Vec<Result<ChosenName, Why>> {
        let pins = self.pins();
        let renames = self.renames();
        let mut blocked = HashSet::new();
        loop {
            let namer = Namer {
                rule: self.route.names,
                kind: self.kind,
                prefixes,
                held: self.held,
                pins: &pins,
                renames: &renames,
                blocked: &blocked,
                records,
            };
            let named = namer.name_all(&self.entries);
            let targets = self.targets(&named);
            // Names are given once more where a name that the route gives to another is somebody's
            // own.
            let is_taken = |named: &ChosenName| targets.contains(&named.name);
            if !blocked.is_empty() || !named.iter().flatten().any(is_taken) {
                return named;
            }
            blocked = targets;
        }
    }

    /// Names that the route gives to entries that are there, or may be there yet.
    fn targets(&self, named: &[Result<ChosenName, Why>]) -> HashSet<String> {
        let is_whole = self.parts.iter().all(|part| part.listing.is_some());
        let names: HashSet<_> = named.iter().flatten().map(|named| named.name.as_str()).collect();
        let rename = &self.filter.rename;
        let used = rename.iter().filter(|(from, to)| {
            (!is_whole || names.contains(from.as_str())) && !rename.contains_key(*to)
        });
        used.map(|(_, to)| to.clone()).collect()
    }

    /// Names that an operator gave for good; those of the file win.
    fn pins(&self) -> BTreeMap<String, Owner> {
        let pinned =
            self.held.iter().filter(|(_, holder)| holder.by == NamedBy::Pin && !holder.free);
        let pinned = pinned.map(|(name, holder)| (name.clone(), holder.owner.clone()));
        let written = self.route.pins.of(self.kind).iter().map(|(name, pin)| {
            let Pin { upstream, own } = pin.clone();
            (name.clone(), Owner { upstream, own })
        });
        pinned.chain(written).collect()
    }

    /// Names that upstreams' sections give to entries that are there, or may be there yet; of two
    /// the one of the upstream that the route names first.
    fn renames(&self) -> BTreeMap<String, Owner> {
        let mut renames = BTreeMap::new();
        for part in self.parts {
            let upstream = part.upstream.name();
            let is_there = |own: &String| {
                let mut entries = self.entries.iter();
                part.listing.is_none()
                    || entries.any(|entry| entry.upstream == upstream && entry.own == own)
            };
            let rename = &own_filter(&part.filters, self.kind).rename;
            for (own, to) in rename.iter().filter(|(own, _)| is_there(own)) {
                let owner = Owner { upstream: upstream.clone(), own: own.clone() };
                renames.entry(to.clone()).or_insert(owner);
            }
        }
        renames
    }

    /// Whether the route's filter keeps an entry of this name from its clients.
    fn denies(&self, entry: &NameRequest<'_>, name: &str, before: &[&str]) -> bool {
        let prefix = name.strip_suffix(entry.own).filter(|_| self.kind == ListKind::Resources);
        match prefix {
            Some(prefix) => !passes_listed(self.filter, prefix, entry.own),
            None => !filter::passes_as(self.filter, name, before),
        }
    }

    fn shown(&self, entry: &NameRequest<'_>, named: &ChosenName, name: &str) -> ShownName {
        let is_renamed = name != named.name || entry.own != entry.wanted;
        let before = [named.name.as_str(), entry.own];
        let before = if is_renamed { &before[..] } else { &[] };
        let own = self.parts.iter().find(|part| part.upstream.name() == entry.upstream);
        let hides = |part: &Part| filter::hides(own_filter(&part.filters, self.kind), entry.own);
        ShownName {
            listed: !own.is_some_and(hides) && !filter::hides(self.filter, name),
            denied: self.denies(entry, name, before),
            name: name.to_owned(),
            before: before.iter().map(|&name| name.to_owned()).collect(),
        }
    }
}

/// Whether a filter passes a listed resource as it is written and in its normal forms, each with
/// the prefix that clients see.
fn passes_listed(filter: &Filter, prefix: &str, own: &str) -> bool {
    let normal = || uri::normal_forms(own).into_iter().map(|form| format!("{prefix}{form}"));
    !filter::restricts(filter)
        || filter::passes_uris(filter, [format!("{prefix}{own}")].iter().map(String::as_str))
            && filter::passes_uris(filter, normal().collect::<Vec<_>>().iter().map(String::as_str))
}

fn left_out(entry: &NameRequest<'_>, why: &Why) -> String {
    let NameRequest { upstream, own, .. } = entry;
    if let Why::Taken(other) = why {
        return format!("`{own}` of `{upstream}` has a name that is taken by `{other}`");
    }
    format!("`{own}` of `{upstream}` has no name that is free")
}

fn own_filter(filters: &Filters, kind: ListKind) -> &Filter {
    filter_of(&filters.tools, &filters.prompts, &filters.resources, kind)
}

fn filter_of<'a>(
    tools: &'a Filter,
    prompts: &'a Filter,
    resources: &'a Filter,
    kind: ListKind,
) -> &'a Filter {
    match kind {
        ListKind::Tools => tools,
        ListKind::Prompts => prompts,
        ListKind::Resources | ListKind::Templates => resources,
    }
}
