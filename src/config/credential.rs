//! The credential that an upstream is shown in `Authorization`: who the gate is to others, and
//! whose name it uses.

use super::{
    oauth::{ClientAuth, ClientSecret, Fetching, SIGNATURES, SecretPlace, Signature},
    secret::Secret,
    toml::{
        problem::Problem,
        reader::Reader,
        section::{Fields, Finish, MINUTE},
        table::{kinds, section},
        value::{BoundedDuration, Count, Reference, Url},
    },
};

/// Help for an incomplete key of AWS.
const AWS: &str = "write region, service, and where the key is kept: access_key_id = \
                   \"env:AWS_ACCESS_KEY_ID\", secret_access_key = \"env:…\"";

/// The credential that an upstream is shown in `Authorization`.
#[derive(Debug, Clone, PartialEq)]
pub enum Credential {
    /// The gate's own token (OAuth 2.0 client credentials).
    Client(Box<Grant>),
    /// The caller's token, exchanged for one that is for this upstream (RFC 8693).
    Exchange(Box<Exchange>),
    /// The caller's token itself.
    Pass,
    /// A signature of each request (AWS, version 4).
    Aws(Box<SigV4>),
}

kinds! {
    /// The credential that an upstream is shown in `Authorization`.
    Credential called "credential" {
        /// A token of the gate's own (RFC 6749), one for all callers.
        "client_credentials": Grant => |grant| Self::Client(Box::new(grant)),
        /// The caller's token, exchanged for one that is for this upstream (RFC 8693).
        "token_exchange": Exchange => |exchange| Self::Exchange(Box::new(exchange)),
        /// The caller's token itself.
        "pass": Passed => |_| Self::Pass,
        /// A signature of AWS.
        "aws_sigv4": SigV4 => |keys| Self::Aws(Box::new(keys)),
    }
}

impl Credential {
    /// Whether it says who the caller is, so that what it opens is that caller's alone.
    pub fn is_callers(&self) -> bool {
        matches!(self, Self::Exchange(_) | Self::Pass)
    }
}

section! {
    /// How tokens are had of an authorization server.
    #[derive(Debug, Clone, PartialEq)]
    Grant called "credential" {
        /// The token endpoint. Without it, it is found from the upstream's address (`discover`).
        token_url: Option<Url>,
        /// The authorization server that the upstream must name where it is found (`discover`): the
        /// secret is sent to no other. Without it whoever the upstream names is sent a
        /// `client_secret`, which is warned of, and will be an error in the next release.
        issuer: Option<Url>,
        /// Scopes that are asked for.
        scopes: Vec<String>,
        /// The audience that is asked for, where the server wants to know one.
        audience: Option<String>,
        /// Time after a failure in which no token is asked for.
        pause as "fetch_pause": BoundedDuration<0, { 10 * MINUTE }> = "1s",
        /// A token that replaced a refused one so short a time ago is not replaced itself.
        refused_pause: BoundedDuration<0, { 10 * MINUTE }> = "5s",
    } with {
        /// How tokens are asked for.
        fetching: Fetching,
    } file {
        /// Discovers the issuer, in place of `token_url`: the upstream says whose tokens it takes
        /// (RFC 9728); `issuer` says who that must be.
        discover: bool = false,
        /// The name of the gate as a client there.
        client_id: String = required "write client_id, and client_secret or private_key",
        /// `env:NAME`, `file:PATH` or `vault:PATH#FIELD` of its secret.
        client_secret: Option<Reference>,
        /// Whether the secret is sent in a header ("basic") or in the form ("post").
        method: SecretPlace = "basic",
        /// A reference in place of a secret, `file:PATH`, `env:NAME` or `vault:PATH#FIELD` of a
        /// private key in PEM: the gate signs who it is (RFC 7523).
        private_key: Option<Reference>,
        /// The algorithm of that signature, such as "ES256".
        algorithm: Option<Signature>,
        /// The id of that key, where the server has several.
        key_id: Option<String>,
    } besides GrantRest {
        /// The gate as a client there.
        client: ClientAuth,
    }
}

