//! Failed logins: who has too many is not listened to, and nobody else notices.

use serde_json::json;

use super::{Issuer, Signer, calls, changed, tollgate_key};
use crate::{
    client::Endpoint,
    fake,
    gate::{Gate, gateway},
};

async fn limited(issuer: &Issuer, keys: &str) -> Gate {
    gateway()
        .server("public_url = \"https://gate.example.com\"\nlimits.failed_logins = \"3/h\"")
        .upstream("git", &fake::http().tool("log"))
        .route("/mcp", "upstreams = [\"git\"]\nauth = [\"corp\", \"agents\"]")
        .extra(&format!("{}{keys}", issuer.section()))
        .start()
        .await
}

fn from(gate: &Gate, last: u8) -> Endpoint {
    Endpoint { from: [127, 0, 0, last].into(), ..(**gate).clone() }
}

#[tokio::test]
async fn who_fails_too_often_is_told_when_to_come_back() {
    let (signer, key) = (Signer::elliptic("e1"), tollgate_key());
    let issuer = Issuer::start(&[&signer]).await;
    let gate = limited(&issuer, &key.section).await;
    let (attacker, other) = (from(&gate, 2), from(&gate, 3));
    let known = signer.sign(&issuer.claims());
    assert_eq!(calls(&attacker, &known).await.status, 200, "known to be good from now on");
    for _ in 0..3 {
        assert_eq!(calls(&attacker, "no-token").await.status, 401);
    }
    let refused = calls(&attacker, "another").await;
    assert_eq!(refused.status, 429);
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=3_600).contains(&wait), "{wait}");
    assert!(!refused.headers.contains_key("www-authenticate"));
    // What is good is good, also from there; what must be checked is not.
    assert_eq!(calls(&attacker, &known).await.status, 200);
    assert_eq!(calls(&attacker, &key.key).await.status, 200);
    let fresh = signer.sign(&changed(&issuer.claims(), "jti", json!("fresh")));
    assert_eq!(calls(&attacker, &fresh).await.status, 429);
    assert_eq!(calls(&other, &fresh).await.status, 200);
    assert_eq!(attacker.modern().start("tools/list", json!({})).await.status, 401, "no login");
    let report = serde_json::to_value(gate.app().viewer().report()).unwrap();
    assert_eq!(report["counters"]["refused_logins"], 2);
}

/// An agent that comes with its token of an hour ago is no attacker.
#[tokio::test]
async fn what_has_expired_is_no_guess() {
    let (signer, key) = (Signer::elliptic("e1"), tollgate_key());
    let issuer = Issuer::start(&[&signer]).await;
    let gate = limited(&issuer, &key.section).await;
    for number in 0..10 {
        let old = changed(&issuer.claims(), "exp", json!(super::now() - 3_600 - number));
        assert_eq!(calls(&gate, &signer.sign(&old)).await.status, 401);
    }
}

/// Guesses at one key count together, wherever they come from.
#[tokio::test]
async fn a_key_is_guessed_at_from_one_place_or_many() {
    let (signer, key) = (Signer::elliptic("e1"), tollgate_key());
    let issuer = Issuer::start(&[&signer]).await;
    let gate = limited(&issuer, &key.section).await;
    let id = key.key.split('_').nth(1).unwrap();
    let mut told = Vec::new();
    for last in 10..16 {
        let guess = format!("tg_{id}_wrong{last}");
        told.push(calls(&from(&gate, last), &guess).await.status);
    }
    assert_eq!(told, [401, 401, 401, 429, 429, 429]);
    assert_eq!(calls(&from(&gate, 20), &key.key).await.status, 200, "whose it is comes in");
}

#[tokio::test]
async fn an_edit_elsewhere_forgets_nobody() {
    let (signer, key) = (Signer::elliptic("e1"), tollgate_key());
    let issuer = Issuer::start(&[&signer]).await;
    let gate = limited(&issuer, &key.section).await;
    for _ in 0..3 {
        calls(&gate, "no-token").await;
    }
    assert_eq!(calls(&gate, "x").await.status, 429);
    gate.edit(|text| text.replace("auth = [\"corp\", ", "page_size = 7\nauth = [\"corp\", "));
    crate::eventually("the edit is applied", || {
        let report = serde_json::to_value(gate.app().viewer().report()).unwrap();
        (report["counters"]["reloads"] == 1).then_some(())
    })
    .await;
    assert_eq!(calls(&gate, "x").await.status, 429);
}
