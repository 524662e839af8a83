//! An upstream of the gate, with what is known of it.

use std::sync::Arc;

use crate::{
    call::{ListKind, tasks::Tasks},
    catalog::{Filters, ListBounds, Part, cell::CatalogCell},
    config::{self, Limits, Start},
    store::StateFolder,
    upstream::{Settings, Upstream, UpstreamContext},
};

use super::POLL_INTERVAL;

/// An upstream and what is known of it.
#[derive(Debug, Clone)]
pub struct UpstreamEntry {
    pub upstream: Arc<Upstream>,
    pub catalog: Arc<CatalogCell>,
    /// Its keeper and what else runs for it.
    pub(super) tasks: Tasks,
    pub(super) filters: Arc<Filters>,
}

impl UpstreamEntry {
    pub(super) fn part(&self) -> Part {
        Part {
            upstream: Arc::clone(&self.upstream),
            listing: self.catalog.listing(),
            filters: Arc::clone(&self.filters),
        }
    }

    /// Waits until this list of it is known, or cannot be.
    pub(super) async fn lists(&self, kind: ListKind) {
        if self.catalog.knows(kind) {
            return;
        }
        if self.may_stay_closed() {
            return;
        }
        self.upstream.settled().await;
        while self.upstream.peer().is_some() && !self.catalog.knows(kind) {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// The lists of which what is known is what it has now.
    pub(super) fn ready(&self) -> Vec<ListKind> {
        let is_ready = self.catalog.is_confirmed() && self.upstream.peer().is_some();
        let kinds = ListKind::ALL.into_iter();
        kinds.filter(|kind| is_ready && !self.catalog.misses(*kind)).collect()
    }

    /// Waits until moreover all that it lists is known.
    pub(super) async fn known(&self) {
        self.settled().await;
        while self.upstream.peer().is_some() && !self.catalog.is_whole() {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Whether nobody need wait for it: it is lazy, and what it has is known from before. One that
    /// was never listed is opened at once, for that.
    fn may_stay_closed(&self) -> bool {
        let is_lazy = self.upstream.settings.config.start == Start::Lazy;
        is_lazy && self.catalog.listing().is_some()
    }

    pub(super) async fn settled(&self) {
        if self.may_stay_closed() {
            return;
        }
        let upstream = &self.upstream;
        upstream.settled().await;
        // An open upstream is listed soon: the keeper reads on.
        while upstream.peer().is_some() && !self.catalog.is_settled() {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

/// An upstream's section without what is shown of it, and that. How much may be asked of it, and
/// what protects it, is no matter of the server's either.
pub(super) fn split_identity(section: &config::Upstream) -> (config::Upstream, Arc<Filters>) {
    let mut config = section.clone();
    config.limits = Vec::new();
    config.in_flight = None;
    config.guard = config::Guard::default();
    let tools = std::mem::take(&mut config.tool_settings).into_iter();
    let hedges = tools.filter_map(|(name, tool)| Some((name, tool.hedge?))).collect();
    (config.canary, config.shadow) = (None, None);
    config.breaker = None;
    config.retry = None;
    let filters = Filters {
        tools: std::mem::take(&mut config.tools),
        prompts: std::mem::take(&mut config.prompts),
        resources: std::mem::take(&mut config.resources),
        tags: std::mem::take(&mut config.tags),
        hedge: config.hedge.take(),
        hedges,
    };
    (config, Arc::new(filters))
}

/// An upstream that is never opened, with its last good catalog.
pub fn offline(
    section: &config::Upstream,
    context: &Arc<UpstreamContext>,
    store: &StateFolder,
    limits: &Limits,
) -> Part {
    let (config, filters) = split_identity(section);
    let listing = CatalogCell::open(&config, store, None, ListBounds::of(limits)).listing();
    let upstream = Upstream::new(Settings { config, answer_bytes_max: 0 }, context);
    Part { upstream, listing, filters }
}

pub(super) fn contains(members: &[UpstreamEntry], wanted: &UpstreamEntry) -> bool {
    members.iter().any(|member| Arc::ptr_eq(&member.upstream, &wanted.upstream))
}
