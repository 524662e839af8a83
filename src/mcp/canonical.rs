//! The canonical form of a JSON text, in which two spellings of one value are alike (RFC 8785), and
//! no two values are.
//!
//! RFC 8785 has doubles, in which long numbers are not told apart. Servers may tell them apart, so
//! here a number is what its digits say: `1`, `1.0` and `10e-1` are alike, `9007199254740992` and
//! `9007199254740993` are not. Names of members are sorted by their UTF-16 units, as there.

/// A number's exponent beyond this is left as it is written.
const EXPONENT_DIGITS_MAX: usize = 15;

/// The canonical form of a valid JSON text; of an object only the members in `only`, where that is
/// given. None where no server can be trusted to read it as another does: a name that stands twice
/// in an object, or half of a surrogate pair.
pub fn canonical(text: &[u8], only: Option<&[String]>) -> Option<Vec<u8>> {
    let mut cursor = Cursor { text, at: 0 };
    let mut out = Vec::with_capacity(text.len());
    cursor.value(only, &mut out)?;
    Some(out)
}

/// The position of the reading in a valid text.
struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn peek(&mut self) -> Option<u8> {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    /// Takes a byte of punctuation, if it is the next.
    fn takes(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn value(&mut self, only: Option<&[String]>, out: &mut Vec<u8>) -> Option<()> {
        match self.peek()? {
            b'{' => self.object(only, out),
            b'[' => self.array(out),
            b'"' => write_text(&self.string()?, out),
            b't' | b'f' | b'n' => {
                out.extend_from_slice(self.while_in(|byte| byte.is_ascii_alphabetic()));
                Some(())
            }
            _ => {
                let digits = |byte: u8| byte.is_ascii_digit() || b"+-.eE".contains(&byte);
                let number = self.while_in(digits);
                (!number.is_empty()).then(|| write_number(number, out))
            }
        }
    }

    fn object(&mut self, only: Option<&[String]>, out: &mut Vec<u8>) -> Option<()> {
        let mut members = Vec::new();
        self.at += 1;
        while self.peek()? != b'}' {
            let name = self.string()?;
            let mut value = Vec::new();
            self.takes(b':').then_some(())?;
            self.value(None, &mut value)?;
            members.push((name, value));
            self.takes(b',');
        }
        self.at += 1;
        members.sort_by(|(one, _), (other, _)| one.encode_utf16().cmp(other.encode_utf16()));
        if members.windows(2).any(|two| matches!(two, [(one, _), (other, _)] if one == other)) {
            return None;
        }
        members.retain(|(name, _)| only.is_none_or(|only| only.contains(name)));
        out.push(b'{');
        for (at, (name, value)) in members.into_iter().enumerate() {
            if at != 0 {
                out.push(b',');
            }
            write_text(&name, out)?;
            out.push(b':');
            out.extend_from_slice(&value);
        }
        out.push(b'}');
        Some(())
    }

    fn array(&mut self, out: &mut Vec<u8>) -> Option<()> {
        self.at += 1;
        out.push(b'[');
        let mut first = true;
        while self.peek()? != b']' {
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            self.value(None, out)?;
            self.takes(b',');
        }
        self.at += 1;
        out.push(b']');
        Some(())
    }

    fn string(&mut self) -> Option<String> {
        (self.peek()? == b'"').then_some(())?;
        let end = super::raw::string_end(self.text, self.at);
        let quoted = self.text.get(self.at..end)?;
        self.at = end;
        serde_json::from_slice(quoted).ok()
    }

    fn while_in(&mut self, is_in: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|byte| !is_in(*byte)).unwrap_or(rest.len());
        self.at += length;
        rest.get(..length).unwrap_or_default()
    }
}

/// serde escapes as RFC 8785 says: the short forms, and `\u00xx` in small letters.
fn write_text(text: &str, out: &mut Vec<u8>) -> Option<()> {
    serde_json::to_writer(out, text).ok()
}

/// Digits without zeros at either end, and the power of ten of the last; of a whole number that is
/// not too long, the number itself.
fn write_number(text: &[u8], out: &mut Vec<u8>) {
    let Some((negative, digits, exponent)) = parts(text) else {
        // Out of reach for anybody: alike only in the same spelling.
        out.push(b'~');
        return out.extend_from_slice(text);
    };
    if digits.is_empty() {
        return out.push(b'0');
    }
    if negative {
        out.push(b'-');
    }
    out.extend_from_slice(&digits);
    match usize::try_from(exponent) {
        Ok(zeros) if digits.len() + zeros <= 21 => out.extend(std::iter::repeat_n(b'0', zeros)),
        Ok(_) | Err(_) => out.extend_from_slice(format!("e{exponent}").as_bytes()),
    }
}

