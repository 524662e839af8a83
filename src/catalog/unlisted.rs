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
    part::{Filters, Found, Part, Target},
    template::Template,
};

/// What a route knows of resources besides its list of them.
#[derive(Debug, Default)]
pub struct Unlisted {
    templates: Vec<(Template, Arc<Target>, Arc<Filters>)>,
    readers: Vec<Reader>,
    /// The route's own.
    filter: Filter,
    /// Whether the route has policies.
    judged: bool,
    /// What is listed under another spelling than its normal form, by that.
    spelt: HashMap<String, Vec<Object>>,
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
}

impl Unlisted {
    pub fn new(route: &Route) -> Self {
        let judged = route.rules.is_some();
        Self { filter: route.resources.clone(), judged, ..Self::default() }
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
                let entry = (Template::new(name), Arc::clone(target), Arc::clone(&part.filters));
                self.templates.push(entry);
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
    pub fn find(&self, uri: &str, listed: Option<&Listed>) -> Option<Arc<Target>> {
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
        let mut besides = Vec::new();
        if self.judged {
            besides.extend(way.template.and_then(|template| template.object.clone()));
            besides.extend(self.spelt.get(&normal).into_iter().flatten().cloned());
            if normal != uri {
                let known = listed.and_then(|listed| listed.get(&normal));
                let object = known.and_then(|target| target.object.clone());
                besides.push(object.unwrap_or_else(|| way.object(way.own(&normal))));
                let template = self.fitting(&normal).and_then(|(target, _)| target.object.clone());
                besides.extend(template);
            }
        }
        let found = if way.template.is_some() { Found::Template } else { Found::Guess };
        let (object, hedge) = (Some(way.object(own)), way.filters.hedge);
        let plain = Target::of_task(way.upstream, own, None);
        Some(Arc::new(Target { object, besides, found, hedge, ..plain }))
    }

    fn way(&self, uri: &str) -> Option<Way<'_>> {
        if let Some((target, filters)) = self.fitting(uri) {
            return Some(Way { upstream: &target.upstream, filters, template: Some(target) });
        }
        let scheme = uri.split(':').next().unwrap_or_default();
        let knows = |reader: &&Reader| reader.schemes.iter().any(|known| known == scheme);
        let mut knowing = self.readers.iter().filter(knows);
        let reader = match (knowing.next(), knowing.next()) {
            (Some(reader), None) => reader,
            _ if self.readers.len() == 1 => self.readers.first()?,
            _ => return None,
        };
        Some(Way { upstream: &reader.upstream, filters: &reader.filters, template: None })
    }

    /// The first template that a URI fits.
    fn fitting(&self, uri: &str) -> Option<(&Target, &Filters)> {
        let mut all = self.templates.iter();
        let (_, target, filters) = all.find(|(template, _, _)| template.matches(uri))?;
        Some((&**target, &**filters))
    }
}

/// Listed resources by the URIs that clients know.
pub type Listed = HashMap<String, Arc<Target>>;

impl Way<'_> {
    /// The upstream's own URI: without what a template's own is shown with.
    fn own<'a>(&self, uri: &'a str) -> &'a str {
        let alias = self.template.map(|_| alias(self.upstream.name()));
        alias.and_then(|alias| uri.strip_prefix(&alias)).unwrap_or(uri)
    }

    fn object(&self, own: &str) -> Object {
        let tags = self.filters.tags_of(own);
        Object::new(ObjectKind::Resource, self.upstream.name(), own, None, tags)
    }
}

/// What stands before the URI of a resource whose own URI is taken.
fn alias(upstream: &str) -> String {
    format!("{}+", upstream.replace('_', "-"))
}
