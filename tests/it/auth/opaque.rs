//! Tokens that only their issuer can read: it is asked, seldom, and believed in what it says only.

use std::sync::{Arc, atomic::Ordering};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{AUDIENCE, Issuer, calls, challenge, changed, now, tollgate_key};
use crate::{
    eventually, fake,
    gate::{Gate, gateway},
};

async fn asking(issuer: &Issuer, keys: &str, git: &fake::Fake) -> Gate {
    asking_with(issuer, keys, git, "1000/s").await
}

/// The same where so many logins may fail.
async fn asking_with(issuer: &Issuer, keys: &str, git: &fake::Fake, failed: &str) -> Gate {
    // Read when the gate starts, and looked at again: it stays until the end of the process.
    let folder = tempfile::tempdir().unwrap().keep();
    let secret = folder.join("secret");
    std::fs::write(&secret, "s3c:ret\n").unwrap();
    let section = format!(
        "[auth.opaque]\nkind = \"introspection\"\nurl = \"{}/introspect\"\n\
         client_id = \"gate way\"\n\
         client_secret = \"file:{}\"\n{keys}\n",
        issuer.url,
        secret.display()
    );
    gateway()
        .server(&format!(
            "public_url = \"https://gate.example.com\"\nlimits.failed_logins = \"{failed}\""
        ))
        .upstream("git", git)
        .route("/mcp", "upstreams = [\"git\"]\nauth = [\"opaque\"]\nscopes = [\"mcp:use\"]")
        .extra(&section)
        .start()
        .await
}

/// What an issuer says of a token that is good.
fn good(issuer: &Issuer) -> Value {
    changed(&issuer.claims(), "active", json!(true))
}

#[tokio::test]
async fn it_is_asked_once_for_all_who_come_with_a_token() {
    let issuer = Issuer::start(&[]).await;
    let git = fake::http().tool("log");
    let gate = asking(&issuer, &format!("issuer = \"{}\"", issuer.url), &git).await;
    issuer.knows("ada-s.token", good(&issuer));
    let hold = Arc::new(Notify::new());
    *issuer.state.held.lock() = Some(Arc::clone(&hold));
    let all = (0..8).map(|_| calls(&gate, "ada-s.token"));
    let let_go = async {
        eventually("it is asked", || (0 < issuer.asked()).then_some(())).await;
        *issuer.state.held.lock() = None;
        hold.notify_waiters();
    };
    let (replies, ()) = tokio::join!(futures_util::future::join_all(all), let_go);
    assert!(replies.iter().all(|reply| reply.status == 200));
    assert_eq!(calls(&gate, "ada-s.token").await.status, 200);
    assert_eq!(issuer.asked(), 1);
    let (form, who) = issuer.state.asked.lock()[0].clone();
    assert_eq!(form, "token=ada-s.token&token_type_hint=access_token");
    assert_eq!(who, format!("Basic {}", STANDARD.encode("gate+way:s3c%3Aret")));
    assert!(git.all().iter().all(|seen| !seen.headers.contains_key("authorization")));
    let told = challenge(&gate.modern().start("tools/list", json!({})).await);
    assert!(told.contains("resource_metadata"), "clients can log in: {told}");
}

#[tokio::test]
async fn it_is_believed_in_what_it_says_only() {
    let issuer = Issuer::start(&[]).await;
    let gate = asking(&issuer, &format!("issuer = \"{}\"", issuer.url), &fake::http()).await;
    let good = good(&issuer);
    for (what, claims, want) in [
        ("good", good.clone(), 200),
        ("several audiences", changed(&good, "aud", json!(["x", AUDIENCE])), 200),
        ("without an end", changed(&good, "exp", Value::Null), 200),
        ("of a type", changed(&good, "token_type", json!("Bearer")), 200),
        ("not active", changed(&good, "active", json!(false)), 401),
        ("active as a text", changed(&good, "active", json!("true")), 401),
        ("active as a number", changed(&good, "active", json!(1)), 401),
        ("no word of active", changed(&good, "active", Value::Null), 401),
        ("nothing", json!({}), 401),
        ("expired", changed(&good, "exp", json!(now() - 3_600)), 401),
        ("an end that is none", changed(&good, "exp", json!("soon")), 401),
        ("not valid yet", changed(&good, "nbf", json!(now() + 3_600)), 401),
        ("another audience", changed(&good, "aud", json!("https://gate.example.com/mcp2")), 401),
        ("no audience", changed(&good, "aud", Value::Null), 401),
        ("another issuer", changed(&good, "iss", json!("https://evil.example.com")), 401),
        ("no subject", changed(&good, "sub", Value::Null), 401),
        ("an empty subject", changed(&good, "sub", json!("")), 401),
        ("a refresh token", changed(&good, "token_use", json!("refresh_token")), 401),
        ("another type", changed(&good, "token_type", json!("DPoP")), 401),
        ("no scope", changed(&good, "scope", json!("mcp:other")), 403),
    ] {
        let token = what.replace(' ', "-");
        issuer.knows(&token, claims);
        let client = gate.with_token(&token).modern();
        assert_eq!(client.start("tools/list", json!({})).await.status, want, "{what}");
    }
}

#[tokio::test]
async fn what_is_refused_is_not_asked_about_again_at_once() {
    let issuer = Issuer::start(&[]).await;
    let gate = asking(&issuer, "", &fake::http().tool("log")).await;
    for _ in 0..5 {
        assert_eq!(calls(&gate, "unknown").await.status, 401);
    }
    assert_eq!(issuer.asked(), 1);
    for odd in ["a b", "ä", "a&token=b", "\"x\"", &"x".repeat(17 << 10)] {
        let bearer = format!("Bearer {odd}");
        let headers = [("authorization", &*bearer), ("content-type", "application/json")];
        let reply = gate.send(hyper::Method::POST, &headers, b"{}").await;
        assert!([400, 401].contains(&reply.status), "{odd:.10}");
    }
    assert_eq!(calls(&gate, &tollgate_key().key).await.status, 401);
    assert_eq!(issuer.asked(), 1, "what can be no token of its is not shown to it");
}

