//! An endpoint that clients use: what is behind it, what each client is shown of that, and who may
//! use what.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderName};
use tokio::sync::broadcast;

use crate::{
    auth::RouteAuth,
    call::{Action, Caller, Client, ListKind, ObjectKind, RoutePath, UpstreamName, clock},
    catalog::{
        Decisions, FoundBy, Ledger, Naming, Offer, Part, Target, View, filter, ledger::ListedNames,
    },
    config::{Route as RouteSettings, UnlistedUris},
    guard::Guards,
    mcp::{document::CallArguments, method::Method},
    policy::{AccessRequest, Judge, Object, PerGrants, Policies, PolicyBounds},
    telemetry::{CallMetrics, Counter, Counters, MetricScope},
};

use super::{
    UpstreamEntry,
    announcement::Push,
    offers::{Cell, Offers},
};

/// Announcements that a slow client may lag behind before it is told that everything changed.
const PUSHES_MAX: usize = 256;

/// An endpoint that clients use.
#[derive(Debug)]
pub struct Route {
    pub settings: RouteSettings,
    /// The authorities that say who may pass.
    pub auth: RouteAuth,
    pub members: Vec<UpstreamEntry>,
    pub judge: Arc<Judge>,
    content: Arc<Content>,
    pub names: Arc<Naming>,
    /// Counts its calls.
    pub metrics: Arc<CallMetrics>,
    recorded: AtomicBool,
    /// Offers of the plain view, and of the one for clients that can be asked, by grants.
    seen: Arc<[PerGrants<Cell>; 2]>,
    offers: Arc<Offers>,
    /// Announcements to the clients of this route.
    pub pushes: broadcast::Sender<Push>,
}

/// Catalog behind a route, ready to be shown: the same for as long as none of it changes.
#[derive(Debug)]
struct Content {
    /// The parts as the upstreams have them.
    sources: Vec<Part>,
    /// The parts as this route shows them.
    parts: Vec<Part>,
    names: Arc<Naming>,
    /// Results may be kept for callers to read.
    links: bool,
    view: View,
    /// The view for clients that can be asked in mid-call, where an upstream lists more for them.
    asked_view: Option<View>,
}

/// Parts that a route is made of besides its own settings.
#[derive(Clone, Copy)]
pub(super) struct Ground<'a> {
    pub guards: &'a Guards,
    pub members: &'a [UpstreamEntry],
    pub offers: &'a Arc<Offers>,
    pub counters: &'a Arc<Counters>,
    pub bounds: PolicyBounds,
    /// Nothing but lists is another than before.
    pub relisted: bool,
    pub ledger: &'a Ledger,
    /// How long names of what is no longer listed are kept.
    pub kept: Duration,
}

impl Route {
    pub(super) fn build(
        settings: &RouteSettings,
        door: RouteAuth,
        policies: Option<Arc<Policies>>,
        ground: Ground<'_>,
        before: Option<&Arc<Self>>,
    ) -> Self {
        let of_route = settings.upstreams.iter();
        let named =
            |name: &UpstreamName| ground.members.iter().find(|it| it.upstream.name() == name);
        let members: Vec<_> = of_route.filter_map(named).cloned().collect();
        let (content, names) = Content::build(settings, &members, ground, before);
        let recorded = AtomicBool::new(names.claims.is_empty());
        let is_alike = |before: &&Arc<Self>| {
            before.settings.rules == settings.rules && before.judge.has_bounds(ground.bounds)
        };
        let alike = before.filter(is_alike);
        let same = alike.filter(|before| Arc::ptr_eq(&before.content, &content));
        // Decisions about calls hold for as long as what is listed stays the same.
        let judge = same.map(|before| Arc::clone(&before.judge)).unwrap_or_else(|| {
            Arc::new(Judge::new(&settings.path, policies, ground.bounds, ground.counters))
        });
        let seen = match (same, alike) {
            (Some(before), _) => Arc::clone(&before.seen),
            (None, Some(before)) => {
                Arc::new(before.seen.each_ref().map(|kept| kept.renewed(Cell::renewed)))
            }
            (None, None) => Arc::new([judge.per_grants(), judge.per_grants()]),
        };
        let pushes = before
            .map_or_else(|| broadcast::Sender::new(PUSHES_MAX), |before| before.pushes.clone());
        let metrics = ground.counters.calls_of(MetricScope::Route(settings.path.clone()));
        let settings = settings.clone();
        let offers = Arc::clone(ground.offers);
        Self {
            settings,
            metrics,
            auth: door,
            members,
            judge,
            content,
            names,
            recorded,
            seen,
            offers,
            pushes,
        }
    }

    /// All that clients of this kind may be shown, whoever they are: where every name leads.
    pub fn view(&self, client: &Client) -> &View {
        self.content.view_for(client.can_be_asked())
    }

    /// Everything that any client is shown.
    pub fn largest_view(&self) -> &View {
        self.content.view_for(true)
    }

    /// The offer to this caller. Safe to drop.
    pub async fn seen_by(self: &Arc<Self>, caller: &Caller, client: &Client) -> Arc<Offer> {
        self.seen(caller, client.can_be_asked()).await
    }

