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

impl TraceId {
    /// Reads the trace id of a `traceparent` (W3C Trace Context §3.2); none where that is no valid
    /// one, and is to be ignored.
    pub fn of_traceparent(text: &str) -> Option<Self> {
        let mut parts = text.trim_ascii().split('-');
        let [version, trace, parent, flags] = [(); 4].map(|()| parts.next());
        let version = hex(version?, 2).filter(|version| *version != 0xff)?;
        let trace = hex(trace?, 32).filter(|trace| *trace != 0)?;
        hex(parent?, 16).filter(|parent| *parent != 0)?;
        hex(flags?, 2)?;
        // Versions to come may say more behind that.
        (version != 0 || parts.next().is_none()).then_some(Self(trace))
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
            let found = TraceId::of_traceparent(&text).map(|trace| trace.to_string());
            assert_eq!(found, good.then(|| TRACE.to_owned()), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn each_trace_is_read_as_it_is_written(trace in 1_u128.., parent in 1_u64.., flags: u8) {
            let text = format!("00-{trace:032x}-{parent:016x}-{flags:02x}");
            let read = TraceId::of_traceparent(&text).map(|trace| trace.to_string());
            prop_assert_eq!(read, Some(format!("{trace:032x}")));
        }

        #[test]
        fn no_text_is_too_strange(text in "[-0-9a-fA-Z\\PC]{0,70}") {
            TraceId::of_traceparent(&text);
        }
    }
}
