//! Tests that slices and kept decisions answer as Cedar does with all policies and the whole call.

use std::{collections::HashMap, sync::Arc};

use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityUid, Policy, PolicyId, PolicySet,
    Request, RestrictedExpression, SlotId, Template,
};
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Value, json};

use crate::{
    call::{Action, Caller, Client, ObjectKind},
    config::{Limits, RuleFile, Rules},
    mcp::{document::CallArguments, raw::Raw, version::Version},
};

use super::{
    AccessRequest, Judge, Object, PolicyBounds, caller,
    policies::Policies,
    reads::Reads,
    rule::{ParsedPolicy, PolicyRule},
    tests::{config, judge_of},
};

const PRINCIPALS: [&str; 9] = [
    "principal",
    "principal",
    "principal is Caller",
    "principal == Caller::\"corp/ann\"",
    "principal == Caller::\"@address/127.0.0.1\"",
    "principal in Group::\"a\"",
    "principal in Group::\"b\"",
    "principal is Caller in Group::\"a\"",
    "principal in ?principal",
];
const ACTIONS: [&str; 6] = [
    "action",
    "action",
    "action == Action::\"call\"",
    "action == Action::\"list\"",
    "action in [Action::\"list\", Action::\"read\"]",
    "action in [Action::\"call\", Action::\"get\", Action::\"complete\"]",
];
const RESOURCES: [&str; 13] = [
    "resource",
    "resource",
    "resource",
    "resource is Tool",
    "resource is Resource",
    "resource in Upstream::\"bank\"",
    "resource is Tool in Upstream::\"bank\"",
    "resource is Prompt in Upstream::\"files\"",
    "resource == Tool::\"bank/a\"",
    "resource in Tool::\"bank/a\"",
    "resource == Prompt::\"bank/a\"",
    "resource is Tool in Tool::\"files/a\"",
    "resource in ?resource",
];
const CONDITIONS: [&str; 30] = [
    "true",
    "resource.name == \"a\"",
    "resource in Upstream::\"files\"",
    "resource.tags.contains(\"t\")",
    "principal in Group::\"b\"",
    "principal is Caller in Group::\"a\"",
    "principal in [Group::\"a\", Group::\"b\"]",
    "principal.groups.contains(\"b\") || principal.scopes.contains(\"s\")",
    "principal.subject == \"ann\"",
    "principal == Caller::\"corp/eve\"",
    "principal.mfa",
    // By their names, whether they are who and what is asked for or not.
    "Caller::\"corp/ann\" in Group::\"a\"",
    "Caller::\"corp/ann\" has address",
    "Tool::\"bank/a\" in Upstream::\"bank\"",
    "[Tool::\"files/a\"].contains(resource)",
    "Tool::\"bank/a\" has tags && Tool::\"bank/a\".tags.contains(\"t\")",
    "{a: Caller::\"corp/eve\"}.a in Group::\"b\"",
    "principal has address && principal.address.isLoopback()",
    "{Value: principal.mfa}.Value",
    "context.route == \"/mcp\"",
    "action == Action::\"call\"",
    "context has time && context.time.hour < 12",
    "context has client && context.client.name == \"bench\"",
    "context has era && context.era == \"legacy\"",
    "(if context has time then context else context) has era",
    "context has texts && context.texts.hasTag(\"x\") && context.texts.getTag(\"x\") == \"v\"",
    "context has numbers && context.numbers.hasTag(\"n\") && context.numbers.getTag(\"n\") > 2",
    // Fails for the largest number.
    "context has numbers && context.numbers.hasTag(\"n\") && context.numbers.getTag(\"n\") + 1 > 2",
    "context has flags && context.flags.hasTag(\"o/f\") && context.flags.getTag(\"o/f\")",
    "context has lists && context.lists.hasTag(\"l\") && context.lists.getTag(\"l\") == [\"i\"]",
];

