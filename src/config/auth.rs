//! `[auth.NAME]`: who can say who a caller is, and what a route asks of a login.

use std::net::SocketAddr;

use schemars::{Schema, SchemaGenerator, json_schema};
use toml::Spanned;

use super::{
    oauth::{ClientAuth, Fetching, SIGNATURES, SecretPlace, Signature},
    section_name::{NAME_CHARS_MAX, is_section_name},
    toml::{
        problem::{Problem, nearest},
        reader::{Node, Reader},
        section::{DAY, Fields, Finish, KIB, MINUTE, SECOND},
        table::{kinds, section},
        value::{
            BoundedDuration, Count, FromToml, Moment, Reference, Size, Table, Url, duration, table,
            words,
        },
    },
};

/// Help for a missing key of the gate as a client of an issuer.
const CLIENT: &str = "write url = \"https://…\", client_id = \"…\", and client_secret = \
                      \"env:NAME\" or \"file:PATH\"";

/// `[auth.NAME]`: who can say who a caller is.
#[derive(Debug, Clone, PartialEq)]
pub struct Auth {
    /// `[a-z0-9_-]`, at most 32 characters.
    pub name: String,
    pub kind: AuthKind,
}

/// An authority that says who callers are.
#[derive(Debug, Clone, PartialEq)]
pub enum AuthKind {
    /// Access tokens that are JWTs of one issuer.
    Jwt(Box<JwtAuth>),
    /// Access tokens that only their issuer can read (RFC 7662).
    Opaque(Box<OpaqueAuth>),
    /// The gate's own API keys.
    Keys(Vec<ApiKey>),
    /// Certificates that clients show in TLS.
    Certificate(CertificateAuth),
}

kinds! {
    /// An authority that says who a caller is: an issuer of tokens, keys of the gate's own, or
    /// certificates.
    AuthKind called "authority" {
        /// Access tokens of an issuer, which are JWTs.
        "jwt": JwtAuth => |jwt| Self::Jwt(Box::new(jwt)),
        /// Access tokens that only their issuer can read (RFC 7662).
        "introspection": OpaqueAuth => |opaque| Self::Opaque(Box::new(opaque)),
        /// API keys, made by `tollgate key new`.
        "keys": KeysAuth => |auth: KeysAuth| Self::Keys(auth.keys),
        /// Certificates that clients show in TLS.
        "certificate": CertificateAuth => Self::Certificate,
    }
}

section! {
    /// Settings that hold for access tokens of every kind.
    #[derive(Debug, Clone, PartialEq)]
    Tokens {
        /// Audiences of which a token must have one; without any, `public_url` with the path of the
        /// route.
        audiences as "audience": Vec<String>,
        /// How far clocks may differ.
        leeway: BoundedDuration<0, { 10 * MINUTE }> = "30s",
        /// The claim that says whose a token is.
        subject_claim: String = "sub",
        /// The claim that lists groups; `a.b` is `b` within `a`.
        groups_claim: String = "groups",
        /// Bytes of a token.
        // More than a request's head has in most servers.
        token_bytes_max: Size<KIB, { 1 << 20 }> = "16KiB",
        /// Tokens that are remembered, as good or as refused.
        tokens_max: Count<1, 10_000_000> = 10_000,
        /// How long a token that was found good is taken at its word, unless it ends before.
        // A signature costs 35 to 65 µs to check; a token that was revoked may be taken so long.
        remember: BoundedDuration<0, { 10 * MINUTE }> = "60s",
    }
}

