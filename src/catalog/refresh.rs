//! Keeps one upstream's shelf true: read anew when it says so, when its time is over, when a list
//! failed, and when it is open again.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    call::{
        ListKind, SessionKey, UpstreamName,
        event::{ServerNotification, ServerRequest},
    },
    config::Transport,
    guard::Schemas,
    telemetry::{Counter, Counters, throttle},
    upstream::{ListChange, ServerMessage, Upstream},
};

use super::{
    cell::{CatalogCell, ListState},
    changed_tools::{ChangedTool, changed_tools},
    listing::Listing,
    reading::{ListError, ListReading, ListRequest, Remark, Via},
};

/// Changed tools of one listing that the log names, each in a line.
const CHANGED_SHOWN_MAX: usize = 20;
/// A `ttlMs` shorter than this is no reason to ask all the time: what changes is announced.
const REFRESH_MIN: Duration = Duration::from_secs(30);

/// A server that says all the time that its lists changed is read once in this time.
const BRAKE: Duration = Duration::from_secs(2);
/// The number of changes at once that are no flood: a client that opens several processes causes as
/// many.
const BURST: u32 = 10;

/// Lists that are read by then are shown, whatever becomes of the others.
const GRACE: Duration = Duration::from_millis(500);

/// Before a list that failed is read again the first time; doubles each time.
const RETRY: Duration = Duration::from_secs(1);
/// The longest such pause: what was in the way of a list is over within seconds, or lasts.
const RETRY_MAX: Duration = Duration::from_secs(8);
/// Longest pause where the server itself gave a wrong answer: it hardly gives another one soon.
const RETRY_SETTLED_MAX: Duration = Duration::from_secs(60);

/// Remarks about single entries that one reading of a list logs; more are counted.
const REMARKS_LOGGED: usize = 20;

/// News that an upstream's keeper found.
#[derive(Debug)]
pub enum Change {
    /// The catalog of the upstream changed.
    Listed {
        upstream: UpstreamName,
    },
    Notice {
        upstream: UpstreamName,
        session: Option<SessionKey>,
        notice: ServerNotification,
    },
    Question {
        session: Option<SessionKey>,
        question: ServerRequest,
    },
}

/// Runs for as long as the upstream is part of the gate.
pub async fn keep(
    upstream: Arc<Upstream>,
    shelf: Arc<CatalogCell>,
    counters: Arc<Counters>,
    schemas: Arc<Schemas>,
    changes: mpsc::Sender<Change>,
) {
    let relaying = relay(&upstream, &changes);
    let keeper = Keeper {
        upstream: &upstream,
        shelf: &shelf,
        counters: &counters,
        schemas: &schemas,
        changes: &changes,
        lists: [ListPlan::default(); ListKind::ALL.len()],
        under_way: FuturesUnordered::new(),
        done: Vec::new(),
        show_at: None,
        read_at: Instant::now(),
        brake: Brake { next: Instant::now() },
        news: News::Nothing,
    };
    tokio::select! {
        // Each ends with the gate only.
        () = relaying => (),
        () = Box::pin(keeper.run()) => (),
    }
}

/// Passes on what is for clients, however long the lists take.
async fn relay(upstream: &Upstream, changes: &mpsc::Sender<Change>) {
    while let Some(said) = upstream.next_server_message().await {
        let change = match said {
            ServerMessage::Notice(session, notice) => {
                Change::Notice { upstream: upstream.name().clone(), session, notice }
            }
            ServerMessage::Question(session, question) => Change::Question { session, question },
        };
        if changes.send(change).await.is_err() {
            return;
        }
    }
}

type Underway<'a> = Pin<Box<dyn Future<Output = ListReading> + Send + 'a>>;

/// Reads the lists of one upstream, each by itself: none waits for another, or fails with it.
struct Keeper<'a> {
    upstream: &'a Arc<Upstream>,
    shelf: &'a CatalogCell,
    counters: &'a Counters,
    schemas: &'a Schemas,
    changes: &'a mpsc::Sender<Change>,
    /// The plans in the order of [`ListKind::ALL`].
    lists: [ListPlan; ListKind::ALL.len()],
    under_way: FuturesUnordered<Underway<'a>>,
    /// Lists that were read and are not published yet.
    done: Vec<ListReading>,
    /// When what is done is shown, though others are under way.
    show_at: Option<Instant>,
    /// When all were read last, or are read next.
    read_at: Instant,
    brake: Brake,
    news: News,
}

