//! Decisions: asked of a route's policies, kept where they can be, and given out as a [`Permit`].

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock},
};

use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityUid, Request, RestrictedExpression,
};
use parking_lot::Mutex;

use crate::{
    call::{Action, Caller, Client, ObjectKind, RoutePath, UpstreamName},
    config::{self, StepUp},
    mcp::{
        document::CallArguments,
        splice,
        version::{Era, Version},
    },
    telemetry::{Counter, Counters, throttle},
};

use super::{
    arguments::{ArgumentError, ArgumentValues},
    bounds::PolicyBounds,
    caller::{self, PerGrants},
    named_resources::NamedResources,
    object::{ID_BYTES_MAX, Object, uid},
    policies::{Policies, PolicyRule},
    slice::Slice,
};

/// Proof that a call may be made at the very `T` that it holds: only a [`Judge`] makes one, no
/// upstream takes a call without, and what holds it says where the call goes. (`T` is an upstream,
/// which stands below this module.)
#[derive(Debug)]
pub struct Permit<T> {
    on: Arc<T>,
}

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

/// Why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denial {
    /// The caller may not even know of it: to be answered as what does not exist.
    Unseen,
    /// Not so: with these arguments, at this time, or without a second factor.
    Denied,
    /// An argument is not of the kind that a policy reads it as, or stands there in a way that
    /// servers read differently.
    Misfit,
    /// Denied as well, but another login would do.
    StepUp(Box<StepUp>),
}

/// A question to the policies: who wants to do what with which thing.
#[derive(Debug, Clone, Copy)]
pub struct AccessRequest<'a> {
    pub caller: &'a Caller,
    pub client: &'a Client,
    pub action: Action,
    pub object: &'a Object,
    pub arguments: &'a CallArguments,
    /// Seconds since 1970.
    pub now: u64,
}

/// An answer, and what led to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    pub allowed: bool,
    /// The policies that decided; none where none permits it.
    pub rules: Vec<Arc<PolicyRule>>,
    /// Errors of the evaluation: any of them denies.
    pub errors: Vec<String>,
    /// The error is that an argument cannot be read as a policy wants it.
    pub is_misfit: bool,
}

impl Verdict {
    /// The login that would not be denied: where all that deny say so.
    fn step_up(&self) -> Option<StepUp> {
        let all = self.rules.iter().all(|rule| rule.step_up.is_some());
        let helps = !self.allowed && self.errors.is_empty() && all;
        self.rules.first().filter(|_| helps).and_then(|rule| rule.step_up.clone())
    }
}

/// Shows the verdict in one line, for operators.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules = self.rules.iter().map(ToString::to_string);
        let all: Vec<_> = rules.chain(self.errors.iter().cloned()).collect();
        match (self.allowed, all.is_empty()) {
            (true, _) => write!(f, "allowed by {}", all.join(", ")),
            (false, false) => write!(f, "denied by {}", all.join(", ")),
            (false, true) => f.write_str("denied: no policy permits it"),
        }
    }
}

/// Decides for one route, as long as what its upstreams list stays the same.
#[derive(Debug)]
pub struct Judge {
    route: RoutePath,
    /// None: no policy is configured.
    pub(super) policies: Option<Arc<Policies>>,
    bounds: PolicyBounds,
    /// Verdicts that hold for every call.
    kept: PerGrants<Mutex<Decisions>>,
    counters: Arc<Counters>,
}

/// Verdicts by action and kind, then by the thing's id.
type Decisions = HashMap<(Action, ObjectKind), HashMap<String, Arc<Verdict>>>;

