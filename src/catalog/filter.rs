//! Allow, deny, hide and rename, by patterns in which `*` stands for any run of characters.

use crate::{config::Filter, mcp::uri};

/// Whether a name passes: allowed (or nothing is said), and not denied.
pub fn passes(filter: &Filter, name: &str) -> bool {
    let allowed =
        filter.allow.is_empty() || filter.allow.iter().any(|pattern| matches(pattern, name));
    allowed && !filter.deny.iter().any(|pattern| matches(pattern, name))
}

/// Whether a filter passes an entry that has other names besides the one that clients see: what was
/// denied before it was renamed stays denied.
pub fn passes_as(filter: &Filter, name: &str, others: &[&str]) -> bool {
    let denies = |name: &&str| filter.deny.iter().any(|pattern| matches(pattern, name));
    passes(filter, name) && !others.iter().any(denies)
}

/// Whether a filter passes a resource by each of these readings of its URI. Its patterns count as
/// they are written and in normal form.
pub fn passes_uris<'u>(filter: &Filter, mut uris: impl Iterator<Item = &'u str>) -> bool {
    if !restricts(filter) {
        return true;
    }
    let normal = |patterns: &[String]| -> Vec<String> {
        patterns.iter().flat_map(|pattern| [pattern.clone(), uri::normal(pattern)]).collect()
    };
    let allow = normal(&filter.allow);
    let deny = normal(&filter.deny);
    let fits = |patterns: &[String], uri| patterns.iter().any(|pattern| matches(pattern, uri));
    uris.all(|uri| (allow.is_empty() || fits(&allow, uri)) && !fits(&deny, uri))
}

/// Whether a filter keeps something from being used.
pub fn restricts(filter: &Filter) -> bool {
    !filter.allow.is_empty() || !filter.deny.is_empty()
}

/// Whether it is kept out of lists.
pub fn hides(filter: &Filter, name: &str) -> bool {
    filter.hide.iter().any(|pattern| matches(pattern, name))
}

/// The name it is given, or its own.
pub fn renamed<'a>(filter: &'a Filter, name: &'a str) -> &'a str {
    filter.rename.get(name).map_or(name, String::as_str)
}

/// Whether a name is what a pattern says.
pub fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else {
        return false;
    };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_run() {
        for (pattern, name, want) in [
            ("*", "", true),
            ("read", "read", true),
            ("read", "reader", false),
            ("read_*", "read_file", true),
            ("*_file", "read_file", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("a*a", "a", false),
        ] {
            assert_eq!(matches(pattern, name), want, "{pattern} on {name}");
        }
    }

    #[test]
    fn denied_wins() {
        let list = |pattern: &str| vec![pattern.to_owned()];
        let filter = Filter { allow: list("read_*"), deny: list("*_all"), ..Filter::default() };
        assert!(passes(&filter, "read_one"));
        assert!(!passes(&filter, "read_all"));
        assert!(!passes(&filter, "write_one"));
        assert!(passes(&Filter::default(), "anything"));
    }
}
