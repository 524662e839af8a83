//! The head of a request as it is written, and that of an answer as it is read.

use std::mem::MaybeUninit;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header,
};
use memchr::memmem;

use super::{
    error::Http1Error,
    framing::{Chunk, Framing},
};

/// The bytes of a head.
pub const HEAD_BYTES_MAX: usize = 64 << 10;
/// The first bytes of every head.
const BEGINNING: &[u8] = b"HTTP/1.";
/// The fields of a head, as hyper's.
const FIELDS_MAX: usize = 100;
/// Fields of most answers: a map that has room for them does not grow.
const FIELDS_USUAL: usize = 12;

/// The head of an answer, and what follows it.
#[derive(Debug)]
pub struct ResponseHead {
    pub response: Response<()>,
    pub framing: Framing,
    /// Whether the connection may be used again after the body.
    pub keeps: bool,
}

/// Writes the head of a request. Whatever its fields say of its length and its connection, what is
/// sent is right.
pub fn write(request: &Request<Bytes>, into: &mut Vec<u8>) {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    // An address may have a query and no path.
    let slash: &[u8] = if target.starts_with('/') { b"" } else { b"/" };
    let verb = request.method().as_str().as_bytes();
    let parts: [&[u8]; 5] = [verb, b" ", slash, target.as_bytes(), b" HTTP/1.1\r\n"];
    parts.iter().for_each(|part| into.extend_from_slice(part));
    for (name, value) in request.headers() {
        if !is_of_connection(name) {
            let parts: [&[u8]; 4] = [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"];
            parts.iter().for_each(|part| into.extend_from_slice(part));
        }
    }
    let length = request.body().len();
    if length != 0 || *request.method() == Method::POST {
        let mut digits = itoa(length);
        into.extend_from_slice(b"content-length: ");
        into.append(&mut digits);
        into.extend_from_slice(b"\r\n");
    }
    into.extend_from_slice(b"\r\n");
}

fn itoa(number: usize) -> Vec<u8> {
    number.to_string().into_bytes()
}

fn is_of_connection(name: &HeaderName) -> bool {
    [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION].contains(name)
}

/// Takes the head of an answer; none where it is not there whole. `looked` is how many bytes were
/// looked at before: no byte is looked at twice, however slowly they come.
///
/// # Errors
/// Where it is no head of HTTP/1, or longer than [`HEAD_BYTES_MAX`].
pub fn read(buffer: &mut BytesMut, looked: &mut usize) -> Result<Option<ResponseHead>, Http1Error> {
    loop {
        while let Some(b'\r' | b'\n') = buffer.first() {
            buffer.advance(1);
            *looked = 0;
        }
        // Known from the first bytes: what speaks otherwise may say no line of its own.
        let length = buffer.len().min(BEGINNING.len());
        if buffer.get(..length) != BEGINNING.get(..length) {
            return Err(Http1Error::NoHttp);
        }
        let Some(end) = head_end(buffer, *looked) else {
            *looked = buffer.len();
            let is_long = HEAD_BYTES_MAX < buffer.len();
            return if is_long {
                Err(Http1Error::Answer("its head is too long"))
            } else {
                Ok(None)
            };
        };
        if HEAD_BYTES_MAX < end {
            return Err(Http1Error::Answer("its head is too long"));
        }
        *looked = 0;
        let head = parse(&buffer.split_to(end).freeze())?;
        // What came before the answer (RFC 9110 §15.2); nothing but an answer was asked for.
        if !head.response.status().is_informational() {
            return Ok(Some(head));
        }
        if head.response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Http1Error::Answer("it speaks another protocol, which nobody asked for"));
        }
    }
}