impl Judge {
    /// Makes the judge of a route; without policies it permits everything.
    pub fn new(
        route: &RoutePath,
        policies: Option<Arc<Policies>>,
        bounds: PolicyBounds,
        counters: &Arc<Counters>,
    ) -> Self {
        let kept = PerGrants::new(bounds.grants_max, Arc::clone(counters));
        let route = route.clone();
        let counters = Arc::clone(counters);
        Self { route, policies, bounds, kept, counters }
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
        let sees = self.decided(policies, &AccessRequest { action: Action::List, ..*asked });
        if !sees.allowed {
            self.counters.add(Counter::Unseen);
            told(&sees);
            self.log(asked, &sees, "not seen");
            return Err(Denial::Unseen);
        }
        let may = self.decided(policies, asked);
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
        let sees = self.decided(policies, &AccessRequest { action: Action::List, ..*asked });
        sees.allowed && self.decided(policies, asked).allowed
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
        self.decided(policies, &asked).allowed
    }

    /// Decides as [`Judge::sees`] does, anew and without keeping it: for lists, which are kept
    /// themselves.
    pub fn shows(&self, caller: &Caller, object: &Object) -> bool {
        let Some(policies) = &self.policies else { return true };
        let client = &Client::gateway(Version::MODERN);
        let arguments = &CallArguments::none();
        let action = Action::List;
        let now = 0;
        let asked = AccessRequest { caller, client, action, object, arguments, now };
        let slice = policies.slices.of(action, object);
        slice.is_some_and(|slice| self.decide(policies, slice, &asked).allowed)
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
        match policies.slices.of(asked.action, asked.object) {
            Some(slice) => self.decide(policies, slice, asked),
            None => Verdict { errors: vec!["nobody can do that".to_owned()], ..Verdict::default() },
        }
    }

    /// Does for a name that nothing has what is done for one that the caller does not see, so that
    /// neither takes longer: a decision that is kept is looked for, and a line is logged.
    pub fn miss(&self, asked: &AccessRequest<'_>, shown: &str) {
        let Some(policies) = &self.policies else { return };
        let sees = self.decided(policies, &AccessRequest { action: Action::List, ..*asked });
        self.counters.add(Counter::Unknown);
        let nothing = Verdict { rules: sees.rules.clone(), ..Verdict::default() };
        let object = Object::new(asked.object.kind, &"".into(), shown, None, Vec::new());
        self.log(&AccessRequest { object: &object, ..*asked }, &nothing, "not known");
    }

    /// The answer, kept where it is the same for every call.
    fn decided(&self, policies: &Policies, asked: &AccessRequest<'_>) -> Arc<Verdict> {
        let slice = policies.slices.of(asked.action, asked.object);
        let of_call = |slice: &Slice| slice.reads.context && asked.action != Action::List;
        if slice.is_none_or(of_call) || ID_BYTES_MAX < asked.object.id.len() {
            return Arc::new(self.verdict(asked));
        }
        let kept = self.of_grants(&self.kept, asked.caller, Mutex::default);
        let key = (asked.action, asked.object.kind);
        let known = kept.lock().get(&key).and_then(|of| of.get(&asked.object.id)).map(Arc::clone);
        if let Some(known) = known {
            return known;
        }
        let verdict = Arc::new(self.verdict(asked));
        let mut kept = kept.lock();
        if self.bounds.decisions_max <= kept.values().map(HashMap::len).sum() {
            kept.clear();
            self.counters.add(Counter::DecisionsDropped);
        }
        kept.entry(key).or_default().insert(asked.object.id.clone(), Arc::clone(&verdict));
        verdict
    }

    #[cfg(test)]
    pub(super) fn kept_decisions(&self, caller: &Caller) -> usize {
        self.of_grants(&self.kept, caller, Mutex::default).lock().values().map(HashMap::len).sum()
    }

    pub(super) fn decide(
        &self,
        policies: &Policies,
        slice: &Slice,
        asked: &AccessRequest<'_>,
    ) -> Verdict {
        let question = match self.question(slice, asked) {
            Ok(question) => question,
            Err(error) => {
                let is_misfit = matches!(&error, Failure::Arguments(error) if error.is_misfit());
                let errors = vec![error.to_string()];
                return Verdict { errors, is_misfit, ..Verdict::default() };
            }
        };
        let (request, entities) = question;
        let response = Authorizer::new().is_authorized(&request, &slice.set, &entities);
        let diagnostics = response.diagnostics();
        let errors: Vec<_> = diagnostics.errors().map(ToString::to_string).collect();
        let mut rules: Vec<_> = diagnostics.reason().filter_map(|id| policies.rule(id)).collect();
        rules.sort();
        // Cedar passes over a policy that failed; here it denies.
        let allowed = response.decision() == Decision::Allow && errors.is_empty();
        Verdict { allowed, rules, errors, is_misfit: false }
    }

