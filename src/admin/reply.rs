//! Replies to operators.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

pub const JSON: &str = "application/json";
pub const TEXT: &str = "text/plain; charset=utf-8";

pub type AdminReply = Response<Full<Bytes>>;

/// A reply whose body is of this media type.
pub fn reply(status: StatusCode, kind: &'static str, text: impl Into<Bytes>) -> AdminReply {
    let mut reply = Response::new(Full::new(text.into()));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}
