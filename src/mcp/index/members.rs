//! Notes where the members of a message stand, while the message is scanned.

use std::ops::Range;

use super::{
    names::{ENVELOPE, META, MetaMember, PARAMS, Param, RESULT, ResultMember},
    scan::{Key, Scan},
};

/// Where a value stands in a text; nowhere where both are 0. Four bytes each: no message that the
/// configuration lets in has 4 GiB, and a longer one is not indexed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

/// The members of one object that have known names, in the order of the names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Members<const N: usize> {
    spans: [Span; N],
    is_regular: bool,
}

/// Where the members of a message stand.
#[derive(Debug, Default)]
pub struct MessageIndex {
    envelope: Members<{ ENVELOPE.len() }>,
    /// Counted from where the params begin.
    pub params: ParamsIndex,
    /// What a result says of itself; none where there is none, or it is no object that is regular.
    pub result: Option<ResultIndex>,
}

/// What a result says of itself, and which of its known members are there. It holds no places: the
/// few stages that want a member which is there walk for it, and no others do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResultIndex {
    /// A bit for each of [`RESULT`].
    members: u8,
    pub kind: ResultKind,
    pub is_error: bool,
}

/// The `resultType` of a result (2026-07-28).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultKind {
    None,
    Complete,
    InputRequired,
    Task,
    /// Another text, one that is written with escapes, or no text.
    Other,
}

/// Where the members of a request's params stand, counted from where the params begin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ParamsIndex {
    members: Members<{ PARAMS.len() }>,
    meta: Members<{ META.len() }>,
}

impl Span {
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    pub fn is_there(self) -> bool {
        self.end != 0
    }
}

impl MessageIndex {
    /// Walks a message, nested so deep at most. None where it is not JSON, is no object, has an
    /// envelope that is not regular, or is longer or deeper than a scan goes.
    pub fn of(text: &[u8], depth_max: usize) -> Option<Self> {
        const PARAMS_AT: usize = 3;
        const RESULT_AT: usize = 4;
        u32::try_from(text.len()).ok()?;
        let mut index = Self::default();
        let mut scan = Scan::new(text, depth_max);
        index.envelope.walk(&mut scan, &ENVELOPE, 0, |scan, member| match member {
            Some(PARAMS_AT) if scan.peek() == Some(b'{') => index.params.walk(scan),
            Some(RESULT_AT) if scan.peek() == Some(b'{') => {
                index.result = ResultIndex::walk(scan)?;
                Some(())
            }
            _ => scan.value(),
        })?;
        (scan.ends() && index.envelope.is_regular).then_some(index)
    }

    /// The values of the envelope's members, in the order of [`ENVELOPE`].
    pub fn values<'a>(&self, text: &'a [u8]) -> [Option<&'a [u8]>; ENVELOPE.len()] {
        let value = |span: Span| text.get(span.range()).filter(|_| span.is_there());
        self.envelope.spans.map(value)
    }
}

impl ParamsIndex {
    /// Walks the params of a request, which are known to be JSON. None where they are longer or
    /// deeper than a scan goes.
    pub fn of(params: &[u8]) -> Option<Self> {
        u32::try_from(params.len()).ok()?;
        let mut index = Self::default();
        index.walk(&mut Scan::new(params, usize::MAX))?;
        Some(index)
    }

    /// Where a member stands, if the index is regular.
    pub fn member(&self, name: Param) -> Span {
        self.members.span(name as usize)
    }

    /// Where a member of `_meta` stands; none where `_meta` by itself is not regular.
    pub fn meta_member(&self, name: MetaMember) -> Option<Span> {
        self.meta.is_regular.then(|| self.meta.span(name as usize))
    }

    /// The index of the same params with a value of this length for a member that is there. None
    /// where that has members of its own that are known, or the params grow beyond an index.
    pub fn resized(&self, name: Param, length: usize) -> Option<Self> {
        let old = self.member(name);
        if name == Param::Meta || !old.is_there() {
            return None;
        }
        let end = u32::try_from(old.range().start.checked_add(length)?).ok()?;
        let mut index = *self;
        for span in index.members.spans.iter_mut().chain(&mut index.meta.spans) {
            if old.end <= span.start {
                let moved = |at: u32| (at - old.end).checked_add(end);
                *span = Span { start: moved(span.start)?, end: moved(span.end)? };
            } else if *span == old {
                span.end = end;
            }
        }
        Some(index)
    }

