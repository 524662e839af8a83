//! Finds what a policy asks for: whether its answer can be kept, for whom, and which arguments it
//! reads.

use std::{collections::BTreeMap, ops::BitOrAssign};

use cedar_policy::{EntityUid, Policy, PrincipalConstraint, ResourceConstraint};
use serde_json::{Map, Value};

/// Operators whose members are nothing but expressions.
const PLAIN: [&str; 19] = [
    "!",
    "neg",
    "==",
    "!=",
    "in",
    "<",
    "<=",
    ">",
    ">=",
    "&&",
    "||",
    "+",
    "-",
    "*",
    "contains",
    "containsAll",
    "containsAny",
    "isEmpty",
    "if-then-else",
];

/// Kinds of values that a policy asks for an argument as.
#[allow(clippy::struct_excessive_bools, reason = "one for each attribute of the context")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kinds {
    pub text: bool,
    pub number: bool,
    pub flag: bool,
    pub list: bool,
}

/// Attributes of the caller that decide besides its authority, groups and scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Personal {
    /// The policy reads who exactly it is.
    pub subject: bool,
    pub address: bool,
    pub mfa: bool,
}

/// Attributes of the context, the route apart, that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ContextReads {
    pub client: bool,
    pub era: bool,
    pub time: bool,
    /// Kinds of arguments.
    pub kinds: Kinds,
}

/// Attributes that one policy, or several, ask for.
#[allow(clippy::struct_excessive_bools, reason = "one for each thing that a policy may ask for")]
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reads {
    /// The policy reads more than the route, which is always the same: an answer is for one call
    /// only.
    pub context: bool,
    pub attributes: ContextReads,
    /// Conditions ask for the caller, or for what it is in, beyond what it is called.
    pub principal: bool,
    /// Conditions ask for the thing, or for what it is in.
    pub resource: bool,
    pub personal: Personal,
    /// The arguments by the names that the schema explains.
    pub arguments: BTreeMap<String, Kinds>,
    /// Entities that it names: their types and ids.
    pub entities: Vec<(String, String)>,
    /// The name or the tags of a thing decide.
    pub names: bool,
    /// Arguments are read otherwise than by a name that stands in the policy.
    pub loose: bool,
}

impl BitOrAssign for ContextReads {
    fn bitor_assign(&mut self, other: Self) {
        self.client |= other.client;
        self.era |= other.era;
        self.time |= other.time;
        self.kinds |= other.kinds;
    }
}

impl ContextReads {
    const ALL: Self = {
        let kinds = Kinds { text: true, number: true, flag: true, list: true };
        Self { client: true, era: true, time: true, kinds }
    };

