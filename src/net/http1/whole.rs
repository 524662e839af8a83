//! An answer that is at hand, read as it were from a connection: for tests and fuzz targets.

use bytes::{Bytes, BytesMut};

use super::{error::Http1Error, framing::Decoded, head};

/// What a client makes of what a server sends before it closes the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerRead {
    pub status: u16,
    pub body: Bytes,
    /// Whether another request may be sent on the connection.
    pub keeps: bool,
}

/// Reads an answer that comes in pieces of these sizes, and then of the last of them.
///
/// # Errors
/// In words, where it is none, or has no end.
pub fn read(answer: &[u8], sizes: &[usize]) -> Result<AnswerRead, String> {
    let mut sizes = sizes.iter().copied().chain(std::iter::repeat(*sizes.last().unwrap_or(&9_999)));
    let mut rest = answer;
    let mut buffer = BytesMut::new();
    let mut looked = 0;
    // The next piece; false at the end.
    let mut more = |buffer: &mut BytesMut| {
        let (piece, later) =
            rest.split_at(sizes.next().unwrap_or(1).clamp(1, 9_999).min(rest.len()));
        rest = later;
        buffer.extend_from_slice(piece);
        !piece.is_empty()
    };
    let text = |error: Http1Error| error.to_string();
    let mut found = loop {
        if let Some(head) = head::read(&mut buffer, &mut looked).map_err(text)? {
            break head;
        }
        if !more(&mut buffer) {
            return Err("closed".to_owned());
        }
    };
    let mut body = BytesMut::new();
    loop {
        match found.framing.decode(&mut buffer).map_err(text)? {
            Decoded::Data(data) => body.extend_from_slice(&data),
            Decoded::End => break,
            Decoded::More(_) if more(&mut buffer) => (),
            Decoded::More(_) => found.framing.close().map_err(text)?,
        }
    }
    let status = found.response.status().as_u16();
    let keeps = found.keeps && buffer.is_empty() && !more(&mut buffer);
    Ok(AnswerRead { status, body: body.freeze(), keeps })
}
