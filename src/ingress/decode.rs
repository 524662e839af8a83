//! Decodes messages of a client into calls: tells the era, and checks headers, where there are any,
//! against the body.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    call::{CallId, Caller, Client},
    config::Limits,
    mcp::{
        header,
        id::Id,
        level,
        message::{self, Incoming, Message, MessageBounds, Notification, Request},
        meta::Meta,
        method::Method,
        params::Params,
        raw::{Malformed, Raw},
        target::TargetRef,
        version::{Era, Version},
    },
    pipeline::{Call, Fault},
    session::Session,
    telemetry::{Counter, Counters},
};

use super::reply::Rejection;

pub const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");
const PARAM: &str = "mcp-param-";

/// A text that is no message: why, and the id of the request that it was meant to be, where that
/// can be told (JSON-RPC 2.0 §5: `null` only where it cannot).
#[derive(Debug)]
pub struct Unread {
    pub rejection: Rejection,
    pub id: Option<Id>,
}

impl From<Rejection> for Unread {
    fn from(rejection: Rejection) -> Self {
        Self { rejection, id: None }
    }
}

/// Reads what one body or one line holds, within the limits; what is none is counted.
///
/// # Errors
/// The text is no message, or exceeds a limit.
pub fn parse(text: &Bytes, limits: &Limits, counters: &Counters) -> Result<Incoming, Unread> {
    let bounds = MessageBounds { depth_max: limits.depth_max, batch_max: limits.batch_max };
    Incoming::parse(text, bounds).map_err(|error| {
        counters.add(match error {
            Malformed::TooDeep(_) => Counter::RefusedDepth,
            Malformed::Json(_) | Malformed::Shape(_) => Counter::RefusedMalformed,
        });
        let rejection = match error {
            Malformed::Json(_) => Rejection::Parse(error.to_string()),
            Malformed::TooDeep(_) | Malformed::Shape(_) => Rejection::Request(error.to_string()),
        };
        Unread { rejection, id: message::id_of_request(text) }
    })
}

/// The era of a message: modern by its header or by its `_meta`, whatever its method is.
pub fn era_of(headers: Option<&HeaderMap>, message: &Message) -> Era {
    let by_header = headers
        .and_then(|headers| headers.get(VERSION)?.to_str().ok())
        // Dates compare as text; what is no date at all is settled as a legacy client's mistake.
        .is_some_and(|version| {
            version.starts_with("20") && Version::LEGACY_LATEST.as_str() < version
        });
    let by_meta = || {
        let meta = match message {
            Message::Request(request) if !request.params.may_say_version() => None,
            Message::Request(request) => request.params.meta().ok(),
            Message::Notification(notification) => Meta::read(&notification.params).ok(),
            Message::Response(_) => None,
        };
        meta.is_some_and(|meta| meta.protocol_version.is_some())
    };
    if by_header || by_meta() { Era::Modern } else { Era::Legacy }
}

/// The version a legacy request claims must be one of ours; without the header its session's is
/// meant.
///
/// # Errors
/// The version is not of the legacy era, or the header cannot be read.
pub fn check_legacy_version(headers: &HeaderMap) -> Result<(), Rejection> {
    let Some(version) = single(headers, &VERSION)? else { return Ok(()) };
    match Version::find(&version) {
        Some(version) if version.era() == Era::Legacy => Ok(()),
        _ => Err(Rejection::Request(format!("protocol version `{version}` is not spoken here"))),
    }
}

/// A modern request as a call, checked as the specification orders it: version, `_meta`, method,
/// name (2026-07-28, transports). A channel without headers has nothing to hold against the body.
///
/// # Errors
/// The id of the request, and what is wrong with it.
pub fn modern(
    headers: Option<&HeaderMap>,
    caller: Caller,
    request: Request,
) -> Result<Call, Box<(Id, Rejection)>> {
    match read_modern(headers, &request) {
        Ok(read) => Ok(Call {
            id: request.id,
            method: read.method,
            params: request.params,
            named: read.named,
            meta: read.meta,
            caller,
            client: read.client,
            session: None,
            streams: true,
            streams_full: false,
            mirrored: read.mirrored,
            peer: None,
            request: CallId::random(),
            arrival: None,
            spans: None,
            forwarded: None,
            place: None,
        }),
        Err(rejection) => Err(Box::new((request.id, rejection))),
    }
}

/// A request in a session as a call.
///
/// # Errors
/// The id of the request, and what is wrong with it.
pub fn legacy(
    session: Arc<Session>,
    caller: Caller,
    request: Request,
) -> Result<Call, Box<(Id, Fault)>> {
    let Request { id, method: name, params } = request;
    let read = Method::request(&name).ok_or(Fault::UnknownMethod(name)).and_then(|method| {
        let invalid = |error: &dyn std::fmt::Display| Fault::Invalid(error.to_string());
        let named = named(method, &params).map_err(|error| invalid(&error))?;
        let meta = params.meta().map_err(|error| invalid(&error))?;
        Ok((method, named, meta))
    });
    match read {
        Ok((method, named, meta)) => {
            let client = Arc::clone(&session.client);
            let session = Some(session);
            let streams = true;
            let mirrored = None;
            let forwarded = None;
            let place = None;
            Ok(Call {
                id,
                method,
                params,
                named,
                meta,
                caller,
                client,
                session,
                streams,
                streams_full: false,
                mirrored,
                peer: None,
                request: CallId::random(),
                arrival: None,
                spans: None,
                forwarded,
                place,
            })
        }
        Err(fault) => Err(Box::new((id, fault))),
    }
}

