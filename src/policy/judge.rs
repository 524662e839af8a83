//! Decisions: asked of a route's policies, kept where they can be, and given out as a [`Permit`].

use std::sync::{Arc, LazyLock};

use cedar_policy_core::ast::Value;

use crate::{
    call::{Action, Caller, Client, RoutePath, UpstreamName},
    config,
    mcp::{document::CallArguments, version::Version},
    telemetry::{Counter, Counters, throttle},
};

use super::{
    bounds::PolicyBounds,
    caller::{self, PerGrants},
    decisions::{Decision, GrantDecisions, ObjectDecisions},
    entity::PolicyEntity,
    named_resources::NamedResources,
    object::Object,
    policies::Policies,
    question::{AccessRequest, QuestionBase},
    slice::Slice,
    verdict::{Denial, Outcome, Verdict},
};

/// Proof that a call may be made at the very `T` that it holds: only a [`Judge`] makes one, no
/// upstream takes a call without, and what holds it says where the call goes. (`T` is an upstream,
/// which stands below this module.)
#[derive(Debug)]
pub struct Permit<T> {
    on: Arc<T>,
}

/// The error of a question that no policy can permit.
const NOBODY: &str = "nobody can do that";

/// Something that permits are given for: policies know it by the name that objects of it have.
pub trait PermitTarget {
    fn name(&self) -> &UpstreamName;
}

/// Proof that one upstream takes another's place by configuration, for calls or to be compared.
#[derive(Debug)]
pub struct Succession<T> {
    of: UpstreamName,
    successor: Arc<T>,
}

impl<T> Permit<T> {
    /// Returns the upstream that the call goes to.
    pub fn on(&self) -> &Arc<T> {
        &self.on
    }
}

impl<T: PermitTarget> Permit<T> {
    /// Extends the permit to the upstream that takes the place of this one; none where that takes
    /// the place of another.
    pub fn at_successor(&self, succession: &Succession<T>) -> Option<Self> {
        let fits = *self.on.name() == succession.of;
        fits.then(|| Self { on: Arc::clone(&succession.successor) })
    }
}

impl<T> Clone for Permit<T> {
    fn clone(&self) -> Self {
        Self { on: Arc::clone(&self.on) }
    }
}

impl<T: PermitTarget> Succession<T> {
    /// None where the section names no such successor.
    pub fn new(section: &config::Upstream, successor: &Arc<T>) -> Option<Self> {
        let canary = section.canary.iter().map(|canary| &canary.upstream);
        let shadow = section.shadow.iter().map(|shadow| &shadow.upstream);
        let named = canary.chain(shadow).any(|name| name == successor.name());
        named.then(|| Self { of: section.name.clone(), successor: Arc::clone(successor) })
    }

    /// The one that takes the other's place.
    pub fn successor(&self) -> &Arc<T> {
        &self.successor
    }
}

/// Decides for one route, as long as what its upstreams list stays the same.
#[derive(Debug)]
pub struct Judge {
    route: RoutePath,
    /// The route as policies read it.
    route_value: Value,
    /// None: no policy is configured.
    pub(super) policies: Option<Arc<Policies>>,
    bounds: PolicyBounds,
    /// Decisions that hold for every call.
    kept: PerGrants<GrantDecisions>,
    counters: Arc<Counters>,
}

/// What is decided already of a question's caller and thing.
#[derive(Debug)]
struct Known {
    grants: Arc<GrantDecisions>,
    /// None where nothing is kept of the thing.
    object: Option<Arc<ObjectDecisions>>,
}

impl Judge {
    /// Makes the judge of a route; without policies it permits everything.
    pub fn new(
        route: &RoutePath,
        policies: Option<Arc<Policies>>,
        bounds: PolicyBounds,
        counters: &Arc<Counters>,
    ) -> Self {
        let kept = PerGrants::new(bounds.grants_max, Arc::clone(counters));
        let route_value = Value::from(route.to_string());
        let route = route.clone();
        let counters = Arc::clone(counters);
        Self { route, route_value, policies, bounds, kept, counters }
    }

    /// The resources that its policies name; none where there are none.
    pub fn resources(&self) -> &NamedResources {
        static NONE: LazyLock<NamedResources> = LazyLock::new(NamedResources::default);
        self.policies.as_ref().map_or(&NONE, |policies| &policies.resources)
    }

    /// Whether no policy is configured.
    pub fn is_open(&self) -> bool {
        self.policies.is_none()
    }

    /// Whether a call may be made.
    ///
    /// # Errors
    /// What the caller is to be told instead; why is logged.
    #[cfg(any(test, feature = "internals"))]
    pub fn allows(&self, asked: &AccessRequest<'_>) -> Result<(), Denial> {
        self.judged(asked, &mut |_| ())
    }

