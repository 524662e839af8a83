//! The trace context that comes with a request: where it is in its trace, and what goes along (W3C
//! Trace Context, W3C Baggage).

use tokio::time::Instant;

use super::trace::TraceParent;

/// Members of a `tracestate` (W3C Trace Context §3.3.1.1).
const STATE_MEMBERS_MAX: usize = 32;
/// Bytes of a `tracestate`: those that must be propagated (§3.3.1.5). A longer one is left out.
const STATE_BYTES_MAX: usize = 512;
/// Bytes and members of `baggage` (W3C Baggage §3.3.2). What is larger is left out.
const BAGGAGE_BYTES_MAX: usize = 8_192;
const BAGGAGE_MEMBERS_MAX: usize = 64;

/// The trace context of a request, each part of it valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    pub parent: TraceParent,
    pub state: Option<TraceState>,
    pub baggage: Option<Baggage>,
}

/// What is known of a request before it is decoded: its trace, and what it took to know who calls.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The context that its headers say.
    pub trace: Option<TraceContext>,
    pub begun: Instant,
    /// When it was known who calls.
    pub identified: Instant,
}

/// A valid `tracestate` that is not empty, without white space around its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceState(Box<str>);

/// A `baggage` within its bounds: of printable ASCII. Which of its members are sent on is a matter
/// of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baggage(Box<str>);

impl TraceContext {
    /// Makes a context of its parts as they came; none without a valid `traceparent`, since the
    /// rest means nothing then. An invalid part beside that is left out.
    pub fn new(parent: &str, state: Option<&str>, baggage: Option<&str>) -> Option<Self> {
        let parent = TraceParent::read(parent)?;
        let state = state.and_then(TraceState::read);
        let baggage = baggage.and_then(Baggage::read);
        Some(Self { parent, state, baggage })
    }
}

