//! Who is calling: tokens of an issuer, keys of the gate's own, certificates, and everybody else.

mod certificate;
mod issuer;
mod logins;
mod opaque;
mod outage;
mod revoked;
mod step_up;

use std::sync::atomic::Ordering;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

pub use self::issuer::{Issuer, Signer, now};
use crate::{
    client::{Endpoint, Reply},
    fake,
    gate::{Gate, gateway},
};

pub const AUDIENCE: &str = "https://gate.example.com/mcp";

/// A gate whose only route wants tokens of this issuer.
/// Failures are not what is tested here.
pub async fn guarded(issuer: &Issuer, git: &fake::Fake, route: &str) -> Gate {
    gateway()
        .server("public_url = \"https://gate.example.com\"\nlimits.failed_logins = \"1000/s\"")
        .upstream("git", git)
        .route("/mcp", &format!("upstreams = [\"git\"]\nauth = [\"corp\"]\n{route}"))
        .extra(&issuer.section())
        .start()
        .await
}

/// What a modern client gets that calls the tool with this token.
pub async fn calls(endpoint: &Endpoint, token: &str) -> Reply {
    let client = endpoint.with_token(token).modern();
    client.start("tools/call", json!({ "name": "log", "arguments": {} })).await
}

pub fn challenge(reply: &Reply) -> String {
    reply
        .headers
        .get("www-authenticate")
        .map(|text| text.to_str().unwrap().to_owned())
        .unwrap_or_default()
}

fn base64(text: impl ToString) -> String {
    URL_SAFE_NO_PAD.encode(text.to_string())
}

/// A token put together by hand.
fn forged(header: Value, claims: &Value, signature: &[u8]) -> String {
    format!("{}.{}.{}", base64(header), base64(claims), URL_SAFE_NO_PAD.encode(signature))
}

/// The claims with one of them changed; null takes it out.
pub fn changed(claims: &Value, key: &str, value: Value) -> Value {
    let mut claims = claims.clone();
    if value.is_null() {
        claims.as_object_mut().unwrap().remove(key);
    } else {
        claims[key] = value;
    }
    claims
}

#[tokio::test]
async fn a_good_token_opens_the_route_in_both_eras() {
    let (elliptic, rsa) = (Signer::elliptic("e1"), Signer::rsa("r1"));
    let issuer = Issuer::start(&[&elliptic, &rsa]).await;
    let git = fake::http().tool("log");
    let gate = guarded(&issuer, &git, "").await;
    for signer in [&elliptic, &rsa] {
        let known = gate.with_token(&signer.sign(&issuer.claims()));
        assert_eq!(known.modern().call("log").await["content"][0]["text"], "log ran");
        assert_eq!(
            known.legacy("2025-11-25").await.call("log").await["content"][0]["text"],
            "log ran"
        );
    }
    assert_eq!(issuer.fetched(), 1, "one fetch for all");
    let sent = git.all();
    assert!(sent.iter().all(|seen| seen.headers.get("authorization").is_none()), "it stays here");
}

#[tokio::test]
async fn who_says_nothing_learns_where_to_log_in() {
    let signer = Signer::elliptic("e1");
    let issuer = Issuer::start(&[&signer]).await;
    let git = fake::http().tool("log");
    let gate = guarded(&issuer, &git, "scopes = [\"mcp:use\", \"mcp:write\"]").await;
    let reply = gate.modern().start("tools/list", json!({})).await;
    assert_eq!(reply.status, 401);
    let url = "https://gate.example.com/.well-known/oauth-protected-resource/mcp";
    let wanted = format!("Bearer scope=\"mcp:use mcp:write\", resource_metadata=\"{url}\"");
    assert_eq!(challenge(&reply), wanted);
    for path in
        ["/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-protected-resource"]
    {
        let reply = gate.at(path).send(hyper::Method::GET, &[], b"").await;
        assert_eq!(reply.status, 200, "{path}");
        let metadata: Value = serde_json::from_slice(&reply.bytes().await).unwrap();
        let wanted = json!({
            "resource": AUDIENCE, "authorization_servers": [issuer.url],
            "bearer_methods_supported": ["header"], "scopes_supported": ["mcp:use", "mcp:write"],
        });
        assert_eq!(metadata, wanted);
    }
    let elsewhere = gate.at("/.well-known/oauth-protected-resource/other");
    assert_eq!(elsewhere.send(hyper::Method::GET, &[], b"").await.status, 404);
    let short = calls(&gate, &signer.sign(&issuer.claims())).await;
    assert_eq!(short.status, 403);
    assert!(challenge(&short).contains("error=\"insufficient_scope\""), "{}", challenge(&short));
    let whole = changed(&issuer.claims(), "scope", json!("mcp:write other mcp:use"));
    assert_eq!(calls(&gate, &signer.sign(&whole)).await.status, 200);
}

