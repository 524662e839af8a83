//! Tells which addresses are of the internet: a server there must not lead the gate to a machine
//! beside it.

use std::net::{IpAddr, Ipv6Addr};

use http::Uri;

/// Whether the host of a URL is of a network of one's own, or of this machine: by its address, or
/// by any that its name has now. A name that cannot be looked up is not: nothing is reached by it,
/// or a proxy looks it up.
pub async fn is_private(url: &str) -> bool {
    judged(url, |all| all.iter().any(|address| is_private_address(*address))).await
}

/// Judges as [`is_private`], by all addresses that its name has: one that has both may be a
/// stranger's.
pub async fn is_wholly_private(url: &str) -> bool {
    judged(url, |all| all.iter().all(|address| is_private_address(*address))).await
}

async fn judged(url: &str, judge: impl Fn(&[IpAddr]) -> bool) -> bool {
    let Some(uri) = url.parse::<Uri>().ok() else { return false };
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = host.parse::<IpAddr>() {
        return is_private_address(address);
    }
    let local = ["localhost", "internal", "local", "home.arpa"];
    let last = host.trim_end_matches('.').to_ascii_lowercase();
    if local.iter().any(|name| last == *name || last.ends_with(&format!(".{name}"))) {
        return true;
    }
    let found = tokio::net::lookup_host((host, uri.port_u16().unwrap_or(443))).await;
    let found: Vec<IpAddr> = found.into_iter().flatten().map(|address| address.ip()).collect();
    !found.is_empty() && judge(&found)
}

/// Addresses that are not of the internet (RFC 6890; the IANA special-purpose address registries).
pub fn is_private_address(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [first, second, third, _] = address.octets();
            address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_unspecified()
                || address.is_broadcast()
                || address.is_multicast()
                || first == 0
                || first == 100 && (64..128).contains(&second)
                || (first, second, third) == (192, 0, 0)
                || first == 198 && (18..20).contains(&second)
                || 240 <= first
        }
        IpAddr::V6(address) => is_private_v6(address),
    }
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    let [first, second, third, a, b, c, high, low] = address.segments();
    let embedded = match (first, second, third, a, b, c) {
        // NAT64 (RFC 6052, RFC 8215), 6to4 (RFC 3056) and the form that is no longer used.
        (0x64, 0xFF9B, 0, 0, 0, 0) | (0, 0, 0, 0, 0, 0) if 1 < low || high != 0 => {
            Some([high, low])
        }
        (0x64, 0xFF9B, 1, ..) => return true,
        (0x2002, ..) => Some([second, third]),
        _ => None,
    };
    if let Some([high, low]) = embedded {
        let address = (u32::from(high) << 16) | u32::from(low);
        return is_private_address(IpAddr::V4(address.into()));
    }
    address.is_loopback()
        || address.is_unspecified()
        || address.is_multicast()
        || first & 0xFE00 == 0xFC00
        || first & 0xFFC0 == 0xFE80
        || first & 0xFFC0 == 0xFEC0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_no_address_of_the_internet_is_private() {
        for private in [
            "http://127.0.0.1:8080/x",
            "http://10.1.2.3/",
            "http://172.16.0.1/",
            "http://192.168.1.1/",
            "http://169.254.169.254/latest",
            "http://100.64.0.1/",
            "http://0.0.0.0/",
            "http://198.18.0.1/",
            "http://255.255.255.255/",
            "http://[::1]/",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://[64:ff9b:1::1]/",
            "http://[2002:7f00:1::]/",
            "http://[::127.0.0.1]/",
            "http://192.0.0.192/",
            "http://[fe80::1]/",
            "http://[fd00::1]/",
            "http://[::ffff:10.0.0.1]/",
            "http://localhost:9/",
            "http://LOCALHOST./",
            "http://metadata.google.internal/",
            "http://printer.local/",
        ] {
            assert!(is_private(private).await, "{private}");
        }
        for public in [
            "https://93.184.216.34/",
            "https://172.32.0.1/",
            "https://192.0.1.1/",
            "https://[2606:4700::1]/",
            "https://[64:ff9b::5db8:d822]/",
            "no url",
        ] {
            assert!(!is_private(public).await, "{public}");
        }
    }
}
