//! An issuer that is slow, silent, or says too much: nobody else's logins wait for it.

use std::sync::atomic::Ordering;

use serde_json::json;

use super::{Issuer, Signer, calls, changed, guarded};
use crate::{fake, gate::gateway, soon};

/// Short enough to be waited for, and far longer than an answer on this machine takes.
const BOUNDS: &str = "fetch_timeout = \"300ms\"\nfetch_pause = \"0s\"\n";

#[tokio::test]
async fn one_that_hangs_costs_its_own_callers_alone() {
    let (signer, other) = (Signer::elliptic("e1"), Signer::elliptic("e2"));
    let (silent, well) = (Issuer::start(&[&signer]).await, Issuer::start(&[&other]).await);
    silent.state.hangs.store(true, Ordering::SeqCst);
    let second = well.section().replace("auth.corp", "auth.other");
    let gate = gateway()
        .server("public_url = \"https://gate.example.com\"")
        .upstream("git", &fake::http().tool("log"))
        .route("/mcp", "upstreams = [\"git\"]\nauth = [\"corp\", \"other\"]")
        // Longer than any test waits.
        .extra(&format!("{}fetch_timeout = \"1m\"\n{second}", silent.section()))
        .start()
        .await;
    let token = signer.sign(&silent.claims());
    let waiting = calls(&gate, &token);
    tokio::pin!(waiting);
    let others = async {
        for _ in 0..3 {
            assert_eq!(calls(&gate, &other.sign(&well.claims())).await.status, 200);
        }
    };
    tokio::select! {
        reply = &mut waiting => panic!("nobody can tell, and {} was told", reply.status),
        () = soon("calls of the other issuer", others) => (),
    }
}

#[tokio::test]
async fn silence_is_waited_for_within_bounds_and_told() {
    let signer = Signer::elliptic("e1");
    let issuer = Issuer::start(&[&signer]).await;
    issuer.state.hangs.store(true, Ordering::SeqCst);
    let gate = gateway()
        .server("public_url = \"https://gate.example.com\"")
        .upstream("git", &fake::http().tool("log"))
        .route("/mcp", "upstreams = [\"git\"]\nauth = [\"corp\"]")
        .extra(&format!("{}{BOUNDS}", issuer.section()))
        .start()
        .await;
    let reply = calls(&gate, &signer.sign(&issuer.claims())).await;
    assert_eq!(reply.status, 503);
    assert!(reply.headers.contains_key("retry-after"));
    issuer.state.hangs.store(false, Ordering::SeqCst);
    assert_eq!(calls(&gate, &signer.sign(&issuer.claims())).await.status, 200);
}

/// Old keys are used while new ones cannot be had, also for a token that names another.
#[tokio::test]
async fn keys_from_before_are_used_while_it_hangs() {
    let signer = Signer::elliptic("e1");
    let issuer = Issuer::start(&[&signer]).await;
    let gate = gateway()
        .server("public_url = \"https://gate.example.com\"")
        .upstream("git", &fake::http().tool("log"))
        .route("/mcp", "upstreams = [\"git\"]\nauth = [\"corp\"]")
        .extra(&format!("{}{BOUNDS}", issuer.section()))
        .start()
        .await;
    assert_eq!(calls(&gate, &signer.sign(&issuer.claims())).await.status, 200);
    issuer.state.hangs.store(true, Ordering::SeqCst);
    let strange = Signer::elliptic("e9");
    assert_eq!(calls(&gate, &strange.sign(&issuer.claims())).await.status, 401);
    let fresh = changed(&issuer.claims(), "jti", json!("another"));
    assert_eq!(calls(&gate, &signer.sign(&fresh)).await.status, 200);
}

#[tokio::test]
async fn keys_without_end_are_not_read() {
    let signer = Signer::elliptic("e1");
    let issuer = Issuer::start(&[&signer]).await;
    issuer.state.padding.store(4 << 20, Ordering::SeqCst);
    let gate = guarded(&issuer, &fake::http().tool("log"), "").await;
    assert_eq!(calls(&gate, &signer.sign(&issuer.claims())).await.status, 503);
    assert_eq!(issuer.fetched(), 1);
}

#[tokio::test]
async fn made_up_keys_make_the_gate_ask_once_in_a_while() {
    let signer = Signer::elliptic("e1");
    let issuer = Issuer::start(&[&signer]).await;
    let gate = gateway()
        .server("public_url = \"https://gate.example.com\"\nlimits.failed_logins = \"1000/s\"")
        .upstream("git", &fake::http().tool("log"))
        .route("/mcp", "upstreams = [\"git\"]\nauth = [\"corp\"]")
        .extra(&issuer.section())
        .start()
        .await;
    let flood = (0..60).map(async |number| {
        let mut header = signer.header();
        header.kid = Some(format!("made up {number}"));
        calls(&gate, &signer.sign_with(&header, &issuer.claims())).await.status
    });
    let refused = futures_util::future::join_all(flood).await;
    assert!(refused.iter().all(|status| *status == 401), "{refused:?}");
    assert!(issuer.fetched() <= 2, "{} fetches", issuer.fetched());
    assert_eq!(calls(&gate, &signer.sign(&issuer.claims())).await.status, 200);
}
