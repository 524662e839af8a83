//! The access log: a line for each call that ends, among the other lines of the log.

use blake3::Hash;

use crate::{
    config::{CallerForm, Log},
    telemetry::{Outcome, printable},
};

use super::{
    record::{End, Open, first_chars, said},
    told::CacheUse,
};

/// Begins the key of callers' digests, which is derived from the gate's secret.
const KEY_CONTEXT: &str = "tollgate 2026-11 access log: digests of callers";
/// Characters of each text in a line.
const TEXT_CHARS_MAX: usize = 256;
/// The parts of which a share of calls is taken.
const PARTS: u64 = 1_000_000;

/// The key of the digests of callers.
#[derive(Clone, Copy)]
pub struct CallerKey([u8; 32]);

/// How the line of a call is written.
#[derive(Debug, Clone, Copy)]
pub struct AccessLine {
    pub settings: Log,
    pub key: CallerKey,
}

impl CallerKey {
    /// The key that a gate's own secret gives.
    pub fn new(secret: &[u8]) -> Self {
        Self(blake3::derive_key(KEY_CONTEXT, secret))
    }

    /// A caller as lines of the log have it; none where they are to have no callers.
    pub fn caller(&self, form: CallerForm, name: &str) -> Option<String> {
        match form {
            CallerForm::Plain => Some(name.to_owned()),
            CallerForm::Hash => Some(self.digest(name).to_hex().chars().take(16).collect()),
            CallerForm::None => None,
        }
    }

    fn digest(&self, caller: &str) -> Hash {
        blake3::keyed_hash(&self.0, caller.as_bytes())
    }
}

impl std::fmt::Debug for CallerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CallerKey")
    }
}

impl AccessLine {
    /// Writes the line of a call that ended, unless it went well and is not of the share that is
    /// logged.
    pub(super) fn write(&self, open: &Open, end: &End<'_>) {
        let failed = !matches!(end.outcome, Outcome::Ok | Outcome::InputRequired);
        let is_of_sample = || {
            let part = rand::random_range(0..PARTS);
            !self.settings.sample.is_reached(part, PARTS)
        };
        if !failed && !is_of_sample() {
            return;
        }
        let told = end.told;
        let caller = self.caller(&open.caller.name());
        let caller = caller.as_deref().map(text);
        let client = said(&open.client, "name");
        let client = client.as_deref().map(text);
        let (upstream, own) = told.target.get().map(|(upstream, own)| (upstream, own)).unzip();
        let name = own.or(open.name.as_ref()).map(|name| text(name));
        tracing::info!(
            target: "tollgate::access",
            request = %open.id,
            trace = open.trace.map(|trace| trace.to_string()),
            caller = caller.as_deref(),
            client = client.as_deref(),
            route = open.route.as_str(),
            method = open.method.name(),
            upstream = upstream.map(|upstream| upstream.as_str()),
            name = name.as_deref(),
            outcome = end.outcome.name(),
            ms = milliseconds(end.took),
            upstream_ms = end.upstream.map(milliseconds),
            cache = told.cache().map(CacheUse::word),
            bytes_in = open.params.bytes().len(),
            bytes_out = end.bytes,
            "call"
        );
    }

    fn caller(&self, name: &str) -> Option<String> {
        self.key.caller(self.settings.callers, name)
    }
}

/// The text of a stranger as it stands in a line.
fn text(text: &str) -> String {
    printable::line(first_chars(text, TEXT_CHARS_MAX)).into_owned()
}

/// Milliseconds, to the microsecond.
fn milliseconds(time: std::time::Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_named_digested_or_left_out() {
        let line = |callers, secret: &[u8]| AccessLine {
            settings: Log { callers, ..Log::default() },
            key: CallerKey::new(secret),
        };
        let caller = |callers| line(callers, b"a").caller("corp/ann");
        assert_eq!(caller(CallerForm::Plain).as_deref(), Some("corp/ann"));
        assert_eq!(caller(CallerForm::None), None);
        let digest = caller(CallerForm::Hash).unwrap();
        assert_eq!(digest.len(), 16);
        assert_eq!(caller(CallerForm::Hash), Some(digest.clone()), "the same each time");
        assert_ne!(line(CallerForm::Hash, b"b").caller("corp/ann"), Some(digest.clone()));
        assert_ne!(line(CallerForm::Hash, b"a").caller("corp/bob"), Some(digest));
    }

    #[test]
    fn no_text_leaves_its_line() {
        for (given, want) in [
            ("log", "log"),
            ("a\nlevel=ERROR", "a\\u000alevel=ERROR"),
            ("\u{1b}[2J", "\\u001b[2J"),
            ("\u{202e}x", "\\u202ex"),
        ] {
            assert_eq!(text(given), want);
        }
        assert_eq!(text(&"x".repeat(1_000)).len(), TEXT_CHARS_MAX);
        assert_eq!(milliseconds(std::time::Duration::from_nanos(1_234_567)), 1.235);
    }
}