    /// The most that this caller is shown by any of its clients. Safe to drop.
    pub async fn most_seen_by(self: &Arc<Self>, caller: &Caller) -> Arc<Offer> {
        self.seen(caller, true).await
    }

    /// Whether a caller may read a resource, by the URI that clients know.
    pub fn lets_read(&self, caller: &Caller, client: &Client, uri: &str) -> bool {
        if self.judge.is_open() {
            return true;
        }
        let Some(target) = self.find_uri(uri) else { return false };
        let action = Action::Read;
        let arguments = &CallArguments::none();
        let now = clock::unix_seconds();
        let asked = |object| AccessRequest { caller, client, action, object, arguments, now };
        target.judged(self.judge.resources()).all(|object| self.judge.permits(&asked(object)))
    }

    /// Whether a caller may know of a resource, by the URI that clients know.
    pub fn shows(&self, caller: &Caller, uri: &str) -> bool {
        let named = self.judge.resources();
        let target = self.find_uri(uri).filter(|target| target.found != FoundBy::Link);
        target.is_some_and(|target| target.judged(named).all(|one| self.judge.sees(caller, one)))
    }

    /// Finds where a URI leads for any client.
    pub fn find_uri(&self, uri: &str) -> Option<Arc<Target>> {
        self.largest_view().find_uri(uri, self.judge.resources())
    }

    /// Whether some resources can be read only by those to whom their upstream gave links.
    pub fn has_link_readers(&self) -> bool {
        let of_upstream = |part: &Part| filter::restricts(&part.filters.resources);
        self.settings.unlisted == UnlistedUris::Refuse
            && (self.judge.resources().is_by_name
                || filter::restricts(&self.settings.resources)
                || self.content.parts.iter().any(of_upstream))
    }

    /// Whether one of these lists, of an upstream of which the caller could see something, may have
    /// entries that are not known.
    pub fn misses(&self, caller: &Caller, kinds: &[ListKind]) -> bool {
        self.members.iter().zip(&self.content.parts).any(|(member, part)| {
            let missed = kinds.iter().find(|kind| member.catalog.misses(**kind));
            missed.is_some_and(|kind| self.lets_know_of(caller, part, *kind))
        })
    }

    /// Whether a caller may see something of an upstream: some of what it listed, or what it may
    /// list, whatever that is called.
    fn lets_know_of(&self, caller: &Caller, part: &Part, kind: ListKind) -> bool {
        /// Entries that are looked at: this is asked by whoever makes up a name.
        const LOOKED_AT: usize = 64;
        if self.judge.is_open() {
            return true;
        }
        let any = Object::new(ObjectKind::of(kind), part.upstream.name(), "", None, Vec::new());
        let listed = part.listing.iter().flat_map(|listing| {
            let each = ListKind::ALL.into_iter();
            each.flat_map(|kind| listing.items(kind).iter().map(move |item| (kind, item)))
        });
        let mut listed = listed.take(LOOKED_AT);
        self.judge.sees(caller, &any)
            || listed.any(|(kind, item)| self.judge.sees(caller, &part.object(kind, item)))
    }

    /// Whether all may do everything, so that what one is answered is for others too.
    pub fn is_open(&self) -> bool {
        self.judge.is_open() && self.auth.is_open()
    }

    /// Headers of a client's request that the upstreams behind it are to have; none where that is
    /// nothing.
    pub fn forwarded(&self, headers: &HeaderMap) -> Option<HeaderMap> {
        let mut found = HeaderMap::new();
        for name in self.members.iter().flat_map(|member| member.upstream.forwards()) {
            if let Ok(name) = HeaderName::try_from(name)
                && !found.contains_key(&name)
            {
                found.extend(
                    headers.get_all(&name).iter().map(|value| (name.clone(), value.clone())),
                );
            }
        }
        (!found.is_empty()).then_some(found)
    }

    /// Whether all of its names are recorded, so that they may be served.
    pub fn is_recorded(&self) -> bool {
        self.recorded.load(Ordering::Acquire)
    }

    pub(super) fn set_recorded(&self) {
        self.recorded.store(true, Ordering::Release);
    }

    /// Says which entries have no name, where these are others than before.
    pub(super) fn report_left_out(&self, before: Option<&Self>, counters: &Counters) {
        let known =
            |text: &&String| before.is_some_and(|before| before.names.left_out.contains(text));
        for problem in self.names.left_out.iter().filter(|text| !known(text)) {
            counters.add(Counter::NamesLeftOut);
            tracing::warn!(route = self.settings.path.as_str(), "left out: {problem}");
        }
    }

    /// Whether several upstreams stand behind it, so that what they name must say whose it is.
    pub fn is_merged(&self) -> bool {
        1 < self.members.len()
    }

    pub fn member(&self, upstream: &UpstreamName) -> Option<&UpstreamEntry> {
        self.members.iter().find(|member| member.upstream.name() == upstream)
    }

