//! What a policy asks for: whether its answer can be kept, for whom, and which arguments it reads.

use std::{collections::BTreeMap, ops::BitOrAssign};

use cedar_policy::{EntityUid, Policy, PrincipalConstraint, ResourceConstraint};
use serde_json::{Map, Value};

/// Kinds of values that a policy asks for an argument as.
#[allow(clippy::struct_excessive_bools, reason = "one for each attribute of the context")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kinds {
    pub text: bool,
    pub number: bool,
    pub flag: bool,
    pub list: bool,
}

/// What of the caller decides besides its authority, groups and scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Personal {
    /// Who exactly it is.
    pub subject: bool,
    pub address: bool,
    pub mfa: bool,
}

/// What a policy, or several, ask for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reads {
    /// More than the route, which is always the same: an answer is for one call only.
    pub context: bool,
    pub personal: Personal,
    /// By the names that the schema explains.
    pub arguments: BTreeMap<String, Kinds>,
    /// Entities that it names: their types and ids.
    pub entities: Vec<(String, String)>,
    /// Arguments are read otherwise than by a name that stands in the policy.
    pub loose: bool,
}

impl BitOrAssign for Kinds {
    fn bitor_assign(&mut self, other: Self) {
        self.text |= other.text;
        self.number |= other.number;
        self.flag |= other.flag;
        self.list |= other.list;
    }
}

impl Kinds {
    /// That of an attribute of the context.
    fn of(attribute: &str) -> Option<Self> {
        let none = Self::default();
        match attribute {
            "texts" => Some(Self { text: true, ..none }),
            "numbers" => Some(Self { number: true, ..none }),
            "flags" => Some(Self { flag: true, ..none }),
            "lists" => Some(Self { list: true, ..none }),
            _ => None,
        }
    }
}

impl Reads {
    /// Of a policy that was parsed. `None` where its text cannot be looked at.
    pub fn of(policy: &Policy) -> Option<Self> {
        let mut reads = Self::default();
        match policy.principal_constraint() {
            PrincipalConstraint::Eq(who)
            | PrincipalConstraint::In(who)
            | PrincipalConstraint::IsIn(_, who) => reads.principal_is(&who),
            PrincipalConstraint::Any | PrincipalConstraint::Is(_) => (),
        }
        match policy.resource_constraint() {
            ResourceConstraint::Eq(what)
            | ResourceConstraint::In(what)
            | ResourceConstraint::IsIn(_, what) => reads.entity(&what),
            ResourceConstraint::Any | ResourceConstraint::Is(_) => (),
        }
        let whole = policy.to_json().ok()?;
        for condition in whole.get("conditions")?.as_array()? {
            reads.expression(condition.get("body")?);
        }
        Some(reads)
    }

    /// What either asks for.
    pub fn add(&mut self, other: &Self) {
        self.context |= other.context;
        self.personal.subject |= other.personal.subject;
        self.personal.address |= other.personal.address;
        self.personal.mfa |= other.personal.mfa;
        for (name, kinds) in &other.arguments {
            *self.arguments.entry(name.clone()).or_default() |= *kinds;
        }
    }

    fn entity(&mut self, uid: &EntityUid) {
        self.entities.push((uid.type_name().to_string(), uid.id().unescaped().to_owned()));
    }

    fn principal_is(&mut self, uid: &EntityUid) {
        self.entity(uid);
        self.personal.subject |= uid.type_name().basename() != "Group";
    }