/// Checks a modern notification: it needs no `_meta`, but its version must be spoken here.
///
/// # Errors
/// The version is not spoken here, or `_meta` or the header cannot be read.
pub fn notified(headers: Option<&HeaderMap>, notification: &Notification) -> Result<(), Rejection> {
    let meta =
        Meta::read(&notification.params).map_err(|error| Rejection::Meta(error.to_string()))?;
    if meta.protocol_version.is_some() {
        return check_version(headers, &meta).map(drop);
    }
    match headers.map_or(Ok(None), |headers| single(headers, &VERSION))? {
        Some(version) if Version::find(&version).is_none() => Err(Rejection::Version(version)),
        _ => Ok(()),
    }
}

/// The parts of a modern request that are read.
struct Modern {
    method: Method,
    named: TargetRef,
    meta: Meta,
    client: Arc<Client>,
    mirrored: Option<Vec<(String, String)>>,
}

fn read_modern(headers: Option<&HeaderMap>, request: &Request) -> Result<Modern, Rejection> {
    // A client that takes the other era's greeting here is to learn that, not what `_meta` lacks.
    if &*request.method == Method::Initialize.name() {
        return Err(Rejection::UnknownMethod(request.method.to_string()));
    }
    let mut meta = request.params.meta().map_err(|error| Rejection::Meta(error.to_string()))?;
    // A level that does not exist asks for nothing.
    meta.log_level = meta.log_level.filter(|level| level::rank(level).is_some());
    let version = check_version(headers, &meta)?;
    let capabilities = meta.client_capabilities.clone().filter(Raw::is_object);
    let capabilities = capabilities.ok_or_else(|| {
        Rejection::Meta(
            "`params._meta` lacks `io.modelcontextprotocol/clientCapabilities`, an object"
                .to_owned(),
        )
    })?;
    check_header(headers, &METHOD, "Mcp-Method", "method", &request.method)?;
    let method = Method::request(&request.method).filter(|method| method.exists_in(Era::Modern));
    let method = method.ok_or_else(|| Rejection::UnknownMethod(request.method.to_string()))?;
    let named = named(method, &request.params)?;
    if let Some(name) = named.header() {
        check_header(headers, &NAME, "Mcp-Name", "params", name)?;
    }
    let info = meta.client_info.clone().unwrap_or_else(Raw::object);
    let client = Arc::new(Client { version, capabilities, info });
    Ok(Modern { method, named, meta, client, mirrored: headers.map(mirrored).transpose()? })
}

/// Reads the target that a request names.
///
/// # Errors
/// The params lack what the method names, or have it in another type.
pub fn named(method: Method, params: &Params) -> Result<TargetRef, Rejection> {
    TargetRef::of(method, params).map_err(|error: Malformed| Rejection::Meta(error.to_string()))
}

fn check_version(headers: Option<&HeaderMap>, meta: &Meta) -> Result<Version, Rejection> {
    let value = headers.map_or(Ok(None), |headers| value(headers, &VERSION))?;
    let Some(inner) = &meta.protocol_version else {
        decoded(value, &VERSION)?;
        return Err(Rejection::Meta(
            "`params._meta` lacks `io.modelcontextprotocol/protocolVersion`".to_owned(),
        ));
    };
    if headers.is_some() && !says(value, inner) {
        let said = decoded(value, &VERSION)?;
        return Err(mismatch("MCP-Protocol-Version", "params._meta", said));
    }
    let version = Version::find(inner).filter(|version| version.era() == Era::Modern);
    version.ok_or_else(|| Rejection::Version(inner.clone()))
}

/// A header must say what the body's `member` says.
fn check_header(
    headers: Option<&HeaderMap>,
    name: &HeaderName,
    title: &str,
    member: &str,
    wanted: &str,
) -> Result<(), Rejection> {
    let Some(headers) = headers else { return Ok(()) };
    let value = value(headers, name)?;
    if says(value, wanted) {
        return Ok(());
    }
    Err(mismatch(title, member, decoded(value, name)?))
}

fn says(value: Option<&HeaderValue>, wanted: &str) -> bool {
    value.is_some_and(|value| header::says(value.as_bytes(), wanted))
}

fn mismatch(header: &str, member: &str, said: Option<String>) -> Rejection {
    Rejection::Header(match said {
        Some(said) => {
            format!("header `{header}` says `{said}`, the body's `{member}` says something else")
        }
        None => format!("header `{header}` is missing"),
    })
}

/// The value of a header that may be there once.
fn value<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a HeaderValue>, Rejection> {
    // Nearly all requests have each header once.
    let may_repeat = headers.len() != headers.keys_len();
    if may_repeat && 1 < headers.get_all(name).iter().count() {
        return Err(Rejection::Header(format!("header `{name}` is there twice")));
    }
    Ok(headers.get(name))
}

fn decoded(value: Option<&HeaderValue>, name: &HeaderName) -> Result<Option<String>, Rejection> {
    let Some(value) = value else { return Ok(None) };
    let text = header::decode(value.as_bytes());
    text.map(Some)
        .ok_or_else(|| Rejection::Header(format!("header `{name}` has characters it may not have")))
}

/// The decoded text of a header that may be there once.
fn single(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, Rejection> {
    decoded(value(headers, name)?, name)
}

fn mirrored(headers: &HeaderMap) -> Result<Vec<(String, String)>, Rejection> {
    let names = headers.keys().filter(|name| name.as_str().starts_with(PARAM));
    names
        .map(|name| Ok((name.as_str().to_owned(), single(headers, name)?.unwrap_or_default())))
        .collect()
}
