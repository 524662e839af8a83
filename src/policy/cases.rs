//! Cases: questions that policies must answer as the operator wrote down.

use std::{net::IpAddr, sync::Arc};

use serde_json::json;

use crate::{
    call::{Action, Caller, Client, Identity, RoutePath},
    config::{Case, CaseFile, Expected, Limits, Problem, Problems, Rules},
    mcp::{document::CallArguments, raw::Raw, version::Version},
};

use super::{
    bounds::PolicyBounds, caller::FACTORS, judge::Judge, object::Object, policies::Policies,
    question::AccessRequest,
};

/// Runs the cases of each file; every case that the policies answer otherwise is a problem.
pub fn run(
    route: &RoutePath,
    rules: &Rules,
    policies: &Arc<Policies>,
    limits: &Limits,
) -> Vec<Problems> {
    let policies = Some(Arc::clone(policies));
    let judge = Judge::new(route, policies, PolicyBounds::of(limits), &Arc::default());
    let of_file = |file: &CaseFile| {
        let failed = file.cases.iter().filter_map(|case| tried(&judge, case)).collect();
        Problems::new(&file.file.name, &file.file.text, failed)
    };
    rules.cases.iter().map(of_file).collect()
}

/// Runs one case; a problem where the policies answer otherwise.
fn tried(judge: &Judge, case: &Case) -> Option<Problem> {
    let tags = case.tags.clone();
    let annotations = Some(case.annotations.clone());
    let object = Object::new(case.kind, &case.upstream, &case.name, annotations, tags);
    let Some(caller) = caller(&case.caller, &case.groups, &case.scopes, case.mfa) else {
        let title = format!("`{}` is no caller", case.caller);
        let help = "write caller = \"AUTHORITY/SUBJECT\", or an address";
        return Some(Problem::new(case.at.clone(), title, help));
    };
    let info = Raw::encode(&json!({ "name": case.client }));
    let client = Client { info, ..Client::gateway(Version::MODERN) };
    let params = Raw::encode(&json!({ "arguments": case.arguments }));
    let asked = AccessRequest {
        caller: &caller,
        client: &client,
        action: Action::List,
        object: &object,
        arguments: &CallArguments::of(&params.into()),
        now: case.time,
    };
    let sees = judge.verdict(&asked);
    let (found, why) = match sees.allowed {
        false => (Expected::Unseen, sees),
        true => {
            let may = judge.verdict(&AccessRequest { action: case.action, ..asked });
            (if may.allowed { Expected::Allow } else { Expected::Deny }, may)
        }
    };
    (found != case.expect).then(|| {
        let title = format!("the policies say `{}`", word(found));
        Problem::new(case.at.clone(), title, why.to_string())
    })
}

/// Returns who a name means: `AUTHORITY/SUBJECT`, or an address; `None` where it is neither.
pub fn caller(name: &str, groups: &[String], scopes: &[String], mfa: bool) -> Option<Caller> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Some(Caller::Address(address));
    }
    let (authority, subject) = name.split_once('/')?;
    let claims = if mfa { json!({ "amr": FACTORS }) } else { json!({}) };
    Some(Caller::Known(Arc::new(Identity {
        authority: authority.to_owned(),
        subject: subject.to_owned(),
        groups: groups.iter().cloned().collect(),
        scopes: scopes.iter().cloned().collect(),
        claims: Raw::encode(&claims),
        ..Identity::default()
    })))
}

fn word(expected: Expected) -> &'static str {
    match expected {
        Expected::Allow => "allow",
        Expected::Deny => "deny",
        Expected::Unseen => "unseen",
    }
}
