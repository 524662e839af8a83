//! The gate as a client of authorization servers: who it is, and where they are.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{Request, Uri, header};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Deserialize;
use serde_json::json;

use crate::{
    call::clock,
    config::{ClientAuth, ClientSecret, Fetching},
    net::Net,
};

/// An assertion is used at once (RFC 7523 §3).
const ASSERTION_SECONDS: u64 = 60;
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Metadata of an authorization server (RFC 8414 §2, OIDC Discovery 1.0 §3).
#[derive(Debug, Clone, Deserialize)]
pub struct Metadata {
    pub issuer: String,
    pub jwks_uri: Option<String>,
    pub token_endpoint: Option<String>,
}

impl Metadata {
    /// Fetches the metadata of an issuer, from the first place that has it, in the order of MCP
    /// (RFC 8414 §3.1, §5, 2025-11-25, authorization server metadata discovery). What it names
    /// over plain HTTP is refused where the issuer itself is not.
    ///
    /// # Errors
    /// Why there is none, for operators.
    pub async fn of(issuer: &str, net: &Net, bounds: &Fetching) -> Result<Self, String> {
        let base = issuer.trim_end_matches('/');
        let before = |word| Ok::<_, String>(well_known(base, word)?.into_iter().take(1));
        let mut places: Vec<_> = before("oauth-authorization-server")?.collect();
        places.extend(before("openid-configuration")?);
        let behind = format!("{base}/.well-known/openid-configuration");
        if !places.contains(&behind) {
            places.push(behind);
        }
        let mut error = String::new();
        for place in &places {
            match net.get::<Self>(place, bounds).await {
                Ok(found) => return found.checked(issuer),
                Err(why) if error.is_empty() => error = why.into(),
                // The failure that is told is of the first place.
                Err(_) => (),
            }
        }
        Err(error)
    }

    fn checked(self, issuer: &str) -> Result<Self, String> {
        // Metadata of somebody else must not be used (RFC 8414 §3.3).
        if self.issuer.trim_end_matches('/') != issuer.trim_end_matches('/') {
            return Err(format!("the metadata of {issuer} is that of {}", self.issuer));
        }
        let mut named = self.jwks_uri.iter().chain(&self.token_endpoint);
        if issuer.starts_with("https:") && !named.all(|place| place.starts_with("https:")) {
            return Err("what the issuer's metadata names is not https".to_owned());
        }
        Ok(self)
    }
}

/// A form for an endpoint of an authorization server, with the proof of who the gate is.
/// `audience` is whom an assertion is for: the issuer, or the endpoint where no more is known.
///
/// # Errors
/// What of the configuration cannot be used. It names no secret.
pub fn form(
    url: &str,
    mut fields: Vec<(&'static str, String)>,
    client: &ClientAuth,
    audience: &str,
) -> Result<Request<Bytes>, String> {
    let mut basic = None;
    match &client.secret {
        // Each part is form-encoded first (RFC 6749 §2.3.1).
        ClientSecret::Basic(secret) => {
            let pair = format!("{}:{}", encoded(&client.id), encoded(secret.expose()));
            basic = Some(format!("Basic {}", STANDARD.encode(pair)));
        }
        ClientSecret::Post(secret) => {
            fields.push(("client_id", client.id.clone()));
            fields.push(("client_secret", secret.expose().to_owned()));
        }
        ClientSecret::PrivateKey { .. } => {
            fields.push(("client_assertion_type", ASSERTION_TYPE.to_owned()));
            fields.push(("client_assertion", assertion(client, audience)?));
        }
    }
    let body: Vec<_> =
        fields.iter().map(|(key, value)| format!("{key}={}", encoded(value))).collect();
    let mut request =
        Request::post(url).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    if let Some(basic) = basic {
        request = request.header(header::AUTHORIZATION, basic);
    }
    request.body(Bytes::from(body.join("&"))).map_err(|error| format!("{url}: {error}"))
}

/// Returns who the gate is, signed with its own key (RFC 7523 §2.2).
fn assertion(client: &ClientAuth, audience: &str) -> Result<String, String> {
    let ClientSecret::PrivateKey { pem, algorithm, key_id } = &client.secret else {
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
        "iss": client.id,
        "sub": client.id,
        "aud": audience,
        "jti": format!("{:032x}", rand::random::<u128>()),
        "iat": now,
        "exp": now + ASSERTION_SECONDS,
    });
    let header = Header { kid: key_id.clone(), ..Header::new(algorithm) };
    jsonwebtoken::encode(&header, &claims, &key).map_err(|error| error.to_string())
}

/// Returns where a well-known document of an address is: before its path, and at the root.
///
/// # Errors
/// Where the address is none.
pub fn well_known(base: &str, word: &str) -> Result<Vec<String>, String> {
    let uri: Uri = base.parse().map_err(|error| format!("{base}: {error}"))?;
    let (scheme, authority) = uri.scheme_str().zip(uri.authority()).ok_or("no absolute address")?;
    let root = format!("{scheme}://{authority}/.well-known/{word}");
    let path = uri.path().trim_end_matches('/');
    let before = format!("{root}{path}");
    Ok(if path.is_empty() { vec![root] } else { vec![before, root] })
}

/// Encodes a text as a form has it (WHATWG URL, `application/x-www-form-urlencoded`).
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
        assert_eq!(encoded("a b&c=ü*~"), "a+b%26c%3D%C3%BC*%7E");
        let both = well_known("https://a.example/mcp/", "x").unwrap();
        assert_eq!(
            both,
            ["https://a.example/.well-known/x/mcp", "https://a.example/.well-known/x"]
        );
        assert_eq!(well_known("https://a.example", "x").unwrap().len(), 1);
    }

    #[test]
    fn metadata_is_the_issuers_own_and_no_less_safe() {
        let metadata = |issuer: &str, jwks: &str| Metadata {
            issuer: issuer.to_owned(),
            jwks_uri: Some(jwks.to_owned()),
            token_endpoint: None,
        };
        let safe = "https://a.example";
        assert!(metadata("https://a.example/", "https://b.example/k").checked(safe).is_ok());
        assert!(metadata("https://b.example", "https://a.example/k").checked(safe).is_err());
        assert!(metadata(safe, "http://a.example/k").checked(safe).is_err());
        let plain = "http://a.example";
        assert!(metadata(plain, "http://a.example/k").checked(plain).is_ok());
    }
}
