//! `POST /cache/purge`: forgets results that are kept, all or those of some.

use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    cache::{CacheSubject, SubjectKind},
    snapshot::Gate,
};

use super::reply::{AdminReply, JSON, TEXT, reply};

pub const PATH: &str = "/cache/purge";

/// Names are shorter than this.
const BODY_BYTES_MAX: usize = 64 << 10;

/// Selects the results to forget: those that fit all that is given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Purge {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// A tool, by its upstream's own name for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<String>,
    /// A resource, by its upstream's own URI for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
}

impl Purge {
    fn fits(&self, subject: &CacheSubject) -> bool {
        let is = |wanted: &Option<String>, name: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == name)
        };
        let named = match subject.kind {
            SubjectKind::Tool => self.resource.is_none() && is(&self.tool, &subject.name),
            SubjectKind::Resource => self.tool.is_none() && is(&self.resource, &subject.name),
        };
        named && is(&self.upstream, &subject.upstream)
    }
}

/// Accepts JSON only: no page in a browser can send that to another origin unasked.
pub async fn answer(gate: &Gate, request: Request<Incoming>) -> AdminReply {
    // No page in a browser has any business here, wherever it is from.
    if request.headers().contains_key(header::ORIGIN) {
        return reply(StatusCode::FORBIDDEN, TEXT, "not from a page\n");
    }
    if request.method() != Method::POST {
        let mut reply = reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "allowed here: POST\n");
        reply.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return reply;
    }
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let is_json = |kind: &str| kind.split(';').next().unwrap_or_default().trim() == JSON;
    if kind.is_none_or(|kind| !is_json(kind)) {
        let text = "send JSON, with `Content-Type: application/json`\n";
        return reply(StatusCode::UNSUPPORTED_MEDIA_TYPE, TEXT, text);
    }
    let Ok(body) = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await else {
        return reply(StatusCode::PAYLOAD_TOO_LARGE, TEXT, "the body is too large\n");
    };
    let purge = match serde_json::from_slice::<Purge>(&body.to_bytes()) {
        Ok(purge) => purge,
        Err(error) => {
            let text = format!("{error}; send {{}} for all, or `upstream`, `tool`, `resource`\n");
            return reply(StatusCode::BAD_REQUEST, TEXT, text);
        }
    };
    let purged = gate.snapshot().cache.forget(|subject| purge.fits(subject));
    tracing::info!(?purge, purged, "results that were kept are forgotten");
    reply(StatusCode::OK, JSON, json!({ "purged": purged }).to_string())
}