    /// Judges a call as `Judge::allows` does; `told` hears the verdict that decided.
    fn judged(
        &self,
        asked: &AccessRequest<'_>,
        told: &mut impl FnMut(&Verdict),
    ) -> Result<(), Denial> {
        let Some(policies) = &self.policies else { return Ok(()) };
        let known = self.known(asked);
        let list = AccessRequest { action: Action::List, ..*asked };
        let sees = self.decided(policies, &known, &list);
        if !sees.allowed {
            self.counters.add(Counter::Unseen);
            told(&sees);
            self.log(asked, &sees, "not seen");
            return Err(Denial::Unseen);
        }
        let may = self.decided(policies, &known, asked);
        told(&may);
        if may.allowed {
            return Ok(());
        }
        self.counters.add(Counter::Denied);
        self.log(asked, &may, "denied");
        if may.is_misfit {
            return Err(Denial::Misfit);
        }
        // A caller that came with a token can come with another.
        let demanded = may.step_up().filter(|_| asked.caller.token().is_some());
        Err(demanded.map_or(Denial::Denied, |demanded| Denial::StepUp(Box::new(demanded))))
    }

    /// Permits a call at `on`, for which each of these objects of it must be allowed: what is not
    /// seen comes before what is denied. `told` hears the verdicts that decided.
    ///
    /// # Errors
    /// As `Judge::allows`; also where there is nothing to judge, or an object is another
    /// upstream's.
    pub fn permit<'a, T: PermitTarget>(
        &self,
        on: &Arc<T>,
        objects: impl Iterator<Item = &'a Object>,
        asked: impl Fn(&'a Object) -> AccessRequest<'a>,
        mut told: impl FnMut(&Verdict),
    ) -> Result<Permit<T>, Denial> {
        let mut all = Err(Denial::Unseen);
        for (at, object) in objects.enumerate() {
            if *object.upstream != *on.name() {
                debug_assert!(false, "an object of `{}` says nothing of another", object.upstream);
                return Err(Denial::Unseen);
            }
            match self.judged(&asked(object), &mut told) {
                Ok(()) if at == 0 => all = Ok(Permit { on: Arc::clone(on) }),
                Ok(()) => (),
                Err(Denial::Unseen) => return Err(Denial::Unseen),
                Err(Denial::Denied) => all = Err(Denial::Denied),
                // Nothing that is sent otherwise helps where something else denies it.
                Err(Denial::Misfit) if !matches!(all, Err(Denial::Denied)) => {
                    all = Err(Denial::Misfit);
                }
                Err(Denial::Misfit) => (),
                // A new login does not help where something else denies it.
                Err(Denial::StepUp(_)) if matches!(all, Err(Denial::Denied | Denial::Misfit)) => (),
                Err(Denial::StepUp(demanded)) => all = Err(Denial::StepUp(demanded)),
            }
        }
        all
    }

    /// Decides as `Judge::allows` does, for something that nobody waits to be told of: nothing is
    /// logged.
    pub fn permits(&self, asked: &AccessRequest<'_>) -> bool {
        let Some(policies) = &self.policies else { return true };
        let known = self.known(asked);
        let list = AccessRequest { action: Action::List, ..*asked };
        self.decided(policies, &known, &list).allowed
            && self.decided(policies, &known, asked).allowed
    }

    /// Permits what goes on with a call that was permitted when it began, at the upstream that has
    /// it: a caller's own task.
    pub fn permit_begun<T: PermitTarget>(&self, on: &Arc<T>) -> Permit<T> {
        Permit { on: Arc::clone(on) }
    }

    /// Whether the caller may see it.
    pub fn sees(&self, caller: &Caller, object: &Object) -> bool {
        let Some(policies) = &self.policies else { return true };
        // Nothing of a call is known to `list`.
        let client = &Client::gateway(Version::MODERN);
        let arguments = &CallArguments::none();
        let asked =
            AccessRequest { caller, client, action: Action::List, object, arguments, now: 0 };
        self.decided(policies, &self.known(&asked), &asked).allowed
    }

    /// Decides as [`Judge::sees`] does, anew and without keeping it: for lists, which are kept
    /// themselves.
    pub fn shows(&self, caller: &Caller, object: &Object) -> bool {
        let client = &Client::gateway(Version::MODERN);
        let arguments = &CallArguments::none();
        let action = Action::List;
        let now = 0;
        self.verdict(&AccessRequest { caller, client, action, object, arguments, now }).allowed
    }

    /// Whether it keeps as much as this.
    pub fn has_bounds(&self, bounds: PolicyBounds) -> bool {
        self.bounds == bounds
    }

    /// A place for one `T` for each set of grants.
    pub fn per_grants<T>(&self) -> PerGrants<T> {
        PerGrants::new(self.bounds.grants_max, Arc::clone(&self.counters))
    }

    /// Finds the value that `kept` has for this caller's grants.
    pub fn of_grants<T>(
        &self,
        kept: &PerGrants<T>,
        caller: &Caller,
        make: impl FnOnce() -> T,
    ) -> Arc<T> {
        let personal = self.policies.as_ref().map(|policies| policies.personal).unwrap_or_default();
        kept.of(caller, personal, make)
    }

