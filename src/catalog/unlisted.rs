//! Resources that are on no list: where they lead, and what must be permitted for them.
//!
//! Any client can spell a URI in several ways, and a server may take all of them for one. So where
//! policies judge, what is reached is judged by its normal form too, and what readers disagree
//! about leads nowhere.

use std::{collections::HashMap, sync::Arc};

use crate::{
    call::{ListKind, ObjectKind},
    config::{Filter, Route},
    mcp::uri,
    policy::Object,
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
    /// Entries listed under another spelling than their normal form, by that.
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

/// Where a URI leads.
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
        Self { filter: route.resources.clone(), judged, naming, is_whole, ..Self::default() }
    }

    /// An upstream that has resources.
    pub fn add_reader(&mut self, part: &Part, listing: &Listing) {
        let keys = listing.resources.iter().chain(&listing.templates);
        let schemes = keys.filter_map(|item| item.key.split_once(':'));
        let schemes = schemes.map(|(scheme, _)| scheme.to_owned()).collect();
        let (upstream, filters) = (Arc::clone(&part.upstream), Arc::clone(&part.filters));
        self.readers.push(Reader { upstream, schemes, filters });
    }

    /// An entry of a list, under the name that clients know.
    pub fn note(&mut self, kind: ListKind, name: &str, target: &Arc<Target>, part: &Part) {
        match kind {
            ListKind::Templates => {
                let prefix = name.strip_suffix(&target.own).unwrap_or_default().to_owned();
                let (target, filters) = (Arc::clone(target), Arc::clone(&part.filters));
                let rank = |shape: &Shape| self.naming.rank(shape.target.upstream.name());
                let own = self.naming.rank(target.upstream.name());
                let at = self.templates.partition_point(|shape| rank(shape) <= own);
                let shape = Shape { template: Template::new(name), prefix, target, filters };
                self.templates.insert(at, shape);
            }
            ListKind::Resources if self.judged => {
                let normal = uri::normal(name);
                if normal != name {
                    self.spelt.entry(normal).or_default().extend(target.object.clone());
                }
            }
            ListKind::Resources | ListKind::Tools | ListKind::Prompts => (),
        }
    }

    /// Where a URI leads that is not `listed`: by the first template it fits, else to the only
    /// upstream that it can be. It must pass the filters all the same, as it is and in its normal
    /// form.
    pub fn find(&self, uri: &str, listed: Option<&ListedResources>) -> Option<Arc<Target>> {
        if self.judged && !uri::is_plain(uri) {
            return None;
        }
        let way = self.way(uri)?;
        let (own, normal) = (way.own(uri), uri::normal(uri));
        let all = [(uri, own), (normal.as_str(), way.own(&normal))];
        let passes = |(shown, own): &(&str, &str)| {
            filter::passes(&self.filter, shown) && filter::passes(&way.filters.resources, own)
        };
        if !all.iter().all(passes) {
            return None;
        }
        // The filter may know it by the name that it is listed under.
        let upstream = way.upstream.name();
        let denies = |own| self.naming.denies(ListKind::Resources, upstream, own);
        if all.iter().any(|(_, own)| denies(own)) {
            return None;
        }
        let mut besides = Vec::new();
        if self.judged {
            besides.extend(way.template.and_then(|template| template.object.clone()));
            besides.extend(self.spelt.get(&normal).into_iter().flatten().cloned());
            if normal != uri {
                let known = listed.and_then(|listed| listed.get(&normal));
                let object = known.and_then(|target| target.object.clone());
                besides.push(object.unwrap_or_else(|| way.object(way.own(&normal))));
                let template =
                    self.fitting(&normal, None).and_then(|shape| shape.target.object.clone());
                besides.extend(template);
            }
        }
        let found = if way.template.is_some() { FoundBy::Template } else { FoundBy::Guess };
        let (object, hedge) = (Some(way.object(own)), way.filters.hedge);
        let plain = Target::of_task(way.upstream, own, None);
        Some(Arc::new(Target { object, besides, found, hedge, ..plain }))
    }

    fn way<'a>(&'a self, uri: &'a str) -> Option<Way<'a>> {
        let prefixed = self.naming.prefixes().split_uri(uri);
        let owner = prefixed.map(|(owner, _)| owner);
        if let Some(Shape { prefix, target, filters, .. }) = self.fitting(uri, owner) {
            let (upstream, template) = (&target.upstream, Some(&**target));
            return Some(Way { upstream, filters, template, prefix });
        }
        let scheme = uri.split(':').next().unwrap_or_default();
        let knows = |reader: &&Reader| reader.schemes.iter().any(|known| known == scheme);
        let (reader, prefix) = match prefixed {
            // It says itself whose it is.
            Some((owner, rest)) => {
                let of_owner = |reader: &&Reader| reader.upstream.name() == owner;
                let reader = self.readers.iter().find(of_owner)?;
                let prefix = uri.strip_suffix(rest).filter(|_| !knows(&reader));
                (reader, prefix.unwrap_or_default())
            }
            None => {
                let mut knowing = self.readers.iter().filter(knows);
                let reader = match (knowing.next(), knowing.next()) {
                    (Some(reader), None) => reader,
                    // An upstream that nothing is known of may be the one that has it.
                    _ if self.readers.len() == 1 && self.is_whole => self.readers.first()?,
                    _ => return None,
                };
                (reader, "")
            }
        };
        let (upstream, filters) = (&reader.upstream, &*reader.filters);
        Some(Way { upstream, filters, template: None, prefix })
    }

    /// The first template that a URI fits; of this upstream where one is named.
    fn fitting(&self, uri: &str, owner: Option<&str>) -> Option<&Shape> {
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
}