    /// What reading this attribute asks for; everything where the attribute is not known here.
    fn of(attribute: &str) -> Self {
        let none = Self::default();
        match attribute {
            "route" => none,
            "client" => Self { client: true, ..none },
            "era" => Self { era: true, ..none },
            "time" => Self { time: true, ..none },
            _ => Kinds::of(attribute).map_or(Self::ALL, |kinds| Self { kinds, ..none }),
        }
    }
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
    /// The kind of an attribute of the context.
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
    /// Finds what a parsed policy asks for. `None` where its text cannot be looked at.
    pub fn of(policy: &Policy) -> Option<Self> {
        // To be within something is to be asked what one is in; a type and a name are known.
        let principal = matches!(
            policy.principal_constraint(),
            PrincipalConstraint::In(_) | PrincipalConstraint::IsIn(..)
        );
        let mut reads = Self { principal, ..Self::default() };
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
            let body = condition.get("body")?;
            reads.principal |= mentions(body, "principal");
            reads.resource |= mentions(body, "resource");
            reads.expression(body);
        }
        Some(reads)
    }

    /// Adds what the other asks for.
    pub fn add(&mut self, other: &Self) {
        self.context |= other.context;
        self.attributes |= other.attributes;
        self.principal |= other.principal;
        self.resource |= other.resource;
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

    /// Walks an expression. One that is not known here counts as asking for everything.
    fn expression(&mut self, expression: &Value) {
        let members = expression.as_object().filter(|members| members.len() == 1);
        let Some((operator, of)) = members.and_then(|members| members.iter().next()) else {
            return self.everything();
        };
        let each = of.as_object();
        match (operator.as_str(), each) {
            // The record comes first: its keys are the policy's own words, and may read as
            // operators.
            ("Record", Some(of)) => of.values().for_each(|value| self.expression(value)),
            ("Value", _) => self.literal(expression),
            ("Var", _) => self.whole(expression),
            (".", Some(of)) => self.attribute(of),
            ("has", Some(of)) => self.has(of),
            ("hasTag" | "getTag", Some(of)) => self.tag(of),
            ("like", Some(of)) => self.left(of),
            ("in", Some(of)) if variable(of.get("left")) == Some("principal") => {
                self.principal_in(of.get("right"));
            }
            ("is", Some(of)) => {
                let principal = variable(of.get("left")) == Some("principal");
                match of.get("in") {
                    Some(within) if principal => self.principal_in(Some(within)),
                    Some(within) => {
                        self.left(of);
                        self.expression(within);
                    }
                    // Its type does not depend on who it is.
                    None if principal => (),
                    None => self.left(of),
                }
            }
            (operator, Some(of)) if PLAIN.contains(&operator) => {
                of.values().for_each(|value| self.expression(value));
            }
            // A set, or the call of a function.
            (_, None) if of.is_array() => {
                of.as_array().into_iter().flatten().for_each(|item| self.expression(item));
            }
            _ => self.everything(),
        }
    }

    fn left(&mut self, of: &Map<String, Value>) {
        match of.get("left") {
            Some(left) => self.expression(left),
            None => self.everything(),
        }
    }

    /// Something that cannot be looked into: whatever it is that it reads.
    fn everything(&mut self) {
        self.personal = Personal { subject: true, address: true, mfa: true };
        self.attributes = ContextReads::ALL;
        self.context = true;
        self.principal = true;
        self.resource = true;
        self.loose = true;
        self.names = true;
    }

    /// A variable as it is.
    fn whole(&mut self, expression: &Value) {
        match variable(Some(expression)) {
            Some("principal") => {
                self.personal = Personal { subject: true, address: true, mfa: true };
            }
            Some("context") => {
                self.context = true;
                self.attributes = ContextReads::ALL;
            }
            Some(_) => (),
            None => self.everything(),
        }
    }

    /// `left.attr`
    fn attribute(&mut self, of: &Map<String, Value>) {
        let Some(name) = of.get("attr").and_then(Value::as_str) else { return self.everything() };
        // The operators `hasTag` and `getTag` alone may stand around it, and they look themselves.
        self.loose |= Kinds::of(name).is_some();
        let is_of_client = || of.get("left").and_then(|left| attribute_of(left)) == Some("client");
        self.names |= matches!(name, "name" | "tags") && !is_of_client();
        match variable(of.get("left")) {
            Some("principal") => self.of_principal(name),
            Some("context") => {
                self.context |= name != "route";
                self.attributes |= ContextReads::of(name);
            }
            _ => self.left(of),
        }
    }

    /// `left has attr`
    fn has(&mut self, of: &Map<String, Value>) {
        match variable(of.get("left")) {
            // The address is its only attribute that may be missing.
            Some("principal") => self.personal.address = true,
            _ => self.left(of),
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
                self.attributes.kinds |= kinds;
                *self.arguments.entry(name.to_owned()).or_default() |= kinds;
            }
            _ => self.everything(),
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

    /// Notes an entity that a condition names. It may be the caller or the thing: what that is in
    /// and has may be asked by its name, too.
    fn named(&mut self, kind: String, id: String) {
        match kind.rsplit("::").next() {
            Some("Group" | "Upstream" | "Action") => (),
            Some("Tool" | "Prompt" | "Resource") => self.resource = true,
            _ => {
                self.personal = Personal { subject: true, address: true, mfa: true };
                self.principal = true;
                self.resource = true;
            }
        }
        self.entities.push((kind, id));
    }

    fn literal(&mut self, value: &Value) {
        match value {
            Value::Object(members) => {
                let text = |of: &Value, key| Some(of.get(key)?.as_str()?.to_owned());
                let uid = members
                    .get("__entity")
                    .and_then(|of| Some((text(of, "type")?, text(of, "id")?)));
                match uid {
                    Some((kind, id)) => self.named(kind, id),
                    None => members.values().for_each(|value| self.literal(value)),
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.literal(item)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => (),
        }
    }
}

/// Whether the word stands anywhere in an expression: a variable does, wherever it may stand.
fn mentions(expression: &Value, word: &str) -> bool {
    match expression {
        Value::String(text) => text == word,
        Value::Array(items) => items.iter().any(|item| mentions(item, word)),
        Value::Object(members) => {
            members.iter().any(|(key, value)| key == word || mentions(value, word))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The name of a variable, where the expression is one.
fn variable(expression: Option<&Value>) -> Option<&str> {
    expression?.get("Var")?.as_str()
}

/// The attribute that is read, where the expression is nothing else.
fn attribute_of(expression: &Value) -> Option<&str> {
    expression.get(".")?.get("attr")?.as_str()
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
            ("principal in [Group::\"a\", Caller::\"a/b\"]", (true, true, true)),
            ("Caller::\"a/b\" in Group::\"a\"", (true, true, true)),
            ("Tool::\"a/b\" in Upstream::\"a\"", (false, false, false)),
            ("principal in resource", (true, false, false)),
            ("principal.subject like \"a*\"", (true, false, false)),
            ("principal has address && principal.address.isLoopback()", (false, true, false)),
            ("(if true then principal else principal).mfa", (true, true, true)),
            ("[principal.mfa].contains(true)", (false, false, true)),
            // Keys of records that read as operators.
            ("{Value: principal.mfa}.Value", (false, false, true)),
            ("{Var: principal.mfa}.Var", (false, false, true)),
            ("{Record: {Value: principal.mfa}}.Record.Value", (false, false, true)),
            ("{a: principal.mfa, b: 1}.a", (false, false, true)),
            ("principal is Caller", (false, false, false)),
            ("principal.subject like \"a\" && principal.mfa", (true, false, true)),
            ("-1 < 2 && !([1].isEmpty()) && ip(\"::1\").isLoopback()", (false, false, false)),
        ] {
            assert_eq!(personal(condition), want, "{condition}");
        }
    }

    #[test]
    fn what_cannot_be_looked_into_reads_everything() {
        for strange in [
            serde_json::json!({ "newer": { "left": 1 } }),
            serde_json::json!({ ".": { "left": { "Var": "resource" } } }),
            serde_json::json!({ "Value": 1, "Var": "principal" }),
            serde_json::json!("principal"),
        ] {
            let mut reads = Reads::default();
            reads.expression(&strange);
            assert!(reads.context && reads.personal.mfa && reads.loose, "{strange}");
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
    fn what_decides_by_the_name_of_a_thing_is_known() {
        for condition in [
            "resource.name like \"a*\"",
            "resource.tags.contains(\"a\")",
            "(if true then resource else resource).name == \"a\"",
            "{a: resource}.a.name == \"a\"",
        ] {
            assert!(reads(condition).names, "{condition}");
        }
        for condition in ["context.client.name == \"a\"", "resource in Upstream::\"a\""] {
            assert!(!reads(condition).names, "{condition}");
        }
    }

    #[test]
    fn entities_are_found() {
        let named = reads("resource in [Upstream::\"a\"] || Upstream::\"b\" == resource").entities;
        let ids: Vec<_> = named.iter().map(|(_, id)| id.as_str()).collect();
        assert_eq!(ids, ["a", "b"]);
    }
}
