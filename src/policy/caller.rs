//! Callers as policies see them, and what is kept for all callers that policies cannot tell apart.

use std::{
    collections::{BTreeSet, VecDeque},
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::Arc,
};

use cedar_policy::{Entity, RestrictedExpression};
use parking_lot::RwLock;

use crate::{
    call::{Caller, Identity, hashed::HashedMap},
    mcp::{raw::Raw, splice},
    telemetry::{Counter, Counters},
};

use super::{
    entity::{PolicyEntity, uid},
    reads::Personal,
};

/// Values of `amr` that mean a second factor (RFC 8176 §2).
pub const FACTORS: [&str; 3] = ["mfa", "otp", "hwk"];
/// Values of `acr` that mean it, alone or as the last part of a URI: phishing-resistant (EAP ACR
/// values §4) and multi-factor (PAPE §2).
const LEVELS: [&str; 4] = ["phr", "phrh", "mfa", "multi-factor"];

/// Everything of a caller that can decide. Two callers of the same grants are the same to policies.
#[derive(PartialEq, Eq, Hash)]
struct Grants<'a> {
    known: Option<(&'a str, &'a BTreeSet<String>, &'a BTreeSet<String>)>,
    parent: bool,
    subject: Option<&'a str>,
    address: Option<IpAddr>,
    mfa: bool,
}

impl<'a> Grants<'a> {
    fn of(caller: &'a Caller, personal: Personal) -> Self {
        let address = match caller {
            Caller::Address(address) => Some(*address),
            Caller::Parent | Caller::Known(_) => None,
        };
        let known = match caller {
            Caller::Known(known) => Some(&**known),
            Caller::Address(_) | Caller::Parent => None,
        };
        Self {
            known: known.map(|known| (&*known.authority, &known.groups, &known.scopes)),
            parent: *caller == Caller::Parent,
            subject: known.map(|known| &*known.subject).filter(|_| personal.subject),
            address: address.filter(|_| personal.address || personal.subject),
            mfa: personal.mfa && known.is_some_and(has_factor),
        }
    }
}

/// A `T` for each set of grants, made when the first caller of it comes.
#[derive(Debug)]
pub struct PerGrants<T> {
    kept: RwLock<Kept<T>>,
    hasher: RandomState,
    max: usize,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct Kept<T> {
    all: HashedMap<(Caller, Arc<T>)>,
    order: VecDeque<u64>,
}

impl<T> PerGrants<T> {
    pub fn new(max: usize, counters: Arc<Counters>) -> Self {
        let kept = RwLock::new(Kept { all: HashedMap::default(), order: VecDeque::new() });
        Self { kept, hasher: RandomState::new(), max, counters }
    }

    /// Makes each value anew from the one before, for the same grants.
    pub fn renewed(&self, again: impl Fn(&T) -> T) -> Self {
        let kept = self.kept.read();
        let all = kept.all.iter();
        let all = all.map(|(key, (caller, one))| (*key, (caller.clone(), Arc::new(again(one)))));
        let renewed = Kept { all: all.collect(), order: kept.order.clone() };
        let hasher = self.hasher.clone();
        let counters = Arc::clone(&self.counters);
        Self { kept: RwLock::new(renewed), hasher, max: self.max, counters }
    }

    /// Finds the value for the caller's grants, as far as policies that ask for this can tell.
    pub(super) fn of(
        &self,
        caller: &Caller,
        personal: Personal,
        make: impl FnOnce() -> T,
    ) -> Arc<T> {
        let grants = Grants::of(caller, personal);
        let key = self.hasher.hash_one(&grants);
        if let Some((other, kept)) = self.kept.read().all.get(&key)
            && (is_same(other, caller) || Grants::of(other, personal) == grants)
        {
            return Arc::clone(kept);
        }
        let made = Arc::new(make());
        let mut kept = self.kept.write();
        if kept.all.insert(key, (caller.clone(), Arc::clone(&made))).is_none() {
            kept.order.push_back(key);
        }
        if self.max < kept.order.len()
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.all.remove(&oldest);
            self.counters.add(Counter::GrantsEvicted);
        }
        made
    }
}

/// Whether both are one proof of a caller.
fn is_same(one: &Caller, other: &Caller) -> bool {
    matches!((one, other), (Caller::Known(one), Caller::Known(other)) if Arc::ptr_eq(one, other))
}

