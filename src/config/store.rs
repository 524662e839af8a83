//! Where several gates count together: how the file says it.

use std::{str::FromStr, time::Duration};

use schemars::{Schema, SchemaGenerator, json_schema};

use super::{
    Secret,
    problem::Problem,
    reader::Reader,
    schema,
    value::{Key, Kind, Node},
};

/// Characters of a prefix: every key in the store begins with it.
const PREFIX_CHARS_MAX: usize = 64;

/// `[limit]`, if it has a `store`.
#[derive(Debug, Clone, PartialEq)]
pub struct LimitStore {
    /// `redis:` or `rediss:`; it may have a password in it.
    pub url: Secret,
    /// In place of one in `url`.
    pub password: Option<Secret>,
    /// How long one request waits. Default 50 ms: many times what a healthy store takes, and little
    /// beside a call.
    pub timeout: Duration,
    /// Requests that wait for an answer at once. Default 256, as many as a pipe of a few
    /// milliseconds holds.
    pub in_flight_max: usize,
    /// What keys begin with. Default "tollgate".
    pub prefix: String,
}

/// An address of a store.
#[derive(Debug, Clone, PartialEq)]
pub struct StoreUrl(pub Secret);

/// What keys of a store begin with.
#[derive(Debug, Clone, PartialEq)]
pub struct Prefix(pub String);

impl Kind for StoreUrl {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        if node.get_ref().as_str().is_some_and(has_password) {
            let title = "the store's password must not stand in the file itself";
            let help = "say where it is kept: store_password = \"env:NAME\" or \"file:PATH\"";
            reader.problem(Problem::new(node.span(), title, help));
            return None;
        }
        let secret = reader.secret(node)?;
        if !is_store(secret.expose()) {
            let title = "this is not the address of a store";
            let help = "write \"redis://HOST:PORT\" or \"rediss://HOST:PORT\", with \"/NUMBER\" \
                        behind it for another database than 0";
            reader.problem(Problem::new(node.span(), title, help));
            return None;
        }
        Some(Self(secret))
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": r"^(rediss?://|(env|file):.|.*\$\{)" })
    }
}

impl Kind for Prefix {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.text(node, "a prefix")?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:{}".contains(c);
        if (1..=PREFIX_CHARS_MAX).contains(&text.len()) && text.chars().all(plain) {
            return Some(Self(text));
        }
        let help = format!(
            "write 1 to {PREFIX_CHARS_MAX} letters, digits, `-`, `_`, `.`, `:`, and braces"
        );
        reader.refuse(node, "a prefix of keys", help);
        None
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": r"^([A-Za-z0-9_.:{}-]{1,64}$|.*\$\{)" })
    }
}

/// Where gates count together, right if the reader has no problem.
pub fn limit_store(section: Key<schema::Sharing>, reader: &mut Reader<'_>) -> Option<LimitStore> {
    let schema::Sharing { store, store_password, .. } = section.value;
    let (timeout, most) = (section.value.store_timeout, section.value.store_in_flight_max);
    let prefix = section.value.store_prefix;
    if store.span.is_none() {
        let others = [&store_password.span, &timeout.span, &most.span, &prefix.span];
        if let Some(span) = others.into_iter().flatten().next() {
            let help = "say where: store = \"redis://HOST:PORT\"";
            reader.problem(Problem::new(span.clone(), "there is no `store`", help));
        }
        return None;
    }
    Some(LimitStore {
        url: store.value?.into_inner().0,
        password: store_password.value.map(|password| password.0),
        timeout: timeout.value.0,
        in_flight_max: most.value.0,
        prefix: prefix.value.0,
    })
}

/// Whether a text as the file has it holds a password that is neither a variable's nor kept
/// elsewhere.
fn has_password(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let user = rest.rsplit_once('@').and_then(|(user, _)| user.split_once(':'));
    scheme.starts_with("redis")
        && user.is_some_and(|(_, password)| !password.is_empty() && !password.starts_with("${"))
}

fn is_store(text: &str) -> bool {
    let Ok(url) = http::Uri::from_str(text) else { return false };
    let scheme = matches!(url.scheme_str(), Some("redis" | "rediss"));
    let database = url.path().trim_start_matches('/');
    let database = database.is_empty() || database.parse::<u32>().is_ok();
    scheme && database && url.host().is_some_and(|host| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_scheme_a_host_and_at_most_a_number() {
        let right = ["redis://a", "rediss://a:1/2", "redis://u@[::1]:6379/", "redis://:p@a/0"];
        assert!(right.iter().all(|url| is_store(url)));
        let wrong =
            ["", "redis:", "http://a", "redis://", "redis://a/x", "a:6379", "redis+unix:///a"];
        for url in wrong {
            assert!(!is_store(url), "{url}");
        }
    }

    #[test]
    fn a_password_is_a_variable_or_elsewhere() {
        assert!(has_password("redis://:p@a") && has_password("rediss://u:p@a/1"));
        for text in ["redis://a:1", "redis://u@a", "redis://:${P}@a", "env:P", "file:a://b:c@d"] {
            assert!(!has_password(text), "{text}");
        }
    }
}
