//! Selects the policies that can matter to a question.
//!
//! A policy applies only where all three parts of its scope do, and a scope cannot fail. So one
//! whose scope is of another action, upstream, kind or thing changes no answer, and is left out.

use std::collections::{BTreeSet, HashMap};

use cedar_policy::{ActionConstraint, EntityUid, Policy, PolicySet, ResourceConstraint};

use crate::call::{Action, ObjectKind};

use super::{arguments::RequestedArguments, object::Object, reads::Reads};

/// A policy, and what it asks for.
#[derive(Debug, Clone)]
pub struct ParsedPolicy {
    pub policy: Policy,
    pub reads: Reads,
}

/// Policies that can matter to some question.
#[derive(Debug, Default)]
pub struct Slice {
    pub set: PolicySet,
    /// Attributes that they ask for together.
    pub reads: Reads,
    pub wanted: RequestedArguments,
}

/// All slices.
#[derive(Debug, Default)]
pub struct Slices(HashMap<(Action, ObjectKind), SlicesOfAction>);

/// The slices for one action and kind of thing.
#[derive(Debug, Default)]
struct SlicesOfAction {
    /// The slice for what no policy names.
    other: Slice,
    upstreams: HashMap<String, Slice>,
    objects: HashMap<String, Slice>,
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
                let fitting = fits.map(|known| (known, reach(&known.policy, kind)));
                slices.insert((action, kind), SlicesOfAction::new(&fitting.collect::<Vec<_>>()));
            }
        }
        Self(slices)
    }

    /// Finds the policies that can matter to whether this may be done. `None` where nobody can do
    /// it.
    pub fn of(&self, action: Action, object: &Object) -> Option<&Slice> {
        let sliced = self.0.get(&(action, object.kind))?;
        let named = sliced.objects.get(&object.id);
        let named = named.or_else(|| sliced.upstreams.get(&*object.upstream));
        Some(named.unwrap_or(&sliced.other))
    }
}

impl SlicesOfAction {
    fn new(all: &[(&ParsedPolicy, Reach)]) -> Self {
        let mut sliced = Self { other: Slice::new(all, None, None), ..Self::default() };
        let upstream_of = |id: &str| id.split('/').next().unwrap_or_default().to_owned();
        let mut upstreams = BTreeSet::new();
        let mut objects = BTreeSet::new();
        for (_, reach) in all {
            match reach {
                Reach::Upstream(name) => drop(upstreams.insert(name.clone())),
                Reach::Object(id) => drop(objects.insert(id.clone())),
                Reach::All | Reach::Nothing => (),
            }
        }
        for name in upstreams {
            let slice = Slice::new(all, Some(&name), None);
            sliced.upstreams.insert(name, slice);
        }
        for id in objects {
            let slice = Slice::new(all, Some(&upstream_of(&id)), Some(&id));
            sliced.objects.insert(id, slice);
        }
        sliced
    }
}

impl Slice {
    fn new(all: &[(&ParsedPolicy, Reach)], upstream: Option<&str>, object: Option<&str>) -> Self {
        let mut slice = Self::default();
        for (known, reach) in all {
            let fits = match reach {
                Reach::All => true,
                Reach::Upstream(name) => upstream == Some(name),
                Reach::Object(id) => object == Some(id),
                Reach::Nothing => false,
            };
            if fits {
                slice.set.add(known.policy.clone()).expect("ids are places in files: each is one");
                slice.reads.add(&known.reads);
            }
        }
        slice.wanted = RequestedArguments::new(&slice.reads.arguments);
        slice
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