/// The text of a policy, or of a template.
fn policy() -> impl Strategy<Value = String> {
    let condition = (any::<bool>(), select(&CONDITIONS[..])).prop_map(|(when, condition)| {
        format!(" {} {{ {condition} }}", if when { "when" } else { "unless" })
    });
    (
        prop::bool::weighted(0.65),
        select(&PRINCIPALS[..]),
        select(&ACTIONS[..]),
        select(&RESOURCES[..]),
        vec(condition, 0..3),
    )
        .prop_map(|(permit, principal, action, resource, conditions)| {
            let effect = if permit { "permit" } else { "forbid" };
            format!("{effect}({principal}, {action}, {resource}){};", conditions.concat())
        })
}

/// Adds a policy to a set; a template filled with a group and an upstream.
fn add(set: &mut PolicySet, at: usize, text: &str) -> Policy {
    let id = PolicyId::new(at.to_string());
    if text.contains('?') {
        let template = PolicyId::new(format!("template {at}"));
        set.add_template(Template::parse(Some(template.clone()), text).unwrap()).unwrap();
        let mut slots = HashMap::new();
        let mut fill = |slot: SlotId, name: &str, uid: &str| {
            if text.contains(name) {
                slots.insert(slot, uid.parse::<EntityUid>().unwrap());
            }
        };
        fill(SlotId::principal(), "?principal", "Group::\"a\"");
        fill(SlotId::resource(), "?resource", "Upstream::\"bank\"");
        set.link(template, id.clone(), slots).unwrap();
    } else {
        set.add(Policy::parse(Some(id.clone()), text).unwrap()).unwrap();
    }
    set.policy(&id).unwrap().clone()
}

/// Who asks, with what: everything that an answer may depend on besides the thing and the action.
#[derive(Debug, Clone)]
struct Asker {
    caller: Caller,
    client: Client,
    arguments: Value,
    now: u64,
}

fn asker() -> impl Strategy<Value = Asker> {
    let known = (select(vec!["corp/ann", "corp/eve"]), any::<[bool; 4]>()).prop_map(
        |(name, [a, b, scope, mfa])| {
            let all = [("a", a), ("b", b)].into_iter().filter(|(_, is_in)| *is_in);
            let groups: Vec<_> = all.map(|(name, _)| name.to_owned()).collect();
            let scopes: Vec<_> = scope.then(|| "s".to_owned()).into_iter().collect();
            caller(name, &groups, &scopes, mfa).unwrap()
        },
    );
    let caller = prop_oneof![
        4 => known,
        1 => Just(Caller::Address([127, 0, 0, 1].into())),
        1 => Just(Caller::Address([10, 0, 0, 1].into())),
        1 => Just(Caller::Parent),
    ];
    let arguments = select(vec![
        json!({}),
        json!({ "x": "v", "n": 7, "o": { "f": true }, "l": ["i"] }),
        json!({ "x": "w", "n": 1, "o": { "f": false }, "l": [] }),
        json!({ "n": i64::MAX }),
        json!({ "n": 2, "other": [1, 2, 3] }),
        json!({ "x": 1 }),
    ]);
    let client = (select(vec!["bench", "other"]), any::<bool>()).prop_map(|(name, modern)| {
        let version = if modern { Version::MODERN } else { Version::LEGACY_LATEST };
        Client { info: Raw::encode(&json!({ "name": name })), ..Client::gateway(version) }
    });
    (caller, client, arguments, select(vec![3_600, 50_400]))
        .prop_map(|(caller, client, arguments, now)| Asker { caller, client, arguments, now })
}

fn text(text: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(text.to_owned())
}