/// Sign, digits and exponent; none where the exponent is too large to reckon with.
fn parts(text: &[u8]) -> Option<(bool, Vec<u8>, i64)> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mark = text.iter().position(|byte| matches!(byte, b'e' | b'E')).unwrap_or(text.len());
    let (mantissa, exponent) = text.split_at_checked(mark)?;
    let exponent = match exponent.get(1..) {
        None => 0,
        Some(power) if EXPONENT_DIGITS_MAX < power.len() => return None,
        Some(power) => std::str::from_utf8(power).ok()?.parse::<i64>().ok()?,
    };
    let point = mantissa.iter().position(|byte| *byte == b'.').unwrap_or(mantissa.len());
    let (whole, fraction) = mantissa.split_at_checked(point)?;
    let fraction = fraction.get(1..).unwrap_or_default();
    let mut digits = [whole, fraction].concat();
    let mut exponent = exponent - i64::try_from(fraction.len()).ok()?;
    while digits.last() == Some(&b'0') {
        digits.pop();
        exponent += 1;
    }
    let leading = digits.iter().take_while(|digit| **digit == b'0').count();
    digits.drain(..leading);
    Some((negative, digits, exponent))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn of(text: &str) -> Option<String> {
        canonical(text.as_bytes(), None).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[track_caller]
    fn is(text: &str, want: &str) {
        assert_eq!(of(text).as_deref(), Some(want), "{text}");
    }

    #[test]
    fn the_vectors_of_rfc_8785() {
        // §3.2.2 and §3.2.3, whose numbers are written in full here: see the head of this file.
        is(
            r#"{"string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
                "literals": [null, true, false], "numbers": [1E30, 4.50, 2e-3]}"#,
            concat!(
                r#"{"literals":[null,true,false],"numbers":[1e30,45e-1,2e-3],"#,
                r#""string":"€$\u000f\nA'B\"\\\\\"/"}"#
            ),
        );
        is(
            "{\"\\u20ac\":\"Euro Sign\",\"\\r\":\"Carriage Return\",\"\\ufb33\":\"Hebrew Letter \
             Dalet With Dagesh\",\"1\":\"One\",\"\\ud83d\\ude00\":\"Emoji: Grinning \
             Face\",\"\\u0080\":\"Control\",\"\\u00f6\":\"Latin Small Letter O With Diaeresis\"}",
            "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u{80}\":\"Control\",\"\u{f6}\":\"Latin \
             Small Letter O With Diaeresis\",\"€\":\"Euro Sign\",\"😀\":\"Emoji: Grinning \
             Face\",\"\u{fb33}\":\"Hebrew Letter Dalet With Dagesh\"}",
        );
        // The RFC's own files: arrays, french, structures, unicode.
        is(r#"[56, {"d": true, "10": null, "1": []}]"#, r#"[56,{"1":[],"10":null,"d":true}]"#);
        is(
            r#"{"peach":"a","péché":"b","pêche":"c","sin":"d"}"#,
            r#"{"peach":"a","péché":"b","pêche":"c","sin":"d"}"#,
        );
        is(
            r#"{"1": {"f": {"f": "hi","F": 5} ,"\n": 56.0}, "10": {}, "": "empty", "a": {},
                "111": [ {"e": "yes","E": "no" } ], "A": {}}"#,
            concat!(
                r#"{"":"empty","1":{"\n":56,"f":{"F":5,"f":"hi"}},"10":{},"#,
                r#""111":[{"E":"no","e":"yes"}],"A":{},"a":{}}"#
            ),
        );
        is("{\"Unnormalized Unicode\":\"A\\u030a\"}", "{\"Unnormalized Unicode\":\"A\u{30a}\"}");
    }

    #[test]
    fn numbers_are_what_their_digits_say() {
        for alike in [&["1", "1.0", "10e-1", "0.1E+1", "100e-2"][..], &["0", "-0", "0.00", "0e9"]] {
            for number in alike {
                assert_eq!(of(number), of(alike[0]), "{number}");
            }
        }
        let others = [
            "9007199254740992",
            "9007199254740993",
            "123456789012345678901",
            "123456789012345678902",
            "1e400",
            "1e401",
            "1e-400",
            "0",
            "0.1",
            "0.10000000000000001",
            "-1",
            "1",
            "12",
            "1e99999999999999999999",
            "1e99999999999999999998",
            "\"1\"",
        ];
        let forms: std::collections::BTreeSet<_> = others.iter().map(|text| of(text)).collect();
        assert_eq!(forms.len(), others.len(), "{forms:?}");
        // As sets of long digits they are alike.
        let swapped = r#"{"a":9007199254740993,"b":9007199254740992}"#;
        assert_ne!(of(r#"{"a":9007199254740992,"b":9007199254740993}"#), of(swapped));
    }

    #[test]
    fn what_servers_may_read_differently_has_no_form() {
        for text in [
            r#"{"a":1,"a":2}"#,
            r#"{"a":1,"\u0061":1}"#,
            r#"[{"x":{"a":1,"b":2,"a":1}}]"#,
            r#"{"a":"\ud800"}"#,
            r#"{"\udc00":1}"#,
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn only_what_is_chosen_counts() {
        let only = |text: &str, names: &[&str]| {
            let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
            canonical(text.as_bytes(), Some(&names)).map(|form| String::from_utf8(form).unwrap())
        };
        let text = r#"{"b":{"c":1,"a":2},"a":1,"c":3}"#;
        assert_eq!(only(text, &["b"]).unwrap(), r#"{"b":{"a":2,"c":1}}"#, "whole");
        assert_eq!(only(text, &["d"]).unwrap(), "{}");
        assert_eq!(only(r#"{"a":null}"#, &["a"]).unwrap(), r#"{"a":null}"#);
        assert_eq!(only(r#"{"a":1,"a":2,"b":1}"#, &["b"]), None);
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-9i64..9).prop_map(Value::from),
            "[a-c\"\\\\\u{7f}é😀\u{fb33}]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 16, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[a-cé😀\u{fb33}]{0,2}", inner, 0..3)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn two_values_have_one_form_only_where_they_are_one(one in value(), other in value()) {
            let (pretty, plain) = (serde_json::to_string_pretty(&one).unwrap(), one.to_string());
            prop_assert_eq!(of(&pretty), of(&plain));
            let form = of(&plain).unwrap();
            let read: Value = serde_json::from_str(&form).unwrap();
            prop_assert!(read == one, "{form}");
            prop_assert_eq!(of(&other.to_string()).unwrap() == form, one == other);
        }
    }
}