/// Tokens that are wrong in one thing; each with what its holder reads.
#[allow(clippy::too_many_lines, reason = "a table")]
fn attacks(
    issuer: &Issuer,
    signer: &Signer,
    rsa: &Signer,
    other: &Signer,
) -> Vec<(&'static str, String)> {
    let good = issuer.claims();
    let sign = |key: &str, value: Value| signer.sign(&changed(&good, key, value));
    let header = |change: fn(&mut Header)| {
        let mut header = signer.header();
        change(&mut header);
        signer.sign_with(&header, &good)
    };
    let hmac = |secret: &[u8]| {
        let header = Header { kid: Some(rsa.id.to_owned()), ..Header::new(Algorithm::HS256) };
        jsonwebtoken::encode(&header, &good, &EncodingKey::from_secret(secret)).unwrap()
    };
    let valid = signer.sign(&good);
    let parts: Vec<_> = valid.split('.').collect();
    let admin = base64(changed(&good, "sub", json!("admin")));
    let foreign = Header { kid: Some(signer.id.to_owned()), ..Header::new(Algorithm::ES256) };
    let mut embedded = foreign.clone();
    embedded.jwk = serde_json::from_value(other.public()).unwrap();
    let modulus = rsa.public()["n"].as_str().unwrap().to_owned();
    vec![
        ("expired", sign("exp", json!(now() - 3_600))),
        ("no expiry", sign("exp", Value::Null)),
        ("expiry as a text", sign("exp", json!("9999999999"))),
        ("expiry below zero", sign("exp", json!(-1))),
        ("not valid yet", sign("nbf", json!(now() + 3_600))),
        ("another audience", sign("aud", json!("https://elsewhere.example.com/mcp"))),
        ("an audience that begins alike", sign("aud", json!("https://gate.example.com/mcp2"))),
        ("audiences of others", sign("aud", json!(["a", "b"]))),
        ("an audience that is an object", sign("aud", json!({ AUDIENCE: true }))),
        ("no audience", sign("aud", Value::Null)),
        ("another issuer", sign("iss", json!("https://evil.example.com"))),
        ("an issuer that begins alike", sign("iss", json!(format!("{}/", issuer.url)))),
        ("no issuer", sign("iss", Value::Null)),
        ("no subject", sign("sub", Value::Null)),
        ("an empty subject", sign("sub", json!(""))),
        ("a subject that is no text", sign("sub", json!(["ada"]))),
        ("unsigned", forged(json!({ "alg": "none" }), &good, b"")),
        ("unsigned in capitals", forged(json!({ "alg": "NONE", "kid": "e1" }), &good, b"")),
        ("unsigned but signed", forged(json!({ "alg": "none", "kid": "e1" }), &good, &[1; 64])),
        ("no algorithm", forged(json!({ "kid": "e1" }), &good, &[1; 64])),
        ("a secret: the public key as PEM", hmac(rsa.public_pem.as_bytes())),
        ("a secret: the public key's modulus", hmac(modulus.as_bytes())),
        ("a secret: the decoded modulus", hmac(&URL_SAFE_NO_PAD.decode(&modulus).unwrap())),
        ("a secret: nothing", hmac(b"")),
        ("another's key under a known id", other.sign_with(&foreign, &good)),
        ("its own key in the header", other.sign_with(&embedded, &good)),
        ("a key by address", {
            let mut header = foreign.clone();
            header.jku = Some("https://evil.example.com/keys".to_owned());
            other.sign_with(&header, &good)
        }),
        ("a certificate by address", {
            let mut header = foreign.clone();
            header.x5u = Some("https://evil.example.com/cert".to_owned());
            other.sign_with(&header, &good)
        }),
        ("an unknown key", header(|header| header.kid = Some("unknown".to_owned()))),
        ("a path for a key", header(|header| header.kid = Some("../../dev/null".to_owned()))),
        ("a query for a key", header(|header| header.kid = Some("' OR '1'='1".to_owned()))),
        ("a critical header", header(|header| header.crit = Some(vec!["exp".to_owned()]))),
        ("another type", header(|header| header.typ = Some("logout+jwt".to_owned()))),
        (
            "an algorithm of another kind of key",
            forged(json!({ "alg": "RS256", "kid": "e1" }), &good, &[1; 256]),
        ),
        ("other claims under a signature", format!("{}.{admin}.{}", parts[0], parts[2])),
        ("a signature of zeros", forged(json!({ "alg": "ES256", "kid": "e1" }), &good, &[0; 64])),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("half a signature", format!("{}.{}.{}", parts[0], parts[1], &parts[2][..40])),
        ("two parts", format!("{}.{}", parts[0], parts[1])),
        ("four parts", format!("{valid}.{}", parts[2])),
        ("five parts", format!("{}.{valid}.{}", parts[0], parts[2])),
        ("padding", format!("{valid}==")),
        ("no token at all", "x".to_owned()),
        (
            "claims that are no object",
            forged(json!({ "alg": "ES256", "kid": "e1" }), &json!([1]), &[1; 64]),
        ),
        ("too long", signer.sign(&changed(&good, "pad", json!("x".repeat(16 << 10))))),
    ]
}

