//! The gate's own access token for an upstream (OAuth 2.0 client credentials, RFC 6749 §4.4): one
//! for all callers, fetched once, renewed before it expires.

use std::{sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Request, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use parking_lot::RwLock;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use tokio::{sync::Mutex, time::Instant};

use crate::{
    call::{clock, tasks::Tasks},
    config::{ClientSecret, Credential as Settings, Transport, Upstream},
    net::Net,
    telemetry::{Counter, Counters},
};

use super::Context;

/// How long an authorization server may take for one answer.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of such an answer.
const FETCH_BYTES_MAX: usize = 256 << 10;
/// After a failure the next attempt waits so long, whoever wants a token.
const PAUSE: Duration = Duration::from_secs(1);
/// Of a token whose server does not say how long it is good.
const LIFE: Duration = Duration::from_secs(5 * 60);
/// One is used for so long at least, and for so many seconds at most, whatever its server says.
const LIFE_MIN: Duration = Duration::from_secs(1);
const LIFE_MAX: f64 = 24.0 * 60.0 * 60.0;
/// An upstream that refuses the second token so soon has another reason than the first one's age.
const NEW: Duration = Duration::from_secs(5);
/// An assertion is used at once (RFC 7523 §3).
const ASSERTION_SECONDS: u64 = 60;
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The credential of one upstream.
pub struct Credential {
    /// The upstream's.
    name: String,
    settings: Settings,
    /// The upstream's own address, without what may be secret in it (RFC 8707 §2).
    resource: String,
    net: Net,
    tasks: Tasks,
    counters: Arc<Counters>,
    token: RwLock<Option<Token>>,
    /// Held while one is fetched; the last failure.
    fetching: Mutex<Option<(Instant, String)>>,
}

/// A token as it is sent.
#[derive(Debug, Clone)]
pub struct Token {
    value: HeaderValue,
    fetched: Instant,
    /// It came in the place of one that was refused.
    replaces: bool,
    /// From then on a new one is fetched, behind the callers' backs.
    renew: Instant,
    expires: Instant,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    token_type: Option<String>,
    /// A number; some servers write it as a text.
    #[serde(default)]
    expires_in: serde_json::Value,
}

impl Credential {
    /// That of an upstream; none where its configuration has none.
    pub fn of(config: &Upstream, context: &Context, tasks: &Tasks) -> Option<Arc<Self>> {
        let Transport::Http { url, credential: Some(settings), .. } = &config.transport else {
            return None;
        };
        Some(Arc::new(Self {
            name: config.name.clone(),
            settings: settings.clone(),
            resource: resource_of(url),
            net: context.net.clone(),
            tasks: tasks.clone(),
            counters: Arc::clone(&context.counters),
            token: RwLock::default(),
            fetching: Mutex::default(),
        }))
    }

    /// The token of now; waits where there is none yet, or none any more.
    ///
    /// # Errors
    /// Why there is none. It names no secret.
    pub async fn token(self: &Arc<Self>) -> Result<Token, String> {
        let now = Instant::now();
        let known = self.token.read().clone();
        let Some(token) = known.filter(|token| now < token.expires) else {
            return self.fetch(None).await;
        };
        // Whoever fetches one already does it for all.
        if token.renew <= now && self.fetching.try_lock().is_ok() {
            let (itself, seen) = (Arc::clone(self), token.clone());
            // The one that is there is good: a failure is seen by the next who needs one.
            let renewing = async move { drop(itself.fetch(Some(&seen)).await) };
            self.tasks.spawn("upstream: token", renewing);
        }
        Ok(token)
    }

    /// The upstream did not take this token: another one. None where that would be refused, too,
    /// or cannot be had.
    pub async fn instead_of(&self, refused: &Token) -> Option<Token> {
        let known = self.token.read().clone();
        let newest = known.is_none_or(|known| known.value == refused.value);
        if newest && refused.replaces && refused.fetched.elapsed() < NEW {
            return None;
        }
        self.fetch(Some(refused)).await.ok()
    }

    /// A token other than the one seen: another caller's, where that came first.
    async fn fetch(&self, seen: Option<&Token>) -> Result<Token, String> {
        let mut failed = self.fetching.lock().await;
        let known = self.token.read().clone();
        let new = |token: &Token| seen.is_none_or(|seen| seen.value != token.value);
        if let Some(token) = known.filter(|token| new(token) && Instant::now() < token.expires) {
            return Ok(token);
        }
        if let Some((at, why)) = failed.as_ref().filter(|(at, _)| at.elapsed() < PAUSE) {
            tracing::trace!(?at, "no token is asked for so soon after a failure");
            return Err(why.clone());
        }
        let granted = tokio::time::timeout(FETCH_TIMEOUT, self.ask()).await;
        let granted = granted.unwrap_or_else(|_| Err(format!("no answer in {FETCH_TIMEOUT:?}")));
        match granted.and_then(|granted| Token::of(&granted, seen.is_some())) {
            Ok(token) => {
                self.counters.add(Counter::TokensFetched);
                *failed = None;
                *self.token.write() = Some(token.clone());
                Ok(token)
            }
            Err(error) => {
                self.counters.add(Counter::TokensFailed);
                tracing::warn!(upstream = self.name, error, "no token for an upstream");
                *failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn ask(&self) -> Result<Granted, String> {
        let (url, issuer) = match &self.settings.token_url {
            Some(url) => (url.clone(), url.clone()),
            None => self.discover().await?,
        };
        let id = &self.settings.client_id;
        let mut form = vec![("grant_type", "client_credentials".to_owned())];
        let scope = self.settings.scopes.join(" ");
        form.extend((!scope.is_empty()).then_some(("scope", scope)));
        form.extend(self.settings.audience.iter().map(|audience| ("audience", audience.clone())));
        // Servers that want an audience know no resource.
        if self.settings.audience.is_none() {
            form.push(("resource", self.resource.clone()));
        }
        let mut basic = None;
        match &self.settings.secret {
            // Each part is form-encoded first (RFC 6749 §2.3.1).
            ClientSecret::Basic(secret) => {
                let pair = format!("{}:{}", encoded(id), encoded(secret.expose()));
                basic = Some(format!("Basic {}", STANDARD.encode(pair)));
            }
            ClientSecret::Post(secret) => {
                form.push(("client_id", id.clone()));
                form.push(("client_secret", secret.expose().to_owned()));
            }
            ClientSecret::PrivateKey { .. } => {
                form.push(("client_assertion_type", ASSERTION_TYPE.to_owned()));
                form.push(("client_assertion", self.assertion(&issuer)?));
            }
        }
        let body: Vec<_> =
            form.iter().map(|(key, value)| format!("{key}={}", encoded(value))).collect();
        let mut request = Request::post(&url)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json");
        if let Some(basic) = basic {
            request = request.header(header::AUTHORIZATION, basic);
        }
        let request = request.body(Full::from(body.join("&")));
        self.send(request.map_err(|error| format!("{url}: {error}"))?).await
    }

    /// Who the gate is, signed with its own key (RFC 7523 §2.2), for this issuer; for its token
    /// endpoint, where no more is known.
    fn assertion(&self, audience: &str) -> Result<String, String> {
        let ClientSecret::PrivateKey { pem, algorithm, key_id } = &self.settings.secret else {
            return Err("there is no private key".to_owned());
        };
        let algorithm: Algorithm = algorithm.parse().ok().ok_or("an unknown algorithm")?;
        let pem = pem.expose().as_bytes();
        #[allow(clippy::wildcard_enum_match_arm, reason = "a name of the configuration's list")]
        let key = match algorithm {
            Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(pem),
            Algorithm::EdDSA => EncodingKey::from_ed_pem(pem),
            // RSA; secrets are refused when the configuration is read.
            _ => EncodingKey::from_rsa_pem(pem),
        };
        let key = key.ok();
        let key = key.ok_or_else(|| format!("`private_key` is no key for {algorithm:?}"))?;
        let now = clock::unix_seconds();
        let claims = json!({
            "iss": self.settings.client_id,
            "sub": self.settings.client_id,
            "aud": audience,
            "jti": format!("{:032x}", rand::random::<u128>()),
            "iat": now,
            "exp": now + ASSERTION_SECONDS,
        });
        let header = Header { kid: key_id.clone(), ..Header::new(algorithm) };
        jsonwebtoken::encode(&header, &claims, &key).map_err(|error| error.to_string())
    }

    /// From the upstream to its authorization server (RFC 9728 §3), and to that one's token
    /// endpoint and issuer (RFC 8414 §3, OIDC Discovery 1.0 §4).
    async fn discover(&self) -> Result<(String, String), String> {
        #[derive(Deserialize)]
        struct Resource {
            resource: String,
            authorization_servers: Vec<String>,
        }
        #[derive(Deserialize)]
        struct Server {
            issuer: String,
            token_endpoint: String,
        }
        let at = |base: &str, word: &str| well_known(base, word);
        let found =
            self.first::<Resource>(&at(&self.resource, "oauth-protected-resource")?).await?;
        // One of somebody else must not be used (RFC 9728 §3.3).
        if resource_of(&found.resource) != self.resource {
            return Err(format!("the upstream's metadata is that of {}", found.resource));
        }
        let issuer = found.authorization_servers.first();
        let issuer = issuer.ok_or("the upstream names no authorization server")?;
        let mut places = at(issuer, "oauth-authorization-server")?;
        places.extend(at(issuer, "openid-configuration")?);
        places.push(format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/')));
        let server = self.first::<Server>(&places).await?;
        if server.issuer.trim_end_matches('/') != issuer.trim_end_matches('/') {
            return Err(format!("the metadata of {issuer} is that of {}", server.issuer));
        }
        let places = [issuer, &server.token_endpoint];
        let downgraded = self.resource.starts_with("https:")
            && !places.iter().all(|place| place.starts_with("https:"));
        if downgraded {
            return Err("its issuer or its token endpoint is not https".to_owned());
        }
        Ok((server.token_endpoint, server.issuer))
    }

    async fn first<T: DeserializeOwned>(&self, places: &[String]) -> Result<T, String> {
        let mut error = String::new();
        for place in places {
            let request = Request::get(place).header(header::ACCEPT, "application/json");
            let request = request.body(Full::default()).map_err(|error| error.to_string())?;
            match self.send(request).await {
                Ok(found) => return Ok(found),
                Err(why) => error = why,
            }
        }
        Err(error)
    }

    async fn send<T: DeserializeOwned>(&self, request: Request<Full<Bytes>>) -> Result<T, String> {
        let url = request.uri().clone();
        let reply = self.net.send(request, false).await;
        let reply = reply.map_err(|error| format!("{url}: {error}"))?;
        let status = reply.status();
        let body = Limited::new(reply.into_body(), FETCH_BYTES_MAX).collect().await;
        let body = body.map_err(|error| format!("{url}: {error}"))?.to_bytes();
        if !status.is_success() {
            // The words of RFC 6749 §5.2, which hold no secret.
            #[derive(Deserialize)]
            struct Refused {
                error: String,
            }
            let refused = serde_json::from_slice::<Refused>(&body).map(|refused| refused.error);
            return Err(format!("{url}: {status} {}", refused.unwrap_or_default()));
        }
        // What came may be the token: the error must not show it.
        let read = serde_json::from_slice(&body).ok();
        read.ok_or_else(|| format!("{url}: not what was asked for"))
    }
}

impl Token {
    fn of(granted: &Granted, replaces: bool) -> Result<Self, String> {
        let kind = granted.token_type.as_deref().unwrap_or("Bearer");
        if !kind.eq_ignore_ascii_case("bearer") {
            return Err(format!("the token is of the type `{}`", kind.escape_debug()));
        }
        let value = HeaderValue::try_from(format!("Bearer {}", granted.access_token));
        let mut value = value.ok().ok_or("the token is no token")?;
        value.set_sensitive(true);
        let text = granted.expires_in.as_str().and_then(|text| text.parse().ok());
        let said = granted.expires_in.as_f64().or(text);
        let said = said.filter(|said: &f64| said.is_finite() && 0.0 <= *said);
        let life = said.map_or(LIFE, |said| Duration::from_secs_f64(said.min(LIFE_MAX)));
        let (now, life) = (Instant::now(), life.max(LIFE_MIN));
        Ok(Self { value, fetched: now, replaces, renew: now + life * 4 / 5, expires: now + life })
    }

    /// As `Authorization` has it.
    pub fn value(&self) -> HeaderValue {
        self.value.clone()
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("name", &self.name).finish_non_exhaustive()
    }
}

/// An address without user, query and fragment.
fn resource_of(url: &str) -> String {
    let Ok(uri) = url.parse::<Uri>() else { return url.to_owned() };
    let Some((scheme, host)) = uri.scheme_str().zip(uri.host()) else { return url.to_owned() };
    let port = uri.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{scheme}://{host}{port}{}", uri.path().trim_end_matches('/'))
}

/// Before the path, and at the root.
fn well_known(base: &str, word: &str) -> Result<Vec<String>, String> {
    let uri: Uri = base.parse().map_err(|error| format!("{base}: {error}"))?;
    let (scheme, authority) = uri.scheme_str().zip(uri.authority()).ok_or("no absolute address")?;
    let root = format!("{scheme}://{authority}/.well-known/{word}");
    let path = uri.path().trim_end_matches('/');
    let before = format!("{root}{path}");
    Ok(if path.is_empty() { vec![root] } else { vec![before, root] })
}

/// As a form has it (WHATWG URL, `application/x-www-form-urlencoded`).
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => {
                encoded.push(byte.into());
            }
            b' ' => encoded.push('+'),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_and_addresses() {
        let secret = "https://me:pw@a.example:8443/mcp/?key=1";
        assert_eq!(resource_of(secret), "https://a.example:8443/mcp");
        assert_eq!(encoded("a b&c=ü*~"), "a+b%26c%3D%C3%BC*%7E");
        let both = well_known("https://a.example/mcp/", "x").unwrap();
        assert_eq!(
            both,
            ["https://a.example/.well-known/x/mcp", "https://a.example/.well-known/x"]
        );
        assert_eq!(well_known("https://a.example", "x").unwrap().len(), 1);
    }

    #[test]
    fn only_bearer_tokens_are_taken() {
        let granted = |kind: Option<&str>, token: &str| Granted {
            access_token: token.to_owned(),
            token_type: kind.map(str::to_owned),
            expires_in: json!(100),
        };
        let token = Token::of(&granted(Some("bearer"), "abc"), false).unwrap();
        assert_eq!(token.value(), "Bearer abc");
        assert!(!format!("{:?}", token.value()).contains("abc"));
        assert!(token.renew < token.expires);
        for odd in [json!(u64::MAX), json!(-1), json!(0), json!("3600"), json!("x"), json!(null)] {
            let granted = Granted { expires_in: odd, ..granted(None, "abc") };
            let token = Token::of(&granted, false).unwrap();
            assert!(LIFE_MIN <= token.expires - token.fetched);
        }
        assert!(Token::of(&granted(Some("DPoP"), "abc"), false).is_err());
        assert!(Token::of(&granted(None, "a\nb"), false).is_err());
    }
}