#[tokio::test]
async fn remembering_ends_with_the_token_or_before() {
    let issuer = Issuer::start(&[]).await;
    let keys = "remember = \"0s\"\nremember_refused = \"0s\"";
    let gate = asking(&issuer, keys, &fake::http().tool("log")).await;
    issuer.knows("t", good(&issuer));
    assert_eq!(calls(&gate, "t").await.status, 200);
    issuer.knows("t", json!({ "active": false }));
    assert_eq!(calls(&gate, "t").await.status, 401, "it was revoked");
    issuer.knows("t", good(&issuer));
    assert_eq!(calls(&gate, "t").await.status, 200);
    assert_eq!(issuer.asked(), 3);
}

/// Nobody is let in whom nobody vouches for.
#[tokio::test]
async fn an_outage_is_told_and_never_lets_in() {
    let issuer = Issuer::start(&[]).await;
    let keys = "fetch_timeout = \"200ms\"\noutage_pause = \"0s\"";
    let gate = asking(&issuer, keys, &fake::http().tool("log")).await;
    issuer.knows("known", good(&issuer));
    assert_eq!(calls(&gate, "known").await.status, 200);
    for mode in [&issuer.state.down, &issuer.state.hangs] {
        mode.store(true, Ordering::SeqCst);
        let reply = calls(&gate, "fresh").await;
        assert_eq!(reply.status, 503);
        assert!(reply.headers.contains_key("retry-after"));
        let text = reply.text().await;
        assert!(text.contains("cannot be checked") && !text.contains("127.0.0.1"), "{text}");
        assert_eq!(calls(&gate, "known").await.status, 200, "by what was said before");
        mode.store(false, Ordering::SeqCst);
    }
    issuer.knows("fresh", good(&issuer));
    assert_eq!(calls(&gate, "fresh").await.status, 200);
}

#[tokio::test]
async fn a_silent_issuer_is_left_alone_for_a_while() {
    let issuer = Issuer::start(&[]).await;
    issuer.state.hangs.store(true, Ordering::SeqCst);
    let keys = "fetch_timeout = \"50ms\"\noutage_pause = \"1m\"";
    let gate = asking(&issuer, keys, &fake::http().tool("log")).await;
    for token in ["a", "b", "c", "d"] {
        assert_eq!(calls(&gate, token).await.status, 503);
    }
    assert_eq!(issuer.asked(), 1);
}

/// A token that was good is asked about again, also where too many others from there were not; one
/// that never was is not.
#[tokio::test]
async fn what_was_good_is_asked_about_again() {
    let issuer = Issuer::start(&[]).await;
    let git = fake::http().tool("log");
    let keys = format!("issuer = \"{}\"\nremember = \"1s\"", issuer.url);
    let gate = asking(&issuer, &keys, &git).await;
    gate.edit(|text| text.replace("\"1000/s\"", "\"3/h\""));
    eventually("the edit is applied", || {
        (gate.app().viewer().report().counters["reloads"] == 1).then_some(())
    })
    .await;
    issuer.knows("ada-s.token", good(&issuer));
    assert_eq!(calls(&gate, "ada-s.token").await.status, 200);
    for guess in ["a", "b", "c"] {
        assert_eq!(calls(&gate, guess).await.status, 401);
    }
    issuer.knows("eve-s.token", good(&issuer));
    assert_eq!(calls(&gate, "eve-s.token").await.status, 429, "it may be a guess");
    let asked = issuer.asked();
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    assert_eq!(calls(&gate, "ada-s.token").await.status, 200, "forgotten, and asked about again");
    assert_eq!(issuer.asked(), asked + 1);
    issuer.knows("ada-s.token", json!({ "active": false }));
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    assert_eq!(calls(&gate, "ada-s.token").await.status, 429, "it was taken away meanwhile");
    assert_eq!(issuer.asked(), asked + 2);
    assert_eq!(calls(&gate, "ada-s.token").await.status, 429);
    assert_eq!(issuer.asked(), asked + 2, "and is a guess from now on");
}

/// Ten who were let in before somebody at their address guessed too often: each is let in all the
/// same, and nobody is asked about them again; whom nobody knows yet is a guess like the others.
#[tokio::test]
async fn who_was_let_in_before_is_let_in_while_others_guess_beside_it() {
    let issuer = Issuer::start(&[]).await;
    let git = fake::http().tool("log");
    let gate = asking_with(&issuer, "", &git, "3/h").await;
    let known: Vec<_> = (0..10).map(|number| format!("known-{number}")).collect();
    for (number, token) in known.iter().enumerate() {
        let claims = changed(&good(&issuer), "sub", json!(format!("caller-{}", number / 2)));
        issuer.knows(token, claims);
        assert_eq!(calls(&gate, token).await.status, 200, "{token}");
    }
    issuer.knows("late", good(&issuer));
    for guess in ["guess-1", "guess-2", "guess-3"] {
        assert_eq!(calls(&gate, guess).await.status, 401, "{guess}");
    }
    let asked = issuer.asked();
    for guess in ["guess-4", "guess-1", "late"] {
        assert_eq!(calls(&gate, guess).await.status, 429, "{guess}");
    }
    for token in known.iter().rev().chain(&known) {
        assert_eq!(calls(&gate, token).await.status, 200, "{token}");
    }
    assert_eq!(issuer.asked(), asked, "nobody is asked about a guess, nor about who is known");
}
