//! The sections that say who can say who a caller is.

use std::ops::Range;

use toml::Spanned;

use super::super::{
    ApiKey, Auth, AuthKind, CertificateAuth, ClientAuth, ClientSecret, Fetching, JwtAuth,
    OpaqueAuth, StepUp,
    access::{Access, AuthWord, SIGNATURES, SecretWord},
    problem::{Problem, nearest},
    reader::Reader,
    schema,
    value::{Key, Table},
};

pub fn all(sections: Table<Spanned<schema::Auth>>, reader: &mut Reader<'_>) -> Vec<Auth> {
    sections.0.into_iter().filter_map(|(name, section)| one(&name, section, reader)).collect()
}

/// Tokens for an address that no client can use would be nobody's.
pub fn refuse_nowhere(
    sections: &Table<Spanned<schema::Auth>>,
    reached: bool,
    reader: &mut Reader<'_>,
) {
    for (name, section) in sections.0.iter().filter(|_| !reached) {
        let section = section.get_ref();
        let of_tokens = [Some(AuthWord::Jwt), Some(AuthWord::Introspection)];
        if of_tokens.contains(&section.kind.value) && section.audience.value.is_empty() {
            let title = "the audience of these tokens would be an address that no client has";
            let help = "write public_url = \"https://…\" in [server], or an `audience` here";
            reader.problem(Problem::new(name.span(), title, help));
        }
    }
}

/// Certificates that no client is asked for would be nobody's.
pub fn refuse_unseen(
    sections: &Table<Spanned<schema::Auth>>,
    server: &schema::Server,
    reader: &mut Reader<'_>,
) {
    let tls = server.tls.value.as_ref().map(Spanned::get_ref);
    let asked = tls.is_some_and(|tls| tls.client_ca.value.is_some());
    for (name, section) in sections.0.iter().filter(|_| !asked) {
        if section.get_ref().kind.value == Some(AuthWord::Certificate) {
            let title = "no client is asked for a certificate";
            let help = "name in [server.tls] who vouches for them: client_ca = \"clients.pem\"";
            reader.problem(Problem::new(name.span(), title, help));
        }
    }
}

/// How callers of a route must have logged in.
pub fn step_up(
    section: Option<Spanned<schema::StepUp>>,
    reader: &mut Reader<'_>,
) -> Option<StepUp> {
    let section = section?;
    let (at, section) = (section.span(), section.into_inner());
    let max_age = section.max_age.value.map(|age| age.0);
    let found = StepUp { acr: section.acr.value, amr: section.amr.value, max_age };
    if found.acr.is_empty() && found.amr.is_empty() && max_age.is_none() && !reader.faults(&at) {
        let help = "say how: step_up = { amr = [\"mfa\"] }, or max_age = \"15m\"";
        reader.problem(Problem::new(at, "this asks nothing of a login", help));
    }
    Some(found)
}

/// The authorities that a route names.
pub fn named(
    access: Option<Access>,
    known: &[String],
    at: Option<&Range<usize>>,
    reader: &mut Reader<'_>,
) -> Vec<String> {
    let Some(Access::Known(names)) = access else { return Vec::new() };
    if let Some(at) = at.filter(|_| names.is_empty()) {
        let help = "name one or more; or write \"none\", if everybody may call";
        reader.problem(Problem::new(at.clone(), "this route names nobody", help));
    }
    for name in &names {
        if !known.contains(name.get_ref()) {
            let title = format!("there is no [auth.{}]", name.get_ref());
            let help = nearest(name.get_ref(), known.iter().map(String::as_str));
            reader.problem(Problem::new(name.span(), title, help));
        }
    }
    names.into_iter().map(Spanned::into_inner).collect()
}

fn one(
    name: &Spanned<String>,
    section: Spanned<schema::Auth>,
    reader: &mut Reader<'_>,
) -> Option<Auth> {
    if !super::is_name(name.get_ref()) {
        let title = format!("`{}` is not a name for an authority", name.get_ref().escape_debug());
        let help = format!("use at most {} of a-z, 0-9, `_` and `-`", super::NAME_CHARS_MAX);
        reader.problem(Problem::new(name.span(), title, help));
    }
    let section = section.into_inner();
    let Some(word) = section.kind.value else {
        if section.kind.span.is_none() {
            let help =
                "say what it is: kind = \"jwt\", \"introspection\", \"keys\" or \"certificate\"";
            reader.problem(Problem::new(name.span(), "this authority has no `kind`", help));
        }
        return None;
    };
    refuse_unfit(&section, word, reader);
    let kind = match word {
        AuthWord::Jwt => AuthKind::Jwt(Box::new(jwt(section, &name.span(), reader)?)),
        AuthWord::Introspection => {
            AuthKind::Opaque(Box::new(opaque(section, &name.span(), reader)?))
        }
        AuthWord::Keys => AuthKind::Keys(keys(section.keys, &name.span(), reader)),
        AuthWord::Certificate => AuthKind::Certificate(CertificateAuth {
            subject: section.subject.value,
            groups: section.groups.value,
            scopes: section.scopes.value,
        }),
    };
    Some(Auth { name: name.get_ref().clone(), kind })
}