section! {
    /// An issuer of JWTs.
    #[derive(Debug, Clone, PartialEq)]
    JwtAuth called "authority" checked by jwt {
        /// The issuer, as its tokens' `iss` has it. Its keys are found by discovery (OIDC, RFC
        /// 8414).
        issuer: Url = required "write the issuer as its tokens have it: issuer = \"https://…\"",
        /// The address of its keys, if not the one in its metadata.
        jwks_url: Option<Url>,
        /// Algorithms of signatures that are taken; shared secrets never are. Without it, all that
        /// have a public key.
        algorithms: Vec<Signature> = (SIGNATURES.map(str::to_owned).into()),
        /// How old the issuer's keys may get before they are fetched again.
        // As issuers allow caches.
        refresh: BoundedDuration<{ 10 * SECOND }, DAY> = "10m",
        /// How old they may get while the issuer is out of reach.
        // Nobody is locked out by a night's outage.
        stale: BoundedDuration<{ 10 * SECOND }, { 30 * DAY }> = "24h",
        /// Time between two fetches of its keys: strangers choose which key their tokens name.
        // A new one is in use sooner than that only after an emergency.
        pause as "fetch_pause": BoundedDuration<0, { 10 * MINUTE }> = "10s",
        /// Keys that an issuer may have.
        keys_max: Count<1, 10_000> = 100,
        /// Keys that are tried for a token that names none.
        // Issuers have two or three.
        tries_max: Count<1, 100> = 8,
    } with {
        /// How its metadata and keys are fetched.
        fetching: Fetching,
        /// The settings of its tokens.
        tokens: Tokens,
    }
}

section! {
    /// An issuer that is asked about each token.
    #[derive(Debug, Clone, PartialEq)]
    OpaqueAuth called "authority" {
        /// The address at which it is asked about tokens (introspection).
        url: Url = required CLIENT,
        /// The issuer, as an answer's `iss` has it, where it has one: where clients log in.
        issuer: Option<Url>,
        /// Time after a failure in which the issuer is not asked.
        pause as "outage_pause": BoundedDuration<0, MINUTE> = "1s",
        /// How long a refused token is so without being asked about again.
        remember_refused: BoundedDuration<0, { 10 * MINUTE }> = "10s",
        /// Tokens that are asked about at once.
        asked_max: Count<1, 10_000> = 64,
    } with {
        /// How it is asked.
        fetching: Fetching,
        /// The settings of its tokens.
        tokens: Tokens,
    } file {
        /// The name of the gate as a client there.
        client_id: String = required CLIENT,
        /// `env:NAME`, `file:PATH` or `vault:PATH#FIELD` of its secret.
        client_secret: Reference = required CLIENT,
        /// Whether the secret is sent in a header ("basic") or in the form ("post").
        method: SecretPlace = "basic",
    } besides OpaqueRest {
        /// The gate as a client there.
        client: ClientAuth,
    }
}

section! {
    /// The gate's own API keys.
    #[derive(Debug)]
    KeysAuth called "authority" checked by has_keys {
        /// API keys by their ids.
        keys: ApiKeyTable,
    }
}

