//! Addresses by their networks, in the notation of CIDR (RFC 4632, RFC 4291 §2.3).

use std::{fmt, net::IpAddr, str::FromStr};

use schemars::{Schema, SchemaGenerator, json_schema};

use super::toml::{
    reader::{Node, Reader},
    value::FromToml,
};

/// A network, or a single address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// The address as bits of IPv6; those after the prefix are zero.
    bits: u128,
    prefix: u8,
    is_v4: bool,
}

/// A text that is no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no address, and no network such as `10.0.0.0/8`")]
pub struct NoNetwork;

impl Network {
    /// Whether an address is of it. One of IPv4 is the same where it is written as one of IPv6.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (bits, is_v4) = bits(address);
        is_v4 == self.is_v4 && bits & mask(self.prefix) == self.bits
    }
}

/// Returns the bits of an address, and whether it is one of IPv4.
fn bits(address: IpAddr) -> (u128, bool) {
    match address.to_canonical() {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, true),
        IpAddr::V6(address) => (address.to_bits(), false),
    }
}

fn mask(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or_default()
}

impl FromStr for Network {
    type Err = NoNetwork;

    fn from_str(text: &str) -> Result<Self, NoNetwork> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok().ok_or(NoNetwork)?;
        let (bits, is_v4) = bits(address);
        let max = if is_v4 { 32 } else { 128 };
        let prefix = match prefix {
            None => max,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok().filter(|prefix| *prefix <= max).ok_or(NoNetwork)?
            }
            Some(_) => return Err(NoNetwork),
        };
        Ok(Self { bits: bits & mask(prefix), prefix, is_v4 })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = match self.is_v4 {
            true => IpAddr::from(((self.bits >> 96) as u32).to_be_bytes()),
            false => IpAddr::from(self.bits.to_be_bytes()),
        };
        write!(f, "{address}/{}", self.prefix)
    }
}

impl FromToml for Network {
    type Value = Self;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let help = "write an address or a network, such as \"127.0.0.1\" or \"10.0.0.0/8\"";
        reader.parsed(node, "an address or a network", help)
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_has_its_addresses() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("10.1.2.3/8", "10.0.0.0", "9.255.255.255"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("0.0.0.0/0", "203.0.113.9", "::1"),
            ("::/0", "2001:db8::1", "127.0.0.1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("127.0.0.1", "::ffff:127.0.0.1", "::1"),
            ("::ffff:10.0.0.0/8", "10.1.1.1", "11.1.1.1"),
        ] {
            assert!(network(text).contains(inside.parse().unwrap()), "{text} {inside}");
            assert!(!network(text).contains(outside.parse().unwrap()), "{text} {outside}");
        }
    }

    #[test]
    fn nothing_else_is_a_network() {
        for text in ["", "10", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/+8", "::/129"] {
            assert_eq!(text.parse::<Network>(), Err(NoNetwork), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(address in any::<IpAddr>(), prefix in 0_u8..=128) {
            let max = if address.to_canonical().is_ipv4() { 32 } else { 128 };
            let text = format!("{address}/{}", prefix.min(max));
            let read = network(&text);
            prop_assert_eq!(network(&read.to_string()), read);
            prop_assert!(read.contains(address));
        }
    }
}