    /// Whether the members of the params leave no question open; those of `_meta` may.
    pub fn is_regular(&self) -> bool {
        self.members.is_regular
    }

    fn walk(&mut self, scan: &mut Scan<'_>) -> Option<()> {
        const META_AT: usize = Param::Meta as usize;
        let base = scan.position();
        let meta = &mut self.meta;
        self.members.walk(scan, &PARAMS, base, |scan, member| match member {
            Some(META_AT) if scan.peek() == Some(b'{') => meta.walk(scan, &META, base, pass_over),
            Some(META_AT) => {
                // What is no object has no members; whoever reads it says so.
                meta.is_regular = scan.peek() == Some(b'n');
                scan.value()
            }
            _ => scan.value(),
        })
    }
}

impl ResultIndex {
    /// Walks a result. None where the scan does not vouch for it; none within where it is not
    /// regular.
    fn walk(scan: &mut Scan<'_>) -> Option<Option<Self>> {
        const KIND: usize = ResultMember::ResultType as usize;
        const ERROR: usize = ResultMember::IsError as usize;
        let mut kind = ResultKind::None;
        let mut is_error = false;
        let mut members = Members::default();
        members.walk(scan, &RESULT, 0, |scan, member| {
            let start = scan.position();
            scan.value()?;
            match member {
                Some(KIND) => kind = ResultKind::of(scan.since(start)),
                Some(ERROR) => is_error = scan.since(start) == b"true",
                _ => (),
            }
            Some(())
        })?;
        let bit = |(at, span): (usize, &Span)| u8::from(span.is_there()) << at;
        let there = members.spans.iter().enumerate().map(bit).fold(0, |all, bit| all | bit);
        Some(members.is_regular.then_some(Self { members: there, kind, is_error }))
    }

    /// The same with another kind, which is said.
    pub fn with_kind(self, kind: ResultKind) -> Self {
        let members = self.members | 1 << ResultMember::ResultType as u8;
        Self { members, kind, ..self }
    }

    pub fn has(&self, member: ResultMember) -> bool {
        self.members & (1 << member as u8) != 0
    }
}

impl ResultKind {
    /// Reads it as it is written.
    pub fn of(value: &[u8]) -> Self {
        match value {
            b"\"complete\"" => Self::Complete,
            b"\"input_required\"" => Self::InputRequired,
            b"\"task\"" => Self::Task,
            _ => Self::Other,
        }
    }
}

impl<const N: usize> Default for Members<N> {
    fn default() -> Self {
        Self { spans: [Span::default(); N], is_regular: true }
    }
}

impl<const N: usize> Members<N> {
    /// Walks an object, each value by `value`, which is told which of the names it has. What is
    /// found is counted from `base`.
    fn walk<'a>(
        &mut self,
        scan: &mut Scan<'a>,
        names: &[&str; N],
        base: usize,
        mut value: impl FnMut(&mut Scan<'a>, Option<usize>) -> Option<()>,
    ) -> Option<()> {
        scan.object(|scan, key| {
            let found = self.find(names, key);
            let start = scan.position();
            value(scan, found)?;
            if let Some(span) = found.and_then(|at| self.spans.get_mut(at)) {
                let from_base = |position: usize| u32::try_from(position - base).ok();
                *span = Span { start: from_base(start)?, end: from_base(scan.position())? };
            }
            Some(())
        })
    }

    /// Which of the names a key is.
    fn find(&mut self, names: &[&str; N], key: Key<'_>) -> Option<usize> {
        self.is_regular &= key.is_plain;
        for (at, (name, span)) in names.iter().zip(&self.spans).enumerate() {
            if name.len() != key.text.len() {
                continue;
            }
            if name.as_bytes() == key.text {
                self.is_regular &= !span.is_there();
                return Some(at);
            }
            self.is_regular &= !name.as_bytes().eq_ignore_ascii_case(key.text);
        }
        None
    }

    fn span(&self, at: usize) -> Span {
        self.spans.get(at).copied().unwrap_or_default()
    }
}

fn pass_over(scan: &mut Scan<'_>, _: Option<usize>) -> Option<()> {
    scan.value()
}
