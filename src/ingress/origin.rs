//! `Host` and `Origin`: a page in a browser must not reach a gate on loopback (DNS rebinding).

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, Uri, header};

use crate::config::Server;

/// Why a request is refused before anything else is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OriginRefusal {
    #[error("this Host is not served here; an operator can add it to `hosts` of [server]")]
    Host,
    #[error("this Origin may not use the gateway; an operator can add it to `origins` of [server]")]
    Origin,
}

/// Checks that both are known: absent is right for `Origin` (no browser), never for `Host` (RFC
/// 9110 §7.2).
///
/// # Errors
/// Which of the two is not.
pub fn check(
    server: &Server,
    local: SocketAddr,
    headers: &HeaderMap,
    uri: &Uri,
) -> Result<(), OriginRefusal> {
    let authority = uri.authority().map(http::uri::Authority::as_str);
    let host = authority.or_else(|| headers.get(header::HOST)?.to_str().ok());
    let host = host.map(without_port).ok_or(OriginRefusal::Host)?;
    if !is_local(host) && !is_address(host, local) && !listed(&server.hosts, host) {
        return Err(OriginRefusal::Host);
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().ok().ok_or(OriginRefusal::Origin)?;
    let its_host = origin.split_once("://").map(|(_, rest)| without_port(rest));
    if its_host.is_some_and(is_local) || listed(&server.origins, origin) {
        return Ok(());
    }
    Err(OriginRefusal::Origin)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

fn is_local(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// An address literal cannot be rebound; one that is listened on is served.
fn is_address(host: &str, local: SocketAddr) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().is_ok_and(|address| local.ip().is_unspecified() || address == local.ip())
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
        for origin in ["http://localhost:3000", "http://127.0.0.1", "https://app.example"] {
            assert_eq!(judged("localhost", Some(origin)), Ok(()), "{origin}");
        }
        for origin in [
            "null",
            "https://evil.example",
            "http://localhost.evil.example",
            "https://app.example.evil",
        ] {
            assert_eq!(judged("localhost", Some(origin)), Err(OriginRefusal::Origin), "{origin}");
        }
    }
}
