//! Where the body of an answer ends (RFC 9112 §6, §7).

use bytes::{Buf as _, Bytes, BytesMut};
use memchr::memchr;

use super::error::Http1Error;

/// A body of a known length up to this is handed out in one piece: it is copied nowhere.
const WHOLE_BYTES_MAX: u64 = 64 << 10;
/// The bytes of one line that says how long a chunk is.
const SIZE_LINE_BYTES_MAX: usize = 1 << 10;
/// The bytes of all fields behind the last chunk; they say nothing here.
const TRAILER_BYTES_MAX: usize = 16 << 10;
/// How much is read at once where more is to come.
const READ_BYTES: usize = 16 << 10;
/// The digits of a chunk's size, in base 16.
const SIZE_DIGITS_MAX: usize = 15;

/// What is still to come of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes; `whole` where they are handed out at once.
    Length {
        left: u64,
        whole: bool,
    },
    Chunked(Chunk),
    /// All that comes until the server closes the connection.
    Close,
    /// Nothing.
    Ended,
}

/// The place in a body of chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk {
    /// Before the line of a size.
    Size,
    /// Within a chunk, so many bytes before its end.
    Data(u64),
    /// Before the line end behind a chunk.
    DataEnd,
    /// Behind the last chunk, after so many bytes of trailer fields.
    Trailer(usize),
}

/// What the bytes at hand are good for.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded {
    Data(Bytes),
    End,
    /// More is to be read, about so many bytes.
    More(usize),
}

impl Framing {
    pub fn of_length(length: u64) -> Self {
        match length {
            0 => Self::Ended,
            left => Self::Length { left, whole: left <= WHOLE_BYTES_MAX },
        }
    }

    /// Whether all of the body has been handed out.
    pub fn has_ended(&self) -> bool {
        *self == Self::Ended
    }

    /// Takes what of `buffer` belongs to the body and can be handed out.
    ///
    /// # Errors
    /// Where the bytes are no chunks.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Decoded, Http1Error> {
        match self {
            Self::Ended => Ok(Decoded::End),
            Self::Close if buffer.is_empty() => Ok(Decoded::More(READ_BYTES)),
            Self::Close => Ok(Decoded::Data(buffer.split().freeze())),
            Self::Length { left, whole } => {
                let wanted = if *whole { *left } else { 1 };
                if (buffer.len() as u64) < wanted {
                    return Ok(Decoded::More(read_bytes(*left - buffer.len() as u64)));
                }
                let data = take(buffer, *left);
                *left -= data.len() as u64;
                if *left == 0 {
                    *self = Self::Ended;
                }
                Ok(Decoded::Data(data))
            }
            Self::Chunked(chunk) => {
                let decoded = chunk.decode(buffer)?;
                if decoded == Decoded::End {
                    *self = Self::Ended;
                }
                Ok(decoded)
            }
        }
    }

    /// The server has closed the connection.
    ///
    /// # Errors
    /// Where that is not the end of the body.
    pub fn close(&mut self) -> Result<(), Http1Error> {
        match self {
            Self::Ended | Self::Close => {
                *self = Self::Ended;
                Ok(())
            }
            Self::Length { .. } | Self::Chunked(_) => Err(Http1Error::ClosedWithin),
        }
    }
}

impl Chunk {
    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Decoded, Http1Error> {
        loop {
            if let Self::Data(left) = self
                && buffer.is_empty()
            {
                return Ok(Decoded::More(read_bytes(*left)));
            }
            if let Self::Data(left) = self {
                let data = take(buffer, *left);
                *self = match *left - data.len() as u64 {
                    0 => Self::DataEnd,
                    left => Self::Data(left),
                };
                return Ok(Decoded::Data(data));
            }
            let Some(line) = line(buffer, self.line_bytes_max())? else {
                return Ok(Decoded::More(READ_BYTES));
            };
            if matches!(self, Self::Trailer(_)) && line.is_empty() {
                return Ok(Decoded::End);
            }
            *self = self.after(&line)?;
        }
    }

    fn line_bytes_max(self) -> usize {
        match self {
            Self::Size => SIZE_LINE_BYTES_MAX,
            // Its end, which is empty.
            Self::Data(_) | Self::DataEnd => 1,
            Self::Trailer(taken) => TRAILER_BYTES_MAX.saturating_sub(taken),
        }
    }

    /// The place after a line.
    fn after(self, line: &[u8]) -> Result<Self, Http1Error> {
        match self {
            Self::Size => Ok(match chunk_size(line)? {
                0 => Self::Trailer(0),
                size => Self::Data(size),
            }),
            Self::Data(_) | Self::DataEnd if line.is_empty() => Ok(Self::Size),
            Self::Data(_) | Self::DataEnd => {
                Err(Http1Error::Answer("a chunk is longer than it says"))
            }
            Self::Trailer(taken) => Ok(Self::Trailer(taken + line.len() + 2)),
        }
    }
}

/// The first bytes, `most` at most.
fn take(buffer: &mut BytesMut, most: u64) -> Bytes {
    let length = usize::try_from(most).map_or(buffer.len(), |most| most.min(buffer.len()));
    buffer.split_to(length).freeze()
}

fn read_bytes(left: u64) -> usize {
    let most = usize::try_from(WHOLE_BYTES_MAX).unwrap_or(usize::MAX);
    usize::try_from(left).map_or(most, |left| left.min(most)).max(1)
}

/// Takes a line without its end; none where it is not whole yet.
///
/// # Errors
/// Where it is longer than `most` bytes, or does not end with CR and LF.
fn line(buffer: &mut BytesMut, most: usize) -> Result<Option<Bytes>, Http1Error> {
    let Some(end) = memchr(b'\n', buffer) else {
        let is_long = most < buffer.len();
        return if is_long {
            Err(Http1Error::Answer("a line of a body is too long"))
        } else {
            Ok(None)
        };
    };
    if most < end {
        return Err(Http1Error::Answer("a line of a body is too long"));
    }
    let line = buffer.split_to(end).freeze();
    buffer.advance(1);
    let line = line.strip_suffix(b"\r").map(|text| line.slice_ref(text));
    let is_plain = |line: &Bytes| memchr(b'\r', line).is_none();
    line.filter(is_plain).map(Some).ok_or(Http1Error::Answer("a line of a body ends without CR"))
}

/// The size at the beginning of a line; what follows it says nothing here (RFC 9112 §7.1.1).
///
/// # Errors
/// Where there is none.
fn chunk_size(line: &[u8]) -> Result<u64, Http1Error> {
    let wrong = Http1Error::Answer("a chunk's size is no number in base 16");
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, rest) = line.split_at(digits);
    // Space before an extension is obsolete, but allowed (RFC 9112 §7.1.1, BWS).
    let rest = rest.trim_ascii_start();
    let text = std::str::from_utf8(digits).unwrap_or_default();
    match u64::from_str_radix(text, 16) {
        Ok(size)
            if digits.len() <= SIZE_DIGITS_MAX && matches!(rest.first(), None | Some(b';')) =>
        {
            Ok(size)
        }
        _ => Err(wrong),
    }
}
