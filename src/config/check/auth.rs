//! The sections that say who can say who a caller is.

use std::ops::Range;

use toml::Spanned;

use super::super::{
    ApiKey, Auth, AuthKind, JwtAuth,
    access::{Access, AuthWord},
    problem::{Problem, nearest},
    reader::Reader,
    schema,
    value::{Key, Table},
};

/// All that have a public key: who can check a signature must not be able to make one.
const ALGORITHMS: [&str; 9] =
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];

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
        if section.kind.value == Some(AuthWord::Jwt) && section.audience.value.is_empty() {
            let title = "the audience of these tokens would be an address that no client has";
            let help = "write public_url = \"https://…\" in [server], or an `audience` here";
            reader.problem(Problem::new(name.span(), title, help));
        }
    }
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
            let help = "say what it is: kind = \"jwt\", or kind = \"keys\"";
            reader.problem(Problem::new(name.span(), "this authority has no `kind`", help));
        }
        return None;
    };
    refuse_unfit(&section, word, reader);
    let kind = match word {
        AuthWord::Jwt => AuthKind::Jwt(Box::new(jwt(section, &name.span(), reader)?)),
        AuthWord::Keys => AuthKind::Keys(keys(section.keys, &name.span(), reader)),
    };
    Some(Auth { name: name.get_ref().clone(), kind })
}

/// Keys of the other kind mean nothing.
fn refuse_unfit(section: &schema::Auth, word: AuthWord, reader: &mut Reader<'_>) {
    let tokens = [
        ("issuer", &section.issuer.span),
        ("jwks_url", &section.jwks_url.span),
        ("audience", &section.audience.span),
        ("algorithms", &section.algorithms.span),
        ("leeway", &section.leeway.span),
        ("refresh", &section.refresh.span),
        ("stale", &section.stale.span),
        ("fetch_pause", &section.fetch_pause.span),
        ("subject_claim", &section.subject_claim.span),
        ("groups_claim", &section.groups_claim.span),
        ("keys_max", &section.keys_max.span),
        ("token_bytes_max", &section.token_bytes_max.span),
        ("tokens_max", &section.tokens_max.span),
    ];
    let keys = [("keys", &section.keys.span)];
    let (unfit, kind) = match word {
        AuthWord::Jwt => (&keys[..], "jwt"),
        AuthWord::Keys => (&tokens[..], "keys"),
    };
    for (name, span) in unfit {
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
        if !ALGORITHMS.contains(&name.get_ref().as_str()) {
            let title = format!("`{}` is not an algorithm that is taken here", name.get_ref());
            let help = format!("choose of {}", ALGORITHMS.join(", "));
            reader.problem(Problem::new(name.span(), title, help));
        }
    }
    let mut algorithms: Vec<_> =
        section.algorithms.value.into_iter().map(Spanned::into_inner).collect();
    if let Some(at) = section.algorithms.span.filter(|_| algorithms.is_empty()) {
        let help = "name one or more, or leave the key out for all that have a public key";
        reader.problem(Problem::new(at, "no algorithm is taken", help));
    } else if algorithms.is_empty() {
        algorithms = ALGORITHMS.map(str::to_owned).into();
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
        fetch_pause: section.fetch_pause.value.0,
        subject_claim: section.subject_claim.value.unwrap_or_else(|| "sub".to_owned()),
        groups_claim: section.groups_claim.value.unwrap_or_else(|| "groups".to_owned()),
        keys_max: section.keys_max.value.0,
        token_bytes_max: section.token_bytes_max.value.0,
        tokens_max: section.tokens_max.value.0,
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