#[tokio::test]
async fn every_attack_on_tokens_is_refused() {
    let (signer, rsa, other) = (Signer::elliptic("e1"), Signer::rsa("r1"), Signer::elliptic("e2"));
    let issuer = Issuer::start(&[&signer, &rsa]).await;
    let git = fake::http().tool("log");
    let gate = guarded(&issuer, &git, "").await;
    let attacks = attacks(&issuer, &signer, &rsa, &other);
    assert!(40 <= attacks.len());
    for (what, token) in attacks {
        let reply = calls(&gate, &token).await;
        assert_eq!(reply.status, 401, "{what}");
        let told = challenge(&reply);
        assert!(
            told.starts_with("Bearer error=\"invalid_token\", error_description=\""),
            "{what}: {told}"
        );
        let text = reply.bytes().await;
        let text = String::from_utf8_lossy(&text);
        assert!(!text.contains(&issuer.url) && !text.contains("ada"), "{what}: {text}");
    }
    assert!(git.seen("tools/call").is_empty());
    assert_eq!(calls(&gate, &signer.sign(&issuer.claims())).await.status, 200);
    assert!(
        issuer.fetched() <= 2,
        "unknown ids of keys are no way to make the gate ask: {}",
        issuer.fetched()
    );
}

/// The head of a request ends before a token of a megabyte does.
#[tokio::test]
async fn a_token_of_a_megabyte_costs_little() {
    let signer = Signer::elliptic("e1");
    let issuer = Issuer::start(&[&signer]).await;
    let gate = guarded(&issuer, &fake::http().tool("log"), "").await;
    let huge = signer.sign(&changed(&issuer.claims(), "pad", json!("x".repeat(1 << 20))));
    assert_eq!(calls(&gate, &huge).await.status, 431);
    assert_eq!(issuer.fetched(), 0);
}

#[tokio::test]
async fn new_keys_are_found_and_old_ones_forgotten() {
    let (old, new) = (Signer::elliptic("old"), Signer::elliptic("new"));
    let issuer = Issuer::start(&[&old]).await;
    let gate = gateway()
        .server("public_url = \"https://gate.example.com\"")
        .upstream("git", &fake::http().tool("log"))
        .route("/mcp", "upstreams = [\"git\"]\nauth = [\"corp\"]")
        .extra(&format!("{}fetch_pause = \"0s\"\n", issuer.section()))
        .start()
        .await;
    assert_eq!(calls(&gate, &old.sign(&issuer.claims())).await.status, 200);
    issuer.has(&[&new]);
    assert_eq!(calls(&gate, &new.sign(&issuer.claims())).await.status, 200);
    let fresh = changed(&issuer.claims(), "jti", json!("another"));
    assert_eq!(calls(&gate, &old.sign(&fresh)).await.status, 401, "its key is gone");
}