/// Behind the empty line after the fields. Lines may end without CR, as httparse reads them.
fn head_end(buffer: &[u8], looked: usize) -> Option<usize> {
    let from = looked.saturating_sub(3);
    let rest = buffer.get(from..)?;
    let whole = memmem::find(rest, b"\r\n\r\n").map(|at| at + 4);
    // A line end without CR may come first.
    let bare = memmem::find(rest.get(..whole.unwrap_or(rest.len()))?, b"\n\n").map(|at| at + 2);
    let mixed = memmem::find(rest.get(..whole.unwrap_or(rest.len()))?, b"\n\r\n").map(|at| at + 3);
    [whole, bare, mixed].into_iter().flatten().min().map(|at| from + at)
}

fn parse(head: &Bytes) -> Result<ResponseHead, Http1Error> {
    let wrong = Http1Error::Answer("its head is not of HTTP/1");
    let mut fields = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut parsed, head, &mut fields) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => (),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Http1Error::Answer("its head has more than 100 fields"));
        }
        _ => return Err(wrong),
    }
    let is_http11 = parsed.version == Some(1);
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(wrong)?;
    let mut headers = HeaderMap::with_capacity(FIELDS_USUAL);
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_maybe_shared(head.slice_ref(field.value));
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(Http1Error::Answer("its head is not of HTTP/1"));
        };
        headers.append(name, value);
    }
    let Body { framing, is_certain } = Body::of(status, &headers, is_http11)?;
    let keeps = is_certain && keeps(&headers, is_http11);
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = if is_http11 { Version::HTTP_11 } else { Version::HTTP_10 };
    *response.headers_mut() = headers;
    Ok(ResponseHead { response, framing, keeps })
}

/// How the body of an answer ends.
struct Body {
    framing: Framing,
    /// Whether everybody who reads the head sees that end.
    is_certain: bool,
}

impl Body {
    /// Tells it in the order of RFC 9112 §6.3.
    ///
    /// # Errors
    /// Where the length is none, or two that differ.
    fn of(status: StatusCode, headers: &HeaderMap, is_http11: bool) -> Result<Self, Http1Error> {
        if [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status) {
            return Ok(Self { framing: Framing::Ended, is_certain: true });
        }
        let length = content_length(headers)?;
        if headers.contains_key(header::TRANSFER_ENCODING) {
            if !final_coding_is_chunked(headers) {
                return Ok(Self { framing: Framing::Close, is_certain: false });
            }
            let framing = Framing::Chunked(Chunk::Size);
            // Somebody between may have read it otherwise (RFC 9112 §6.1).
            return Ok(Self { framing, is_certain: is_http11 && length.is_none() });
        }
        let framing = length.map_or(Framing::Close, Framing::of_length);
        Ok(Self { framing, is_certain: length.is_some() })
    }
}

/// The length that a head says; the same one may be said several times (RFC 9110 §8.6).
///
/// # Errors
/// Where it is no number, or there are two.
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Http1Error> {
    let mut found = None;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        for text in value.as_bytes().split(|byte| *byte == b',') {
            let text = text.trim_ascii();
            let digits = text.iter().all(u8::is_ascii_digit).then_some(text);
            let number = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
            let number: u64 = number.ok_or(Http1Error::Answer("its length is no number"))?;
            if found.replace(number).is_some_and(|other| other != number) {
                return Err(Http1Error::Answer("it has two lengths"));
            }
        }
    }
    Ok(found)
}

fn final_coding_is_chunked(headers: &HeaderMap) -> bool {
    let last = headers.get_all(header::TRANSFER_ENCODING).iter().next_back();
    let last = last.map(|value| value.as_bytes().rsplit(|byte| *byte == b',').next());
    last.flatten().is_some_and(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"chunked"))
}

/// Whether the server keeps the connection (RFC 9112 §9.3).
fn keeps(headers: &HeaderMap, is_http11: bool) -> bool {
    let mut keeps = is_http11;
    for value in headers.get_all(header::CONNECTION) {
        for option in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if option.eq_ignore_ascii_case(b"close") {
                return false;
            }
            keeps |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }
    keeps
}
