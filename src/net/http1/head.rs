//! The head of an answer as it is read.

use std::mem::MaybeUninit;

use bytes::{Buf as _, BytesMut};
use http::{HeaderName, HeaderValue, Response, StatusCode, Version, header};
use memchr::memchr;

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
const NO_HEAD: Http1Error = Http1Error::Answer("its head is not of HTTP/1");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What a field of an answer is read for.
#[derive(Debug)]
enum Use {
    Length,
    Coding,
    Connection,
    /// Somebody asks for it.
    Kept(HeaderName),
}

/// All fields that are read. Others are held to the grammar, and are in no map: to make one costs
/// more than all that is asked of it.
static USES: [(HeaderName, Use); 10] = [
    (header::CONTENT_TYPE, Use::Kept(header::CONTENT_TYPE)),
    (header::CONTENT_LENGTH, Use::Length),
    (header::TRANSFER_ENCODING, Use::Coding),
    (header::CONNECTION, Use::Connection),
    (header::CONTENT_ENCODING, Use::Kept(header::CONTENT_ENCODING)),
    (header::SET_COOKIE, Use::Kept(header::SET_COOKIE)),
    (header::LOCATION, Use::Kept(header::LOCATION)),
    (header::RETRY_AFTER, Use::Kept(header::RETRY_AFTER)),
    (header::WWW_AUTHENTICATE, Use::Kept(header::WWW_AUTHENTICATE)),
    (SESSION, Use::Kept(SESSION)),
];
/// The session that a server of MCP begins.
const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");

/// The head of an answer, and what follows it.
#[derive(Debug)]
pub struct ResponseHead {
    pub response: Response<()>,
    pub framing: Framing,
    /// Whether the connection may be used again after the body.
    pub keeps: bool,
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
        let head = parse(buffer.get(..end).unwrap_or_default())?;
        buffer.advance(end);
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
    // The end of a line may have come before what follows it.
    let mut at = looked.saturating_sub(2);
    loop {
        at += memchr(b'\n', buffer.get(at..)?)? + 1;
        match buffer.get(at..)? {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => (),
        }
    }
}

fn parse(head: &[u8]) -> Result<ResponseHead, Http1Error> {
    let mut fields = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut parsed, head, &mut fields) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => (),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Http1Error::Answer("its head has more than 100 fields"));
        }
        _ => return Err(NO_HEAD),
    }
    let is_http11 = parsed.version == Some(1);
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(NO_HEAD)?;
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = if is_http11 { Version::HTTP_11 } else { Version::HTTP_10 };
    let mut framing = FramingFields::new(is_http11);
    for field in parsed.headers.iter() {
        match use_of(field.name.as_bytes()) {
            Some(Use::Length) => framing.add_length(field.value),
            Some(Use::Coding) => framing.coding = Some(field.value),
            Some(Use::Connection) => framing.add_connection(field.value),
            Some(Use::Kept(name)) => {
                response.headers_mut().append(name.clone(), kept(field.value)?);
            }
            None => (),
        }
    }
    let Body { framing: body, is_certain } = framing.body(status)?;
    let keeps = is_certain && framing.keeps && !framing.closes;
    Ok(ResponseHead { response, framing: body, keeps })
}

fn use_of(name: &[u8]) -> Option<&'static Use> {
    let is = |(of, _): &&(HeaderName, Use)| {
        of.as_str().len() == name.len() && of.as_str().as_bytes().eq_ignore_ascii_case(name)
    };
    USES.iter().find(is).map(|(_, used)| used)
}

/// The value of a field that somebody asks for. Nearly always it is the one that needs no copy.
///
/// # Errors
/// Where it has a character that no field may have.
fn kept(value: &[u8]) -> Result<HeaderValue, Http1Error> {
    if value == JSON.as_bytes() {
        return Ok(JSON);
    }
    HeaderValue::from_bytes(value).map_err(|_control| NO_HEAD)
}

/// What the fields of a head say of its body and its connection.
#[derive(Debug)]
struct FramingFields<'a> {
    is_http11: bool,
    /// The length; it may be said several times, as the same one (RFC 9110 §8.6).
    length: Result<Option<u64>, &'static str>,
    /// The last `Transfer-Encoding`.
    coding: Option<&'a [u8]>,
    closes: bool,
    /// The connection is kept where nothing else is said of it (RFC 9112 §9.3).
    keeps: bool,
}