/// News of an upstream that was opened, still to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    /// The upstream is there.
    Presence,
    /// Entries only for clients that can be asked are known.
    Asked,
    Nothing,
}

/// When one list is read next.
#[derive(Debug, Clone, Copy, Default)]
struct ListPlan {
    /// None: nothing is known against what was read last.
    at: Option<Instant>,
    under_way: bool,
    /// Readings that failed in a row.
    failures: u32,
}

/// The keeper is of no more use: nobody listens to it.
struct Gone;

impl Keeper<'_> {
    async fn run(mut self) {
        let mut bounds = self.shelf.watch_bounds();
        loop {
            let next = self.next_step();
            let mut asks = false;
            tokio::select! {
                // All may be dropped: a sign, a change and a reading stay where they are until one
                // of them is taken.
                sign = self.upstream.next_list_change() => self.heard(&sign),
                changed = bounds.changed() => {
                    if changed.is_ok() {
                        self.want(Instant::now());
                    }
                }
                Some(reading) = self.under_way.next() => {
                    if let Some(list) = self.lists.get_mut(reading.kind as usize) {
                        list.under_way = false;
                    }
                    self.done.push(reading);
                }
                () = self.upstream.asking_due(), if self.owes_asked() => asks = true,
                () = tokio::time::sleep_until(next) => (),
            }
            if asks && self.learn_asked().await.is_err() {
                return;
            }
            self.begin();
            if self.is_to_show() && self.show().await.is_err() {
                return;
            }
        }
    }

    fn heard(&mut self, sign: &ListChange) {
        let now = Instant::now();
        match sign {
            ListChange::Opened => {
                // Lists under way are on a connection of before.
                self.under_way.clear();
                self.done.clear();
                self.show_at = None;
                self.lists = [ListPlan::default(); ListKind::ALL.len()];
                self.news = News::Presence;
                self.want(now);
            }
            ListChange::Changed | ListChange::Suspected => {
                let pause = self.brake.pause(now);
                self.want(now + pause);
            }
        }
    }

    /// Has all lists read at this time, or before it.
    fn want(&mut self, at: Instant) {
        self.read_at = at;
        for list in &mut self.lists {
            list.at = Some(list.at.map_or(at, |before| before.min(at)));
        }
    }

    /// When there is something to do at the latest.
    fn next_step(&self) -> Instant {
        let due = self.lists.iter().filter(|list| !list.under_way).filter_map(|list| list.at);
        let refresh_at = self.refresh_at();
        due.chain(self.show_at).min().map_or(refresh_at, |at| at.min(refresh_at))
    }

    fn refresh_at(&self) -> Instant {
        self.read_at + patience(self.upstream, self.shelf)
    }

    /// Begins to read what is due.
    fn begin(&mut self) {
        let now = Instant::now();
        if self.refresh_at() <= now {
            self.want(now);
        }
        let is_due = |list: &ListPlan| !list.under_way && list.at.is_some_and(|at| at <= now);
        if !self.lists.iter().any(is_due) {
            return;
        }
        let peer = self.upstream.peer();
        for (kind, list) in ListKind::ALL.into_iter().zip(&mut self.lists) {
            if !is_due(list) {
                continue;
            }
            list.at = None;
            // Opened again, it is read in any case.
            let Some(peer) = &peer else { continue };
            if !Listing::has(peer, kind) {
                self.done.push(ListReading::none(kind));
                continue;
            }
            list.under_way = true;
            let upstream = &**self.upstream;
            let request = request(self.upstream, self.shelf, kind);
            self.under_way.push(Box::pin(ListReading::read(Via::Shared(upstream), request)));
        }
        if !self.under_way.is_empty() {
            self.show_at.get_or_insert(now + GRACE);
        }
    }

    /// Whether what was read goes on the shelf now. Of an upstream that was opened it is shown that
    /// it is there, even if none of its lists came in time.
    fn is_to_show(&self) -> bool {
        let in_time = self.show_at.is_some_and(|at| Instant::now() < at);
        let some = !self.done.is_empty() || self.news == News::Presence && self.show_at.is_some();
        some && (self.under_way.is_empty() || !in_time)
    }

    /// Puts what was read on the shelf, and what only some clients may use once the rest is known.
    async fn show(&mut self) -> Result<(), Gone> {
        self.show_at = (!self.under_way.is_empty()).then(Instant::now).map(|now| now + GRACE);
        let Some(peer) = self.upstream.peer().filter(|_| !self.upstream.is_retired()) else {
            self.done.clear();
            return Ok(());
        };
        let kept = self.shelf.listing().map(|kept| (*kept).clone());
        let mut listing = kept.map_or_else(|| Listing::of(&peer), |kept| kept.reopened(&peer));
        let mut confirmed = false;
        for mut reading in std::mem::take(&mut self.done) {
            let failed = self.note(&mut reading);
            confirmed |= !failed;
            listing.take(reading);
        }
        if self.news == News::Presence {
            self.news = News::Asked;
        }
        self.put(listing, confirmed).await?;
        // Lists that all may use are served by now; this one may take a process of its own.
        if self.owes_asked() && self.upstream.asking_due().now_or_never().is_some() {
            self.learn_asked().await?;
        }
        // Storing comes last: nobody who waits for the lists is to wait for it.
        if let Some(listing) = self.shelf.listing() {
            prepare(self.upstream.name(), &listing, self.schemas).await;
        }
        Ok(())
    }

    /// Whether what is listed only for clients that can be asked is still to be learned.
    fn owes_asked(&self) -> bool {
        let [tools, ..] = &self.lists;
        self.news == News::Asked && !tools.under_way && self.upstream.peer().is_some()
    }

    /// Reads what is listed only for clients that can be asked.
    async fn learn_asked(&mut self) -> Result<(), Gone> {
        self.news = News::Nothing;
        let Some(listing) = self.shelf.listing() else { return Ok(()) };
        let mut listing = (*listing).clone();
        let request = request(self.upstream, self.shelf, ListKind::Tools);
        let asked = Box::pin(listing.read_asked(self.upstream, request)).await;
        if let Some(error) = asked.err().filter(|_| !self.upstream.is_retired()) {
            let upstream = self.upstream.name().as_str();
            tracing::info!(upstream, %error, "what only some clients may use is not known");
        }
        let shown = self.put(listing, false).await;
        self.shelf.finish();
        shown
    }

    async fn put(&mut self, mut listing: Listing, confirmed: bool) -> Result<(), Gone> {
        let many = self.shelf.bounds().lists_bytes_max;
        for kind in listing.bound(many) {
            let why =
                ListError::Cut { many, what: "bytes with all others", key: "lists_bytes_max" };
            self.settle(kind, &ListState::Cut(why.to_string()), Vec::new());
        }
        if let Some(before) = self.shelf.listing() {
            self.report_changed(&changed_tools(&before, &listing));
        }
        if self.shelf.put(listing, confirmed) {
            let upstream = self.upstream.name().clone();
            let told = self.changes.send(Change::Listed { upstream }).await;
            told.ok().ok_or(Gone)?;
        }
        Ok(())
    }

    /// Says which tools are others than before, each with what of it changed.
    fn report_changed(&self, changed: &[ChangedTool]) {
        self.counters.add_many(Counter::ToolsChanged, changed.len());
        let upstream = self.upstream.name().as_str();
        for tool in changed.iter().take(CHANGED_SHOWN_MAX) {
            let ChangedTool { name, members, before, after } = tool;
            let members = members.join(", ");
            tracing::warn!(
                upstream,
                tool = name,
                changed = members,
                before,
                after,
                "a tool has another definition than before"
            );
        }
        let more = changed.len().saturating_sub(CHANGED_SHOWN_MAX);
        if 0 < more {
            tracing::warn!(upstream, more, "more tools have other definitions than before");
        }
    }

    /// Notes how a reading ended, and when it is tried again; true where it failed.
    fn note(&mut self, reading: &mut ListReading) -> bool {
        let state = match &reading.error {
            None => ListState::Read,
            Some(error) if error.is_cut() => ListState::Cut(error.to_string()),
            Some(error) => ListState::Failed(error.to_string()),
        };
        let failed = matches!(state, ListState::Failed(_));
        if let Some(list) = self.lists.get_mut(reading.kind as usize) {
            list.failures = if failed { list.failures + 1 } else { 0 };
            if failed {
                let is_settled = reading.error.as_ref().is_some_and(ListError::is_settled);
                let again = Instant::now() + retry_pause(list.failures, is_settled);
                list.at = Some(list.at.map_or(again, |at| at.min(again)));
            }
        }
        let remarks = std::mem::take(&mut reading.remarks);
        self.settle(reading.kind, &state, remarks);
        failed
    }

    /// Notes how a list stands, and tells the operator what is new of that.
    fn settle(&self, kind: ListKind, state: &ListState, remarks: Vec<Remark>) {
        let upstream = self.upstream.name().as_str();
        let list = kind.method().name();
        let (before, news) = self.shelf.note(kind, state.clone(), remarks);
        match state {
            ListState::Failed(why) | ListState::Cut(why) if *state != before => {
                self.counters.add(Counter::ListsFailed);
                throttle::line(("a list", upstream, list), |more| {
                    tracing::warn!(
                        upstream,
                        list,
                        why,
                        more,
                        "this list is not as the server has it"
                    );
                });
            }
            ListState::Read if matches!(before, ListState::Failed(_) | ListState::Cut(_)) => {
                tracing::info!(upstream, list, "this list is read again");
            }
            ListState::Unread | ListState::Read | ListState::Cut(_) | ListState::Failed(_) => (),
        }
        let left_out = news.iter().filter(|one| one.left_out).count();
        self.counters.add_many(Counter::ListItemsDropped, left_out);
        self.counters.add_many(Counter::ListItemsMended, news.len() - left_out);
        for Remark { entry, what, left_out } in news.iter().take(REMARKS_LOGGED) {
            match left_out {
                true => tracing::warn!(upstream, list, ?entry, what, "left out of the list"),
                false => tracing::info!(upstream, list, ?entry, what, "mended in the list"),
            }
        }
        if let Some(more) = news.len().checked_sub(REMARKS_LOGGED).filter(|more| *more != 0) {
            tracing::warn!(upstream, list, more, "more entries were left out or mended");
        }
    }
}