    async fn seen(self: &Arc<Self>, caller: &Caller, asked: bool) -> Arc<Offer> {
        let asked = asked && self.content.asked_view.is_some();
        if self.judge.is_open() {
            return Arc::clone(&self.content.view_for(asked).offer);
        }
        let [plain, more] = &*self.seen;
        let kept = if asked { more } else { plain };
        let cell = self.judge.of_grants(kept, caller, Cell::default);
        let route = Arc::clone(self);
        let caller = caller.clone();
        let make = move |earlier: &Decisions| route.offer_to(&caller, asked, earlier);
        self.offers.of(&cell, make).await
    }

    fn offer_to(&self, caller: &Caller, asked: bool, earlier: &Decisions) -> Offer {
        let Content { parts, links, .. } = &*self.content;
        let named = self.judge.resources();
        let shows = |object: &Object| self.judge.shows(caller, object);
        let sees = |target: &Target| target.object.is_some() && target.judged(named).all(shows);
        self.content.view_for(asked).offer_to(&self.settings, parts, *links, earlier, sees)
    }

    /// Announcements that may be due; each [`super::Subscriber`] finds out whose lists changed.
    pub(super) fn changes(&self, before: Option<&Self>) -> Vec<Push> {
        let mut methods = Vec::new();
        if let Some(before) = before {
            methods.extend(self.content.view.offer.changed(&before.content.view.offer));
            let largest = &self.largest_view().offer;
            methods.extend(largest.changed(&before.largest_view().offer));
            let tags = |route: &Self| {
                let each = route.content.parts.iter();
                each.map(|part| part.filters.tags.clone()).collect::<Vec<_>>()
            };
            // Tags are words for policies only.
            let retold = !self.judge.is_open() && tags(before) != tags(self);
            if before.settings.rules != self.settings.rules || retold {
                methods.extend(ListKind::ALL);
            }
        }
        let mut methods: Vec<Method> = methods.into_iter().map(ListKind::changed).collect();
        methods.sort_by_key(|method| method.name());
        methods.dedup();
        methods.into_iter().map(|method| Push::Changed { method }).collect()
    }
}

impl Content {
    /// Builds the content, or takes the one before where nothing of it changed; and the names, with
    /// those that are not recorded yet.
    fn build(
        settings: &RouteSettings,
        members: &[UpstreamEntry],
        ground: Ground<'_>,
        before: Option<&Arc<Route>>,
    ) -> (Arc<Self>, Arc<Naming>) {
        let known = before.map(|before| &before.content);
        let sources: Vec<_> = members.iter().map(UpstreamEntry::part).collect();
        let parts: Vec<_> = sources
            .iter()
            .map(|source| {
                let known = known.filter(|_| ground.relisted).and_then(|known| known.part(source));
                known.unwrap_or_else(|| shown(source.clone(), ground.guards, &settings.path))
            })
            .collect();
        let listed = members.iter().zip(&sources);
        let listed = listed.map(|(member, part)| ListedNames { part, ready: member.ready() });
        ground.ledger.observe(settings, &listed.collect::<Vec<_>>(), ground.kept);
        let held = ground.ledger.book().route(&settings.path);
        let names = Naming::of(settings, &parts, &held, ground.ledger.fault().is_none());
        let names = Arc::new(names);
        let links = ground.guards.links(&settings.path, &settings.upstreams);
        let is_same = |before: &&Arc<Route>| {
            let Self { parts: before_parts, links: before_links, .. } = &*before.content;
            before.settings == *settings
                && before.content.names.leads_alike(&names)
                && *before_links == links
                && before_parts.len() == parts.len()
                && before_parts.iter().zip(&parts).all(|(before, part)| before.is_same(part))
        };
        if let Some(before) = before.filter(is_same) {
            return (Arc::clone(&before.content), names);
        }
        let view = View::build(settings, &parts, &names, false, links);
        let asks = |part: &Part| {
            part.listing.as_ref().is_some_and(|listing| !listing.asked_tools.is_empty())
        };
        let build_asked = || View::build(settings, &parts, &names, true, links);
        let asked_view = parts.iter().any(asks).then(build_asked);
        let content = Self { sources, parts, names: Arc::clone(&names), links, view, asked_view };
        (Arc::new(content), names)
    }

    /// How an upstream's part is shown, where it is the same as before.
    fn part(&self, source: &Part) -> Option<Part> {
        let mut known = self.sources.iter().zip(&self.parts);
        known.find(|(known, _)| known.is_same(source)).map(|(_, part)| part.clone())
    }

    fn view_for(&self, asked: bool) -> &View {
        self.asked_view.as_ref().filter(|_| asked).unwrap_or(&self.view)
    }
}

/// An upstream's part as this route shows it.
fn shown(part: Part, guards: &Guards, route: &RoutePath) -> Part {
    let upstream = part.upstream.name();
    if !guards.shows_otherwise(route, upstream) {
        return part;
    }
    let shown = part.listing.as_ref().map(|listing| {
        let said = listing.instructions.as_ref();
        let instructions = said.and_then(|text| guards.shown_instructions(route, upstream, text));
        Arc::new(listing.shown(instructions, |kind, item| {
            guards.shown(route, upstream, &item.key, &item.raw, kind == ListKind::Tools)
        }))
    });
    Part { listing: shown, ..part }
}
