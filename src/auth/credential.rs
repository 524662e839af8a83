//! Reads the credential that a request brings.

use http::{HeaderMap, HeaderName, header};

use super::AuthError;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// A credential; a request has exactly one (RFC 6750 §2).
#[derive(PartialEq, Eq)]
pub enum RequestCredential {
    /// `Authorization: Bearer …`.
    Bearer(String),
    /// `X-API-Key: …`.
    ApiKey(String),
}

impl RequestCredential {
    /// # Errors
    /// Where there is none, or more than one, or what is there is none.
    pub fn of(headers: &HeaderMap) -> Result<Self, AuthError> {
        let mut all = headers.get_all(header::AUTHORIZATION).iter();
        let mut keys = headers.get_all(API_KEY).iter();
        let text =
            |value: &http::HeaderValue| value.to_str().ok().map(str::trim).map(str::to_owned);
        match (all.next(), all.next(), keys.next(), keys.next()) {
            (None, _, None, _) => Err(AuthError::Missing),
            (Some(value), None, None, _) => {
                let text = text(value).ok_or(AuthError::Malformed("`Authorization` is no text"))?;
                let (scheme, token) = text.split_once(' ').unwrap_or((&text, ""));
                let token = token.trim();
                // A credential of another scheme is as if there were none: the client learns which
                // is taken.
                if !scheme.eq_ignore_ascii_case("bearer") {
                    return Err(AuthError::Missing);
                }
                if token.is_empty() || token.contains(char::is_whitespace) {
                    return Err(AuthError::Malformed(
                        "`Authorization: Bearer` has no single token",
                    ));
                }
                Ok(Self::Bearer(token.to_owned()))
            }
            (None, _, Some(key), None) => {
                text(key).map(Self::ApiKey).ok_or(AuthError::Malformed("`X-API-Key` is no text"))
            }
            _ => Err(AuthError::Malformed("more than one credential")),
        }
    }
}

impl std::fmt::Debug for RequestCredential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RequestCredential(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(headers: &[(&'static str, &'static str)]) -> Result<RequestCredential, AuthError> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        RequestCredential::of(&map)
    }

    #[test]
    fn exactly_one_is_taken() {
        let bearer = || Ok(RequestCredential::Bearer("a.b.c".to_owned()));
        assert_eq!(of(&[("authorization", "Bearer a.b.c")]), bearer());
        assert_eq!(of(&[("authorization", "bearer   a.b.c ")]), bearer());
        assert_eq!(of(&[("x-api-key", " k ")]), Ok(RequestCredential::ApiKey("k".to_owned())));
        for none in [&[][..], &[("authorization", "Basic YTpi")], &[("authorization", "")]] {
            assert_eq!(of(none), Err(AuthError::Missing));
        }
        for wrong in [
            &[("authorization", "Bearer a"), ("authorization", "Bearer b")][..],
            &[("authorization", "Bearer a"), ("x-api-key", "b")],
            &[("x-api-key", "a"), ("x-api-key", "b")],
            &[("authorization", "Bearer")],
            &[("authorization", "Bearer ")],
            &[("authorization", "Bearer a b")],
        ] {
            assert!(matches!(of(wrong), Err(AuthError::Malformed(_))), "{wrong:?}");
        }
    }
}
