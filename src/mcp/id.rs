//! Request ids: a string or an integer, echoed as the very text received.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::raw::{Malformed, Raw, string_of};

/// A JSON-RPC id as MCP has it: string or integer, never null.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Id(Raw);

impl Id {
    /// Takes a client's id.
    ///
    /// # Errors
    /// Fails where it is neither a string nor an integer.
    pub fn new(raw: Raw) -> Result<Self, Malformed> {
        let text = raw.as_str();
        let integer = text.strip_prefix('-').unwrap_or(text);
        let fits = text.starts_with('"')
            || !integer.is_empty() && integer.bytes().all(|byte| byte.is_ascii_digit());
        if fits {
            Ok(Self(raw))
        } else {
            Err(Malformed::Shape("`id` must be a string or an integer"))
        }
    }

    /// An id as an upstream may spell it: any number beside what [`Id::new`] takes.
    pub(super) fn lenient(raw: Raw) -> Result<Self, Malformed> {
        let is_number = |byte: &u8| byte.is_ascii_digit() || *byte == b'-';
        if raw.bytes().first().is_some_and(is_number) { Ok(Self(raw)) } else { Self::new(raw) }
    }

    pub fn number(number: u64) -> Self {
        Self(Raw::trusted(number.to_string()))
    }

    /// An id of the gateway's own making; `text` needs no escapes.
    pub fn string(text: &str) -> Self {
        Self(Raw::trusted(format!("\"{text}\"")))
    }

    pub fn raw(&self) -> &Raw {
        &self.0
    }

    /// The number, where it is one of those that [`Id::number`] makes, in whatever spelling it
    /// comes back.
    pub fn as_number(&self) -> Option<u64> {
        number_of(&self.0)
    }
}

/// The integer that a JSON value stands for in any spelling: `7`, `7.0`, `70e-1`, `"7"` and `"7.0"`
/// are one. The TypeScript client compares ids and progress tokens by `Number(…)`.
pub fn number_of(value: &Raw) -> Option<u64> {
    let text = value.as_str();
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let inner: Cow<'_, str> = match value.try_read::<&RawValue>().and_then(string_of) {
        Some(inner) => inner,
        None => Cow::Borrowed(text),
    };
    let inner = inner.trim();
    inner.parse().ok().or_else(|| integral(inner))
}

/// A number with a fraction or an exponent that is an integer all the same, as far as a double is
/// exact.
fn integral(text: &str) -> Option<u64> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0; // 2^53
    let plain = |byte: u8| byte.is_ascii_digit() || b"+-.eE".contains(&byte);
    let number: f64 = text.bytes().all(plain).then(|| text.parse().ok())??;
    let fits = (0.0..=EXACT_MAX).contains(&number) && number.fract() == 0.0;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is an integer between 0 and 2^53"
    )]
    fits.then_some(number as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(text: &str) -> Option<u64> {
        number_of(&Raw::trusted(text.to_owned()))
    }

    #[test]
    fn what_is_no_integer_is_no_number() {
        for text in [
            "7.5",
            "-7",
            "1e300",
            "true",
            "null",
            "{}",
            "[7]",
            "\"\"",
            "\"seven\"",
            "\"7a\"",
            "\"0x7\"",
            "\"inf\"",
            "\"NaN\"",
            "\"1 2\"",
            "18446744073709551616",
        ] {
            assert_eq!(number(text), None, "{text}");
        }
        assert_eq!(number("18446744073709551615"), Some(u64::MAX));
    }

    proptest! {
        #[test]
        fn a_number_is_one_in_every_spelling(
            id in 0_u64..1 << 53,
            zeros in 0_usize..4,
            exponent in 0_u32..5,
            form in 0_usize..5,
            quoted: bool,
            blank in " {0,2}",
        ) {
            let zeros = "0".repeat(zeros);
            let exponent = exponent.min(15_u32.saturating_sub(id.max(1).ilog10()));
            let scale = 10_u64.pow(exponent);
            let text = match form {
                0 => id.to_string(),
                1 => format!("{id}.0{zeros}"),
                2 => format!("{id}e0"),
                3 => format!("{}e-{exponent}", id * scale),
                _ => format!("{}.{:0width$}E+{exponent}", id / scale, id % scale,
                    width = exponent.max(1) as usize),
            };
            let text = if quoted { format!("\"{blank}{text}{blank}\"") } else { text };
            prop_assert_eq!(number(&text), Some(id), "{}", text);
        }
    }
}
