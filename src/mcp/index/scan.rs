//! Walks a JSON text once: holds it to the whole grammar, and tells where the members of the
//! outermost objects stand.
//!
//! A scan never says what is wrong with a text. It refuses what it does not vouch for, and who
//! wants to know why, or to read the text all the same, reads it with `serde_json`. So a scan may
//! be narrower than the grammar (no nesting deeper than [`DEPTH_MAX`]), and is never wider.

/// Nesting that a scan follows: one bit each says whether an object or an array is open.
pub const DEPTH_MAX: usize = 64;

/// Bytes that a step over a string looks at in one go.
const CHUNK: usize = size_of::<u64>();
/// One in every byte, and the highest bit of every byte.
const ONES: u64 = u64::from_le_bytes([1; CHUNK]);
const HIGH: u64 = u64::from_le_bytes([0x80; CHUNK]);
const BLANKS: u64 = u64::from_le_bytes([b' '; CHUNK]);

/// How far into a text a scan has come.
#[derive(Debug)]
pub struct Scan<'a> {
    text: &'a [u8],
    at: usize,
    /// Arrays and objects that are open.
    depth: usize,
    depth_max: usize,
    /// All bytes of strings that were seen: a set highest bit says that one was no ASCII.
    seen: u64,
}

/// The name of a member, as it is written.
#[derive(Debug, Clone, Copy)]
pub struct Key<'a> {
    /// Without the quotes.
    pub text: &'a [u8],
    has_escapes: bool,
}

impl Key<'_> {
    /// Whether it is what it looks like: it has no escape, and no letter beyond ASCII, which might
    /// be another case of one within.
    pub fn is_plain(&self) -> bool {
        !self.has_escapes && self.text.is_ascii()
    }
}

impl<'a> Scan<'a> {
    /// Begins at the start of a text, which may be nested so deep.
    pub fn new(text: &'a [u8], depth_max: usize) -> Self {
        Self { text, at: 0, depth: 0, depth_max: depth_max.min(DEPTH_MAX), seen: 0 }
    }

    /// Where the next token stands; just behind a value, where that ends.
    pub fn position(&self) -> usize {
        self.at
    }

    /// The first byte of the next token.
    pub fn peek(&mut self) -> Option<u8> {
        self.skip_blanks();
        self.text.get(self.at).copied()
    }

