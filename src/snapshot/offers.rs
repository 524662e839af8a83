//! Makes what each set of grants is offered on a route: once for all who ask, off the workers, and
//! kept within a bound of bytes.

use std::{
    pin::pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::available_parallelism,
};

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use crate::{
    call::tasks::Tasks,
    catalog::{Decisions, Offer},
    telemetry::{Counter, Counters},
};

/// Offers of all routes, kept together.
#[derive(Debug)]
pub struct Offers {
    kept: Mutex<Vec<(Weak<Cell>, usize)>>,
    /// `views_bytes_max`.
    bytes_max: AtomicUsize,
    bytes: AtomicUsize,
    /// Counts what is used, so that what was used least recently goes first.
    uses: AtomicU64,
    warned: AtomicBool,
    /// Permits to make an offer, which takes a core for as long as a second; calls need the others.
    places: Arc<Semaphore>,
    tasks: Tasks,
    counters: Arc<Counters>,
}

/// The place of one set of grants on one route.
#[derive(Debug, Default)]
pub struct Cell {
    state: Mutex<State>,
    made: Notify,
    used: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    offer: Option<Arc<Offer>>,
    /// Decisions on the things on the route's lists, as they were before.
    earlier: Decisions,
    under_way: bool,
}

enum Step {
    Ready(Arc<Offer>),
    Make(Decisions),
    Wait,
}

/// Proof that an offer is being made; dropped without it, the next who asks makes it.
struct Making(Arc<Cell>);

impl Offers {
    pub fn new(bytes_max: usize, tasks: Tasks, counters: Arc<Counters>) -> Arc<Self> {
        let cores = available_parallelism().map_or(1, usize::from);
        Arc::new(Self {
            kept: Mutex::default(),
            bytes_max: AtomicUsize::new(bytes_max),
            bytes: AtomicUsize::new(0),
            uses: AtomicU64::new(0),
            warned: AtomicBool::new(false),
            places: Arc::new(Semaphore::new((cores / 2).max(1))),
            tasks,
            counters,
        })
    }

    pub fn set_bytes_max(&self, bytes_max: usize) {
        self.bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    /// Bytes that are kept now.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The offer in a place; made for the first who asks. Who asks may go away: it is made all the
    /// same.
    pub async fn of(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        make: impl Fn(&Decisions) -> Offer + Clone + Send + 'static,
    ) -> Arc<Offer> {
        loop {
            // Registered before looking, so that no change falls between.
            let mut made = pin!(cell.made.notified());
            made.as_mut().enable();
            cell.used.store(self.uses.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
            match cell.step() {
                Step::Ready(offer) => return offer,
                Step::Make(earlier) => self.spawn(Arc::clone(cell), earlier, make.clone()),
                Step::Wait => (),
            }
            made.await;
        }
    }

    fn spawn(
        self: &Arc<Self>,
        cell: Arc<Cell>,
        earlier: Decisions,
        make: impl FnOnce(&Decisions) -> Offer + Send + 'static,
    ) {
        let offers = Arc::clone(self);
        let making = Making(cell);
        self.tasks.finish(async move {
            let Ok(place) = Arc::clone(&offers.places).acquire_owned().await else { return };
            let made = offers.tasks.blocking(move || make(&earlier)).await;
            drop(place);
            let Some(offer) = made else { return };
            offers.counters.add(Counter::ViewsBuilt);
            offers.keep(&making.0, Arc::new(offer));
        });
    }

    /// Puts it into its place; what was used least recently makes room.
    fn keep(&self, cell: &Arc<Cell>, offer: Arc<Offer>) {
        let bytes = offer.bytes();
        cell.state.lock().offer = Some(offer);
        let bytes_max = self.bytes_max.load(Ordering::Relaxed);
        let mut kept = self.kept.lock();
        let is_other =
            |known: &Weak<Cell>| known.upgrade().is_some_and(|it| !Arc::ptr_eq(&it, cell));
        kept.retain(|(known, _)| is_other(known));
        let mut all: usize = bytes + kept.iter().map(|(_, bytes)| bytes).sum::<usize>();
        while bytes_max < all {
            let used = |(known, _): &(Weak<Cell>, usize)| {
                known.upgrade().map_or(0, |cell| cell.used.load(Ordering::Relaxed))
            };
            let oldest = kept.iter().enumerate().min_by_key(|(_, one)| used(one));
            let Some(oldest) = oldest.map(|(at, _)| at) else { break };
            let (cell, bytes) = kept.swap_remove(oldest);
            all -= bytes;
            if let Some(cell) = cell.upgrade() {
                *cell.state.lock() = State::default();
            }
            self.counters.add(Counter::ViewsEvicted);
            if !self.warned.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    bytes_max,
                    "lists for all sets of grants have no room together, and are made again when \
                     they are asked for: raise `views_bytes_max`"
                );
            }
        }
        kept.push((Arc::downgrade(cell), bytes));
        self.bytes.store(all, Ordering::Relaxed);
    }
}