/// Everything that the schema has for a context, whoever reads it.
fn whole_context(asker: &Asker, action: Action) -> (Context, Vec<Entity>) {
    let mut pairs = vec![("route".to_owned(), text("/mcp"))];
    let mut entities = Vec::new();
    if action == Action::List {
        return (Context::from_pairs(pairs).unwrap(), entities);
    }
    let record = |fields: Vec<(&str, RestrictedExpression)>| {
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value));
        RestrictedExpression::new_record(fields).unwrap()
    };
    let info: Value = serde_json::from_slice(asker.client.info.bytes()).unwrap();
    let name = info["name"].as_str().unwrap();
    let modern = asker.client.version == Version::MODERN;
    let number = RestrictedExpression::new_long;
    let hour = i64::try_from(asker.now / 3_600).unwrap();
    pairs.extend([
        ("client".to_owned(), record(vec![("name", text(name)), ("version", text(""))])),
        ("era".to_owned(), text(if modern { "modern" } else { "legacy" })),
        ("time".to_owned(), record(vec![("hour", number(hour)), ("weekday", number(4))])),
    ]);
    if !matches!(action, Action::Call | Action::Get) {
        return (Context::from_pairs(pairs).unwrap(), entities);
    }
    let arguments = &asker.arguments;
    let one = |name: &str, value: Option<RestrictedExpression>| {
        value.map(|value| (name.to_owned(), value)).into_iter().collect::<Vec<_>>()
    };
    let items = |value: &Value| value.as_array().unwrap().clone();
    let list = arguments.get("l").map(items).map(|items| {
        RestrictedExpression::new_set(items.iter().map(|item| text(item.as_str().unwrap())))
    });
    let flag = arguments["o"]["f"].as_bool().map(RestrictedExpression::new_bool);
    for (attribute, kind, tags) in [
        ("texts", "Texts", one("x", arguments["x"].as_str().map(text))),
        ("numbers", "Numbers", one("n", arguments["n"].as_i64().map(number))),
        ("flags", "Flags", one("o/f", flag)),
        ("lists", "Lists", one("l", list)),
    ] {
        let uid: EntityUid = format!("{kind}::\"\"").parse().unwrap();
        entities.push(Entity::new_with_tags(uid.clone(), [], [], tags).unwrap());
        pairs.push((attribute.to_owned(), RestrictedExpression::new_entity_uid(uid)));
    }
    (Context::from_pairs(pairs).unwrap(), entities)
}

/// An answer as it is compared.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    allowed: bool,
    rules: Vec<String>,
    failed: usize,
}

/// Cedar's own answer with all policies.
fn cedar(set: &PolicySet, asker: &Asker, action: Action, object: &Object) -> Answer {
    let (context, arguments) = whole_context(asker, action);
    let caller = caller::entity(&asker.caller).unwrap().cedar();
    let object = object.entity().unwrap().cedar();
    let action = format!("Action::\"{}\"", action.name()).parse().unwrap();
    let request = Request::new(caller.uid(), action, object.uid(), context, None).unwrap();
    let entities = [caller, object].into_iter().chain(arguments);
    let entities = Entities::from_entities(entities, None).unwrap();
    let response = Authorizer::new().is_authorized(&request, set, &entities);
    let diagnostics = response.diagnostics();
    let mut rules: Vec<_> = diagnostics.reason().map(ToString::to_string).collect();
    rules.sort();
    let failed = diagnostics.errors().count();
    Answer { allowed: response.decision() == Decision::Allow && failed == 0, rules, failed }
}

