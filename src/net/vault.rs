//! Secrets that a `HashiCorp` Vault keeps (its key-value store of version 2, over HTTP): fetched
//! when the configuration first names them, again and again after that, and kept while Vault is out
//! of reach.

use std::{collections::BTreeMap, fmt, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use crate::config;

use super::client::{Net, SendOptions};

/// The beginning of a reference to a secret, where the configuration asks for a variable.
const SCHEME: &str = "vault:";
/// The bytes of one answer; a secret is some hundred bytes.
const FETCH_BYTES_MAX: usize = 1 << 20;
/// A Vault that does not answer in this time is out of reach.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause before a secret that could not be read is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// Secrets that are kept: each is asked for, again and again.
const PATHS_MAX: usize = 1_000;

/// The address of a Vault, and the token shown to it.
#[derive(Clone)]
pub struct VaultAccess {
    /// `http:` or `https:`, and nothing behind the port.
    pub address: String,
    pub token: String,
    /// The namespace, in Vault Enterprise.
    pub namespace: Option<String>,
}

/// The secrets of one gate.
pub struct Vault {
    net: Net,
    access: Option<VaultAccess>,
    kept: Mutex<BTreeMap<String, Kept>>,
    /// Somebody asked for what was never fetched.
    wanted: Notify,
}

/// The counts of secrets that were read, and that could not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fetched {
    pub read: usize,
    pub failed: usize,
}

/// A secret, as it was read last.
#[derive(Default)]
struct Kept {
    fields: Option<BTreeMap<String, String>>,
    tried: Option<Instant>,
    /// Why it could not be read, the last time.
    error: Option<String>,
}

impl VaultAccess {
    /// Reads `VAULT_ADDR`, `VAULT_TOKEN` and `VAULT_NAMESPACE`; none without the first two.
    pub fn of_environment() -> Option<Self> {
        let [address, token] = ["VAULT_ADDR", "VAULT_TOKEN"].map(config::environment);
        let namespace = config::environment("VAULT_NAMESPACE");
        Some(Self { address: address?, token: token?, namespace })
    }
}

impl Vault {
    /// A client of a Vault; without access it has no secrets.
    pub fn new(net: Net, access: Option<VaultAccess>) -> Self {
        Self { net, access, kept: Mutex::default(), wanted: Notify::new() }
    }

    /// A variable of the environment, or what `vault:PATH#FIELD` is as far as it is known. What is
    /// not is fetched soon.
    pub fn lookup(&self, name: &str) -> Option<String> {
        let Some(reference) = name.strip_prefix(SCHEME) else {
            return config::environment(name);
        };
        let (path, field) = reference.split_once('#')?;
        let mut kept = self.kept.lock();
        if !kept.contains_key(path) {
            if kept.len() < PATHS_MAX {
                kept.insert(path.to_owned(), Kept::default());
            }
            self.wanted.notify_one();
        }
        kept.get(path)?.fields.as_ref()?.get(field).cloned()
    }

    /// Tells whether something was asked for that was never fetched.
    pub fn lacks(&self) -> bool {
        self.kept.lock().values().any(|kept| kept.tried.is_none())
    }

    /// Reads what was never read, and what was read longer than `refresh` ago. Safe to drop.
    pub async fn fetch(&self, refresh: Duration) -> Fetched {
        let fetching = self.due(refresh).into_iter().map(|path| async move {
            let read = match timeout(FETCH_TIMEOUT, self.read(&path)).await {
                Ok(read) => read,
                Err(_) => Err(format!("no answer within {FETCH_TIMEOUT:?}")),
            };
            self.keep_one(&path, read)
        });
        let all = futures_util::future::join_all(fetching).await;
        let read = all.iter().filter(|read| **read).count();
        Fetched { read, failed: all.len() - read }
    }

    /// Waits until there may be something to fetch.
    pub async fn due_again(&self) {
        // Nothing is lost: what is due is looked up anew.
        timeout(RETRY, self.wanted.notified()).await.ok();
    }

    fn due(&self, refresh: Duration) -> Vec<String> {
        let mut kept = self.kept.lock();
        let now = Instant::now();
        let due = kept.iter_mut().filter(|(_, kept)| {
            let pause = if kept.error.is_none() { refresh } else { RETRY };
            kept.tried.is_none_or(|tried| pause <= now.duration_since(tried))
        });
        let due = due.map(|(path, kept)| {
            kept.tried = Some(now);
            path.clone()
        });
        due.collect()
    }

    /// Keeps what was read; what could not be read stays as it was. Said once.
    fn keep_one(&self, path: &str, read: Result<BTreeMap<String, String>, String>) -> bool {
        let mut all = self.kept.lock();
        let Some(kept) = all.get_mut(path) else { return false };
        match read {
            Ok(fields) => {
                if kept.error.take().is_some() {
                    tracing::info!(path, "the secret can be read again");
                }
                kept.fields = Some(fields);
                true
            }
            Err(error) => {
                if kept.error.as_ref() != Some(&error) {
                    let known = kept.fields.is_some();
                    tracing::warn!(path, error, known, "a secret cannot be read from Vault");
                }
                kept.error = Some(error);
                false
            }
        }
    }

    /// The fields of one secret.
    async fn read(&self, path: &str) -> Result<BTreeMap<String, String>, String> {
        #[derive(serde::Deserialize)]
        struct Answer {
            data: Version,
        }
        #[derive(serde::Deserialize)]
        struct Version {
            data: BTreeMap<String, Value>,
        }
        let access = self.access.as_ref().ok_or("set VAULT_ADDR and VAULT_TOKEN")?;
        let url = format!("{}/v1/{path}", access.address.trim_end_matches('/'));
        let mut request = Request::get(url)
            .header("x-vault-token", &access.token)
            .header("x-vault-request", "true")
            .header(header::USER_AGENT, concat!("tollgate/", env!("CARGO_PKG_VERSION")));
        if let Some(namespace) = &access.namespace {
            request = request.header("x-vault-namespace", namespace);
        }
        let request = request.body(Bytes::new()).map_err(|error| error.to_string())?;
        let reply = self.net.send(request, SendOptions::default()).await;
        let reply = reply.map_err(|error| error.to_string())?;
        match reply.status() {
            StatusCode::OK => (),
            StatusCode::FORBIDDEN => return Err("VAULT_TOKEN may not read it".to_owned()),
            StatusCode::NOT_FOUND => return Err("there is no such secret".to_owned()),
            status => return Err(format!("Vault answers {status}")),
        }
        let body = Limited::new(reply.into_body(), FETCH_BYTES_MAX).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        // Not the error itself, which would show what it is about.
        let answer: Option<Answer> = serde_json::from_slice(&body).ok();
        let answer = answer.ok_or("this is no answer of a key-value store of version 2")?;
        let text = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Ok(answer.data.data.into_iter().map(|(name, value)| (name, text(value))).collect())
    }
}

impl fmt::Debug for VaultAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VaultAccess({})", self.address)
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("access", &self.access).finish_non_exhaustive()
    }
}
