//! Spellings of one URI: its normal form by its scheme, and all that servers could read it as.
//!
//! Two readers count: RFC 3986 with the rules of each scheme (for `file`, RFC 8089), and the WHATWG
//! URL Standard, which Node and browsers follow. A URI that they read as two is not to be judged.

use std::collections::BTreeSet;

use url::Url;

use super::uri_parts::{Parts, code, is_unreserved};

/// Readings of one URI that are judged: each characteristic that some readers pass over can double
/// them, so a URI that has nearly all of them is refused.
const READINGS_MAX: usize = 32;

/// Times that escapes are decoded: servers behind a proxy that decodes decode once more.
const DECODINGS_MAX: usize = 3;

/// The parts that some servers pass over, each by itself.
const LOOSENINGS: [fn(&mut Parts); 8] = [
    Parts::without_user,
    Parts::with_host_in_lower_case,
    Parts::without_last_dot,
    Parts::without_port,
    Parts::without_host_of_file,
    Parts::without_query,
    Parts::without_empty_segments,
    Parts::without_last_slash,
];

/// Everything that a server could take a URI for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readings {
    /// The normal form, without the fragment, which is not for servers (RFC 3986 §3.5).
    pub normal: String,
    /// The resources that less exact servers reach by it: without user info, port, query or doubled
    /// slashes, and with its escapes decoded. The normal form is not among them.
    pub others: BTreeSet<String>,
}

impl Readings {
    /// Reads a URI that a client made up; none where readers disagree about it, or where it hides
    /// what it names: no URI by RFC 3986, user info before a host of the web, an escaped slash or
    /// control in the path of a file.
    pub fn of(uri: &str) -> Option<Self> {
        if !is_uri(uri) {
            return None;
        }
        let normal = normal(uri);
        let parts = Parts::of(&normal)?;
        if parts.is_special() && !parts.user.is_empty() || parts.hides_a_file() {
            return None;
        }
        // The URI that is judged in its place must be read as one, too: without its last dots a
        // host may be a number, which is another host to some.
        for spelling in [uri, &normal] {
            if self::normal(&whatwg(spelling)?) != normal {
                return None;
            }
        }
        let mut all = BTreeSet::from([normal.clone()]);
        for _ in 0..DECODINGS_MAX {
            let decoded: Vec<_> = all.iter().filter_map(|uri| decoded(uri)).collect();
            all.extend(decoded);
        }
        for loosen in LOOSENINGS {
            let loosened = |uri: &String| {
                let mut parts = Parts::of(uri)?;
                loosen(&mut parts);
                Some(parts.to_string())
            };
            let loosened: Vec<_> = all.iter().filter_map(loosened).collect();
            all.extend(loosened);
            if READINGS_MAX < all.len() {
                return None;
            }
        }
        all.remove(&normal);
        Some(Self { normal, others: all })
    }

    /// All of them, the normal form first.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        [self.normal.as_str()].into_iter().chain(self.others.iter().map(String::as_str))
    }
}

/// The normal forms of a URI that a server lists, by either reader, besides how it is written: the
/// server knows what it means, so that nothing is refused.
pub fn normal_forms(uri: &str) -> BTreeSet<String> {
    let mut forms = BTreeSet::from([normal(uri)]);
    forms.extend(whatwg(uri).map(|read| normal(&read)));
    forms.remove(uri);
    forms
}

/// Returns one key for all spellings that some server may take for one.
pub fn loosest(uri: &str) -> String {
    let mut uri = normal(uri);
    for _ in 0..DECODINGS_MAX {
        uri = decoded(&uri).unwrap_or(uri);
    }
    let Some(mut parts) = Parts::of(&uri) else { return uri };
    LOOSENINGS.iter().for_each(|loosen| loosen(&mut parts));
    parts.to_string()
}

/// Whether WHATWG readers take it for a URL with a scheme: also the official Python SDK does.
pub fn is_url(text: &str) -> bool {
    Url::parse(text).is_ok()
}

