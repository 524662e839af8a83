//! Streams that are open when their caller's key is taken away, or its proof ends.

use serde_json::json;

use super::{Issuer, Made, Signer, changed, guarded, now, tollgate_key};
use crate::{
    client::Reply,
    eventually, fake,
    gate::{Gate, gateway},
    soon,
};

async fn keyed(key: &Made) -> Gate {
    gateway()
        .upstream("git", &fake::http().tool("log"))
        .route("/mcp", "upstreams = [\"git\"]\nauth = [\"agents\"]")
        .extra(&key.section)
        .start()
        .await
}

/// The streams of both eras, and of the older HTTP+SSE.
async fn streams(gate: &Gate, token: &str) -> [Reply; 3] {
    let known = gate.with_token(token);
    let older = crate::client::Endpoint { path: "/mcp/sse".to_owned(), ..known.clone() };
    let accept = [("accept", "text/event-stream")];
    [
        known.modern().listen().await,
        known.legacy("2025-11-25").await.listen().await,
        older.send(hyper::Method::GET, &accept, b"").await,
    ]
}

async fn end(streams: [Reply; 3]) {
    for (mut stream, what) in streams.into_iter().zip(["modern", "legacy", "older"]) {
        assert_eq!(stream.status, 200, "{what}");
        let over = async { while stream.event().await.is_some() {} };
        soon(&format!("the end of the {what} stream"), over).await;
    }
}

#[tokio::test]
async fn a_key_that_is_taken_away_takes_its_streams_with_it() {
    let (key, other) = (tollgate_key(), tollgate_key());
    let gate = keyed(&key).await;
    let open = streams(&gate, &key.key).await;
    gate.edit(|text| text.replace(&key.section, &other.section));
    end(open).await;
    let report = serde_json::to_value(gate.app().viewer().report()).unwrap();
    assert_eq!(report["counters"]["streams_revoked"], 3);
}

/// Another key of the same section is added: nobody's stream ends.
#[tokio::test]
async fn an_edit_of_other_keys_ends_nothing() {
    let (key, other) = (tollgate_key(), tollgate_key());
    let gate = keyed(&key).await;
    let more = other.section.split_once("kind = \"keys\"\n").unwrap().1.to_owned();
    let mut modern = gate.with_token(&key.key).modern().listen().await;
    gate.edit(|text| {
        format!("{text}\n{more}")
            .replace("upstreams = [\"git\"]", "upstreams = [\"git\"]\ntools.hide = [\"log\"]")
    });
    soon("the change of the list", modern.until("notifications/tools/list_changed")).await;
    let counted = || serde_json::to_value(gate.app().viewer().report()).unwrap();
    assert_eq!(counted()["counters"]["streams_revoked"], 0);
    eventually("the other key is taken", || (counted()["counters"]["reloads"] == 1).then_some(()))
        .await;
}

#[tokio::test]
async fn a_token_that_ends_takes_its_streams_with_it() {
    let signer = Signer::elliptic("e1");
    let issuer = Issuer::start(&[&signer]).await;
    let gate = guarded(&issuer, &fake::http().tool("log"), "").await;
    // The leeway of half a minute has nearly passed.
    let short = changed(&issuer.claims(), "exp", json!(now() - 27));
    end(streams(&gate, &signer.sign(&short)).await).await;
}
