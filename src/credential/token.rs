//! A token that an authorization server gave, and how long it is good.

use std::time::Duration;

use http::HeaderValue;
use serde::Deserialize;
use tokio::time::Instant;

/// The life of a token whose server does not say how long it is good.
const LIFE: Duration = Duration::from_secs(5 * 60);
/// The shortest time that a token is used, and the most seconds that count, whatever its server
/// says.
const LIFE_MIN: Duration = Duration::from_secs(1);
const LIFE_MAX: f64 = 24.0 * 60.0 * 60.0;

/// A token as it is sent.
#[derive(Debug, Clone)]
pub struct FetchedToken {
    value: HeaderValue,
    pub fetched: Instant,
    /// Whether it came in the place of one that was refused.
    pub replaces: bool,
    /// The time from which a new one is fetched, behind the callers' backs.
    pub renew: Instant,
    pub expires: Instant,
}

/// RFC 6749 §5.1.
#[derive(Deserialize)]
pub struct Granted {
    access_token: String,
    token_type: Option<String>,
    /// A number; some servers write it as a text.
    #[serde(default)]
    expires_in: serde_json::Value,
}

impl FetchedToken {
    /// # Errors
    /// Where it is none that can be sent.
    pub fn of(granted: &Granted, replaces: bool) -> Result<Self, String> {
        let kind = granted.token_type.as_deref().unwrap_or("Bearer");
        if !kind.eq_ignore_ascii_case("bearer") {
            return Err(format!("the token is of the type `{}`", kind.escape_debug()));
        }
        let value = value(&granted.access_token)?;
        let text = granted.expires_in.as_str().and_then(|text| text.parse().ok());
        let said = granted.expires_in.as_f64().or(text);
        let said = said.filter(|said: &f64| said.is_finite() && 0.0 <= *said);
        let life = said.map_or(LIFE, |said| Duration::from_secs_f64(said.min(LIFE_MAX)));
        let now = Instant::now();
        let life = life.max(LIFE_MIN);
        Ok(Self { value, fetched: now, replaces, renew: now + life * 4 / 5, expires: now + life })
    }

    /// The value of `Authorization`.
    pub fn value(&self) -> HeaderValue {
        self.value.clone()
    }

    pub fn is(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl std::fmt::Debug for Granted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Granted(…)")
    }
}

/// A token as `Authorization` has it (RFC 6750 §2.1), never printed.
///
/// # Errors
/// Where no header can hold it.
pub fn value(token: &str) -> Result<HeaderValue, String> {
    let value = HeaderValue::try_from(format!("Bearer {token}"));
    let mut value = value.ok().ok_or("the token is no token")?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_bearer_tokens_are_taken() {
        let granted = |kind: Option<&str>, token: &str| Granted {
            access_token: token.to_owned(),
            token_type: kind.map(str::to_owned),
            expires_in: json!(100),
        };
        let token = FetchedToken::of(&granted(Some("bearer"), "abc"), false).unwrap();
        assert_eq!(token.value(), "Bearer abc");
        assert!(!format!("{:?}", token.value()).contains("abc"));
        assert!(token.renew < token.expires);
        for odd in [json!(u64::MAX), json!(-1), json!(0), json!("3600"), json!("x"), json!(null)] {
            let granted = Granted { expires_in: odd, ..granted(None, "abc") };
            let token = FetchedToken::of(&granted, false).unwrap();
            assert!(LIFE_MIN <= token.expires - token.fetched);
        }
        assert!(FetchedToken::of(&granted(Some("DPoP"), "abc"), false).is_err());
        assert!(FetchedToken::of(&granted(None, "a\nb"), false).is_err());
    }
}