/// The pause before a list is read again that failed so many times in a row; longer where the
/// server itself gave a wrong answer.
fn retry_pause(failures: u32, is_settled: bool) -> Duration {
    let longest = if is_settled { RETRY_SETTLED_MAX } else { RETRY_MAX };
    let pause = RETRY * 2_u32.saturating_pow(failures.saturating_sub(1).min(16));
    pause.min(longest)
}

fn request(upstream: &Upstream, shelf: &CatalogCell, kind: ListKind) -> ListRequest {
    let config = &upstream.settings.config;
    ListRequest {
        kind,
        bounds: shelf.bounds(),
        timeout: config.timeout,
        strict_mirrors: matches!(config.transport, Transport::Http { .. }),
    }
}

/// Slows down readings that follow each other closely.
struct Brake {
    /// The theoretical arrival time of GCRA.
    next: Instant,
}

impl Brake {
    /// How long the reading for a change that came `now` is to wait.
    fn pause(&mut self, now: Instant) -> Duration {
        self.next = self.next.max(now) + BRAKE;
        self.next.duration_since(now).saturating_sub(BRAKE * BURST)
    }
}

/// Has schemas compiled before they are needed, and gives way after each.
async fn prepare(upstream: &UpstreamName, listing: &Listing, schemas: &Schemas) {
    schemas.retain(upstream, |name| listing.tools.iter().any(|tool| tool.key == name));
    for tool in &listing.tools {
        schemas.prepare(upstream, &tool.key, &tool.raw);
        tokio::task::yield_now().await;
    }
}

