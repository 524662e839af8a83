//! Logins that are not strong or recent enough: told so, and how to do better (RFC 9470).

use serde_json::json;

use super::{Issuer, Signer, calls, challenge, changed, guarded, now, tollgate_key};
use crate::{fake, gate::gateway};

#[tokio::test]
async fn a_weaker_login_is_told_what_is_asked() {
    let signer = Signer::elliptic("e1");
    let issuer = Issuer::start(&[&signer]).await;
    let demands = "step_up = { acr = [\"phr\", \"phrh\"], amr = [\"mfa\"], max_age = \"15m\" }";
    let git = fake::http().tool("log");
    let gate = guarded(&issuer, &git, demands).await;
    let strong = json!({ "acr": "phr", "amr": ["pwd", "mfa"], "auth_time": now() - 60 });
    let token = |key: &str, value: serde_json::Value| {
        let mut claims = issuer.claims();
        let all = changed(&strong, key, value);
        claims.as_object_mut().unwrap().extend(all.as_object().unwrap().clone());
        signer.sign(&claims)
    };
    assert_eq!(calls(&gate, &token("x", json!(1))).await.status, 200);
    for (key, value) in [
        ("acr", json!("1")),
        ("acr", json!(null)),
        ("amr", json!(["pwd"])),
        ("amr", json!("mfa")),
        ("auth_time", json!(now() - 3_600)),
        ("auth_time", json!(null)),
    ] {
        let refused = calls(&gate, &token(key, value.clone())).await;
        assert_eq!(refused.status, 401, "{key} {value}");
        let told = challenge(&refused);
        for part in [
            "Bearer error=\"insufficient_user_authentication\"",
            "acr_values=\"phr phrh\"",
            "max_age=\"900\"",
            "resource_metadata=",
        ] {
            assert!(told.contains(part), "{key} {value}: {told}");
        }
    }
    assert_eq!(git.seen("tools/call").len(), 1);
    let report = serde_json::to_value(gate.app().viewer().report()).unwrap();
    assert_eq!(report["counters"]["refused_step_up"], 6);
}

/// A key says nothing of how anybody logged in.
#[tokio::test]
async fn a_key_is_no_strong_login() {
    let key = tollgate_key();
    let gate = gateway()
        .upstream("git", &fake::http().tool("log"))
        .route("/mcp", "upstreams = [\"git\"]\nauth = [\"agents\"]\nstep_up = { amr = [\"mfa\"] }")
        .extra(&key.section)
        .start()
        .await;
    assert_eq!(calls(&gate, &key.key).await.status, 401);
}