    /// Walks an object, and has each value walked by `member`, which is told its name and begins at
    /// its first byte. None where it is no object, or is none that the scan vouches for.
    pub fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, Key<'a>) -> Option<()>,
    ) -> Option<()> {
        self.enter(b'{')?;
        if self.peek()? == b'}' {
            return self.leave();
        }
        loop {
            let key = self.key()?;
            self.skip_blanks();
            member(self, key)?;
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => return self.leave(),
                _ => return None,
            }
        }
    }

    /// Walks one value, whatever it is.
    pub fn value(&mut self) -> Option<()> {
        let (bottom, mut kinds) = (self.depth, 0_u64);
        loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                }
                open @ (b'{' | b'[') => {
                    self.enter(open)?;
                    kinds = kinds << 1 | u64::from(open == b'{');
                    if self.peek()? != open + 2 {
                        if open == b'{' {
                            self.key()?;
                        }
                        continue;
                    }
                    self.leave()?;
                    kinds >>= 1;
                }
                b't' => self.word(b"true")?,
                b'f' => self.word(b"false")?,
                b'n' => self.word(b"null")?,
                _ => self.number()?,
            }
            if self.close(bottom, &mut kinds)? {
                return Some(());
            }
        }
    }

    /// Whether nothing but blanks is left, and all strings were UTF-8.
    pub fn ends(mut self) -> bool {
        self.peek().is_none() && (self.seen & HIGH == 0 || std::str::from_utf8(self.text).is_ok())
    }

    /// Behind a value: leaves all that ends here, down to `bottom`. True where nothing is open any
    /// more; else the next value begins.
    fn close(&mut self, bottom: usize, kinds: &mut u64) -> Option<bool> {
        while bottom < self.depth {
            let is_object = *kinds & 1 == 1;
            match self.peek()? {
                b',' => {
                    self.at += 1;
                    if is_object {
                        self.key()?;
                    }
                    return Some(false);
                }
                b'}' if is_object => self.leave()?,
                b']' if !is_object => self.leave()?,
                _ => return None,
            }
            *kinds >>= 1;
        }
        Some(true)
    }

    fn enter(&mut self, open: u8) -> Option<()> {
        if self.peek()? != open || self.depth_max <= self.depth {
            return None;
        }
        self.depth += 1;
        self.at += 1;
        Some(())
    }

    fn leave(&mut self) -> Option<()> {
        self.depth = self.depth.checked_sub(1)?;
        self.at += 1;
        Some(())
    }

    /// A name and the colon behind it.
    fn key(&mut self) -> Option<Key<'a>> {
        if self.peek()? != b'"' {
            return None;
        }
        let start = self.at + 1;
        let has_escapes = self.string()?;
        let text = self.text.get(start..self.at - 1)?;
        if self.peek()? != b':' {
            return None;
        }
        self.at += 1;
        Some(Key { text, has_escapes })
    }

    /// Walks the string whose opening quote is here; says whether it has escapes.
    fn string(&mut self) -> Option<bool> {
        let mut has_escapes = false;
        self.at += 1;
        loop {
            self.skip_plain();
            match *self.text.get(self.at)? {
                b'"' => {
                    self.at += 1;
                    return Some(has_escapes);
                }
                b'\\' => {
                    has_escapes = true;
                    self.escape()?;
                }
                ..b' ' => return None,
                // One of the last bytes of the text, too few for a chunk.
                byte => {
                    self.seen |= u64::from(byte);
                    self.at += 1;
                }
            }
        }
    }

    /// Passes over bytes of a string that mean nothing but themselves, a chunk at a time.
    fn skip_plain(&mut self) {
        while let Some(chunk) = self.chunk() {
            self.seen |= chunk;
            let equal = |byte: u8| {
                let differs = chunk ^ ONES * u64::from(byte);
                differs.wrapping_sub(ONES) & !differs
            };
            let control = chunk.wrapping_sub(BLANKS) & !chunk;
            // The lowest bit that is set is that of the first such byte: what is borrowed
            // spoils only the bytes behind it.
            let stops = (equal(b'"') | equal(b'\\') | control) & HIGH;
            if stops != 0 {
                self.at += stops.trailing_zeros() as usize / CHUNK;
                return;
            }
            self.at += CHUNK;
        }
    }

    fn escape(&mut self) -> Option<()> {
        match self.text.get(self.at + 1)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 2,
            b'u' => {
                let digits = self.text.get(self.at + 2..self.at + 6)?;
                if !digits.iter().all(u8::is_ascii_hexdigit) {
                    return None;
                }
                self.at += 6;
            }
            _ => return None,
        }
        Some(())
    }

    fn number(&mut self) -> Option<()> {
        if self.text.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        match self.text.get(self.at)? {
            b'0' => self.at += 1,
            _ => self.digits()?,
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.text.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.text.get(self.at) {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    /// One digit or more.
    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        (start < self.at).then_some(())
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        let end = self.at + word.len();
        (self.text.get(self.at..end)? == word).then(|| self.at = end)
    }

    fn skip_blanks(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.text.get(self.at) {
            // Texts that are indented have long runs.
            self.at += if self.chunk() == Some(BLANKS) { CHUNK } else { 1 };
        }
    }

    fn chunk(&self) -> Option<u64> {
        let chunk = self.text.get(self.at..)?.first_chunk::<CHUNK>()?;
        Some(u64::from_le_bytes(*chunk))
    }
}
