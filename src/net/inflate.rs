//! Content codings undone piece by piece (RFC 9110 §8.4.1): gzip (RFC 1952) and deflate (RFC 1950,
//! or bare RFC 1951, which servers also send by that name). No I/O.

use bytes::{Buf as _, Bytes, BytesMut};
use flate2::{Crc, Decompress, FlushDecompress, Status};

/// The most bytes that one step gives: a bomb is given out piece by piece, and whoever takes the
/// pieces stops at their own bound.
const PIECE_BYTES: usize = 32 << 10;
/// A gzip header with its name and comment; real ones have a few dozen bytes.
const HEADER_BYTES_MAX: usize = 16 << 10;
const GZIP_MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
const TRAILER_BYTES: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    Gzip,
    Deflate,
}

/// Takes coded bytes, gives the content.
pub struct Inflate {
    coding: Coding,
    input: BytesMut,
    stage: Stage,
    crc: Crc,
}

enum Stage {
    /// Before a member of gzip, or the whole of deflate.
    Head {
        first: bool,
    },
    Data(Decompress),
    Trailer,
    /// The end was reached; bytes that still come are passed over, as browsers do.
    Over,
}

/// Why the content cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Corrupt {
    #[error("its head is none of gzip")]
    Head,
    #[error("its data is corrupt")]
    Data,
    #[error("its checksum differs")]
    Checksum,
    #[error("it ends early")]
    Truncated,
}

impl Inflate {
    pub fn new(coding: Coding) -> Self {
        Self { coding, input: BytesMut::new(), stage: Stage::Head { first: true }, crc: Crc::new() }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        if !matches!(self.stage, Stage::Over) {
            self.input.extend_from_slice(bytes);
        }
    }

    /// The next piece of the content; none where more has to be pushed first.
    ///
    /// # Errors
    /// Fails where the bytes are not of the coding, or their checksum is wrong.
    pub fn next(&mut self) -> Result<Option<Bytes>, Corrupt> {
        loop {
            let goes_on = match self.stage {
                Stage::Head { first } => self.head(first)?,
                Stage::Data(_) => match self.data()? {
                    piece if piece.is_empty() => !matches!(self.stage, Stage::Data(_)),
                    piece => return Ok(Some(piece)),
                },
                Stage::Trailer => self.trailer()?,
                Stage::Over => {
                    self.input.clear();
                    false
                }
            };
            if !goes_on {
                return Ok(None);
            }
        }
    }

    /// Tells whether the coded bytes may end here.
    ///
    /// # Errors
    /// Fails where more bytes must follow.
    pub fn finish(&self) -> Result<(), Corrupt> {
        match self.stage {
            Stage::Over | Stage::Head { first: false } => Ok(()),
            // An empty body is empty in every coding.
            Stage::Head { first: true } if self.input.is_empty() => Ok(()),
            Stage::Head { first: true } | Stage::Data(_) | Stage::Trailer => {
                Err(Corrupt::Truncated)
            }
        }
    }

    /// False where more is needed.
    fn head(&mut self, first: bool) -> Result<bool, Corrupt> {
        if self.coding == Coding::Deflate {
            let [one, two, ..] = *self.input else { return Ok(false) };
            let is_zlib = one & 0x0f == 8 && u16::from_be_bytes([one, two]).is_multiple_of(31);
            self.stage = Stage::Data(Decompress::new(is_zlib));
            return Ok(true);
        }
        match header_length(&self.input) {
            Some(Ok(length)) => {
                self.input.advance(length);
                (self.stage, self.crc) = (Stage::Data(Decompress::new(false)), Crc::new());
                Ok(true)
            }
            Some(Err(error)) if first => Err(error),
            Some(Err(_)) => {
                self.stage = Stage::Over;
                Ok(true)
            }
            None if HEADER_BYTES_MAX < self.input.len() => Err(Corrupt::Head),
            None => Ok(false),
        }
    }

    fn data(&mut self) -> Result<Bytes, Corrupt> {
        let Stage::Data(inflate) = &mut self.stage else { return Ok(Bytes::new()) };
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        let before = inflate.total_in();
        let none = FlushDecompress::None;
        let status = inflate.decompress_vec(&self.input, &mut piece, none);
        let status = status.map_err(|_error| Corrupt::Data)?;
        let taken = usize::try_from(inflate.total_in() - before).unwrap_or(usize::MAX);
        self.input.advance(taken.min(self.input.len()));
        if self.coding == Coding::Gzip {
            self.crc.update(&piece);
        }
        if status == Status::StreamEnd {
            let gzip = self.coding == Coding::Gzip;
            self.stage = if gzip { Stage::Trailer } else { Stage::Over };
        }
        Ok(piece.into())
    }

    fn trailer(&mut self) -> Result<bool, Corrupt> {
        if self.input.len() < TRAILER_BYTES {
            return Ok(false);
        }
        let same = (self.input.get_u32_le(), self.input.get_u32_le());
        if same != (self.crc.sum(), self.crc.amount()) {
            return Err(Corrupt::Checksum);
        }
        self.stage = Stage::Head { first: false };
        Ok(true)
    }
}