    /// What is not known here counts as asking for everything that is named in it.
    fn expression(&mut self, expression: &Value) {
        match expression {
            Value::Object(members) => {
                let only = members.iter().next().filter(|_| members.len() == 1);
                match only.and_then(|(operator, of)| Some((operator.as_str(), of.as_object()?))) {
                    Some((".", of)) => self.attribute(of),
                    Some(("has", of)) => self.has(of),
                    Some(("hasTag" | "getTag", of)) => self.tag(of),
                    Some(("in", of)) if variable(of.get("left")) == Some("principal") => {
                        self.principal_in(of.get("right"));
                    }
                    Some(("is", of)) if variable(of.get("left")) == Some("principal") => {
                        of.get("in").into_iter().for_each(|within| self.principal_in(Some(within)));
                    }
                    Some(("Value" | "__entity", _)) => self.literal(expression),
                    _ if variable(Some(expression)).is_some() => self.whole(expression),
                    _ => members.values().for_each(|value| self.expression(value)),
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.expression(item)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (),
        }
    }

    /// A variable as it is.
    fn whole(&mut self, expression: &Value) {
        match variable(Some(expression)) {
            Some("principal") => {
                self.personal = Personal { subject: true, address: true, mfa: true };
            }
            Some("context") => self.context = true,
            _ => (),
        }
    }

    /// `left.attr`
    fn attribute(&mut self, of: &Map<String, Value>) {
        let name = of.get("attr").and_then(Value::as_str).unwrap_or_default();
        // Only `hasTag` and `getTag` may stand around it, and they look themselves.
        self.loose |= Kinds::of(name).is_some();
        match variable(of.get("left")) {
            Some("principal") => self.of_principal(name),
            Some("context") => self.context |= name != "route",
            _ => of.get("left").into_iter().for_each(|left| self.expression(left)),
        }
    }

    /// `left has attr`
    fn has(&mut self, of: &Map<String, Value>) {
        match variable(of.get("left")) {
            // Of what may be missing there is only one.
            Some("principal") => self.personal.address = true,
            _ => of.values().for_each(|value| self.expression(value)),
        }
    }

    fn of_principal(&mut self, name: &str) {
        match name {
            "authority" | "groups" | "scopes" => (),
            "address" => self.personal.address = true,
            "mfa" => self.personal.mfa = true,
            _ => self.personal.subject = true,
        }
    }

    /// `left.hasTag(right)`, `left.getTag(right)`: nothing but arguments has tags.
    fn tag(&mut self, of: &Map<String, Value>) {
        let left = of.get("left").and_then(|left| left.get(".")).and_then(Value::as_object);
        let direct = left.filter(|left| variable(left.get("left")) == Some("context"));
        let kinds = direct.and_then(|left| Kinds::of(left.get("attr")?.as_str()?));
        let name = of.get("right").and_then(|right| right.get("Value")?.as_str());
        match (kinds, name) {
            (Some(kinds), Some(name)) => {
                self.context = true;
                *self.arguments.entry(name.to_owned()).or_default() |= kinds;
            }
            _ => self.loose = true,
        }
    }

    /// `principal in right`: groups are known, whoever the caller is.
    fn principal_in(&mut self, right: Option<&Value>) {
        let before = self.entities.len();
        right.into_iter().for_each(|right| self.expression(right));
        let named = self.entities.get(before..).unwrap_or_default();
        let groups = !named.is_empty() && named.iter().all(|(kind, _)| kind == "Group");
        self.personal.subject |= !groups;
    }

    fn literal(&mut self, value: &Value) {
        match value {
            Value::Object(members) => {
                let text = |of: &Value, key| Some(of.get(key)?.as_str()?.to_owned());
                let uid = members
                    .get("__entity")
                    .and_then(|of| Some((text(of, "type")?, text(of, "id")?)));
                match uid {
                    Some(uid) => self.entities.push(uid),
                    None => members.values().for_each(|value| self.literal(value)),
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.literal(item)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (),
        }
    }
}

/// The name of a variable, where the expression is one.
fn variable(expression: Option<&Value>) -> Option<&str> {
    expression?.get("Var")?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(condition: &str) -> Reads {
        let text = format!("permit(principal, action, resource) when {{ {condition} }};");
        Reads::of(&Policy::parse(None, text).unwrap()).unwrap()
    }

    fn personal(condition: &str) -> (bool, bool, bool) {
        let Personal { subject, address, mfa } = reads(condition).personal;
        (subject, address, mfa)
    }

    #[test]
    fn what_is_personal_is_found_wherever_it_stands() {
        for (condition, want) in [
            ("principal.groups.contains(\"a\")", (false, false, false)),
            ("principal in Group::\"a\" && principal.authority == \"b\"", (false, false, false)),
            ("principal in [Group::\"a\", Group::\"b\"]", (false, false, false)),
            ("principal is Caller in Group::\"a\"", (false, false, false)),
            ("principal == Caller::\"a/b\"", (true, true, true)),
            ("principal in [Group::\"a\", Caller::\"a/b\"]", (true, false, false)),
            ("principal in resource", (true, false, false)),
            ("principal.subject like \"a*\"", (true, false, false)),
            ("principal has address && principal.address.isLoopback()", (false, true, false)),
            ("(if true then principal else principal).mfa", (true, true, true)),
            ("[principal.mfa].contains(true)", (false, false, true)),
        ] {
            assert_eq!(personal(condition), want, "{condition}");
        }
    }

    #[test]
    fn only_the_route_is_the_same_for_all_calls() {
        assert!(!reads("context.route == \"/mcp\" && resource.read_only").context);
        for asks in ["context.time.hour < 7", "context has client", "context == context"] {
            assert!(reads(asks).context, "{asks}");
        }
    }

    #[test]
    fn arguments_are_known_by_name() {
        let asked = reads("context.texts.hasTag(\"a\") && context.numbers.getTag(\"a\") < 1");
        let both = Kinds { text: true, number: true, ..Kinds::default() };
        assert_eq!(asked.arguments, BTreeMap::from([("a".to_owned(), both)]));
        assert!(asked.context && !asked.loose);
        for loose in [
            "context.texts.hasTag(context.route)",
            "(if true then context else context).texts.hasTag(\"a\")",
            "[context.texts].contains(context.texts)",
        ] {
            assert!(reads(loose).loose, "{loose}");
        }
    }

    #[test]
    fn entities_are_found() {
        let named = reads("resource in [Upstream::\"a\"] || Upstream::\"b\" == resource").entities;
        let ids: Vec<_> = named.iter().map(|(_, id)| id.as_str()).collect();
        assert_eq!(ids, ["a", "b"]);
    }
}
