//! The kinds of values that say who somebody is: callers to the gate, and the gate to upstreams.

use schemars::{Schema, SchemaGenerator, json_schema};
use toml::Spanned;

use super::{
    SubjectOf,
    reader::Reader,
    value::{Kind, Node, Word},
};

/// Algorithms of signatures that have a public key (RFC 7518 §3.1, RFC 8037): who can check one
/// must not be able to make one.
pub const SIGNATURES: [&str; 9] =
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];

/// The hash of an API key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hash(pub [u8; 32]);

/// A moment, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment(pub u64);

/// Who may use a route.
#[derive(Debug, Clone)]
pub enum Access {
    /// Whom one of these recognises.
    Known(Vec<Spanned<String>>),
    /// Everybody: "none".
    Everybody,
}

/// The kind of an authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthWord {
    Jwt,
    Introspection,
    Keys,
    Certificate,
}

/// How the gate gets a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialWord {
    ClientCredentials,
    TokenExchange,
    Pass,
    AwsSigV4,
}

/// Where a client's secret is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SecretWord {
    #[default]
    Basic,
    Post,
}

impl Word for AuthWord {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("jwt", Self::Jwt),
        ("introspection", Self::Introspection),
        ("keys", Self::Keys),
        ("certificate", Self::Certificate),
    ];
}

impl Word for SubjectOf {
    const WORDS: &'static [(&'static str, Self)] =
        &[("san:uri", Self::Uri), ("san:dns", Self::Dns), ("subject", Self::Subject)];
}

impl Word for CredentialWord {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("client_credentials", Self::ClientCredentials),
        ("token_exchange", Self::TokenExchange),
        ("pass", Self::Pass),
        ("aws_sigv4", Self::AwsSigV4),
    ];
}

impl Word for SecretWord {
    const WORDS: &'static [(&'static str, Self)] = &[("basic", Self::Basic), ("post", Self::Post)];
}

impl Kind for Hash {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = reader.text(node, "a hash")?;
        let digits = text.strip_prefix("sha256:").filter(|digits| digits.len() == 64);
        let bytes = digits.and_then(|digits| {
            let byte = |at: usize| u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok();
            (0..32).map(byte).collect::<Option<Vec<u8>>>()
        });
        let found = bytes.and_then(|bytes| bytes.try_into().ok()).map(Self);
        if found.is_none() {
            let help = "write \"sha256:\" and 64 hexadecimal digits: `tollgate key new` makes them";
            reader.refuse(node, "the hash of a key", help);
        }
        found
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^sha256:[0-9A-Fa-f]{64}$" })
    }
}

impl Kind for Moment {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let help = "write a date and a time with its zone: \"2027-01-31T00:00:00Z\"";
        let moment: jiff::Timestamp = reader.parsed(node, "a moment", help)?;
        Some(Self(moment.as_second().try_into().unwrap_or_default()))
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

impl Kind for Access {
    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        if node.get_ref().as_array().is_some() {
            return Vec::read(node, reader).map(Self::Known);
        }
        if node.get_ref().as_str() == Some("none") {
            return Some(Self::Everybody);
        }
        let help = "name [auth.…] sections: [\"corp\"]; or \"none\", if everybody may call";
        reader.unexpected(node, "an array, or \"none\"", help);
        None
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "const": "none" },
            { "type": "array", "items": { "type": "string" }, "minItems": 1 },
        ] })
    }
}
