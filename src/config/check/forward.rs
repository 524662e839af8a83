//! What of a client's request may reach an upstream: headers, and its token.

use std::collections::BTreeMap;

use toml::Spanned;

use super::super::{
    Secret,
    access::{Access, AuthWord, CredentialWord},
    problem::Problem,
    reader::Reader,
    schema,
};

/// Headers that are the gate's own business with an upstream: who it is, what it speaks, how the
/// connection is kept (RFC 9110 §7.6.1), and what the gate itself says in them.
const NEVER: [&str; 22] = [
    "authorization",
    "proxy-authorization",
    "proxy-authenticate",
    "proxy-connection",
    "x-api-key",
    "cookie",
    "host",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
    "content-length",
    "content-type",
    "content-encoding",
    "accept",
    "accept-encoding",
    "last-event-id",
    "origin",
    "forwarded",
];

/// Names of headers that are sent on, in lower case.
pub fn names(
    list: Vec<Spanned<String>>,
    own: &BTreeMap<String, Secret>,
    reader: &mut Reader<'_>,
) -> Vec<String> {
    let mut names = Vec::new();
    for name in list {
        let (at, text) = (name.span(), name.into_inner().to_ascii_lowercase());
        let fault = if http::HeaderName::try_from(&text).is_err() {
            Some((
                format!("`{}` is not a header's name", text.escape_debug()),
                "use letters, digits and `-`",
            ))
        } else if NEVER.contains(&text.as_str()) || text.starts_with("mcp-") {
            let help = "remove it; a token is passed on by credential = { kind = \"pass\" }";
            Some((format!("the header `{text}` is never sent on"), help))
        } else if own.contains_key(&text) {
            Some((format!("the header `{text}` is in `headers`, too"), "keep it in one of them"))
        } else {
            None
        };
        match fault {
            Some((title, help)) => reader.problem(Problem::new(at, title, help)),
            None => names.push(text),
        }
    }
    names
}

/// A caller's token goes to one upstream of a route at most, and callers of a route that leads to
/// one must have a token.
pub fn refuse_sharing(file: &schema::File, reader: &mut Reader<'_>) {
    let kind_of = |name: &str| {
        let mut all = file.upstreams.value.0.iter();
        let (_, section) = all.find(|(other, _)| other.get_ref() == name)?;
        section.get_ref().value.credential.value.as_ref()?.get_ref().kind.value
    };
    let has_tokens = |name: &String| {
        let mut all = file.auth.value.0.iter();
        let found = all.find(|(other, _)| other.get_ref() == name);
        let word = found.and_then(|(_, section)| section.get_ref().kind.value);
        // What is wrong with the name or the kind is said elsewhere.
        word.is_none_or(|word| matches!(word, AuthWord::Jwt | AuthWord::Introspection))
    };
    for (path, route) in &file.routes.value.0 {
        let route = route.get_ref();
        let all = || file.upstreams.value.0.iter().map(|(name, _)| name.get_ref().as_str());
        let named = route.upstreams.value.iter().map(|name| name.get_ref().as_str());
        let everything = named.clone().any(|name| name == "*");
        let behind: Vec<_> = if everything { all().collect() } else { named.collect() };
        let of = |word| behind.iter().filter(move |name| kind_of(name) == Some(word));
        let passing: Vec<_> = of(CredentialWord::Pass).copied().collect();
        if let [first, second, ..] = passing[..] {
            let title = format!("the caller's token would go to both `{first}` and `{second}`");
            let help = "a token is for one server: use kind = \"token_exchange\", or two routes";
            reader.problem(Problem::new(path.span(), title, help));
        }
        let Some(needs) = passing.first().or_else(|| of(CredentialWord::TokenExchange).next())
        else {
            continue;
        };
        let known = match route.auth.value.as_ref().map(Spanned::get_ref) {
            Some(Access::Known(names)) => names.iter().all(|name| has_tokens(name.get_ref())),
            Some(Access::Everybody) | None => false,
        };
        if !known {
            let title =
                format!("`{needs}` needs its callers' tokens, and not all of them have one");
            let help = "name only authorities of kind \"jwt\" or \"introspection\" in `auth`";
            reader.problem(Problem::new(path.span(), title, help));
        }
    }
}
