//! Which addresses are of the internet: a server there must not lead the gate to a machine beside
//! it.

use std::net::{IpAddr, Ipv6Addr};

use http::Uri;

/// Whether the host of a URL is of a network of one's own, or of this machine: by its address, or
/// by any that its name has now. A name that cannot be looked up is not: nothing is reached by it,
/// or a proxy looks it up.
pub async fn is_private(url: &str) -> bool {
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
    found.is_ok_and(|mut all| all.any(|address| is_private_address(address.ip())))
}

/// Addresses that are not of the internet (RFC 6890; the IANA special-purpose address registries).
fn is_private_address(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_unspecified()
                || address.is_broadcast()
                || address.is_multicast()
                || first == 0
                || first == 100 && (64..128).contains(&second)
                || first == 198 && (18..20).contains(&second)
                || 240 <= first
        }
        IpAddr::V6(address) => is_private_v6(address),
    }
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    let [first, ..] = address.segments();
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
        for public in
            ["https://93.184.216.34/", "https://172.32.0.1/", "https://[2606:4700::1]/", "no url"]
        {
            assert!(!is_private(public).await, "{public}");
        }
    }
}
