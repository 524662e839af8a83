//! What the servers behind the gate are shown: tokens of its own here, those of callers in
//! [`callers`].

mod callers;

use std::{collections::HashMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{fake, gate::gateway};

/// An authorization server that gives the tokens t1, t2, … to whoever asks.
pub struct Tokens {
    pub url: String,
    state: Arc<State>,
}

#[derive(Default)]
pub struct State {
    asked: Mutex<Vec<Asked>>,
    seconds: Mutex<u64>,
    refuses: Mutex<bool>,
}

#[derive(Clone)]
pub struct Asked {
    pub form: HashMap<String, String>,
    authorization: Option<String>,
}

impl Tokens {
    pub async fn start(seconds: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State { seconds: Mutex::new(seconds), ..State::default() });
        let tokens = Self { url: url.clone(), state: Arc::clone(&state) };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (url, state) = (url.clone(), Arc::clone(&state));
                let service = service_fn(move |request| {
                    let (url, state) = (url.clone(), Arc::clone(&state));
                    async move { Ok::<_, hyper::Error>(answer(&url, &state, request).await) }
                });
                let io = TokioIo::new(stream);
                let connection = http1::Builder::new().serve_connection(io, service);
                tokio::spawn(async move { drop(connection.await) });
            }
        });
        tokens
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.state.asked.lock().clone()
    }

    /// The keys of an upstream whose tokens are had here.
    fn section(&self) -> String {
        format!(
            "[upstreams.git.credential]\nkind = \"client_credentials\"\ntoken_url = \"{}/token\"\n\
             client_id = \"gate way\"\nclient_secret = \"file:secret\"\nscopes = [\"a\", \"b\"]\n",
            self.url
        )
    }
}