/// How the body of an answer ends.
struct Body {
    framing: Framing,
    /// Whether everybody who reads the head sees that end.
    is_certain: bool,
}

impl<'a> FramingFields<'a> {
    fn new(is_http11: bool) -> Self {
        Self { is_http11, length: Ok(None), coding: None, closes: false, keeps: is_http11 }
    }

    fn add_length(&mut self, value: &'a [u8]) {
        for text in value.split(|byte| *byte == b',') {
            let text = text.trim_ascii();
            let digits = text.iter().all(u8::is_ascii_digit).then_some(text);
            let number = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
            self.length = match (self.length, number) {
                (Err(wrong), _) => Err(wrong),
                (Ok(_), None) => Err("its length is no number"),
                (Ok(Some(other)), Some(number)) if other != number => Err("it has two lengths"),
                (Ok(_), Some(number)) => Ok(Some(number)),
            };
        }
    }

    fn add_connection(&mut self, value: &'a [u8]) {
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            self.closes |= option.eq_ignore_ascii_case(b"close");
            self.keeps |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// How the body ends, in the order of RFC 9112 §6.3.
    ///
    /// # Errors
    /// Where the length is none, or two that differ.
    fn body(&self, status: StatusCode) -> Result<Body, Http1Error> {
        if [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&status) {
            return Ok(Body { framing: Framing::Ended, is_certain: true });
        }
        let length = self.length.map_err(Http1Error::Answer)?;
        let Some(coding) = self.coding else {
            let framing = length.map_or(Framing::Close, Framing::of_length);
            return Ok(Body { framing, is_certain: length.is_some() });
        };
        let last = coding.rsplit(|byte| *byte == b',').next().unwrap_or_default();
        if !last.trim_ascii().eq_ignore_ascii_case(b"chunked") {
            return Ok(Body { framing: Framing::Close, is_certain: false });
        }
        let framing = Framing::Chunked(Chunk::Size);
        // Somebody between may have read it otherwise (RFC 9112 §6.1).
        Ok(Body { framing, is_certain: self.is_http11 && length.is_none() })
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn head(fields: &str) -> HeaderMap {
        let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
        let read = read(&mut BytesMut::from(text.as_bytes()), &mut 0);
        read.unwrap().unwrap().response.headers().clone()
    }

    #[test]
    fn fields_that_somebody_asks_for_are_found_whatever_their_spelling() {
        for (name, used) in &USES {
            for name in [name.to_string(), name.as_str().to_ascii_uppercase()] {
                let headers = head(&format!("X-{name}: 0\r\n{name}: 1\r\n{name}:\t1 \r\n"));
                let count = 2 * usize::from(matches!(used, Use::Kept(_)));
                let is_one = |value: &&HeaderValue| *value == "1";
                let found = headers.get_all(&name).iter().filter(is_one).count();
                assert_eq!((found, headers.len()), (count, count), "{name}");
            }
        }
    }

    #[test]
    fn a_usual_answer_has_one_field_that_is_asked_for() {
        let headers = head(
            "date: Mon, 30 Nov 2026 20:00:00 GMT\r\nserver: uvicorn\r\ncontent-length: 0\r\n\
             content-type: application/json\r\nx-request-id: 1\r\nconnection: keep-alive\r\n",
        );
        assert_eq!(headers.len(), 1);
        assert_eq!(headers[header::CONTENT_TYPE], "application/json");
    }

    #[test]
    fn a_head_ends_where_it_ends_however_it_comes() {
        for (text, end) in [
            ("a\r\n\r\nb", Some(5)),
            ("a\n\nb", Some(3)),
            ("a\n\r\nb", Some(4)),
            ("a\r\n\nb", Some(4)),
            ("a\r\nb\r\n\r\n\r\n", Some(8)),
            ("a\r\r\n\rb\n", None),
            ("a\r\nb", None),
            ("a\n\r", None),
            ("", None),
        ] {
            let buffer = text.as_bytes();
            for looked in 0..end.unwrap_or(buffer.len()) {
                assert_eq!(head_end(buffer, looked), end, "{text:?} from {looked}");
            }
        }
    }
}
