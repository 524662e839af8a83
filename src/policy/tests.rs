//! Tests what policies decide: tables of questions, bad input, and the shipped examples.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    call::{Action, Caller, Client, ObjectKind},
    config::{self, Config, Problems, RuleFile, Rules},
    mcp::{document::CallArguments, raw::Raw, version::Version},
    telemetry::Counters,
};

use super::{AccessRequest, Denial, Judge, Object, PolicyBounds, caller, compile};

const ROUTES: &str = "[routes.\"/mcp\"]\nupstreams = [\"bank\", \"files\"]\n\
    [upstreams.bank]\nurl = \"http://127.0.0.1:9\"\n\
    [upstreams.files]\nurl = \"http://127.0.0.1:9\"";

pub(super) fn config(policies: &[&str]) -> Config {
    let mut config = config::parse("routes.toml", ROUTES, &|_| None).unwrap();
    let file = |(at, text): (usize, &&str)| RuleFile {
        name: format!("policies/{at}.cedar"),
        text: (*text).into(),
    };
    let policies = policies.iter().enumerate().map(file).collect();
    config.routes[0].rules = Some(Rules { policies, cases: Vec::new() });
    config
}

pub(super) fn wrong(policy: &str) -> Problems {
    compile(&config(&[policy])).expect_err("wrong policies")
}

pub(super) fn judge_of(config: &Config, counters: &Arc<Counters>) -> Judge {
    let book = match compile(config) {
        Ok(book) => book,
        Err(problems) => panic!("{problems}"),
    };
    let bounds = PolicyBounds::of(&config.server.limits);
    Judge::new(&"/mcp".into(), book.of(&"/mcp".into()).map(Arc::clone), bounds, counters)
}

pub(super) fn judge(policy: &str) -> Judge {
    judge_of(&config(&[policy]), &Arc::default())
}

pub(super) fn tool(id: &str) -> Object {
    let (upstream, name) = id.split_once('/').unwrap();
    Object::new(ObjectKind::Tool, &upstream.into(), name, None, Vec::new())
}

pub(super) fn nobody() -> Caller {
    Caller::Address([127, 0, 0, 1].into())
}

/// Whether a call with these params is permitted; what failed on the way.
fn call(judge: &Judge, params: &str) -> (bool, Vec<String>) {
    let (caller, object) = (nobody(), tool("bank/transfer"));
    let arguments = &CallArguments::of(&Raw::trusted(params.to_owned()).into());
    let (client, action) = (&Client::gateway(Version::MODERN), Action::Call);
    let asked =
        AccessRequest { caller: &caller, client, action, object: &object, arguments, now: 0 };
    let verdict = judge.verdict(&asked);
    assert_eq!(judge.allows(&asked).is_ok(), verdict.allowed);
    (verdict.allowed, verdict.errors)
}