/// Keys of another kind mean nothing.
fn refuse_unfit(section: &schema::Auth, word: AuthWord, reader: &mut Reader<'_>) {
    use AuthWord::{Certificate, Introspection, Jwt, Keys};
    let tokens = &[Jwt, Introspection][..];
    let (jwt, asked, certificates) = (&[Jwt][..], &[Introspection][..], &[Certificate][..]);
    let all = [
        ("issuer", &section.issuer.span, tokens),
        ("jwks_url", &section.jwks_url.span, jwt),
        ("url", &section.url.span, asked),
        ("client_id", &section.client_id.span, asked),
        ("client_secret", &section.client_secret.span, asked),
        ("method", &section.method.span, asked),
        ("audience", &section.audience.span, tokens),
        ("algorithms", &section.algorithms.span, jwt),
        ("leeway", &section.leeway.span, tokens),
        ("refresh", &section.refresh.span, jwt),
        ("stale", &section.stale.span, jwt),
        ("fetch_pause", &section.fetch_pause.span, jwt),
        ("fetch_timeout", &section.fetch_timeout.span, tokens),
        ("fetch_bytes_max", &section.fetch_bytes_max.span, tokens),
        ("outage_pause", &section.outage_pause.span, asked),
        ("subject_claim", &section.subject_claim.span, tokens),
        ("groups_claim", &section.groups_claim.span, tokens),
        ("keys_max", &section.keys_max.span, jwt),
        ("tries_max", &section.tries_max.span, jwt),
        ("token_bytes_max", &section.token_bytes_max.span, tokens),
        ("tokens_max", &section.tokens_max.span, tokens),
        ("remember", &section.remember.span, tokens),
        ("remember_refused", &section.remember_refused.span, asked),
        ("asked_max", &section.asked_max.span, asked),
        ("keys", &section.keys.span, &[Keys][..]),
        ("subject", &section.subject.span, certificates),
        ("groups", &section.groups.span, certificates),
        ("scopes", &section.scopes.span, certificates),
    ];
    let kind = match word {
        Jwt => "jwt",
        Introspection => "introspection",
        Keys => "keys",
        Certificate => "certificate",
    };
    for (name, span, _) in all.iter().filter(|(_, _, kinds)| !kinds.contains(&word)) {
        if let Some(span) = span {
            let title = format!("`{name}` means nothing for an authority of kind \"{kind}\"");
            reader.problem(Problem::new((*span).clone(), title, format!("remove `{name}`")));
        }
    }
}

fn jwt(section: schema::Auth, at: &Range<usize>, reader: &mut Reader<'_>) -> Option<JwtAuth> {
    if section.issuer.span.is_none() {
        let help = "write the issuer as its tokens have it: issuer = \"https://…\"";
        reader.problem(Problem::new(at.clone(), "this authority has no `issuer`", help));
    }
    for name in &section.algorithms.value {
        if !SIGNATURES.contains(&name.get_ref().as_str()) {
            let title = format!("`{}` is not an algorithm that is taken here", name.get_ref());
            let help = format!("choose of {}", SIGNATURES.join(", "));
            reader.problem(Problem::new(name.span(), title, help));
        }
    }
    let mut algorithms: Vec<_> =
        section.algorithms.value.into_iter().map(Spanned::into_inner).collect();
    if let Some(at) = section.algorithms.span.filter(|_| algorithms.is_empty()) {
        let help = "name one or more, or leave the key out for all that have a public key";
        reader.problem(Problem::new(at, "no algorithm is taken", help));
    } else if algorithms.is_empty() {
        algorithms = SIGNATURES.map(str::to_owned).into();
    }
    if section.stale.value.0 < section.refresh.value.0 {
        let (stale, refresh) = (&section.stale.value, &section.refresh.value);
        let title = format!("`stale` is {stale}, but `refresh` is {refresh}");
        let at = section.stale.span.or(section.refresh.span).unwrap_or_else(|| at.clone());
        reader.problem(Problem::new(at, title, "make `stale` longer than `refresh`"));
    }
    Some(JwtAuth {
        issuer: section.issuer.value?.0,
        jwks_url: section.jwks_url.value.map(|url| url.0),
        audiences: section.audience.value,
        algorithms,
        leeway: section.leeway.value.0,
        refresh: section.refresh.value.0,
        stale: section.stale.value.0,
        fetching: Fetching {
            timeout: section.fetch_timeout.value.0,
            bytes_max: section.fetch_bytes_max.value.0,
            pause: section.fetch_pause.value.0,
        },
        subject_claim: section.subject_claim.value.unwrap_or_else(|| "sub".to_owned()),
        groups_claim: section.groups_claim.value.unwrap_or_else(|| "groups".to_owned()),
        keys_max: section.keys_max.value.0,
        tries_max: section.tries_max.value.0,
        token_bytes_max: section.token_bytes_max.value.0,
        tokens_max: section.tokens_max.value.0,
        remember: section.remember.value.0,
    })
}

