//! Resources that are on no list: where they lead, and what must be permitted for them.
//!
//! Any client can spell a URI in several ways, and a server may take all of them for one. So where
//! policies or filters judge, what is reached is judged by all that servers may read it as; what
//! readers disagree about leads nowhere, and only the normal form is sent.

use std::{collections::HashMap, sync::Arc};

use crate::{
    call::{ListKind, ObjectKind, UpstreamName},
    config::{Filter, Route, UnlistedUris},
    mcp::uri::{self, Readings},
    policy::{NamedResources, Object},
    upstream::Upstream,
};

use super::{
    filter,
    listing::Listing,
    naming::Naming,
    part::{Filters, FoundBy, Part, Target},
    template::Template,
};

/// Resources that a route knows besides its list of them.
#[derive(Debug, Default)]
pub struct Unlisted {
    /// Templates, those of upstreams first whose templates were shown first.
    templates: Vec<Shape>,
    readers: Vec<Reader>,
    naming: Arc<Naming>,
    /// Something is known of each upstream.
    is_whole: bool,
    /// The route's own.
    filter: Filter,
    /// Whether the route has policies.
    judged: bool,
    unlisted: UnlistedUris,
    /// Entries that are listed in another spelling than that, by their [`uri::loosest`].
    spelt: HashMap<String, Vec<Object>>,
}

/// A template of an upstream, as clients know it.
#[derive(Debug)]
struct Shape {
    template: Template,
    /// Prefix before the upstream's own.
    prefix: String,
    target: Arc<Target>,
    filters: Arc<Filters>,
}

/// An upstream that has resources, with the schemes it lists.
#[derive(Debug)]
struct Reader {
    upstream: Arc<Upstream>,
    schemes: Vec<String>,
    filters: Arc<Filters>,
}

/// A target that a URI leads to.
struct Way<'a> {
    upstream: &'a Arc<Upstream>,
    filters: &'a Filters,
    template: Option<&'a Target>,
    /// Prefix before the upstream's own URI.
    prefix: &'a str,
}

impl Unlisted {
    /// `is_whole` says that something is known of each upstream.
    pub fn new(route: &Route, naming: Arc<Naming>, is_whole: bool) -> Self {
        let judged = route.rules.is_some();
        let filter = route.resources.clone();
        let unlisted = route.unlisted;
        Self { filter, judged, unlisted, naming, is_whole, ..Self::default() }
    }

    /// An upstream that has resources.
    pub fn add_reader(&mut self, part: &Part, listing: &Listing) {
        let keys = listing.resources.iter().chain(&listing.templates);
        let schemes = keys.filter_map(|item| item.key.split_once(':'));
        let schemes = schemes.map(|(scheme, _)| scheme.to_ascii_lowercase()).collect();
        let upstream = Arc::clone(&part.upstream);
        let filters = Arc::clone(&part.filters);
        self.readers.push(Reader { upstream, schemes, filters });
    }

    /// An entry of a list, under the name that clients know.
    pub fn note(&mut self, kind: ListKind, name: &str, target: &Arc<Target>, part: &Part) {
        match kind {
            ListKind::Templates => {
                let prefix = name.strip_suffix(&target.own).unwrap_or_default().to_owned();
                let target = Arc::clone(target);
                let filters = Arc::clone(&part.filters);
                let rank = |shape: &Shape| self.naming.rank(shape.target.upstream.name());
                let own = self.naming.rank(target.upstream.name());
                let at = self.templates.partition_point(|shape| rank(shape) <= own);
                let shape = Shape { template: Template::new(name), prefix, target, filters };
                self.templates.insert(at, shape);
            }
            ListKind::Resources => {
                let loosest = uri::loosest(&target.own);
                if loosest != target.own {
                    self.spelt.entry(loosest).or_default().extend(target.object.clone());
                }
            }
            ListKind::Tools | ListKind::Prompts => (),
        }
    }

    /// Finds where a URI leads that is not `listed`: by the first template it fits, else to the
    /// only upstream that it can be. Where policies or filters know resources, it must pass them in
    /// all readings, and what is neither listed nor its own normal form is for those alone who were
    /// given it.
    pub fn find(
        &self,
        uri: &str,
        listed: Option<&ListedResources>,
        named: &NamedResources,
    ) -> Option<Arc<Target>> {
        let way = self.way(uri, listed)?;
        let own = way.own(uri);
        let by_pattern =
            filter::restricts(&self.filter) || filter::restricts(&way.filters.resources);
        let found = if way.template.is_some() { FoundBy::Template } else { FoundBy::Guess };
        if !self.judged && !by_pattern {
            return Some(way.target(own, found, Vec::new()));
        }
        let readings = Readings::of(own)?;
        let all: Vec<&str> = [own].into_iter().chain(readings.all()).collect();
        if !self.passes(&way, &all) {
            return None;
        }
        let is_exact = uri.strip_prefix(way.prefix) == Some(&readings.normal);
        let refuses = self.unlisted == UnlistedUris::Refuse;
        let is_known = way.template.is_some() || !refuses || !(by_pattern || named.is_by_name);
        let found = if is_exact && is_known { found } else { FoundBy::Link };
        let besides = match self.judged {
            true => self.objects(&way, own, &readings, named),
            false => Vec::new(),
        };
        Some(way.target(own, found, besides))
    }

