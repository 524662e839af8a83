//! The names clients see: deterministic, short, and never taken over by a server that was added
//! later.

use std::collections::HashSet;

use sha2::{Digest as _, Sha256};

use crate::config::Names;

/// The strictest of the clients' model APIs takes 64 characters of `[A-Za-z0-9_-]`.
const NAME_CHARS_MAX: usize = 64;
const HASH_CHARS: usize = 8;

/// Gives names on one route; asked in the order of precedence.
#[derive(Debug)]
pub struct Namer {
    rule: Names,
    /// Tools must fit what model APIs take; prompts and URIs need not.
    strict: bool,
    taken: HashSet<String>,
}

impl Namer {
    pub fn new(rule: Names, strict: bool) -> Self {
        Self { rule, strict, taken: HashSet::new() }
    }

    /// The name for an upstream's entry; none where it would be somebody else's.
    pub fn name(&mut self, upstream: &str, own: &str) -> Option<String> {
        let bare = self.fit(upstream, own, own.to_owned());
        let prefixed = || self.fit(upstream, own, format!("{upstream}__{own}"));
        let name = match self.rule {
            Names::Always => prefixed(),
            Names::Auto if self.taken.contains(&bare) => prefixed(),
            Names::Auto | Names::Never => bare,
        };
        self.taken.insert(name.clone()).then_some(name)
    }

    /// The URI for an upstream's resource; like a name, with `upstream+` before one that is taken.
    pub fn uri(&mut self, upstream: &str, own: &str) -> Option<String> {
        let mut uri = own.to_owned();
        if self.taken.contains(own) && self.rule != Names::Never {
            uri = format!("{}+{own}", upstream.replace('_', "-"));
        }
        self.taken.insert(uri.clone()).then_some(uri)
    }

    fn fit(&self, upstream: &str, own: &str, name: String) -> String {
        if !self.strict {
            return name;
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let name: String = name.chars().map(|c| if fits(c) { c } else { '_' }).collect();
        if name.len() <= NAME_CHARS_MAX {
            return name;
        }
        let digest = Sha256::digest(format!("{upstream}/{own}"));
        let hash: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let kept: String = name.chars().take(NAME_CHARS_MAX - HASH_CHARS - 1).collect();
        format!("{kept}_{}", hash.get(..HASH_CHARS).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_keeps_the_name() {
        let mut namer = Namer::new(Names::Auto, true);
        assert_eq!(namer.name("a", "log").as_deref(), Some("log"));
        assert_eq!(namer.name("b", "log").as_deref(), Some("b__log"));
        assert_eq!(namer.name("b", "other").as_deref(), Some("other"));
        assert_eq!(namer.name("b", "log"), None);
        assert_eq!(namer.name("c", "a.b").as_deref(), Some("a_b"));
    }

    #[test]
    fn never_leaves_the_later_one_out() {
        let mut namer = Namer::new(Names::Never, true);
        assert_eq!(namer.name("a", "log").as_deref(), Some("log"));
        assert_eq!(namer.name("b", "log"), None);
        assert_eq!(Namer::new(Names::Always, true).name("a", "log").as_deref(), Some("a__log"));
    }

    #[test]
    fn a_taken_uri_says_whose_it_is() {
        let mut namer = Namer::new(Names::Auto, false);
        assert_eq!(namer.uri("a", "file:///x").as_deref(), Some("file:///x"));
        assert_eq!(namer.uri("my_b", "file:///x").as_deref(), Some("my-b+file:///x"));
    }

    proptest! {
        #[test]
        fn every_name_is_short_and_plain(owns in prop::collection::vec(".{1,100}", 1..20)) {
            let mut namer = Namer::new(Names::Auto, true);
            let mut again = Namer::new(Names::Auto, true);
            let mut seen = HashSet::new();
            for own in owns {
                let name = namer.name("up", &own);
                prop_assert_eq!(&name, &again.name("up", &own));
                let Some(name) = name else { continue };
                prop_assert!(name.len() <= NAME_CHARS_MAX);
                let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
                prop_assert!(name.bytes().all(fits));
                prop_assert!(seen.insert(name));
            }
        }
    }
}