/// The entity of a caller. `None` where Cedar cannot have it as one.
pub fn entity(caller: &Caller) -> Option<PolicyEntity> {
    let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
    let set =
        |all: &BTreeSet<String>| RestrictedExpression::new_set(all.iter().map(|one| text(one)));
    let nothing = BTreeSet::new();
    let (id, authority, subject, groups, scopes, mfa) = match caller {
        Caller::Known(known) => {
            let id = format!("{}/{}", known.authority, known.subject);
            let Identity { authority, subject, groups, scopes, .. } = &**known;
            (id, authority.as_str(), subject.clone(), groups, scopes, has_factor(known))
        }
        Caller::Address(address) => {
            let subject = address.to_string();
            (format!("@address/{subject}"), "", subject, &nothing, &nothing, false)
        }
        Caller::Parent => ("@parent".to_owned(), "", String::new(), &nothing, &nothing, false),
    };
    let mut attributes = vec![
        ("authority".to_owned(), text(authority)),
        ("subject".to_owned(), text(&subject)),
        ("groups".to_owned(), set(groups)),
        ("scopes".to_owned(), set(scopes)),
        ("mfa".to_owned(), RestrictedExpression::new_bool(mfa)),
    ];
    if let Caller::Address(address) = caller {
        attributes.push(("address".to_owned(), RestrictedExpression::new_ip(address.to_string())));
    }
    let parents: Vec<_> = groups.iter().map(|group| uid("Group", group)).collect();
    let entity = Entity::new_with_tags(uid("Caller", &id), attributes, parents, []).ok()?;
    Some(PolicyEntity::new(&entity))
}

/// Whether it logged in with a second factor, as far as its authority says.
fn has_factor(known: &Identity) -> bool {
    let claim = |name| splice::member(&known.claims, name);
    let amr = claim("amr").and_then(|amr| amr.try_read::<Vec<String>>()).unwrap_or_default();
    let acr = claim("acr").and_then(|acr: Raw| acr.try_read::<String>()).unwrap_or_default();
    let level = acr.rsplit(['/', ':']).next().unwrap_or_default();
    amr.iter().any(|method| FACTORS.contains(&method.as_str())) || LEVELS.contains(&level)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(subject: &str, groups: &[&str], claims: &'static str) -> Caller {
        Caller::Known(Arc::new(Identity {
            authority: "corp".to_owned(),
            subject: subject.to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            claims: Raw::trusted(claims),
            ..Identity::default()
        }))
    }

    #[test]
    fn a_second_factor_is_what_the_token_says() {
        for (claims, want) in [
            (r#"{"amr":["pwd","otp"]}"#, true),
            (r#"{"amr":["pwd"]}"#, false),
            (r#"{"amr":"mfa"}"#, false),
            (r#"{"acr":"phr"}"#, true),
            (r#"{"acr":"http://schemas.openid.net/pape/policies/2007/06/multi-factor"}"#, true),
            (r#"{"acr":"not-mfa"}"#, false),
            ("{}", false),
        ] {
            let Caller::Known(identity) = known("a", &[], claims) else { unreachable!() };
            assert_eq!(has_factor(&identity), want, "{claims}");
        }
    }

    #[test]
    fn callers_share_what_policies_cannot_tell_apart() {
        let kept = PerGrants::new(10, Arc::default());
        let mut made = 0;
        let mut of = |caller: &Caller, personal| {
            kept.of(caller, personal, || {
                made += 1;
                made
            })
        };
        let (nobody, all) =
            (Personal::default(), Personal { subject: true, address: true, mfa: true });
        let (ann, bob) = (known("ann", &["x"], "{}"), known("bob", &["x"], "{}"));
        let strong = known("ann", &["x"], r#"{"amr":["mfa"]}"#);
        assert_eq!(of(&ann, nobody), of(&bob, nobody));
        assert_eq!(of(&ann, nobody), of(&strong, nobody));
        assert_ne!(of(&ann, nobody), of(&known("ann", &["y"], "{}"), nobody));
        assert_ne!(of(&ann, all), of(&bob, all));
        assert_ne!(of(&ann, all), of(&strong, all));
        let address = |last| Caller::Address([127, 0, 0, last].into());
        assert_eq!(of(&address(1), nobody), of(&address(2), nobody));
        assert_ne!(of(&address(1), all), of(&address(2), all));
        assert_ne!(of(&address(1), nobody), of(&Caller::Parent, nobody));
    }

    #[test]
    fn the_oldest_makes_room() {
        let counters = Arc::<Counters>::default();
        let kept = PerGrants::new(2, Arc::clone(&counters));
        let group = ["a", "b", "c"].map(|group| known("x", &[group], "{}"));
        for caller in &group {
            kept.of(caller, Personal::default(), || ());
        }
        assert_eq!(kept.kept.read().all.len(), 2);
        assert_eq!(counters.read()["grants_evicted"], 1);
    }
}
