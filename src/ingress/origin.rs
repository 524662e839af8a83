//! `Host` and `Origin`: a page in a browser must not reach a gate on loopback (DNS rebinding).

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, StatusCode, Uri, header};

use crate::{config::Server, telemetry::Counter};

use super::reply::SESSION;

/// Headers that count once: a proxy before the gate may have judged another one than the gate.
const ONCE: [HeaderName; 3] = [header::HOST, header::ORIGIN, SESSION];

/// Why a request is refused before anything else is looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OriginRefusal {
    #[error("this Host is not served here; an operator can add it to `hosts` of [server]")]
    Host,
    #[error("this Origin may not use the gateway; an operator can add it to `origins` of [server]")]
    Origin,
    #[error("the header `{0}` is there twice")]
    Twice(HeaderName),
    #[error("the header `host` names another host than the address that is asked for")]
    OtherHost,
}

impl OriginRefusal {
    /// Returns the status that says what is wrong with the request: that it was not understood, or
    /// that it is forbidden.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Host | Self::Origin => StatusCode::FORBIDDEN,
            Self::Twice(_) | Self::OtherHost => StatusCode::BAD_REQUEST,
        }
    }

    pub fn counter(&self) -> Counter {
        match self {
            Self::Host => Counter::RefusedHost,
            Self::Origin => Counter::RefusedOrigin,
            Self::Twice(_) | Self::OtherHost => Counter::RefusedHeaders,
        }
    }
}