/// Returns the same URI as WHATWG readers write it; none where it is none to them.
fn whatwg(uri: &str) -> Option<String> {
    Some(Url::parse(uri).ok()?.into())
}

/// Whether it has no other characters than a URI is made of, and each `%` begins an escape
/// (RFC 3986 §2). Controls, spaces, other alphabets and `\` are dropped or mended by some readers.
fn is_uri(uri: &str) -> bool {
    let plain = |byte: u8| is_unreserved(byte) || b":/?#[]@!$&'()*+,;=%".contains(&byte);
    let mut escapes = uri.split('%').skip(1);
    uri.bytes().all(plain) && escapes.all(|rest| code(rest).is_some())
}

/// The URI as servers read it that decode all of it before they look for its parts; none where that
/// is the same.
fn decoded(uri: &str) -> Option<String> {
    let decodes = |byte: u8| is_plain_in_paths(byte) || b"/?#%".contains(&byte);
    let decoded = normal(&unescaped(uri, decodes));
    (decoded != uri).then_some(decoded)
}

/// Normal form by RFC 3986 §6.2.2 and the rules of its scheme (§6.2.3; RFC 8089 for `file`):
/// what needs no escape without one, other escapes in upper case, dot segments removed, scheme in
/// lower case, no empty user info, port or query; the host in lower case, without a last dot and
/// without the default port where the scheme is of the web; one slash for several in the path of a
/// file, no query, and no host where that is this machine.
pub fn normal(uri: &str) -> String {
    let uri = uri.split('#').next().unwrap_or_default();
    let uri = unescaped(uri, is_unreserved);
    let Some(mut parts) = Parts::of(&uri) else { return uri };
    parts.scheme.make_ascii_lowercase();
    if parts.query == "?" {
        parts.query.clear();
    }
    if parts.user.trim_matches([':', '@']).is_empty() {
        parts.user.clear();
    } else if parts.user.ends_with(":@") {
        parts.user = parts.user.replace(":@", "@");
    }
    let port = parts.port.trim_start_matches('0');
    parts.port = if port.is_empty() && !parts.port.is_empty() { "0" } else { port }.to_owned();
    if parts.is_file() {
        parts.path = unescaped(&parts.path, is_plain_in_paths);
        parts.without_query();
        parts.without_empty_segments();
    }
    parts.path = without_dots(&parts.path);
    if parts.is_special() {
        parts.host.make_ascii_lowercase();
        parts.without_last_dot();
        if parts.default_port().is_some_and(|port| port == parts.port) {
            parts.port.clear();
        }
        if parts.is_file() && parts.host == "localhost" {
            parts.host.clear();
        }
        // The two spellings without a host are one (RFC 8089, appendix B).
        parts.has_authority |= parts.is_file() && parts.path.starts_with('/');
        if parts.has_authority && parts.path.is_empty() {
            parts.path.push('/');
        }
    }
    parts.to_string()
}

/// Escapes of what `is_plain` undone, others in upper case (RFC 3986 §6.2.2.1, §6.2.2.2).
fn unescaped(uri: &str, is_plain: impl Fn(u8) -> bool) -> String {
    let mut parts = uri.split('%');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match (code(part), part.get(..2), part.get(2..)) {
            (Some(byte), _, Some(rest)) if is_plain(byte) => {
                out.push(char::from(byte));
                out.push_str(rest);
            }
            (Some(_), Some(code), Some(rest)) => {
                out.push('%');
                out.push_str(&code.to_ascii_uppercase());
                out.push_str(rest);
            }
            // No escape at all.
            _ => {
                out.push('%');
                out.push_str(part);
            }
        }
    }
    out
}

/// Characters that say the same in the name of a file with and without an escape.
fn is_plain_in_paths(byte: u8) -> bool {
    is_unreserved(byte) || b"!$&'()*+,;=:@".contains(&byte)
}

