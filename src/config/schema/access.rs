//! Sections that say who somebody is: callers to the gate, and the gate to upstreams.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use toml::Spanned;

use super::{
    super::{
        SubjectOf,
        access::{AuthWord, CredentialWord, Hash, Moment, SecretWord},
        reader::Reader,
        value::{Count, Key, Kind, Node, Period, Reference, Size, Table, Url, table},
    },
    DAY, GIB, KIB, MINUTE, SECOND, default, unknown,
};

section! {
    /// Who can say who a caller is: an issuer of tokens, keys of the gate's own, or certificates.
    Auth {
        /// "jwt": access tokens of an issuer; "introspection": tokens that only their issuer can
        /// read (RFC 7662); "keys": API keys, made by `tollgate key new`; "certificate": what
        /// clients show in TLS.
        kind: Option<AuthWord>,
        /// The issuer, as its tokens' `iss` has it. Its keys are found by
        /// discovery (OIDC, RFC 8414). For introspection: where clients log in, if anywhere.
        issuer: Option<Url>,
        /// Where its keys are, if not where its metadata says.
        jwks_url: Option<Url>,
        /// Introspection: where it is asked about tokens.
        url: Option<Url>,
        /// Introspection: who the gate is there.
        client_id: Option<String>,
        /// Introspection: `env:NAME` or `file:PATH` of its secret.
        client_secret: Option<Reference>,
        /// Introspection: whether the secret is sent in a header ("basic") or in the form ("post").
        method: SecretWord = "basic",
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
        /// Time that the issuer has for an answer.
        fetch_timeout: Period<10, MINUTE> = "10s",
        /// Bytes of such an answer.
        fetch_bytes_max: Size<KIB, GIB> = "512KiB",
        /// Introspection: time after a failure in which the issuer is not asked.
        outage_pause: Period<0, MINUTE> = "1s",
        /// The claim that says whose a token is.
        subject_claim: Option<String>,
        /// The claim that lists groups; `a.b` is `b` within `a`.
        groups_claim: Option<String>,
        /// Keys that an issuer may have.
        keys_max: Count<1, 10_000> = 100,
        /// Keys that are tried for a token that names none.
        tries_max: Count<1, 100> = 8,
        /// Bytes of a token.
        token_bytes_max: Size<KIB, { 1 << 20 }> = "16KiB",
        /// Tokens that are remembered.
        tokens_max: Count<1, 10_000_000> = 10_000,
        /// How long a token that was found good is taken at its word, unless it ends before.
        remember: Period<0, { 10 * MINUTE }> = "60s",
        /// Introspection: how long a refused token is so without being asked about again.
        remember_refused: Period<0, { 10 * MINUTE }> = "10s",
        /// Introspection: tokens that are asked about at once.
        asked_max: Count<1, 10_000> = 64,
        /// API keys by their ids.
        keys: Table<Spanned<ApiKey>>,
        /// Certificates: what says whose one is: the URI ("san:uri") or the DNS name ("san:dns")
        /// among its alternative names, or its "subject".
        subject: SubjectOf = "san:uri",
        /// Certificates: groups that all their holders are in.
        groups: Vec<String>,
        /// Certificates: scopes that all their holders have.
        scopes: Vec<String>,
    }
}

section! {
    /// How a caller must have logged in (RFC 9470). Who has not is told so, and can log in again.
    StepUp {
        /// Classes of logins (`acr`), of which it must be one.
        acr: Vec<String>,
        /// Methods (`amr`), of which one must have been used, such as "mfa".
        amr: Vec<String>,
        /// How long ago at most.
        max_age: Option<Period<SECOND, { 365 * DAY }>>,
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
    /// What an upstream is shown in `Authorization`.
    Credential {
        /// `client_credentials`: a token of the gate's own (RFC 6749), one for all callers;
        /// `token_exchange`: the caller's token, exchanged for one that is for this upstream
        /// (RFC 8693); `pass`: the caller's token itself; `aws_sigv4`: a signature of AWS.
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
        /// Time that the authorization server has for an answer.
        fetch_timeout: Period<10, MINUTE> = "10s",
        /// Bytes of such an answer.
        fetch_bytes_max: Size<KIB, GIB> = "512KiB",
        /// Time after a failure in which no token is asked for.
        fetch_pause: Period<0, { 10 * MINUTE }> = "1s",
        /// A token that replaced a refused one so short a time ago is not replaced itself.
        refused_pause: Period<0, { 10 * MINUTE }> = "5s",
        /// Exchanged tokens that are kept.
        tokens_max: Count<1, 10_000_000> = 10_000,
        /// AWS: the region, such as "eu-central-1".
        region: Option<String>,
        /// AWS: the service, such as "execute-api".
        service: Option<String>,
        /// AWS: `env:NAME` or `file:PATH` of the key's id.
        access_key_id: Option<Reference>,
        /// AWS: the same of the key.
        secret_access_key: Option<Reference>,
        /// AWS: the same of a temporary key's token.
        session_token: Option<Reference>,
    }
}