impl TraceState {
    /// Reads a `tracestate`; none where it is invalid as a whole, empty, or too long.
    pub fn read(text: &str) -> Option<Self> {
        // More than twice as much, with white space, is not even looked at.
        if 2 * STATE_BYTES_MAX < text.len() {
            return None;
        }
        let members: Vec<_> = text.split(',').map(str::trim_ascii).collect();
        let members: Vec<_> = members.into_iter().filter(|member| !member.is_empty()).collect();
        let keys: Vec<_> = members.iter().filter_map(|member| state_key(member)).collect();
        let is_valid = keys.len() == members.len()
            && (1..=STATE_MEMBERS_MAX).contains(&keys.len())
            && keys.iter().enumerate().all(|(at, key)| !keys.iter().skip(at + 1).any(|k| k == key));
        let whole = members.join(",");
        (is_valid && whole.len() <= STATE_BYTES_MAX).then(|| Self(whole.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Baggage {
    /// Takes a `baggage` that is within its bounds.
    pub fn read(text: &str) -> Option<Self> {
        let fits = text.len() <= BAGGAGE_BYTES_MAX
            && text.split(',').count() <= BAGGAGE_MEMBERS_MAX
            && text.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
        fits.then(|| Self(text.into()))
    }

    /// The members with these keys, valid ones only; none where there is none of them.
    pub fn allowed(&self, keys: &[String]) -> Option<String> {
        let members = self.0.split(',').map(str::trim_ascii).filter(|member| {
            let (pair, properties) = member.split_once(';').unwrap_or((*member, ""));
            let Some((key, value)) = pair.split_once('=') else { return false };
            let is_valid = value.trim_ascii().bytes().all(is_baggage_octet)
                && properties.bytes().all(|byte| is_baggage_octet(byte) || b" \t;".contains(&byte));
            is_valid && keys.iter().any(|allowed| allowed == key.trim_ascii())
        });
        let members: Vec<_> = members.collect();
        (!members.is_empty()).then(|| members.join(","))
    }
}

/// The key of a valid member of a `tracestate`.
fn state_key(member: &str) -> Option<&str> {
    let (key, value) = member.split_once('=')?;
    let is_key_byte =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/".contains(&byte);
    let (tenant, system) = key.split_once('@').map_or((key, None), |(a, b)| (a, Some(b)));
    let begins = |text: &str, digits: bool| {
        text.bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_lowercase() || digits && byte.is_ascii_digit())
    };
    let keys_fit = match system {
        None => begins(tenant, true) && tenant.len() <= 256,
        Some(system) => {
            begins(tenant, true)
                && tenant.len() <= 241
                && begins(system, false)
                && system.len() <= 14
        }
    };
    let are_key_bytes =
        [tenant, system.unwrap_or_default()].iter().all(|text| text.bytes().all(is_key_byte));
    let value_fits = (1..=256).contains(&value.len())
        && value.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'=')
        && !value.ends_with(' ');
    (keys_fit && are_key_bytes && value_fits).then_some(key)
}

/// Whether a byte may stand in a value of baggage (W3C Baggage §3.3.1); `=` also within it.
fn is_baggage_octet(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_invalid_state_is_left_out_as_a_whole() {
        let many =
            |count: usize| (0..count).map(|at| format!("k{at}=v")).collect::<Vec<_>>().join(",");
        for (text, want) in [
            ("rojo=00f067aa0ba902b7", Some("rojo=00f067aa0ba902b7")),
            ("rojo=1 , congo=t61 ,,", Some("rojo=1,congo=t61")),
            ("1a-_*/=x", Some("1a-_*/=x")),
            ("fw529a3039@dt=FfAxaUqsNNz0WDCM", Some("fw529a3039@dt=FfAxaUqsNNz0WDCM")),
            ("a=b c", Some("a=b c")),
            (&many(32), Some(&*many(32))),
            (&many(33), None),
            ("a=1,a=2", None),
            ("A=1", None),
            ("a=", None),
            ("=1", None),
            ("a", None),
            ("a=b=c", None),
            ("a=1,\u{1b}[2J=x", None),
            ("a=\u{e9}", None),
            ("a@=1", None),
            ("@a=1", None),
            ("a@b@c=1", None),
            ("", None),
            (", ,", None),
            (&format!("a={}", "x".repeat(257)), None),
            (&format!("a={},b={}", "x".repeat(256), "x".repeat(256)), None),
            (&" ".repeat(5_000), None),
        ] {
            let read = TraceState::read(text);
            assert_eq!(read.as_ref().map(TraceState::as_str), want, "{text:?}");
        }
    }

    #[test]
    fn only_baggage_that_is_listed_goes_on() {
        let keys = ["tenant", "region"].map(str::to_owned);
        for (text, want) in [
            ("tenant=a", Some("tenant=a")),
            ("user=ann,tenant=a;p=1;q , region = eu", Some("tenant=a;p=1;q,region = eu")),
            ("tenant=a%20b,tenant=c", Some("tenant=a%20b,tenant=c")),
            ("Tenant=a", None),
            ("tenant", None),
            ("tenant=a b", None),
            ("tenant=\"a\"", None),
            ("tenant=a;p=\\", None),
            ("xtenant=a,tenantx=b", None),
            ("", None),
        ] {
            let allowed = Baggage::read(text).and_then(|baggage| baggage.allowed(&keys));
            assert_eq!(allowed.as_deref(), want, "{text:?}");
        }
        assert_eq!(Baggage::read("tenant=\u{1b}"), None);
        assert_eq!(Baggage::read(&format!("tenant={}", "x".repeat(8_186))), None);
        assert_eq!(Baggage::read(&"a=1,".repeat(64)), None);
    }

    proptest! {
        #[test]
        fn what_is_read_is_short_printable_and_read_the_same_again(
            text in "[a-z0-9=,@ \t-]{0,700}|\\PC{0,80}",
        ) {
            if let Some(state) = TraceState::read(&text) {
                prop_assert!(state.as_str().len() <= STATE_BYTES_MAX);
                prop_assert!(state.as_str().bytes().all(|byte| matches!(byte, b' '..=b'~')));
                prop_assert_eq!(TraceState::read(state.as_str()), Some(state));
            }
            if let Some(baggage) = Baggage::read(&text) {
                prop_assert_eq!(baggage.allowed(&[]), None);
            }
        }
    }
}