fn opaque(section: schema::Auth, at: &Range<usize>, reader: &mut Reader<'_>) -> Option<OpaqueAuth> {
    for (name, given) in [
        ("url", &section.url.span),
        ("client_id", &section.client_id.span),
        ("client_secret", &section.client_secret.span),
    ] {
        if given.is_none() {
            let help = "write url = \"https://…\", client_id = \"…\", and client_secret = \
                        \"env:NAME\" or \"file:PATH\"";
            let title = format!("this authority has no `{name}`");
            reader.problem(Problem::new(at.clone(), title, help));
        }
    }
    let secret = section.client_secret.value?.0;
    let secret = match section.method.value {
        SecretWord::Basic => ClientSecret::Basic(secret),
        SecretWord::Post => ClientSecret::Post(secret),
    };
    Some(OpaqueAuth {
        url: section.url.value?.0,
        issuer: section.issuer.value.map(|url| url.0),
        client: ClientAuth { id: section.client_id.value?, secret },
        audiences: section.audience.value,
        leeway: section.leeway.value.0,
        fetching: Fetching {
            timeout: section.fetch_timeout.value.0,
            bytes_max: section.fetch_bytes_max.value.0,
            pause: section.outage_pause.value.0,
        },
        subject_claim: section.subject_claim.value.unwrap_or_else(|| "sub".to_owned()),
        groups_claim: section.groups_claim.value.unwrap_or_else(|| "groups".to_owned()),
        token_bytes_max: section.token_bytes_max.value.0,
        tokens_max: section.tokens_max.value.0,
        remember: section.remember.value.0,
        remember_refused: section.remember_refused.value.0,
        asked_max: section.asked_max.value.0,
    })
}

fn keys(
    table: Key<Table<Spanned<schema::ApiKey>>>,
    at: &Range<usize>,
    reader: &mut Reader<'_>,
) -> Vec<ApiKey> {
    if table.value.0.is_empty() && table.span.as_ref().is_none_or(|span| !reader.faults(span)) {
        let help = "make one: `tollgate key new --auth NAME --caller CALLER`";
        reader.problem(Problem::new(at.clone(), "this authority has no key", help));
    }
    table.value.0.into_iter().filter_map(|(id, section)| key(&id, section, reader)).collect()
}

fn key(
    id: &Spanned<String>,
    section: Spanned<schema::ApiKey>,
    reader: &mut Reader<'_>,
) -> Option<ApiKey> {
    let section = section.into_inner();
    let missing = [("hash", &section.hash.span), ("caller", &section.caller.span)];
    for (name, _) in missing.into_iter().filter(|(_, span)| span.is_none()) {
        let help = "`tollgate key new` writes whole sections";
        reader.problem(Problem::new(id.span(), format!("this key has no `{name}`"), help));
    }
    if let (Some(at), Some("")) = (&section.caller.span, section.caller.value.as_deref()) {
        reader.problem(Problem::new(at.clone(), "a caller's name is empty", "name somebody"));
    }
    Some(ApiKey {
        id: id.get_ref().clone(),
        hash: section.hash.value?.0,
        caller: section.caller.value?,
        label: section.label.value,
        groups: section.groups.value,
        scopes: section.scopes.value,
        expires: section.expires.value.map(|moment| moment.0),
    })
}
