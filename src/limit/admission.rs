//! The proofs that a request was let in by its route, and may be sent to its upstream.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::OwnedSemaphorePermit;

use crate::call::RoutePath;

use super::{
    LimitRefusal, LimitTarget, LimitedRequest, Limits, applicable::LimitPoint, bucket::Now,
    rule::Rule, shared::TakeRequest,
};

/// A request was let in by its route; it has its places among the calls under way there until the
/// last clone of this is dropped. Only [`Limits::admit_route`] makes one. It admits what is sent
/// for the request.
#[derive(Debug, Clone)]
pub struct RouteAdmission {
    pub(super) limits: Arc<Limits>,
    pub(super) route: RoutePath,
    /// None where no limit was met.
    pub(super) cost: Option<NonZeroU32>,
    pub(super) _places: Option<Arc<[OwnedSemaphorePermit]>>,
}

/// A request may be sent to its upstream once; it has its places among the calls under way there
/// until the last clone of this is dropped. Only [`Limits::admit`] makes one.
#[derive(Debug, Clone)]
pub struct Admission {
    /// None where no limit was met.
    pub(super) taken: Option<Arc<TakenLimits>>,
}

/// Everything that was taken for one send.
#[derive(Debug)]
pub(super) struct TakenLimits {
    pub limits: Arc<Limits>,
    pub rules: Vec<(Arc<Rule>, u64)>,
    pub shared_keys: Vec<String>,
    pub cost: NonZeroU32,
    pub at: Now,
    pub given_back: AtomicBool,
    pub _places: Vec<OwnedSemaphorePermit>,
}

impl RouteAdmission {
    /// The path of the route that let it in.
    pub fn route(&self) -> &RoutePath {
        &self.route
    }

    /// Units that the limits of the route took for it; none where there are no such limits.
    pub fn cost(&self) -> Option<NonZeroU32> {
        self.cost
    }

    /// Admits one send of the request by the limits of its upstream and its tool. The route is the
    /// one that let it in, whatever `request` says.
    ///
    /// # Errors
    /// As [`Limits::admit`].
    pub async fn admit(
        &self,
        request: LimitedRequest<'_>,
        target: LimitTarget<'_>,
    ) -> Result<Admission, LimitRefusal> {
        self.limits.admit(LimitedRequest { route: &self.route, ..request }, target).await
    }

    /// Makes an admission for a copy of what was let in, which nobody waits for: it takes no place
    /// from others.
    pub fn without_places(&self) -> Self {
        Self { _places: None, ..self.clone() }
    }
}

impl Admission {
    /// Units that the limits of the upstream and its tool took for it; none where there are no such
    /// limits.
    pub fn cost(&self) -> Option<NonZeroU32> {
        self.taken.as_ref().filter(|taken| !taken.rules.is_empty()).map(|taken| taken.cost)
    }

    /// Nothing was sent after all: rates and budgets have it back, once. Places are given back when
    /// this is dropped.
    pub fn give_back(&self) {
        let Some(taken) = &self.taken else { return };
        if taken.given_back.swap(true, Ordering::Relaxed) {
            return;
        }
        let now = taken.limits.now();
        for (rule, key) in &taken.rules {
            rule.give_back(*key, taken.cost, taken.at, now);
        }
        let Some(shared) = taken.limits.shared.clone() else { return };
        let words = taken.rules.iter().flat_map(|(rule, _)| rule.words());
        let arguments = [format!("-{}", taken.cost)].into_iter().chain(words).collect();
        let asked = TakeRequest { keys: taken.shared_keys.clone(), arguments };
        taken.limits.tasks.spawn("limit: give back", async move {
            // A store that is away keeps counting it: that errs on the safe side.
            drop(shared.take(&asked).await);
        });
    }
}

impl Limits {
    /// Lets a request in that is to be sent on, by the limits of its route, as soon as there is a
    /// place for it.
    ///
    /// # Errors
    /// Where a rate or a budget has not enough left, or no place becomes free in time. Nothing is
    /// taken from any limit then.
    pub async fn admit_route(
        self: &Arc<Self>,
        request: LimitedRequest<'_>,
        target: LimitTarget<'_>,
    ) -> Result<RouteAdmission, LimitRefusal> {
        let met = self.applicable(request, Some(target), LimitPoint::Route);
        let places = self.reserve(&met).await.inspect_err(|refusal| self.count(refusal))?;
        let route = request.route.clone();
        let places = (!places.is_empty()).then(|| Arc::from(places));
        let cost = Some(met.cost).filter(|_| !met.keys.is_empty());
        Ok(RouteAdmission { limits: Arc::clone(self), route, cost, _places: places })
    }

    /// Admits one send of a request, by the limits of its upstream and its tool, as soon as there
    /// are places for it.
    ///
    /// # Errors
    /// As [`Limits::admit_route`].
    pub async fn admit(
        self: &Arc<Self>,
        request: LimitedRequest<'_>,
        target: LimitTarget<'_>,
    ) -> Result<Admission, LimitRefusal> {
        let met = self.applicable(request, Some(target), LimitPoint::Upstream);
        if met.sections.is_empty() {
            return Ok(Admission { taken: None });
        }
        let places = self.reserve(&met).await.inspect_err(|refusal| self.count(refusal))?;
        let rules = met.keys.iter().map(|(rule, key)| (Arc::clone(rule), *key)).collect();
        let taken = TakenLimits {
            limits: Arc::clone(self),
            rules,
            cost: met.cost,
            at: self.now(),
            given_back: AtomicBool::new(false),
            _places: places,
            shared_keys: met.shared_keys,
        };
        Ok(Admission { taken: Some(Arc::new(taken)) })
    }
}
