//! Digests of what a request shows one upstream of whom it is for, beside its parameters.

use std::fmt::{self, Write as _};

use http::HeaderMap;
use sha2::{Digest as _, Sha256};

use crate::{
    call::{Caller, Client, UpstreamRequest},
    config::Transport,
    upstream::{cluster::Upstream, replica::Replica},
};

/// A SHA-256.
pub type Vary = [u8; 32];

/// Headers that name one request among others and change no answer (W3C Trace Context §3).
const TRACE: [&str; 2] = ["traceparent", "tracestate"];

impl Upstream {
    /// A digest of what may change an answer of this upstream: the values of the client's headers
    /// that are sent on, and the token that is passed on or exchanged. None where a request shows
    /// none of these. Two requests share a kept result or a session only where theirs are equal
    /// (RFC 9111 §4.1 calls the like of it `Vary`).
    pub fn vary(&self, caller: &Caller, forwarded: Option<&HeaderMap>) -> Option<Vary> {
        vary(&self.settings.config.transport, caller, forwarded)
    }
}

impl Replica {
    /// Whether a request shows the server anything that [`Upstream::vary`] tells apart.
    pub fn varies(&self, ask: &UpstreamRequest) -> bool {
        self.vary(ask).is_some()
    }

    /// A digest of what tells apart whom a connection is opened for: the caller, what a request
    /// shows of it, and what its client can do. With `level`, which the server keeps for the
    /// connection, and with the client's session, where it has one.
    pub fn client_digest(
        &self,
        ask: &UpstreamRequest,
        client: &Client,
        level: Option<&str>,
    ) -> Vary {
        let mut digest = Parts::default();
        digest.add(&self.vary(ask).unwrap_or_default());
        digest.add(&ask.session.map_or(0, |key| key.0).to_be_bytes());
        digest.add(client.version.as_str().as_bytes());
        digest.add(client.capabilities.bytes());
        digest.add(level.unwrap_or_default().as_bytes());
        digest.finish(&ask.caller)
    }

    fn vary(&self, ask: &UpstreamRequest) -> Option<Vary> {
        vary(&self.settings.config.transport, &ask.caller, ask.forwarded.as_deref())
    }
}

/// The digest of several parts, each with its length before it: no two rows of parts are alike.
#[derive(Default)]
struct Parts(Sha256);

impl Parts {
    fn add(&mut self, part: &[u8]) {
        self.0.update((part.len() as u64).to_be_bytes());
        self.0.update(part);
    }

    /// Ends the digest with one more part, the last, which needs no length.
    fn finish(mut self, last: &impl fmt::Display) -> Vary {
        // A digest takes all that it is given.
        write!(self, "{last}").ok();
        self.0.finalize().into()
    }
}

impl fmt::Write for Parts {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text);
        Ok(())
    }
}

fn vary(transport: &Transport, caller: &Caller, forwarded: Option<&HeaderMap>) -> Option<Vary> {
    let Transport::Http { credential, forward_headers, .. } = transport else { return None };
    let is_callers = credential.as_ref().is_some_and(|credential| credential.is_callers());
    let token = caller.token().filter(|_| is_callers);
    let sent = |name: &&String| {
        !TRACE.contains(&name.as_str()) && forwarded.is_some_and(|sent| sent.contains_key(*name))
    };
    let names: Vec<_> = forward_headers.iter().filter(sent).collect();
    if token.is_none() && names.is_empty() {
        return None;
    }
    let mut digest = Parts::default();
    digest.add(token.map_or("", |token| token.expose()).as_bytes());
    for (name, headers) in names.into_iter().filter_map(|name| Some((name, forwarded?))) {
        let values = headers.get_all(name);
        digest.add(name.as_bytes());
        digest.add(&(values.iter().count() as u64).to_be_bytes());
        values.iter().for_each(|value| digest.add(value.as_bytes()));
    }
    Some(digest.finish(&""))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use crate::config;

    use super::*;

    fn transport() -> Transport {
        let toml = "[routes.\"/mcp\"]\nupstreams = [\"a\"]\n[upstreams.a]\nurl = \"http://a/mcp\"\n\
                    forward_headers = [\"x-tenant\", \"x-region\", \"traceparent\"]\n";
        let config = config::parse("routes.toml", toml, &|_| None);
        let config = config.unwrap_or_else(|problems| panic!("{problems:?}"));
        config.upstreams.into_iter().next().unwrap().transport
    }

    fn headers(lines: &[(&'static str, String)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    /// Returns those of these lines that are sent on and count: by name, in the order of the lines.
    fn counted(lines: &[(&'static str, String)]) -> Vec<(&'static str, Vec<String>)> {
        let of = |wanted| {
            let values = lines.iter().filter(|(name, _)| *name == wanted);
            (wanted, values.map(|(_, value)| value.clone()).collect())
        };
        [of("x-tenant"), of("x-region")].into()
    }

    proptest! {
        #[test]
        fn two_requests_are_alike_only_with_the_same_values(
            rows in prop::collection::vec(
                prop::collection::vec(
                    (
                        prop::sample::select(vec!["x-tenant", "x-region", "x-else", "traceparent"]),
                        "[ab,]{0,2}",
                    ),
                    0..4,
                ),
                2..12,
            ),
        ) {
            let transport = transport();
            let caller = Caller::Parent;
            let all: BTreeSet<_> = rows.iter().map(|row| counted(row)).collect();
            let seen: BTreeSet<_> =
                rows.iter().map(|row| vary(&transport, &caller, Some(&headers(row)))).collect();
            prop_assert_eq!(all.len(), seen.len());
            let none = counted(&[]);
            for row in &rows {
                let vary = vary(&transport, &caller, Some(&headers(row)));
                prop_assert_eq!(vary.is_none(), counted(row) == none);
            }
        }
    }
}