    /// Whether filters pass all readings of a URI, by the upstream's own and as clients know them.
    fn passes(&self, way: &Way<'_>, readings: &[&str]) -> bool {
        let upstream = way.upstream.name();
        // The filter may know it by the name that it is listed under.
        let denies = |own: &&str| self.naming.denies(ListKind::Resources, upstream, own);
        let shown: Vec<_> = readings.iter().map(|own| format!("{}{own}", way.prefix)).collect();
        filter::passes_uris(&self.filter, shown.iter().map(String::as_str))
            && filter::passes_uris(&way.filters.resources, readings.iter().copied())
            && !readings.iter().any(denies)
    }

    /// All that must be permitted besides the URI as it is written.
    fn objects(
        &self,
        way: &Way<'_>,
        own: &str,
        readings: &Readings,
        named: &NamedResources,
    ) -> Vec<Object> {
        let mut objects: Vec<Object> = Vec::new();
        objects.extend(way.template.and_then(|template| template.object.clone()));
        let others = || readings.all().filter(|reading| *reading != own);
        for reading in others() {
            objects.push(way.object(reading));
            let shape = self.fitting(&format!("{}{reading}", way.prefix), None);
            let template = shape.and_then(|shape| shape.target.object.clone());
            objects.extend(template.filter(|it| *it.upstream == *way.upstream.name()));
        }
        let loosest = uri::loosest(own);
        let of_upstream = |object: &&Object| *object.upstream == *way.upstream.name();
        objects.extend(self.spelt.get(&loosest).into_iter().flatten().filter(of_upstream).cloned());
        let spellings = named.spellings(way.upstream.name(), &loosest);
        objects.extend(spellings.map(|spelling| way.object(spelling)));
        objects
    }

    fn way<'a>(&'a self, uri: &'a str, listed: Option<&ListedResources>) -> Option<Way<'a>> {
        let prefixed = self.naming.prefixes().split_uri(uri);
        let owner = prefixed.map(|(owner, _)| owner);
        if let Some(Shape { prefix, target, filters, .. }) = self.fitting(uri, owner) {
            let upstream = &target.upstream;
            let template = Some(&**target);
            return Some(Way { upstream, filters, template, prefix });
        }
        let scheme = uri.split(':').next().unwrap_or_default().to_ascii_lowercase();
        let knows = |reader: &&Reader| reader.schemes.contains(&scheme);
        let (reader, prefix) = match prefixed {
            // The URI says itself whose it is.
            Some((owner, rest)) => {
                let reader = self.reader(owner)?;
                let prefix = uri.strip_suffix(rest).filter(|_| !knows(&reader));
                (reader, prefix.unwrap_or_default())
            }
            None => {
                let mut knowing = self.readers.iter().filter(knows);
                let reader = match (knowing.next(), knowing.next()) {
                    (Some(reader), None) => reader,
                    (Some(_), Some(_)) => self.reader(self.lister(uri, listed)?)?,
                    // An upstream that nothing is known of may be the one that has it.
                    _ if self.readers.len() == 1 && self.is_whole => self.readers.first()?,
                    _ => return None,
                };
                (reader, "")
            }
        };
        let upstream = &reader.upstream;
        let filters = &*reader.filters;
        Some(Way { upstream, filters, template: None, prefix })
    }

    fn reader(&self, upstream: &UpstreamName) -> Option<&Reader> {
        self.readers.iter().find(|reader| reader.upstream.name() == upstream)
    }

    /// The upstream that lists the same resource in another spelling.
    fn lister<'a>(
        &'a self,
        uri: &str,
        listed: Option<&'a ListedResources>,
    ) -> Option<&'a UpstreamName> {
        let loosest = uri::loosest(uri);
        let listed = listed
            .and_then(|listed| listed.get(&uri::normal(uri)).or_else(|| listed.get(&loosest)));
        let spelt = || self.spelt.get(&loosest)?.first().map(|it| &it.upstream);
        listed.map(|target| target.upstream.name()).or_else(spelt)
    }

    /// The first template that a URI fits; of this upstream where one is named.
    fn fitting(&self, uri: &str, owner: Option<&UpstreamName>) -> Option<&Shape> {
        let may = |shape: &&Shape| owner.is_none_or(|it| it == shape.target.upstream.name());
        self.templates.iter().filter(may).find(|shape| shape.template.matches(uri))
    }
}

/// Listed resources by the URIs that clients know.
pub type ListedResources = HashMap<String, Arc<Target>>;

impl Way<'_> {
    /// The upstream's own URI.
    fn own<'a>(&self, uri: &'a str) -> &'a str {
        let start = uri.get(..self.prefix.len());
        match start.is_some_and(|start| start.eq_ignore_ascii_case(self.prefix)) {
            true => uri.get(self.prefix.len()..).unwrap_or(uri),
            false => uri,
        }
    }

    fn object(&self, own: &str) -> Object {
        let tags = self.filters.tags_of(own);
        Object::new(ObjectKind::Resource, self.upstream.name(), own, None, tags)
    }

    fn target(&self, own: &str, found: FoundBy, besides: Vec<Object>) -> Arc<Target> {
        let object = Some(self.object(own));
        let hedge = self.filters.hedge;
        let plain = Target::of_task(self.upstream, own, None);
        Arc::new(Target { object, besides, found, hedge, ..plain })
    }
}
