//! Requests signed with keys of AWS (Signature Version 4).

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::{call::clock, config::SigV4};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// Keys, and what they sign for.
#[derive(Debug)]
pub struct Aws(SigV4);

impl Aws {
    pub fn new(settings: &SigV4) -> Self {
        Self(settings.clone())
    }

    /// Signs a request as it is: nothing may be changed in it afterwards but headers that it had
    /// not.
    ///
    /// # Errors
    /// Where it cannot be signed. It names no secret.
    pub fn sign(&self, request: &mut Request<Bytes>) -> Result<(), String> {
        self.sign_at(request, clock::unix_seconds())
    }

    fn sign_at(&self, request: &mut Request<Bytes>, unix: u64) -> Result<(), String> {
        let time = i64::try_from(unix).ok().and_then(|unix| Timestamp::from_second(unix).ok());
        let time = time.ok_or("the clock is out of range")?;
        let day = time.strftime("%Y%m%d").to_string();
        let moment = time.strftime("%Y%m%dT%H%M%SZ").to_string();
        let host = request.uri().authority().ok_or("the address has no host")?.as_str();
        let host = host.rsplit('@').next().unwrap_or_default();
        let host = HeaderValue::from_str(host).ok().ok_or("the address has an odd host")?;
        let body = request.body().clone();
        let headers = request.headers_mut();
        headers.insert(header::HOST, host);
        headers.insert(DATE, HeaderValue::from_str(&moment).ok().ok_or("an odd date")?);
        if let Some(token) = &self.0.session_token {
            let token = HeaderValue::from_str(token.expose());
            let mut token = token.ok().ok_or("`session_token` is no header")?;
            token.set_sensitive(true);
            headers.insert(TOKEN, token);
        }
        let (signed, canonical) = canonical_headers(request.headers());
        let path = canonical_path(request.uri().path());
        let query = canonical_query(request.uri().query().unwrap_or_default());
        let whole = [
            request.method().as_str(),
            &path,
            &query,
            &canonical,
            &signed,
            &hex(&Sha256::digest(&body)),
        ]
        .join("\n");
        let SigV4 { region, service, .. } = &self.0;
        let scope = format!("{day}/{region}/{service}/aws4_request");
        let text = format!("{ALGORITHM}\n{moment}\n{scope}\n{}", hex(&Sha256::digest(whole)));
        let first = format!("AWS4{}", self.0.secret_access_key.expose());
        let key = [&*day, region, service, "aws4_request"]
            .iter()
            .fold(first.into_bytes(), |key, part| keyed(&key, part));
        let id = self.0.access_key_id.expose();
        let signature = hex(&keyed(&key, &text));
        let value = format!(
            "{ALGORITHM} Credential={id}/{scope}, SignedHeaders={signed}, Signature={signature}"
        );
        let value = HeaderValue::from_str(&value);
        let mut value = value.ok().ok_or("`access_key_id` is no key's id")?;
        value.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, value);
        Ok(())
    }
}

fn keyed(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// The names of headers that are signed, and each with its values: the host, what is of AWS, and
/// what is sent. What a connection may add or change is not.
fn canonical_headers(headers: &HeaderMap) -> (String, String) {
    let mut names: Vec<_> = headers
        .keys()
        .filter(|name| ![header::AUTHORIZATION, header::USER_AGENT].contains(name))
        .map(HeaderName::as_str)
        .collect();
    names.sort_unstable();
    let line = |name: &&str| {
        let values = headers.get_all(*name).iter();
        let values: Vec<_> = values
            .map(|value| {
                let text = String::from_utf8_lossy(value.as_bytes());
                text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
            })
            .collect();
        format!("{name}:{}\n", values.join(","))
    };
    let lines: String = names.iter().map(line).collect();
    (names.join(";"), lines)
}

/// Encodes each part of a path once more, as all services but S3 have it.
fn canonical_path(path: &str) -> String {
    let parts: Vec<_> = path.split('/').map(encoded).collect();
    let path = parts.join("/");
    if path.is_empty() { "/".to_owned() } else { path }
}

/// Pairs in their order. What is encoded already stays so.
fn canonical_query(query: &str) -> String {
    let mut pairs: Vec<_> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .collect();
    pairs.sort_unstable();
    let pairs: Vec<_> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
    pairs.join("&")
}

fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use crate::config::Secret;

    use super::*;

    /// The keys and the moment of AWS's published test suite (aws-sig-v4-test-suite).
    const MOMENT: u64 = 1_440_938_160;

    fn aws() -> Aws {
        Aws(SigV4 {
            region: "us-east-1".to_owned(),
            service: "service".to_owned(),
            access_key_id: Secret::new("AKIDEXAMPLE".to_owned()),
            secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned()),
            session_token: None,
        })
    }

    fn signed(verb: &str, url: &str, headers: &[(&str, &str)], body: &'static str) -> String {
        let mut request = Request::builder().method(verb).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Bytes::from_static(body.as_bytes())).unwrap();
        aws().sign_at(&mut request, MOMENT).unwrap();
        let value = &request.headers()[header::AUTHORIZATION];
        assert!(value.is_sensitive());
        value.to_str().unwrap().rsplit('=').next().unwrap().to_owned()
    }

    #[test]
    fn signatures_are_those_of_the_published_suite() {
        let base = "https://example.amazonaws.com";
        for (name, verb, url, headers, body, want) in [
            (
                "get-vanilla",
                "GET",
                format!("{base}/"),
                &[][..],
                "",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "get-vanilla-query-order-key-case",
                "GET",
                format!("{base}/?Param2=value2&Param1=value1"),
                &[],
                "",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
            (
                "post-vanilla",
                "POST",
                format!("{base}/"),
                &[],
                "",
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                "post-x-www-form-urlencoded",
                "POST",
                format!("{base}/"),
                &[("content-type", "application/x-www-form-urlencoded")],
                "Param1=value1",
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
        ] {
            assert_eq!(signed(verb, &url, headers, body), want, "{name}");
        }
    }

    #[test]
    fn what_is_encoded_once_is_signed_as_encoded_twice() {
        assert_eq!(canonical_path("/a%20b/c"), "/a%2520b/c");
        assert_eq!(canonical_path(""), "/");
        assert_eq!(canonical_query("b=2&a=1&a=0&c"), "a=0&a=1&b=2&c=");
    }
}
