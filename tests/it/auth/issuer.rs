//! An authorization server as it is, and as it goes wrong.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use parking_lot::Mutex;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, SignatureAlgorithm};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Notify};

use super::AUDIENCE;

/// With its metadata, its keys, and what it knows of tokens that only it can read.
pub struct Issuer {
    pub url: String,
    pub state: Arc<State>,
}

#[derive(Default)]
pub struct State {
    keys: Mutex<Vec<Value>>,
    tokens: Mutex<HashMap<String, Value>>,
    /// The forms that it was asked about tokens with, and who asked.
    pub asked: Mutex<Vec<(String, String)>>,
    pub fetched: AtomicUsize,
    pub down: AtomicBool,
    /// Takes requests and never answers.
    pub hangs: AtomicBool,
    /// The bytes of its keys are so many more.
    pub padding: AtomicUsize,
    /// Of what comes next the answer waits for this.
    pub held: Mutex<Option<Arc<Notify>>>,
}

impl Issuer {
    pub async fn start(keys: &[&Signer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State::default());
        let issuer = Self { url: url.clone(), state: Arc::clone(&state) };
        issuer.has(keys);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (url, state) = (url.clone(), Arc::clone(&state));
                let service = service_fn(move |request| {
                    let (url, state) = (url.clone(), Arc::clone(&state));
                    async move { Ok::<_, hyper::Error>(answer(&url, &state, request).await) }
                });
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(async move { drop(connection.await) });
            }
        });
        issuer
    }

    /// From now on it has these keys.
    pub fn has(&self, keys: &[&Signer]) {
        *self.state.keys.lock() = keys.iter().map(|key| key.public()).collect();
    }

    /// From now on this is what it says of a token that only it can read.
    pub fn knows(&self, token: &str, claims: Value) {
        self.state.tokens.lock().insert(token.to_owned(), claims);
    }

    pub fn fetched(&self) -> usize {
        self.state.fetched.load(Ordering::SeqCst)
    }

    /// How often it was asked about a token.
    pub fn asked(&self) -> usize {
        self.state.asked.lock().len()
    }

    /// Claims that are good for now.
    pub fn claims(&self) -> Value {
        json!({ "iss": self.url, "aud": AUDIENCE, "sub": "ada", "exp": now() + 300, "scope": "mcp:use" })
    }

    pub fn section(&self) -> String {
        format!("[auth.corp]\nkind = \"jwt\"\nissuer = \"{}\"\n", self.url)
    }
}

async fn answer(url: &str, state: &State, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    let who = request.headers().get("authorization");
    let who = who.map(|who| who.to_str().unwrap().to_owned()).unwrap_or_default();
    let form = request.into_body().collect().await.unwrap().to_bytes();
    let form = String::from_utf8(form.to_vec()).unwrap();
    if path == "/introspect" {
        state.asked.lock().push((form.clone(), who));
    }
    if state.hangs.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
    let held = state.held.lock().clone();
    if let Some(held) = held {
        held.notified().await;
    }
    let body = match &*path {
        _ if state.down.load(Ordering::SeqCst) => None,
        "/.well-known/openid-configuration" => {
            Some(json!({ "issuer": url, "jwks_uri": format!("{url}/keys") }))
        }
        "/keys" => {
            state.fetched.fetch_add(1, Ordering::SeqCst);
            let padding = "x".repeat(state.padding.load(Ordering::SeqCst));
            Some(json!({ "keys": *state.keys.lock(), "padding": padding }))
        }
        "/introspect" => {
            let field = form.split('&').find_map(|pair| pair.strip_prefix("token="));
            let known = state.tokens.lock().get(field.unwrap_or_default()).cloned();
            Some(known.unwrap_or_else(|| json!({ "active": false })))
        }
        _ => None,
    };
    let mut reply = Response::new(Full::from(body.clone().unwrap_or_default().to_string()));
    *reply.status_mut() = if body.is_some() { 200 } else { 503 }.try_into().unwrap();
    reply
}

/// A key pair as an issuer has it.
pub struct Signer {
    pub id: &'static str,
    algorithm: Algorithm,
    key: EncodingKey,
    pub public_pem: String,
}

impl Signer {
    pub fn elliptic(id: &'static str) -> Self {
        Self::new(id, Algorithm::ES256, &PKCS_ECDSA_P256_SHA256, EncodingKey::from_ec_pem)
    }

    pub fn rsa(id: &'static str) -> Self {
        Self::new(id, Algorithm::RS256, &PKCS_RSA_SHA256, EncodingKey::from_rsa_pem)
    }

    fn new(
        id: &'static str,
        algorithm: Algorithm,
        kind: &'static SignatureAlgorithm,
        read: fn(&[u8]) -> jsonwebtoken::errors::Result<EncodingKey>,
    ) -> Self {
        let pair = KeyPair::generate_for(kind).unwrap();
        let key = read(pair.serialize_pem().as_bytes()).unwrap();
        Self { id, algorithm, key, public_pem: pair.public_key_pem() }
    }

    pub fn public(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        jwk.common.key_id = Some(self.id.to_owned());
        serde_json::to_value(jwk).unwrap()
    }

    pub fn header(&self) -> Header {
        Header { kid: Some(self.id.to_owned()), ..Header::new(self.algorithm) }
    }

    pub fn sign(&self, claims: &Value) -> String {
        self.sign_with(&self.header(), claims)
    }

    pub fn sign_with(&self, header: &Header, claims: &Value) -> String {
        jsonwebtoken::encode(header, claims, &self.key).unwrap()
    }
}

#[allow(clippy::disallowed_methods, reason = "tokens are of this very time")]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}