section! {
    /// How callers' tokens are exchanged. The gate's own requests, such as lists, go with a token
    /// of the gate's own.
    #[derive(Debug, Clone, PartialEq)]
    Exchange called "credential" {
        /// Exchanged tokens that are kept, one for each caller's.
        tokens_max: Count<1, 10_000_000> = 10_000,
    } with {
        /// How tokens are had.
        grant: Grant,
    }
}

section! {
    /// The caller's token itself.
    #[derive(Debug)]
    Passed called "credential" {}
}

section! {
    /// Keys of AWS, and what they are used for.
    #[derive(Debug, Clone, PartialEq)]
    SigV4 called "credential" {
        /// The region, such as "eu-central-1".
        region: String = required AWS,
        /// The service, such as "execute-api" or "lambda".
        service: String = required AWS,
        /// `env:NAME`, `file:PATH` or `vault:PATH#FIELD` of the key's id.
        access_key_id: Reference = required AWS,
        /// The reference to the secret part of the key.
        secret_access_key: Reference = required AWS,
        /// The reference to a temporary key's token.
        session_token: Option<Reference>,
    }
}

impl Finish for Grant {
    fn finish(mut keys: Fields<Self>, reader: &mut Reader<'_>) -> Self {
        check_secret(&keys, reader);
        check_token_url(&keys, reader);
        let id = std::mem::take(&mut keys.client_id.value);
        let secret = match keys.private_key.value.take() {
            Some(pem) => ClientSecret::PrivateKey {
                pem,
                algorithm: keys.algorithm.value.take().unwrap_or_default(),
                key_id: keys.key_id.value.take(),
            },
            None => {
                keys.method.value.with(keys.client_secret.value.take().unwrap_or_else(no_secret))
            }
        };
        Self::new(keys, GrantRest { client: ClientAuth { id, secret } }, reader)
    }
}

/// Stands for a secret that is missing, which the reader knows.
fn no_secret() -> Secret {
    Secret::default()
}

/// Sees that there is one secret, and nothing that belongs to the other kind of it.
fn check_secret(keys: &Fields<Grant>, reader: &mut Reader<'_>) {
    match (&keys.private_key.span, &keys.client_secret.span) {
        (None, None) => {
            let help = "say where it is kept: client_secret = \"env:NAME\", or private_key = \
                        \"file:PATH\"";
            reader.problem(Problem::new(keys.at.clone(), "this credential has no secret", help));
        }
        (Some(_), Some(span)) => {
            let title = "`client_secret` besides `private_key`";
            reader.problem(Problem::new(span.clone(), title, "keep one of them"));
        }
        (Some(_), None) | (None, Some(_)) => (),
    }
    let (other, kind) = match &keys.private_key.span {
        Some(_) => (vec![("method", &keys.method.span)], "private_key"),
        None => (
            vec![("algorithm", &keys.algorithm.span), ("key_id", &keys.key_id.span)],
            "client_secret",
        ),
    };
    for (name, span) in other {
        if let Some(span) = span {
            let title = format!("`{name}` means nothing with `{kind}`");
            reader.problem(Problem::new(span.clone(), title, format!("remove `{name}`")));
        }
    }
    if let (Some(at), None) = (&keys.private_key.span, &keys.algorithm.span) {
        let help = format!("choose of {}", SIGNATURES.join(", "));
        let title = "this private key has no `algorithm`";
        reader.problem(Problem::new(at.clone(), title, help));
    }
}

/// Sees that it is said where the secret is sent, or left to the upstream on purpose.
fn check_token_url(keys: &Fields<Grant>, reader: &mut Reader<'_>) {
    match (&keys.token_url.span, keys.discover.value) {
        (None, false) => {
            let help = "write token_url = \"https://…\"; or discover = true, if the upstream may \
                        say where the secret is sent";
            let title = "this credential has no `token_url`";
            reader.problem(Problem::new(keys.at.clone(), title, help));
        }
        (Some(span), true) => {
            let title = "`token_url` besides `discover`";
            reader.problem(Problem::new(span.clone(), title, "keep one of them"));
        }
        (None, true) | (Some(_), false) => (),
    }
    if let (Some(span), false) = (&keys.issuer.span, keys.discover.value) {
        let title = "`issuer` means nothing without `discover`";
        reader.problem(Problem::new(
            span.clone(),
            title,
            "remove `issuer`, or write discover = true",
        ));
    }
}
