//! Sections that say who somebody is: callers to the gate, and the gate to upstreams.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use toml::Spanned;

use super::{
    super::{
        access::{AuthWord, CredentialWord, Hash, Moment, SecretWord},
        reader::Reader,
        value::{Count, Key, Kind, Node, Period, Reference, Size, Table, Url, table},
    },
    DAY, KIB, MINUTE, SECOND, default, unknown,
};

section! {
    /// Who can say who a caller is: an issuer of tokens, or keys of the gate's own.
    Auth {
        /// "jwt": access tokens of an issuer; "keys": API keys, made by `tollgate key new`.
        kind: Option<AuthWord>,
        /// The issuer, as its tokens' `iss` has it. Its keys are found by
        /// discovery (OIDC, RFC 8414).
        issuer: Option<Url>,
        /// Where its keys are, if not where its metadata says.
        jwks_url: Option<Url>,
        /// Audiences of which a token must have one; without any, `public_url` with the path of the
        /// route.
        audience: Vec<String>,
        /// Algorithms of signatures that are taken; shared secrets never are.
        algorithms: Vec<Spanned<String>>,
        /// How far clocks may differ.
        leeway: Period<0, { 10 * MINUTE }> = "30s",
        /// How old the issuer's keys may get before they are fetched again.
        refresh: Period<{ 10 * SECOND }, DAY> = "10m",
        /// How old they may get while the issuer is out of reach.
        stale: Period<{ 10 * SECOND }, { 30 * DAY }> = "24h",
        /// Time between two fetches of its keys: strangers choose which key their tokens name.
        fetch_pause: Period<0, { 10 * MINUTE }> = "10s",
        /// The claim that says whose a token is.
        subject_claim: Option<String>,
        /// The claim that lists groups; `a.b` is `b` within `a`.
        groups_claim: Option<String>,
        /// Keys that an issuer may have.
        keys_max: Count<1, 10_000> = 100,
        /// Bytes of a token.
        token_bytes_max: Size<KIB, { 1 << 20 }> = "16KiB",
        /// Tokens that are remembered as good, each for a minute at most.
        tokens_max: Count<1, 10_000_000> = 10_000,
        /// API keys by their ids.
        keys: Table<Spanned<ApiKey>>,
    }
}

section! {
    /// One API key; `tollgate key new` writes such a section.
    ApiKey {
        /// SHA-256 of the key, in hexadecimal: "sha256:…".
        hash: Option<Hash>,
        /// Whose it is. Several keys may be one caller's.
        caller: Option<String>,
        /// Words for people.
        label: Option<String>,
        /// Groups that the caller is in.
        groups: Vec<String>,
        /// Scopes that the key has.
        scopes: Vec<String>,
        /// When it ends, such as "2027-01-31T00:00:00Z".
        expires: Option<Moment>,
    }
}

section! {
    /// How the gate gets an access token for an upstream (OAuth 2.0). One is for all callers; it is
    /// renewed before it expires.
    Credential {
        /// The only kind there is: client credentials (RFC 6749).
        kind: Option<CredentialWord>,
        /// The token endpoint.
        token_url: Option<Url>,
        /// In its place: the upstream says whose tokens it takes (RFC 9728). Only for one that is
        /// trusted with the secret: whoever it names is sent that.
        discover: bool = false,
        /// Who the gate is there.
        client_id: Option<String>,
        /// `env:NAME`, `file:PATH` or `vault:PATH#FIELD` of its secret.
        client_secret: Option<Reference>,
        /// Whether the secret is sent in a header ("basic") or in the form ("post").
        method: SecretWord = "basic",
        /// In place of a secret, `file:PATH`, `env:NAME` or `vault:PATH#FIELD` of a private key in
        /// PEM: the gate signs who it is (RFC 7523).
        private_key: Option<Reference>,
        /// The algorithm of that signature, such as "ES256".
        algorithm: Option<Spanned<String>>,
        /// The id of that key, where the server has several.
        key_id: Option<String>,
        /// Scopes that are asked for.
        scopes: Vec<String>,
        /// The audience that is asked for, where the server wants to know one.
        audience: Option<String>,
    }
}
