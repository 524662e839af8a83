//! Reads of results that were too large to be handed out, and are kept for their callers.

use serde_json::json;

use crate::{
    guard::Linked,
    mcp::{message::Body, method::Method, raw::Raw, splice, target::TargetRef, version::Era},
    pipeline::{
        context::Context,
        fault::Fault,
        request::{limit, visibility},
    },
};

/// Answers a read of a result that was kept for its caller; none where it is about something else.
///
/// # Errors
/// Where there is no such result any more, or it is another caller's.
pub async fn read(context: &Context) -> Result<Option<Body>, Fault> {
    let call = &context.call;
    let TargetRef::Uri(uri) = &call.named else { return Ok(None) };
    if call.method != Method::ResourcesRead || !Linked::is_link(uri) {
        return Ok(None);
    }
    limit::here(context).await?;
    let found = context.gate.linked.find(context.path(), &call.caller, uri);
    let result = found.ok_or_else(|| visibility::unknown(call))?;
    let content = json!({ "uri": uri, "mimeType": "application/json", "text": result.as_str() });
    let contents = Raw::encode(&json!({ "contents": [content] }));
    let hints: [(&str, Option<&[u8]>); 3] = [
        ("resultType", Some(b"\"complete\"")),
        ("ttlMs", Some(b"0")),
        ("cacheScope", Some(b"\"private\"")),
    ];
    let modern = call.client.era() == Era::Modern;
    let contents = if modern { splice::edit(&contents, &hints) } else { contents };
    Ok(Some(Body::Result(contents.into())))
}