section! {
    /// One API key; `tollgate key new` writes such a section.
    keys KeyFields called "key" {
        /// SHA-256 of the key, in hexadecimal: "sha256:…".
        hash: Hash = required "`tollgate key new` writes whole sections",
        /// The caller that it belongs to. Several keys may be one caller's.
        caller: String = required "`tollgate key new` writes whole sections",
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

/// An API key, as far as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiKey {
    pub id: String,
    /// SHA-256 of the key.
    pub hash: [u8; 32],
    pub caller: String,
    pub label: Option<String>,
    pub groups: Vec<String>,
    pub scopes: Vec<String>,
    /// Seconds since 1970.
    pub expires: Option<u64>,
}

section! {
    /// Holders of certificates that `client_ca` vouches for.
    #[derive(Debug, Clone, PartialEq)]
    CertificateAuth called "authority" {
        /// The part of a certificate that names its caller: the URI ("san:uri") or the DNS name
        /// ("san:dns") among its alternative names, or its "subject".
        subject: SubjectOf = "san:uri",
        /// Groups that all their holders are in.
        groups: Vec<String>,
        /// Scopes that all their holders have.
        scopes: Vec<String>,
    }
}

words! {
    /// The part of a certificate that names its caller.
    #[derive(Default)]
    SubjectOf {
        /// The one URI among its alternative names (SPIFFE).
        #[default]
        Uri = "san:uri",
        /// The one DNS name among them.
        Dns = "san:dns",
        /// Its subject, in the words of RFC 4514.
        Subject = "subject",
    }
}

section! {
    /// How a caller must have logged in (RFC 9470). Who has not is told so, and can log in again.
    #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
    StepUp checked by asks_something {
        /// Classes of logins (`acr`), of which it must be one.
        acr: Vec<String>,
        /// Methods (`amr`, RFC 8176), of which one must have been used, such as "mfa".
        amr: Vec<String>,
        /// How long ago at most.
        max_age: Option<BoundedDuration<SECOND, { 365 * DAY }>>,
    }
}

/// The authorities of the file, each at the place of its name.
#[derive(Debug)]
pub struct Authorities;

impl FromToml for Authorities {
    type Value = Vec<Spanned<Auth>>;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value> {
        let mut authorities = Vec::new();
        for (key, value) in table(node, reader)? {
            let name = key.get_ref().as_ref();
            if !is_section_name(name) {
                let title = format!("`{}` is not a name for an authority", name.escape_debug());
                let help = format!("use at most {NAME_CHARS_MAX} of a-z, 0-9, `_` and `-`");
                reader.problem(Problem::new(key.span(), title, help));
            }
            reader.set_heading(key.span());
            if let Some(kind) = AuthKind::read(value, reader) {
                authorities.push(Spanned::new(key.span(), Auth { name: name.to_owned(), kind }));
            }
        }
        Some(authorities)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        Table::<AuthKind>::schema(generator)
    }
}

/// Refuses tokens whose audience would be an address that no client can use.
pub fn check_audience(
    authorities: &[Spanned<Auth>],
    listen: SocketAddr,
    public_url: Option<&str>,
    reader: &mut Reader<'_>,
) {
    if public_url.is_some() || !listen.ip().is_unspecified() {
        return;
    }
    for auth in authorities {
        let tokens = match &auth.get_ref().kind {
            AuthKind::Jwt(jwt) => &jwt.tokens,
            AuthKind::Opaque(opaque) => &opaque.tokens,
            AuthKind::Keys(_) | AuthKind::Certificate(_) => continue,
        };
        if tokens.audiences.is_empty() {
            let title = "the audience of these tokens would be an address that no client has";
            let help = "write public_url = \"https://…\" in [server], or an `audience` here";
            reader.problem(Problem::new(auth.span(), title, help));
        }
    }
}

/// Refuses authorities of certificates where no client is asked for one.
pub fn check_client_ca(
    authorities: &[Spanned<Auth>],
    has_client_ca: bool,
    reader: &mut Reader<'_>,
) {
    for auth in authorities.iter().filter(|_| !has_client_ca) {
        if matches!(auth.get_ref().kind, AuthKind::Certificate(_)) {
            let title = "no client is asked for a certificate";
            let help = "name in [server.tls] who vouches for them: client_ca = \"clients.pem\"";
            reader.problem(Problem::new(auth.span(), title, help));
        }
    }
}

fn jwt(keys: &mut Fields<JwtAuth>, reader: &mut Reader<'_>) {
    if let Some(at) = &keys.algorithms.span
        && keys.algorithms.value.is_empty()
        && !reader.has_problem(at)
    {
        let help = "name one or more, or leave the key out for all that have a public key";
        reader.problem(Problem::new(at.clone(), "no algorithm is taken", help));
    }
    let stale = &keys.stale;
    let refresh = &keys.refresh;
    if stale.value < refresh.value {
        let longer = duration(stale.value);
        let shorter = duration(refresh.value);
        let title = format!("`stale` is {longer}, but `refresh` is {shorter}");
        let at = stale.span.clone().or_else(|| refresh.span.clone()).unwrap_or(keys.at.clone());
        reader.problem(Problem::new(at, title, "make `stale` longer than `refresh`"));
    }
}

impl Finish for OpaqueAuth {
    fn finish(mut keys: Fields<Self>, reader: &mut Reader<'_>) -> Self {
        let id = std::mem::take(&mut keys.client_id.value);
        let secret = std::mem::take(&mut keys.client_secret.value);
        let client = ClientAuth { id, secret: keys.method.value.with(secret) };
        Self::new(keys, OpaqueRest { client }, reader)
    }
}

fn has_keys(auth: &mut Fields<KeysAuth>, reader: &mut Reader<'_>) {
    let keys = &auth.keys;
    if keys.value.is_empty() && keys.span.as_ref().is_none_or(|span| !reader.has_problem(span)) {
        let help = "make one: `tollgate key new --auth NAME --caller CALLER`";
        reader.problem(Problem::new(auth.at.clone(), "this authority has no key", help));
    }
}

fn asks_something(keys: &mut Fields<StepUp>, reader: &mut Reader<'_>) {
    let is_empty = keys.acr.value.is_empty() && keys.amr.value.is_empty();
    if is_empty && keys.max_age.value.is_none() && !reader.has_problem(&keys.at) {
        let help = "say how: step_up = { amr = [\"mfa\"] }, or max_age = \"15m\"";
        reader.problem(Problem::new(keys.at.clone(), "this asks nothing of a login", help));
    }
}

/// API keys by their ids.
#[derive(Debug)]
pub struct ApiKeyTable;

impl FromToml for ApiKeyTable {
    type Value = Vec<ApiKey>;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Vec<ApiKey>> {
        let sections = Table::<KeyFields>::read(node, reader)?.into_iter();
        let keys = sections.map(|(id, keys)| {
            if let (Some(at), "") = (&keys.caller.span, keys.caller.value.as_str())
                && !reader.has_problem(at)
            {
                let title = "a caller's name is empty";
                reader.problem(Problem::new(at.clone(), title, "name somebody"));
            }
            ApiKey {
                id: id.into_inner(),
                hash: keys.hash.value,
                caller: keys.caller.value,
                label: keys.label.value,
                groups: keys.groups.value,
                scopes: keys.scopes.value,
                expires: keys.expires.value,
            }
        });
        Some(keys.collect())
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        Table::<KeyFields>::schema(generator)
    }
}

/// The hash of an API key.
#[derive(Debug)]
pub struct Hash;

impl FromToml for Hash {
    type Value = [u8; 32];

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<[u8; 32]> {
        let text = reader.text(node, "a hash")?;
        let digits = text.strip_prefix("sha256:").filter(|digits| digits.len() == 64);
        let bytes = digits.and_then(|digits| {
            let byte = |at: usize| u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok();
            (0..32).map(byte).collect::<Option<Vec<u8>>>()
        });
        let found = bytes.and_then(|bytes| bytes.try_into().ok());
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

/// The callers that may use a route.
#[derive(Debug, Clone)]
pub enum Access {
    /// Callers that one of these authorities recognises.
    Known(Vec<String>),
    /// Everybody: "none".
    Everybody,
}

impl FromToml for Access {
    type Value = Self;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        if node.get_ref().as_str() == Some("none") {
            return Some(Self::Everybody);
        }
        if node.get_ref().as_array().is_none() {
            let help = "name [auth.…] sections: [\"corp\"]; or \"none\", if everybody may call";
            reader.unexpected(node, "an array, or \"none\"", help);
            return None;
        }
        let names = Vec::<Spanned<String>>::read(node, reader)?;
        if names.is_empty() {
            let help = "name one or more; or write \"none\", if everybody may call";
            reader.problem(Problem::new(node.span(), "this route names nobody", help));
        }
        let known = reader.names();
        for name in names.iter().filter(|name| !known.auth.contains(name.get_ref())) {
            let title = format!("there is no [auth.{}]", name.get_ref());
            let help = nearest(name.get_ref(), known.auth.iter().map(String::as_str));
            reader.problem(Problem::new(name.span(), title, help));
        }
        Some(Self::Known(names.into_iter().map(Spanned::into_inner).collect()))
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "const": "none" },
            { "type": "array", "items": { "type": "string" }, "minItems": 1 },
        ] })
    }
}
