//! `[limit]`: where several gates count together.

use std::str::FromStr;

use schemars::{Schema, SchemaGenerator, json_schema};

use super::{
    secret::Secret,
    toml::{
        problem::Problem,
        reader::{Node, Reader},
        section::{Fields, Finish, Keys, SECOND},
        table::section,
        value::{BoundedDuration, Count, FromToml, Reference},
    },
};

/// Characters of a prefix: every key in the store begins with it.
const PREFIX_CHARS_MAX: usize = 64;

section! {
    /// The store in which the `limits` of routes, upstreams and tools are counted. Without a store
    /// each gate counts by itself.
    #[derive(Debug, Clone, PartialEq)]
    LimitStore {
        /// A Redis (5 or later) or Valkey, in which several gates count together:
        /// "redis://HOST:PORT/DATABASE", "rediss://…" with TLS, or `env:NAME`, `file:PATH` or
        /// `vault:PATH#FIELD` of that. While it is away each gate counts by itself, and no call
        /// fails.
        url as "store": StoreUrl,
        /// `env:NAME`, `file:PATH` or `vault:PATH#FIELD` of its password.
        password as "store_password": Option<Reference>,
        /// How long a request waits for it, before this gate decides alone.
        // Many times what a healthy store takes, and little beside a call.
        timeout as "store_timeout": BoundedDuration<1, { 10 * SECOND }> = "50ms",
        /// Requests that may wait for it at once; one more waits for them, within the same time.
        // As many as a pipe of a few milliseconds holds.
        in_flight_max as "store_in_flight_max": Count<1, 100_000> = 256,
        /// The prefix of its keys. Gates that have the same one count together.
        prefix as "store_prefix": KeyPrefix = "tollgate",
    }
}

/// The section as a file has it: without a `store` it says nothing.
#[derive(Debug)]
pub struct LimitStoreOrNone;

impl FromToml for LimitStoreOrNone {
    type Value = Option<LimitStore>;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Option<LimitStore>> {
        let mut keys = Fields::<LimitStore>::read(node, reader)?;
        if keys.url.span.is_some() {
            return Some(Some(LimitStore::finish(keys, reader)));
        }
        let others = keys.fields();
        if let Some(at) = others.iter().find_map(|(_, field)| field.span()) {
            let help = "say where: store = \"redis://HOST:PORT\"";
            reader.problem(Problem::new(at.clone(), "there is no `store`", help));
        }
        Some(None)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        LimitStore::schema(generator)
    }
}

/// An address of a store, which may have a password in it.
#[derive(Debug)]
pub struct StoreUrl;

/// The prefix of a store's keys.
#[derive(Debug)]
pub struct KeyPrefix;

impl FromToml for StoreUrl {
    type Value = Secret;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Secret> {
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
        Some(secret)
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": r"^(rediss?://|(env|file|vault):.|.*\$\{)" })
    }
}

impl FromToml for KeyPrefix {
    type Value = String;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<String> {
        let text = reader.text(node, "a prefix")?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:{}".contains(c);
        if (1..=PREFIX_CHARS_MAX).contains(&text.len()) && text.chars().all(plain) {
            return Some(text);
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
