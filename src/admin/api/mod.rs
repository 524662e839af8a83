//! `/api/v1/`: what operators' programs read of the gate, as JSON, described in `OpenAPI`.
//!
//! One table has all endpoints: requests are routed by it, and the description is made of it, so
//! that neither can have one that the other lacks.

mod answers;
mod openapi;

use std::net::IpAddr;

use http::StatusCode;
use serde_json::json;

use crate::{
    snapshot::{Gate, Snapshot},
    telemetry::throttle,
};

use self::answers::Found;
use super::reply::{AdminReply, JSON, reply};

/// All paths of the API begin so.
pub const PREFIX: &str = "/api/v1/";

/// Stands in a path for the name of an upstream.
const UPSTREAM: &str = "{upstream}";

/// Something that can be read.
struct Endpoint {
    /// The path after the prefix.
    path: &'static str,
    summary: &'static str,
    /// The schema of its answer.
    schema: fn(&mut schemars::SchemaGenerator) -> schemars::Schema,
    /// Answers; none where there is no such upstream.
    answer: fn(&Question<'_>) -> Option<Found>,
}

/// What is asked, and of what.
struct Question<'a> {
    gate: &'a Gate,
    snapshot: &'a Snapshot,
    /// The name that the path has for the upstream; empty where it has none.
    upstream: &'a str,
}

/// Answers a GET of a path of the API, for whoever connects from `peer`.
///
/// Descriptions of tools and errors of servers tell much of who runs them: as long as nobody can
/// show a key, they are for this machine alone, also where the listener is not.
pub fn answer(gate: &Gate, snapshot: &Snapshot, peer: IpAddr, path: &str) -> AdminReply {
    if !is_of_this_machine(peer) {
        throttle::line(("API for operators", peer), |more| {
            tracing::warn!(%peer, more, "the API for operators is refused to another machine");
        });
        return failure(StatusCode::FORBIDDEN, "the API is for this machine: ask it at loopback");
    }
    let path = path.strip_prefix(PREFIX).unwrap_or_default();
    if path == openapi::PATH {
        return reply(StatusCode::OK, JSON, openapi::document().to_string());
    }
    let named = answers::ENDPOINTS.iter().find_map(|one| Some((one, name_in(one.path, path)?)));
    let Some((endpoint, upstream)) = named else {
        let text = format!("there is no such path: {PREFIX}{} lists all", openapi::PATH);
        return failure(StatusCode::NOT_FOUND, &text);
    };
    match (endpoint.answer)(&Question { gate, snapshot, upstream }) {
        Some(Ok(text)) => reply(StatusCode::OK, JSON, text),
        Some(Err(error)) => failure(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        None => failure(StatusCode::NOT_FOUND, "there is no such upstream"),
    }
}

fn failure(status: StatusCode, error: &str) -> AdminReply {
    reply(status, JSON, json!({ "error": error }).to_string())
}

fn is_of_this_machine(peer: IpAddr) -> bool {
    peer.to_canonical().is_loopback()
}

/// The name that a path has where the template has one, or nothing where it has none; none where
/// the path is another one.
fn name_in<'a>(template: &str, path: &'a str) -> Option<&'a str> {
    let Some((before, after)) = template.split_once(UPSTREAM) else {
        return (template == path).then_some("");
    };
    let name = path.strip_prefix(before)?.strip_suffix(after)?;
    (!name.is_empty() && !name.contains('/')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_machines_are_told_nothing() {
        for (peer, own) in [
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("0.0.0.0", false),
            ("10.0.0.1", false),
            ("192.168.1.1", false),
            ("169.254.169.254", false),
            ("::ffff:10.0.0.1", false),
            ("::", false),
            ("fe80::1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_of_this_machine(peer.parse().expect("an address")), own, "{peer}");
        }
    }

    #[test]
    fn a_name_is_one_part_of_a_path() {
        for (template, path, name) in [
            ("routes", "routes", Some("")),
            ("routes", "routes/", None),
            ("routes", "", None),
            ("upstreams/{upstream}", "upstreams/git", Some("git")),
            ("upstreams/{upstream}", "upstreams/", None),
            ("upstreams/{upstream}", "upstreams", None),
            ("upstreams/{upstream}", "upstreams/a/b", None),
            ("upstreams/{upstream}/catalog", "upstreams/git/catalog", Some("git")),
            ("upstreams/{upstream}/catalog", "upstreams//catalog", None),
            ("upstreams/{upstream}/catalog", "upstreams/catalog", None),
            ("upstreams/{upstream}/catalog", "upstreams/a/b/catalog", None),
        ] {
            assert_eq!(name_in(template, path), name, "{template} {path}");
        }
    }
}
