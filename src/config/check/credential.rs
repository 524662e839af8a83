//! What an upstream is shown in `Authorization`.

use std::ops::Range;

use super::super::{
    ClientAuth, ClientSecret, Credential, Exchange, Fetching, Grant, SigV4,
    access::{CredentialWord, SIGNATURES, SecretWord},
    problem::Problem,
    reader::Reader,
    schema,
};

pub fn read(
    section: schema::Credential,
    at: &Range<usize>,
    reader: &mut Reader<'_>,
) -> Option<Credential> {
    let Some(word) = section.kind.value else {
        if section.kind.span.is_none() {
            let help = "say what it is: kind = \"client_credentials\", \"token_exchange\", \
                        \"pass\" or \"aws_sigv4\"";
            reader.problem(Problem::new(at.clone(), "this credential has no `kind`", help));
        }
        return None;
    };
    refuse_unfit(&section, word, reader);
    match word {
        CredentialWord::ClientCredentials => {
            grant(section, at, reader).map(|grant| Credential::Client(Box::new(grant)))
        }
        CredentialWord::TokenExchange => {
            let tokens_max = section.tokens_max.value.0;
            let grant = grant(section, at, reader)?;
            Some(Credential::Exchange(Box::new(Exchange { grant, tokens_max })))
        }
        CredentialWord::Pass => Some(Credential::Pass),
        CredentialWord::AwsSigV4 => {
            aws(section, at, reader).map(|keys| Credential::Aws(Box::new(keys)))
        }
    }
}

fn grant(section: schema::Credential, at: &Range<usize>, reader: &mut Reader<'_>) -> Option<Grant> {
    if section.client_id.span.is_none() {
        let help = "write client_id, and client_secret or private_key";
        reader.problem(Problem::new(at.clone(), "this credential has no `client_id`", help));
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
    refuse_other_secret(&section, by_key, reader);
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
    Some(Grant {
        token_url: section.token_url.value.map(|url| url.0),
        client: ClientAuth { id: section.client_id.value?, secret },
        scopes: section.scopes.value,
        audience: section.audience.value,
        fetching: Fetching {
            timeout: section.fetch_timeout.value.0,
            bytes_max: section.fetch_bytes_max.value.0,
            pause: section.fetch_pause.value.0,
        },
        refused_pause: section.refused_pause.value.0,
    })
}

fn aws(section: schema::Credential, at: &Range<usize>, reader: &mut Reader<'_>) -> Option<SigV4> {
    for (name, given) in [
        ("region", &section.region.span),
        ("service", &section.service.span),
        ("access_key_id", &section.access_key_id.span),
        ("secret_access_key", &section.secret_access_key.span),
    ] {
        if given.is_none() {
            let help = "write region, service, and where the key is kept: access_key_id = \
                        \"env:AWS_ACCESS_KEY_ID\", secret_access_key = \"env:…\"";
            let title = format!("this credential has no `{name}`");
            reader.problem(Problem::new(at.clone(), title, help));
        }
    }
    Some(SigV4 {
        region: section.region.value?,
        service: section.service.value?,
        access_key_id: section.access_key_id.value?.0,
        secret_access_key: section.secret_access_key.value?.0,
        session_token: section.session_token.value.map(|token| token.0),
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

/// Keys of another kind mean nothing.
fn refuse_unfit(section: &schema::Credential, word: CredentialWord, reader: &mut Reader<'_>) {
    use CredentialWord::{AwsSigV4, ClientCredentials, Pass, TokenExchange};
    let (tokens, aws) = (&[ClientCredentials, TokenExchange][..], &[AwsSigV4][..]);
    let all = [
        ("token_url", &section.token_url.span, tokens),
        ("discover", &section.discover.span, tokens),
        ("client_id", &section.client_id.span, tokens),
        ("client_secret", &section.client_secret.span, tokens),
        ("method", &section.method.span, tokens),
        ("private_key", &section.private_key.span, tokens),
        ("algorithm", &section.algorithm.span, tokens),
        ("key_id", &section.key_id.span, tokens),
        ("scopes", &section.scopes.span, tokens),
        ("audience", &section.audience.span, tokens),
        ("fetch_timeout", &section.fetch_timeout.span, tokens),
        ("fetch_bytes_max", &section.fetch_bytes_max.span, tokens),
        ("fetch_pause", &section.fetch_pause.span, tokens),
        ("refused_pause", &section.refused_pause.span, tokens),
        ("tokens_max", &section.tokens_max.span, &[TokenExchange][..]),
        ("region", &section.region.span, aws),
        ("service", &section.service.span, aws),
        ("access_key_id", &section.access_key_id.span, aws),
        ("secret_access_key", &section.secret_access_key.span, aws),
        ("session_token", &section.session_token.span, aws),
    ];
    let kind = match word {
        ClientCredentials => "client_credentials",
        TokenExchange => "token_exchange",
        Pass => "pass",
        AwsSigV4 => "aws_sigv4",
    };
    for (name, span, _) in all.iter().filter(|(_, _, kinds)| !kinds.contains(&word)) {
        if let Some(span) = span {
            let title = format!("`{name}` means nothing for a credential of kind \"{kind}\"");
            reader.problem(Problem::new((*span).clone(), title, format!("remove `{name}`")));
        }
    }
}

/// What belongs to the other kind of secret.
fn refuse_other_secret(section: &schema::Credential, by_key: bool, reader: &mut Reader<'_>) {
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
    let help = || format!("choose of {}", SIGNATURES.join(", "));
    let Some(algorithm) = &section.algorithm.value else {
        let at = section.private_key.span.clone()?;
        reader.problem(Problem::new(at, "this private key has no `algorithm`", help()));
        return None;
    };
    if !SIGNATURES.contains(&algorithm.get_ref().as_str()) {
        let title = format!("`{}` is not an algorithm that is known here", algorithm.get_ref());
        reader.problem(Problem::new(algorithm.span(), title, help()));
    }
    Some(algorithm.get_ref().clone())
}
