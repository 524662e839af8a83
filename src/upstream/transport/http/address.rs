//! Addresses that a server names: where messages go, and where it redirects to.

use http::{StatusCode, Uri};

/// Characters that are shown of an address that is refused.
const SHOWN_CHARS: usize = 200;

/// The address that `reference` names, seen from `base` (RFC 3986, 5.2). None where it is none, or
/// of another origin: what is sent to this server is for no other.
pub(super) fn resolve(base: &Uri, reference: &str) -> Option<Uri> {
    let target = seen_from(base, reference)?;
    (origin(&target)? == origin(base)?).then_some(())?;
    let parts = Uri::builder().scheme(base.scheme()?.clone()).authority(base.authority()?.clone());
    parts.path_and_query(target.path_and_query()?.clone()).build().ok()
}

/// Returns where a redirect leads that is followed: within the same origin, or from http to https
/// of the same host.
///
/// # Errors
/// Why it is not followed.
pub(super) fn redirected(base: &Uri, location: &str) -> Result<Uri, &'static str> {
    if let Some(same) = resolve(base, location) {
        return Ok(same);
    }
    let target = seen_from(base, location).ok_or("it is no address")?;
    let (Some(from), Some(to)) = (origin(base), origin(&target)) else {
        return Err("it is no address");
    };
    if (&*from.scheme, &*to.scheme) != ("http", "https") || from.host != to.host {
        return Err("it is of another origin");
    }
    let authority = target.authority().map(|authority| authority.as_str());
    let authority = authority.and_then(|text| text.rsplit('@').next()).unwrap_or_default();
    let parts = Uri::builder().scheme("https").authority(authority);
    let path = target.path_and_query().ok_or("it is no address")?;
    parts.path_and_query(path.clone()).build().map_err(|_error| "it is no address")
}

/// Whether a status redirects, and with the same method and body (RFC 9110 §15.4).
pub(super) fn is_redirect(status: StatusCode) -> bool {
    [301, 302, 303, 307, 308].contains(&status.as_u16())
}

/// An address as it may be shown: without userinfo and query.
pub(super) fn masked(location: &str) -> String {
    let text = location.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = match text.split_once("//") {
        Some((scheme, rest)) => (format!("{scheme}//"), rest),
        None => (String::new(), text),
    };
    let (authority, path) = match rest.find('/') {
        Some(at) if !scheme.is_empty() => rest.split_at(at),
        None if !scheme.is_empty() => (rest, ""),
        Some(_) | None => ("", rest),
    };
    let host = authority.rsplit('@').next().unwrap_or_default();
    let text: String = format!("{scheme}{host}{path}").chars().take(SHOWN_CHARS).collect();
    text.escape_debug().to_string()
}

/// Resolves a reference to an address, of whichever origin.
fn seen_from(base: &Uri, reference: &str) -> Option<Uri> {
    let reference = reference.trim().split('#').next()?;
    let scheme = reference.split_once("://").filter(|(scheme, _)| !scheme.contains(['/', '?']));
    let absolute = match scheme {
        Some(_) => Some(reference.to_owned()),
        None if reference.starts_with("//") => Some(format!("{}:{reference}", base.scheme_str()?)),
        None => None,
    };
    let (from, target) = match absolute {
        Some(absolute) => {
            let uri: Uri = absolute.parse().ok()?;
            let target = uri.path_and_query()?.to_string();
            (uri, target)
        }
        None if reference.starts_with('/') => (base.clone(), reference.to_owned()),
        None if reference.starts_with('?') => (base.clone(), format!("{}{reference}", base.path())),
        None => {
            let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            (base.clone(), format!("{folder}/{reference}"))
        }
    };
    let (path, query) = target.split_once('?').map_or((&*target, None), |(p, q)| (p, Some(q)));
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let parts = Uri::builder().scheme(from.scheme()?.clone()).authority(from.authority()?.clone());
    parts.path_and_query(without_dots(path) + &query).build().ok()
}

#[derive(Debug, PartialEq)]
struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

