//! Identifiers that tell one call from all others: in this gate's records, and in the trace that
//! its client may be part of.

use std::fmt;

/// A request of a client: a random number, as 16 digits, in the reply, in the log and in the
/// records of this gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallId(u64);

/// A trace that a call is part of (W3C Trace Context, `trace-id`), as 32 digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(u128);

impl CallId {
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// The id of a request within a batch, of which this is the first one's.
    pub fn nth(self, at: usize) -> Self {
        Self(self.0.wrapping_add(at as u64))
    }
}

/// One span of a trace (W3C Trace Context, `parent-id`), as 16 digits; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(u64);

/// The span that a request was sent in, and whether its trace is sampled (W3C Trace Context,
/// `traceparent`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    pub trace: TraceId,
    pub span: SpanId,
    pub is_sampled: bool,
}

impl TraceId {
    pub fn random() -> Self {
        Self(rand::random_range(1..=u128::MAX))
    }

    pub fn bits(self) -> u128 {
        self.0
    }

    /// The half of it that is random in every kind of trace id.
    pub fn low_bits(self) -> u64 {
        let low = self.0 & u128::from(u64::MAX);
        u64::try_from(low).unwrap_or(u64::MAX)
    }
}

impl SpanId {
    pub fn random() -> Self {
        Self(rand::random_range(1..=u64::MAX))
    }

    pub fn bits(self) -> u64 {
        self.0
    }
}

impl TraceParent {
    /// Reads a `traceparent` (W3C Trace Context §3.2); none where it is no valid one, and is to be
    /// ignored.
    pub fn read(text: &str) -> Option<Self> {
        let mut parts = text.trim_ascii().split('-');
        let [version, trace, parent, flags] = [(); 4].map(|()| parts.next());
        let version = hex(version?, 2).filter(|version| *version != 0xff)?;
        let trace = hex(trace?, 32).filter(|trace| *trace != 0)?;
        let parent = hex(parent?, 16).filter(|parent| *parent != 0)?;
        let flags = hex(flags?, 2)?;
        // Versions to come may say more behind that.
        (version != 0 || parts.next().is_none()).then_some(Self {
            trace: TraceId(trace),
            span: SpanId(u64::try_from(parent).ok()?),
            is_sampled: flags & 1 == 1,
        })
    }
}

/// A number of so many digits, all of them in lower case.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let fits = text.len() == digits && text.bytes().all(is_digit);
    fits.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, u8::from(self.is_sampled))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn what_is_no_traceparent_is_none() {
        for (text, good) in [
            (format!("00-{TRACE}-00f067aa0ba902b7-01"), true),
            (format!("00-{TRACE}-00f067aa0ba902b7-00"), true),
            (format!(" 00-{TRACE}-00f067aa0ba902b7-01\t"), true),
            (format!("cc-{TRACE}-00f067aa0ba902b7-01-more-of-it"), true),
            (format!("00-{TRACE}-00f067aa0ba902b7-01-"), false),
            (format!("ff-{TRACE}-00f067aa0ba902b7-01"), false),
            (format!("0-{TRACE}-00f067aa0ba902b7-01"), false),
            (format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()), false),
            (format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)), false),
            (format!("00-{TRACE}-{}-01", "0".repeat(16)), false),
            (format!("00-{TRACE}-00f067aa0ba902b7"), false),
            (format!("00-{TRACE}-00f067aa0ba902b-01"), false),
            (format!("00-{}-00f067aa0ba902b7-01", TRACE.replacen('4', "+", 1)), false),
            (TRACE.to_owned(), false),
            ("----".to_owned(), false),
            (String::new(), false),
        ] {
            let found = TraceParent::read(&text).map(|parent| parent.trace.to_string());
            assert_eq!(found, good.then(|| TRACE.to_owned()), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn each_parent_is_read_as_it_is_written(trace in 1_u128.., parent in 1_u64.., flags: u8) {
            let text = format!("00-{trace:032x}-{parent:016x}-{flags:02x}");
            let read = TraceParent::read(&text).unwrap();
            // Flags beside the first say nothing yet.
            let written = format!("00-{trace:032x}-{parent:016x}-{:02x}", flags & 1);
            prop_assert_eq!(read.to_string(), written);
            prop_assert_eq!(read.trace.to_string(), format!("{trace:032x}"));
        }

        #[test]
        fn no_text_is_too_strange(text in "[-0-9a-fA-Z\\PC]{0,70}") {
            TraceParent::read(&text);
        }
    }
}
