//! The address that a request comes from, as the proxies before the gate say it: `Forwarded` (RFC
//! 7239) or `X-Forwarded-For`.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, header};

use crate::config::Network;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Addresses that are looked at, from the last on: nobody has so many proxies in a row.
const HOPS_MAX: usize = 32;

/// The address of the client behind the trusted proxies. Each proxy adds whom it was asked by at
/// the end, so that only what stands behind the last address of a stranger can be believed: that
/// address is the client's. Where none is a stranger's the first counts; where anything on the way
/// cannot be read, or both headers are there, `peer` itself.
pub fn client(peer: IpAddr, trusted: &[Network], headers: &HeaderMap) -> IpAddr {
    if trusted.is_empty() || !is_trusted(trusted, peer) {
        return peer;
    }
    let both = headers.contains_key(header::FORWARDED) && headers.contains_key(X_FORWARDED_FOR);
    if both {
        return peer;
    }
    let standard = headers.get_all(header::FORWARDED).iter().rev();
    let usual = headers.get_all(X_FORWARDED_FOR).iter().rev();
    let standard = standard.flat_map(|line| parts(line.as_bytes()).map(forwarded_for));
    let usual = usual.flat_map(|line| parts(line.as_bytes()).map(node));
    let mut last = peer;
    for hop in standard.chain(usual).take(HOPS_MAX) {
        let Some(address) = hop else { return peer };
        if !is_trusted(trusted, address) {
            return address;
        }
        last = address;
    }
    last
}

fn is_trusted(trusted: &[Network], address: IpAddr) -> bool {
    trusted.iter().any(|network| network.contains(address))
}