fn origin(uri: &Uri) -> Option<Origin> {
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let usual = if scheme == "https" { 443 } else { 80 };
    let host = uri.host()?.to_ascii_lowercase();
    (!host.is_empty()).then_some(())?;
    Some(Origin { scheme, host, port: uri.port_u16().unwrap_or(usual) })
}

/// A path without `.` and `..` (RFC 3986, 5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => (),
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    if path.ends_with("/.") || path.ends_with("/..") {
        kept.push("");
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(reference: &str) -> Option<String> {
        let base = "http://Example.com:80/mcp/sse?a=b".parse().expect("an address");
        resolve(&base, reference).map(|uri| uri.to_string())
    }

    #[test]
    fn an_endpoint_is_seen_from_the_address_of_the_stream() {
        for (reference, path) in [
            ("/messages/?session_id=1", "/messages/?session_id=1"),
            ("messages?s=a/../b", "/mcp/messages?s=a/../b"),
            ("./x", "/mcp/x"),
            ("../messages", "/messages"),
            ("../../..", "/"),
            ("a/..", "/mcp/"),
            ("?s=1", "/mcp/sse?s=1"),
            ("/x?to=http://elsewhere/", "/x?to=http://elsewhere/"),
            ("http://example.com/x", "/x"),
            ("HTTP://user@EXAMPLE.com:80", "/"),
            ("//example.com/x#y", "/x"),
        ] {
            let want = format!("http://Example.com:80{path}");
            assert_eq!(resolved(reference), Some(want), "{reference}");
        }
    }

    #[test]
    fn what_is_of_another_origin_is_no_endpoint() {
        for reference in [
            "http://example.com:8080/x",
            "https://example.com/x",
            "https://example.com:80/x",
            "http://example.com.evil/x",
            "http://example.com@evil/x",
            "//evil/x",
            "ftp://example.com/x",
            "http://",
            "/a b",
        ] {
            assert_eq!(resolved(reference), None, "{reference}");
        }
    }

    #[test]
    fn a_redirect_is_followed_to_the_same_host_only() {
        let from = |base: &str, location| {
            let base = base.parse().expect("an address");
            redirected(&base, location).map(|uri| uri.to_string()).ok()
        };
        let http = "http://example.com/mcp";
        for (location, want) in [
            ("/mcp/", "http://example.com/mcp/"),
            ("mcp/", "http://example.com/mcp/"),
            ("?a=b", "http://example.com/mcp?a=b"),
            ("../x/./y", "http://example.com/x/y"),
            ("http://example.com:80/x", "http://example.com/x"),
            ("http://EXAMPLE.com/x#y", "http://example.com/x"),
            ("//example.com/x", "http://example.com/x"),
            ("https://example.com/x", "https://example.com/x"),
            ("https://u:p@example.com/x", "https://example.com/x"),
            ("https://Example.com:8443/x?q", "https://Example.com:8443/x?q"),
        ] {
            assert_eq!(from(http, location).as_deref(), Some(want), "{location}");
        }
        for location in [
            "http://example.com:8080/x",
            "http://evil/x",
            "https://evil/x",
            "//evil/x",
            "https://example.com.evil/x",
            "https://example.com@evil/x",
            "https://sub.example.com/x",
            "ftp://example.com/x",
            "file:///etc/passwd",
            "javascript://example.com/x",
            "https://",
            "",
            "/a b",
        ] {
            let want = (location.is_empty()).then(|| "http://example.com/".to_owned());
            assert_eq!(from(http, location), want, "{location}");
        }
        let https = "https://example.com/mcp";
        for location in ["http://example.com/mcp", "https://example.com:8443/x", "//evil"] {
            assert_eq!(from(https, location), None, "never from https to http: {location}");
        }
    }

    #[test]
    fn what_is_shown_of_an_address_holds_no_secret() {
        for (location, want) in [
            ("https://u:secret@evil/x?token=secret#secret", "https://evil/x"),
            ("//u:secret@evil", "//evil"),
            ("/x?token=secret", "/x"),
            ("x@y?secret", "x@y"),
            ("https://evil?secret", "https://evil"),
        ] {
            assert_eq!(masked(location), want);
        }
        assert!(masked(&"a".repeat(9_999)).len() <= SHOWN_CHARS);
    }
}