#[tokio::test]
async fn an_outage_of_the_issuer_locks_nobody_out() {
    let signer = Signer::elliptic("e1");
    let issuer = Issuer::start(&[&signer]).await;
    let gate = guarded(&issuer, &fake::http().tool("log"), "").await;
    issuer.state.down.store(true, Ordering::SeqCst);
    let early = calls(&gate, &signer.sign(&issuer.claims())).await;
    assert_eq!(early.status, 503, "nobody can tell yet");
    assert!(early.headers.contains_key("retry-after"));
    issuer.state.down.store(false, Ordering::SeqCst);
    let gate = guarded(&issuer, &fake::http().tool("log"), "").await;
    assert_eq!(calls(&gate, &signer.sign(&issuer.claims())).await.status, 200);
    issuer.state.down.store(true, Ordering::SeqCst);
    let fresh = changed(&issuer.claims(), "jti", json!("another"));
    assert_eq!(calls(&gate, &signer.sign(&fresh)).await.status, 200, "by the keys from before");
}

#[tokio::test]
async fn sessions_states_and_streams_are_their_callers() {
    let signer = Signer::elliptic("e1");
    let issuer = Issuer::start(&[&signer]).await;
    let git = fake::legacy("2025-11-25").tool("log");
    let gate = guarded(&issuer, &git, "").await;
    let token = |subject: &str| signer.sign(&changed(&issuer.claims(), "sub", json!(subject)));
    let ada = gate.with_token(&token("ada")).legacy("2025-11-25").await;
    let mut eve = gate.with_token(&token("eve")).client("2025-11-25", json!({}));
    eve.session.clone_from(&ada.session);
    assert_eq!(eve.start("tools/list", json!({})).await.status, 404, "another's session");
    let renewed = changed(&issuer.claims(), "jti", json!("renewed"));
    let mut again = gate.with_token(&signer.sign(&renewed)).client("2025-11-25", json!({}));
    again.session.clone_from(&ada.session);
    assert_eq!(again.tools().await, ["log"], "a new token of the same caller goes on");
    let mut nobody = gate.client("2025-11-25", json!({}));
    nobody.session.clone_from(&ada.session);
    assert_eq!(nobody.start("tools/list", json!({})).await.status, 401);
}

#[tokio::test]
async fn several_authorities_are_asked_in_their_order() {
    let (first, second) = (Signer::elliptic("k"), Signer::elliptic("k"));
    let (one, two) = (Issuer::start(&[&first]).await, Issuer::start(&[&second]).await);
    let key = tollgate_key();
    let sections = format!(
        "{}[auth.other]\nkind = \"jwt\"\nissuer = \"{}\"\naudience = [\"api\"]\ngroups_claim = \"realm.roles\"\n{}",
        one.section(),
        two.url,
        key.section,
    );
    let gate = gateway()
        .server("public_url = \"https://gate.example.com\"")
        .upstream("git", &fake::http().tool("log"))
        .route("/mcp", "upstreams = [\"git\"]\nauth = [\"corp\", \"other\", \"agents\"]")
        .route("/keys", "upstreams = [\"git\"]\nauth = [\"agents\"]")
        .route("/open", "upstreams = [\"git\"]\nauth = \"none\"")
        .extra(&sections)
        .start()
        .await;
    assert_eq!(calls(&gate, &first.sign(&one.claims())).await.status, 200);
    let other = changed(&two.claims(), "aud", json!(["api", "x"]));
    assert_eq!(calls(&gate, &second.sign(&other)).await.status, 200);
    assert_eq!(
        calls(&gate, &second.sign(&two.claims())).await.status,
        401,
        "its audience is another"
    );
    assert_eq!(calls(&gate, &key.key).await.status, 200);
    assert_eq!(calls(&gate.at("/keys"), &key.key).await.status, 200);
    let by_header = gate.at("/keys").modern();
    let request = by_header.request("tools/list", json!({}));
    assert_eq!(by_header.post_with(&request, &[("x-api-key", &key.key)]).await.status, 200);
    let refused = calls(&gate.at("/keys"), &first.sign(&one.claims())).await;
    assert_eq!((refused.status, challenge(&refused).contains("resource_metadata")), (401, false));
    assert_eq!(gate.at("/open").modern().tools().await, ["log"]);
    let metadata = gate.at("/.well-known/oauth-protected-resource/keys");
    assert_eq!(
        metadata.send(hyper::Method::GET, &[], b"").await.status,
        404,
        "nobody can log in there"
    );
}