async fn answer(url: &str, state: &State, request: Request<Incoming>) -> Response<Full<Bytes>> {
    if request.uri().path() == "/.well-known/oauth-authorization-server" {
        let metadata = json!({ "issuer": url, "token_endpoint": format!("{url}/token") });
        return Response::new(Full::from(metadata.to_string()));
    }
    let authorization = request.headers().get("authorization");
    let authorization = authorization.map(|text| text.to_str().unwrap().to_owned());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(body.to_vec()).unwrap();
    let form = text.split('&').filter_map(|pair| pair.split_once('=')).map(|(key, value)| {
        (key.to_owned(), value.replace('+', " ").replace("%3A", ":").replace("%2F", "/"))
    });
    let mut asked = state.asked.lock();
    asked.push(Asked { form: form.collect(), authorization });
    if *state.refuses.lock() {
        let mut reply = Response::new(Full::from(r#"{"error":"invalid_client"}"#));
        *reply.status_mut() = 401.try_into().unwrap();
        return reply;
    }
    let token = json!({
        "access_token": format!("t{}", asked.len()), "token_type": "bearer",
        "expires_in": *state.seconds.lock(),
    });
    Response::new(Full::from(token.to_string()))
}

/// The gate's folder is made when it starts: the secret is put elsewhere.
pub fn secret() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, "s3c:ret\n").unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

#[tokio::test]
async fn one_token_is_for_all_and_goes_nowhere_else() {
    let (tokens, (_kept, secret)) = (Tokens::start(3_600).await, secret());
    for git in [fake::http(), fake::legacy("2025-11-25"), fake::sse("2024-11-05")] {
        let git = git.tool("log");
        let before = tokens.asked().len();
        git.wants_token(&format!("t{}", before + 1));
        let gate = gateway()
            .upstream("git", &git)
            .upstream("db", &fake::http().tool("query"))
            .extra(&tokens.section().replace("file:secret", &format!("file:{secret}")))
            .start()
            .await;
        for _ in 0..3 {
            let reply = gate.modern().start("tools/call", json!({ "name": "log" })).await;
            assert_eq!(reply.status, 200);
            let text = reply.bytes().await;
            let text = String::from_utf8_lossy(&text);
            assert!(text.contains("log ran") && !text.contains("Bearer"), "{text}");
            gate.legacy("2025-06-18").await.call("query").await;
        }
        let asked = tokens.asked();
        assert_eq!(asked.len(), before + 1, "fetched once");
        let Asked { form, authorization } = asked.last().unwrap();
        assert_eq!((&*form["grant_type"], &*form["scope"]), ("client_credentials", "a b"));
        assert!(form["resource"].starts_with("http://127.0.0.1"), "{form:?}");
        let basic = format!("Basic {}", STANDARD.encode("gate+way:s3c%3Aret"));
        assert_eq!(authorization.as_ref(), Some(&basic));
    }
}

#[tokio::test]
async fn a_token_that_is_refused_is_replaced_and_nobody_notices() {
    let (tokens, (_kept, secret)) = (Tokens::start(3_600).await, secret());
    let git = fake::http().tool("log");
    git.wants_token("t1");
    let section = tokens.section().replace("file:secret", &format!("file:{secret}"));
    let gate = gateway().upstream("git", &git).extra(&section).start().await;
    git.wants_token("t2");
    let client = gate.modern();
    let calls = (0..8).map(|_| client.call("log"));
    for result in futures_util::future::join_all(calls).await {
        assert_eq!(result["content"][0]["text"], "log ran");
    }
    assert_eq!(tokens.asked().len(), 2, "one new one for all that were refused");
    git.wants_token("none that is given");
    let result = client.call("log").await;
    assert_eq!(result["isError"], true, "{result}");
    assert!(tokens.asked().len() <= 3, "asked for once more, not for ever");
}

#[tokio::test]
async fn a_token_is_renewed_before_it_expires() {
    let (tokens, (_kept, secret)) = (Tokens::start(2).await, secret());
    let git = fake::http().tool("log");
    let section = tokens.section().replace("file:secret", &format!("file:{secret}"));
    let gate = gateway().upstream("git", &git).extra(&section).start().await;
    let client = gate.modern();
    let renewed = async {
        while tokens.asked().len() < 3 {
            let result = client.call("log").await;
            assert_eq!(result["content"][0]["text"], "log ran");
        }
    };
    crate::soon("two renewals", renewed).await;
}

#[tokio::test]
async fn a_signed_assertion_is_sent_where_the_upstream_says() {
    let tokens = Tokens::start(3_600).await;
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.pem");
    std::fs::write(&path, pair.serialize_pem()).unwrap();
    let git = fake::http().tool("log");
    git.wants_token("t1");
    git.names_issuer(&tokens.url);
    let section = format!(
        "[upstreams.git.credential]\nkind = \"client_credentials\"\ndiscover = true\n\
         client_id = \"gate\"\nprivate_key = \"file:{}\"\nalgorithm = \"ES256\"\nkey_id = \"k1\"\n",
        path.display()
    );
    let gate = gateway().upstream("git", &git).extra(&section).start().await;
    assert_eq!(gate.modern().call("log").await["content"][0]["text"], "log ran");
    let asked = tokens.asked();
    let form = &asked[0].form;
    assert_eq!(asked[0].authorization, None);
    let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    assert_eq!(form["client_assertion_type"], kind);
    let key = DecodingKey::from_ec_pem(pair.public_key_pem().as_bytes()).unwrap();
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_audience(&[&tokens.url]);
    validation.set_issuer(&["gate"]);
    let claims = jsonwebtoken::decode::<Value>(&form["client_assertion"], &key, &validation);
    let claims = claims.unwrap();
    assert_eq!((claims.header.kid.as_deref(), &claims.claims["sub"]), (Some("k1"), &json!("gate")));
}

#[tokio::test]
async fn a_secret_goes_to_the_issuer_that_is_expected_and_no_other() {
    let (tokens, (_kept, secret)) = (Tokens::start(3_600).await, secret());
    for (issuer, asked) in [
        (String::new(), true),
        (tokens.url.clone(), true),
        (format!("{}/", tokens.url), true),
        ("http://127.0.0.1:9".to_owned(), false),
        (format!("{}/other", tokens.url), false),
    ] {
        let git = fake::http().tool("log");
        git.names_issuer(&tokens.url);
        let issuer = match issuer.as_str() {
            "" => String::new(),
            issuer => format!("issuer = \"{issuer}\"\n"),
        };
        let section = format!(
            "[upstreams.git.credential]\nkind = \"client_credentials\"\ndiscover = true\n\
             client_id = \"gate\"\nclient_secret = \"file:{secret}\"\n{issuer}"
        );
        let before = tokens.asked().len();
        let gate = gateway().upstream("git", &git).extra(&section).start().await;
        let report = || format!("{:?}", gate.app().viewer().report());
        let said = || (before < tokens.asked().len() || report().contains("issuer")).then_some(());
        crate::eventually("it is asked, or said why not", said).await;
        assert_eq!(before < tokens.asked().len(), asked, "{issuer}");
    }
}

/// Runs `check` on a file; whether it succeeds, and what it says.
async fn check(file: &std::path::Path, words: &[&str]) -> (bool, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_tollgate"));
    let done = command.arg("--config").arg(file).arg("check").args(words).output().await.unwrap();
    let said = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8(said).unwrap())
}