fn with(arguments: &str) -> String {
    format!(r#"{{"name":"transfer","arguments":{arguments}}}"#)
}

const LIMIT: &str = "permit(principal, action, resource);
forbid(principal, action == Action::\"call\", resource)
when { context.numbers.hasTag(\"limit\") && context.numbers.getTag(\"limit\") > 1000 };";

#[test]
fn no_argument_slips_past_a_forbid_by_being_of_another_kind() {
    let judge = judge(LIMIT);
    for (arguments, want) in [
        (r#"{"limit":1000}"#, true),
        (r#"{"limit":-5,"other":5000.5}"#, true),
        ("{}", true),
        ("null", true),
        (r#"{"limit":5000}"#, false),
        (r#"{"limit":"5000"}"#, false),
        (r#"{"limit":5000.5}"#, false),
        (r#"{"limit":5e3}"#, false),
        (r#"{"limit":5000.0}"#, false),
        (r#"{"limit":1e999}"#, false),
        (r#"{"limit":9223372036854775808}"#, false),
        (r#"{"limit":18446744073709551615}"#, false),
        (r#"{"limit":123456789012345678901234567890}"#, false),
        (r#"{"limit":null}"#, false),
        (r#"{"limit":true}"#, false),
        (r#"{"limit":[5000]}"#, false),
        (r#"{"limit":{"limit":5000}}"#, false),
        (r#"{"li\u006dit":5000}"#, false),
        // Twice: nobody knows which of them the server takes.
        (r#"{"limit":5000,"limit":1}"#, false),
        (r#"{"limit":1,"li\u006dit":1}"#, false),
        (r#"[{"limit":5000}]"#, false),
        (r#""limit""#, false),
        // In another case: some servers take either for the other, and the last of both.
        (r#"{"Limit":5000}"#, false),
        (r#"{"limit":1,"LIMIT":5000}"#, false),
        (r#"{"LIMIT":5000,"limit":1}"#, false),
        (r#"{"limits":5000}"#, true),
    ] {
        assert_eq!(call(&judge, &with(arguments)).0, want, "{arguments}");
    }
}

#[test]
fn no_argument_becomes_an_entity_or_an_extension_value() {
    let text = judge(
        "permit(principal, action == Action::\"list\", resource);
         permit(principal, action == Action::\"call\", resource)
         when { context.texts.hasTag(\"who\") && context.texts.getTag(\"who\") != \"\" };",
    );
    for smuggled in [
        r#"{"__entity":{"type":"Caller","id":"corp/root"}}"#,
        r#"{"__extn":{"fn":"ip","arg":"127.0.0.1"}}"#,
        r#"{"__expr":"ip(\"127.0.0.1\")"}"#,
    ] {
        let (allowed, errors) = call(&text, &with(&format!(r#"{{"who":{smuggled}}}"#)));
        assert!(!allowed, "{smuggled}");
        assert!(errors[0].contains("`who`"), "{errors:?}");
        // A name of Cedar's is a name like any other.
        assert!(call(&judge(LIMIT), &with(smuggled)).0, "{smuggled}");
    }
    let quoted = r#"{"who":"{\"__entity\":{\"type\":\"Caller\",\"id\":\"corp/root\"}}"}"#;
    assert!(call(&text, &with(quoted)).0, "a text stays one");
}

#[test]
fn a_policy_that_fails_denies() {
    let counters = Arc::<Counters>::default();
    // Cedar passes over a `forbid` that overflows.
    let policy = "@id(\"sum\") forbid(principal, action == Action::\"call\", resource)
        when { context.numbers.hasTag(\"a\") && context.numbers.getTag(\"a\") + 1 < 0 };
        permit(principal, action, resource);";
    let judge = judge_of(&config(&[policy]), &counters);
    assert!(call(&judge, &with(r#"{"a":1}"#)).0);
    let (allowed, errors) = call(&judge, &with(r#"{"a":9223372036854775807}"#));
    assert!(!allowed);
    assert!(errors[0].contains("policies/0.cedar:1:1"), "{errors:?}");
    assert_eq!(counters.read()["policy_errors"], 1);
    assert_eq!(counters.read()["denied"], 1);
}

#[test]
fn arguments_within_others_have_their_way_for_a_name() {
    let judge = judge(
        "permit(principal, action, resource);
         forbid(principal, action == Action::\"call\", resource) when {
             context.texts.hasTag(\"filter/owner\")
             && context.texts.getTag(\"filter/owner\") == \"x\"
             || context.texts.hasTag(\"a~1b\") && context.texts.getTag(\"a~1b\") == \"x\"
             || context.flags.hasTag(\"force\") && context.flags.getTag(\"force\")
             || context.lists.hasTag(\"tags\") && context.lists.getTag(\"tags\").contains(\"x\")
             || context.texts.hasTag(\"paths/1\") && context.texts.getTag(\"paths/1\") like \"/x*\"
         };",
    );
    for (arguments, want) in [
        (r#"{"filter":{"owner":"y"},"a/b":"y","force":false,"tags":["y"],"paths":["/x"]}"#, true),
        // No member of one object: a name with the sign in it is another one.
        (r#"{"filter/owner":"x"}"#, true),
        (r#"{"filter":null}"#, true),
        (r#"{"filter":{"owner":"x"}}"#, false),
        (r#"{"filter":{"owner":"y"},"filter":{"owner":"x"}}"#, false),
        (r#"{"filter":"{\"owner\":\"x\"}"}"#, false),
        (r#"{"a/b":"x"}"#, false),
        (r#"{"force":true}"#, false),
        (r#"{"force":"true"}"#, false),
        (r#"{"tags":["y","x"]}"#, false),
        (r#"{"tags":["y",1]}"#, false),
        (r#"{"tags":"x"}"#, false),
        (r#"{"paths":["/y","/x/z"]}"#, false),
    ] {
        assert_eq!(call(&judge, &with(arguments)).0, want, "{arguments}");
    }
}

#[test]
fn large_and_deep_arguments_cost_little_and_deny() {
    let judge = judge(
        "permit(principal, action, resource);
         forbid(principal, action == Action::\"call\", resource)
         when { context.texts.hasTag(\"a/b\") && context.texts.getTag(\"a/b\") like \"*x*\" };
         forbid(principal, action == Action::\"call\", resource)
         when { context.lists.hasTag(\"l\") && context.lists.getTag(\"l\").contains(\"x\") };",
    );
    let told = |arguments: &str| call(&judge, &with(arguments));
    let long = "y".repeat((64 << 10) + 1);
    let (allowed, errors) = told(&format!(r#"{{"a":{{"b":"{long}"}}}}"#));
    assert!(!allowed && errors[0].contains("`judged_text_max`"), "{errors:?}");
    let (allowed, errors) = told(&json!({ "l": vec!["y"; 1_001] }).to_string());
    assert!(!allowed && errors[0].contains("`judged_items_max`"), "{errors:?}");
    // What no policy asks for is not looked at.
    assert!(told(&json!({ "other": long }).to_string()).0);
    let deep = format!("{}{}", "[".repeat(1_000), "]".repeat(1_000));
    assert!(!told(&format!(r#"{{"a":{{"b":{deep}}}}}"#)).0);
}

#[test]
fn what_is_not_seen_is_not_there_and_what_is_denied_is_said() {
    let judge = judge(
        "permit(principal, action in [Action::\"list\", Action::\"call\"], resource)
         when { resource.name != \"hidden\" };
         permit(principal, action == Action::\"call\", resource);
         forbid(principal, action == Action::\"call\", resource == Tool::\"files/write\");",
    );
    let (client, arguments) = (&Client::gateway(Version::MODERN), &CallArguments::none());
    let refused = |id| {
        let (caller, object, action) = (nobody(), tool(id), Action::Call);
        let asked =
            AccessRequest { caller: &caller, client, action, object: &object, arguments, now: 0 };
        judge.allows(&asked).err()
    };
    assert_eq!(refused("files/read"), None);
    assert_eq!(refused("files/write"), Some(Denial::Denied));
    assert_eq!(refused("files/hidden"), Some(Denial::Unseen), "to be permitted is not enough");
}

#[test]
fn the_time_is_that_of_the_call() {
    let judge = judge(
        "permit(principal, action, resource);
         forbid(principal, action == Action::\"call\", resource)
         unless { context.time.weekday <= 5 && context.time.hour >= 7 && context.time.hour < 17 };",
    );
    let at = |time: &str| {
        let now = time.parse::<jiff::Timestamp>().unwrap().as_second().try_into().unwrap();
        let (caller, object) = (nobody(), tool("bank/transfer"));
        let (client, arguments) = (&Client::gateway(Version::MODERN), &CallArguments::none());
        let action = Action::Call;
        let asked =
            AccessRequest { caller: &caller, client, action, object: &object, arguments, now };
        judge.allows(&asked).is_ok()
    };
    assert!(at("2026-11-24T07:00:00Z"), "a Tuesday");
    assert!(!at("2026-11-24T17:00:00Z") && !at("2026-11-24T06:59:59Z"));
    assert!(!at("2026-11-28T10:00:00Z") && at("2026-11-27T10:00:00Z"), "not at the weekend");
}

#[test]
fn decisions_that_do_not_look_at_the_call_are_kept() {
    let counters = Arc::<Counters>::default();
    let mut config = config(&["permit(principal in Group::\"a\", action, resource);"]);
    config.server.limits.decisions_max = 2;
    let judge = judge_of(&config, &counters);
    let who = |group: &str| caller("corp/ann", &[group.to_owned()], &[], false).unwrap();
    for _ in 0..3 {
        assert!(judge.sees(&who("a"), &tool("bank/a")));
        assert!(judge.sees(&who("a"), &tool("bank/b")));
        assert!(!judge.sees(&who("b"), &tool("bank/a")), "another set of grants");
    }
    assert_eq!(counters.read()["decisions_dropped"], 0);
    judge.sees(&who("a"), &tool("bank/c"));
    assert_eq!(counters.read()["decisions_dropped"], 1);
    assert!(judge.sees(&who("a"), &tool("bank/a")));
}

#[test]
fn without_policies_everything_is_permitted() {
    let bounds = PolicyBounds::of(&config::Limits::default());
    let judge = Judge::new(&"/mcp".into(), None, bounds, &Arc::default());
    assert!(judge.is_open() && call(&judge, "{}").0);
}

#[test]
fn all_that_is_wrong_with_policies_is_told_with_its_place() {
    let problems = wrong(
        "permit(principal, action, resource) when { resource.nam == \"x\" };

permit(principal, action == Action::\"cal\", resource);
forbid(principal, action, resource in Upstream::\"fils\");
permit(principal action, resource);
permit(principal == ?principal, action, resource);
permit(principal, action == Action::\"get\", resource) when { context.texts.getTag(\"a\") == \"\" };
permit(principal, action == Action::\"call\", resource) when { context.texts.hasTag(context.era) };
permit(principal, action == Action::\"call\", resource)
when { resource.read_only && !resource.read_only && 1 == 2 };
permit(principal, action == Action::\"read\", resource is Tool);
permit(principal, action == Action::\"call\", resource) when { context.time.hour == \"7\" };",
    );
    let printed = problems.to_string();
    for wanted in [
        "--> policies/0.cedar:1:44",
        "attribute `nam`",
        "`Action::\"cal\"`",
        "there is no upstream `fils`",
        "did you mean `files`?",
        "--> policies/0.cedar:4:49",
        "unexpected token `action`",
        "--> policies/0.cedar:5:18",
        "nothing fills in this template",
        "unable to guarantee safety of access to tag `\"a\"`",
        "an argument is read otherwise than by a name that stands here",
        "policy is impossible",
        "--> policies/0.cedar:12",
    ] {
        assert!(printed.contains(wanted), "no {wanted:?} in\n{printed}");
    }
    assert!(!printed.contains("for policy `"), "{printed}");
    assert_eq!(problems.len(), 10, "one each: {printed}");
}

#[test]
fn the_shipped_examples_do_what_their_cases_say() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let routes = format!(
        "{ROUTES}\n[routes.\"/all\"]\nupstreams = [\"*\"]\n\
         policy = [\"policies\"]\ncases = [\"policies/cases.toml\"]"
    );
    let name = root.join("routes.toml");
    let config = config::parse(&name.to_string_lossy(), &routes, &|_| None).unwrap();
    let rules = config.routes[1].rules.clone().unwrap();
    assert_eq!(rules.policies.len(), 3);
    let expected = |case: &config::Case| case.expect;
    let cases: Vec<_> = rules.cases[0].cases.iter().map(expected).collect();
    for each in [config::Expected::Allow, config::Expected::Deny, config::Expected::Unseen] {
        assert!(2 <= cases.iter().filter(|case| **case == each).count(), "{each:?}");
    }
    if let Err(problems) = compile(&config) {
        panic!("{problems}");
    }
    // Each policy is needed: without one of them a case fails.
    for (at, file) in rules.policies.iter().enumerate() {
        let count = super::text::pieces(&file.text).len();
        for piece in 0..count {
            let mut config = config.clone();
            let text = without(&file.text, piece);
            let rules = config.routes[1].rules.as_mut().unwrap();
            rules.policies[at].text = text.into();
            assert!(compile(&config).is_err(), "{} without policy {piece}", file.name);
        }
    }
}

fn without(text: &str, piece: usize) -> String {
    let gone = super::text::pieces(text)[piece].clone();
    format!("{}{}", text.get(..gone.start).unwrap(), text.get(gone.end..).unwrap())
}

#[test]
fn an_array_is_no_object_with_arguments_in_it() {
    let judge = judge(
        "permit(principal, action, resource);
        forbid(principal, action == Action::\"call\", resource)
        when { context.texts.hasTag(\"filter/owner\")
            && context.texts.getTag(\"filter/owner\") == \"x\" };",
    );
    for (arguments, want) in [
        (r#"{"filter":{"owner":"y"}}"#, true),
        (r#"{"filter":{"owner":"x"}}"#, false),
        (r#"{"filter":[{"owner":"x"}]}"#, false),
        (r#"{"filter":{"Owner":"x"}}"#, false),
    ] {
        assert_eq!(call(&judge, &with(arguments)).0, want, "{arguments}");
    }
}

#[test]
fn no_forbid_is_lost_on_the_way_from_the_file() {
    let policies =
        format!("{ALLOW}// no calls\rforbid(principal, action == Action::\"call\", resource);\r");
    assert!(!call(&judge(&policies), "{}").0, "a comment ends at a carriage return");
    for empty in ["", "\n// permit(principal, action, resource);\n"] {
        let problems = compile(&config(&[ALLOW, empty])).expect_err("a file without a policy");
        assert!(problems.to_string().contains("this file has no policy"), "{problems}");
    }
}

#[test]
fn a_kept_answer_is_for_the_second_factor_it_was_asked_with() {
    let judge = judge("permit(principal, action, resource) when { {Value: principal.mfa}.Value };");
    let strong = caller("corp/ann", &[], &[], true).unwrap();
    let weak = caller("corp/eve", &[], &[], false).unwrap();
    assert!(judge.sees(&strong, &tool("bank/a")));
    assert!(!judge.sees(&weak, &tool("bank/a")));
}

#[test]
fn to_see_a_thing_is_the_same_for_all_calls() {
    let counters = Arc::default();
    let policies = config(&["permit(principal, action, resource);
        forbid(principal, action, resource)
        when { context has time && context.time.epoch > 1000 };"]);
    let judge = judge_of(&policies, &counters);
    let (who, object) = (nobody(), tool("bank/a"));
    let (client, arguments) = (&Client::gateway(Version::MODERN), &CallArguments::none());
    let (action, now) = (Action::Call, 1_700_000_000);
    let asked = AccessRequest { caller: &who, client, action, object: &object, arguments, now };
    assert!(judge.sees(&who, &object));
    assert_eq!(judge.allows(&asked).err(), Some(Denial::Denied), "seen, and denied at this time");
}

#[test]
fn long_ids_are_judged_and_not_kept() {
    let judge = judge(ALLOW);
    let object = |length: usize| {
        let name = format!("mem://{}", "\u{e9}".repeat(length));
        Object::new(ObjectKind::Resource, &"files".into(), &name, None, Vec::new())
    };
    assert!(judge.sees(&nobody(), &object(100)) && judge.sees(&nobody(), &object(100_000)));
    assert_eq!(judge.kept_decisions(&nobody()), 1);
    assert!(object(100_000).short_id().len() <= 1024);
}

pub(super) const ALLOW: &str = "permit(principal, action, resource);";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a caller writes where a number is asked for: it is one, or the call is denied.
    #[test]
    fn what_is_permitted_is_within_the_limit(
        value in any::<f64>(),
        n in any::<u64>(),
        text in ".*",
    ) {
        let judge = judge(LIMIT);
        for value in [json!(value), json!(n), json!(text), json!([n]), json!({ "limit": n })] {
            let (allowed, _) = call(&judge, &with(&json!({ "limit": value }).to_string()));
            let within = |value: &Value| value.as_i64().is_some_and(|number| number <= 1_000);
            prop_assert_eq!(allowed, within(&value));
        }
    }
}