/// Bytes of a member's header; none where it is not all there yet.
fn header_length(input: &[u8]) -> Option<Result<usize, Corrupt>> {
    let known = input.len().min(GZIP_MAGIC.len());
    if input.get(..known) != GZIP_MAGIC.get(..known) {
        return Some(Err(Corrupt::Head));
    }
    let flags = *input.get(3)?;
    let mut at = 10;
    if flags & 0x04 != 0 {
        let length = [*input.get(at)?, *input.get(at + 1)?];
        at += 2 + usize::from(u16::from_le_bytes(length));
    }
    for flag in [0x08, 0x10] {
        if flags & flag != 0 {
            at += 1 + memchr::memchr(0, input.get(at..)?)?;
        }
    }
    if flags & 0x02 != 0 {
        at += 2;
    }
    (at <= input.len()).then_some(Ok(at))
}

impl std::fmt::Debug for Inflate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inflate").field("coding", &self.coding).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, GzBuilder, write::DeflateEncoder, write::ZlibEncoder};
    use proptest::prelude::*;

    use super::*;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let builder = GzBuilder::new().filename("a").comment("b").extra(vec![1, 2, 3]);
        let mut encoder = builder.write(Vec::new(), Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(content: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn bare(content: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn inflated<'a>(
        coding: Coding,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Vec<u8>, Corrupt> {
        let mut inflate = Inflate::new(coding);
        let mut content = Vec::new();
        for piece in pieces {
            inflate.push(piece);
            while let Some(piece) = inflate.next()? {
                assert!(piece.len() <= PIECE_BYTES);
                content.extend_from_slice(&piece);
            }
        }
        inflate.finish().map(|()| content)
    }

    #[test]
    fn what_is_flushed_can_be_read_before_the_end() {
        let mut encoder = GzBuilder::new().write(Vec::new(), Compression::default());
        encoder.write_all(b"data: 1\n\n").unwrap();
        encoder.flush().unwrap();
        let mut inflate = Inflate::new(Coding::Gzip);
        inflate.push(encoder.get_ref());
        assert_eq!(inflate.next().unwrap().as_deref(), Some(&b"data: 1\n\n"[..]));
        assert_eq!(inflate.next(), Ok(None));
        assert_eq!(inflate.finish(), Err(Corrupt::Truncated));
    }

    #[test]
    fn a_bomb_comes_in_pieces() {
        let bomb = gzip(&vec![0; 64 << 20]);
        assert!(bomb.len() < 1 << 20);
        let mut inflate = Inflate::new(Coding::Gzip);
        inflate.push(&bomb);
        let piece = inflate.next().unwrap().unwrap();
        assert!(piece.len() <= PIECE_BYTES, "whoever asks for no more gets no more");
    }

    #[test]
    fn what_is_wrong_is_told() {
        let good = gzip(b"content");
        let mut wrong = good.clone();
        *wrong.last_mut().unwrap() ^= 1;
        assert_eq!(inflated(Coding::Gzip, [&wrong[..]]), Err(Corrupt::Checksum));
        assert_eq!(inflated(Coding::Gzip, [&good[..good.len() - 1]]), Err(Corrupt::Truncated));
        assert_eq!(inflated(Coding::Gzip, [&b"{\"a\":1}"[..]]), Err(Corrupt::Head));
        assert_eq!(inflated(Coding::Deflate, [&[0xff; 9][..]]), Err(Corrupt::Data));
        let endless = [&[0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 0][..], &vec![b'a'; 1 << 20]].concat();
        assert_eq!(inflated(Coding::Gzip, [&endless[..]]), Err(Corrupt::Head));
        assert_eq!(inflated(Coding::Gzip, [&b""[..]]), Ok(vec![]));
    }

    proptest! {
        #[test]
        fn what_was_coded_comes_out_however_it_is_cut(
            content in prop::collection::vec(any::<u8>(), 0..3_000),
            many in 1_usize..40,
            cuts in prop::collection::vec(1_usize..60, 1..20),
            members in 1_usize..4,
            junk in prop::sample::select(vec![&b""[..], b"\r\n", b"\0\0\0", b"\x1e", b"junk"]),
            coding in 0_usize..3,
        ) {
            let content = content.repeat(many);
            let (coding, one) = match coding {
                0 => (Coding::Gzip, gzip(&content)),
                1 => (Coding::Deflate, zlib(&content)),
                _ => (Coding::Deflate, bare(&content)),
            };
            let members = if coding == Coding::Gzip { members } else { 1 };
            let mut coded = one.repeat(members);
            coded.extend_from_slice(junk);
            let mut pieces = Vec::new();
            let mut rest = &coded[..];
            for cut in cuts.into_iter().cycle() {
                if rest.is_empty() { break }
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = after;
            }
            prop_assert_eq!(inflated(coding, pieces), Ok(content.repeat(members)));
        }

        #[test]
        fn any_bytes_are_judged_without_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            flips in prop::collection::vec((0_usize..200, any::<u8>()), 0..4),
            how in 0_usize..3,
        ) {
            let mut bytes = match how { 0 => bytes, 1 => gzip(&bytes), _ => zlib(&bytes) };
            for (at, byte) in flips {
                if let Some(place) = bytes.get_mut(at) { *place ^= byte; }
            }
            for coding in [Coding::Gzip, Coding::Deflate] {
                let _judged = inflated(coding, bytes.chunks(7));
            }
        }
    }
}