fn patience(upstream: &Upstream, shelf: &CatalogCell) -> Duration {
    let refresh = upstream.settings.config.refresh;
    let ttl = shelf.listing().map(|listing| listing.ttl_ms).filter(|ttl| *ttl != 0);
    ttl.map_or(refresh, |ttl| refresh.min(Duration::from_millis(ttl).max(REFRESH_MIN)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_fails_is_read_again_ever_later_up_to_a_bound() {
        let pauses = |is_settled| {
            let each = (1..=9).map(|failures| retry_pause(failures, is_settled).as_secs());
            each.collect::<Vec<_>>()
        };
        assert_eq!(pauses(false), [1, 2, 4, 8, 8, 8, 8, 8, 8]);
        assert_eq!(pauses(true), [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        for failures in [17, 1_000, u32::MAX] {
            assert_eq!(retry_pause(failures, false), RETRY_MAX);
            assert_eq!(retry_pause(failures, true), RETRY_SETTLED_MAX);
        }
    }

    #[test]
    fn a_flood_is_slowed_down_and_a_burst_is_not() {
        let begin = Instant::now();
        let mut brake = Brake { next: begin };
        for _ in 0..BURST {
            assert_eq!(brake.pause(begin), Duration::ZERO, "a burst");
        }
        let mut now = begin;
        for _ in 0..100 {
            let pause = brake.pause(now);
            assert_eq!(pause, BRAKE, "a flood, read again each time the pause is over");
            now += pause;
        }
        assert_eq!(brake.pause(now + BRAKE * 2), Duration::ZERO, "calmer");
    }
}