    /// The answer and its reasons, made anew.
    pub fn verdict(&self, asked: &AccessRequest<'_>) -> Verdict {
        let Some(policies) = &self.policies else {
            return Verdict { allowed: true, ..Verdict::default() };
        };
        let Some(slice) = policies.slices.of(asked.action, asked.object) else {
            return Verdict::failed(NOBODY.to_owned());
        };
        let caller = caller::entity(asked.caller);
        let decision = self.decide(slice, caller.as_ref(), asked);
        Arc::unwrap_or_clone(self.with_call(&decision, caller.as_ref(), asked))
    }

    /// Does for a name that nothing has what is done for one that the caller does not see, so that
    /// neither takes longer: a decision that is kept is looked for, and a line is logged.
    pub fn miss(&self, asked: &AccessRequest<'_>, shown: &str) {
        let Some(policies) = &self.policies else { return };
        let list = AccessRequest { action: Action::List, ..*asked };
        let sees = self.decided(policies, &self.known(asked), &list);
        self.counters.add(Counter::Unknown);
        let nothing = Verdict { rules: sees.rules.clone(), ..Verdict::default() };
        let object = Object::new(asked.object.kind, &"".into(), shown, None, Vec::new());
        self.log(&AccessRequest { object: &object, ..*asked }, &nothing, "not known");
    }

    fn known(&self, asked: &AccessRequest<'_>) -> Known {
        let grants = self.of_grants(&self.kept, asked.caller, GrantDecisions::default);
        let object = grants.of(asked.object);
        Known { grants, object }
    }

    /// The answer. What of it is the same for every call is decided once.
    fn decided(
        &self,
        policies: &Policies,
        known: &Known,
        asked: &AccessRequest<'_>,
    ) -> Arc<Verdict> {
        let caller = known.grants.caller(asked.caller);
        if let Some(decision) = known.object.as_ref().and_then(|known| known.get(asked.action)) {
            return self.with_call(decision, caller, asked);
        }
        let Some(slice) = policies.slices.of(asked.action, asked.object) else {
            return Arc::new(Verdict::failed(NOBODY.to_owned()));
        };
        let decision = self.decide(slice, caller, asked);
        if let Some(object) = &known.object {
            let action = asked.action;
            let max = self.bounds.decisions_max;
            if known.grants.keep(asked.object, object, action, decision.clone(), max) {
                self.counters.add(Counter::DecisionsDropped);
            }
        }
        self.with_call(&decision, caller, asked)
    }

    #[cfg(test)]
    pub(super) fn kept_decisions(&self, caller: &Caller) -> usize {
        self.of_grants(&self.kept, caller, GrantDecisions::default).count()
    }

    /// Asks the policies that do not look at the call.
    fn decide(
        &self,
        slice: &Arc<Slice>,
        caller: Option<&PolicyEntity>,
        asked: &AccessRequest<'_>,
    ) -> Decision {
        let outcome = self.base(caller).ask(&slice.same, asked).unwrap_or_else(|error| {
            let errors = vec![error.to_string()];
            Outcome { errors, ..Outcome::default() }
        });
        let verdict = Arc::new(outcome.clone().verdict());
        Decision { slice: Arc::clone(slice), outcome, verdict }
    }

    /// Asks the policies that look at the call, and joins what they say to what the others said.
    fn with_call(
        &self,
        decision: &Decision,
        caller: Option<&PolicyEntity>,
        asked: &AccessRequest<'_>,
    ) -> Arc<Verdict> {
        if decision.slice.of_call.is_empty() {
            return Arc::clone(&decision.verdict);
        }
        match self.base(caller).ask(&decision.slice.of_call, asked) {
            Ok(outcome) if outcome.is_empty() => Arc::clone(&decision.verdict),
            Ok(outcome) => Arc::new(outcome.and(&decision.outcome).verdict()),
            Err(error) => Arc::new(error.verdict()),
        }
    }

    fn base<'a>(&'a self, caller: Option<&'a PolicyEntity>) -> QuestionBase<'a> {
        QuestionBase { route: &self.route_value, caller, bounds: self.bounds }
    }

    /// Logs for the operator who was refused what, and by which policies.
    fn log(&self, asked: &AccessRequest<'_>, verdict: &Verdict, what: &'static str) {
        let rules = verdict.rules.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let rules = if rules.is_empty() { "no policy permits it".to_owned() } else { rules };
        let caller = asked.caller.name();
        let object = asked.object.short_id();
        let route = self.route.as_str();
        let action = asked.action.name();
        if verdict.errors.is_empty() {
            tracing::info!(route, ?caller, action, ?object, rules, "{what}");
            return;
        }
        self.counters.add(Counter::PolicyErrors);
        let errors = verdict.errors.join("; ");
        throttle::line((what, route, &errors), |more| {
            tracing::warn!(route, ?caller, action, ?object, rules, errors, more, "{what}");
        });
    }
}
