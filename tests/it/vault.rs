//! Secrets that a Vault keeps: a server that answers as Vault's API says, and what a gate does with
//! it.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::timeout};

use crate::{
    PATIENCE, eventually,
    fake::{self, Fake},
    gate::{Gate, gateway},
};

const TOKEN: &str = "hvs.test";

/// Key-value store of version 2, at `secret/`.
struct Vault {
    address: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    secrets: Mutex<HashMap<String, Value>>,
    /// In place of any answer.
    fails: Mutex<Option<StatusCode>>,
    asked: Mutex<Vec<String>>,
}

impl Vault {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/", listener.local_addr().unwrap());
        let state = Arc::<State>::default();
        let vault = Self { address, state: Arc::clone(&state) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&state);
                let service = service_fn(move |request| {
                    let reply = answer(&state, &request);
                    async move { Ok::<_, hyper::Error>(reply) }
                });
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(async move { drop(connection.await) });
            }
        });
        vault
    }

    fn keeps(&self, name: &str, fields: Value) {
        self.state.secrets.lock().insert(format!("/v1/secret/data/{name}"), fields);
    }

    fn fails(&self, status: Option<StatusCode>) {
        *self.state.fails.lock() = status;
    }

    fn asked(&self) -> Vec<String> {
        self.state.asked.lock().clone()
    }
}

fn answer(state: &State, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    state.asked.lock().push(path.to_owned());
    let reply = |status: StatusCode, body: Value| {
        let body = Full::new(Bytes::from(body.to_string()));
        Response::builder().status(status).body(body).unwrap()
    };
    if let Some(status) = *state.fails.lock() {
        return reply(status, json!({ "errors": ["secret words"] }));
    }
    if request.headers().get("x-vault-token").is_none_or(|token| token != TOKEN) {
        return reply(StatusCode::FORBIDDEN, json!({ "errors": ["permission denied"] }));
    }
    match state.secrets.lock().get(path) {
        Some(fields) => {
            let data = json!({ "data": fields, "metadata": { "version": 1 } });
            reply(StatusCode::OK, json!({ "request_id": "1", "data": data }))
        }
        None => reply(StatusCode::NOT_FOUND, json!({ "errors": [] })),
    }
}

/// A gate whose upstream is sent a secret in a header.
async fn gate(vault: &Vault, git: &Fake, token: &str) -> Gate {
    let key = "headers.X-Token = \"vault:secret/data/team/jobs#token\"";
    let plan = gateway().server("limits.vault_refresh = \"1s\"").upstream_with("git", git, key);
    plan.vault(&vault.address, token).open().await
}

/// Calls until the upstream is sent this.
async fn sent(gate: &Gate, git: &Fake, wanted: &str) {
    let client = gate.modern();
    let calls = async {
        loop {
            // Until it is there, nobody knows the tool.
            client.ask("tools/call", json!({ "name": "log" })).await;
            let calls = git.seen("tools/call");
            if calls.last().is_some_and(|call| call.header("x-token") == wanted) {
                return;
            }
        }
    };
    timeout(PATIENCE, calls).await.expect(wanted);
}

fn problem(gate: &Gate) -> String {
    let report = gate.app().viewer().report();
    report.upstreams[0].last_error.clone().unwrap_or_default()
}

#[tokio::test]
async fn a_secret_of_vault_is_there_at_the_start_and_changes_with_it() {
    let (vault, git) = (Vault::start().await, fake::http().tool("log"));
    vault.keeps("team/jobs", json!({ "token": "one", "other": 7 }));
    let gate = gate(&vault, &git, TOKEN).await;
    gate.settled().await;
    gate.modern().call("log").await;
    assert_eq!(git.seen("tools/call")[0].header("x-token"), "one", "with the first call");
    vault.keeps("team/jobs", json!({ "token": "two" }));
    sent(&gate, &git, "two").await;
    assert!(vault.asked().iter().all(|path| path == "/v1/secret/data/team/jobs"));
}

#[tokio::test]
async fn while_vault_is_away_the_last_secret_holds() {
    let (vault, git) = (Vault::start().await, fake::http().tool("log"));
    vault.keeps("team/jobs", json!({ "token": "one" }));
    let gate = gate(&vault, &git, TOKEN).await;
    gate.settled().await;
    vault.fails(Some(StatusCode::SERVICE_UNAVAILABLE));
    let failed = || {
        let counters = gate.app().viewer().report().counters;
        (2 <= counters["vault_failed"]).then_some(())
    };
    eventually("Vault was asked in vain", failed).await;
    sent(&gate, &git, "one").await;
    assert_eq!(gate.app().viewer().report().counters["reloads"], 0);
    vault.keeps("team/jobs", json!({ "token": "two" }));
    vault.fails(None);
    sent(&gate, &git, "two").await;
}

#[tokio::test]
async fn what_vault_does_not_have_is_missing_for_its_upstream_alone_until_it_has() {
    let (vault, git, db) =
        (Vault::start().await, fake::http().tool("log"), fake::http().tool("query"));
    let key = "headers.X-Token = \"vault:secret/data/team/jobs#token\"";
    let plan = gateway().server("limits.vault_refresh = \"1s\"");
    let plan = plan.upstream_with("git", &git, key).upstream("db", &db);
    let gate = plan.vault(&vault.address, TOKEN).open().await;
    gate.settled().await;
    assert!(
        problem(&gate).contains("`secret/data/team/jobs#token` is not known"),
        "{}",
        problem(&gate)
    );
    gate.modern().call("query").await;
    assert_eq!(db.seen("tools/call").len(), 1, "the others are served");
    vault.keeps("team/jobs", json!({ "token": "one" }));
    sent(&gate, &git, "one").await;
}

#[tokio::test]
async fn a_token_that_may_not_read_it_is_no_secret_and_nothing_is_shown() {
    let (vault, git) = (Vault::start().await, fake::http().tool("log"));
    vault.keeps("team/jobs", json!({ "token": "one" }));
    let gate = gate(&vault, &git, "wrong").await;
    gate.settled().await;
    let shown = problem(&gate);
    assert!(shown.contains("is not known from Vault") && !shown.contains("wrong"), "{shown}");
    assert!(git.all().is_empty(), "without its secret nothing is sent");
}
