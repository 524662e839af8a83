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

/// A policy that says which login would help is as good as a route that asks for it.
#[tokio::test]
async fn a_policy_tells_which_login_would_help() {
    let signer = Signer::elliptic("e1");
    let issuer = Issuer::start(&[&signer]).await;
    let policy = "permit(principal, action, resource);
@step_up(\"amr=mfa amr=otp\")
forbid(principal, action == Action::\"call\", resource == Tool::\"git/log\")
unless { principal.mfa };
forbid(principal, action == Action::\"call\", resource == Tool::\"git/never\");";
    let git = fake::http().tool("log").tool("never");
    let key = tollgate_key();
    let gate = gateway()
        .server("public_url = \"https://gate.example.com\"")
        .upstream("git", &git)
        .route(
            "/mcp",
            "upstreams = [\"git\"]\nauth = [\"corp\", \"agents\"]\npolicy = [\"policies/base.cedar\"]",
        )
        .extra(&format!("{}{}", issuer.section(), key.section))
        .policy(policy)
        .start()
        .await;
    let weak = signer.sign(&changed(&issuer.claims(), "amr", json!(["pwd"])));
    let refused = calls(&gate, &weak).await;
    let told = challenge(&refused);
    assert_eq!(refused.status, 401);
    assert!(told.starts_with("Bearer error=\"insufficient_user_authentication\""), "{told}");
    assert!(refused.message().await.id.is_some(), "it answers the call");
    let strong = signer.sign(&changed(&issuer.claims(), "amr", json!(["otp"])));
    assert_eq!(calls(&gate, &strong).await.status, 200);
    // No login helps here, and none there.
    let never = gate.with_token(&weak).modern().call("never").await;
    assert_eq!(never["structuredContent"]["error"], "access_denied");
    let keyed = gate.with_token(&key.key).modern().call("log").await;
    assert_eq!(keyed["structuredContent"]["error"], "access_denied");
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
