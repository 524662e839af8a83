//! Reads a token's claims, whoever verified it: whose it is, what it may, and how that one logged
//! in.

use std::collections::BTreeSet;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{
    call::{Identity, clock},
    config::StepUp,
    mcp::{raw::Raw, splice},
};

/// Digest that a token is remembered by: no token is kept for that, and one that is good for one
/// route is not for another.
pub fn digest(token: &str, resource: &str) -> [u8; 32] {
    Sha256::new().chain_update(resource).chain_update([0]).chain_update(token).finalize().into()
}

/// Returns whom a token is of, as far as its claims say; none where they name nobody. `names` are
/// those of the claims of its subject and its groups.
pub fn identity(claims: &Value, subject_claim: &str, groups_claim: &str) -> Option<Identity> {
    let subject = claim(claims, subject_claim)?.as_str().filter(|subject| !subject.is_empty())?;
    Some(Identity {
        subject: subject.to_owned(),
        groups: groups(claim(claims, groups_claim), groups_claim),
        scopes: words(claims.get("scope").or_else(|| claims.get("scp"))),
        claims: Raw::encode(claims),
        ..Identity::default()
    })
}

/// A moment, in seconds since 1970; none where there is none, or what is no moment.
pub fn seconds(claims: &Value, name: &str) -> Option<u64> {
    let seconds = claims.get(name)?.as_f64().filter(|seconds| 0.0 <= *seconds)?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    Some(seconds as u64)
}

/// Whether a token is for one of these.
pub fn is_for(claims: &Value, audiences: &[&str]) -> bool {
    let is_one = |value: &Value| value.as_str().is_some_and(|text| audiences.contains(&text));
    match claims.get("aud") {
        Some(Value::Array(list)) => list.iter().any(is_one),
        Some(one) => is_one(one),
        None => false,
    }
}

/// Whether somebody has logged in as is demanded (RFC 9470 §5), as far as their authority says.
pub fn has_stepped_up(known: &Identity, demanded: &StepUp) -> bool {
    let claim = |name| splice::member(&known.claims, name);
    let acr = claim("acr").and_then(|acr| acr.try_read::<String>());
    let amr = claim("amr").and_then(|amr| amr.try_read::<Vec<String>>()).unwrap_or_default();
    let at = claim("auth_time").and_then(|at| at.try_read::<u64>());
    let recent = |max_age: std::time::Duration| {
        at.is_some_and(|at| clock::unix_seconds().saturating_sub(at) <= max_age.as_secs())
    };
    (demanded.acr.is_empty() || acr.is_some_and(|acr| demanded.acr.contains(&acr)))
        && (demanded.amr.is_empty() || amr.iter().any(|one| demanded.amr.contains(one)))
        && demanded.max_age.is_none_or(recent)
}

/// A claim of this very name, else one within others, as in `realm_access.roles`.
fn claim<'a>(claims: &'a Value, name: &str) -> Option<&'a Value> {
    claims.get(name).or_else(|| name.split('.').try_fold(claims, |inner, part| inner.get(part)))
}

/// A claim of groups: a list of texts, or one text, which is one group whatever it has within. Only
/// what is written as `scope` is (RFC 8693 §4.2) is one text of several words.
fn groups(found: Option<&Value>, name: &str) -> BTreeSet<String> {
    match found {
        Some(Value::String(text)) if !matches!(name, "scope" | "scp") => {
            std::iter::once(text.clone()).filter(|text| !text.is_empty()).collect()
        }
        _ => words(found),
    }
}

/// A claim of several words: a list of texts, or one text with spaces.
fn words(claim: Option<&Value>) -> BTreeSet<String> {
    match claim {
        Some(Value::String(text)) => text.split_whitespace().map(str::to_owned).collect(),
        Some(Value::Array(list)) => {
            list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        }
        _ => BTreeSet::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    #[test]
    fn one_text_is_one_group() {
        let of = |value: Value, name| groups(Some(&value), name).into_iter().collect::<Vec<_>>();
        assert_eq!(of(json!("site admins"), "groups"), ["site admins"]);
        assert_eq!(of(json!(["a b", "c", 1]), "groups"), ["a b", "c"]);
        assert_eq!(of(json!("read write"), "scope"), ["read", "write"]);
        assert_eq!(of(json!(""), "groups"), [""; 0]);
    }

    #[test]
    fn audiences_are_compared_whole() {
        let is = |aud: Value| is_for(&json!({ "aud": aud }), &["a", "b"]);
        for (aud, want) in [
            (json!("a"), true),
            (json!(["x", "b"]), true),
            (json!("ab"), false),
            (json!("a b"), false),
            (json!([["a"]]), false),
            (json!({ "a": true }), false),
            (json!([]), false),
            (json!(null), false),
        ] {
            assert_eq!(is(aud.clone()), want, "{aud}");
        }
        assert!(!is_for(&json!({}), &["a"]));
    }

    #[test]
    fn a_login_is_what_its_token_says() {
        let now = clock::unix_seconds();
        let all = StepUp {
            acr: vec!["phr".to_owned()],
            amr: vec!["mfa".to_owned(), "hwk".to_owned()],
            max_age: Some(Duration::from_secs(60)),
        };
        for (claims, want) in [
            (json!({ "acr": "phr", "amr": ["pwd", "hwk"], "auth_time": now }), true),
            (json!({ "acr": "phr", "amr": ["pwd"], "auth_time": now }), false),
            (json!({ "acr": "phrh", "amr": ["hwk"], "auth_time": now }), false),
            (json!({ "acr": "phr", "amr": ["hwk"], "auth_time": now - 100 }), false),
            (json!({ "acr": "phr", "amr": ["hwk"] }), false),
            (json!({ "acr": "phr", "amr": "hwk", "auth_time": now }), false),
            (json!({}), false),
        ] {
            let known = Identity { claims: Raw::encode(&claims), ..Identity::default() };
            assert_eq!(has_stepped_up(&known, &all), want, "{claims}");
        }
        let recent = StepUp { acr: Vec::new(), amr: Vec::new(), ..all };
        let claims = Raw::encode(&json!({ "auth_time": now }));
        assert!(has_stepped_up(&Identity { claims, ..Identity::default() }, &recent));
    }
}