    fn question(
        &self,
        slice: &Slice,
        asked: &AccessRequest<'_>,
    ) -> Result<(Request, Entities), Failure> {
        let (principal, caller) = caller::entity(asked.caller).ok_or(Failure::Entity("caller"))?;
        let object = asked.object.entity().ok_or(Failure::Entity("object"))?;
        let mut entities = vec![caller, object.clone()];
        let mut context = vec![("route".to_owned(), text(&self.route))];
        // The decision to show a thing is the same for all calls: a list is made once.
        if slice.reads.context && asked.action != Action::List {
            context.extend(of_call(asked)?);
        }
        if slice.reads.context && matches!(asked.action, Action::Call | Action::Get) {
            let found = ArgumentValues::of(asked.arguments, &slice.wanted, self.bounds)?;
            for (attribute, kind, tags) in [
                ("texts", "Texts", found.texts),
                ("numbers", "Numbers", found.numbers),
                ("flags", "Flags", found.flags),
                ("lists", "Lists", found.lists),
            ] {
                let uid = uid(kind, "");
                let entity = Entity::new_with_tags(uid.clone(), [], [], tags);
                entities.push(entity.ok().ok_or(Failure::Entity("arguments"))?);
                let uid = RestrictedExpression::new_entity_uid(uid);
                context.push((attribute.to_owned(), uid));
            }
        }
        let context = Context::from_pairs(context).ok().ok_or(Failure::Entity("context"))?;
        let action = uid("Action", asked.action.name());
        let entities = Entities::from_entities(entities, None);
        let entities = entities.ok().ok_or(Failure::Entity("entities"))?;
        let resource: EntityUid = asked.object.uid();
        let request = Request::new(principal, action, resource, context, None);
        Ok((request.ok().ok_or(Failure::Entity("request"))?, entities))
    }

    /// Logs for the operator who was refused what, and by which policies.
    fn log(&self, asked: &AccessRequest<'_>, verdict: &Verdict, what: &'static str) {
        let rules = verdict.rules.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let rules = if rules.is_empty() { "no policy permits it".to_owned() } else { rules };
        let caller = asked.caller.to_string();
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

/// Why a question cannot be asked.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Arguments(#[from] ArgumentError),
    #[error("this {0} is nothing that policies can be asked about")]
    Entity(&'static str),
}

/// Attributes of a call besides its arguments.
fn of_call(asked: &AccessRequest<'_>) -> Result<Vec<(String, RestrictedExpression)>, Failure> {
    let said = |key| {
        let said = splice::member(&asked.client.info, key);
        said.and_then(|said| said.try_read::<String>()).unwrap_or_default()
    };
    let record = |fields: Vec<(&str, RestrictedExpression)>| {
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value));
        RestrictedExpression::new_record(fields).ok().ok_or(Failure::Entity("context"))
    };
    let client = record(vec![("name", text(&said("name"))), ("version", text(&said("version")))])?;
    let number =
        |number: u64| RestrictedExpression::new_long(i64::try_from(number).unwrap_or(i64::MAX));
    let days = asked.now / 86_400;
    let time = record(vec![
        ("hour", number(asked.now / 3_600 % 24)),
        // The first day of 1970 was a Thursday.
        ("weekday", number((days + 3) % 7 + 1)),
        ("epoch", number(asked.now)),
    ])?;
    let era = match asked.client.era() {
        Era::Legacy => "legacy",
        Era::Modern => "modern",
    };
    let all = [("client", client), ("era", text(era)), ("time", time)];
    Ok(all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn text(text: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(text.to_owned())
}
