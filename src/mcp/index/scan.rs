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
    /// It is what it looks like: it has no escape, and no letter beyond ASCII, which might be
    /// another case of one within.
    pub is_plain: bool,
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

    /// The bytes that were walked since the scan stood there.
    pub fn since(&self, start: usize) -> &'a [u8] {
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// The first byte of the next token.
    pub fn peek(&mut self) -> Option<u8> {
        let byte = *self.text.get(self.at)?;
        if b' ' < byte {
            return Some(byte);
        }
        self.skip_blanks();
        self.text.get(self.at).copied()
    }

    /// Walks an object, and has each value walked by `member`, which is told its name and begins at
    /// its first byte. None where it is no object, or is none that the scan vouches for.
    pub fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, Key<'a>) -> Option<()>,
    ) -> Option<()> {
        if self.peek()? != b'{' {
            return None;
        }
        self.enter()?;
        if self.peek()? == b'}' {
            return self.leave();
        }
        loop {
            let key = self.key()?;
            self.peek()?;
            member(self, key)?;
            if !self.goes_on(b'}')? {
                return Some(());
            }
        }
    }

    /// Walks one value, whatever it is.
    pub fn value(&mut self) -> Option<()> {
        let bottom = self.depth;
        let mut kinds = 0_u64;
        loop {
            let is_open = match self.peek()? {
                open @ (b'{' | b'[') => self.open(open, &mut kinds)?,
                first => {
                    self.leaf(first)?;
                    false
                }
            };
            if !is_open && self.close(bottom, &mut kinds)? {
                return Some(());
            }
        }
    }

    /// Whether nothing but blanks is left, and all strings were UTF-8.
    pub fn ends(mut self) -> bool {
        self.peek().is_none() && (self.seen & HIGH == 0 || std::str::from_utf8(self.text).is_ok())
    }

    fn leaf(&mut self, first: u8) -> Option<()> {
        match first {
            b'"' => self.string().map(drop),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => self.number(),
        }
    }

    /// Begins an object or an array; false where it ends at once. `kinds` has a bit for each that
    /// is open, the innermost lowest: whether it is an object.
    fn open(&mut self, open: u8, kinds: &mut u64) -> Option<bool> {
        self.enter()?;
        // The closing brace and bracket stand two behind the opening ones.
        if self.peek()? == open + 2 {
            self.leave()?;
            return Some(false);
        }
        let is_object = open == b'{';
        *kinds = (*kinds << 1) | u64::from(is_object);
        self.next(is_object).map(|()| true)
    }

    /// Goes to the next value: in an object, past its name.
    fn next(&mut self, is_object: bool) -> Option<()> {
        if is_object { self.key().map(drop) } else { Some(()) }
    }

    /// Behind a value: leaves all that ends here, down to `bottom`. True where nothing is open any
    /// more; else the next value begins.
    fn close(&mut self, bottom: usize, kinds: &mut u64) -> Option<bool> {
        while bottom < self.depth {
            let is_object = *kinds & 1 == 1;
            if self.goes_on(if is_object { b'}' } else { b']' })? {
                return self.next(is_object).map(|()| false);
            }
            *kinds >>= 1;
        }
        Some(true)
    }

    /// Behind a value: true where a comma follows, false where `close` does, which is left.
    fn goes_on(&mut self, close: u8) -> Option<bool> {
        match self.peek()? {
            b',' => {
                self.at += 1;
                Some(true)
            }
            byte if byte == close => self.leave().map(|()| false),
            _ => None,
        }
    }

    fn enter(&mut self) -> Option<()> {
        self.at += 1;
        self.depth += 1;
        (self.depth <= self.depth_max).then_some(())
    }

    fn leave(&mut self) -> Option<()> {
        self.at += 1;
        self.depth = self.depth.checked_sub(1)?;
        Some(())
    }

    /// A name and the colon behind it.
    fn key(&mut self) -> Option<Key<'a>> {
        if self.peek()? != b'"' {
            return None;
        }
        let key = self.string()?;
        if self.peek()? != b':' {
            return None;
        }
        self.at += 1;
        Some(key)
    }

    /// Walks the string whose opening quote is here.
    fn string(&mut self) -> Option<Key<'a>> {
        let start = self.at + 1;
        let mut at = start;
        let mut seen = 0_u64;
        let mut has_escapes = false;
        loop {
            at = behind_plain(self.text, at, &mut seen);
            match *self.text.get(at)? {
                b'"' => break,
                b'\\' => {
                    has_escapes = true;
                    at = behind_escape(self.text, at)?;
                }
                ..b' ' => return None,
                // One of the last bytes of the text, too few for a chunk.
                byte => {
                    seen |= u64::from(byte);
                    at += 1;
                }
            }
        }
        self.seen |= seen;
        self.at = at + 1;
        let is_plain = !has_escapes && seen & HIGH == 0;
        Some(Key { text: self.text.get(start..at)?, is_plain })
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

    #[cold]
    fn skip_blanks(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.text.get(self.at) {
            // Texts that are indented have long runs.
            self.at += if chunk(self.text, self.at) == Some(BLANKS) { CHUNK } else { 1 };
        }
    }
}

/// The bytes from here on, the first of them lowest; none where too few are left.
fn chunk(text: &[u8], at: usize) -> Option<u64> {
    let chunk = text.get(at..)?.first_chunk::<CHUNK>()?;
    Some(u64::from_le_bytes(*chunk))
}

/// Passes over the bytes of a string that mean nothing but themselves, as far as chunks go, and
/// adds them to those that were seen.
fn behind_plain(text: &[u8], mut at: usize, seen: &mut u64) -> usize {
    while let Some(chunk) = chunk(text, at) {
        let stops = stops(chunk);
        if stops != 0 {
            // The bits below the first stop are those of the bytes before it.
            *seen |= chunk & ((stops & stops.wrapping_neg()).wrapping_sub(1) >> 7);
            return at + stops.trailing_zeros() as usize / CHUNK;
        }
        *seen |= chunk;
        at += CHUNK;
    }
    at
}

/// The highest bit of each byte that is a quote, a backslash or a control character. Only the first
/// of them is exact: what is borrowed there spoils the bytes behind it.
fn stops(chunk: u64) -> u64 {
    const QUOTES: u64 = u64::from_le_bytes([b'"'; CHUNK]);
    const BACKSLASHES: u64 = u64::from_le_bytes([b'\\'; CHUNK]);
    let quotes = (chunk ^ QUOTES).wrapping_sub(ONES);
    let backslashes = (chunk ^ BACKSLASHES).wrapping_sub(ONES);
    let controls = chunk.wrapping_sub(BLANKS);
    (quotes | backslashes | controls) & !chunk & HIGH
}

/// Where an escape ends that begins here.
fn behind_escape(text: &[u8], at: usize) -> Option<usize> {
    match text.get(at + 1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(at + 2),
        b'u' => {
            let digits = text.get(at + 2..at + 6)?;
            digits.iter().all(u8::is_ascii_hexdigit).then_some(at + 6)
        }
        _ => None,
    }
}