#[tokio::test]
async fn each_route_has_its_own_metadata_wherever_the_gate_is() {
    let signer = Signer::elliptic("e1");
    let issuer = Issuer::start(&[&signer]).await;
    let gate = gateway()
        .server("public_url = \"https://gate.example.com/behind/\"")
        .upstream("git", &fake::http().tool("log"))
        .route("/mcp", "upstreams = [\"git\"]\nauth = [\"corp\"]")
        .route("/", "upstreams = [\"git\"]\nauth = [\"corp\"]")
        .extra(&issuer.section())
        .start()
        .await;
    for (path, resource) in
        [("/mcp", "https://gate.example.com/behind/mcp"), ("/", "https://gate.example.com/behind/")]
    {
        let told = challenge(&gate.at(path).modern().start("tools/list", json!({})).await);
        let url = told.split("resource_metadata=\"").nth(1).unwrap().trim_end_matches('"');
        let place = url.strip_prefix("https://gate.example.com").unwrap();
        let reply = gate.at(place).send(hyper::Method::GET, &[], b"").await;
        assert_eq!(reply.status, 200, "{url}");
        let metadata: Value = serde_json::from_slice(&reply.bytes().await).unwrap();
        assert_eq!(metadata["resource"], resource);
        let claims = changed(&issuer.claims(), "aud", json!(resource));
        assert_eq!(calls(&gate.at(path), &signer.sign(&claims)).await.status, 200);
    }
}

#[tokio::test]
async fn a_key_that_is_taken_away_is_refused_at_once() {
    let key = tollgate_key();
    let gate = gateway()
        .upstream("git", &fake::http().tool("log"))
        .route("/mcp", "upstreams = [\"git\"]\nauth = [\"agents\"]")
        .extra(&key.section)
        .start()
        .await;
    assert_eq!(calls(&gate, &key.key).await.status, 200);
    let other = tollgate_key();
    gate.edit(|text| text.replace(&key.section, &other.section));
    let taken = async {
        while calls(&gate, &key.key).await.status == 200 {
            tokio::task::yield_now().await;
        }
    };
    crate::soon("the key to be refused", taken).await;
    assert_eq!(calls(&gate, &other.key).await.status, 200);
}

/// The socket stays where it is until the gate ends: two edits in turn open nothing either.
#[tokio::test]
async fn no_edit_opens_a_route_on_the_socket_that_is_bound() {
    let key = tollgate_key();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("routes.toml");
    let write = |listen: &str, auth: &str| {
        let upstream = "[upstreams.gate]\nbuiltin = \"gate\"\n";
        let route = format!("[routes.\"/mcp\"]\nupstreams = [\"gate\"]\n{auth}\n");
        let text = format!("[server]\nlisten = \"{listen}\"\n{route}{upstream}{}", key.section);
        std::fs::write(&path, text).unwrap();
    };
    write("0.0.0.0:0", "auth = [\"agents\"]");
    let options = tollgate::app::Options {
        config: path.clone(),
        watch: true,
        ..tollgate::app::Options::default()
    };
    let gate = tollgate::app::start(options).await.unwrap();
    let port = gate.address().port();
    let counted = |name: &str| {
        let report = serde_json::to_value(gate.viewer().report()).unwrap();
        (report["counters"][name] == 1).then_some(())
    };
    write("127.0.0.1:0", "auth = [\"agents\"]");
    crate::eventually("the first edit is applied", || counted("reloads")).await;
    write("127.0.0.1:0", "");
    crate::eventually("the second edit is refused", || counted("reloads_refused")).await;
    let reached = crate::client::endpoint(([127, 0, 0, 1], port).into(), "/mcp");
    assert_eq!(reached.modern().start("tools/list", json!({})).await.status, 401);
    gate.stop().await;
}

pub struct Made {
    pub key: String,
    pub section: String,
}

/// A key as `tollgate key new` makes it: the words are those of its section.
pub fn tollgate_key() -> Made {
    use sha2::{Digest as _, Sha256};
    let id = format!("{:016x}", rand::random::<u64>());
    let key = format!("tg_{id}_{}", URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()));
    let hash: String = Sha256::digest(&key).iter().map(|byte| format!("{byte:02x}")).collect();
    let section = format!(
        "[auth.agents]\nkind = \"keys\"\n[auth.agents.keys.{id}]\nhash = \"sha256:{hash}\"\ncaller = \"ci\"\n"
    );
    Made { key, section }
}
