//! Selects the policies that can matter to a question.
//!
//! A policy applies only where all three parts of its scope do, and a scope cannot fail. So one
//! whose scope is of another action, upstream, kind or thing changes no answer, and is left out.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use cedar_policy::{ActionConstraint, EntityUid, Policy, ResourceConstraint};

use crate::call::{Action, ObjectKind};

use super::{group::PolicyGroup, object::Object, rule::ParsedPolicy};

/// Policies that can matter to some question, and whose scope it is within but for who asks.
#[derive(Debug, Default)]
pub struct Slice {
    /// Those whose answer is the same for every call of callers with the same grants.
    pub same: PolicyGroup,
    /// Those that look at the call.
    pub of_call: PolicyGroup,
}

/// All slices.
#[derive(Debug, Default)]
pub struct Slices(HashMap<(Action, ObjectKind), SlicesOfAction>);

/// The slices for one action and kind of thing.
#[derive(Debug, Default)]
struct SlicesOfAction {
    /// The slice for what no policy names.
    other: Arc<Slice>,
    upstreams: HashMap<String, Arc<Slice>>,
    objects: HashMap<String, Arc<Slice>>,
}

/// A policy that is asked about an action and a kind of thing.
#[derive(Debug)]
struct ReachingPolicy<'a> {
    policy: &'a ParsedPolicy,
    reach: Reach,
}

/// Things that the scope of a policy leaves.
#[derive(Debug, Clone, PartialEq)]
enum Reach {
    All,
    Upstream(String),
    Object(String),
    Nothing,
}

impl Slices {
    pub fn new(all: &[ParsedPolicy]) -> Self {
        let mut slices = HashMap::new();
        for kind in ObjectKind::ALL {
            for action in Action::ALL.into_iter().filter(|action| kind.takes(*action)) {
                let fits = all.iter().filter(|known| admits(&known.policy, action));
                let reaching =
                    |policy| ReachingPolicy { policy, reach: reach(&policy.policy, kind) };
                let fitting: Vec<_> = fits.map(reaching).collect();
                slices.insert((action, kind), SlicesOfAction::new(action, &fitting));
            }
        }
        Self(slices)
    }

    /// Finds the policies that can matter to whether this may be done. `None` where nobody can do
    /// it.
    pub fn of(&self, action: Action, object: &Object) -> Option<&Arc<Slice>> {
        let sliced = self.0.get(&(action, object.kind))?;
        let named = sliced.objects.get(&object.id);
        let named = named.or_else(|| sliced.upstreams.get(&*object.upstream));
        Some(named.unwrap_or(&sliced.other))
    }
}

impl SlicesOfAction {
    fn new(action: Action, all: &[ReachingPolicy<'_>]) -> Self {
        let slice = |upstream: Option<&str>, object: Option<&str>| {
            Arc::new(Slice::new(action, all, upstream, object))
        };
        let mut sliced = Self { other: slice(None, None), ..Self::default() };
        let upstream_of = |id: &str| id.split('/').next().unwrap_or_default().to_owned();
        let mut upstreams = BTreeSet::new();
        let mut objects = BTreeSet::new();
        for one in all {
            match &one.reach {
                Reach::Upstream(name) => drop(upstreams.insert(name.clone())),
                Reach::Object(id) => drop(objects.insert(id.clone())),
                Reach::All | Reach::Nothing => (),
            }
        }
        for name in upstreams {
            let slice = slice(Some(&name), None);
            sliced.upstreams.insert(name, slice);
        }
        for id in objects {
            let slice = slice(Some(&upstream_of(&id)), Some(&id));
            sliced.objects.insert(id, slice);
        }
        sliced
    }
}

impl Slice {
    fn new(
        action: Action,
        all: &[ReachingPolicy<'_>],
        upstream: Option<&str>,
        object: Option<&str>,
    ) -> Self {
        let fits = |one: &&ReachingPolicy<'_>| match &one.reach {
            Reach::All => true,
            Reach::Upstream(name) => upstream == Some(name),
            Reach::Object(id) => object == Some(id),
            Reach::Nothing => false,
        };
        let all = all.iter().filter(fits).map(|one| one.policy);
        // Nothing of a call is known to `list`.
        let of_call = |policy: &&ParsedPolicy| policy.reads.context && action != Action::List;
        Self {
            same: PolicyGroup::new(all.clone().filter(|policy| !of_call(policy))),
            of_call: PolicyGroup::new(all.filter(of_call)),
        }
    }
}

fn admits(policy: &Policy, action: Action) -> bool {
    // The schema has no groups of actions: to be in one is to be it.
    let is = |uid: &EntityUid| uid.id().unescaped() == action.name();
    match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(uid) => is(&uid),
        ActionConstraint::In(all) => all.iter().any(is),
    }
}

/// Whether a policy can matter to doing this with a thing of this kind.
pub fn can_concern(policy: &Policy, action: Action, kind: ObjectKind) -> bool {
    admits(policy, action) && reach(policy, kind) != Reach::Nothing
}

fn reach(policy: &Policy, kind: ObjectKind) -> Reach {
    let of = |uid: &EntityUid, within: bool| {
        let id = uid.id().unescaped().to_owned();
        match uid.type_name().basename() {
            "Upstream" if within => Reach::Upstream(id),
            name if name == kind.name() => Reach::Object(id),
            _ => Reach::Nothing,
        }
    };
    match policy.resource_constraint() {
        ResourceConstraint::Any => Reach::All,
        ResourceConstraint::Eq(uid) => of(&uid, false),
        ResourceConstraint::In(uid) => of(&uid, true),
        ResourceConstraint::Is(name) if name.basename() == kind.name() => Reach::All,
        ResourceConstraint::IsIn(name, uid) if name.basename() == kind.name() => of(&uid, true),
        ResourceConstraint::Is(_) | ResourceConstraint::IsIn(..) => Reach::Nothing,
    }
}
