//! Tests what becomes of names that nothing has.

use std::sync::Arc;

use crate::{
    call::{Action, Client},
    mcp::{document::CallArguments, version::Version},
    telemetry::Counters,
};

use super::{
    AccessRequest, Denial,
    tests::{ALLOW, config, judge, judge_of, nobody, tool, wrong},
};

#[test]
fn names_that_nothing_has_are_told() {
    let policy = |condition: &str| {
        format!(
            "{ALLOW} forbid(principal, action == Action::\"call\", resource)
             when {{ {condition} }};"
        )
    };
    for (condition, want) in [
        ("context.texts.hasTag(\"a~b\")", "no argument has the name \"a~b\" here"),
        ("principal == Caller::\"crop/ann\"", "there is no authority `crop`"),
    ] {
        let problems = wrong(&policy(condition)).to_string();
        assert!(problems.contains(want), "{problems}");
    }
    judge(&policy("context.texts.hasTag(\"a~0b~1c\") || principal == Caller::\"@parent\""));
}

#[test]
fn a_name_that_nothing_has_costs_what_a_hidden_one_costs() {
    let counters = Arc::<Counters>::default();
    let forbid = "permit(principal, action, resource);
        forbid(principal, action, resource) when { resource.name like \"secret*\" };";
    let judge = judge_of(&config(&[forbid]), &counters);
    let (caller, client) = (nobody(), &Client::gateway(Version::MODERN));
    let arguments = &CallArguments::none();
    let asked = |object| {
        let action = Action::Call;
        AccessRequest { caller: &caller, client, action, object, arguments, now: 0 }
    };
    let (hidden, none) = (tool("bank/secret"), tool("bank/"));
    for at in 0..100 {
        assert_eq!(judge.allows(&asked(&hidden)).err(), Some(Denial::Unseen));
        judge.miss(&asked(&none), &format!("made-up-{at}"));
    }
    // One decision each, which is found from the second time on.
    assert_eq!(judge.kept_decisions(&caller), 2);
    let counted = counters.read();
    assert_eq!((counted["unseen"], counted["unknown"]), (100, 100));
}
