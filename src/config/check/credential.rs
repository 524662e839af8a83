//! How the gate gets an access token for an upstream.

use std::ops::Range;

use super::super::{
    ClientSecret, Credential, access::SecretWord, problem::Problem, reader::Reader, schema,
};

/// Algorithms that the gate signs with.
const ALGORITHMS: [&str; 9] =
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];

pub fn read(
    section: schema::Credential,
    at: &Range<usize>,
    reader: &mut Reader<'_>,
) -> Option<Credential> {
    for (name, given) in
        [("kind", section.kind.span.is_some()), ("client_id", section.client_id.span.is_some())]
    {
        if !given {
            let help = "write kind = \"client_credentials\", client_id, and client_secret or \
                        private_key";
            let title = format!("this credential has no `{name}`");
            reader.problem(Problem::new(at.clone(), title, help));
        }
    }
    let (key, secret) = (section.private_key.span.as_ref(), section.client_secret.span.as_ref());
    let by_key = key.is_some();
    match (key, secret) {
        (None, None) => {
            let help = "say where it is kept: client_secret = \"env:NAME\", or private_key = \
                        \"file:PATH\"";
            reader.problem(Problem::new(at.clone(), "this credential has no secret", help));
        }
        (Some(_), Some(span)) => {
            let title = "`client_secret` besides `private_key`";
            reader.problem(Problem::new(span.clone(), title, "keep one of them"));
        }
        (Some(_), None) | (None, Some(_)) => (),
    }
    refuse_unfit(&section, by_key, reader);
    refuse_place(&section, at, reader);
    let secret = if by_key {
        ClientSecret::PrivateKey {
            algorithm: algorithm(&section, reader)?,
            pem: section.private_key.value?.0,
            key_id: section.key_id.value,
        }
    } else {
        let secret = section.client_secret.value?.0;
        match section.method.value {
            SecretWord::Basic => ClientSecret::Basic(secret),
            SecretWord::Post => ClientSecret::Post(secret),
        }
    };
    Some(Credential {
        token_url: section.token_url.value.map(|url| url.0),
        client_id: section.client_id.value?,
        secret,
        scopes: section.scopes.value,
        audience: section.audience.value,
    })
}

/// Where the secret is sent must be said, or left to the upstream on purpose.
fn refuse_place(section: &schema::Credential, at: &Range<usize>, reader: &mut Reader<'_>) {
    match (&section.token_url.span, section.discover.value) {
        (None, false) => {
            let help = "write token_url = \"https://…\"; or discover = true, if the upstream may \
                        say where the secret is sent";
            let title = "this credential has no `token_url`";
            reader.problem(Problem::new(at.clone(), title, help));
        }
        (Some(span), true) => {
            let title = "`token_url` besides `discover`";
            reader.problem(Problem::new(span.clone(), title, "keep one of them"));
        }
        (None, true) | (Some(_), false) => (),
    }
}

/// What belongs to the other kind of secret.
fn refuse_unfit(section: &schema::Credential, by_key: bool, reader: &mut Reader<'_>) {
    let of_key = [("algorithm", &section.algorithm.span), ("key_id", &section.key_id.span)];
    let of_secret = [("method", &section.method.span)];
    let (unfit, kind) =
        if by_key { (&of_secret[..], "private_key") } else { (&of_key[..], "client_secret") };
    for (name, span) in unfit {
        if let Some(span) = span {
            let title = format!("`{name}` means nothing with `{kind}`");
            reader.problem(Problem::new((*span).clone(), title, format!("remove `{name}`")));
        }
    }
}

fn algorithm(section: &schema::Credential, reader: &mut Reader<'_>) -> Option<String> {
    let help = || format!("choose of {}", ALGORITHMS.join(", "));
    let Some(algorithm) = &section.algorithm.value else {
        let at = section.private_key.span.clone()?;
        reader.problem(Problem::new(at, "this private key has no `algorithm`", help()));
        return None;
    };
    if !ALGORITHMS.contains(&algorithm.get_ref().as_str()) {
        let title = format!("`{}` is not an algorithm that is known here", algorithm.get_ref());
        reader.problem(Problem::new(algorithm.span(), title, help()));
    }
    Some(algorithm.get_ref().clone())
}