fn judge(policies: &[Policy]) -> Judge {
    let parsed = policies.iter().map(|policy| ParsedPolicy {
        policy: policy.clone(),
        reads: Reads::of(policy).unwrap(),
        rule: Arc::new(PolicyRule { id: None, place: policy.id().to_string(), step_up: None }),
    });
    let file = RuleFile { name: "all".to_owned(), text: String::new().into() };
    let files = HashMap::from([("all".to_owned(), parsed.collect())]);
    let rules = Rules { policies: vec![file], cases: Vec::new() };
    let policies = Arc::new(Policies::new(&rules, &files));
    let bounds = PolicyBounds::of(&Limits::default());
    Judge::new(&"/mcp".into(), Some(policies), bounds, &Arc::default())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// One judge answers many questions, one after the other, each as Cedar alone does.
    #[test]
    fn a_slice_decides_as_all_policies_do(
        texts in vec(policy(), 1..8),
        questions in vec((asker(), 0..5_usize, 0..3_usize, select(vec!["a", "b"])), 1..12),
        upstream in select(vec!["bank", "files", "other"]),
        tagged: bool,
    ) {
        let mut set = PolicySet::new();
        let all = texts.iter().enumerate();
        let parsed: Vec<_> = all.map(|(at, text)| add(&mut set, at, text)).collect();
        let judge = judge(&parsed);
        for (asker, action, kind, name) in questions {
            let (action, kind) = (Action::ALL[action], ObjectKind::ALL[kind]);
            if !kind.takes(action) {
                continue;
            }
            let tags = tagged.then(|| "t".to_owned()).into_iter().collect();
            let object = &Object::new(kind, &upstream.into(), name, None, tags);
            let params = Raw::encode(&json!({ "arguments": asker.arguments }));
            let arguments = &CallArguments::of(&params.into());
            let Asker { caller, client, now, .. } = &asker;
            let asked = AccessRequest { caller, client, action, object, arguments, now: *now };
            let verdict = judge.verdict(&asked);
            let sees = cedar(&set, &asker, Action::List, object);
            prop_assert_eq!(judge.sees(caller, object), sees.allowed);
            if verdict.is_misfit {
                // Some policy that can matter asks for a text, and the argument is a number.
                prop_assert!(asker.arguments["x"].is_number() && !judge.permits(&asked));
                continue;
            }
            let rules: Vec<_> = verdict.rules.iter().map(ToString::to_string).collect();
            let failed = verdict.errors.len();
            let found = Answer { allowed: verdict.allowed, rules, failed };
            let want = cedar(&set, &asker, action, object);
            let both = sees.allowed && want.allowed;
            prop_assert_eq!(found, want, "{:?} {:?}", texts, asked);
            // Twice: the second time what is the same for all calls is found.
            prop_assert_eq!(judge.permits(&asked), both);
            prop_assert_eq!(judge.permits(&asked), both);
        }
    }
}

/// Nothing that was decided outlives what it was decided by: a caller's groups, and the policies.
#[test]
fn a_kept_decision_goes_with_what_it_was_decided_by() {
    let policies = |group: &str, limit: i64| {
        format!(
            "permit(principal in Group::\"{group}\", action, resource);
             forbid(principal, action == Action::\"call\", resource)
             when {{ context.numbers.hasTag(\"n\") && context.numbers.getTag(\"n\") > {limit} }};"
        )
    };
    let permits = |judge: &Judge, groups: &[&str], number: i64| {
        let groups: Vec<_> = groups.iter().map(|group| (*group).to_owned()).collect();
        let caller = &caller("corp/ann", &groups, &[], false).unwrap();
        let object = &Object::new(ObjectKind::Tool, &"bank".into(), "a", None, Vec::new());
        let params = Raw::encode(&json!({ "arguments": { "n": number } }));
        let (client, arguments) =
            (&Client::gateway(Version::MODERN), &CallArguments::of(&params.into()));
        let action = Action::Call;
        judge.permits(&AccessRequest { caller, client, action, object, arguments, now: 0 })
    };
    let counters = Arc::default();
    let before = judge_of(&config(&[&policies("a", 5)]), &counters);
    for _ in 0..2 {
        assert!(permits(&before, &["a"], 5) && permits(&before, &["a", "b"], 5));
        assert!(!permits(&before, &["a"], 6), "the arguments of each call are read");
        assert!(!permits(&before, &["b"], 5), "the caller has left the group");
        assert!(permits(&before, &["a"], 5), "and is in it again");
    }
    let after = judge_of(&config(&[&policies("b", 9)]), &counters);
    assert!(!permits(&after, &["a"], 5) && permits(&after, &["b"], 9), "the policies were edited");
}