/// The elements of a list, the last first. No address has a comma, and neither has what else is
/// written with one: an element that is cut there cannot be read.
fn parts(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.rsplit(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// The parameter `for` of an element of `Forwarded`.
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    let mut found = None;
    for pair in element.split(|byte| *byte == b';') {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = pair.split_at(at);
        if name.trim_ascii().eq_ignore_ascii_case(b"for") {
            // A parameter that is named twice says nothing.
            if found.is_some() {
                return None;
            }
            found = Some(node(value.get(1..)?.trim_ascii())?);
        }
    }
    found
}

/// An address, with or without a port, in brackets and quotes or not. What is unknown or hidden is
/// none.
fn node(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text).ok()?;
    let quoted = text.strip_prefix('"').map(|rest| rest.strip_suffix('"'));
    let text = quoted.unwrap_or(Some(text))?;
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address: Option<IpAddr> = match bare {
        Some(bare) => bare.parse::<std::net::Ipv6Addr>().ok().map(Into::into),
        None => text.parse().ok(),
    };
    let address = address.or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PROXY: &str = "10.0.0.1";

    fn seen(peer: &str, lines: &[(&'static str, &str)]) -> String {
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|text| text.parse().unwrap());
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        client(peer.parse().unwrap(), &trusted, &headers).to_string()
    }

    #[test]
    fn the_last_stranger_is_the_client() {
        let x = "x-forwarded-for";
        let standard = "forwarded";
        for (line, want) in [
            ((x, "192.0.2.1"), "192.0.2.1"),
            ((x, "203.0.113.9, 192.0.2.1"), "192.0.2.1"),
            ((x, "203.0.113.9, 192.0.2.1, 10.0.0.2"), "192.0.2.1"),
            ((x, "10.0.0.3, 10.0.0.2"), "10.0.0.3"),
            ((x, "192.0.2.1:4711"), "192.0.2.1"),
            ((x, "[2001:db8::1]:4711"), "2001:db8::1"),
            ((x, "2001:db8::1"), "2001:db8::1"),
            ((x, "::ffff:192.0.2.1"), "192.0.2.1"),
            ((standard, "for=192.0.2.1"), "192.0.2.1"),
            ((standard, "For=\"[2001:db8::1]:4711\";proto=https;by=10.0.0.1"), "2001:db8::1"),
            ((standard, "for=203.0.113.9, for=192.0.2.1;host=x , for=fd00::1"), "192.0.2.1"),
            (
                (standard, "for=203.0.113.9, proto=http;for=192.0.2.1, for=\"[fd00::1]\""),
                "192.0.2.1",
            ),
        ] {
            assert_eq!(seen(PROXY, &[line]), want, "{line:?}");
        }
        let lines = [(x, "203.0.113.9"), (x, "192.0.2.1"), (x, "10.0.0.2")];
        assert_eq!(seen(PROXY, &lines), "192.0.2.1", "the lines are one list");
    }

    #[test]
    fn what_cannot_be_believed_is_the_proxys() {
        let x = "x-forwarded-for";
        let standard = "forwarded";
        for line in [
            (x, ""),
            (x, "unknown"),
            (x, "192.0.2.1,"),
            (x, "192.0.2.1 203.0.113.9"),
            (x, "192.0.2.256"),
            (x, "192.0.2.1, x"),
            (x, "\"192.0.2.1"),
            (standard, "for=_hidden"),
            (standard, "for=unknown"),
            (standard, "192.0.2.1"),
            (standard, "proto=https"),
            (standard, "for=192.0.2.1;for=203.0.113.9"),
            (standard, "for=[192.0.2.1]"),
        ] {
            assert_eq!(seen(PROXY, &[line]), PROXY, "{line:?}");
            assert_eq!(seen("192.0.2.7", &[line]), "192.0.2.7", "{line:?}");
        }
        let both = [(x, "192.0.2.1"), (standard, "for=192.0.2.1")];
        assert_eq!(seen(PROXY, &both), PROXY, "two words on it");
        assert_eq!(seen("192.0.2.7", &[(x, "203.0.113.9")]), "192.0.2.7", "a stranger says so");
    }

    fn address() -> impl Strategy<Value = IpAddr> {
        let inner = any::<[u8; 3]>().prop_map(|[a, b, c]| IpAddr::from([10, a, b, c]));
        prop_oneof![any::<IpAddr>(), inner]
    }

    proptest! {
        /// Against the words of the promise: from the end, over trusted ones, to the first other.
        #[test]
        fn a_client_puts_nothing_in_front(
            hops in prop::collection::vec(address(), 1..6),
            forged in "[ -~]{0,20}",
            standard in any::<bool>(),
            ports in any::<bool>(),
        ) {
            let trusted: [Network; 1] = ["10.0.0.0/8".parse().unwrap()];
            let written = hops.iter().map(|hop| {
                let hop = hop.to_canonical();
                let bare = if hop.is_ipv6() { format!("[{hop}]") } else { hop.to_string() };
                let bare = if ports { format!("{bare}:99") } else { bare };
                if standard { format!("for=\"{bare}\"") } else { bare }
            });
            let told = written.collect::<Vec<_>>().join(", ");
            let is_trusted = |hop: &&IpAddr| trusted[0].contains(**hop);
            let stranger = hops.iter().rev().find(|hop| !is_trusted(hop));
            let name = if standard { "forwarded" } else { "x-forwarded-for" };
            let mut headers = HeaderMap::new();
            let line = if stranger.is_some() { format!("{forged}, {told}") } else { told };
            headers.insert(name, line.parse().unwrap());
            let want = stranger.unwrap_or(&hops[0]).to_canonical();
            prop_assert_eq!(client(PROXY.parse().unwrap(), &trusted, &headers), want);
        }

        #[test]
        fn nothing_of_any_bytes_but_an_address(bytes in prop::collection::vec(32_u8..127, 0..60)) {
            let trusted: [Network; 1] = ["10.0.0.0/8".parse().unwrap()];
            let mut headers = HeaderMap::new();
            headers.insert("forwarded", http::HeaderValue::from_bytes(&bytes).unwrap());
            let peer = PROXY.parse().unwrap();
            let seen = client(peer, &trusted, &headers);
            let text = String::from_utf8(bytes).unwrap();
            prop_assert!(seen == peer || text.to_ascii_lowercase().contains("for"));
        }
    }
}