/// `check --fix` writes what each server names now, and nothing where that is not certain.
#[tokio::test]
async fn check_writes_the_issuer_that_a_server_names() {
    let (tokens, (_kept, secret)) = (Tokens::start(3_600).await, secret());
    let (named, silent) = (fake::http().tool("log"), fake::http().tool("log"));
    named.names_issuer(&tokens.url);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("routes.toml");
    let keys = format!(
        "kind = \"client_credentials\", discover = true, client_id = \"gate\", client_secret = \
         \"file:{secret}\""
    );
    let written = |server: &fake::Fake, name: &str, issuer: &str| {
        let url = server.section();
        format!("[upstreams.{name}]\n{url}# kept\ncredential = {{ {keys}{issuer} }} # kept, too\n")
    };
    let route = "[routes.\"/mcp\"]\nupstreams = [\"*\"]\n";
    let state = format!("[server]\nstate = {:?}\n", folder.path().join("state"));
    let before = format!("{state}{route}{}{}", written(&named, "a", ""), written(&silent, "b", ""));
    std::fs::write(&file, &before).unwrap();
    let (is_well, said) = check(&file, &[]).await;
    assert!(is_well && said.matches("`tollgate check --fix`").count() == 2, "{said}");
    let (_, said) = check(&file, &["--fix"]).await;
    let line = format!("wrote issuer = {:?} into upstreams.a.credential", tokens.url);
    assert!(said.contains(&line), "{said}");
    assert!(said.contains("upstreams.b.credential: no `issuer` was found"), "{said}");
    let now = std::fs::read_to_string(&file).unwrap();
    let issuer = format!(", issuer = {:?}", tokens.url);
    let wanted = written(&named, "a", &issuer) + &written(&silent, "b", "");
    let plain = |text: &str| text.replace(' ', "");
    assert_eq!(plain(&now), plain(&format!("{state}{route}{wanted}")));
    // Once more finds the same, and writes nothing.
    let (_, said) = check(&file, &["--fix"]).await;
    assert!(!said.contains("wrote"), "{said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), now);
    assert!(tokens.asked().is_empty(), "nobody was sent the secret");
}

#[tokio::test]
async fn without_a_token_only_its_own_tools_are_gone() {
    let (tokens, (_kept, secret)) = (Tokens::start(3_600).await, secret());
    *tokens.state.refuses.lock() = true;
    let git = fake::http().tool("log");
    let section = tokens.section().replace("file:secret", &format!("file:{secret}"));
    let gate = gateway()
        .upstream("git", &git)
        .upstream("db", &fake::http().tool("query"))
        .extra(&section)
        .start()
        .await;
    assert_eq!(gate.modern().call("query").await["content"][0]["text"], "query ran");
    assert!(git.all().is_empty(), "nothing was sent without one");
    let report = format!("{:?}", gate.app().viewer().report());
    assert!(report.contains("invalid_client") && !report.contains("s3c"), "{report}");
    *tokens.state.refuses.lock() = false;
    let client = gate.modern();
    let back = async {
        while !client.tools().await.contains(&"log".to_owned()) {
            tokio::task::yield_now().await;
        }
    };
    crate::soon("the upstream to be open", back).await;
    assert_eq!(client.call("log").await["content"][0]["text"], "log ran");
}
