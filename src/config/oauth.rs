//! The gate as a client of servers that issue tokens, and how it asks them.

use schemars::{Schema, SchemaGenerator, json_schema};

use super::{
    secret::Secret,
    toml::{
        problem::Problem,
        reader::{Node, Reader},
        section::{GIB, KIB, MINUTE},
        table::section,
        value::{BoundedDuration, FromToml, Size, words},
    },
};

/// Algorithms of signatures that have a public key (RFC 7518 §3.1, RFC 8037): who can check one
/// must not be able to make one.
pub const SIGNATURES: [&str; 9] =
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];

section! {
    /// How small documents are fetched: metadata, keys, tokens, and what is known of a token.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    Fetching {
        /// Time that the issuer or the authorization server has for an answer.
        // All requests of one attempt together: some issuers wake from sleep.
        timeout as "fetch_timeout": BoundedDuration<10, MINUTE> = "10s",
        /// Bytes of such an answer.
        // The largest issuers have a few tens of KiB.
        bytes_max as "fetch_bytes_max": Size<KIB, GIB> = "512KiB",
    }
}

/// The gate as a client of an authorization server.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientAuth {
    pub id: String,
    pub secret: ClientSecret,
}

/// How the gate proves who it is, and where it says so.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientSecret {
    /// The secret in a header (RFC 6749 §2.3.1).
    Basic(Secret),
    /// The secret in the form.
    Post(Secret),
    /// A JWT that the gate signs (RFC 7523 §2.2).
    PrivateKey { pem: Secret, algorithm: String, key_id: Option<String> },
}

words! {
    /// The place where a client's secret is sent.
    SecretPlace {
        Basic = "basic",
        Post = "post",
    }
}

impl SecretPlace {
    /// The secret, sent there.
    pub fn with(self, secret: Secret) -> ClientSecret {
        match self {
            Self::Basic => ClientSecret::Basic(secret),
            Self::Post => ClientSecret::Post(secret),
        }
    }
}

/// The name of an algorithm that has a public key.
#[derive(Debug)]
pub struct Signature;

impl FromToml for Signature {
    type Value = String;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<String> {
        let name = String::read(node, reader)?;
        if !SIGNATURES.contains(&name.as_str()) {
            let title = format!("`{name}` is not an algorithm that is taken here");
            let help = format!("choose of {}", SIGNATURES.join(", "));
            reader.problem(Problem::new(node.span(), title, help));
        }
        Some(name)
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}