/// RFC 3986 §5.2.4
fn without_dots(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                // A path that ends with one is a folder.
                if last {
                    kept.push("");
                }
            }
            _ => kept.push(segment),
        }
    }
    format!("{}{}", if absolute { "/" } else { "" }, kept.join("/"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings_of_one_uri_have_one_normal_form() {
        for (spelling, want) in [
            ("mem://secret", "mem://secret"),
            ("MEM://%73ecret", "mem://secret"),
            ("mem://Secret", "mem://Secret"),
            ("mem://@secret", "mem://secret"),
            ("mem://:@secret:", "mem://secret"),
            ("mem://Ann:@Secret/A", "mem://Ann@Secret/A"),
            ("mem://secret#part", "mem://secret"),
            ("mem://secret?", "mem://secret"),
            ("mem://secret:0", "mem://secret:0"),
            ("file:///a/./b/../c", "file:///a/c"),
            ("file:///a/%2e%2E/c", "file:///c"),
            ("file:///../../c", "file:///c"),
            ("file:///a/..", "file:///"),
            ("file:///a//b/.", "file:///a/b/"),
            ("file:/a", "file:///a"),
            ("file:////a", "file:///a"),
            ("file://localhost/a", "file:///a"),
            ("FILE://LOCALHOST./a", "file:///a"),
            ("file:///a?b", "file:///a"),
            ("file:///a%24b%2C%40", "file:///a$b,@"),
            ("file:///a%2fb%20", "file:///a%2Fb%20"),
            ("http://H.Example.:080", "http://h.example/"),
            ("https://h:443/?a", "https://h/?a"),
            ("http://h:443/a", "http://h:443/a"),
            ("http://h//a", "http://h//a"),
            ("a:b/../c?d=../%65#f", "a:c?d=../e"),
            ("a:%2f%zz%4", "a:%2F%zz%4"),
            ("no scheme", "no scheme"),
            ("mem:/x/..//etc/passwd", "mem:/.//etc/passwd"),
            ("mem:/.//etc/passwd", "mem:/.//etc/passwd"),
            ("a:b/..///c", "a:/.//c"),
            ("a:/..//", "a:/.//"),
        ] {
            assert_eq!(normal(spelling), want, "{spelling}");
        }
    }

    #[test]
    fn what_readers_disagree_about_has_no_readings() {
        for odd in [
            "mem://sec\tret",
            " mem://a",
            "mem://a\n",
            "mem://\u{e9}",
            "a:\\b",
            "a:\u{7f}",
            "mem://a/{x}",
            "mem://a/%zz",
            "mem://a/%4",
            "no scheme",
            "mem://h:99999/",
            "file:srv/x",
            "file:",
            "file://C:/x",
            "file:///c|/x",
            "file:///c:/../x",
            "file:///a//../b",
            "file:///a%2Fb",
            "file:///a%5cb",
            "file:///a%00",
            "file://ann@localhost/a",
            "http:/h/a",
            "http:h",
            "http:////h/a",
            "http://0x7f.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://ann@h/a",
            "http://ann:pw@h/a",
            "http://h%2Fx/",
            "http://xn--/",
        ] {
            assert_eq!(Readings::of(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn a_uri_is_read_as_all_that_servers_take_it_for() {
        for (uri, want) in [
            ("mem://secret/", "mem://secret"),
            ("mem://SECRET", "mem://secret"),
            ("mem://secret.", "mem://secret"),
            ("mem://x@secret", "mem://secret"),
            ("mem://x:y@secret", "mem://secret"),
            ("mem://secret?x=1", "mem://secret"),
            ("mem://a//secret", "mem://a/secret"),
            ("mem://a%2Fsecret", "mem://a/secret"),
            ("mem://a/%2573ecret", "mem://a/secret"),
            ("mem://a/%25%37%33ecret", "mem://a/secret"),
            ("mem://a/b%2F..%2Fsecret", "mem://a/secret"),
            ("mem://a%3Fb", "mem://a"),
            ("redis://h:6379/secret", "redis://h/secret"),
            ("file://elsewhere/secret", "file:///secret"),
            ("file:///secret/", "file:///secret"),
            ("http://h//secret", "http://h/secret"),
            ("http://h/secret?x", "http://h/secret"),
            ("http://h/%73ecret%3Fx", "http://h/secret"),
        ] {
            let readings = Readings::of(uri).unwrap_or_else(|| panic!("{uri} has no readings"));
            assert!(readings.all().any(|reading| reading == want), "{uri}: {readings:?}");
            assert_eq!(loosest(uri), loosest(want), "{uri}");
        }
        let plain = Readings::of("mem://secret/a").unwrap();
        assert_eq!((plain.normal.as_str(), plain.others.len()), ("mem://secret/a", 0));
    }

    #[test]
    fn what_a_server_lists_has_the_normal_forms_of_both_readers() {
        let forms = |uri| normal_forms(uri).into_iter().collect::<Vec<_>>();
        assert!(forms("note://internal/todo").is_empty());
        assert_eq!(forms("https://h"), ["https://h/"]);
        assert_eq!(forms("note://a/my note"), ["note://a/my%20note"]);
        assert_eq!(forms("file:srv/x"), ["file:///srv/x"]);
    }

    /// Spellings of a few URIs, each part in one of the ways that somebody may read alike.
    fn spellings() -> impl Strategy<Value = String> {
        let scheme = prop::sample::select(vec!["file", "FILE", "http", "https", "mem", "ftp", "a"]);
        let start = prop::sample::select(vec![":", ":/", "://", ":///", ":////", ":\\\\"]);
        let host = prop::sample::select(vec![
            "",
            "h",
            "H",
            "h.",
            "h:80",
            "h:",
            "h:080",
            "h:443",
            "x@h",
            "@h",
            "localhost",
            "%68",
            "[::1]",
            "0x1",
            "1",
        ]);
        let piece = prop::sample::select(vec![
            "/", "/", "//", "\\", "%2F", "%2f", "%5C", ".", "..", "%2e", "/./", "/../", "s", "%73",
            "%2573", "S", "$", "%24", "?", "?x", "#f", "%3F", "%00", "\t", "|", "c:", " ", "%20",
        ]);
        let pieces = prop::collection::vec(piece, 0..7).prop_map(|pieces| pieces.concat());
        (scheme, start, host, pieces).prop_map(|(a, b, c, d)| format!("{a}{b}{c}{d}"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn what_one_parser_reads_as_one_is_judged_as_one(
            uris in prop::collection::vec(spellings(), 64)
        ) {
            let mut judged: HashMap<String, String> = HashMap::new();
            for uri in uris {
                let (Some(readings), Ok(mut url)) = (Readings::of(&uri), Url::parse(&uri)) else {
                    continue;
                };
                url.set_fragment(None);
                let normal = judged.entry(url.into()).or_insert_with(|| readings.normal.clone());
                prop_assert_eq!(&readings.normal, normal, "{}", uri);
            }
        }

        #[test]
        fn a_normal_form_is_its_own_and_read_as_its_spelling(uri in spellings()) {
            if let Some(readings) = Readings::of(&uri) {
                let again = Readings::of(&readings.normal);
                prop_assert_eq!(again, Some(readings), "{}", uri);
            }
        }

        #[test]
        fn what_node_opens_is_the_file_that_is_judged(uri in spellings()) {
            let path = |uri: &str| {
                let path = Url::parse(uri).ok()?.to_file_path().ok()?;
                Some(path.components().collect::<std::path::PathBuf>())
            };
            let readings = Readings::of(&uri).filter(|it| it.normal.starts_with("file:///"));
            if let Some(readings) = readings {
                let (sent, judged) = (path(&uri), path(&readings.normal));
                prop_assert!(sent.is_none() || sent == judged, "{}", uri);
            }
        }
    }
}
