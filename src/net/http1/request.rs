//! A request as it is written to a connection, and the part of it that is the same for many.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, header};

/// A body up to this is copied behind its head, and both are written at once.
const COPIED_BYTES_MAX: usize = 4 << 10;
/// The room that the fields of one request need besides those that are the same for many.
const FIELDS_ROOM: usize = 512;
/// The room for a length, in digits.
const DIGITS: usize = 20;

/// The request line and fields that many requests to one server begin with.
#[derive(Debug, Clone)]
pub struct HeadTemplate(Box<[u8]>);

/// A request as it is written.
#[derive(Debug)]
pub struct RequestText {
    /// The head, and behind it a body that is small.
    pub first: Vec<u8>,
    /// A body that is not.
    pub rest: Bytes,
}

/// The text of a request that is being put together, field by field.
#[derive(Debug)]
pub struct RequestWriter(Vec<u8>);

impl HeadTemplate {
    /// Takes the line and the fields of a request, whose body does not matter.
    pub fn of<T>(request: &Request<T>) -> Self {
        Self(RequestWriter::of_head(request).0.into())
    }
}

impl RequestText {
    /// Writes a whole request. Whatever its fields say of its length and its connection, what is
    /// sent is right.
    pub fn of(request: &Request<Bytes>) -> Self {
        RequestWriter::of_head(request).end(request.method(), request.body())
    }

    /// Bytes of head and body.
    #[cfg(test)]
    pub fn whole(&self) -> Vec<u8> {
        [&self.first[..], &self.rest].concat()
    }
}

impl RequestWriter {
    /// Begins a request with a body of so many bytes as this template has it.
    pub fn of_template(template: &HeadTemplate, body_length: usize) -> Self {
        let room = template.0.len() + FIELDS_ROOM + body_length.min(COPIED_BYTES_MAX);
        let mut text = Vec::with_capacity(room);
        text.extend_from_slice(&template.0);
        Self(text)
    }

    fn of_head<T>(request: &Request<T>) -> Self {
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        // An address may have a query and no path.
        let slash: &[u8] = if target.starts_with('/') { b"" } else { b"/" };
        let verb = request.method().as_str().as_bytes();
        let mut writer = Self(Vec::with_capacity(2 * FIELDS_ROOM));
        writer.put([verb, b" ", slash, target.as_bytes(), b" HTTP/1.1\r\n"]);
        for (name, value) in request.headers() {
            writer.field(name, value);
        }
        writer
    }

    /// Adds a field, unless it is about the connection.
    pub fn field(&mut self, name: &HeaderName, value: &HeaderValue) {
        if !is_of_connection(name) {
            self.put([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
        }
    }

    /// Ends the head with the length of the body, which a request of this method has.
    pub fn end(mut self, method: &Method, body: &Bytes) -> RequestText {
        let length = body.len();
        if length != 0 || *method == Method::POST {
            let mut digits = [0; DIGITS];
            self.put([b"content-length: ", in_digits(length, &mut digits), b"\r\n"]);
        }
        self.0.extend_from_slice(b"\r\n");
        if COPIED_BYTES_MAX < length {
            return RequestText { first: self.0, rest: body.clone() };
        }
        self.0.extend_from_slice(body);
        RequestText { first: self.0, rest: Bytes::new() }
    }

    fn put<const N: usize>(&mut self, parts: [&[u8]; N]) {
        parts.iter().for_each(|part| self.0.extend_from_slice(part));
    }
}

fn is_of_connection(name: &HeaderName) -> bool {
    [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION].contains(name)
}

/// Writes a number from behind; returns the digits that it has.
fn in_digits(mut number: usize, digits: &mut [u8; DIGITS]) -> &[u8] {
    let mut first = digits.len();
    for (at, digit) in digits.iter_mut().enumerate().rev() {
        #[allow(clippy::cast_possible_truncation, reason = "it is a digit")]
        let value = (number % 10) as u8;
        *digit = b'0' + value;
        first = at;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    digits.get(first..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_digits() {
        for number in [0, 1, 9, 10, 99, 100, 12_345, 9_999_999, usize::MAX - 1, usize::MAX] {
            assert_eq!(in_digits(number, &mut [0; DIGITS]), number.to_string().as_bytes());
        }
    }

    #[test]
    fn a_request_of_a_template_is_the_same_as_one_written_whole() {
        for length in [0, 1, 100, COPIED_BYTES_MAX, COPIED_BYTES_MAX + 1, 20_000] {
            let body = Bytes::from("x".repeat(length));
            let head = || Request::post("http://h:1/mcp?a=b").header("host", "h:1");
            let whole = head().header("mcp-name", "a").body(body.clone()).unwrap();
            let template = HeadTemplate::of(&head().body(()).unwrap());
            let mut writer = RequestWriter::of_template(&template, length);
            writer.field(&HeaderName::from_static("mcp-name"), &HeaderValue::from_static("a"));
            writer.field(&header::CONNECTION, &HeaderValue::from_static("close"));
            let written = writer.end(&Method::POST, &body);
            assert_eq!(written.whole(), RequestText::of(&whole).whole(), "{length}");
        }
    }
}
