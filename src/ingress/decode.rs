//! From headers and a body to messages of one client: the era told, the headers held against the
//! body.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};

use crate::{
    call::Client,
    mcp::{
        head::Named,
        header,
        message::{Message, Notification, Request},
        meta::Meta,
        method::Method,
        raw::{Malformed, Raw},
        version::{Era, Version},
    },
};

use super::reply::Refused;

pub const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");
const PARAM: &str = "mcp-param-";

/// A modern request, its headers checked.
#[derive(Debug)]
pub struct Modern {
    pub method: Method,
    pub named: Named,
    pub meta: Meta,
    pub client: Arc<Client>,
    pub mirrored: Vec<(String, String)>,
}

/// Which era a message is of: modern by its header or by its `_meta`, whatever its method is.
pub fn era_of(headers: &HeaderMap, message: &Message) -> Era {
    let by_header = headers
        .get(VERSION)
        .and_then(|version| version.to_str().ok())
        // Dates compare as text; what is no date at all is settled as a legacy client's mistake.
        .is_some_and(|version| {
            version.starts_with("20") && Version::LEGACY_LATEST.as_str() < version
        });
    let params = match message {
        Message::Request(request) => Some(&request.params),
        Message::Notification(notification) => Some(&notification.params),
        Message::Response(_) => None,
    };
    let by_meta = || {
        params
            .and_then(|params| Meta::of(params).ok())
            .is_some_and(|meta| meta.protocol_version.is_some())
    };
    if by_header || by_meta() { Era::Modern } else { Era::Legacy }
}

/// The version a legacy request claims must be one of ours; without the header its session's is
/// meant.
pub fn check_legacy_version(headers: &HeaderMap) -> Result<(), Refused> {
    let Some(version) = single(headers, &VERSION)? else { return Ok(()) };
    match Version::find(&version) {
        Some(version) if version.era() == Era::Legacy => Ok(()),
        _ => Err(Refused::Request(format!("protocol version `{version}` is not spoken here"))),
    }
}

/// Checks a modern request as the specification orders it: version, `_meta`, method, name
/// (2026-07-28, transports).
pub fn modern(headers: &HeaderMap, request: &Request) -> Result<Modern, Refused> {
    // A client that takes the other era's greeting here is to learn that, not what `_meta` lacks.
    if &*request.method == Method::Initialize.name() {
        return Err(Refused::UnknownMethod(request.method.to_string()));
    }
    let meta = Meta::of(&request.params).map_err(|error| Refused::Meta(error.to_string()))?;
    let version = check_version(headers, &meta)?;
    let capabilities = meta.client_capabilities.clone().filter(Raw::is_object);
    let capabilities = capabilities.ok_or_else(|| {
        Refused::Meta(
            "`params._meta` lacks `io.modelcontextprotocol/clientCapabilities`, an object"
                .to_owned(),
        )
    })?;
    let said = single(headers, &METHOD)?;
    if said.as_deref() != Some(&*request.method) {
        return Err(mismatch("Mcp-Method", "method", said));
    }
    let method = Method::request(&request.method).filter(|method| method.exists_in(Era::Modern));
    let method = method.ok_or_else(|| Refused::UnknownMethod(request.method.to_string()))?;
    let named = named(method, &request.params)?;
    if let Some(name) = named.header() {
        let said = single(headers, &NAME)?;
        if said.as_deref() != Some(name) {
            return Err(mismatch("Mcp-Name", "params", said));
        }
    }
    let info = meta.client_info.clone().unwrap_or_else(Raw::object);
    let client = Arc::new(Client { version, capabilities, info });
    Ok(Modern { method, named, meta, client, mirrored: mirrored(headers)? })
}

/// Checks a modern notification: it needs no `_meta`, but its version must be spoken here.
pub fn notified(headers: &HeaderMap, notification: &Notification) -> Result<(), Refused> {
    let meta = Meta::of(&notification.params).map_err(|error| Refused::Meta(error.to_string()))?;
    if meta.protocol_version.is_some() {
        return check_version(headers, &meta).map(drop);
    }
    match single(headers, &VERSION)? {
        Some(version) if Version::find(&version).is_none() => Err(Refused::Version(version)),
        _ => Ok(()),
    }
}

/// What a request names; a failure is one of its params.
pub fn named(method: Method, params: &Raw) -> Result<Named, Refused> {
    Named::of(method, params).map_err(|error: Malformed| Refused::Meta(error.to_string()))
}

fn check_version(headers: &HeaderMap, meta: &Meta) -> Result<Version, Refused> {
    let said = single(headers, &VERSION)?;
    let Some(inner) = &meta.protocol_version else {
        return Err(Refused::Meta(
            "`params._meta` lacks `io.modelcontextprotocol/protocolVersion`".to_owned(),
        ));
    };
    if said.as_deref() != Some(inner) {
        return Err(mismatch("MCP-Protocol-Version", "params._meta", said));
    }
    let version = Version::find(inner).filter(|version| version.era() == Era::Modern);
    version.ok_or_else(|| Refused::Version(inner.clone()))
}

fn mismatch(header: &str, member: &str, said: Option<String>) -> Refused {
    Refused::Header(match said {
        Some(said) => {
            format!("header `{header}` says `{said}`, the body's `{member}` says something else")
        }
        None => format!("header `{header}` is missing"),
    })
}

/// The decoded text of a header that may be there once.
fn single(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, Refused> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Refused::Header(format!("header `{name}` is there twice")));
    }
    let text = header::decode(value.as_bytes());
    text.map(Some)
        .ok_or_else(|| Refused::Header(format!("header `{name}` has characters it may not have")))
}

fn mirrored(headers: &HeaderMap) -> Result<Vec<(String, String)>, Refused> {
    let names = headers.keys().filter(|name| name.as_str().starts_with(PARAM));
    names
        .map(|name| Ok((name.as_str().to_owned(), single(headers, name)?.unwrap_or_default())))
        .collect()
}
