//! Calls that only read are sent to a successor too, whose answers are compared, counted, and given
//! to nobody. The client's call never waits for that.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::{
    call::{Client, UpstreamName, UpstreamRequest},
    mcp::{canonical::canonical, error::code_of, message::Body, method::Method, raw::Raw, splice},
    pipeline::context::Context,
    telemetry::{Counter, Counters},
    upstream::{Clearance, SendError},
};

use super::resolve::Resolved;

/// The members of a result that count: the rest is a server's own business.
const COMPARED: [&str; 3] = ["content", "structuredContent", "isError"];

/// A comparison that waits for the client's own answer.
#[derive(Debug)]
pub struct Shadowed(oneshot::Sender<Body>);

impl Shadowed {
    pub fn answered(self, body: &Body) {
        // The successor may have failed.
        self.0.send(body.clone()).ok();
    }
}

/// Begins to ask a successor, where one is to be asked.
pub fn begin(context: &Context, resolved: &Resolved, clearance: &Clearance) -> Option<Shadowed> {
    let call = &context.call;
    let gate = &context.gate;
    let shadow = context.snapshot.migration(resolved.target.upstream.name())?.shadow.as_ref()?;
    let reads = call.method == Method::ToolsCall && resolved.target.hints.read_only;
    let plain = !resolved.as_task && !resolved.wishes_task && call.place.is_none();
    shadow.successor.tool(&resolved.target.own)?;
    if !reads || !plain || shadow.settings.share <= rand::random::<f64>() {
        return None;
    }
    let Ok(place) = Arc::clone(&shadow.places).try_acquire_owned() else {
        gate.counters.add(Counter::ShadowSkipped);
        return None;
    };
    gate.counters.add(Counter::ShadowCalls);
    // The copy can ask the client nothing, and knows of no session.
    let client = Client { capabilities: Raw::object(), ..(*call.client).clone() };
    let upstream_request = UpstreamRequest {
        client: Arc::new(client),
        session: None,
        presence: None,
        streams: false,
        log_level: None,
        hedge: None,
        ..resolved.to_upstream(call)
    };
    let succession = &shadow.successor.succession;
    let clearance = clearance.without_places().at_successor(succession).ok()?;
    let (answered, answer) = oneshot::channel();
    let counters = Arc::clone(&gate.counters);
    gate.tasks.spawn("shadow: compare", async move {
        let asked = async {
            let attempt = clearance.upstream().circuit().attempt(upstream_request.subject())?;
            clearance.send(&upstream_request, attempt).await?.answer().await
        };
        // The client's call may end without an answer: then there is nothing to compare.
        let (theirs, ours) = tokio::join!(asked, answer);
        if let Ok(ours) = ours {
            let tool = upstream_request.name.as_deref().unwrap_or_default();
            let successor = clearance.upstream().name();
            match theirs {
                Ok(theirs) => compare(successor, tool, &ours, &theirs, &counters),
                Err(error) => note_failure(successor, tool, &error, &counters),
            }
        }
        drop(place);
    });
    Some(Shadowed(answered))
}

fn note_failure(successor: &UpstreamName, tool: &str, error: &SendError, counters: &Counters) {
    counters.add(Counter::ShadowFailures);
    let successor = successor.as_str();
    tracing::info!(successor, tool, %error, "a successor that is compared failed");
}

fn compare(successor: &UpstreamName, tool: &str, ours: &Body, theirs: &Body, counters: &Counters) {
    if is_same(ours, theirs) {
        return;
    }
    counters.add(Counter::ShadowMismatches);
    // The answers are not logged: they may hold somebody's own data.
    tracing::info!(successor = successor.as_str(), tool, "a successor answered otherwise");
}

/// Whether two answers say the same, however they are written (RFC 8785); of errors the code.
fn is_same(ours: &Body, theirs: &Body) -> bool {
    match (ours, theirs) {
        (Body::Error(ours), Body::Error(theirs)) => code_of(ours) == code_of(theirs),
        (Body::Result(ours), Body::Result(theirs)) => COMPARED.iter().all(|key| {
            let part = |result| splice::member(result, key);
            match (part(ours), part(theirs)) {
                (None, None) => true,
                // An absent `isError` is a false one.
                (None, Some(one)) | (Some(one), None) => {
                    *key == "isError" && one.as_str() == "false"
                }
                (Some(ours), Some(theirs)) => {
                    ours.bytes() == theirs.bytes()
                        || canonical(ours.bytes(), None)
                            .is_some_and(|form| Some(form) == canonical(theirs.bytes(), None))
                }
            }
        }),
        (Body::Result(_), Body::Error(_)) | (Body::Error(_), Body::Result(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(text: &'static str) -> Body {
        Body::Result(Raw::trusted(text).into())
    }

    #[test]
    fn spelling_and_a_servers_own_business_make_no_difference() {
        let ours = result(
            r#"{"content":[{"type":"text","text":"é"}],
                "structuredContent":{"a":1,"b":2}}"#,
        );
        let same = result(
            r#"{"_meta":{"x":1},"structuredContent":{"b":2.0,"a":1},"isError":false,
                "content":[{"text":"\u00e9","type":"text"}],"resultType":"complete"}"#,
        );
        assert!(is_same(&ours, &same));
        for other in [
            r#"{"content":[{"type":"text","text":"e"}],"structuredContent":{"a":1,"b":2}}"#,
            r#"{"content":[{"type":"text","text":"é"}],"structuredContent":{"a":1,"b":2},
                "isError":true}"#,
            r#"{"content":[{"type":"text","text":"é"}]}"#,
        ] {
            assert!(!is_same(&ours, &result(other)), "{other}");
        }
        let error = |text: &'static str| Body::Error(Raw::trusted(text));
        assert!(!is_same(&ours, &error(r#"{"code":-32603,"message":"m"}"#)));
        let (one, two) = (r#"{"code":-32602,"message":"m"}"#, r#"{"code":-32602,"message":"n"}"#);
        assert!(is_same(&error(one), &error(two)));
    }
}