/// Checks that both are known: absent is right for `Origin` (no browser), never for `Host` (RFC
/// 9110 §7.2). An origin is known that is the gate's own, over HTTP or HTTPS, or that `origins`
/// names.
///
/// # Errors
/// Which of the two is not, or which header stands there twice (RFC 9112 §3.2).
pub fn check(
    server: &Server,
    local: SocketAddr,
    headers: &HeaderMap,
    uri: &Uri,
) -> Result<(), OriginRefusal> {
    // Nearly all requests have each header once.
    if headers.len() != headers.keys_len() {
        let is_twice = |name: &&HeaderName| 1 < headers.get_all(*name).iter().count();
        if let Some(name) = ONCE.iter().find(is_twice) {
            return Err(OriginRefusal::Twice(name.clone()));
        }
    }
    let authority = uri.authority().map(http::uri::Authority::as_str);
    let named = headers.get(header::HOST);
    // `:authority` of HTTP/2 and a whole address of HTTP/1: a proxy may have judged the other one
    // (RFC 9113 §8.3.1).
    if let Some((authority, named)) = authority.zip(named)
        && !is_same_host(uri, authority, named.as_bytes())
    {
        return Err(OriginRefusal::OtherHost);
    }
    let whole = authority.or_else(|| named?.to_str().ok());
    let whole = whole.ok_or(OriginRefusal::Host)?;
    let host = without_port(whole);
    if !is_local(host) && !is_address(host, local) && !listed(&server.hosts, host) {
        return Err(OriginRefusal::Host);
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().ok().ok_or(OriginRefusal::Origin)?;
    if listed(&server.origins, origin) || is_own(server, local, whole, origin) {
        return Ok(());
    }
    Err(OriginRefusal::Origin)
}

/// Whether an origin is a page of the gate itself: at an address or a name of this machine on the
/// port that is listened on, at `public_url`, or where the request itself went.
fn is_own(server: &Server, local: SocketAddr, authority: &str, origin: &str) -> bool {
    let Some((secure, its_authority)) = web(origin) else { return false };
    let its_host = without_port(its_authority);
    let default = if secure { 443 } else { 80 };
    let port = port(its_authority).unwrap_or(default);
    // Nobody knows which addresses are a listener's own that is on all, so none is taken for it.
    let is_here = is_local(its_host) || address(its_host) == Some(local.ip());
    is_here && port == local.port()
        || its_authority.eq_ignore_ascii_case(authority) && is_fixed(server, its_host)
        || server.public_url.as_deref().and_then(web).is_some_and(|(public, url)| {
            let own = url.split('/').next().unwrap_or_default();
            public == secure && own.eq_ignore_ascii_case(its_authority)
        })
}

/// Whether a URL of the web is HTTPS, and what follows its scheme; none for any other scheme.
fn web(url: &str) -> Option<(bool, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let secure = scheme.eq_ignore_ascii_case("https");
    (secure || scheme.eq_ignore_ascii_case("http")).then_some((secure, rest))
}

/// Whether a `Host` header names the authority of this address, whose usual port may be left out.
fn is_same_host(uri: &Uri, authority: &str, named: &[u8]) -> bool {
    let usual = if uri.scheme_str() == Some("https") { ":443" } else { ":80" };
    let bare = |text: &str| text.strip_suffix(usual).unwrap_or(text).to_ascii_lowercase();
    authority.as_bytes().eq_ignore_ascii_case(named)
        || std::str::from_utf8(named).is_ok_and(|named| bare(named) == bare(authority))
}

fn port(authority: &str) -> Option<u16> {
    authority.rsplit_once(':')?.1.parse().ok()
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

fn is_local(host: &str) -> bool {
    // Nearly all that are local say this.
    if host == "127.0.0.1" {
        return true;
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether a host is what it says whoever runs the name service: an address, a name of this
/// machine, or one that `hosts` spells out. Where `hosts` takes any, a name may be anybody's.
fn is_fixed(server: &Server, host: &str) -> bool {
    is_local(host)
        || address(host).is_some()
        || server.hosts.iter().any(|entry| entry.eq_ignore_ascii_case(host))
}

/// An address literal cannot be rebound; one that is listened on is served.
fn is_address(host: &str, local: SocketAddr) -> bool {
    address(host).is_some_and(|address| local.ip().is_unspecified() || address == local.ip())
}

fn address(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn listed(list: &[String], text: &str) -> bool {
    list.iter().any(|entry| entry == "*" || entry.eq_ignore_ascii_case(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(host: &str, origin: Option<&str>) -> Result<(), OriginRefusal> {
        let text = r#"
            server.hosts = ["gate.example"]
            server.origins = ["https://app.example"]
            server.public_url = "https://gate.public.example:8443/x"
            routes."/mcp".upstreams = ["gate"]
            upstreams.gate.builtin = "gate"
        "#;
        let config = crate::config::parse("routes.toml", text, &|_| None).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        check(
            &config.server,
            "127.0.0.1:8080".parse().unwrap(),
            &headers,
            &Uri::from_static("/mcp"),
        )
    }

    /// Where a listener has all addresses, and where any name is taken for a host.
    #[test]
    fn no_page_of_a_stranger_is_taken_for_the_gates_own() {
        let text = "server.hosts = [\"*\", \"gate.example\"]\n\
                    routes.\"/mcp\".upstreams = [\"gate\"]\n\
                    upstreams.gate.builtin = \"gate\"";
        let config = crate::config::parse("routes.toml", text, &|_| None).unwrap();
        for (host, origin, passes) in [
            ("127.0.0.1:8080", "http://203.0.113.9:8080", false),
            ("localhost:8080", "http://10.0.0.1:8080", false),
            ("10.0.0.1:8080", "http://10.0.0.2:8080", false),
            ("10.0.0.1:8080", "http://[2001:db8::1]:8080", false),
            ("evil.example:8080", "http://evil.example:8080", false),
            ("evil.example", "http://evil.example", false),
            ("evil.example", "https://evil.example", false),
            ("gate.example:8080", "http://evil.example:8080", false),
            ("gate.example:8080", "http://gate.example:8080", true),
            ("10.0.0.1:8080", "http://10.0.0.1:8080", true),
            ("127.0.0.1:8080", "http://localhost:8080", true),
            ("10.0.0.1:8080", "http://127.0.0.1:8080", true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            headers.insert(header::ORIGIN, origin.parse().unwrap());
            let local = "0.0.0.0:8080".parse().unwrap();
            let judged = check(&config.server, local, &headers, &Uri::from_static("/mcp"));
            assert_eq!(judged.is_ok(), passes, "{host} {origin}");
        }
    }

    #[test]
    fn a_host_beside_another_authority_is_refused() {
        let text = "server.hosts = [\"*\"]\nroutes.\"/mcp\".upstreams = [\"gate\"]\n\
                    upstreams.gate.builtin = \"gate\"";
        let config = crate::config::parse("routes.toml", text, &|_| None).unwrap();
        for (address, host, passes) in [
            ("http://localhost:8080/mcp", "localhost:8080", true),
            ("http://localhost:8080/mcp", "LOCALHOST:8080", true),
            ("http://localhost/mcp", "localhost:80", true),
            ("https://gate.example:443/mcp", "gate.example", true),
            ("https://gate.example/mcp", "Gate.Example:443", true),
            ("/mcp", "gate.example", true),
            ("http://localhost:8080/mcp", "evil.example", false),
            ("http://localhost:8080/mcp", "localhost:8081", false),
            ("http://localhost:8080/mcp", "localhost", false),
            ("http://localhost/mcp", "localhost:443", false),
            ("https://gate.example/mcp", "gate.example:80", false),
            ("http://localhost/mcp", "localhost.", false),
            ("http://127.0.0.1/mcp", "localhost", false),
            ("http://[::1]:8080/mcp", "[::2]:8080", false),
            ("http://localhost/mcp", "", false),
            ("http://localhost/mcp", "localhost, evil.example", false),
            ("http://localhost/mcp", "user@localhost", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            let local = "127.0.0.1:8080".parse().unwrap();
            let judged = check(&config.server, local, &headers, &address.parse().unwrap());
            let want = if passes { Ok(()) } else { Err(OriginRefusal::OtherHost) };
            assert_eq!(judged, want, "{address} {host}");
        }
    }

    #[test]
    fn only_known_hosts_and_origins_pass() {
        for host in [
            "localhost:1",
            "127.0.0.1:8080",
            "[::1]:8080",
            "LOCALHOST",
            "gate.example:443",
            "gate.public.example",
        ] {
            assert_eq!(judged(host, None), Ok(()), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1"]
        {
            assert_eq!(judged(host, None), Err(OriginRefusal::Host), "{host}");
        }
        for origin in [
            "http://localhost:8080",
            "https://localhost:8080",
            "HTTP://LOCALHOST:8080",
            "http://127.0.0.1:8080",
            "http://[::1]:8080",
            "https://app.example",
            "https://gate.public.example:8443",
        ] {
            assert_eq!(judged("localhost", Some(origin)), Ok(()), "{origin}");
        }
        assert_eq!(judged("gate.example:9", Some("http://gate.example:9")), Ok(()));
        for origin in [
            "null",
            "",
            "http://localhost:3000",
            "http://127.0.0.1",
            "http://localhost:80800",
            "x://127.0.0.1:8080",
            "file://localhost:8080",
            "ws://localhost:8080",
            "localhost:8080",
            "http://x@localhost:8080",
            "http://localhost:8080/",
            "http://gate.public.example:8443",
            "https://evil.example",
            "http://localhost.evil.example",
            "https://app.example.evil",
        ] {
            assert_eq!(judged("localhost", Some(origin)), Err(OriginRefusal::Origin), "{origin}");
        }
    }
}