impl Cell {
    /// The place of the same grants, where lists changed and policies did not.
    pub fn renewed(&self) -> Self {
        let state = self.state.lock();
        let earlier = match &state.offer {
            Some(offer) => offer.decisions().clone(),
            None => state.earlier.clone(),
        };
        let state = State { earlier, ..State::default() };
        let used = AtomicU64::new(self.used.load(Ordering::Relaxed));
        Self { state: Mutex::new(state), made: Notify::new(), used }
    }

    fn step(&self) -> Step {
        let mut state = self.state.lock();
        if let Some(offer) = &state.offer {
            return Step::Ready(Arc::clone(offer));
        }
        if std::mem::replace(&mut state.under_way, true) {
            return Step::Wait;
        }
        Step::Make(std::mem::take(&mut state.earlier))
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        self.0.state.lock().under_way = false;
        self.0.made.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offers(bytes_max: usize) -> (Arc<Offers>, Arc<Counters>) {
        let counters = Arc::<Counters>::default();
        (Offers::new(bytes_max, Tasks::default(), Arc::clone(&counters)), counters)
    }

    #[tokio::test]
    async fn one_is_made_for_all_who_ask() {
        let (offers, counters) = offers(1 << 20);
        let cell = Arc::<Cell>::default();
        let ask = || offers.of(&cell, |_: &Decisions| Offer::default());
        // One who does not wait for it costs the others nothing.
        drop(futures_util::poll!(Box::pin(ask())));
        let (a, b, c) = tokio::join!(ask(), ask(), ask());
        assert!(Arc::ptr_eq(&a, &b) && Arc::ptr_eq(&b, &c));
        assert_eq!(counters.read()["views_built"], 1);
    }

    /// Makes a view that waits for a word of the thread that serves; gives the thread that made it.
    async fn made_by(offers: &Arc<Offers>) -> std::thread::ThreadId {
        let cell = Arc::<Cell>::default();
        let (tell, told) = std::sync::mpsc::channel();
        let (go, waits) = std::sync::mpsc::channel();
        let waits = Arc::new(Mutex::new(waits));
        let make = move |_: &Decisions| {
            tell.send(std::thread::current().id()).ok();
            waits.lock().recv_timeout(std::time::Duration::from_secs(10)).ok();
            Offer::default()
        };
        let others = async {
            tokio::task::yield_now().await;
            go.send(()).ok();
        };
        tokio::join!(offers.of(&cell, make), others);
        told.recv().unwrap()
    }

    /// The thread that serves has no other to help it here: it does other work all the while.
    #[tokio::test]
    async fn a_view_is_made_off_the_threads_that_serve() {
        let (offers, _) = offers(1 << 20);
        for _ in 0..10 {
            assert_ne!(made_by(&offers).await, std::thread::current().id());
        }
    }

    #[tokio::test]
    async fn what_is_kept_has_a_bound_and_the_least_used_goes() {
        let one = Offer::default().bytes();
        let (offers, counters) = offers(one * 3);
        let cells: Vec<_> = (0..10).map(|_| Arc::<Cell>::default()).collect();
        for cell in &cells {
            offers.of(cell, |_: &Decisions| Offer::default()).await;
            offers.of(&cells[0], |_: &Decisions| Offer::default()).await;
            assert!(offers.bytes() <= one * 3, "{}", offers.bytes());
        }
        let kept = cells.iter().map(|cell| cell.state.lock().offer.is_some());
        let kept: Vec<_> = kept.enumerate().filter(|(_, is)| *is).map(|(at, _)| at).collect();
        assert_eq!(kept, [0, 8, 9], "the first is used all the time");
        assert_eq!(counters.read()["views_evicted"], 7);
        assert_eq!(counters.read()["views_built"], 10);
        drop(cells);
        let last = Arc::<Cell>::default();
        offers.of(&last, |_: &Decisions| Offer::default()).await;
        assert_eq!(offers.bytes(), one, "what nobody has any more counts no more");
    }

    #[tokio::test]
    async fn one_that_could_not_be_made_is_made_by_the_next() {
        let (offers, _) = offers(1 << 20);
        let cell = Arc::<Cell>::default();
        let Step::Make(_) = cell.step() else { unreachable!() };
        let making = Making(Arc::clone(&cell));
        let waits = offers.of(&cell, |_: &Decisions| Offer::default());
        let fails = async move { drop(making) };
        tokio::join!(waits, fails);
        assert!(cell.state.lock().offer.is_some());
    }
}
